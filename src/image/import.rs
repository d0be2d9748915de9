//! Images on their way into the store: from files and directories, and as a new layer upon another image.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::cache::data_directory;
use super::compressed::{expand, hex};
use super::layout::{self, Manifest};
use super::pack::Packer;
use super::store::{
    CONFIG_TYPE, Descriptor, Held, LAYER_TYPE, MANIFEST_TYPE, Store, add_layer, created_now, epoch, manifest,
    plain_config,
};
use super::{Image, Parts, Reference, Subject, find};
use crate::kernel::fs::hostfs::{self, Coherence, Exceptions, HostFs, HostFsOptions};
use crate::kernel::fs::{FileSystem, Inode};

/// An image whose blobs are in the store, but that has no name there yet.
struct Stored {
    /// Of the manifest.
    descriptor: Descriptor,
    /// The configuration as it is written.
    config: Vec<u8>,
    layers: Vec<Descriptor>,
}

/// Bring the image at a path into the store. It is called `name`, or what it is called there. A directory that is no layout
/// becomes an image of one layer.
pub fn import(store: &Store, path: &Path, name: Option<&Reference>) -> Result<(Reference, String)> {
    // Whatever is wrong with it is found before anything is stored.
    std::fs::metadata(path)?;
    let subject = find(path)?;
    let own = match &subject {
        Subject::Image(Image {
            parts: Parts::Layered(manifest),
            ..
        }) => manifest.name.as_deref().map(Reference::parse),
        _ => None,
    };
    let name = match (name, own) {
        (Some(name), _) => name.clone(),
        (None, Some(own)) => own.context("the name that it has; give it another one")?,
        (None, None) => bail!("it has no name of its own; give it one"),
    };
    check_name(&name)?;
    let held = store.hold()?;
    let stored = match subject {
        Subject::Image(image) => store_image(&held, &image, true)?,
        Subject::Directory(path) => directory(&held, &path)?,
    };
    store.name(&held, &name, &stored.descriptor)?;
    Ok((name, stored.descriptor.digest))
}

/// Fails for a name that cannot be given to a new image.
pub fn check_name(name: &Reference) -> Result<()> {
    if name.digest.is_some() {
        bail!("'{name}' has a digest; give a name or NAME:TAG");
    }
    Ok(())
}

/// Give an image one layer more, which `fill` writes, and the result a name in the store. Returns the manifest's digest.
pub fn commit(
    store: &Store,
    base: &Image,
    name: &Reference,
    by: &str,
    fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<String> {
    check_name(name)?;
    let held = store.hold()?;
    let stored = store_image(&held, base, false)?;
    let layer = held.write(None, LAYER_TYPE, fill)?;
    let mut config = layout::parse(&stored.config)?;
    add_layer(&mut config, &layer.digest, &created_now()?, by)?;
    let mut layers = stored.layers;
    layers.push(layer);
    let stored = finish(&held, config.to_string().into_bytes(), layers)?;
    store.name(&held, name, &stored.descriptor)?;
    Ok(stored.descriptor.digest)
}

/// Have all blobs of an image in the store; those that are there already are read again if `thorough`.
fn store_image(held: &Held, image: &Image, thorough: bool) -> Result<Stored> {
    match &image.parts {
        Parts::Layered(manifest) => layered(held, manifest, thorough),
        Parts::Plain(window) => plain(held, "uvm image import ARCHIVE", &mut |out| {
            io::copy(&mut window.reader(), out).map(|_| ())
        }),
        Parts::Disk => {
            let root = image.file_system(0)?.root();
            tree(held, "uvm image import FILESYSTEM", &root, &|_| false)
        }
    }
}

/// An image of the files of a directory of this machine: of what is mounted below it only the places, and nothing of uvm's own.
fn directory(held: &Held, path: &Path) -> Result<Stored> {
    let options = HostFsOptions {
        dev: 0,
        coherence: Coherence::Fixed,
        writable: false,
        own_ids: false,
        reproducible: false,
    };
    let ours: Vec<_> = data_directory().into_iter().collect();
    let root = HostFs::open_but(
        path,
        options,
        Exceptions {
            hidden: &ours,
            ..Exceptions::default()
        },
    )
    .map_err(hostfs::explain)?
    .root();
    let device = std::fs::metadata(path)?.dev();
    let mounted = |below: &[u8]| {
        let below = path.join(OsStr::from_bytes(below));
        std::fs::symlink_metadata(below).is_ok_and(|meta| meta.dev() != device)
    };
    tree(held, "uvm image import DIRECTORY", &root, &mounted)
}

/// An image of one layer, which has the files of a directory; of directories for which `stop` says so nothing that is in them.
fn tree(held: &Held, by: &str, root: &Arc<dyn Inode>, stop: &dyn Fn(&[u8]) -> bool) -> Result<Stored> {
    let latest = epoch()?;
    plain(held, by, &mut |out| {
        let mut packer = Packer::new(out, latest);
        packer.tree(root, stop)?;
        packer.finish()
    })
}

/// An image of one layer.
fn plain(held: &Held, by: &str, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<Stored> {
    let layer = held.write(None, LAYER_TYPE, fill)?;
    let created = created_now()?;
    let mut config = plain_config(&created);
    add_layer(&mut config, &layer.digest, &created, by)?;
    finish(held, config.to_string().into_bytes(), vec![layer])
}

/// Store configuration and manifest.
fn finish(held: &Held, config: Vec<u8>, layers: Vec<Descriptor>) -> Result<Stored> {
    let described = held.put_bytes(&config, CONFIG_TYPE)?;
    let text = manifest(&described, &layers).to_string();
    Ok(Stored {
        descriptor: held.put_bytes(text.as_bytes(), MANIFEST_TYPE)?,
        config,
        layers,
    })
}

fn layered(held: &Held, manifest: &Manifest, thorough: bool) -> Result<Stored> {
    let mut layers = Vec::new();
    for (number, layer) in manifest.layers.iter().enumerate() {
        let size = layer.window.len();
        let stored = match &layer.digest {
            Some(digest) if held.has(digest, size, thorough) => Ok(Descriptor {
                media_type: layer.media_type.clone(),
                digest: digest.clone(),
                size,
            }),
            digest => held.put(&mut layer.window.reader(), digest.as_deref(), &layer.media_type),
        };
        layers.push(stored.with_context(|| format!("layer {} of {}", number + 1, manifest.layers.len()))?);
    }
    let Some((media_type, text)) = &manifest.text else {
        // What `docker save` wrote: the configuration says what the layers must be.
        check_diff_ids(manifest)?;
        return finish(held, manifest.config_text.clone(), layers);
    };
    held.put_bytes(&manifest.config_text, CONFIG_TYPE)?;
    Ok(Stored {
        descriptor: held.put_bytes(text, media_type)?,
        config: manifest.config_text.clone(),
        layers,
    })
}

/// Compare the layers with what the configuration says of them.
fn check_diff_ids(manifest: &Manifest) -> Result<()> {
    let config = layout::parse(&manifest.config_text)?;
    let Some(told) = config["rootfs"]["diff_ids"].as_array() else {
        bail!("its configuration lists no layers");
    };
    if told.len() != manifest.layers.len() {
        bail!("its configuration lists another number of layers");
    }
    for (number, (layer, told)) in manifest.layers.iter().zip(told).enumerate() {
        let mut hash = Sha256::new();
        expand(&layer.window, &mut |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        let found = format!("sha256:{}", hex(&hash.finalize()));
        if told.as_str() != Some(&found) {
            bail!("layer {} is damaged: its digest is {found}", number + 1);
        }
    }
    Ok(())
}
