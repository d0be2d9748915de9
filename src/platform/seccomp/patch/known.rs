//! What was found out about the sites of files, for all processes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::site::Recipe;
use super::targets::Targets;

/// At most so many mappings of files are remembered.
const MAX_FILES: usize = 512;

/// At most so many sites of one.
const MAX_SITES: usize = 4096;

/// At most so many sites of all, at a few dozen bytes each.
const MAX_ALL_SITES: usize = 32 << 10;

/// At most so many bytes of text have their branches remembered.
const MAX_SCANNED: usize = 512 << 20;

/// What tells one executable mapping of a file, at one time, from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Host device.
    pub device: u64,
    /// Host inode.
    pub inode: u64,
    /// Time of the last modification: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Where in the file the mapping begins, in bytes.
    pub offset: u64,
}

/// What is known of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be patched like this.
    Patch(Recipe),
    /// It cannot be patched; asking again gives the same.
    Leave,
}

#[derive(Debug, Default)]
struct File {
    sites: BTreeMap<u64, Verdict>,
    targets: Option<(Arc<Targets>, usize)>,
    /// How often it was mapped since it is remembered.
    mapped: u32,
    used: u64,
}

/// Sites learnt, by file. Bounded: what was used longest ago goes first.
///
/// A recipe is a hint only. Two contents of a file may have one key (a guest sets times as it likes), so the bytes are
/// compared when it is used again.
#[derive(Debug, Default)]
pub struct Known {
    files: HashMap<FileKey, File>,
    sites: usize,
    scanned: usize,
    clock: u64,
}

impl Known {
    /// A mapping was made.
    pub fn meet(&mut self, key: FileKey) {
        let file = self.make(key);
        file.mapped = file.mapped.saturating_add(1);
    }

    /// Whether the mapping was made before the present one.
    pub fn met_before(&mut self, key: &FileKey) -> bool {
        self.touch(key).is_some_and(|file| file.mapped > 1)
    }

    /// What is known of the site `offset` bytes into the mapping.
    pub fn verdict(&mut self, key: &FileKey, offset: u64) -> Option<&Verdict> {
        self.touch(key)?.sites.get(&offset)
    }

    /// Remember a verdict.
    pub fn learn(&mut self, key: FileKey, offset: u64, verdict: Verdict) {
        let file = self.make(key);
        if file.sites.len() >= MAX_SITES && !file.sites.contains_key(&offset) {
            return;
        }
        if file.sites.insert(offset, verdict).is_none() {
            self.sites += 1;
            self.shrink(&key);
        }
    }

    /// All recipes of a mapping that begins at `start`, as (site, recipe) in order. They are hints: compare the bytes.
    pub fn sites(&mut self, key: &FileKey, start: u64) -> Vec<(u64, Recipe)> {
        let Some(file) = self.touch(key) else {
            return Vec::new();
        };
        let recipes = file.sites.iter().filter_map(|(offset, verdict)| match verdict {
            Verdict::Patch(recipe) => Some((start.checked_add(*offset)?, recipe.clone())),
            Verdict::Leave => None,
        });
        recipes.collect()
    }

    /// The branches of the text, if they were scanned.
    pub fn targets(&mut self, key: &FileKey) -> Option<Arc<Targets>> {
        let (targets, _) = self.touch(key)?.targets.as_ref()?;
        Some(Arc::clone(targets))
    }

    /// Remember the branches of a text of `len` bytes.
    pub fn learn_targets(&mut self, key: FileKey, targets: Arc<Targets>, len: usize) {
        let before = self.make(key).targets.replace((targets, len));
        self.scanned = self.scanned - before.map_or(0, |(_, len)| len) + len;
        self.shrink(&key);
    }

    fn touch(&mut self, key: &FileKey) -> Option<&mut File> {
        self.clock += 1;
        let file = self.files.get_mut(key)?;
        file.used = self.clock;
        Some(file)
    }

    fn make(&mut self, key: FileKey) -> &mut File {
        self.clock += 1;
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&key) {
            self.drop_oldest(None);
        }
        let file = self.files.entry(key).or_default();
        file.used = self.clock;
        file
    }

    /// Come back within the limits, without losing `kept`.
    fn shrink(&mut self, kept: &FileKey) {
        while (self.sites > MAX_ALL_SITES || self.scanned > MAX_SCANNED) && self.drop_oldest(Some(kept)) {}
    }

    fn drop_oldest(&mut self, kept: Option<&FileKey>) -> bool {
        let others = self.files.iter().filter(|(key, _)| Some(*key) != kept);
        let Some(oldest) = others.min_by_key(|(_, file)| file.used).map(|(key, _)| *key) else {
            return false;
        };
        if let Some(file) = self.files.remove(&oldest) {
            self.sites -= file.sites.len();
            self.scanned -= file.targets.map_or(0, |(_, len)| len);
        }
        true
    }
}
