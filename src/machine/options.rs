//! What a user can say about a guest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ConsoleTo, DiskFile};
use crate::cpu::Choice;
use crate::image::Image;
use crate::kernel::time::{Pace, Start};
use crate::platform::Io;
use crate::platform::host::PlatformKind;

/// Everything a guest is made from.
#[derive(Clone)]
pub struct Options {
    /// Directory that becomes the guest's root, or the image that it is made from.
    pub rootfs: PathBuf,
    /// What is in the image, if it is one.
    pub image: Option<Arc<Image>>,
    /// Program and arguments; empty: the user's shell.
    pub command: Vec<OsString>,
    /// Environment beyond the defaults, later ones win.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory in the guest.
    pub workdir: Option<OsString>,
    /// Who the first process runs as.
    pub user: User,
    /// File mode creation mask of the first process.
    pub umask: u32,
    /// Host directories and files to show in the guest.
    pub volumes: Vec<Volume>,
    /// Host files that the guest has as disks.
    pub disks: Vec<DiskFile>,
    /// Terminals of the guest that are connected to the outside.
    pub consoles: Vec<ConsoleTo>,
    /// Memory file systems to mount.
    pub tmpfs: Vec<TmpfsMount>,
    /// Host name.
    pub hostname: String,
    /// No writes to the root at all.
    pub read_only: bool,
    /// Writes go to `rootfs` itself.
    pub writable: bool,
    /// Paths of the guest that cannot be written.
    pub protected: Vec<OsString>,
    /// Absolute host paths that the guest does not see.
    pub hidden: Vec<PathBuf>,
    /// Show the owners of host files as they are, also those of an unprivileged user's own.
    pub own_ids: bool,
    /// Most bytes of what is written to the root.
    pub max_disk: Option<u64>,
    /// Directory of the host that keeps what is written to the root; none: it is kept in memory.
    pub overlay: Option<PathBuf>,
    /// What runs guest code; none: the first that the host allows.
    pub platform: Option<PlatformKind>,
    /// How guests reach files.
    pub io: Io,
    /// How the guest's clock moves.
    pub pace: Pace,
    /// What its CLOCK_REALTIME reads at first.
    pub start: Start,
    /// The processor that guests are shown.
    pub cpu: Choice,
    /// Carry out instructions that the host's processor lacks.
    pub emulate_missing: bool,
    /// How many CPUs they have; none: as many as uvm.
    pub cpus: Option<u32>,
    /// Have all that happens follow from this.
    pub seed: Option<u64>,
    /// What the command is sent instead of SIGTERM.
    pub stop_signal: Option<i32>,
    /// Kill the guest after this long, by the host's clock.
    pub timeout: Option<Duration>,
    /// Note what the guest does, for a report.
    pub report: bool,
    /// Report every syscall.
    pub trace: Option<TraceTo>,
    /// Print counts of what the guest did at its end.
    pub stats: bool,
}

/// Who the first process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// The guest's root.
    Root,
    /// `USER[:GROUP]`, names of the guest or numbers.
    Named(String),
    /// Whoever runs uvm, with the same groups.
    Caller,
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

/// `--trace[=FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTo {
    /// Standard error.
    Stderr,
    /// A host file.
    File(PathBuf),
}
