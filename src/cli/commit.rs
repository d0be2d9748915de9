//! `uvm commit`, and `uvm run --commit`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};

use super::run::GuestArgs;
use super::values;
use crate::image::{self, Image, Reference, Store, Subject};
use crate::machine::{self, Changes};

/// Options of `uvm commit`.
#[derive(Args)]
pub(super) struct CommitArgs {
    /// The directory that was given to 'uvm run --overlay'
    #[arg(long, value_name = "DIR")]
    from_upper: PathBuf,

    /// The image that was run upon it
    image: PathBuf,

    /// What the new image is to be called
    #[arg(value_name = "NAME[:TAG]", value_parser = values::reference)]
    name: Reference,
}

/// A guest without a word about it.
#[derive(Parser)]
struct Plain {
    #[command(flatten)]
    guest: GuestArgs,
}

/// Make an image of what earlier guests wrote.
pub(super) fn run(args: &CommitArgs) -> Result<u8> {
    let shown = args.image.display().to_string();
    let subject = image::find(&args.image).with_context(|| format!("commit: {shown}"))?;
    let Subject::Image(image) = subject else {
        bail!("commit: {shown} is a directory; make an image of it by 'uvm image import'");
    };
    let upper = args.from_upper.display();
    let mut files =
        fs::read_dir(&args.from_upper).with_context(|| format!("commit: --from-upper {upper}"))?;
    if files.next().is_none() {
        bail!("commit: --from-upper {upper} is empty; give the directory that 'uvm run --overlay' wrote");
    }
    let plain = Plain::try_parse_from(["uvm"]).context("commit")?;
    let mut options = plain.guest.options(args.image.clone(), Vec::new())?;
    let image = Arc::new(image);
    options.image = Some(image.clone());
    options.overlay = Some(args.from_upper.clone());
    let committed =
        machine::changes(&options).and_then(|changes| store(&image, &changes, &args.name, "uvm commit"));
    let digest = committed.with_context(|| format!("commit: {}", args.name))?;
    println!("{} sha256:{digest}", args.name);
    Ok(0)
}

/// Put an image with these changes into the store. Returns the digest of its manifest.
pub(super) fn store(image: &Image, changes: &Changes, name: &Reference, by: &str) -> Result<String> {
    let latest = image::epoch()?;
    let store = Store::open()?;
    image::commit(&store, image, name, by, &mut |out| changes.export(latest, out))
}
