//! What a user can say about a guest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Everything `uvm run` needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory that becomes the guest's root.
    pub rootfs: PathBuf,
    /// Program and arguments; empty: the user's shell.
    pub command: Vec<OsString>,
    /// Environment beyond the defaults, later ones win.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory in the guest.
    pub workdir: Option<OsString>,
    /// USER\[:GROUP\], names or numbers.
    pub user: Option<String>,
    /// Host directories and files to show in the guest.
    pub volumes: Vec<Volume>,
    /// Memory file systems to mount.
    pub tmpfs: Vec<TmpfsMount>,
    /// Host name.
    pub hostname: String,
    /// No writes to the root at all.
    pub read_only: bool,
    /// Writes go to `rootfs` itself.
    pub writable: bool,
    /// What runs guest code.
    pub platform: PlatformKind,
    /// Kill the guest after this long.
    pub timeout: Option<Duration>,
    /// Report every syscall.
    pub trace: Option<TraceTo>,
}

/// `-v SRC:DST[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path in the guest.
    pub target: OsString,
    /// Whether the guest may not write to it.
    pub read_only: bool,
}

/// `--tmpfs DST[:size=SIZE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Absolute path in the guest.
    pub target: OsString,
    /// Most bytes of data in it.
    pub size: Option<u64>,
}

/// `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformKind {
    /// The reference platform.
    Ptrace,
    /// The fast platform.
    Seccomp,
}

/// `--trace[=FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTo {
    /// Standard error.
    Stderr,
    /// A host file.
    File(PathBuf),
}
