//! The store of images: `$XDG_DATA_HOME/uvm/images`.
//!
//! It is a layout of the OCI image specification, so other programs can read it:
//!
//! | file | |
//! |---|---|
//! | `oci-layout` | version of the layout |
//! | `index.json` | the images: a descriptor of each manifest, its name in the annotation `org.opencontainers.image.ref.name` |
//! | `blobs/sha256/DIGEST` | manifests, configurations, layers; each was checked when it came in, and is never written again |
//! | `partial/` | blobs on their way in that need a name meanwhile; a pull goes on with them |
//! | `lock` | locked shared while blobs are added or looked for, exclusively while some are removed |
//! | `index.lock` | locked exclusively while `index.json` is replaced |
//!
//! A blob is written to a file without a name, which gets one when it is whole and on the disk; after all its blobs an image gets
//! its name by a rename of a new `index.json`. So a kill at any moment leaves at most blobs that nothing refers to, which
//! [`Store::prune`] removes. Locks are flock(2)'s and end with their process.

mod blobs;
mod documents;
mod export;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::Access;
use serde_json::{Value, json};

use super::cache::{self, Cache, data_directory, make_directory};
use super::layout;
use super::reference::Reference;
use super::{Image, layered};
pub use blobs::Held;
pub(super) use documents::{CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, add_layer, manifest, plain_config};
pub use documents::{Descriptor, created_now, epoch};

/// The annotation that names an image.
const NAME_KEY: &str = "org.opencontainers.image.ref.name";

/// Longest `index.json`, in bytes.
const INDEX_MAX: u64 = 64 << 20;

/// The store of a user.
#[derive(Clone)]
pub struct Store {
    directory: PathBuf,
}

/// An image of the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name; none if another program left it out, or gave one that is none here.
    pub reference: Option<Reference>,
    /// What describes its manifest, with everything that was said there.
    pub descriptor: Value,
}

/// What the documents of an image say.
pub struct Details {
    /// Its manifest.
    pub manifest: Value,
    /// Its configuration.
    pub config: Value,
    /// Bytes of its layers as they are stored.
    pub size: u64,
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// The caller's, made if it is missing.
    pub fn open() -> Result<Store> {
        let data = data_directory().context("there is no place for images: set HOME or XDG_DATA_HOME")?;
        Store::at(&data.join("images"))
    }

    /// The caller's, if it is there.
    pub fn existing() -> Option<Store> {
        let directory = data_directory()?.join("images");
        let missing = fs::metadata(directory.join("index.json")).err();
        // One that is there and broken is told by who reads it.
        match missing.map(|error| error.kind()) {
            Some(io::ErrorKind::NotFound) => None,
            _ => Some(Store { directory }),
        }
    }

    /// One in this directory, made if it is missing.
    pub fn at(directory: &Path) -> Result<Store> {
        let store = Store {
            directory: directory.to_owned(),
        };
        store
            .make()
            .with_context(|| format!("making the store {}", directory.display()))?;
        Ok(store)
    }

    fn make(&self) -> Result<()> {
        for part in ["blobs/sha256", "partial"] {
            make_directory(&self.directory.join(part))?;
        }
        let missing = |name: &str| !self.directory.join(name).is_file();
        if missing("index.json") || missing("oci-layout") {
            let _lock = self.lock("index.lock", true)?;
            if missing("oci-layout") {
                self.replace("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
            }
            if missing("index.json") {
                self.replace("index.json", &index_of(Vec::new()))?;
            }
        }
        Ok(())
    }

    /// Fails if the caller cannot add to it.
    pub fn check_writable(&self) -> Result<()> {
        for part in ["", "blobs/sha256", "partial"] {
            let directory = self.directory.join(part);
            rustix::fs::access(&directory, Access::WRITE_OK)
                .with_context(|| format!("writing to {}", directory.display()))?;
        }
        Ok(())
    }

    /// Its images, by name.
    pub fn images(&self) -> Result<Vec<Entry>> {
        let path = self.directory.join("index.json");
        let read = || -> Result<Vec<Entry>> {
            let mut text = Vec::new();
            File::open(&path)?.take(INDEX_MAX + 1).read_to_end(&mut text)?;
            if text.len() as u64 > INDEX_MAX {
                bail!("it is longer than {} MiB", INDEX_MAX >> 20);
            }
            let index: Value = serde_json::from_slice(&text)?;
            let all = index["manifests"].as_array().context("it lists no manifests")?;
            Ok(all.iter().cloned().map(Entry::new).collect())
        };
        let mut images =
            read().with_context(|| format!("the store's index {} is damaged", path.display()))?;
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// The image of this name; with a digest, that one if it is there under the same repository.
    pub fn find(&self, wanted: &Reference) -> Result<Option<Entry>> {
        let fits = |entry: &Entry| {
            let Some(name) = &entry.reference else {
                return false;
            };
            name.name == wanted.name
                && match &wanted.digest {
                    Some(digest) => entry.has_digest(digest),
                    None => name.tag == wanted.tag && name.digest.is_none(),
                }
        };
        Ok(self.images()?.into_iter().find(fits))
    }

    /// The image of this name, or an error that says that there is none.
    pub fn get(&self, wanted: &Reference) -> Result<Entry> {
        let found = self.find(wanted)?;
        found.with_context(|| format!("there is no image {wanted} in the store; 'uvm image ls' lists them"))
    }

    /// Read what an image consists of.
    pub fn image(&self, entry: &Entry) -> Result<Image> {
        let _held = self.hold()?;
        let manifest = self.manifest(entry)?;
        layered(manifest, &Cache::open())
    }

    /// What the documents of an image say.
    pub fn details(&self, entry: &Entry) -> Result<Details> {
        let _held = self.hold()?;
        let manifest = self.manifest(entry)?;
        let (_, text) = manifest.text.context("it has no manifest")?;
        let sizes = manifest.layers.iter().map(|layer| layer.window.len());
        Ok(Details {
            manifest: layout::parse(&text)?,
            config: layout::parse(&manifest.config_text)?,
            size: sizes.sum(),
        })
    }

    /// Manifest, configuration and layers of an image. Hold the store meanwhile.
    pub(super) fn manifest(&self, entry: &Entry) -> Result<layout::Manifest> {
        let source = layout::Source::Directory(self.directory.clone());
        layout::of_descriptor(&source, &entry.descriptor)
    }

    /// Give a manifest that is in the store a name, which may have been another's.
    pub fn name(&self, held: &Held, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        held.sync()?;
        let mut value = descriptor.to_json();
        value["annotations"] = json!({ NAME_KEY: reference.to_string() });
        let entry = Entry::new(value);
        self.change(&mut |images| {
            images.retain(|image| image.reference.as_ref() != Some(reference));
            images.push(entry.clone());
            Ok(())
        })
    }

    /// Take a name away from its image.
    pub fn forget(&self, wanted: &Reference) -> Result<()> {
        self.change(&mut |images| {
            let before = images.len();
            let digest = wanted.digest.as_ref();
            images.retain(|image| {
                let Some(name) = &image.reference else {
                    return true;
                };
                let same = match digest {
                    Some(digest) => image.has_digest(digest),
                    None => name.tag == wanted.tag && name.digest.is_none(),
                };
                name.name != wanted.name || !same
            });
            match images.len() < before {
                true => Ok(()),
                false => bail!("there is no image {wanted} in the store; 'uvm image ls' lists them"),
            }
        })
    }

    /// Change the list of images; what `change` fails with leaves it as it is.
    fn change(&self, change: &mut dyn FnMut(&mut Vec<Entry>) -> Result<()>) -> Result<()> {
        let _lock = self.lock("index.lock", true)?;
        let mut images = self.images()?;
        change(&mut images)?;
        let descriptors = images.into_iter().map(|image| image.descriptor).collect();
        self.replace("index.json", &index_of(descriptors))
    }

    /// Replace a document at once. The caller has `index.lock`.
    fn replace(&self, name: &str, document: &Value) -> Result<()> {
        let path = self.directory.join(name);
        let new = self.directory.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(document.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        let done = write().with_context(|| format!("writing {}", path.display()));
        if done.is_err() {
            // It holds room on a disk that is perhaps full.
            let _ = fs::remove_file(&new);
        }
        done
    }

    /// Lock one of the store's files, waiting for others.
    fn lock(&self, name: &str, exclusive: bool) -> Result<File> {
        let file = self.open_lock(name)?;
        cache::lock(&file, exclusive).context("locking the store")?;
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        let path = self.directory.join(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        // Who cannot write to the store locks it all the same: readers keep others from removing what they read.
        let opened = options.open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => File::open(&path),
            // Where there is none and none can be made, the directory stands in for it.
            io::ErrorKind::ReadOnlyFilesystem => File::open(&path).or_else(|_| File::open(&self.directory)),
            _ => Err(error),
        });
        opened.with_context(|| format!("opening {}", path.display()))
    }
}

impl Collected {
    fn add(&mut self, other: Collected) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl Entry {
    fn new(descriptor: Value) -> Entry {
        let name = descriptor["annotations"][NAME_KEY].as_str();
        Entry {
            reference: name.and_then(|name| Reference::parse(name).ok()),
            descriptor,
        }
    }

    /// Whether this digest is its manifest's, or the one by which it was pulled: that of an index, perhaps.
    fn has_digest(&self, digest: &str) -> bool {
        let pulled = self.reference.as_ref().and_then(|name| name.digest.as_deref());
        pulled == Some(digest) || self.digest().is_ok_and(|found| found == digest)
    }

    /// Digits of the manifest's SHA-256.
    pub fn digest(&self) -> Result<String> {
        layout::digest(&self.descriptor)
    }
}

fn index_of(manifests: Vec<Value>) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
}
