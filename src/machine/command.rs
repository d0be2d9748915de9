//! What the first process runs: command, environment, working directory.

use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;

use super::user::Identity;
use super::{Options, files};
use crate::kernel::Kernel;
use crate::kernel::fs::FileType;

/// Where commands are looked for unless the environment says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A failure to start the command, with the status that shells and docker use.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct CommandError {
    pub(super) status: u8,
    pub(super) message: String,
}

/// Status for a command that was found and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Status for a command that was not found.
const NOT_FOUND: u8 = 127;

/// The environment, in the order docker gives it: defaults, then what the user said.
pub(super) fn environment(options: &Options, who: &Identity, terminal: bool) -> Vec<Vec<u8>> {
    let mut env: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (b"PATH".to_vec(), DEFAULT_PATH.into()),
        (b"HOSTNAME".to_vec(), options.hostname.clone().into_bytes()),
        (b"HOME".to_vec(), who.home.clone().into_bytes()),
    ];
    if terminal {
        let term = std::env::var_os("TERM").map_or(b"xterm".to_vec(), |t| t.as_bytes().to_vec());
        env.push((b"TERM".to_vec(), term));
    }
    for (name, value) in &options.env {
        let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        }
    }
    env.into_iter()
        .map(|(name, value)| [name, value].join(&b'='))
        .collect()
}

/// Program and arguments.
pub(super) fn arguments(options: &Options, who: &Identity) -> Vec<Vec<u8>> {
    if options.command.is_empty() {
        return vec![
            who.shell
                .clone()
                .unwrap_or_else(|| "/bin/sh".to_owned())
                .into_bytes(),
        ];
    }
    options
        .command
        .iter()
        .map(|arg| arg.as_bytes().to_vec())
        .collect()
}

/// Find a command as a shell would: by PATH unless its name has a slash.
pub(super) fn find(
    kernel: &Kernel,
    name: &[u8],
    env: &[Vec<u8>],
    workdir: &[u8],
) -> Result<Vec<u8>, CommandError> {
    if name.contains(&b'/') {
        return Ok(if name[0] == b'/' {
            name.to_vec()
        } else {
            [workdir, b"/", name].concat()
        });
    }
    let path = env
        .iter()
        .find_map(|v| v.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH.as_bytes());
    let mut seen = None;
    for dir in path.split(|&b| b == b':') {
        let dir = if dir.is_empty() { workdir } else { dir };
        let candidate = [dir, b"/", name].concat();
        let Ok(found) = files::lookup(kernel, &candidate) else {
            continue;
        };
        let mode = found.inode().metadata().map_or(0, |m| m.mode);
        if found.inode().file_type() == FileType::Regular {
            if mode & 0o111 != 0 {
                return Ok(candidate);
            }
            seen = Some(candidate);
        }
    }
    let name = String::from_utf8_lossy(name);
    Err(match seen {
        Some(path) => CommandError {
            status: NOT_EXECUTABLE,
            message: format!("{}: not executable", String::from_utf8_lossy(&path)),
        },
        None => CommandError {
            status: NOT_FOUND,
            message: format!(
                "{name}: not found in the guest's PATH ({})",
                String::from_utf8_lossy(path)
            ),
        },
    })
}

/// What a failed exec means to the user.
pub(super) fn exec_error(path: &[u8], errno: Errno) -> CommandError {
    let shown = String::from_utf8_lossy(path);
    let (status, why) = match errno {
        Errno::ENOENT => (
            NOT_FOUND,
            "no such file in the guest, or its interpreter is missing",
        ),
        Errno::EACCES => (NOT_EXECUTABLE, "not executable for this user"),
        Errno::ENOEXEC => (
            NOT_EXECUTABLE,
            "not a program for this machine (x86-64 ELF or script)",
        ),
        Errno::EISDIR => (NOT_EXECUTABLE, "a directory"),
        Errno::ENOTDIR => (NOT_FOUND, "a part of the path is not a directory"),
        Errno::ELIBBAD => (
            NOT_EXECUTABLE,
            "its interpreter is not a program for this machine",
        ),
        other => (NOT_EXECUTABLE, other.desc()),
    };
    CommandError {
        status,
        message: format!("{shown}: {why}"),
    }
}

/// The working directory, made if it is missing as docker does.
pub(super) fn workdir(kernel: &Kernel, options: &Options) -> Result<crate::kernel::fs::Path> {
    let Some(dir) = &options.workdir else {
        return Ok(kernel.vfs.mounts.root());
    };
    if dir.as_bytes().first() != Some(&b'/') {
        bail!("-w '{}' is no absolute path in the guest", dir.display());
    }
    files::make_dirs(kernel, dir.as_bytes())
        .map_err(|errno| anyhow!("-w '{}': {}", dir.display(), errno.desc()))
}
