//! The index of an image, kept beside its layers: which files there are and where. See `imagefs/frozen.rs` for its form.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::Result;
use rustix::fs::fstat;
use sha2::{Digest, Sha256};

use super::blob::Window;
use super::cache::Cache;
use super::compressed::hex;
use crate::kernel::fs::imagefs::Tree;

/// Longest index, in bytes.
const MAX: u64 = 2 << 30;

/// The name of an index of these archives, as long as nobody writes to their files.
pub(super) fn name(archives: &[Window], layered: bool) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update([u8::from(layered)]);
    for archive in archives {
        hash.update(archive.identity()?);
        hash.update("\n");
    }
    Ok(format!("index-{}", hex(&hash.finalize())))
}

/// The tree that was kept under a name. One that is damaged is removed.
pub(super) fn find(cache: &Cache, name: &str, archives: &[Window]) -> Option<Tree> {
    let found = read(cache.find(name)?, archives);
    if found.is_none() {
        cache.remove(name);
    }
    found
}

fn read(file: File, archives: &[Window]) -> Option<Tree> {
    let len = file.metadata().ok()?.len();
    if len > MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
    file.take(len).read_to_end(&mut bytes).ok()?;
    let size = |archive: &Window| Some(fstat(&**archive.file()).ok()?.st_size.cast_unsigned());
    let sizes: Vec<u64> = archives.iter().map(size).collect::<Option<_>>()?;
    Tree::from_bytes(&bytes, &sizes)
}

/// Keep a tree for the next start; without it, that takes longer and nothing else.
pub(super) fn keep(cache: &Cache, name: &str, tree: &Tree) {
    let written = cache.create().and_then(|mut file| {
        file.write_all(&tree.to_bytes())?;
        Ok(file)
    });
    if let Ok(file) = written {
        cache.keep_unsynced(&file, name);
    }
}
