//! memfd_create(2): files in memory without a name, with the seals of fcntl(2).
//!
//! Contents and attributes are those of an unnamed file of a hidden tmpfs; what is added here is the seals.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rustix::fs::{SealFlags, fcntl_add_seals};

use crate::kernel::Kernel;
use crate::kernel::fs::memfs::{MemFs, MemFsOptions};
use crate::kernel::fs::{
    CreateArgs, File, FileOps, FileSystem, FileType, Inode, MapRequest, Metadata, OpenFlags, SetAttr,
};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Clock;
use crate::kernel::user_memory::{Sink, Source, UserCString};
use crate::platform::HostFile;

/// Longest name, in bytes.
const NAME_MAX: usize = 249;

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_HUGETLB: u32 = 4;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 0x10;

const F_ADD_SEALS: i32 = 1033;
const F_GET_SEALS: i32 = 1034;

const SEAL_SEAL: u32 = 1;
const SEAL_SHRINK: u32 = 2;
const SEAL_GROW: u32 = 4;
const SEAL_WRITE: u32 = 8;
const SEAL_FUTURE_WRITE: u32 = 16;
const SEAL_EXEC: u32 = 32;
const SEALS: u32 = 63;

/// FALLOC_FL_PUNCH_HOLE: takes contents away.
const PUNCH_HOLE: i32 = 2;

/// Device number of the hidden tmpfs.
const DEV: u64 = 1;

/// The hidden tmpfs, made when it is first needed.
#[derive(Default)]
pub struct HiddenFiles(OnceLock<Arc<MemFs>>);

impl HiddenFiles {
    /// A new unnamed file.
    fn create(&self, clock: &Arc<Clock>, args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let fs = self
            .0
            .get_or_init(|| MemFs::tmpfs(MemFsOptions::new(DEV, clock.clone())));
        fs.root().create_unnamed(args)
    }
}

/// memfd_create(2).
pub(super) fn memfd_create(cx: &mut SyscallCx<'_>, name: UserCString, flags: u32) -> SysResult<i32> {
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 {
        // Without huge pages there is nothing that could back the one flag that is missing here.
        return if flags & MFD_HUGETLB != 0 && flags & !(known | MFD_HUGETLB | 0x3f << 26) == 0 {
            fail!(ENOSYS)
        } else {
            fail!(EINVAL)
        };
    }
    if flags & MFD_EXEC != 0 && flags & MFD_NOEXEC_SEAL != 0 {
        return fail!(EINVAL);
    }
    let name = match cx.memory.read_cstring(name, NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => return fail!(EINVAL),
        name => name?,
    };
    let creds = cx.task.creds();
    let noexec = flags & MFD_NOEXEC_SEAL != 0;
    let args = CreateArgs {
        mode: libc::S_IFREG | if noexec { 0o666 } else { 0o777 },
        uid: creds.fsuid,
        gid: creds.fsgid,
        rdev: 0,
    };
    let seals = match (noexec, flags & MFD_ALLOW_SEALING != 0) {
        (true, _) => SEAL_EXEC,
        (false, true) => 0,
        (false, false) => SEAL_SEAL,
    };
    let inode = Arc::new(Sealed {
        inner: cx.kernel.hidden_files.create(&cx.kernel.clock, &args)?,
        kernel: Arc::downgrade(cx.kernel),
        seals: AtomicU32::new(seals),
        adding: Lock::new(Rank::File, ()),
        changing: Lock::new(Rank::Object, ()),
        host: OnceLock::new(),
    });
    let open = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let ops = inode.clone().open(open)?;
    let shown = format!("/memfd:{} (deleted)", String::from_utf8_lossy(&name));
    let file = File::anonymous(ops, shown, inode, open);
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let fd = cx.task.files().insert(file, flags & MFD_CLOEXEC != 0, 0, limit)?;
    Ok(fd.0)
}

/// Whether a seal forbids mapping a file shared and writable.
pub(super) fn forbids_writing(file: &File) -> bool {
    file.ops_as::<SealedOps>()
        .is_some_and(|ops| ops.inode.has(SEAL_WRITE | SEAL_FUTURE_WRITE))
}

/// A file with seals.
struct Sealed {
    inner: Arc<dyn Inode>,
    kernel: Weak<Kernel>,
    seals: AtomicU32,
    /// Held while seals are added.
    adding: Lock<()>,
    /// Held while contents change as the seals allow, and while those change.
    changing: Lock<()>,
    /// The host's file once it has been mapped shared for writing.
    host: OnceLock<Arc<HostFile>>,
}

impl Sealed {
    fn has(&self, seals: u32) -> bool {
        self.seals.load(Ordering::SeqCst) & seals != 0
    }

    /// EPERM where a seal forbids this size.
    fn check_size(&self, new: u64) -> Result<(), Errno> {
        let old = self.inner.metadata()?.size;
        if new < old && self.has(SEAL_SHRINK) || new > old && self.has(SEAL_GROW) {
            Err(Errno::EPERM)
        } else {
            Ok(())
        }
    }

    /// Whether some process has it mapped shared.
    fn is_mapped(&self) -> bool {
        let (Some(host), Some(kernel)) = (self.host.get(), self.kernel.upgrade()) else {
            return false;
        };
        let tasks: Vec<_> = kernel.pids.lock().tasks.values().cloned().collect();
        tasks.iter().any(|task| {
            let mappings = task.mm().space.mappings().unwrap_or_default();
            mappings.iter().any(|m| m.shared && m.file == Some(host.key()))
        })
    }

    /// F_ADD_SEALS.
    fn add_seals(&self, file: &File, seals: u64) -> Result<(), Errno> {
        let seals = u32::try_from(seals)
            .ok()
            .filter(|s| s & !SEALS == 0)
            .ok_or(Errno::EINVAL)?;
        let _adding = self.adding.lock();
        if !file.flags().writable() || self.has(SEAL_SEAL) {
            return Err(Errno::EPERM);
        }
        let executable = self.inner.metadata()?.mode & 0o111 != 0;
        let implied = if seals & SEAL_EXEC != 0 && executable {
            SEAL_SHRINK | SEAL_GROW | SEAL_WRITE | SEAL_FUTURE_WRITE
        } else {
            0
        };
        let before = {
            let _changing = self.changing.lock();
            self.seals.fetch_or(seals | implied, Ordering::SeqCst)
        };
        // Looked for behind the sealing: who maps it from now on sees the seal.
        if seals & SEAL_WRITE & !before != 0 && self.is_mapped() {
            self.seals.store(before, Ordering::SeqCst);
            return Err(Errno::EBUSY);
        }
        if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0
            && let Some(host) = self.host.get()
        {
            // A hostile process may have kept the descriptor that it mapped the file from.
            let sealed = fcntl_add_seals(host, SealFlags::FUTURE_WRITE);
            sealed.map_err(|e| Errno::from_raw(e.raw_os_error()))?;
        }
        Ok(())
    }
}

impl Inode for Sealed {
    fn metadata(&self) -> Result<Metadata, Errno> {
        self.inner.metadata()
    }

    fn file_type(&self) -> FileType {
        self.inner.file_type()
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.inner.fs()
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        let ops = self.inner.clone().open(flags)?;
        Ok(Arc::new(SealedOps { inode: self, ops }))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let _changing = self.changing.lock();
        if let Some(size) = change.size {
            self.check_size(size)?;
        }
        if let Some(mode) = change.mode
            && self.has(SEAL_EXEC)
            && (mode ^ self.inner.metadata()?.mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        self.inner.set_attr(change)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.inner.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        self.inner.set_xattr(name, value, flags)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        self.inner.list_xattr()
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        self.inner.remove_xattr(name)
    }
}

/// An open file with seals.
struct SealedOps {
    inode: Arc<Sealed>,
    ops: Arc<dyn FileOps>,
}

impl FileOps for SealedOps {
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        self.ops.read(file, pos, to)
    }

    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let _changing = self.inode.changing.lock();
        if self.inode.has(SEAL_WRITE | SEAL_FUTURE_WRITE) {
            return fail!(EPERM);
        }
        if self.inode.has(SEAL_GROW) {
            let size = self.inode.inner.metadata()?.size;
            let start = if file.flags().contains(OpenFlags::APPEND) {
                size
            } else {
                *pos
            };
            if start.saturating_add(from.remaining() as u64) > size {
                return fail!(EPERM);
            }
        }
        self.ops.write(file, pos, from)
    }

    fn seekable(&self) -> bool {
        self.ops.seekable()
    }

    fn seek(&self, file: &File, offset: i64, whence: i32) -> SysResult<u64> {
        self.ops.seek(file, offset, whence)
    }

    fn pollable(&self) -> bool {
        self.ops.pollable()
    }

    fn fcntl(&self, file: &File, command: i32, arg: u64) -> SysResult<u64> {
        match command {
            F_GET_SEALS => Ok(self.inode.seals.load(Ordering::SeqCst).into()),
            F_ADD_SEALS => {
                self.inode.add_seals(file, arg & u64::from(u32::MAX))?;
                Ok(0)
            }
            _ => self.ops.fcntl(file, command, arg),
        }
    }

    fn map(&self, file: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        let sealed = self.inode.has(SEAL_WRITE | SEAL_FUTURE_WRITE);
        let host = self.ops.map(
            file,
            &MapRequest {
                write: request.write && !sealed,
                ..*request
            },
        )?;
        if request.shared && request.write {
            self.inode.host.get_or_init(|| host.clone());
        }
        Ok(host)
    }

    fn sync(&self, file: &File, data_only: bool) -> SysResult<()> {
        self.ops.sync(file, data_only)
    }

    fn allocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> SysResult<u64> {
        let _changing = self.inode.changing.lock();
        if mode & PUNCH_HOLE != 0 {
            if self.inode.has(SEAL_WRITE | SEAL_FUTURE_WRITE) {
                return fail!(EPERM);
            }
        } else if self.inode.has(SEAL_GROW) && offset.saturating_add(len) > self.inode.inner.metadata()?.size
        {
            return fail!(EPERM);
        }
        self.ops.allocate(file, mode, offset, len)
    }
}
