//! The guest's file tree: root, kernel file systems, volumes.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;

use super::{Options, Volume};
use crate::kernel::Kernel;
use crate::kernel::dev;
use crate::kernel::dev::block::DeviceMedium;
use crate::kernel::dev::tty::devpts::DevPts;
use crate::kernel::fs::diskfs;
use crate::kernel::fs::hostfs::{self, Coherence, Exceptions, HostFs, HostFsOptions, Protected};
use crate::kernel::fs::memfs::{MemFs, MemFsOptions, UpperOptions};
use crate::kernel::fs::reader::InodeReader;
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{CreateArgs, Dentry, FileSystem, FileType, MountFlags, Path, Vfs, procfs, sysfs};
use crate::kernel::task::Task;
use crate::kernel::time::{Clock, Timestamp};

/// Longest file of the guest that the machine itself reads, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Device numbers of the file systems that every guest has; the next ones are for volumes and mounts of its own.
const ROOT_DEV: u64 = 0x20;
const LOWER_DEV: u64 = 0x21;
const PROC_DEV: u64 = 0x22;
const SYS_DEV: u64 = 0x23;
const DEV_DEV: u64 = 0x24;
const PTS_DEV: u64 = 0x25;
const SHM_DEV: u64 = 0x26;
const RUN_DEV: u64 = 0x27;
const FIRST_OTHER_DEV: u64 = 0x30;

/// The root file system before anything is mounted on it.
pub(super) struct Root {
    pub(super) vfs: Vfs,
    /// Where its times come from.
    pub(super) clock: Arc<Clock>,
    /// What is written to it, unless that goes to the host.
    pub(super) upper: Option<Arc<MemFs>>,
    /// What of this machine's files the guest cannot write, wherever it may write others.
    pub(super) protected: Arc<Protected>,
}

/// The root file system. A read-only root gets its flag when everything is mounted.
pub(super) fn root(options: &Options, since: Timestamp) -> Result<Root> {
    let clock = Arc::new(Clock::starting(options.pace, options.start));
    let shown = options.rootfs.display();
    let is_directory = || -> Result<bool> {
        let kind = std::fs::metadata(&options.rootfs).with_context(|| format!("{shown}"))?;
        Ok(kind.is_dir())
    };
    if options.image.is_none() && !is_directory()? {
        bail!("{shown} is not a directory; give the directory that becomes the guest's root");
    }
    let mut hidden = options.hidden.clone();
    // What the guest writes is not to show a second time.
    hidden.extend(
        options
            .overlay
            .iter()
            .filter_map(|dir| std::path::absolute(dir).ok()),
    );
    // Pid files, sockets, devices, shared memory and whatever else the services of this machine have there mean nothing in the guest.
    let emptied = if is_this_machine(options) {
        vec![PathBuf::from("/run"), PathBuf::from("/dev")]
    } else {
        Vec::new()
    };
    let protected = Arc::default();
    let exceptions = Exceptions {
        hidden: &hidden,
        emptied: &emptied,
        protected: Some(&protected),
    };
    let open = |host| HostFs::open_but(&options.rootfs, host, exceptions).map_err(hostfs::explain);
    let mut upper = None;
    let fs: Arc<dyn FileSystem> = if options.writable {
        let host = HostFsOptions {
            dev: ROOT_DEV,
            coherence: Coherence::Shared,
            writable: true,
            own_ids: options.own_ids,
            reproducible: false,
        };
        open(host).with_context(|| format!("{shown}"))?
    } else {
        let host = HostFsOptions {
            dev: LOWER_DEV,
            coherence: Coherence::Fixed,
            writable: false,
            own_ids: options.own_ids,
            reproducible: options.seed.is_some(),
        };
        let lower: Arc<dyn FileSystem> = match &options.image {
            Some(image) => image.file_system(LOWER_DEV).with_context(|| format!("{shown}"))?,
            None => open(host).with_context(|| format!("{shown}"))?,
        };
        let mut settings = MemFsOptions::new(ROOT_DEV, clock.clone());
        let fs = match &options.overlay {
            None => {
                settings.size = options.max_disk.unwrap_or(settings.size);
                MemFs::overlay(lower.root(), settings).with_context(|| format!("{shown}"))?
            }
            Some(dir) => {
                let described = || format!("the upper layer {}", dir.display());
                let upper = UpperOptions {
                    dir: dir.clone(),
                    lower: identity(options).with_context(|| format!("{shown}"))?,
                    since,
                };
                settings.size = options.max_disk.unwrap_or(i64::MAX.cast_unsigned());
                MemFs::overlay_on_disk(lower.root(), settings, &upper).with_context(described)?
            }
        };
        upper = Some(fs.clone());
        fs
    };
    let source: &[u8] = if options.writable { b"host" } else { b"overlay" };
    let vfs = Vfs::new(fs, source, MountFlags::RELATIME);
    Ok(Root {
        vfs,
        clock,
        upper,
        protected,
    })
}

/// Whether the root is this machine's.
fn is_this_machine(options: &Options) -> bool {
    let is_root = |path: PathBuf| path == std::path::Path::new("/");
    options.image.is_none() && options.rootfs.canonicalize().is_ok_and(is_root)
}

/// What the lower tree is, as an upper layer on disk tells it: an image by its layers' digests, or else where it is, how large
/// and how old; a directory by where it is.
fn identity(options: &Options) -> Result<String> {
    if let Some(digests) = options.image.as_ref().and_then(|image| image.digests()) {
        return Ok(format!("the image of the layers {}", digests.join(" ")));
    }
    let path = options.rootfs.canonicalize()?;
    let shown = path.to_string_lossy().escape_debug().to_string();
    if options.image.is_none() {
        return Ok(format!("the directory {shown}"));
    }
    let meta = std::fs::metadata(path)?;
    Ok(format!(
        "the image {shown} ({} bytes of {}.{:09})",
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}

/// Mount what every guest has and what the options ask for.
pub(super) fn mount_all(kernel: &Arc<Kernel>, options: &Options, protected: &Arc<Protected>) -> Result<()> {
    dev::register(&kernel.vfs.special);
    kernel_mounts(kernel, options).context("setting up the guest's /proc, /sys and /dev")?;
    super::disks::add(kernel, options)?;
    for mount in &options.tmpfs {
        let data = mount.size.map_or(String::new(), |size| format!("size={size}"));
        let settings = MemFsOptions::new(next_dev(kernel), kernel.clock.clone())
            .apply(data.as_bytes())
            .with_context(|| format!("--tmpfs {}", mount.target.display()))?;
        mount_at(
            kernel,
            mount.target.as_bytes(),
            MemFs::tmpfs(settings),
            b"tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
        )
        .with_context(|| format!("--tmpfs {}", mount.target.display()))?;
    }
    for volume in &options.volumes {
        mount_volume(kernel, volume, options, protected)
            .with_context(|| format!("-v {}:{}", volume.source.display(), volume.target.display()))?;
    }
    for path in &options.protected {
        protect(kernel, path.as_bytes()).with_context(|| format!("--ro {}", path.display()))?;
    }
    if options.read_only {
        let root = kernel.vfs.mounts.root();
        keep(&root);
        let root = root.mount;
        root.set_flags(root.flags() | MountFlags::READ_ONLY);
    }
    Ok(())
}

fn next_dev(kernel: &Kernel) -> u64 {
    FIRST_OTHER_DEV + kernel.vfs.mounts.list().len() as u64
}

fn kernel_mounts(kernel: &Arc<Kernel>, options: &Options) -> Result<(), Errno> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let tmpfs = |dev, data: &str| -> Result<Arc<MemFs>, Errno> {
        Ok(MemFs::tmpfs(
            MemFsOptions::new(dev, kernel.clock.clone()).apply(data.as_bytes())?,
        ))
    };
    if is_this_machine(options) {
        mount_at(
            kernel,
            b"/run",
            tmpfs(RUN_DEV, "mode=755")?,
            b"tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
        )?;
    }
    mount_at(kernel, b"/proc", procfs::new(kernel, PROC_DEV), b"proc", quiet)?;
    mount_at(
        kernel,
        b"/sys",
        sysfs::new(kernel, SYS_DEV),
        b"sysfs",
        quiet | MountFlags::READ_ONLY,
    )?;
    mount_at(
        kernel,
        b"/dev",
        tmpfs(DEV_DEV, "mode=755")?,
        b"tmpfs",
        MountFlags::NOSUID,
    )?;
    fill_dev(kernel)?;
    mount_at(
        kernel,
        b"/dev/shm",
        tmpfs(SHM_DEV, "mode=1777")?,
        b"tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
    )?;
    register_types(kernel);
    Ok(())
}

/// Device nodes, links to them, and the terminals.
fn fill_dev(kernel: &Arc<Kernel>) -> Result<(), Errno> {
    for (name, major, minor, mode) in dev::NODES {
        let rdev = libc::makedev(major, minor);
        make(
            kernel,
            format!("/dev/{name}").as_bytes(),
            libc::S_IFCHR | mode,
            rdev,
        )?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("rtc", "rtc0"),
    ] {
        let args = CreateArgs {
            mode: 0o777,
            uid: 0,
            gid: 0,
            rdev: 0,
        };
        let dir = lookup(kernel, b"/dev")?;
        let inode = dir.inode().symlink(name.as_bytes(), target.as_bytes(), &args)?;
        kernel.vfs.added(&dir.dentry, name.as_bytes(), inode);
    }
    kernel.block.start(kernel, lookup(kernel, b"/dev")?)?;
    let pts = DevPts::new(kernel, PTS_DEV);
    mount_at(
        kernel,
        b"/dev/pts",
        pts,
        b"devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
    )?;
    Ok(())
}

/// What mount(2) inside the guest can mount.
fn register_types(kernel: &Arc<Kernel>) {
    let types = &kernel.vfs.types;
    let weak = Arc::downgrade(kernel);
    types.register(
        "tmpfs",
        Arc::new(|task, _, data| {
            let kernel = &task.kernel;
            Ok(MemFs::tmpfs(
                MemFsOptions::new(next_dev(kernel), kernel.clock.clone()).apply(data)?,
            ))
        }),
    );
    for (name, kind) in [
        ("squashfs", diskfs::Kind::Squashfs),
        ("erofs", diskfs::Kind::Erofs),
        ("ext2", diskfs::Kind::Ext4),
        ("ext3", diskfs::Kind::Ext4),
        ("ext4", diskfs::Kind::Ext4),
    ] {
        types.register_disk(
            name,
            Arc::new(move |task, source, data| on_device(task, source, data, kind)),
        );
    }
    types.register(
        "proc",
        Arc::new(|task, _, _| Ok(procfs::new(&task.kernel, PROC_DEV))),
    );
    types.register(
        "sysfs",
        Arc::new(|task, _, _| Ok(sysfs::new(&task.kernel, SYS_DEV))),
    );
    types.register(
        "devpts",
        Arc::new(move |_, _, _| Ok(DevPts::new(&weak.upgrade().ok_or(Errno::ENODEV)?, PTS_DEV))),
    );
}

/// What is on a block device of the guest, and of this kind.
fn on_device(
    task: &Task,
    source: &[u8],
    data: &[u8],
    kind: diskfs::Kind,
) -> Result<Arc<dyn FileSystem>, Errno> {
    let walk = WalkCx::of(task);
    let path = walk.lookup(None, source, WalkFlags::FOLLOW)?;
    drop(walk);
    let meta = path.inode().metadata()?;
    if meta.file_type() != FileType::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if path.mount.flags().contains(MountFlags::NODEV) {
        return Err(Errno::EACCES);
    }
    let kernel = &task.kernel;
    let medium = Arc::new(DeviceMedium::new(kernel.block.open(meta.rdev)?));
    if diskfs::recognise(&*medium)? != Some(kind) {
        return Err(Errno::EINVAL);
    }
    let replayed = !data.split(|&byte| byte == b',').any(|option| option == b"noload");
    let fs = diskfs::open(medium, kind, meta.rdev, replayed);
    fs.map_err(|bad| {
        tracing::info!("{}: {bad}", String::from_utf8_lossy(source));
        bad.errno()
    })
}

/// Mount on an absolute path, making the directory when it is missing.
fn mount_at(
    kernel: &Kernel,
    target: &[u8],
    fs: Arc<dyn FileSystem>,
    source: &[u8],
    flags: MountFlags,
) -> Result<(), Errno> {
    let at = make_dirs(kernel, target)?;
    kernel.vfs.mounts.mount(fs, source, flags, at)?;
    Ok(())
}

fn mount_volume(
    kernel: &Arc<Kernel>,
    volume: &Volume,
    options: &Options,
    protected: &Arc<Protected>,
) -> Result<()> {
    let source = volume.source.canonicalize()?;
    let is_dir = source.metadata()?.is_dir();
    let (top, name) = match source.file_name() {
        Some(name) if !is_dir => (source.parent().ok_or(anyhow!("it has no directory"))?, Some(name)),
        _ => (source.as_path(), None),
    };
    let host = HostFsOptions {
        dev: next_dev(kernel),
        coherence: Coherence::Shared,
        writable: !volume.read_only,
        own_ids: options.own_ids,
        reproducible: false,
    };
    let exceptions = Exceptions {
        hidden: &options.hidden,
        protected: Some(protected),
        ..Exceptions::default()
    };
    let fs = HostFs::open_but(top, host, exceptions).map_err(hostfs::explain)?;
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    flags.set(MountFlags::READ_ONLY, volume.read_only);
    let target = volume.target.as_bytes();
    if lookup(kernel, target).is_ok_and(|at| is_root(kernel, &at)) {
        bail!(
            "it would cover all that there is; the root is what ROOTFS says, and --writable lets writes to it through"
        );
    }
    let at = match name {
        None => make_dirs(kernel, target)?,
        Some(_) => make_file(kernel, target)?,
    };
    if volume.read_only {
        // What it covers is not to be written in its stead.
        keep(&at);
    }
    match name {
        None => {
            let source = volume.source.as_os_str().as_bytes();
            kernel.vfs.mounts.mount(fs, source, flags, at)?;
        }
        Some(name) => {
            let mount = crate::kernel::fs::Mount::detached(fs, volume.source.as_os_str().as_bytes());
            let root: &Arc<Dentry> = &mount.root;
            let dentry = kernel.vfs.child(root, name.as_bytes())?;
            let bound = kernel.vfs.mounts.bind(
                &Path {
                    mount: mount.clone(),
                    dentry,
                },
                at,
                false,
            )?;
            bound.set_flags(flags);
        }
    }
    Ok(())
}

/// Have nothing written to a path: where it is this machine's, whatever the guest does to its mounts, and else by mounting it on
/// itself, with all that is mounted below.
fn protect(kernel: &Kernel, path: &[u8]) -> Result<(), Errno> {
    let at = lookup(kernel, path)?;
    keep(&at);
    if is_root(kernel, &at) {
        // What is mounted below it would be covered.
        at.mount.set_flags(at.mount.flags() | MountFlags::READ_ONLY);
        return Ok(());
    }
    let bound = kernel.vfs.mounts.bind(&at, at.clone(), true)?;
    bound.set_flags(bound.flags() | MountFlags::READ_ONLY);
    Ok(())
}

/// Keep a file of this machine as it is, where it is.
fn keep(at: &Path) {
    hostfs::protect(at.inode());
    let up = |at: &Path| match at.dentry.parent() {
        Some(dentry) if !at.is_mount_root() => Some(Path {
            mount: at.mount.clone(),
            dentry,
        }),
        _ => at.mount.at(),
    };
    for above in std::iter::successors(up(at), up) {
        hostfs::keep_name(above.inode());
    }
}

fn is_root(kernel: &Kernel, at: &Path) -> bool {
    let root = kernel.vfs.mounts.root();
    Arc::ptr_eq(&root.mount, &at.mount) && Arc::ptr_eq(&root.dentry, &at.dentry)
}

/// What a path of the guest leads to.
pub(super) fn lookup(kernel: &Kernel, path: &[u8]) -> Result<Path, Errno> {
    WalkCx::at_root(&kernel.vfs).lookup(None, path, WalkFlags::FOLLOW)
}

/// A directory of the guest, made with its parents when it is missing.
pub(super) fn make_dirs(kernel: &Kernel, path: &[u8]) -> Result<Path, Errno> {
    let mut at = kernel.vfs.mounts.root();
    let mut done = Vec::new();
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        done.push(b'/');
        done.extend_from_slice(part);
        at = match lookup(kernel, &done) {
            Err(Errno::ENOENT) => make(kernel, &done, libc::S_IFDIR | 0o755, 0)?,
            found => found?,
        };
    }
    match at.inode().file_type() {
        FileType::Directory => Ok(at),
        _ => Err(Errno::ENOTDIR),
    }
}

/// A file of the guest to mount another one on.
fn make_file(kernel: &Kernel, path: &[u8]) -> Result<Path, Errno> {
    match lookup(kernel, path) {
        Err(Errno::ENOENT) => {
            let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
            make_dirs(kernel, &path[..cut])?;
            make(kernel, path, libc::S_IFREG | 0o644, 0)
        }
        found => found,
    }
}

fn make(kernel: &Kernel, path: &[u8], mode: u32, rdev: u64) -> Result<Path, Errno> {
    let parent = WalkCx::at_root(&kernel.vfs).parent(None, path, WalkFlags::default())?;
    let name = parent.name(Errno::EEXIST)?;
    let inode = parent.dir.inode().create(
        name,
        &CreateArgs {
            mode,
            uid: 0,
            gid: 0,
            rdev,
        },
    )?;
    let dentry = kernel.vfs.added(&parent.dir.dentry, name, inode);
    Ok(Path {
        mount: parent.dir.mount.clone(),
        dentry,
    })
}

/// The text of a file of the guest; empty when there is none. At most [`FILE_MAX`] bytes of it.
pub(super) fn read_text(kernel: &Kernel, path: &str) -> String {
    let Ok(path) = lookup(kernel, path.as_bytes()) else {
        return String::new();
    };
    let inode = path.inode().clone();
    if inode.file_type() != FileType::Regular {
        return String::new();
    }
    let mut bytes = Vec::new();
    if let Ok(reader) = InodeReader::open(&inode) {
        // What was read before an error is used: as good as a file that ends there.
        let _ = reader.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
