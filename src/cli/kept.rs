//! What `uvm do --keep` kept: `$XDG_DATA_HOME/uvm/kept/NAME`, and `uvm kept`, which lists and removes it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::fs::{FlockOperation, flock};

use super::EXIT_FAILURE;
use crate::image::data_directory;

/// Options of `uvm kept`.
#[derive(Args)]
pub(super) struct KeptArgs {
    #[command(subcommand)]
    verb: Option<KeptVerb>,
}

#[derive(Subcommand)]
enum KeptVerb {
    /// Print the names
    Ls,
    /// Remove what was kept under these names
    Rm {
        /// Names
        #[arg(required = true, value_parser = name)]
        names: Vec<String>,
    },
}

/// Parse a name.
pub(super) fn name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(
            "a name has 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter, digit or '_'"
                .into(),
        )
    }
}

/// Where all of it is.
fn directory() -> Result<PathBuf> {
    let data = data_directory().context("neither XDG_DATA_HOME nor HOME says where to keep something")?;
    Ok(data.join("kept"))
}

/// The directory for a name that is not taken; the one above it is made.
pub(super) fn new(name: &str) -> Result<PathBuf> {
    let context = || format!("do: --keep {name}");
    let directory = directory().with_context(context)?;
    let path = directory.join(name);
    if path.symlink_metadata().is_ok() {
        bail!(
            "do: --keep {name}: something is kept under this name; go on with --resume {name}, or 'uvm kept rm {name}'"
        );
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(context)?;
    Ok(path)
}

/// The directory of a name under which something was kept.
pub(super) fn find(name: &str) -> Result<PathBuf> {
    let path = directory()
        .with_context(|| format!("do: --resume {name}"))?
        .join(name);
    if !path.is_dir() {
        bail!("do: --resume {name}: nothing is kept under this name; 'uvm kept' lists the names");
    }
    Ok(path)
}

/// List or remove.
pub(super) fn run(args: &KeptArgs) -> Result<u8> {
    match &args.verb {
        None | Some(KeptVerb::Ls) => list().context("kept")?,
        Some(KeptVerb::Rm { names }) => {
            let mut status = 0;
            for name in names {
                // What cannot be removed does not keep the others.
                if let Err(error) = remove(name) {
                    eprintln!("uvm: kept: rm {name}: {error:#}");
                    status = EXIT_FAILURE;
                }
            }
            return Ok(status);
        }
    }
    Ok(0)
}

fn list() -> Result<()> {
    let mut names = Vec::new();
    match fs::read_dir(directory()?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                names.extend(
                    entry?
                        .file_name()
                        .into_string()
                        .ok()
                        .filter(|text| name(text).is_ok()),
                );
            }
        }
    }
    names.sort();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Remove what was kept under a name.
pub(super) fn remove(name: &str) -> Result<()> {
    let path = directory()?.join(name);
    if !path.is_dir() {
        bail!("nothing is kept under this name");
    }
    // One that was begun and never made has no lock.
    let lock = File::open(path.join("lock"));
    if let Ok(lock) = &lock
        && flock(lock, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
    {
        bail!("a guest is using it");
    }
    Ok(fs::remove_dir_all(&path)?)
}
