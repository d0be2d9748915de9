//! What the journal is told of a node, and when.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::record::{self, Contents, NodeRecord, ORIGINS_MAX, Record};
use crate::kernel::fs::memfs::data::Data;
use crate::kernel::fs::memfs::node::{Node, State};

/// What a node of an upper on disk has beyond others.
#[derive(Default)]
pub(in crate::kernel::fs::memfs) struct Kept {
    /// Its number in the journal, which is also that of its data file; a lower inode's gets one when it is first told.
    id: OnceLock<u64>,
    /// Where the lower tree has it.
    origin: OnceLock<Box<[u8]>>,
}

impl Node {
    /// The number of this in the journal.
    pub(in crate::kernel::fs::memfs) fn id(&self) -> u64 {
        match &self.kept {
            Some(kept) if self.lower.is_some() => {
                let new = || self.tree.next_ino.fetch_add(1, Ordering::Relaxed);
                *kept.id.get_or_init(new)
            }
            _ => self.ino,
        }
    }

    /// The journal has to be told of this again.
    pub(in crate::kernel::fs::memfs) fn mark(&self, state: &mut State) {
        if let Some(disk) = &self.tree.disk
            && !state.dirty
            && let Some(this) = self.this.upgrade()
        {
            state.dirty = true;
            disk.pending.lock().dirty.push(this);
        }
    }

    /// Contents were written to a data file: have the journal say so before the call returns, unless it does.
    pub(in crate::kernel::fs::memfs) fn tell_data(&self) {
        if self.tree.disk.is_none() {
            return;
        }
        let untold = {
            let state = self.state.lock();
            matches!(state.data, Data::Stored(_)) && !state.told_data
        };
        if untold {
            // That the disk does not take it is told to who changes something next, or syncs.
            let _ = self.tree.commit();
        }
    }

    /// A name in this directory leads to a node now.
    pub(in crate::kernel::fs::memfs) fn tell_name(&self, name: &[u8], node: &Node) {
        if self.tree.disk.is_some() {
            node.mark(&mut node.state.lock());
            self.tell(name, Some(Some(node.id())));
        }
    }

    /// A name in this directory leads nowhere now; `hides` whether the lower directory has it.
    pub(in crate::kernel::fs::memfs) fn tell_no_name(&self, name: &[u8], hides: bool) {
        self.tell(name, hides.then_some(None));
    }

    fn tell(&self, name: &[u8], says: Option<Option<u64>>) {
        let Some(disk) = &self.tree.disk else { return };
        let (directory, name) = (self.id(), name.into());
        let record = match says {
            Some(node) => Record::Name {
                directory,
                name,
                node,
            },
            None => Record::Unname { directory, name },
        };
        record.encode(&mut disk.pending.lock().names);
    }

    /// The lower directory of `parent` has this under `name`.
    pub(in crate::kernel::fs::memfs) fn found_below(&self, parent: &Node, name: &[u8]) {
        if let (Some(kept), Some(above)) = (&self.kept, &parent.kept)
            && let Some(above) = above.origin.get()
        {
            kept.origin.get_or_init(|| join(above, name));
        }
    }

    /// Give this its number, unless it has one; whether it has this one.
    pub(super) fn numbered(&self, id: u64) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| *kept.id.get_or_init(|| id) == id)
    }

    /// This stands for the root of the lower tree.
    pub(super) fn is_root(&self) {
        if let Some(kept) = &self.kept {
            kept.origin.get_or_init(Box::default);
            kept.id.get_or_init(|| record::ROOT);
        }
    }

    fn origins(&self) -> Vec<Box<[u8]>> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let mut origins: Vec<Box<[u8]>> = kept.origin.get().cloned().into_iter().collect();
        for place in self.places.lock().iter() {
            let above = place.parent.kept.as_ref().and_then(|kept| kept.origin.get());
            if let Some(origin) = above.map(|above| join(above, &place.name))
                && !origins.contains(&origin)
                && origins.len() < ORIGINS_MAX as usize
            {
                origins.push(origin);
            }
        }
        origins
    }

    pub(super) fn record(&self, state: &State) -> NodeRecord {
        NodeRecord {
            id: self.id(),
            mode: state.mode,
            uid: state.uid,
            gid: state.gid,
            nlink: state.nlink,
            rdev: state.rdev,
            links: state.links_charged,
            atime: state.atime,
            mtime: state.mtime,
            ctime: state.ctime,
            btime: state.btime,
            contents: match &state.data {
                Data::Link(text) => Contents::Link(text.clone()),
                Data::Stored(_) => Contents::File,
                Data::Small(_) | Data::Memfd(_) => Contents::Empty,
                Data::Lower | Data::Copying { .. } => Contents::Lower,
            },
            xattrs: state.xattrs.as_deref().cloned(),
            origins: if self.lower.is_some() {
                self.origins()
            } else {
                Vec::new()
            },
        }
    }
}

fn join(above: &[u8], name: &[u8]) -> Box<[u8]> {
    if above.is_empty() {
        return name.into();
    }
    [above, b"/", name].concat().into()
}
