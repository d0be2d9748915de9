//! Making the tree of an image: layers are put one upon the other, then frozen into arrays.

use std::collections::BTreeMap;

use super::tree::{Attributes, Child, Contents, FILES_MAX, Index, NAME_MAX, Node, Tree, Xattrs};
use crate::kernel::fs::FileType;
use crate::kernel::time::Timestamp;

/// Longest path, in bytes.
const PATH_MAX: usize = 4096;
/// Most links followed on the way to a file.
const LINKS_MAX: usize = 40;

/// Why a file cannot be put into an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEntry {
    /// `..` in its path.
    #[error("its path climbs out of the image by '..'")]
    ClimbsOut,
    /// A path or name beyond Linux's limits, or with a zero in it.
    #[error("its path is not one that Linux has")]
    BadPath,
    /// A link on the way that leads nowhere, or in circles.
    #[error("a link in its path leads nowhere")]
    DeadLink,
    /// A hard link to nothing, or to a directory.
    #[error("it is a hard link to what is no file before it")]
    BadHardLink,
    /// Too many files.
    #[error("the image has more than {FILES_MAX} files")]
    TooMany,
    /// A root that is no directory.
    #[error("it puts something else in the place of the root")]
    Root,
}

/// A tree that is being made.
pub struct Builder {
    nodes: Vec<Building>,
    /// Files of the layer that is being put on have this.
    layer: u32,
}

struct Building {
    node: Node,
    /// The layer that said something of it last.
    layer: u32,
    names: BTreeMap<Box<[u8]>, Index>,
}

impl Default for Builder {
    fn default() -> Self {
        let mut builder = Builder {
            nodes: Vec::new(),
            layer: 0,
        };
        builder.nodes.push(builder.directory());
        builder
    }
}

impl Builder {
    /// What comes now belongs to the next layer, upon those before.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// A directory that nothing is said of.
    fn directory(&self) -> Building {
        let attributes = Attributes {
            mode: libc::S_IFDIR | 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp { sec: 0, nsec: 0 },
        };
        self.building(attributes, Contents::None, None)
    }

    fn building(&self, attributes: Attributes, contents: Contents, xattrs: Option<Xattrs>) -> Building {
        Building {
            node: Node {
                attributes,
                nlink: 1,
                parent: 0,
                children: (0, 0),
                contents,
                xattrs: xattrs.filter(|xattrs| !xattrs.is_empty()).map(Box::new),
            },
            layer: self.layer,
            names: BTreeMap::new(),
        }
    }

    fn at(&self, index: Index) -> &Building {
        &self.nodes[index as usize]
    }

    fn at_mut(&mut self, index: Index) -> &mut Building {
        &mut self.nodes[index as usize]
    }

    fn is_directory(&self, index: Index) -> bool {
        self.at(index).node.kind() == FileType::Directory
    }

    fn add(&mut self, building: Building) -> Result<Index, BadEntry> {
        if self.nodes.len() >= FILES_MAX {
            return Err(BadEntry::TooMany);
        }
        self.nodes.push(building);
        Ok((self.nodes.len() - 1) as Index)
    }

    /// Put a file at a path, as an archive has it: instead of what is there, but a directory keeps what is in it.
    pub fn put(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        contents: Contents,
        xattrs: Option<Xattrs>,
    ) -> Result<(), BadEntry> {
        let mut parts = parts(path)?;
        let building = self.building(attributes, contents, xattrs);
        let is_directory = building.node.kind() == FileType::Directory;
        let Some(name) = parts.pop() else {
            if !is_directory {
                return Err(BadEntry::Root);
            }
            self.restate(0, building);
            return Ok(());
        };
        let parent = self.way(&parts)?;
        if is_directory
            && let Some(&known) = self.at(parent).names.get(name)
            && self.is_directory(known)
        {
            self.restate(known, building);
            return Ok(());
        }
        let index = self.add(building)?;
        self.name(parent, name, index);
        Ok(())
    }

    /// Give a file that is there another name.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), BadEntry> {
        let mut target = parts(target)?;
        let name = target.pop().ok_or(BadEntry::BadHardLink)?;
        let parent = self.find(&target).ok_or(BadEntry::BadHardLink)?;
        let index = *self.at(parent).names.get(name).ok_or(BadEntry::BadHardLink)?;
        if self.is_directory(index) {
            return Err(BadEntry::BadHardLink);
        }
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or(BadEntry::Root)?;
        let parent = self.way(&parts)?;
        if self.at(parent).names.get(name) != Some(&index) {
            self.at_mut(index).node.nlink += 1;
            self.name(parent, name, index);
        }
        Ok(())
    }

    /// Remove what lower layers have at a path.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), BadEntry> {
        let mut parts = parts(path)?;
        let Some(name) = parts.pop() else { return Ok(()) };
        let Some(parent) = self.find(&parts) else {
            return Ok(());
        };
        if let Some(&index) = self.at(parent).names.get(name) {
            if self.at(index).layer < self.layer {
                self.at_mut(parent).names.remove(name);
                self.gone(index);
            } else {
                self.purge(index);
            }
        }
        Ok(())
    }

    /// Remove what lower layers have in a directory.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), BadEntry> {
        let directory = self.way(&parts(path)?)?;
        self.purge(directory);
        Ok(())
    }

    /// Say other attributes of a directory.
    fn restate(&mut self, index: Index, mut building: Building) {
        let old = self.at_mut(index);
        building.node.parent = old.node.parent;
        building.names = std::mem::take(&mut old.names);
        *old = building;
    }

    /// Give a file a name instead of what has it.
    fn name(&mut self, parent: Index, name: &[u8], index: Index) {
        if self.is_directory(index) {
            self.at_mut(index).node.parent = parent;
        }
        if let Some(old) = self.at_mut(parent).names.insert(name.into(), index) {
            self.gone(old);
        }
    }

    /// A file has lost a name. What is below a directory goes with it, as nothing leads there any more.
    fn gone(&mut self, index: Index) {
        let node = &mut self.at_mut(index).node;
        node.nlink = node.nlink.saturating_sub(1);
        let mut left: Vec<Index> = std::mem::take(&mut self.at_mut(index).names)
            .into_values()
            .collect();
        while let Some(index) = left.pop() {
            let building = self.at_mut(index);
            building.node.nlink = building.node.nlink.saturating_sub(1);
            left.extend(std::mem::take(&mut building.names).into_values());
        }
    }

    /// Remove all below a directory that this layer has said nothing of.
    fn purge(&mut self, top: Index) {
        let layer = self.layer;
        let mut left = vec![top];
        while let Some(directory) = left.pop() {
            let names = std::mem::take(&mut self.at_mut(directory).names);
            let (kept, old): (BTreeMap<_, _>, BTreeMap<_, _>) = names
                .into_iter()
                .partition(|(_, index)| self.at(*index).layer == layer);
            left.extend(kept.values().copied().filter(|&index| self.is_directory(index)));
            self.at_mut(directory).names = kept;
            for index in old.into_values() {
                self.gone(index);
            }
        }
    }

    /// The directory at a path, made with those above it where missing.
    fn way(&mut self, path: &[&[u8]]) -> Result<Index, BadEntry> {
        self.walk(path, true)?.ok_or(BadEntry::DeadLink)
    }

    /// The directory at a path, if it is there.
    fn find(&mut self, path: &[&[u8]]) -> Option<Index> {
        self.walk(path, false).ok().flatten()
    }

    /// Walk from the root, following links, which never lead out of it.
    fn walk(&mut self, path: &[&[u8]], make: bool) -> Result<Option<Index>, BadEntry> {
        let mut left: Vec<Box<[u8]>> = path.iter().rev().map(|&part| part.into()).collect();
        let mut links = 0;
        let mut at = 0;
        while let Some(name) = left.pop() {
            if make {
                let layer = self.layer;
                self.at_mut(at).layer = layer;
            }
            if *name == *b".." {
                at = self.at(at).node.parent;
                continue;
            }
            let found = self.at(at).names.get(&name).copied();
            let contents = found.map(|index| &self.at(index).node.contents);
            if let Some(Contents::Link(target)) = contents {
                links += 1;
                if links > LINKS_MAX || target.len() > PATH_MAX {
                    return Err(BadEntry::DeadLink);
                }
                let target = target.clone();
                if target.first() == Some(&b'/') {
                    at = 0;
                }
                let parts = target.split(|&byte| byte == b'/').rev();
                left.extend(
                    parts
                        .filter(|part| !part.is_empty() && *part != b".")
                        .map(Into::into),
                );
                continue;
            }
            at = match found {
                Some(index) if self.is_directory(index) => index,
                _ if !make => return Ok(None),
                _ => {
                    let index = self.add(self.directory())?;
                    self.name(at, &name, index);
                    index
                }
            };
        }
        if make {
            let layer = self.layer;
            self.at_mut(at).layer = layer;
        }
        Ok(Some(at))
    }

    /// The tree as it is to stay: files that have a name, directories before what is in them.
    pub fn finish(mut self) -> Tree {
        let mut tree = Tree {
            nodes: Vec::new(),
            children: Vec::new(),
            names: Vec::new(),
            size: 0,
        };
        let mut new_index: Vec<Option<Index>> = vec![None; self.nodes.len()];
        let mut order = vec![0];
        new_index[0] = Some(0);
        let mut next = 0;
        while let Some(&old) = order.get(next) {
            let names = std::mem::take(&mut self.nodes[old].names);
            let start = tree.children.len() as u32;
            let mut directories = 0;
            for (name, child) in names {
                let child = child as usize;
                let index = *new_index[child].get_or_insert_with(|| {
                    order.push(child);
                    (order.len() - 1) as Index
                });
                if self.is_directory(child as Index) {
                    directories += 1;
                    self.nodes[child].node.parent = next as Index;
                }
                tree.children.push(Child {
                    start: u32::try_from(tree.names.len()).unwrap_or(u32::MAX),
                    len: u8::try_from(name.len()).unwrap_or(u8::MAX),
                    node: index,
                });
                tree.names.extend_from_slice(&name);
            }
            let node = &mut self.nodes[old].node;
            if node.kind() == FileType::Directory {
                node.children = (start, tree.children.len() as u32 - start);
                node.nlink = 2 + directories;
            }
            next += 1;
        }
        let mut old_nodes: Vec<Option<Node>> = self.nodes.into_iter().map(|b| Some(b.node)).collect();
        tree.nodes = order.iter().filter_map(|&old| old_nodes[old].take()).collect();
        tree.count();
        tree.children.shrink_to_fit();
        tree.names.shrink_to_fit();
        tree
    }
}

/// The names of a path from the root on.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, BadEntry> {
    if path.len() > PATH_MAX || path.contains(&0) {
        return Err(BadEntry::BadPath);
    }
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(BadEntry::ClimbsOut),
            part if part.len() > NAME_MAX => return Err(BadEntry::BadPath),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(kind: u32) -> Attributes {
        Attributes {
            mode: kind | 0o644,
            uid: 1,
            gid: 2,
            mtime: Timestamp { sec: 3, nsec: 4 },
        }
    }

    fn file(builder: &mut Builder, path: &str) -> Result<(), BadEntry> {
        let contents = Contents::Whole {
            blob: 0,
            offset: 0,
            size: 1,
        };
        builder.put(path.as_bytes(), attributes(libc::S_IFREG), contents, None)
    }

    fn directory(builder: &mut Builder, path: &str) {
        builder
            .put(path.as_bytes(), attributes(libc::S_IFDIR), Contents::None, None)
            .unwrap();
    }

    fn link(builder: &mut Builder, path: &str, to: &str) {
        let contents = Contents::Link(to.as_bytes().into());
        builder
            .put(path.as_bytes(), attributes(libc::S_IFLNK), contents, None)
            .unwrap();
    }

    /// All paths of a tree.
    fn paths(tree: &Tree) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![(String::new(), 0)];
        while let Some((path, index)) = left.pop() {
            let node = tree.node(index).unwrap();
            for (name, child) in (0..).map_while(|at| tree.entry(node, at)) {
                let path = format!("{path}/{}", std::str::from_utf8(name).unwrap());
                assert_eq!(tree.find(node, name), Some(child));
                found.push(path.clone());
                left.push((path, child));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn layers_hide_what_is_below_them() {
        let mut builder = Builder::default();
        for path in ["a/x", "a/y", "b/x", "c", "d/old", "e/f"] {
            file(&mut builder, path).unwrap();
        }
        builder.next_layer();
        builder.whiteout(b"a/x").unwrap();
        // A whiteout is for lower layers, whatever comes first in its own.
        file(&mut builder, "b/new").unwrap();
        builder.whiteout(b"b").unwrap();
        builder.whiteout(b"not/there").unwrap();
        directory(&mut builder, "d");
        file(&mut builder, "d/new").unwrap();
        builder.opaque(b"d").unwrap();
        file(&mut builder, "e").unwrap();
        directory(&mut builder, "c");
        let tree = builder.finish();
        assert_eq!(
            paths(&tree),
            ["/a", "/a/y", "/b", "/b/new", "/c", "/d", "/d/new", "/e"]
        );
        assert_eq!(tree.node(0).unwrap().nlink, 6);
    }

    #[test]
    fn hard_links_are_one_file() {
        let mut builder = Builder::default();
        file(&mut builder, "a").unwrap();
        builder.hard_link(b"d/b", b"./a").unwrap();
        builder.hard_link(b"a", b"a").unwrap();
        assert_eq!(builder.hard_link(b"x", b"nothing"), Err(BadEntry::BadHardLink));
        assert_eq!(builder.hard_link(b"x", b"d"), Err(BadEntry::BadHardLink));
        builder.next_layer();
        builder.hard_link(b"c", b"a").unwrap();
        builder.whiteout(b"a").unwrap();
        let tree = builder.finish();
        assert_eq!(paths(&tree), ["/c", "/d", "/d/b"]);
        let root = tree.node(0).unwrap();
        let c = tree.find(root, b"c").unwrap();
        let d = tree.node(tree.find(root, b"d").unwrap()).unwrap();
        assert_eq!((tree.find(d, b"b"), tree.node(c).unwrap().nlink), (Some(c), 2));
    }

    #[test]
    fn links_stay_inside() {
        let mut builder = Builder::default();
        link(&mut builder, "lib", "usr/lib");
        directory(&mut builder, "usr/lib");
        file(&mut builder, "lib/a").unwrap();
        link(&mut builder, "out", "../../../usr");
        file(&mut builder, "out/b").unwrap();
        link(&mut builder, "abs", "/usr");
        file(&mut builder, "abs/c").unwrap();
        link(&mut builder, "loop", "loop");
        assert_eq!(file(&mut builder, "loop/x"), Err(BadEntry::DeadLink));
        assert_eq!(file(&mut builder, "../x"), Err(BadEntry::ClimbsOut));
        assert_eq!(file(&mut builder, "usr/../../x"), Err(BadEntry::ClimbsOut));
        assert_eq!(file(&mut builder, "."), Err(BadEntry::Root));
        assert_eq!(file(&mut builder, &"x".repeat(256)), Err(BadEntry::BadPath));
        let tree = builder.finish();
        let all = [
            "/abs",
            "/lib",
            "/loop",
            "/out",
            "/usr",
            "/usr/b",
            "/usr/c",
            "/usr/lib",
            "/usr/lib/a",
        ];
        assert_eq!(paths(&tree), all);
    }
}
