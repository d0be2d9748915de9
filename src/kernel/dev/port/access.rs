//! ioperm(2), iopl(2): which ports a thread may use.

use std::sync::Arc;

use super::PORTS;
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;

syscall_table::cpu_rows!(crate::kernel::syscall::dispatch_rows);

/// The privilege level that has all ports.
const ALL: u32 = 3;

const WORDS: usize = PORTS as usize / 64;

/// The ports that one thread may use. Its children begin with the same; execve(2) keeps them.
#[derive(Clone, Debug, Default)]
pub struct PortAccess {
    /// A bit for each port that was given; none at all for most threads.
    given: Option<Arc<[u64; WORDS]>>,
    /// What iopl(2) was told.
    level: u32,
}

impl PortAccess {
    /// Whether there is any port that it may use.
    pub fn is_empty(&self) -> bool {
        self.level != ALL && self.given.is_none()
    }

    /// Whether it has the highest privilege level.
    pub fn is_highest(&self) -> bool {
        self.level == ALL
    }

    /// Whether it may use `width` ports from `port` on.
    pub fn may_use(&self, port: u16, width: u16) -> bool {
        let mut ports = u32::from(port)..u32::from(port) + u32::from(width);
        ports.end <= PORTS && (self.level == ALL || ports.all(|port| self.is_given(port)))
    }

    fn is_given(&self, port: u32) -> bool {
        let word = self
            .given
            .as_ref()
            .and_then(|given| given.get(port as usize / 64));
        word.is_some_and(|word| word >> (port % 64) & 1 != 0)
    }

    fn give(&mut self, ports: std::ops::Range<u32>, on: bool) {
        if self.given.is_none() && !on {
            return;
        }
        let given = Arc::make_mut(self.given.get_or_insert_with(|| Arc::new([0; WORDS])));
        for port in ports {
            let bit = 1 << (port % 64);
            if let Some(word) = given.get_mut(port as usize / 64) {
                *word = *word & !bit | if on { bit } else { 0 };
            }
        }
        if given.iter().all(|word| *word == 0) {
            self.given = None;
        }
    }
}

/// ioperm(2).
fn ioperm(cx: &mut SyscallCx<'_>, from: u64, num: u64, turn_on: i32) -> SysResult<()> {
    let Some(end) = from
        .checked_add(num)
        .filter(|end| from < *end && *end <= PORTS.into())
    else {
        return fail!(EINVAL);
    };
    if turn_on != 0 && !cx.task.creds().capable(Capability::SysRawio) {
        return fail!(EPERM);
    }
    let mut state = cx.task.state.lock();
    state.ports.give(from as u32..end as u32, turn_on != 0);
    Ok(())
}

/// iopl(2).
fn iopl(cx: &mut SyscallCx<'_>, level: u32) -> SysResult<()> {
    if level > ALL {
        return fail!(EINVAL);
    }
    let may_rise = cx.task.creds().capable(Capability::SysRawio);
    let mut state = cx.task.state.lock();
    if level > state.ports.level && !may_rise {
        return fail!(EPERM);
    }
    state.ports.level = level;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_of_a_transfer_are_needed() {
        let mut access = PortAccess::default();
        assert!(access.is_empty());
        access.give(62..66, true);
        assert!(access.may_use(62, 4) && access.may_use(65, 1));
        assert!(!access.may_use(63, 4) && !access.may_use(61, 2));
        access.give(64..65, false);
        assert!(access.may_use(62, 2) && !access.may_use(63, 2));
        access.give(0..PORTS, false);
        assert!(access.is_empty());
    }

    #[test]
    fn nothing_lies_behind_the_last_port() {
        let mut access = PortAccess::default();
        access.give(0..PORTS, true);
        assert!(access.may_use(0xffff, 1) && !access.may_use(0xffff, 2));
        let highest = PortAccess {
            given: None,
            level: ALL,
        };
        assert!(highest.may_use(0xfffc, 4) && !highest.may_use(0xfffd, 4));
    }

    #[test]
    fn a_child_has_a_copy() {
        let mut parent = PortAccess::default();
        parent.give(0..8, true);
        let child = parent.clone();
        parent.give(0..4, false);
        assert!(child.may_use(0, 4) && !parent.may_use(0, 1));
    }
}
