//! FIFOs: the pipe that an inode stands for, opened end by end: fifo(7).

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{Pipe, PipeEnd};
use crate::kernel::fs::{AnonInode, Driver, FileOps, OpenFlags, Path};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::wait::{Events, WaitFor};

/// The pipes behind the FIFOs that are open, by device and inode number.
pub struct Fifos(Lock<HashMap<(u64, u64), Weak<Pipe>>>);

impl Default for Fifos {
    fn default() -> Self {
        Fifos(Lock::new(Rank::Table, HashMap::new()))
    }
}

impl Fifos {
    fn pipe(&self, key: (u64, u64)) -> Arc<Pipe> {
        let mut fifos = self.0.lock();
        if let Some(pipe) = fifos.get(&key).and_then(Weak::upgrade) {
            return pipe;
        }
        fifos.retain(|_, pipe| pipe.strong_count() > 0);
        let pipe = Pipe::new();
        fifos.insert(key, Arc::downgrade(&pipe));
        pipe
    }
}

/// An open of a FIFO that waits for the other end.
struct Opening {
    end: PipeEnd,
    /// Opens of the other end so far.
    partners: u64,
}

impl Driver for Fifos {
    /// Waits for the other end; ENXIO for a non-blocking writer without a reader.
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let earlier = cx.state.data.take_if(|d| d.is::<Opening>());
        if let Some(opening) = earlier.and_then(|d| d.downcast::<Opening>().ok()) {
            return finish_opening(cx, *opening);
        }
        let inode = path.inode();
        let any: &dyn Any = &**inode;
        // A pipe without a name, reopened through /proc/PID/fd, waits for nobody.
        if let Some(pipe) = any
            .downcast_ref::<AnonInode>()
            .and_then(AnonInode::object_as::<Pipe>)
        {
            return Ok(Arc::new(pipe.open(flags).0));
        }
        let metadata = inode.metadata()?;
        let pipe = self.pipe((metadata.dev, metadata.ino));
        open_end(cx, &pipe, flags)
    }
}

fn open_end(cx: &mut SyscallCx<'_>, pipe: &Arc<Pipe>, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    let (reads, writes) = (flags.readable(), flags.writable());
    if writes && !reads && nonblocking && pipe.state.lock().readers == 0 {
        return fail!(ENXIO);
    }
    let (mut end, present, partners) = pipe.open(flags);
    if reads && writes || present > 0 {
        return Ok(Arc::new(end));
    }
    if nonblocking {
        end.quiet_until_writer = Some(partners);
        return Ok(Arc::new(end));
    }
    finish_opening(cx, Opening { end, partners })
}

fn finish_opening(cx: &mut SyscallCx<'_>, opening: Opening) -> SysResult<Arc<dyn FileOps>> {
    let wait = {
        let state = opening.end.pipe.state.lock();
        let partners = if opening.end.reads {
            state.writer_opens
        } else {
            state.reader_opens
        };
        (partners == opening.partners).then(|| WaitFor::queue(&opening.end.pipe.queue, Events::empty()))
    };
    match wait {
        None => Ok(Arc::new(opening.end)),
        Some(wait) => {
            cx.state.data = Some(Box::new(opening));
            Err(wait.into())
        }
    }
}
