//! The tree of an upper that was on disk.
//!
//! A journal may say anything: what it says is gathered in a [`Table`], whose size is bounded by the limits of the file system, and
//! looked through before anybody uses it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::record::{Contents, NodeRecord, ROOT, Record};
use super::{Disk, UpperError, UpperOptions};
use crate::kernel::fs::memfs::data::Data;
use crate::kernel::fs::memfs::directory::put_own;
use crate::kernel::fs::memfs::node::Node;
use crate::kernel::fs::memfs::{FIRST_OWN_INO, MemFs, MemFsOptions, Tree, xattr};
use crate::kernel::fs::{FileType, Inode};
use crate::kernel::stop::Errno;

/// Most bytes of names, link texts and extended attributes.
const TEXT_MAX: u64 = 1 << 30;

/// Numbers of files are below this, so that there are always more.
const ID_END: u64 = 1 << 62;

/// What a journal says in the end.
#[derive(Default)]
struct Table {
    nodes: HashMap<u64, NodeRecord>,
    /// By directory.
    names: HashMap<u64, Names>,
    /// How many names there are, and bytes of texts.
    count: u64,
    text: u64,
    /// Position of the next name.
    next: u64,
}

/// By name: position, and what it leads to.
type Names = HashMap<Box<[u8]>, (u64, Option<u64>)>;

fn nonsense(what: &str, id: u64) -> UpperError {
    UpperError::Nonsense(format!("{what} (file {id})"))
}

impl Table {
    fn tell(&mut self, record: Record, most: u64) -> Result<(), UpperError> {
        match record {
            Record::Header(_) => {}
            Record::Node(node) => {
                self.text += node.text_len();
                let old = self.nodes.insert(node.id, *node);
                self.text -= old.map_or(0, |old| old.text_len());
            }
            Record::Name {
                directory,
                name,
                node,
            } => {
                let len = name.len() as u64;
                let position = self.next;
                self.next += 1;
                let names = self.names.entry(directory).or_default();
                if names.insert(name, (position, node)).is_none() {
                    self.count += 1;
                    self.text += len;
                }
            }
            Record::Unname { directory, name } => {
                if let Some(names) = self.names.get_mut(&directory)
                    && names.remove(&name).is_some()
                {
                    self.count -= 1;
                    self.text -= name.len() as u64;
                }
            }
            Record::Forget(id) => {
                self.text -= self.nodes.remove(&id).map_or(0, |node| node.text_len());
                for name in self.names.remove(&id).unwrap_or_default().into_keys() {
                    self.count -= 1;
                    self.text -= name.len() as u64;
                }
            }
        }
        let files = (self.nodes.len() + self.names.len()) as u64;
        if files > most || self.count > most.saturating_mul(2) || self.text > TEXT_MAX {
            return Err(UpperError::TooMany);
        }
        Ok(())
    }

    /// Each file is of a kind and has a number that can be.
    fn check(&self) -> Result<(), UpperError> {
        for (&id, node) in &self.nodes {
            let kind = FileType::from_mode(node.mode).ok_or_else(|| nonsense("no kind of file", id))?;
            let numbered = id == ROOT || (FIRST_OWN_INO..ID_END).contains(&id);
            if !numbered || id == ROOT && *node.origins != [Box::default()] {
                return Err(nonsense("no number of a file", id));
            }
            let fits = match (&node.contents, kind) {
                (Contents::File, kind) => kind == FileType::Regular,
                (Contents::Link(_), kind) => kind == FileType::Symlink && node.origins.is_empty(),
                (Contents::Empty, kind) => kind != FileType::Symlink,
                (Contents::Lower, _) => !node.origins.is_empty(),
            };
            if !fits || node.nlink == 0 || node.links > u64::from(node.nlink) {
                return Err(nonsense("contents or links of another kind of file", id));
            }
        }
        let is_directory = |id| {
            self.nodes
                .get(&id)
                .is_some_and(|node| node.mode & libc::S_IFMT == libc::S_IFDIR)
        };
        let mut named = HashSet::new();
        for (&directory, names) in &self.names {
            if !is_directory(directory) {
                return Err(nonsense("names in what is no directory", directory));
            }
            for id in names.values().filter_map(|(_, node)| *node) {
                if id == ROOT || !self.nodes.contains_key(&id) || is_directory(id) && !named.insert(id) {
                    return Err(nonsense("a name of what cannot have it", id));
                }
            }
        }
        Ok(())
    }
}

impl MemFs {
    /// The same as [`MemFs::overlay`] with changes that are kept in a directory of the host.
    pub fn overlay_on_disk(
        lower: Arc<dyn Inode>,
        options: MemFsOptions,
        upper: &UpperOptions,
    ) -> Result<Arc<MemFs>, UpperError> {
        if lower.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        let mut table = Table::default();
        let most = options.inodes;
        let disk = Disk::open(upper, &mut |record| table.tell(record, most))?;
        table.check()?;
        disk.sweep(&|id| {
            table
                .nodes
                .get(&id)
                .is_some_and(|node| node.contents == Contents::File)
        })?;
        let tree = Tree::new(options, true, Some(disk));
        let root = tree.node_of(lower)?;
        root.is_root();
        let highest = table.nodes.keys().max().copied().unwrap_or(ROOT);
        tree.next_ino.fetch_max(highest + 1, Ordering::Relaxed);
        Loader {
            tree: &tree,
            root: &root,
        }
        .load(table)?;
        Ok(tree.mounted(root))
    }
}

/// Makes nodes of what was read.
struct Loader<'a> {
    tree: &'a Arc<Tree>,
    root: &'a Arc<Node>,
}

impl Loader<'_> {
    fn load(&self, table: Table) -> Result<(), UpperError> {
        let Table { nodes, names, .. } = table;
        let mut records: Vec<NodeRecord> = nodes.into_values().collect();
        // Directories of the lower tree are found before what is in them.
        records.sort_by(|a, b| (&a.origins, a.id).cmp(&(&b.origins, b.id)));
        let mut found: HashMap<u64, Arc<Node>> = HashMap::new();
        let mut lower = HashSet::new();
        for record in records {
            let id = record.id;
            let node = if record.origins.is_empty() {
                Node::stored(self.tree, id, record.mode)
            } else {
                let node = self.find(&record)?;
                if !lower.insert(node.ino) {
                    return Err(nonsense("a file of the lower tree that another one is", id));
                }
                node
            };
            self.restore(&node, record)?;
            found.insert(id, node);
        }
        self.put_names(&found, names)?;
        check_ways_up(found.values())?;
        Ok(())
    }

    /// The node of the lower file that a record is of.
    fn find(&self, record: &NodeRecord) -> Result<Arc<Node>, UpperError> {
        let lost = |path: &[u8]| UpperError::Lost(String::from_utf8_lossy(path).escape_debug().to_string());
        let mut first: Option<Arc<Node>> = None;
        for origin in &record.origins {
            let mut at = self.root.clone();
            for name in origin.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
                let next = match at.lower_child(name) {
                    Err(Errno::ENOTDIR) => None,
                    next => next?,
                };
                at = next.ok_or_else(|| lost(origin))?;
            }
            match &first {
                None => first = Some(at),
                Some(first) if Arc::ptr_eq(first, &at) => {}
                // Names of one file that are two by now: the one that was found first is meant.
                Some(_) => {}
            }
        }
        let node = first.ok_or_else(|| nonsense("no place in the lower tree", record.id))?;
        if Some(node.kind) != FileType::from_mode(record.mode) {
            return Err(lost(record.origins.first().map_or(b"", |origin| origin)));
        }
        if node.numbered(record.id) {
            Ok(node)
        } else {
            Err(nonsense("two numbers of one file", record.id))
        }
    }

    /// Have a node say what its record says.
    fn restore(&self, node: &Arc<Node>, record: NodeRecord) -> Result<(), UpperError> {
        let tree = self.tree;
        let own = u64::from(node.lower.is_none());
        if tree.inodes.fetch_add(own + record.links, Ordering::Relaxed) + own + record.links
            > tree.options.inodes
        {
            return Err(UpperError::TooMany);
        }
        let mut state = node.state.lock();
        state.links_charged = record.links;
        state.mode = record.mode;
        state.uid = record.uid;
        state.gid = record.gid;
        state.nlink = record.nlink;
        state.rdev = record.rdev;
        state.atime = record.atime;
        state.mtime = record.mtime;
        state.ctime = record.ctime;
        state.btime = record.btime;
        state.told = true;
        let mut bytes = 0;
        match record.contents {
            Contents::Lower => {}
            Contents::Empty => state.data = Data::Small(Vec::new()),
            Contents::File => {
                let disk = tree.disk.as_ref().ok_or(Errno::EIO)?;
                bytes = disk.extent(record.id)?.1.saturating_mul(512);
                state.data = Data::Stored(std::sync::Weak::new());
                state.told_data = true;
            }
            Contents::Link(text) => state.data = Data::Link(text),
        }
        tree.recharge(&mut state.charged, bytes);
        if let Some(attributes) = record.xattrs {
            tree.recharge(&mut state.xattrs_charged, xattr::size(attributes.iter()) as u64);
            state.xattrs = Some(Box::new(attributes));
        }
        state.changed = true;
        drop(state);
        if node.lower.is_some() {
            tree.pin(node);
        }
        Ok(())
    }

    fn put_names(
        &self,
        found: &HashMap<u64, Arc<Node>>,
        names: HashMap<u64, Names>,
    ) -> Result<(), UpperError> {
        let mut links: HashMap<u64, u32> = HashMap::new();
        for (id, names) in names {
            let directory = found.get(&id).ok_or_else(|| nonsense("names of nothing", id))?;
            let ordered: BTreeMap<u64, _> = names
                .into_iter()
                .map(|(name, (position, node))| (position, (name, node)))
                .collect();
            for (name, target) in ordered.into_values() {
                let node = target.and_then(|id| found.get(&id));
                if let Some(id) = target {
                    *links.entry(id).or_default() += 1;
                }
                put_own(directory, &name, node)?;
            }
        }
        // Files of our own have the names that they are seen to have.
        for (id, node) in found
            .iter()
            .filter(|(_, node)| node.lower.is_none() && node.directory.is_none())
        {
            let mut state = node.state.lock();
            state.nlink = links.get(id).copied().unwrap_or(1);
        }
        Ok(())
    }
}

/// From every directory a way leads up to the root: none is in itself.
fn check_ways_up<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Result<(), UpperError> {
    let mut good = HashSet::new();
    for node in nodes.filter(|node| node.directory.is_some()) {
        let mut way = HashSet::new();
        let mut at = Some(node.clone());
        while let Some(directory) = at {
            if good.contains(&directory.ino) {
                break;
            }
            if !way.insert(directory.ino) {
                // They hold each other: let go of one of them at least.
                directory.forget_names();
                return Err(nonsense("a directory that is in itself", directory.id()));
            }
            at = directory.parent();
        }
        good.extend(way);
    }
    Ok(())
}
