//! open(2), openat2(2), close(2), close_range(2).

use std::sync::Arc;

use super::{read_path, start_of};
use crate::kernel::abi::fs::OpenHow;
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::create;
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::walk::{Target, WalkCx, WalkFlags};
use crate::kernel::fs::{Fd, File, FileOps, FileType, MountFlags, OpenFlags, Path, SetAttr, Use};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{PATH_MAX, UserCString, UserRef};

/// What may be combined with O_PATH; open(2) ignores the rest.
const WITH_PATH: OpenFlags = OpenFlags::PATH
    .union(OpenFlags::DIRECTORY)
    .union(OpenFlags::NOFOLLOW)
    .union(OpenFlags::CLOEXEC);

/// How often an O_CREAT open that raced with others is tried.
const CREATE_TRIES: usize = 8;

/// An open(2) after its flags were checked.
struct Request {
    flags: OpenFlags,
    mode: u32,
    walk: WalkFlags,
}

/// open(2).
pub(super) fn open(cx: &mut SyscallCx<'_>, path: UserCString, flags: u32, mode: u32) -> SysResult<i32> {
    openat(cx, Fd::CWD, path, flags, mode)
}

/// creat(2).
pub(super) fn creat(cx: &mut SyscallCx<'_>, path: UserCString, mode: u32) -> SysResult<i32> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    openat(cx, Fd::CWD, path, flags.bits(), mode)
}

/// openat(2).
pub(super) fn openat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    flags: u32,
    mode: u32,
) -> SysResult<i32> {
    let mut flags = OpenFlags::from_bits_truncate(flags);
    if flags.contains(OpenFlags::PATH) {
        flags &= WITH_PATH;
    } else {
        flags |= OpenFlags::LARGEFILE;
    }
    let request = Request::new(flags, mode & 0o7777, WalkFlags::empty())?;
    run(cx, dirfd, path, &request)
}

/// openat2(2).
pub(super) fn openat2(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    how: UserRef<OpenHow>,
    size: u64,
) -> SysResult<i32> {
    let size = usize::try_from(size).map_err(|_| Errno::E2BIG)?;
    if size < size_of::<OpenHow>() {
        return fail!(EINVAL);
    }
    if size > PATH_MAX {
        return fail!(E2BIG);
    }
    let how_value = cx.memory.read(how)?;
    // Fields of later kernels must be zero.
    let mut later = vec![0; size - size_of::<OpenHow>()];
    cx.memory
        .read_bytes(how.addr().plus(size_of::<OpenHow>() as u64)?, &mut later)?;
    if later.iter().any(|&b| b != 0) {
        return fail!(E2BIG);
    }
    let flags = u32::try_from(how_value.flags).map_err(|_| Errno::EINVAL)?;
    let mut flags = OpenFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let mode = u32::try_from(how_value.mode).map_err(|_| Errno::EINVAL)?;
    let creates = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    if mode & !0o7777 != 0 || (mode != 0 && !creates) {
        return fail!(EINVAL);
    }
    if flags.contains(OpenFlags::PATH) && !WITH_PATH.contains(flags) {
        return fail!(EINVAL);
    }
    let walk = resolve_flags(how_value.resolve)?;
    if walk.contains(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
        return fail!(EINVAL);
    }
    flags.set(OpenFlags::LARGEFILE, !flags.contains(OpenFlags::PATH));
    let request = Request::new(flags, mode, walk)?;
    run(cx, dirfd, path, &request)
}

/// Walk flags of RESOLVE_*.
fn resolve_flags(resolve: u64) -> Result<WalkFlags, Errno> {
    const PAIRS: [(u64, WalkFlags); 6] = [
        (libc::RESOLVE_NO_XDEV, WalkFlags::NO_XDEV),
        (libc::RESOLVE_NO_MAGICLINKS, WalkFlags::NO_MAGICLINKS),
        (libc::RESOLVE_NO_SYMLINKS, WalkFlags::NO_SYMLINKS),
        (libc::RESOLVE_BENEATH, WalkFlags::BENEATH),
        (libc::RESOLVE_IN_ROOT, WalkFlags::IN_ROOT),
        // Nothing but a full walk is ever done.
        (libc::RESOLVE_CACHED, WalkFlags::empty()),
    ];
    let mut walk = WalkFlags::empty();
    let mut left = resolve;
    for (bit, flag) in PAIRS {
        if resolve & bit != 0 {
            walk |= flag;
        }
        left &= !bit;
    }
    if left == 0 { Ok(walk) } else { Err(Errno::EINVAL) }
}

impl Request {
    fn new(flags: OpenFlags, mode: u32, walk: WalkFlags) -> Result<Request, Errno> {
        if flags.contains(OpenFlags::TMPFILE) {
            let whole = flags.contains(OpenFlags::DIRECTORY) && !flags.contains(OpenFlags::CREAT);
            let writes = flags.writable() || flags.bits() & 3 == 3;
            if !whole || !writes {
                return Err(Errno::EINVAL);
            }
        } else if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        Ok(Request { flags, mode, walk })
    }

    fn has(&self, flag: OpenFlags) -> bool {
        self.flags.contains(flag)
    }

    fn walk_flags(&self) -> WalkFlags {
        let exclusive = self.has(OpenFlags::CREAT) && self.has(OpenFlags::EXCL);
        let mut walk = self.walk;
        walk.set(WalkFlags::FOLLOW, !self.has(OpenFlags::NOFOLLOW) && !exclusive);
        walk
    }

    /// The access that the caller needs on what it opens.
    fn access(&self) -> Access {
        let mut want = Access::empty();
        let both = self.flags.bits() & 3 == 3;
        want.set(Access::READ, both || self.flags.readable());
        want.set(
            Access::WRITE,
            both || self.flags.writable() || self.has(OpenFlags::TRUNC),
        );
        want
    }
}

fn run(cx: &mut SyscallCx<'_>, dirfd: Fd, path: UserCString, request: &Request) -> SysResult<i32> {
    let text = read_path(cx, path, WalkFlags::empty())?;
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    cx.task.files().check_room(limit)?;
    let file = open_text(cx, dirfd, &text, request)?;
    let cloexec = request.has(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, cloexec, 0, limit)?.0)
}

fn open_text(cx: &mut SyscallCx<'_>, dirfd: Fd, text: &[u8], request: &Request) -> SysResult<Arc<File>> {
    // With RESOLVE_IN_ROOT the descriptor is the root even of an absolute path.
    let scoped = request.walk.contains(WalkFlags::IN_ROOT);
    let start = start_of(cx, dirfd, if scoped { b"." } else { text })?;
    let walker = WalkCx::of(cx.task);
    if request.has(OpenFlags::TMPFILE) {
        let dir = walker.lookup(start.as_ref(), text, request.walk_flags() | WalkFlags::DIRECTORY)?;
        return unnamed(cx, &dir, request);
    }
    if !request.has(OpenFlags::CREAT) {
        let path = walker.lookup(start.as_ref(), text, request.walk_flags())?;
        drop(walker);
        return existing(cx, path, request);
    }
    for _ in 0..CREATE_TRIES {
        match walker.target(start.as_ref(), text, request.walk_flags())? {
            Target::Found(path) => {
                if request.has(OpenFlags::EXCL) {
                    return fail!(EEXIST);
                }
                if path.inode().file_type() == FileType::Directory {
                    return fail!(EISDIR);
                }
                drop(walker);
                return existing(cx, path, request);
            }
            Target::Missing(parent) => {
                if parent.trailing_slash {
                    return fail!(EISDIR);
                }
                let name = parent.name(Errno::EISDIR)?;
                match create::node(cx.task, &parent.dir, name, libc::S_IFREG | request.mode, 0) {
                    Err(Errno::EEXIST) if !request.has(OpenFlags::EXCL) => {}
                    Err(errno) => return Err(errno.into()),
                    Ok(path) => {
                        drop(walker);
                        return created(cx, path, request);
                    }
                }
            }
        }
    }
    fail!(EAGAIN)
}

/// Open a file that was just made, whatever its mode.
fn created(cx: &mut SyscallCx<'_>, path: Path, request: &Request) -> SysResult<Arc<File>> {
    let in_use = cx.kernel.vfs.busy.begin(path.inode(), Use::Write)?;
    let file = start_using(cx, path, request.flags)?;
    if request.flags.writable() {
        file.keep_in_use(in_use);
    }
    Ok(file)
}

/// O_TMPFILE.
fn unnamed(cx: &mut SyscallCx<'_>, dir: &Path, request: &Request) -> SysResult<Arc<File>> {
    let creds = cx.task.creds();
    access::may_at(&creds, dir, Access::WRITE | Access::EXEC)?;
    let args = create::args(cx.task, dir, libc::S_IFREG | request.mode, 0)?;
    let inode = dir.inode().create_unnamed(&args)?;
    let name = format!("#{}", inode.metadata()?.ino);
    let linkable = !request.has(OpenFlags::EXCL);
    let path = Path {
        mount: dir.mount.clone(),
        dentry: dir.dentry.unnamed(inode, name.into_bytes(), linkable),
    };
    path.dentry.tell_when_gone(&cx.kernel.vfs.watches);
    created(cx, path, request)
}

/// Open something that is there already.
fn existing(cx: &mut SyscallCx<'_>, path: Path, request: &Request) -> SysResult<Arc<File>> {
    let kind = path.inode().file_type();
    if request.has(OpenFlags::DIRECTORY) && kind != FileType::Directory {
        return fail!(ENOTDIR);
    }
    if request.has(OpenFlags::PATH) {
        return start_using(cx, path, request.flags);
    }
    let want = request.access();
    match kind {
        FileType::Symlink => return fail!(ELOOP),
        FileType::Directory if want.contains(Access::WRITE) => return fail!(EISDIR),
        FileType::CharDevice | FileType::BlockDevice if path.mount.flags().contains(MountFlags::NODEV) => {
            return fail!(EACCES);
        }
        _ => {}
    }
    let creds = cx.task.creds();
    access::may_at(&creds, &path, want)?;
    if request.has(OpenFlags::NOATIME) && !access::owns(&creds, &path.inode().metadata()?) {
        return fail!(EPERM);
    }
    let busy = &cx.kernel.vfs.busy;
    let mut in_use = None;
    if want.contains(Access::WRITE) && kind == FileType::Regular {
        in_use = Some(busy.begin(path.inode(), Use::Write)?);
    }
    if request.has(OpenFlags::TRUNC) && kind == FileType::Regular {
        set_size(cx, path.inode(), 0)?;
        cx.kernel.vfs.watches.happened(&path.dentry, Notice::MODIFY);
    }
    let file = start_using(cx, path, request.flags)?;
    if let Some(in_use) = in_use.filter(|_| request.flags.writable()) {
        file.keep_in_use(in_use);
    }
    Ok(file)
}

/// An O_PATH file: a place and nothing to do there.
struct PathOnly;

impl FileOps for PathOnly {}

/// Open what permission was checked for: devices and FIFOs by their drivers.
fn start_using(cx: &mut SyscallCx<'_>, path: Path, flags: OpenFlags) -> SysResult<Arc<File>> {
    let inode = path.inode().clone();
    let kind = inode.file_type();
    let ops: Arc<dyn FileOps> = if flags.contains(OpenFlags::PATH) {
        Arc::new(PathOnly)
    } else {
        match kind {
            FileType::Fifo | FileType::CharDevice | FileType::BlockDevice => {
                let driver = cx.kernel.vfs.special.driver(kind, inode.metadata()?.rdev)?;
                driver.open(cx, &path, flags)?
            }
            FileType::Socket => return fail!(ENXIO),
            FileType::Symlink => return fail!(ELOOP),
            FileType::Regular | FileType::Directory => inode.clone().open(flags)?,
        }
    };
    let anonymous = !path.is_mount_root() && path.dentry.parent().is_none();
    if anonymous {
        let name = String::from_utf8_lossy(&path.dentry.name()).into_owned();
        return Ok(File::anonymous(ops, name, inode, flags));
    }
    let file = File::at_path(ops, path, inode, flags);
    file.note_opener(cx.task.creds());
    if !flags.contains(OpenFlags::PATH) {
        file.watched_by(&cx.kernel.vfs.watches);
        file.happened(Notice::OPEN);
    }
    Ok(file)
}

/// close(2).
pub(super) fn close(cx: &mut SyscallCx<'_>, fd: Fd) -> SysResult<()> {
    let file = cx.task.files().remove(fd)?;
    file.ops.flush(&file)
}

/// close_range(2).
pub(super) fn close_range(cx: &mut SyscallCx<'_>, first: u32, last: u32, flags: u32) -> SysResult<()> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return fail!(EINVAL);
    }
    if flags & UNSHARE != 0 {
        cx.task.unshare_files();
    }
    let files = cx.task.files();
    if flags & CLOEXEC != 0 {
        files.mark_close_on_exec(first, last);
        return Ok(());
    }
    let inside = |fd: Fd, _| u32::try_from(fd.0).is_ok_and(|fd| (first..=last).contains(&fd));
    for file in files.remove_where(inside) {
        // close_range(2) reports no error of a single file.
        let _ = file.ops.flush(&file);
    }
    Ok(())
}

/// Change the size of a file on behalf of a call, without set-user-id bits unless the caller may keep them.
pub(super) fn set_size(
    cx: &SyscallCx<'_>,
    inode: &Arc<dyn crate::kernel::fs::Inode>,
    size: u64,
) -> SysResult<()> {
    inode.drop_capabilities()?;
    let mode = super::io::mode_after_write(cx, inode)?;
    Ok(inode.set_attr(&SetAttr {
        size: Some(size),
        mode,
        ..SetAttr::default()
    })?)
}
