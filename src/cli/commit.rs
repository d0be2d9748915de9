//! `uvm commit`, and `uvm run --commit`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser};

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
    // No guest is run: what the environment says of platforms is nothing to it.
    let command = Plain::command().mut_arg("platform", |platform| platform.env(Resettable::Reset));
    let plain = Plain::from_arg_matches(&command.try_get_matches_from(["uvm"])?)?;
    let options = plain.guest.options(args.image.clone(), Vec::new());
    let mut options = options.context("commit")?;
    let image = Arc::new(image);
    options.image = Some(image.clone());
    options.overlay = Some(args.from_upper.clone());
    let committed = Target::find(&args.name).and_then(|target| {
        let changes = machine::changes(&options)?;
        target.store(&image, &changes, &args.name, "uvm commit")
    });
    let digest = committed.with_context(|| format!("commit: {}", args.name))?;
    println!("{} sha256:{digest}", args.name);
    Ok(0)
}

/// Where a new image goes.
pub(super) struct Target {
    store: Store,
    /// No time in its layer is later than this.
    latest: Option<i64>,
}

impl Target {
    /// Find out whether there can be an image of this name: before a guest works for it.
    pub(super) fn find(name: &Reference) -> Result<Target> {
        image::check_name(name)?;
        let store = Store::open()?;
        store.check_writable()?;
        Ok(Target {
            store,
            latest: image::epoch()?,
        })
    }

    /// Put an image with these changes into the store. Returns the digest of its manifest.
    pub(super) fn store(
        &self,
        image: &Image,
        changes: &Changes,
        name: &Reference,
        by: &str,
    ) -> Result<String> {
        let mut fill = |out: &mut dyn Write| changes.export(self.latest, out);
        image::commit(&self.store, image, name, by, &mut fill)
    }
}
