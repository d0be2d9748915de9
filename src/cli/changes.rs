//! What is done with the changes of a guest when it has ended.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::output::Output;
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

/// The files that are written at the end. Whether they can be is known before the guest begins.
pub(super) struct Outputs {
    report: Option<Output>,
    diff: Option<Output>,
    export: Option<Output>,
    /// No time in an archive is later than this.
    latest: Option<i64>,
}

impl ChangesArgs {
    /// Open them.
    pub(super) fn outputs(&self) -> Result<Outputs> {
        let begin = |option: &str, path: &Option<PathBuf>| {
            let output = path
                .as_ref()
                .map(|path| Output::begin(path).with_context(|| format!("do: {option} {}", path.display())));
            output.transpose()
        };
        Ok(Outputs {
            report: begin("--report", &self.report)?,
            diff: begin("--diff-to", &self.diff_to)?,
            export: begin("--export", &self.export)?,
            latest: match self.export {
                Some(_) => image::epoch()?,
                None => None,
            },
        })
    }

    /// Whether it is to be noted what the guest does.
    pub(super) fn wants_report(&self) -> bool {
        self.report.is_some()
    }

    /// Do it. Returns the exit status: the command's, or a failure if a change could not be carried out.
    /// Nothing is carried out at and below `protected`.
    pub(super) fn finish(
        &self,
        ended: &Ended,
        outputs: Outputs,
        around: &Around,
        protected: &[PathBuf],
    ) -> Result<u8> {
        let mut failed = false;
        // What cannot be written is told; the rest is done all the same, or the guest's work would be gone.
        let mut done = |done: Result<()>| {
            if let Err(error) = done {
                eprintln!("uvm: {error:#}");
                failed = true;
            }
        };
        if let Some(output) = outputs.report {
            let written = output.write(|out| ended.write_report(out));
            done(written.context("do: --report"));
        }
        if self.diff.is_none() && self.apply.is_empty() && self.export.is_none() {
            return Ok(if failed { super::EXIT_FAILURE } else { ended.status });
        }
        let Some(changes) = ended.changes().context("do")? else {
            return Ok(ended.status);
        };
        if let Some(form) = self.diff {
            done(self.show(&changes, form, outputs.diff));
        }
        if let Some(output) = outputs.export {
            let written = output.write(|out| changes.export(outputs.latest, out));
            done(written.context("do: --export"));
        }
        let mut status = ended.status;
        if !self.apply.is_empty() {
            status = self.apply(&changes, status, around, protected)?;
        }
        Ok(if failed { super::EXIT_FAILURE } else { status })
    }

    fn show(&self, changes: &Changes, form: DiffForm, to: Option<Output>) -> Result<()> {
        let write = |out: &mut dyn Write| match form {
            DiffForm::Stat => changes.write_stat(out),
            DiffForm::Patch => changes.write_patch(out),
            DiffForm::Json => changes.write_json(out),
        };
        if let Some(output) = to {
            return output.write(write).context("do: --diff-to");
        }
        let mut out = BufWriter::new(io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            // A reader that has seen enough, such as head(1), is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("do: --diff"),
            _ => Ok(()),
        }
    }

    fn apply(&self, changes: &Changes, status: u8, around: &Around, protected: &[PathBuf]) -> Result<u8> {
        if status != 0 {
            eprintln!("uvm: do: --apply: the command failed with status {status}; nothing was carried out");
            return Ok(status);
        }
        let mut chosen = Vec::new();
        let mut missing = false;
        for path in self.apply.iter().filter(|path| !path.is_empty()) {
            let named = around.absolute(Path::new(path));
            // Changes are told by where they are: behind links on the way, and behind the last one or at it.
            let above = named.parent().zip(named.file_name());
            let places = [
                above.map_or(named.clone(), |(above, name)| real(above).join(name)),
                real(&named),
            ];
            if !places.iter().any(|place| changes.has(place)) {
                eprintln!("uvm: do: --apply: nothing has changed at {}", named.display());
                missing |= named.symlink_metadata().is_err();
            }
            chosen.extend(places);
        }
        if self.apply.iter().any(|path| path.is_empty()) {
            chosen.clear();
        }
        let refused = changes
            .apply(Path::new("/"), &chosen, protected)
            .context("do: --apply")?;
        for one in &refused {
            eprintln!("uvm: do: --apply: {}: {}", one.path, one.reason);
        }
        Ok(if refused.is_empty() && !missing {
            status
        } else {
            super::EXIT_FAILURE
        })
    }
}

/// Where a path leads when links are followed as far as it is there.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.components().chain(rest.components()).collect();
        }
    }
    path.to_owned()
}
