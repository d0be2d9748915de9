//! The zygote: an empty stub that no guest code ever runs in. It is the parent of every address space, and the place
//! where host files arrive.
//!
//! All stubs share one descriptor table (CLONE_FILES) that only the zygote receives into. So a file is handed in once
//! for all address spaces, and the message buffers live in memory that no guest can reach: the descriptor number
//! which the host wrote there can be trusted. Sharing the table gives guests nothing, as no syscall of theirs ever
//! reaches the host.

use std::cell::Cell;
use std::fs;
use std::io::IoSlice;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use libc::c_int;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::exec;
use super::filter;
use super::image;
use super::inject;
use super::tracee::{Status, Tracee, wait_one};
use crate::platform::native::{maps, remote};
use crate::platform::{HOST_END, HostFile, PAGE_SIZE, USER_END};

/// Descriptors of files kept open for mapping. A dynamic program maps a handful of libraries, a few times each.
const CACHE: usize = 48;

/// The socket's descriptor in the stubs.
pub(super) const SOCKET_FD: u64 = 0;

/// A page of the zygote's own that forks do not inherit.
const SCRATCH: u64 = 0x10_0000;

/// Where the zygote maps a file to see what the host calls it.
const LOOK: u64 = 0x20_0000;

pub(super) struct Zygote {
    tracee: Tracee,
    /// It is reaped: its id is no longer ours.
    gone: Cell<bool>,
    socket: OwnedFd,
    /// Number of the last file sent.
    sent: u64,
    /// Most recently used last.
    cache: Vec<(Weak<HostFile>, u64)>,
}

/// `struct msghdr` with its payload and control buffers behind it, as laid out in the scratch page.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, Default)]
struct Message {
    name: u64,
    name_len: u64,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: u64,
    flags: u64,
    iov_base: u64,
    iov_size: u64,
    cmsg_len: u64,
    cmsg_level: c_int,
    cmsg_type: c_int,
    fd: c_int,
    pad: c_int,
    payload: u64,
}

impl Zygote {
    /// Make the zygote from the stub program `image`.
    pub(super) fn new(image: &OwnedFd, cpuid_faults: bool) -> Result<Zygote, Errno> {
        let (socket, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let tracee = exec::launch(image, &theirs, &socket)?;
        let zygote = Zygote {
            tracee,
            gone: Cell::new(false),
            socket,
            sent: 0,
            cache: Vec::new(),
        };
        zygote.prepare(cpuid_faults).inspect_err(|_| zygote.kill())?;
        Ok(zygote)
    }

    /// Leave nothing mapped but the platform's page and the scratch page. EPERM when the host lets no memory be copied.
    fn prepare(&self, cpuid_faults: bool) -> Result<(), Errno> {
        const ARCH_SET_CPUID: u64 = 0x1012;
        let above = image::LOAD_ADDR + PAGE_SIZE;
        let len = HOST_END - above;
        self.call_at(image::LOAD_SYSCALL, libc::SYS_munmap, [above, len, 0, 0, 0, 0])?;
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let args = [image::LOAD_ADDR, PAGE_SIZE, PAGE_SIZE, flags, USER_END, 0];
        self.call_at(image::LOAD_SYSCALL, libc::SYS_mremap, args)?;
        self.reserve_above()?;
        self.map_scratch()?;
        if remote::write(self.tracee.0, SCRATCH, &[0]) != 1 {
            return Err(Errno::EPERM);
        }
        if cpuid_faults {
            // All that come of it inherit that.
            self.call(libc::SYS_arch_prctl, [ARCH_SET_CPUID, 0, 0, 0, 0, 0])?;
        }
        if let Err(e) = self.install_filter() {
            tracing::warn!("the host has no seccomp filters ({e}): guests can call its vsyscall page");
        }
        Ok(())
    }

    /// Leave the host nothing to give to guests beyond [`USER_END`], where no guest operation reaches.
    fn reserve_above(&self) -> Result<(), Errno> {
        let start = USER_END + PAGE_SIZE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let args = [start, HOST_END - start, 0, flags as u64, u64::MAX, 0];
        self.call(libc::SYS_mmap, args).map(drop)
    }

    fn map_scratch(&self) -> Result<(), Errno> {
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
        self.call(libc::SYS_mmap, [SCRATCH, PAGE_SIZE, prot, flags, u64::MAX, 0])?;
        let advice = libc::MADV_DONTFORK as u64;
        self.call(libc::SYS_madvise, [SCRATCH, PAGE_SIZE, advice, 0, 0, 0])?;
        Ok(())
    }

    /// Go on, after the zygote was killed from outside, with a new stopped child of some stub. It shares the descriptor table, so all
    /// that was handed in is still there; of its memory nothing is kept.
    pub(super) fn replace(&mut self, tracee: Tracee) -> Result<(), Errno> {
        self.tracee = tracee;
        self.gone.set(false);
        self.call(libc::SYS_munmap, [0, USER_END, 0, 0, 0, 0])?;
        self.map_scratch()
    }

    fn install_filter(&self) -> Result<(), Errno> {
        /// `struct sock_fprog`.
        #[repr(C)]
        #[derive(IntoBytes, Immutable)]
        struct Program {
            len: u64,
            filter: u64,
        }
        let filter = filter::program();
        let header = Program {
            len: filter.len() as u64,
            filter: SCRATCH + size_of::<Program>() as u64,
        };
        let bytes = [header.as_bytes(), filter.as_bytes()].concat();
        if remote::write(self.tracee.0, SCRATCH, &bytes) != bytes.len() {
            return Err(Errno::ESRCH);
        }
        // Without the flag some hosts turn speculation off for the stub.
        let (mode, flags) = (
            libc::SECCOMP_SET_MODE_FILTER.into(),
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        );
        self.call(libc::SYS_seccomp, [mode, flags, SCRATCH, 0, 0, 0])?;
        Ok(())
    }

    pub(super) fn tracee(&self) -> Tracee {
        self.tracee
    }

    /// Make one host call in the zygote. ESRCH when it has died.
    pub(super) fn call(&self, number: i64, args: [u64; 6]) -> Result<u64, Errno> {
        self.call_at(image::SYSCALL, number, args)
    }

    fn call_at(&self, at: u64, number: i64, args: [u64; 6]) -> Result<u64, Errno> {
        inject::call(self.tracee, &|| self.wait(), at, number, args)?.0
    }

    fn wait(&self) -> Status {
        let status = wait_one(self.tracee);
        self.gone.set(status == Status::Gone);
        status
    }

    /// The descriptor of `file` in the stubs, and whether it had to be handed in just now.
    pub(super) fn hand_in(&mut self, file: &Arc<HostFile>) -> Result<(u64, bool), Errno> {
        if let Some(at) = self
            .cache
            .iter()
            .position(|(f, _)| f.as_ptr() == Arc::as_ptr(file))
        {
            let entry = self.cache.remove(at);
            let fd = entry.1;
            self.cache.push(entry);
            return Ok((fd, false));
        }
        self.forget_closed();
        if self.cache.len() >= CACHE {
            let (_, fd) = self.cache.remove(0);
            self.close(fd);
        }
        let fd = self.receive(file)?;
        self.cache.push((Arc::downgrade(file), fd));
        Ok((fd, true))
    }

    /// Device and inode by which the host's memory maps show `file`, which is at `fd`. On file systems made of others
    /// (overlayfs, btrfs) these are not those of stat(2).
    pub(super) fn identity(&self, file: &HostFile, fd: u64) -> Result<Option<(u64, u64)>, Errno> {
        if libc::major(file.key().0) != 0 || fstatfs(file)?.filesystem_type() == TMPFS_MAGIC {
            return Ok(None);
        }
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
        self.call(
            libc::SYS_mmap,
            [LOOK, PAGE_SIZE, libc::PROT_NONE as u64, flags, fd, 0],
        )?;
        let text = fs::read_to_string(format!("/proc/{}/maps", self.tracee.0));
        self.call(libc::SYS_munmap, [LOOK, PAGE_SIZE, 0, 0, 0, 0])?;
        let maps = maps::mappings(&text.map_err(|_| Errno::ESRCH)?);
        Ok(maps.iter().find(|m| m.start == LOOK).and_then(|m| m.file))
    }

    /// Close the stubs' descriptors of files that the supervisor itself has closed, which would keep deleted files
    /// and their memory alive.
    pub(super) fn forget_closed(&mut self) {
        let (live, closed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.cache)
            .into_iter()
            .partition(|(f, _)| f.strong_count() > 0);
        self.cache = live;
        for (_, fd) in closed {
            self.close(fd);
        }
    }

    fn close(&self, fd: u64) {
        if let Err(e) = self.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) {
            tracing::debug!("zygote: closing a handed-in file: {e}");
        }
    }

    fn receive(&mut self, file: &Arc<HostFile>) -> Result<u64, Errno> {
        self.sent += 1;
        let number = self.sent;
        let fds = [file.as_fd().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let payload = number.to_ne_bytes();
        let payload = [IoSlice::new(&payload)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &payload,
            &rights,
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        loop {
            let answer = self.receive_message()?;
            // A message without its descriptor was truncated because the table is full.
            let complete = answer.cmsg_level == libc::SOL_SOCKET && answer.cmsg_type == libc::SCM_RIGHTS;
            let fd = match u64::try_from(answer.fd) {
                Ok(fd) if complete && answer.cmsg_len == 20 => Ok(fd),
                _ => Err(Errno::EMFILE),
            };
            if answer.payload == number {
                return fd;
            }
            // Sent to a predecessor that died before it took it.
            if let Ok(fd) = fd {
                self.close(fd);
            }
        }
    }

    fn receive_message(&self) -> Result<Message, Errno> {
        let field = |offset: usize| SCRATCH + offset as u64;
        let ask = Message {
            iov: field(offset_of!(Message, iov_base)),
            iov_len: 1,
            control: field(offset_of!(Message, cmsg_len)),
            // CMSG_SPACE of one descriptor.
            control_len: 24,
            iov_base: field(offset_of!(Message, payload)),
            iov_size: 8,
            ..Message::default()
        };
        if remote::write(self.tracee.0, SCRATCH, ask.as_bytes()) != size_of::<Message>() {
            return Err(Errno::ESRCH);
        }
        let flags = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) as u64;
        self.call(libc::SYS_recvmsg, [SOCKET_FD, SCRATCH, flags, 0, 0, 0])?;
        let mut answer = Message::default();
        if remote::read(self.tracee.0, SCRATCH, answer.as_mut_bytes()) != size_of::<Message>() {
            return Err(Errno::ESRCH);
        }
        Ok(answer)
    }

    /// End and reap it.
    pub(super) fn kill(&self) {
        if !self.gone.get() {
            self.tracee.kill_process();
            while self.wait() != Status::Gone {}
        }
    }
}
