//! Images: what is in their archives or file systems, read where it is.
//!
//! [`open`] finds out what a path is, and makes of it a tree of files for [`crate::kernel::fs::imagefs`] and a [`Config`]; what is a
//! file system already is left to [`crate::kernel::fs::diskfs`]. An archive is hostile input: nothing of it is ever used as a path of the host, numbers are checked, and memory is bounded.

mod archive;
mod blob;
mod cache;
mod compressed;
mod import;
mod index;
mod layout;
pub mod pack;
mod reference;
#[cfg(feature = "registry")]
mod registry;
mod store;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use crate::kernel::fs::FileSystem;
use crate::kernel::fs::diskfs::{self, BadImage, Medium};
use crate::kernel::fs::imagefs::{Attributes, Blob, Builder, Contents, ImageFs, Tree};
use crate::platform::HostFile;
use archive::{Found, Kind, NoArchive};
use blob::Window;
use cache::Cache;
pub use cache::data_directory;
use compressed::Growth;
pub use import::{check_name, commit, import};
pub use layout::Config;
pub use reference::Reference;
#[cfg(feature = "registry")]
pub use registry::{PullOptions, pull};
pub use store::{Collected, Details, Entry, Store, epoch};

/// Most bytes of names, link texts and extended attributes of one image.
const TEXT_MAX: u64 = 1 << 30;

/// An image.
pub struct Image {
    files: Files,
    /// How it is to be run; nothing is said by a plain archive.
    pub config: Config,
    /// What it was made from.
    parts: Parts,
}

/// The files of an image.
enum Files {
    /// Those of archives.
    Archives {
        tree: Arc<Tree>,
        /// Where their contents are.
        blobs: Vec<Blob>,
    },
    /// Those of a file system.
    Disk(Arc<dyn Medium>, diskfs::Kind),
}

impl Image {
    /// Its files, under this device number.
    pub fn file_system(&self, dev: u64) -> Result<Arc<dyn FileSystem>, BadImage> {
        match &self.files {
            Files::Archives { tree, blobs } => Ok(ImageFs::new(tree.clone(), blobs.clone(), dev)),
            Files::Disk(medium, kind) => diskfs::open(medium.clone(), *kind, dev, true),
        }
    }

    /// What its files are, wherever it is: the digests of its layers, if they have any.
    pub fn digests(&self) -> Option<Vec<String>> {
        match &self.parts {
            Parts::Layered(manifest) => manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
            Parts::Plain(_) | Parts::Disk => None,
        }
    }
}

/// What an image is made from.
enum Parts {
    /// A file system.
    Disk,
    /// An archive that is not compressed.
    Plain(Window),
    /// Layers.
    Layered(Box<layout::Manifest>),
}

/// What a user means by ROOTFS or IMAGE.
pub enum Subject {
    /// The directory of a root file system.
    Directory(PathBuf),
    /// An image.
    Image(Image),
}

/// There is no image of this name in the store.
#[derive(Debug, thiserror::Error)]
#[error("there is no such file or directory, and no image {0} in the store")]
pub struct NotStored(pub Reference);

/// Find out what a user means: a path if there is one, else the name of an image in the store.
pub fn find(text: &Path) -> Result<Subject> {
    match std::fs::metadata(text) {
        Ok(kind) if kind.is_dir() && !layout::is_layout(text) => Ok(Subject::Directory(text.to_owned())),
        Ok(kind) if !kind.is_dir() && !kind.is_file() => {
            bail!("it is neither a directory nor the file of an image")
        }
        Ok(_) => Ok(Subject::Image(open(text)?)),
        Err(error) => match text.to_str().map(Reference::parse) {
            Some(Ok(reference)) => named(&reference),
            _ => Err(error.into()),
        },
    }
}

/// An image of the store; there is nothing at a path of this name.
fn named(reference: &Reference) -> Result<Subject> {
    let store = Store::existing();
    let found = store.as_ref().map(|store| store.find(reference)).transpose()?;
    match (&store, found.flatten()) {
        (Some(store), Some(entry)) => Ok(Subject::Image(store.image(&entry)?)),
        _ => Err(NotStored(reference.clone()).into()),
    }
}

/// Read what the image at a path consists of.
pub fn open(path: &Path) -> Result<Image> {
    let cache = Cache::open();
    if path.is_dir() {
        let source = layout::Source::Directory(path.to_owned());
        return layered(layout::read(&source)?, &cache);
    }
    let file = HostFile::new(File::open(path)?.into())?;
    single(&Window::whole(file)?, &cache).map_err(|error| match error.is::<NoArchive>() {
        true => anyhow!("it is no tar archive, no squashfs, erofs or ext4, and no directory"),
        false => error,
    })
}

/// An image in one file.
fn single(file: &Window, cache: &Cache) -> Result<Image> {
    let whole = compressed::plain(file, None, cache, &Growth::of(file.len()))?;
    if !archive::begins(&whole)?
        && let Some(kind) = diskfs::recognise(&whole)?
    {
        return Ok(Image {
            files: Files::Disk(Arc::new(whole), kind),
            config: Config::default(),
            parts: Parts::Disk,
        });
    }
    if let Some(source) = layout::Source::archive(&whole)? {
        return layered(layout::read(&source)?, cache);
    }
    let (tree, blobs) = files(std::slice::from_ref(&whole), false, cache)?;
    Ok(Image {
        files: Files::Archives { tree, blobs },
        config: Config::default(),
        parts: Parts::Plain(whole),
    })
}

fn layered(manifest: layout::Manifest, cache: &Cache) -> Result<Image> {
    let archives = compressed::plain_layers(&manifest.layers, cache)?;
    let (tree, blobs) = files(&archives, true, cache)?;
    Ok(Image {
        files: Files::Archives { tree, blobs },
        config: manifest.config.clone(),
        parts: Parts::Layered(Box::new(manifest)),
    })
}

/// What is in archives, lowest first: by the index that was kept, or by their headers.
fn files(archives: &[Window], layered: bool, cache: &Cache) -> Result<(Arc<Tree>, Vec<Blob>)> {
    let blobs = archives.iter().map(|archive| archive.file().clone()).collect();
    let name = index::name(archives, layered)?;
    if let Some(tree) = index::find(cache, &name, archives) {
        return Ok((Arc::new(tree), blobs));
    }
    let mut making = Making::default();
    for (number, archive) in archives.iter().enumerate() {
        let added = making.add(archive, layered);
        match layered {
            true => added.with_context(|| format!("layer {} of {}", number + 1, archives.len()))?,
            false => added?,
        }
    }
    let tree = making.builder.finish();
    index::keep(cache, &name, &tree);
    Ok((Arc::new(tree), blobs))
}

/// An image of which some layers have been read.
#[derive(Default)]
struct Making {
    builder: Builder,
    archives: u32,
    /// Bytes of text so far.
    text: u64,
}

impl Making {
    /// Put one archive upon those before.
    fn add(&mut self, window: &Window, layered: bool) -> Result<()> {
        let blob = self.archives;
        if blob > 0 {
            self.builder.next_layer();
        }
        self.archives += 1;
        archive::scan(window, &mut |found| {
            self.text += found.path.len() as u64 + found.text_len();
            if self.text > TEXT_MAX {
                bail!("its names and attributes take more than {} MiB", TEXT_MAX >> 20);
            }
            let path = String::from_utf8_lossy(&found.path).into_owned();
            self.put(found, blob, layered)
                .with_context(|| format!("'{}'", path.escape_debug()))
        })
    }

    fn put(&mut self, found: Found, blob: u32, layered: bool) -> Result<()> {
        if layered && let Some(marked) = whiteout(&found.path) {
            match marked {
                Whiteout::Name(path) => self.builder.whiteout(&path)?,
                Whiteout::Opaque(path) => self.builder.opaque(path)?,
                Whiteout::Other => {}
            }
            return Ok(());
        }
        let (kind, contents) = match found.kind {
            Kind::HardLink(target) => return Ok(self.builder.hard_link(&found.path, &target)?),
            Kind::Directory => (libc::S_IFDIR, Contents::None),
            Kind::Fifo => (libc::S_IFIFO, Contents::None),
            Kind::Link(text) => (libc::S_IFLNK, Contents::Link(text.into())),
            Kind::CharDevice(number) => (libc::S_IFCHR, Contents::Device(number)),
            Kind::BlockDevice(number) => (libc::S_IFBLK, Contents::Device(number)),
            Kind::File { offset, size } => (libc::S_IFREG, Contents::Whole { blob, offset, size }),
            Kind::Sparse { size, extents } => (libc::S_IFREG, Contents::Sparse { blob, size, extents }),
        };
        let attributes = Attributes {
            mode: kind | if kind == libc::S_IFLNK { 0o777 } else { found.mode },
            uid: found.uid,
            gid: found.gid,
            mtime: found.mtime,
        };
        Ok(self
            .builder
            .put(&found.path, attributes, contents, Some(found.xattrs))?)
    }
}

/// What a name of a layer says of lower ones.
enum Whiteout<'a> {
    /// They have nothing at this path.
    Name(Vec<u8>),
    /// They have nothing in this directory.
    Opaque(&'a [u8]),
    /// Something of another overlay's own.
    Other,
}

/// By the OCI image specification.
fn whiteout(path: &[u8]) -> Option<Whiteout<'_>> {
    let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.split_at(cut);
    let hidden = name.strip_prefix(b".wh.")?;
    Some(match hidden {
        b".wh..opq" => Whiteout::Opaque(directory),
        _ if hidden.starts_with(b".wh.") || hidden.is_empty() => Whiteout::Other,
        _ => Whiteout::Name([directory, hidden].concat()),
    })
}

#[cfg(test)]
mod tests;
