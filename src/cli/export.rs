//! `uvm export`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

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
    let root = image
        .file_system(0)
        .with_context(|| format!("export: {shown}"))?
        .root();
    let write = |out: &mut dyn Write| -> io::Result<()> {
        let mut packer = Packer::new(out, latest);
        packer.tree(&root)?;
        packer.finish()
    };
    match &args.output {
        Some(path) => {
            let written = File::create(path).and_then(|file| write(&mut BufWriter::new(file)));
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
