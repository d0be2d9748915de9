//! What the integration tests share: the root file system, running commands against a deadline, comparing a guest with
//! the same command run natively, and terminals.
//!
//! Each test crate uses a part of this, hence no warnings about the rest.
#![allow(dead_code)]

pub(crate) mod images;
pub(crate) mod normalise;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod registry;
pub(crate) mod scenario;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// The program under test.
pub(crate) const UVM: &str = env!("CARGO_BIN_EXE_uvm");

/// An empty directory of this test's own.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!(
        "{name}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(env!("CARGO_CRATE_NAME"))
        .join(unique);
    std::fs::create_dir_all(&path).expect("create a scratch directory");
    path
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The path of a file of this directory or a neighbour of it.
pub(crate) fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The Debian root file system, made on the first use (see `tests/rootfs/make`).
pub(crate) fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let made = Command::new(test_file("rootfs/make"))
            .output()
            .expect("run tests/rootfs/make");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        PathBuf::from(
            String::from_utf8(made.stdout)
                .expect("a path in UTF-8")
                .trim_end(),
        )
    })
}

/// Builds a launcher of this directory: a program that runs another one in a sandbox.
pub(crate) fn launcher(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("launchers");
    std::fs::create_dir_all(&directory).expect("create a directory");
    let program = directory.join(format!("{name}-{}", std::process::id()));
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if program.exists() {
        return program;
    }
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(test_file(&format!("support/{name}.c")))
        .status()
        .expect("run the C compiler `cc`");
    assert!(status.success(), "{name}.c does not compile");
    program
}

/// Where the outcomes of native runs are kept for those who cannot run them.
pub(crate) fn recordings() -> PathBuf {
    let root = rootfs();
    let name = root.file_name().expect("the root file system has a name");
    root.with_file_name("native").join(name)
}

/// Whether commands can be run natively in the root file system: that takes a real root.
pub(crate) fn native_runs() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        nix::unistd::geteuid().is_root()
            && Command::new("unshare")
                .args(["--mount", "--pid", "--fork", "true"])
                .output()
                .is_ok_and(|out| out.status.success())
    })
}
