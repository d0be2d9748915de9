//! Copies between the supervisor and a stub's memory.

use libc::{c_void, iovec, pid_t};

use crate::platform::{PAGE_SIZE, USER_END};

/// Remote pieces of one host call ; the host takes up to 1024.
const PIECES: usize = 64;

/// Copy from the memory of host thread `tid` as far as it is readable.
pub(in crate::platform) fn read(tid: pid_t, addr: u64, buf: &mut [u8]) -> usize {
    copy(addr, buf.len(), |done, pieces| {
        let local = local(buf[done..].as_mut_ptr(), pieces);
        // SAFETY: `local` lies inside `buf`, which is borrowed mutably; the remote side is another process's memory.
        unsafe { libc::process_vm_readv(tid, &local, 1, pieces.as_ptr(), pieces.len() as u64, 0) }
    })
}

/// Copy to the memory of host thread `tid` as far as it is writable.
pub(in crate::platform) fn write(tid: pid_t, addr: u64, buf: &[u8]) -> usize {
    copy(addr, buf.len(), |done, pieces| {
        let local = local(buf[done..].as_ptr().cast_mut(), pieces);
        // SAFETY: `local` lies inside `buf` and is only read; the remote side is another process's memory.
        unsafe { libc::process_vm_writev(tid, &local, 1, pieces.as_ptr(), pieces.len() as u64, 0) }
    })
}

fn local(base: *mut u8, pieces: &[iovec]) -> iovec {
    iovec {
        iov_base: base.cast(),
        iov_len: pieces.iter().map(|p| p.iov_len).sum(),
    }
}

/// Cut `len` bytes at `addr` at page boundaries, since the host stops between pieces but never inside one, and run
/// `transfer(bytes done so far, next pieces)` until it moves less than asked.
fn copy(addr: u64, len: usize, mut transfer: impl FnMut(usize, &[iovec]) -> isize) -> usize {
    let len = len.min(usize::try_from(USER_END.saturating_sub(addr)).unwrap_or(0));
    let mut done = 0;
    while done < len {
        let mut pieces = [iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; PIECES];
        let mut count = 0;
        let mut at = done;
        while at < len && count < PIECES {
            let from = addr + at as u64;
            let piece = (PAGE_SIZE - from % PAGE_SIZE).min((len - at) as u64) as usize;
            pieces[count] = iovec {
                iov_base: from as *mut c_void,
                iov_len: piece,
            };
            count += 1;
            at += piece;
        }
        let moved = usize::try_from(transfer(done, &pieces[..count])).unwrap_or(0);
        done += moved;
        if done < at {
            break;
        }
    }
    done
}
