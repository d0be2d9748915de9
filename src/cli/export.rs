//! `uvm export`.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::output::Output;
use crate::image::pack::Packer;
use crate::image::{self, Subject};

/// Options of `uvm export`.
#[derive(Args)]
pub(super) struct ExportArgs {
    /// The image: a file, a layout, or a name in the store
    image: PathBuf,

    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Write the files of all layers together. No time is later than the variable SOURCE_DATE_EPOCH says.
pub(super) fn run(args: &ExportArgs) -> Result<u8> {
    let shown = args.image.display().to_string();
    let subject = image::find(&args.image).with_context(|| format!("export: {shown}"))?;
    let Subject::Image(image) = subject else {
        bail!("export: {shown} is a directory and no image; use tar");
    };
    let latest = image::epoch()?;
    if let Some(path) = &args.output
        && is_same(path, &args.image)
    {
        bail!("export: -o {}: it is the image itself", path.display());
    }
    let root = image
        .file_system(0)
        .with_context(|| format!("export: {shown}"))?
        .root();
    let write = |out: &mut dyn Write| -> io::Result<()> {
        let mut packer = Packer::new(out, latest);
        packer.tree(&root, &|_| false)?;
        packer.finish()
    };
    match &args.output {
        Some(path) => {
            let written = Output::begin(path).and_then(|output| output.write(write));
            written.with_context(|| format!("export: -o {}", path.display()))?;
        }
        None => {
            let stdout = io::stdout().lock();
            if stdout.is_terminal() {
                bail!("export: an archive is nothing for a terminal; use -o FILE or redirect stdout");
            }
            write(&mut BufWriter::new(stdout)).with_context(|| format!("export: {shown}"))?;
        }
    }
    Ok(0)
}

/// Whether two paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let key = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    key(one).is_some_and(|one| key(other) == Some(one))
}
