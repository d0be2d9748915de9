//! Files, file systems and mounts.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::{self, Braces};

/// `struct stat`, 144 bytes: what kind of file, and how big or which device.
pub(super) fn stat(stat: Fields<'_>) -> String {
    let mode = stat.u32(24);
    let fields = Braces::new().field("st_mode", text::mode(mode.into()));
    if is_device(mode) {
        fields.field("st_rdev", text::dev(stat.u64(40))).abbreviated()
    } else {
        fields.field("st_size", stat.i64(48)).abbreviated()
    }
}

/// `struct statx`, 256 bytes.
pub(super) fn statx(stat: Fields<'_>) -> String {
    let mode = stat.u16(28);
    let fields = Braces::new()
        .field("stx_mask", flags::STATX.display(stat.u32(0).into()))
        .field("stx_attributes", flags::STATX_ATTR.display(stat.u64(8)))
        .field("stx_mode", text::mode(mode.into()));
    if is_device(mode.into()) {
        let device = text::makedev(stat.u32(128).into(), stat.u32(132).into());
        fields.field("stx_rdev", device).abbreviated()
    } else {
        fields.field("stx_size", stat.u64(40)).abbreviated()
    }
}

fn is_device(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0o020_000 | 0o060_000)
}

/// `struct statfs`, 120 bytes.
pub(super) fn statfs(fs: Fields<'_>) -> String {
    Braces::new()
        .field("f_type", flags::FS_MAGIC.display(fs.u64(0)))
        .field("f_bsize", fs.u64(8))
        .field("f_blocks", fs.u64(16))
        .field("f_bfree", fs.u64(24))
        .field("f_bavail", fs.u64(32))
        .field("f_files", fs.u64(40))
        .field("f_ffree", fs.u64(48))
        .field(
            "f_fsid",
            format_args!(
                "{{val=[{}, {}]}}",
                text::hex(fs.u32(56).into()),
                text::hex(fs.u32(60).into())
            ),
        )
        .field("f_namelen", fs.u64(64))
        .field("f_frsize", fs.u64(72))
        .field("f_flags", flags::STATFS.display(fs.u64(80)))
        .end()
}

/// `struct ustat`, 32 bytes.
pub(super) fn ustat(fs: Fields<'_>) -> String {
    Braces::new()
        .field("f_tfree", fs.i32(0))
        .field("f_tinode", fs.u64(8))
        .end()
}

/// `struct open_how`, 24 bytes; the mode only where a file may be made.
pub(super) fn open_how(how: Fields<'_>) -> String {
    let open_flags = how.u64(0);
    let mut fields = Braces::new().field("flags", flags::OPEN.display(open_flags));
    if crate::trace::may_create(open_flags) || how.u64(8) != 0 {
        fields = fields.field("mode", text::octal(how.u64(8)));
    }
    fields.field("resolve", flags::RESOLVE.display(how.u64(16))).end()
}

/// The fixed part of `struct file_handle`, 8 bytes.
pub(super) fn file_handle(handle: Fields<'_>) -> String {
    Braces::new()
        .field("handle_bytes", handle.u32(0))
        .field("handle_type", handle.i32(4))
        .end()
}

/// `struct file_attr` of Linux 6.17, 24 bytes.
pub(super) fn file_attr(attr: Fields<'_>) -> String {
    Braces::new()
        .field("fa_xflags", text::hex(attr.u64(0)))
        .field("fa_extsize", attr.u32(8))
        .field("fa_nextents", attr.u32(12))
        .field("fa_projid", attr.u32(16))
        .field("fa_cowextsize", attr.u32(20))
        .end()
}

/// `struct mount_attr`, 32 bytes.
pub(super) fn mount_attr(attr: Fields<'_>) -> String {
    Braces::new()
        .field("attr_set", flags::MOUNT_ATTR_BITS.display(attr.u64(0)))
        .field("attr_clr", flags::MOUNT_ATTR_BITS.display(attr.u64(8)))
        .field("propagation", flags::MOUNT.display(attr.u64(16)))
        .field("userns_fd", attr.i64(24))
        .end()
}

/// `struct mnt_id_req`, 24 bytes in its first version.
pub(super) fn mount_id_request(request: Fields<'_>) -> String {
    Braces::new()
        .field("size", request.u32(0))
        .field("mnt_id", text::hex(request.u64(8)))
        .field("param", text::hex(request.u64(16)))
        .end()
}

/// `struct xattr_args`, 16 bytes.
pub(super) fn xattr_args(args: Fields<'_>) -> String {
    Braces::new()
        .field("value", text::addr(args.u64(0)))
        .field("size", args.u32(8))
        .field("flags", flags::XATTR.display(args.u32(12).into()))
        .end()
}

/// `struct cachestat`, 40 bytes.
pub(super) fn cachestat(stat: Fields<'_>) -> String {
    Braces::new()
        .field("nr_cache", stat.u64(0))
        .field("nr_dirty", stat.u64(8))
        .field("nr_writeback", stat.u64(16))
        .field("nr_evicted", stat.u64(24))
        .field("nr_recently_evicted", stat.u64(32))
        .end()
}

/// `struct cachestat_range`, 16 bytes.
pub(super) fn cachestat_range(range: Fields<'_>) -> String {
    Braces::new()
        .field("off", range.u64(0))
        .field("len", range.u64(8))
        .end()
}

/// `struct io_event`, 32 bytes.
pub(super) fn io_event(event: Fields<'_>) -> String {
    Braces::new()
        .field("data", text::hex(event.u64(0)))
        .field("obj", text::addr(event.u64(8)))
        .field("res", event.i64(16))
        .field("res2", event.i64(24))
        .end()
}

/// `struct flock`, 32 bytes; who holds the lock only where the call was made to find out.
pub(in crate::trace) fn flock(lock: Fields<'_>, with_holder: bool) -> String {
    let fields = Braces::new()
        .field("l_type", flags::LOCK_TYPE.display(lock.u16(0).into()))
        .field("l_whence", flags::SEEK.display(lock.u16(2).into()))
        .field("l_start", lock.i64(8))
        .field("l_len", lock.i64(16));
    if with_holder {
        fields.field("l_pid", lock.i32(24)).end()
    } else {
        fields.end()
    }
}
