//! Blobs: coming in, being looked for, and being removed.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, FlockOperation, flock, linkat};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::documents::Descriptor;
use super::{Collected, Store};
use crate::image::cache::{Cache, unnamed};
use crate::image::compressed::{compare, drain, hex, sha256};
use crate::image::layout::{self, INDEX_DEPTH};
use crate::image::reference::is_sha256;

/// While this lives nothing is removed from the store.
pub struct Held {
    store: Store,
    _lock: File,
}

impl Store {
    /// Keep others from removing blobs.
    pub fn hold(&self) -> Result<Held> {
        Ok(Held {
            store: self.clone(),
            _lock: self.lock("lock", false)?,
        })
    }

    /// Where a blob is, or would be.
    pub(in crate::image) fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest)
    }

    /// Remove blobs that no image has, and what is cached for them; none of it, and it returns none, if another process uses the
    /// store now.
    pub fn collect(&self) -> Result<Option<Collected>> {
        let lock = self.open_lock("lock")?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            locked => locked.context("locking the store")?,
        }
        let mut removed = BTreeSet::new();
        let collected = self.remove_unused(&mut |digest| {
            removed.insert(digest.to_owned());
        })?;
        remove_cached(&|digest| removed.contains(digest))?;
        Ok(Some(collected))
    }

    /// Remove blobs that no image has, and all that is cached for other images than those of the store. Waits until nobody else
    /// uses the store.
    pub fn prune(&self) -> Result<Collected> {
        let _lock = self.lock("lock", true)?;
        let used = self.used()?;
        let mut collected = self.remove_unused(&mut |_| {})?;
        collected.add(remove_cached(&|digest| !used.contains(digest))?);
        Ok(collected)
    }

    /// The digests of all blobs that images have.
    fn used(&self) -> Result<BTreeSet<String>> {
        let mut used = BTreeSet::new();
        for image in self.images()? {
            let reached = self.reach(&image.descriptor, &mut used, 0);
            reached.with_context(|| match &image.reference {
                Some(name) => format!("image {name}; 'uvm image rm {name}' removes it"),
                None => "an image without a name".to_owned(),
            })?;
        }
        Ok(used)
    }

    fn remove_unused(&self, tell: &mut dyn FnMut(&str)) -> Result<Collected> {
        let used = self.used()?;
        let mut collected = remove_from(&self.directory.join("blobs/sha256"), &mut |name| {
            let unused = !used.contains(name);
            if unused {
                tell(name);
            }
            unused
        })?;
        collected.add(remove_from(&self.directory.join("partial"), &mut |_| true)?);
        Ok(collected)
    }

    /// Note all blobs that a descriptor leads to.
    fn reach(&self, descriptor: &Value, used: &mut BTreeSet<String>, depth: usize) -> Result<()> {
        if depth > INDEX_DEPTH {
            bail!("its indexes are nested more than {INDEX_DEPTH} deep");
        }
        let digest = layout::digest(descriptor)?;
        let is_new = used.insert(digest.clone());
        if !is_new {
            return Ok(());
        }
        let source = layout::Source::Directory(self.directory.clone());
        let document = layout::parse(&source.document(descriptor)?)?;
        for inner in document["manifests"].as_array().into_iter().flatten() {
            // An index may name manifests that were never brought in.
            if layout::digest(inner).is_ok_and(|digest| self.blob(&digest).exists()) {
                self.reach(inner, used, depth + 1)?;
            }
        }
        let layers = document["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(document.get("config")) {
            used.insert(layout::digest(blob)?);
        }
        Ok(())
    }
}

/// Remove from the cache what is there for the layers of these digests, and indexes, which are soon made anew.
fn remove_cached(unused: &dyn Fn(&str) -> bool) -> Result<Collected> {
    let cache = Cache::open();
    let Some(directory) = cache.directory() else {
        return Ok(Collected::default());
    };
    remove_from(directory, &mut |name| {
        let rest = name.strip_prefix("sha256-").or(name.strip_prefix("checked-"));
        let digest = rest
            .and_then(|rest| rest.get(..64))
            .filter(|digest| is_sha256(digest));
        digest.is_none_or(unused)
    })
}

/// Remove those files of a directory of which `chosen` says so by their names.
fn remove_from(directory: &Path, chosen: &mut dyn FnMut(&str) -> bool) -> Result<Collected> {
    let mut collected = Collected::default();
    let mut remove = || -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() || !chosen(&entry.file_name().to_string_lossy()) {
                continue;
            }
            fs::remove_file(entry.path())?;
            collected.files += 1;
            collected.bytes += meta.len();
        }
        Ok(())
    };
    remove().with_context(|| format!("removing from {}", directory.display()))?;
    Ok(collected)
}

impl Held {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether a blob is there. With `thorough` it is read and compared: one that is damaged is as good as none.
    pub fn has(&self, digest: &str, size: u64, thorough: bool) -> bool {
        let Ok(mut file) = File::open(self.store.blob(digest)) else {
            return false;
        };
        if !file.metadata().is_ok_and(|meta| meta.len() == size) {
            return false;
        }
        !thorough || sha256(&mut file).is_ok_and(|found| found == digest)
    }

    /// Bring in a blob, which must have the digest if one is given.
    pub fn put(&self, from: &mut dyn Read, digest: Option<&str>, media_type: &str) -> Result<Descriptor> {
        self.write(digest, media_type, &mut |out| {
            drain(from, &mut |bytes| out.write_all(bytes))
        })
    }

    /// Bring in a document.
    pub fn put_bytes(&self, mut bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        self.put(&mut bytes, None, media_type)
    }

    /// Bring in what `fill` writes.
    pub fn write(
        &self,
        digest: Option<&str>,
        media_type: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Descriptor> {
        let new = NewBlob::create(&self.store)?;
        let mut counted = Counted {
            file: &new.file,
            hash: Sha256::new(),
            size: 0,
        };
        fill(&mut counted).context("writing a blob of the store")?;
        let (hash, size) = (hex(&counted.hash.finalize()), counted.size);
        if let Some(digest) = digest {
            compare(&hash, digest)?;
        }
        new.keep(&self.store, &hash)
            .context("writing a blob of the store")?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: hash,
            size,
        })
    }

    /// Have all names of blobs on the disk.
    pub(super) fn sync(&self) -> Result<()> {
        let directory = self.store.directory.join("blobs/sha256");
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.with_context(|| format!("writing {}", directory.display()))
    }
}

#[cfg(feature = "registry")]
impl Held {
    /// Where a blob that is being fetched is meanwhile.
    pub(in crate::image) fn partial(&self, digest: &str) -> PathBuf {
        self.store.directory.join("partial").join(digest)
    }

    /// Make a fetched file, of which the digest has been checked, a blob.
    pub(in crate::image) fn adopt(&self, file: &File, path: &Path, digest: &str) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(path, self.store.blob(digest))?;
        // Not before: another pull has to be able to open what is still at `path`, to wait for its lock, or to go on with it
        // when this one is killed.
        file.set_permissions(Permissions::from_mode(0o400))
    }
}

/// Writes a file, and knows length and SHA-256 of what was written.
struct Counted<'a> {
    file: &'a File,
    hash: Sha256,
    size: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.file.write(bytes)?;
        self.hash.update(&bytes[..done]);
        self.size += done as u64;
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that is being written: without a name, or with one in `partial/` where the file system knows no such files.
struct NewBlob {
    file: File,
    path: Option<PathBuf>,
}

impl NewBlob {
    fn create(store: &Store) -> Result<NewBlob> {
        let directory = store.directory.join("blobs/sha256");
        match unnamed(&directory) {
            Ok(fd) => {
                return Ok(NewBlob {
                    file: fd.into(),
                    path: None,
                });
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
            Err(errno) => return Err(errno).with_context(|| format!("writing to {}", directory.display())),
        }
        let path = temporary(store)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(NewBlob {
            file,
            path: Some(path),
        })
    }

    /// Give it its name. It replaces what has that: a blob of that name that is not as whole as this one.
    fn keep(mut self, store: &Store, digest: &str) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o400))?;
        self.file.sync_all()?;
        let path = match self.path.take() {
            Some(path) => path,
            None => {
                let path = temporary(store)?;
                let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, from, CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
                path
            }
        };
        fs::rename(&path, store.blob(digest)).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// A name that nobody else has.
fn temporary(store: &Store) -> io::Result<PathBuf> {
    let unique = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(store.directory.join("partial").join(format!("new-{unique:016x}")))
}
