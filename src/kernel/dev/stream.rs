//! Standard input, output and error when they are no terminal: the host's descriptors passed through.
//!
//! The host's open file is shared with whoever started uvm, so nothing about it is changed: no O_NONBLOCK is set, and a
//! regular file's position moves as the guest reads and writes.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, lseek, read, write};
use rustix::io::{ReadWriteFlags, preadv2, pwritev2};

use crate::kernel::fs::pipe::broken_pipe;
use crate::kernel::fs::{
    File, FileOps, FileSystem, FileType, Inode, MapRequest, Metadata, OpenFlags, SetAttr, StatFs,
};
use crate::kernel::stop::SysResult;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::Timestamp;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::reactor::{HostWatch, Reactor};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};
use crate::platform::HostFile;

/// Most bytes moved by one host call.
const CHUNK: usize = 64 << 10;
/// What a terminal that polls writable takes without blocking.
const ATOMIC: usize = 4096;
/// The offset that means the present position to preadv2(2) and its kin.
const AT_POSITION: u64 = u64::MAX;

/// A host descriptor as a guest file.
pub struct HostStream {
    watch: HostWatch,
    queue: WaitQueue,
    regular: bool,
    append: bool,
    /// Held from looking whether a transfer would block until it is done, where the host cannot be asked to do both.
    turn: Lock<()>,
}

/// Its inode: what fstat(2) says of it on the host, without the host's owner.
struct StreamInode {
    stat: FileStat,
    kind: FileType,
    fd: OwnedFd,
}

struct StreamFs;

/// Wrap a host descriptor; it is duplicated.
pub fn open(reactor: &Arc<Reactor>, fd: BorrowedFd<'_>) -> Result<Arc<File>, Errno> {
    let stat = fstat(fd)?;
    let kind = FileType::from_mode(stat.st_mode).unwrap_or(FileType::Fifo);
    let host_flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let dup = || {
        fd.try_clone_to_owned()
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
    };
    let queue = WaitQueue::new();
    let stream = HostStream {
        watch: reactor.watch(dup()?, &queue)?,
        queue,
        regular: kind == FileType::Regular,
        append: host_flags.contains(OFlag::O_APPEND),
        turn: Lock::new(Rank::Object, ()),
    };
    let access = host_flags & OFlag::O_ACCMODE;
    let mut flags = OpenFlags::from_bits_truncate(access.bits().cast_unsigned());
    flags.set(OpenFlags::APPEND, stream.append);
    let name = match kind {
        FileType::Fifo => format!("pipe:[{}]", stat.st_ino),
        FileType::Socket => format!("socket:[{}]", stat.st_ino),
        _ => format!("host:[{}]", stat.st_ino),
    };
    let start = if stream.regular {
        lseek(fd, 0, Whence::SeekCur).unwrap_or(0)
    } else {
        0
    };
    let inode = Arc::new(StreamInode {
        stat,
        kind,
        fd: dup()?,
    });
    let file = File::anonymous(Arc::new(stream), name, inode, flags);
    *file.pos.lock() = start.cast_unsigned();
    Ok(file)
}

impl HostStream {
    fn wait(&self, events: Events) -> WaitFor {
        let generation = self.queue.generation();
        self.watch.arm(events);
        WaitFor::default().and_since(&self.queue, events | Events::HUP | Events::ERR, generation)
    }

    /// Read without waiting; EAGAIN when nothing is there. Several threads, and others on the host, may read at once, so
    /// that asking first whether there is something would not do.
    fn read_now(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let fd = self.watch.as_fd();
        match preadv2(
            fd,
            &mut [IoSliceMut::new(buf)],
            AT_POSITION,
            ReadWriteFlags::NOWAIT,
        ) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let _turn = self.turn.lock();
                self.check_ready(Events::IN)?;
                read(fd, buf)
            }
            done => done.map_err(|e| Errno::from_raw(e.raw_os_error())),
        }
    }

    /// Write without waiting, as [`HostStream::read_now`] reads.
    fn write_now(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let fd = self.watch.as_fd();
        match pwritev2(fd, &[IoSlice::new(bytes)], AT_POSITION, ReadWriteFlags::NOWAIT) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let _turn = self.turn.lock();
                self.check_ready(Events::OUT)?;
                write(fd, &bytes[..bytes.len().min(ATOMIC)])
            }
            done => done.map_err(|e| Errno::from_raw(e.raw_os_error())),
        }
    }

    /// Write all there is, or as much as can be had of it.
    fn write_stream(&self, file: &File, from: &mut dyn Source) -> SysResult<usize> {
        let mut total = 0;
        while from.remaining() > 0 {
            let mut buf = vec![0; from.remaining().min(CHUNK)];
            let taken = match from.take(&mut buf) {
                Err(_) if total > 0 => break,
                taken => taken?,
            };
            let put = self.write_now(&buf[..taken]);
            from.untake(taken - put.unwrap_or(0));
            match put {
                Ok(put) => total += put,
                // What went before is told of by whoever calls this again.
                Err(Errno::EAGAIN) if !file.nonblocking() => return Err(self.wait(Events::OUT).into()),
                Err(_) if total > 0 => break,
                Err(Errno::EPIPE) => return Err(broken_pipe().into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(total)
    }

    fn check_ready(&self, events: Events) -> Result<(), Errno> {
        if self.watch.poll(events).is_empty() {
            Err(Errno::EAGAIN)
        } else {
            Ok(())
        }
    }
}

impl FileOps for HostStream {
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let mut buf = vec![0; to.remaining().min(CHUNK)];
        let got = if self.regular {
            let at = i64::try_from(*pos).map_err(|_| Errno::EINVAL)?;
            pread(self.watch.as_fd(), &mut buf, at)?
        } else {
            match self.read_now(&mut buf) {
                Err(Errno::EAGAIN) if !file.nonblocking() => return Err(self.wait(Events::IN).into()),
                got => got?,
            }
        };
        let put = to.put(&buf[..got])?;
        if self.regular {
            self.advance(pos, put);
        }
        Ok(put)
    }

    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        if !self.regular {
            return self.write_stream(file, from);
        }
        let mut buf = vec![0; from.remaining().min(CHUNK)];
        let taken = from.take(&mut buf)?;
        let put = if self.append {
            write(self.watch.as_fd(), &buf[..taken])
        } else {
            let at = i64::try_from(*pos).map_err(|_| Errno::EFBIG)?;
            pwrite(self.watch.as_fd(), &buf[..taken], at)
        };
        from.untake(taken - put.unwrap_or(0));
        let put = put?;
        self.advance(pos, put);
        Ok(put)
    }

    fn seekable(&self) -> bool {
        self.regular
    }

    fn seek(&self, _: &File, offset: i64, whence: i32) -> SysResult<u64> {
        if !self.regular {
            return Err(Errno::ESPIPE.into());
        }
        let whence = match whence {
            libc::SEEK_END => Whence::SeekEnd,
            libc::SEEK_DATA => Whence::SeekData,
            libc::SEEK_HOLE => Whence::SeekHole,
            _ => return Err(Errno::EINVAL.into()),
        };
        Ok(lseek(self.watch.as_fd(), offset, whence)?.cast_unsigned())
    }

    fn poll(&self, _: &File) -> Events {
        if self.regular {
            return Events::READ | Events::WRITE;
        }
        let ready = self.watch.poll(Events::IN | Events::OUT | Events::PRI);
        let mut events = ready;
        events.set(Events::RDNORM, ready.contains(Events::IN));
        events.set(Events::WRNORM, ready.contains(Events::OUT));
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        let wanted = interest & (Events::IN | Events::OUT | Events::PRI);
        self.watch.arm(wanted);
        vec![(self.queue.clone(), interest | Events::HUP | Events::ERR)]
    }

    fn pollable(&self) -> bool {
        !self.regular
    }

    fn map(&self, file: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        if !self.regular || request.shared && request.write && !file.flags().writable() {
            return Err(Errno::ENODEV.into());
        }
        let fd = self
            .watch
            .as_fd()
            .try_clone_to_owned()
            .map_err(|_| Errno::ENFILE)?;
        Ok(HostFile::new(fd)?)
    }

    fn sync(&self, _: &File, _: bool) -> SysResult<()> {
        if self.regular {
            Ok(nix::unistd::fsync(self.watch.as_fd())?)
        } else {
            Err(Errno::EINVAL.into())
        }
    }
}

impl HostStream {
    /// Keep the position of a regular file that uvm's parent shares in step with the guest's.
    fn advance(&self, pos: &mut u64, bytes: usize) {
        *pos = if self.append {
            lseek(self.watch.as_fd(), 0, Whence::SeekEnd).map_or(*pos, i64::cast_unsigned)
        } else {
            pos.saturating_add(bytes as u64)
        };
        let _ = lseek(self.watch.as_fd(), pos.cast_signed(), Whence::SeekSet);
    }
}

impl Inode for StreamInode {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let stat = fstat(&self.fd).unwrap_or(self.stat);
        let time = |sec, nsec| Timestamp {
            sec,
            nsec: u32::try_from(nsec).unwrap_or(0),
        };
        Ok(Metadata {
            dev: StreamFs.dev(),
            ino: stat.st_ino,
            mode: stat.st_mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: stat.st_size.cast_unsigned(),
            blksize: 4096,
            blocks: stat.st_blocks.cast_unsigned(),
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(StreamFs)
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        match change.size {
            Some(size) if self.kind == FileType::Regular => {
                nix::unistd::ftruncate(&self.fd, i64::try_from(size).map_err(|_| Errno::EFBIG)?)
            }
            Some(_) => Err(Errno::EINVAL),
            None => Err(Errno::EPERM),
        }
    }
}

impl FileSystem for StreamFs {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn root(&self) -> Arc<dyn Inode> {
        // Never mounted: it exists so that a stream's inode has a file system to name.
        Arc::new(NoRoot)
    }

    fn dev(&self) -> u64 {
        0xd
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs {
            magic: 0x5049_5045,
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

/// The root that [`StreamFs`] does not have.
struct NoRoot;

impl Inode for NoRoot {
    fn metadata(&self) -> Result<Metadata, Errno> {
        Err(Errno::ENOENT)
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(StreamFs)
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENOENT)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Clock;
    use crate::kernel::user_memory::{KernelSink, KernelSource};
    use crate::kernel::wait::testing::until_done;

    /// Neither a reader nor a writer of a host pipe ever waits in the host, however many there are.
    #[test]
    fn threads_share_a_host_pipe() {
        const BYTES: usize = 300_000;
        let reactor = Reactor::new(Arc::new(Clock::new())).expect("reactor");
        let (from, to) = std::io::pipe().expect("pipe");
        let (source, sink) = (open(&reactor, from.as_fd()), open(&reactor, to.as_fd()));
        drop((from, to));
        let (source, sink) = (source.expect("reading end"), sink.expect("writing end"));
        std::thread::scope(|scope| {
            scope.spawn(|| reactor.run());
            let readers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut got = 0;
                    loop {
                        let mut bytes = KernelSink::new(7000);
                        match until_done(|| source.ops.read(&source, &mut 0, &mut bytes)) {
                            Ok(0) => return got,
                            read => got += read.expect("nothing fails"),
                        }
                    }
                })
            });
            let writers = [sink.clone(), sink].map(|sink| {
                scope.spawn(move || {
                    let data = vec![1; BYTES];
                    let mut bytes = KernelSource::new(&data);
                    let done = until_done(|| sink.ops.write(&sink, &mut 0, &mut bytes));
                    assert!(done.is_ok() && bytes.remaining() == 0);
                })
            });
            for writer in writers {
                writer.join().expect("no panic");
            }
            let got = readers.map(|reader| reader.join().expect("no panic"));
            assert_eq!(got.iter().sum::<usize>(), 2 * BYTES);
            reactor.stop();
        });
    }
}
