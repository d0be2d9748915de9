//! `uvm image`: the store of images.

use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::Output;
use super::{EXIT_FAILURE, to_stdout, values};
use crate::image::{self, Details, Entry, Reference, Store};

/// What can be done with images.
#[derive(Subcommand)]
pub(super) enum ImageVerb {
    /// Bring an image, or the directory of a root file system, into the store
    Import {
        /// A tar archive, a squashfs, erofs or ext4 file, an OCI layout or archive, what `docker save` wrote, or a directory: what is mounted below it
        /// is left out, and uvm's own store
        path: PathBuf,
        /// What it is to be called [default: what it is called there]
        #[arg(value_name = "NAME[:TAG]", value_parser = values::reference)]
        name: Option<Reference>,
    },
    /// Bring an image from a registry into the store
    #[cfg(feature = "registry")]
    Pull(super::pull::PullArgs),
    /// List the images
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print all about images as JSON
    Inspect {
        /// Names, with a tag or digest
        #[arg(required = true, value_name = "NAME", value_parser = values::reference)]
        names: Vec<Reference>,
    },
    /// Remove images by their names, and what no other image needs
    Rm {
        /// Names, with a tag or digest
        #[arg(required = true, value_name = "NAME", value_parser = values::reference)]
        names: Vec<Reference>,
    },
    /// Remove what no image needs, and cached layers of images that are not in the store
    Prune,
    /// Write an image to an OCI archive, or a layout
    Export {
        /// Its name
        #[arg(value_parser = values::reference)]
        name: Reference,
        /// Where to: a file, - for stdout, or with --layout a directory
        path: PathBuf,
        /// Make a directory
        #[arg(long)]
        layout: bool,
    },
}

/// Do it.
pub(super) fn run(verb: ImageVerb) -> Result<u8> {
    match verb {
        ImageVerb::Import { path, name } => {
            let done = Store::open().and_then(|store| image::import(&store, &path, name.as_ref()));
            let (name, digest) = done.with_context(|| format!("image: import {}", path.display()))?;
            println!("{name} sha256:{digest}");
            Ok(0)
        }
        #[cfg(feature = "registry")]
        ImageVerb::Pull(args) => super::pull::run(args),
        ImageVerb::Ls { json } => ls(json),
        ImageVerb::Inspect { names } => inspect(&names),
        ImageVerb::Rm { names } => rm(&names),
        ImageVerb::Prune => {
            let collected = Store::open().and_then(|store| store.prune());
            let collected = collected.context("image: prune")?;
            println!(
                "{} files, {} removed",
                collected.files,
                shown_size(collected.bytes)
            );
            Ok(0)
        }
        ImageVerb::Export { name, path, layout } => {
            export(&name, &path, layout).with_context(|| format!("image: export {name}"))?;
            Ok(0)
        }
    }
}

fn ls(as_json: bool) -> Result<u8> {
    let mut status = 0;
    let images = |store: &Store| -> Result<Vec<(Entry, Option<Details>)>> {
        let mut found = Vec::new();
        for image in store.images()? {
            // A damaged image has a name all the same.
            let details = store.details(&image).inspect_err(|error| {
                let name = image.reference.as_ref().map(Reference::to_string);
                eprintln!(
                    "uvm: image: ls: {}: {error:#}",
                    name.as_deref().unwrap_or("an image without a name")
                );
                status = EXIT_FAILURE;
            });
            let details = details.ok();
            found.push((image, details));
        }
        Ok(found)
    };
    let images = Store::existing().as_ref().map(images).transpose();
    let images = images.context("image: ls")?.unwrap_or_default();
    to_stdout(|out| {
        if as_json {
            let all: Vec<Value> = images
                .iter()
                .map(|(image, details)| row(image, details.as_ref()))
                .collect();
            serde_json::to_writer_pretty(&mut *out, &all)?;
            writeln!(out)?;
            return Ok(status);
        }
        let rows = images.iter().map(|(image, details)| {
            let row = row(image, details.as_ref());
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            let digest = text("Digest");
            [
                text("Repository"),
                text("Tag"),
                digest.get(7..19).unwrap_or("-").to_owned(),
                text("Created").get(..10).unwrap_or("-").to_owned(),
                row["Size"].as_u64().map_or("-".to_owned(), shown_size),
            ]
        });
        let mut table = vec![["NAME", "TAG", "DIGEST", "CREATED", "SIZE"].map(str::to_owned)];
        table.extend(rows);
        let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..4).map(width).collect();
        for [name, tag, digest, created, size] in &table {
            let [a, b, c, d] = [widths[0], widths[1], widths[2], widths[3]];
            writeln!(out, "{name:a$}  {tag:b$}  {digest:c$}  {created:d$}  {size}")?;
        }
        Ok(status)
    })
}

/// What is said of an image in a list, under docker's names.
fn row(image: &Entry, details: Option<&Details>) -> Value {
    let name = image.reference.as_ref();
    let config = details.map_or(&Value::Null, |details| &details.config);
    let manifest = details.map_or(&Value::Null, |details| &details.manifest);
    json!({
        "Repository": name.map(|name| &name.name),
        "Tag": name.and_then(|name| name.tag.as_ref()),
        "Digest": image.descriptor["digest"],
        "ID": manifest["config"]["digest"],
        "Created": config["created"],
        "Size": details.map(|details| details.size),
    })
}

fn inspect(names: &[Reference]) -> Result<u8> {
    let store = Store::open().context("image: inspect")?;
    let look = |name: &Reference| -> Result<Value> {
        let entry = store.get(name)?;
        let details = store.details(&entry)?;
        let config = &details.config;
        let digest = format!("{}@sha256:{}", name.name, entry.digest()?);
        let tags = entry.reference.iter().filter(|name| name.tag.is_some());
        Ok(json!({
            "Id": details.manifest["config"]["digest"],
            "RepoTags": tags.map(Reference::to_string).collect::<Vec<_>>(),
            "RepoDigests": [digest],
            "Created": config["created"],
            "Author": config["author"].as_str().unwrap_or_default(),
            "Architecture": config["architecture"],
            "Os": config["os"],
            "Size": details.size,
            "Config": config["config"],
            "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
            "History": config["history"],
            "Manifest": details.manifest,
        }))
    };
    let mut found = Vec::new();
    for name in names {
        found.push(look(name).with_context(|| format!("image: inspect {name}"))?);
    }
    to_stdout(|out| {
        serde_json::to_writer_pretty(&mut *out, &found)?;
        writeln!(out).map(|()| 0)
    })
}

fn rm(names: &[Reference]) -> Result<u8> {
    let store = Store::open().context("image: rm")?;
    let (mut status, mut forgotten) = (0, 0);
    for name in names {
        match store.forget(name) {
            Ok(_) => forgotten += 1,
            Err(error) => {
                eprintln!("uvm: image: rm {name}: {error:#}");
                status = EXIT_FAILURE;
            }
        }
    }
    if forgotten == 0 {
        return Ok(status);
    }
    // What is in use now can be removed by a later one, or by `prune`. So can what a damaged image may still need.
    if let Err(error) = store.collect() {
        eprintln!("uvm: image: rm: the names are removed, their blobs are not: {error:#}");
    }
    Ok(status)
}

fn export(name: &Reference, path: &Path, layout: bool) -> Result<()> {
    let store = Store::open()?;
    let entry = store.get(name)?;
    if layout {
        return store
            .export_layout(&entry, path)
            .with_context(|| path.display().to_string());
    }
    if path.as_os_str() == "-" {
        let stdout = io::stdout().lock();
        if stdout.is_terminal() {
            bail!("an archive is nothing for a terminal; give a file or redirect stdout");
        }
        return store.export_archive(&entry, &mut BufWriter::new(stdout));
    }
    let output = Output::begin(path).with_context(|| path.display().to_string())?;
    let written = output.write(|out| store.export_archive(&entry, out));
    written.with_context(|| path.display().to_string())
}

/// A number of bytes for people.
fn shown_size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}
