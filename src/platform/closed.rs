//! Which standard descriptors were closed when this process began.
//!
//! Rust's runtime opens /dev/null in their place before `main`, so that no other file gets their number; a guest must
//! find them closed all the same.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bit n: descriptor n was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Called by the C library before Rust's runtime starts.
#[used]
// SAFETY: an entry of this section is a function with the C calling convention that the loader calls once.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note;

extern "C" fn note() {
    for fd in 0..3 {
        // SAFETY: F_GETFD takes no pointer and changes nothing.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Whether descriptor 0, 1 or 2 was closed when the process began.
pub fn was_closed(fd: RawFd) -> bool {
    (0..3).contains(&fd) && CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0
}
