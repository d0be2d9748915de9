//! select(2), pselect6(2).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::ppoll::timespec_deadline;
use super::{poll_until, use_mask, watch};
use crate::kernel::abi::time::{Timespec, Timeval};
use crate::kernel::fs::{Fd, FdTable, File};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::{Instant, NANOS_PER_SEC};
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::kernel::wait::Events;

/// Descriptors in one word of a set.
const WORD: usize = 64;

/// What makes a descriptor ready in each of the three sets.
const READY: [Events; 3] = [
    Events::READ
        .union(Events::RDBAND)
        .union(Events::HUP)
        .union(Events::ERR),
    Events::WRITE.union(Events::WRBAND).union(Events::ERR),
    Events::PRI,
];

/// The sixth argument of pselect6(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct MaskArgument {
    mask: u64,
    size: u64,
}

/// select(2).
pub(crate) fn select(
    cx: &mut SyscallCx<'_>,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout: UserRef<Timeval>,
) -> SysResult<usize> {
    let deadline = timeval_deadline(cx, timeout)?;
    let ready = select_all(cx, count, [read, write, except], deadline)?;
    if let (Some(timeout), Some(deadline)) = (timeout.non_null(), deadline) {
        let left = deadline.since(cx.kernel.clock.now());
        let _ = cx.memory.write(timeout, &Timeval::from_nanos(left));
    }
    Ok(ready)
}

/// pselect6(2).
pub(crate) fn pselect6(
    cx: &mut SyscallCx<'_>,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout: UserRef<Timespec>,
    mask: UserRef<MaskArgument>,
) -> SysResult<usize> {
    let mask = mask.non_null().map(|mask| cx.memory.read(mask)).transpose()?;
    let deadline = timespec_deadline(cx, timeout)?;
    if let Some(mask) = mask {
        use_mask(cx, UserAddr(mask.mask).cast(), mask.size)?;
    }
    let ready = select_all(cx, count, [read, write, except], deadline)?;
    if let (Some(timeout), Some(deadline)) = (timeout.non_null(), deadline) {
        let left = deadline.since(cx.kernel.clock.now());
        let _ = cx.memory.write(timeout, &Timespec::from_nanos(left));
    }
    Ok(ready)
}

/// Fix the deadline on the first run. Microseconds beyond a second are carried, as Linux does; EINVAL when negative.
fn timeval_deadline(cx: &mut SyscallCx<'_>, timeout: UserRef<Timeval>) -> SysResult<Option<Instant>> {
    let Some(timeout) = timeout.non_null() else {
        return Ok(None);
    };
    if cx.state.deadline.is_none() {
        let value = cx.memory.read(timeout)?;
        let sec = u64::try_from(value.sec).map_err(|_| Errno::EINVAL)?;
        let usec = u64::try_from(value.usec).map_err(|_| Errno::EINVAL)?;
        let nanos = sec
            .saturating_mul(NANOS_PER_SEC)
            .saturating_add(usec.saturating_mul(1000));
        let deadline = cx.kernel.clock.now().after(nanos);
        cx.state.deadline = Some(deadline);
        let kernel = cx.kernel.clone();
        cx.state.on_eintr = Some(Box::new(move |memory| {
            let left = deadline.since(kernel.clock.now());
            memory.write(timeout, &Timeval::from_nanos(left))
        }));
    }
    Ok(cx.state.deadline)
}

/// A descriptor that is in at least one set.
struct Watched {
    file: Arc<File>,
    word: usize,
    bit: u64,
    /// By set.
    wanted: [bool; 3],
}

fn select_all(
    cx: &mut SyscallCx<'_>,
    count: i32,
    sets: [UserAddr; 3],
    deadline: Option<Instant>,
) -> SysResult<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let table = cx.task.files();
    let highest = table.list().last().map_or(0, |(fd, _)| fd.0);
    let size = table_size(usize::try_from(highest).unwrap_or(0));
    let count = count.min(size);
    let words = count.div_ceil(WORD);
    let mut wanted: [Option<Vec<u64>>; 3] = [None, None, None];
    for (set, addr) in wanted.iter_mut().zip(sets) {
        if !addr.is_null() {
            *set = Some(cx.memory.read_array::<u64>(addr.cast(), words)?);
        }
    }
    let watched = members(&table, count, &wanted)?;
    let mut found = [vec![0u64; words], vec![0u64; words], vec![0u64; words]];
    let ready = poll_until(cx, deadline, &mut |_, mut wait| {
        let mut ready = 0;
        for w in &watched {
            let interest = (0..3)
                .filter(|&i| w.wanted[i])
                .fold(Events::empty(), |all, i| all | READY[i]);
            if let Some(wait) = wait.as_deref_mut() {
                watch(wait, &w.file, interest);
            }
            let events = w.file.poll();
            for i in 0..3 {
                if w.wanted[i] && events.intersects(READY[i]) {
                    found[i][w.word] |= w.bit;
                    ready += 1;
                }
            }
        }
        Ok(ready)
    })?;
    for ((set, addr), found) in wanted.iter().zip(sets).zip(&found) {
        if set.is_some() {
            cx.memory.write_array(addr.cast(), found)?;
        }
    }
    Ok(ready)
}

/// The files of all descriptors below `count` that are in a set; EBADF.
fn members(table: &FdTable, count: usize, sets: &[Option<Vec<u64>>; 3]) -> Result<Vec<Watched>, Errno> {
    let mut watched = Vec::new();
    for fd in 0..count {
        let (word, bit) = (fd / WORD, 1u64 << (fd % WORD));
        let wanted = sets
            .each_ref()
            .map(|set| set.as_ref().is_some_and(|s| s[word] & bit != 0));
        if wanted.contains(&true) {
            let number = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
            watched.push(Watched {
                file: table.get(Fd(number))?,
                word,
                bit,
                wanted,
            });
        }
    }
    Ok(watched)
}

/// How many descriptors Linux's table would have room for: select(2) does not look beyond.
fn table_size(highest: usize) -> usize {
    if highest < WORD {
        WORD
    } else {
        (highest + 1).next_power_of_two().max(256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_in_powers_of_two() {
        assert_eq!([0, 63, 64, 255, 256].map(table_size), [64, 64, 256, 256, 512]);
    }
}
