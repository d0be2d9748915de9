//! Memory operations as host calls, with every range checked to lie in the guest's part of the address space.

use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use nix::errno::Errno;

use crate::platform::{MapFlags, MemOp, PAGE_SIZE, Prot, USER_END, USER_START};

/// A host call: number and arguments.
pub(in crate::platform) type Call = (i64, [u64; 6]);

/// `madvise` values that would reach beyond the guest's own memory: MADV_HWPOISON and MADV_SOFT_OFFLINE.
const ADVICE_REFUSED: [u32; 2] = [100, 101];

/// Whether `len` bytes at `addr`, rounded up to whole pages as the host does, end at or below [`USER_END`].
fn fits(addr: u64, len: u64) -> bool {
    let Some(end) = addr.checked_add(len) else {
        return false;
    };
    // USER_END is page-aligned: rounding up an end below it never goes beyond it.
    end <= USER_END
}

fn check(addr: u64, len: u64, errno: Errno) -> Result<(), Errno> {
    if fits(addr, len) { Ok(()) } else { Err(errno) }
}

/// The host call for `op`. `fd` is the stub's descriptor of its file.
pub(in crate::platform) fn host_call(op: &MemOp<'_>, fd: Option<u64>) -> Result<Call, Errno> {
    match *op {
        MemOp::Map {
            addr,
            len,
            prot,
            flags,
            file,
        } => map(addr, len, prot, flags, file.map(|(_, offset)| offset), fd),
        MemOp::Unmap { addr, len } => {
            check(addr, len, Errno::EINVAL)?;
            Ok((libc::SYS_munmap, [addr, len, 0, 0, 0, 0]))
        }
        MemOp::Protect { addr, len, prot } => {
            check(addr, len, Errno::ENOMEM)?;
            Ok((
                libc::SYS_mprotect,
                [addr, len, u64::from((prot & Prot::all()).bits()), 0, 0, 0],
            ))
        }
        MemOp::Remap {
            old,
            old_len,
            new_len,
            flags,
            new,
        } => remap(old, old_len, new_len, flags, new),
        MemOp::Advise { addr, len, advice } => {
            check(addr, len, Errno::ENOMEM)?;
            if ADVICE_REFUSED.contains(&advice) {
                return Err(Errno::EINVAL);
            }
            Ok((libc::SYS_madvise, [addr, len, u64::from(advice), 0, 0, 0]))
        }
        MemOp::Sync { addr, len, flags } => {
            check(addr, len, Errno::ENOMEM)?;
            Ok((libc::SYS_msync, [addr, len, u64::from(flags), 0, 0, 0]))
        }
        MemOp::Mincore { addr, len, vec } => {
            check(addr, len, Errno::ENOMEM)?;
            check(vec, len.div_ceil(PAGE_SIZE), Errno::EFAULT)?;
            Ok((libc::SYS_mincore, [addr, len, vec, 0, 0, 0]))
        }
        MemOp::Lock { addr, len, flags } => {
            check(addr, len, Errno::ENOMEM)?;
            Ok(match flags {
                Some(flags) => (libc::SYS_mlock2, [addr, len, u64::from(flags), 0, 0, 0]),
                None => (libc::SYS_munlock, [addr, len, 0, 0, 0, 0]),
            })
        }
        MemOp::SetBit { addr, bit } => set_bit(addr, bit),
    }
}

/// The one host call that changes a word of its caller's memory atomically: FUTEX_WAKE_OP. What it wakes beside that is
/// nobody where no guest waits on a futex of the host's; the runtime has another way.
fn set_bit(addr: u64, bit: u32) -> Result<Call, Errno> {
    check(addr, 4, Errno::EFAULT)?;
    let op = ((libc::FUTEX_OP_OR | libc::FUTEX_OP_OPARG_SHIFT) as u64) << 28 | u64::from(bit & 31) << 12;
    let wake_op = (libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG) as u64;
    Ok((libc::SYS_futex, [addr, wake_op, 0, 0, addr, op]))
}

fn map(
    addr: u64,
    len: u64,
    prot: Prot,
    flags: MapFlags,
    offset: Option<u64>,
    fd: Option<u64>,
) -> Result<Call, Errno> {
    let fixed = flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
    if fixed && addr < USER_START {
        return Err(Errno::EPERM);
    }
    let hint = match fits(addr, len) {
        true => addr,
        false if fixed => return Err(Errno::ENOMEM),
        // A hint is no more than that.
        false => 0,
    };
    let mut flags = flags & MapFlags::all();
    flags.set(MapFlags::ANONYMOUS, fd.is_none());
    let prot = prot & (Prot::READ | Prot::WRITE | Prot::EXEC);
    let args = [
        hint,
        len,
        u64::from(prot.bits()),
        u64::from(flags.bits()),
        fd.unwrap_or(u64::MAX),
        offset.unwrap_or(0),
    ];
    Ok((libc::SYS_mmap, args))
}

fn remap(old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> Result<Call, Errno> {
    if flags & !((MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) as u32) != 0 {
        return Err(Errno::EINVAL);
    }
    // An old length of zero asks for a second mapping of the page at `old`.
    check(old, old_len.max(1), Errno::EFAULT)?;
    let target = if flags & (MREMAP_FIXED as u32) != 0 {
        check(new, new_len, Errno::EINVAL)?;
        if new < USER_START {
            return Err(Errno::EPERM);
        }
        new
    } else if fits(new, new_len) {
        new
    } else {
        0
    };
    Ok((
        libc::SYS_mremap,
        [old, old_len, new_len, u64::from(flags), target, 0],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Result<Call, Errno> = Err(Errno::ENOMEM);

    #[test]
    fn the_platform_page_is_out_of_reach() {
        for (addr, len) in [
            (USER_END, 1),
            (USER_END - 4096, 4097),
            (USER_END - 1, u64::MAX),
            (u64::MAX, 1),
        ] {
            assert_eq!(host_call(&MemOp::Unmap { addr, len }, None), Err(Errno::EINVAL));
            let prot = Prot::all();
            assert_eq!(host_call(&MemOp::Protect { addr, len, prot }, None), NONE);
            assert_eq!(host_call(&MemOp::Advise { addr, len, advice: 4 }, None), NONE);
            let (flags, file) = (MapFlags::PRIVATE | MapFlags::FIXED, None);
            let op = MemOp::Map {
                addr,
                len,
                prot,
                flags,
                file,
            };
            assert_eq!(host_call(&op, None), NONE);
            let op = MemOp::Remap {
                old: 0x10000,
                old_len: 4096,
                new_len: len,
                flags: 3,
                new: addr,
            };
            assert_eq!(host_call(&op, None), Err(Errno::EINVAL));
            let op = MemOp::Remap {
                old: addr,
                old_len: len,
                new_len: 4096,
                flags: 1,
                new: 0,
            };
            assert_eq!(host_call(&op, None), Err(Errno::EFAULT));
        }
        let last = MemOp::Unmap {
            addr: USER_END - 4096,
            len: 4096,
        };
        assert!(host_call(&last, None).is_ok());
    }

    #[test]
    fn unknown_flags_never_reach_the_host() {
        let op = MemOp::Map {
            addr: 0x10000,
            len: 1,
            prot: Prot::from_bits_retain(u32::MAX),
            flags: MapFlags::from_bits_retain(u32::MAX),
            file: None,
        };
        let (_, args) = host_call(&op, None).unwrap();
        assert_eq!(args[2], 7);
        assert_eq!(args[3], u64::from(MapFlags::all().bits()));
    }
}
