//! What is done with the changes of a guest when it has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::secrets::Around;
use crate::image;
use crate::machine::{Changes, Ended};

/// Options about changes.
#[derive(Args)]
pub(super) struct ChangesArgs {
    /// Show what the command changed: a line each, a patch in git's format, or JSON
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "stat")]
    diff: Option<DiffForm>,

    /// Write what --diff shows to a file instead of stdout
    #[arg(long, value_name = "FILE", requires = "diff")]
    diff_to: Option<PathBuf>,

    /// Carry the changes out on this machine if the command succeeded: all, or those at and below PATH
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    apply: Vec<OsString>,

    /// Write to a file as JSON what was done: programs run, files opened, sockets tried, calls refused, time and space
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Write the changes to a tar archive, as a layer of an OCI image
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DiffForm {
    Stat,
    Patch,
    Json,
}

impl ChangesArgs {
    /// Whether it is to be noted what the guest does.
    pub(super) fn wants_report(&self) -> bool {
        self.report.is_some()
    }

    /// Do it. Returns the exit status: the command's, or a failure if a change could not be carried out.
    pub(super) fn finish(&self, ended: &Ended, around: &Around) -> Result<u8> {
        if let Some(path) = &self.report {
            write_file(path, |out| ended.write_report(out))
                .with_context(|| format!("do: --report {}", path.display()))?;
        }
        if self.diff.is_none() && self.apply.is_empty() && self.export.is_none() {
            return Ok(ended.status);
        }
        let Some(changes) = ended.changes().context("do")? else {
            return Ok(ended.status);
        };
        if let Some(form) = self.diff {
            self.show(&changes, form)?;
        }
        if let Some(path) = &self.export {
            let latest = image::epoch()?;
            write_file(path, |out| changes.export(latest, out))
                .with_context(|| format!("do: --export {}", path.display()))?;
        }
        if !self.apply.is_empty() {
            return self.apply(&changes, ended.status, around);
        }
        Ok(ended.status)
    }

    fn show(&self, changes: &Changes, form: DiffForm) -> Result<()> {
        let write = |out: &mut dyn Write| match form {
            DiffForm::Stat => changes.write_stat(out),
            DiffForm::Patch => changes.write_patch(out),
            DiffForm::Json => changes.write_json(out),
        };
        if let Some(path) = &self.diff_to {
            return write_file(path, write).with_context(|| format!("do: --diff-to {}", path.display()));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            // A reader that has seen enough, such as head(1), is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("do: --diff"),
            _ => Ok(()),
        }
    }

    fn apply(&self, changes: &Changes, status: u8, around: &Around) -> Result<u8> {
        if status != 0 {
            eprintln!("uvm: do: --apply: the command failed with status {status}; nothing was carried out");
            return Ok(status);
        }
        let paths = self.apply.iter();
        let mut chosen: Vec<PathBuf> = paths.map(|path| around.absolute(Path::new(path))).collect();
        if self.apply.iter().any(|path| path.is_empty()) {
            chosen.clear();
        }
        let refused = changes.apply(Path::new("/"), &chosen).context("do: --apply")?;
        for one in &refused {
            eprintln!("uvm: do: --apply: {}: {}; left as it is", one.path, one.reason);
        }
        Ok(if refused.is_empty() {
            status
        } else {
            super::EXIT_FAILURE
        })
    }
}

/// Write a file of the user's.
fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    write(&mut out).and_then(|()| out.flush())
}
