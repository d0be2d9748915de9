//! The zygote: the first stub, which runs no guest code and from which all others are cloned.

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use guest_runtime::abi::{
    BELL_FD, Command, FACTS_FD, IMAGE_FD, PAGE, RUNTIME_BASE, SHARED_BASE, SHARED_STRIDE, SLOTS, SOCKET_FD,
    op,
};
use libc::pid_t;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

use zerocopy::IntoBytes;

use super::filter;
use super::host_vdso::HostVdso;
use super::image::Image;
use super::thread::Host;
use crate::platform::Io;
use crate::platform::native::launch::{self, Stub};

/// A running runtime without filter, waiting for its first answer.
pub(super) struct Launched {
    pub(super) pid: pid_t,
    pub(super) socket: OwnedFd,
}

/// Execute the runtime with `memory` as its doorbells, and with the machine's facts.
pub(super) fn launch(image: &Image, memory: &OwnedFd, facts: BorrowedFd<'_>) -> Result<Launched, Errno> {
    let kind = SockType::SeqPacket;
    let (socket, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    let descriptors = [
        (theirs.as_fd(), SOCKET_FD as i32),
        (image.flat.as_fd(), IMAGE_FD as i32),
        (memory.as_fd(), BELL_FD as i32),
        (facts, FACTS_FD as i32),
    ];
    let stub = Stub {
        program: &image.program,
        descriptors: &descriptors,
        wait: false,
    };
    Ok(Launched {
        pid: launch::launch(&stub)?,
        socket,
    })
}

/// Memory for the doorbells of one address space.
pub(super) fn bell_memory() -> Result<OwnedFd, Errno> {
    let fd = memfd_create(c"uvm-bell", MFdFlags::MFD_CLOEXEC)?;
    let file = File::from(fd);
    let done = file.set_len(SLOTS * SHARED_STRIDE);
    done.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::ENOMEM)))?;
    Ok(file.into())
}

/// `struct sock_fprog`, `struct msghdr` and what they point to, as words in the window.
const PROGRAM: u64 = 0;
const MESSAGE: u64 = 0x8000;

/// Have the zygote install the filter; the listener for its user notifications.
pub(super) fn confine(zygote: &Host, text_end: u64, socket: &OwnedFd, io: Io) -> Result<OwnedFd, Errno> {
    let window = |offset: u64| SHARED_BASE + PAGE + offset;
    let program = filter::program(RUNTIME_BASE..text_end, io);
    let header = [program.len() as u64, window(PROGRAM + 16)];
    let mut bytes: Vec<u8> = header.iter().flat_map(|w| w.to_ne_bytes()).collect();
    bytes.extend_from_slice(program.as_bytes());
    zygote.door().write_window(PROGRAM as usize, &bytes);
    // Without SPEC_ALLOW some hosts turn speculation off for the stub.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let install = |flags| {
        let results = zygote.command(&[call(libc::SYS_seccomp, [mode, flags, window(PROGRAM), 0, 0, 0])])?;
        Ok::<i64, Errno>(results.first().copied().unwrap_or(-1))
    };
    // What was received is answered before a kick is taken. Hosts before Linux 5.19 lack it.
    let listener = match install(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)? {
        refused if refused < 0 => install(flags)? as u64,
        listener => listener as u64,
    };

    // msghdr: no name; one byte; SCM_RIGHTS with the listener.
    let control = u64::from(libc::SOL_SOCKET as u32) | (libc::SCM_RIGHTS as u64) << 32;
    let message = [
        0,
        0,
        window(MESSAGE + 56),
        1,
        window(MESSAGE + 72),
        24,
        0, // msghdr
        window(MESSAGE),
        1, // iovec
        20,
        control,
        listener, // cmsghdr and its descriptor
    ];
    let bytes: Vec<u8> = message.iter().flat_map(|w: &u64| w.to_ne_bytes()).collect();
    zygote.door().write_window(MESSAGE as usize, &bytes);
    zygote.command(&[
        call(libc::SYS_sendmsg, [SOCKET_FD, window(MESSAGE), 0, 0, 0, 0]),
        call(libc::SYS_close, [listener, 0, 0, 0, 0, 0]),
        call(libc::SYS_close, [SOCKET_FD, 0, 0, 0, 0, 0]),
    ])?;
    receive(socket)
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut byte = [0u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = vec![0u8; 64 + size_of::<i32>()];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the host just gave us this descriptor, and nobody else knows of it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(Errno::EPROTO)
}

/// Where stubs can ask for the host's time, if they can.
pub(super) fn find_clock(zygote: &Host, vdso: &HostVdso) -> Option<u64> {
    let ask = Command {
        op: op::ASK_CLOCK,
        args: [vdso.clock_gettime, 0, 0, 0, 0, 0, 0],
        ..Command::default()
    };
    let results = zygote.command(&[ask]).ok()?;
    (results == [0]).then_some(vdso.clock_gettime)
}

/// A host call as a command.
pub(super) fn call(number: i64, args: [u64; 6]) -> Command {
    let [a, b, c, d, e, f] = args;
    Command {
        op: op::CALL,
        args: [number as u64, a, b, c, d, e, f],
        ..Command::default()
    }
}
