//! Starting the first stub, traced from before its execve(2).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::tracee::{Go, Status, Tracee, wait_one};
use crate::platform::native::launch::{self, Stub};

/// Fork a traced process that executes `image` with `socket` as its only descriptor, 0. It is returned stopped at its
/// first trap instruction. `ours` is the other end of the socket.
pub(super) fn launch(image: &OwnedFd, socket: &OwnedFd, ours: &OwnedFd) -> Result<Tracee, Errno> {
    let stub = Stub {
        program: image,
        descriptors: &[(socket.as_fd(), 0)],
        wait: true,
    };
    let tracee = Tracee(launch::launch(&stub)?);
    trace_exec(tracee, ours).inspect_err(|_| {
        tracee.kill_process();
        while wait_one(tracee) != Status::Gone {}
    })?;
    Ok(tracee)
}

fn trace_exec(tracee: Tracee, ours: &OwnedFd) -> Result<(), Errno> {
    tracee.seize()?;
    // The child waits for this byte: nothing is executed untraced.
    send(ours.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL)?;
    let mut executed = false;
    loop {
        match wait_one(tracee) {
            Status::Signal(libc::SIGTRAP) if executed => return Ok(()),
            Status::Exec => {
                executed = true;
                tracee.go(Go::Host)?;
            }
            Status::Gone => {
                // The child sent the errno of what failed, if it could.
                let mut code = [0u8; 4];
                let n = nix::sys::socket::recv(ours.as_raw_fd(), &mut code, MsgFlags::MSG_DONTWAIT);
                return Err(match n {
                    Ok(4) => Errno::from_raw(i32::from_ne_bytes(code)),
                    _ => Errno::ECHILD,
                });
            }
            _ => tracee.go(Go::Host)?,
        }
    }
}
