//! /dev/port: the ports as a file, a byte each.

use std::sync::Arc;

use super::{PORTS, PortBus};
use crate::kernel::fs::{Driver, File, FileOps, OpenFlags, Path};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{Sink, Source};

/// Name, numbers and permission bits of its node.
pub const NODE: (&str, u32, u32, u32) = ("port", 1, 4, 0o640);

/// Bytes moved at once.
const STEP: usize = 256;

/// Opens /dev/port.
pub struct PortDriver;

impl Driver for PortDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, _: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        if !cx.task.creds().capable(Capability::SysRawio) {
            return Err(Errno::EPERM.into());
        }
        Ok(Arc::new(PortFile(cx.kernel.ports.clone())))
    }
}

struct PortFile(Arc<PortBus>);

/// The ports from a position on, as many as `most`.
fn ports(position: u64, most: usize) -> impl ExactSizeIterator<Item = u16> {
    let first = u32::try_from(position).unwrap_or(PORTS).min(PORTS) as usize;
    (first..PORTS as usize).take(most).map(|port| port as u16)
}

impl FileOps for PortFile {
    fn read(&self, _: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let mut total = 0;
        loop {
            let bytes: Vec<u8> = ports(*pos, to.remaining().min(STEP))
                .map(|port| self.0.input(port, 1).to_le_bytes()[0])
                .collect();
            if bytes.is_empty() {
                return Ok(total);
            }
            // As on Linux, what was read before bad memory is lost.
            if to.put(&bytes)? < bytes.len() {
                return Err(Errno::EFAULT.into());
            }
            *pos += bytes.len() as u64;
            total += bytes.len();
        }
    }

    fn write(&self, _: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut total = 0;
        loop {
            let mut bytes = [0; STEP];
            let places = ports(*pos, from.remaining().min(STEP));
            let want = places.len();
            let taken = match from.take(&mut bytes[..want]) {
                Err(errno) if total == 0 => return Err(errno.into()),
                taken => taken.unwrap_or(0),
            };
            for (port, byte) in places.zip(&bytes[..taken]) {
                self.0.output(port, 1, u32::from(*byte));
            }
            *pos += taken as u64;
            total += taken;
            if taken == 0 || taken < want {
                return Ok(total);
            }
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: i64, _: i32) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }
}
