//! Whether somebody can write a file.

use std::os::fd::{AsRawFd, OwnedFd};

/// Whether no process has the file open for writing, as far as the host knows: it gives a lease for reading
/// (fcntl(2), F_SETLEASE) only then. `fd` is a descriptor of its own that can only read. What a memory file was made with does not
/// count. False also where the host gives no leases.
pub fn is_open_for_reading_alone(fd: OwnedFd) -> bool {
    let set = |lease: i32| {
        // SAFETY: F_SETLEASE takes no pointer.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, lease) == 0 }
    };
    let given = set(libc::F_RDLCK);
    // Who opens it from now on is not to wait for its end.
    given && set(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};

    use super::*;

    #[test]
    fn writers_are_seen_but_for_the_first() {
        let made = memfd_create("writers", MemfdFlags::CLOEXEC).expect("a memory file");
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        let open = |mode| openat(CWD, &path, mode | OFlags::CLOEXEC, Mode::empty()).expect("a descriptor");
        assert!(is_open_for_reading_alone(open(OFlags::RDONLY)));
        let writer = open(OFlags::WRONLY);
        assert!(!is_open_for_reading_alone(open(OFlags::RDONLY)));
        let other = writer.try_clone().expect("another");
        drop(writer);
        assert!(!is_open_for_reading_alone(open(OFlags::RDONLY)));
        drop(other);
        assert!(is_open_for_reading_alone(open(OFlags::RDONLY)));
    }
}
