//! A tree as bytes, to be kept for the next start.
//!
//! Magic, version and a CRC-32 of the rest come first; then counts of nodes, names in directories and bytes of names, and those
//! themselves. Numbers are little-endian. What is read back may have been damaged, or be somebody's invention: only a tree that
//! [`Builder`](super::Builder) could have made is accepted.

use super::tree::{Attributes, Child, Contents, Extent, FILES_MAX, NAME_MAX, Node, Tree, Xattrs};
use crate::kernel::fs::FileType;
use crate::kernel::time::Timestamp;

const MAGIC: &[u8; 8] = b"uvmindex";
/// To be raised with every change of the form.
const VERSION: u32 = 1;
/// Magic, version, checksum.
const HEADER: usize = 16;
/// Fewest bytes of a node and of a name in a directory.
const NODE_MIN: usize = 48;
const CHILD_MIN: usize = 9;

impl Tree {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(
            HEADER + 12 + self.nodes.len() * 80 + self.children.len() * CHILD_MIN + self.names.len(),
        ));
        out.0.extend_from_slice(MAGIC);
        out.u32(VERSION);
        out.u32(0);
        out.len(self.nodes.len());
        out.len(self.children.len());
        out.len(self.names.len());
        for node in &self.nodes {
            out.node(node);
        }
        for child in &self.children {
            out.u32(child.start);
            out.0.push(child.len);
            out.u32(child.node);
        }
        out.0.extend_from_slice(&self.names);
        let sum = crc32fast::hash(&out.0[HEADER..]);
        out.0[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
        out.0
    }

    /// From bytes; none if they are no tree whose contents are in blobs of these sizes.
    pub fn from_bytes(bytes: &[u8], blobs: &[u64]) -> Option<Tree> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let mut header = Reader(header.strip_prefix(MAGIC)?);
        if header.u32()? != VERSION || header.u32()? != crc32fast::hash(rest) {
            return None;
        }
        let mut reader = Reader(rest);
        let counts = [
            reader.u32()? as usize,
            reader.u32()? as usize,
            reader.u32()? as usize,
        ];
        let [nodes, children, names] = counts;
        let least = nodes
            .checked_mul(NODE_MIN)?
            .checked_add(children.checked_mul(CHILD_MIN)?)?;
        if nodes > FILES_MAX || least.checked_add(names)? > reader.0.len() {
            return None;
        }
        let nodes: Vec<Node> = (0..nodes).map(|_| reader.node()).collect::<Option<_>>()?;
        let child = |reader: &mut Reader<'_>| {
            Some(Child {
                start: reader.u32()?,
                len: reader.u8()?,
                node: reader.u32()?,
            })
        };
        let children = (0..children).map(|_| child(&mut reader)).collect::<Option<_>>()?;
        let mut tree = Tree {
            nodes,
            children,
            names: reader.take(names)?.to_vec(),
            size: 0,
        };
        let whole = reader.0.is_empty() && tree.nodes.iter().all(|node| fits(node, blobs)) && is_tree(&tree);
        tree.count();
        whole.then_some(tree)
    }
}

/// Whether a file's contents are of its kind, and inside of the blobs.
fn fits(node: &Node, blobs: &[u64]) -> bool {
    let inside = |blob: u32, offset: u64, len: u64| {
        let size = blobs.get(blob as usize).copied();
        size.is_some_and(|size| offset.checked_add(len).is_some_and(|end| end <= size))
    };
    let Some(kind) = FileType::from_mode(node.attributes.mode) else {
        return false;
    };
    match (&node.contents, kind) {
        (Contents::None, FileType::Directory | FileType::Fifo) => true,
        (Contents::Link(_), FileType::Symlink) => true,
        (Contents::Device(_), FileType::CharDevice | FileType::BlockDevice) => true,
        (Contents::Whole { blob, offset, size }, FileType::Regular) => inside(*blob, *offset, *size),
        (Contents::Sparse { blob, size, extents }, FileType::Regular) => {
            let mut end = 0;
            *size <= i64::MAX.cast_unsigned()
                && extents.iter().all(|piece| {
                    let starts = piece.at >= end;
                    end = piece.at.saturating_add(piece.len);
                    starts && end <= *size && inside(*blob, piece.offset, piece.len)
                })
        }
        _ => false,
    }
}

/// Whether each directory but the root is in one that comes before it, under a name that is one.
fn is_tree(tree: &Tree) -> bool {
    let is_directory = |node: &Node| FileType::from_mode(node.attributes.mode) == Some(FileType::Directory);
    if !tree
        .nodes
        .first()
        .is_some_and(|root| is_directory(root) && root.parent == 0)
    {
        return false;
    }
    tree.nodes.iter().enumerate().all(|(index, node)| {
        let (start, len) = node.children;
        if !is_directory(node) {
            return len == 0;
        }
        let end = (start as usize).checked_add(len as usize);
        let Some(listed) = end.and_then(|end| tree.children.get(start as usize..end)) else {
            return false;
        };
        let mut last: &[u8] = b"";
        listed.iter().all(|child| {
            let name = tree.name(child);
            let is_name = !name.is_empty()
                && name.len() == usize::from(child.len)
                && !name.contains(&b'/')
                && !name.contains(&0)
                && name != b"."
                && name != b"..";
            let rises = name > last;
            last = name;
            let target = tree.nodes.get(child.node as usize);
            let in_order = target.is_some_and(|target| {
                child.node as usize > index && (!is_directory(target) || target.parent as usize == index)
            });
            is_name && rises && in_order
        })
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A count. One that is too large makes bytes that are not accepted.
    fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn node(&mut self, node: &Node) {
        let Attributes {
            mode,
            uid,
            gid,
            mtime,
        } = node.attributes;
        let (start, len) = node.children;
        self.u64(mtime.sec.cast_unsigned());
        for number in [mode, uid, gid, mtime.nsec, node.nlink, node.parent, start, len] {
            self.u32(number);
        }
        let xattrs = node.xattrs.as_deref().map_or(&[][..], |xattrs| xattrs);
        self.len(xattrs.len());
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        self.u32(match node.contents {
            Contents::None => 0,
            Contents::Whole { .. } => 1,
            Contents::Sparse { .. } => 2,
            Contents::Link(_) => 3,
            Contents::Device(_) => 4,
        });
        match &node.contents {
            Contents::None => {}
            Contents::Whole { blob, offset, size } => {
                self.u32(*blob);
                self.u64(*offset);
                self.u64(*size);
            }
            Contents::Sparse { blob, size, extents } => {
                self.u32(*blob);
                self.u64(*size);
                self.len(extents.len());
                for piece in extents {
                    self.u64(piece.at);
                    self.u64(piece.offset);
                    self.u64(piece.len);
                }
            }
            Contents::Link(text) => self.bytes(text),
            Contents::Device(number) => self.u64(*number),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count <= self.0.len() / least).then_some(count)
    }

    fn node(&mut self) -> Option<Node> {
        let sec = self.u64()?.cast_signed();
        let [mode, uid, gid] = [self.u32()?, self.u32()?, self.u32()?];
        let nsec = self.u32().filter(|&nsec| nsec < 1_000_000_000)?;
        let [nlink, parent] = [self.u32()?, self.u32()?];
        let children = (self.u32()?, self.u32()?);
        let xattrs = match self.count(8)? {
            0 => None,
            count => Some(Box::new(self.xattrs(count)?)),
        };
        let contents = match self.u32()? {
            0 => Contents::None,
            1 => Contents::Whole {
                blob: self.u32()?,
                offset: self.u64()?,
                size: self.u64()?,
            },
            2 => {
                let (blob, size) = (self.u32()?, self.u64()?);
                let count = self.count(24)?;
                let piece = |reader: &mut Reader<'_>| {
                    Some(Extent {
                        at: reader.u64()?,
                        offset: reader.u64()?,
                        len: reader.u64()?,
                    })
                };
                let extents = (0..count).map(|_| piece(self)).collect::<Option<_>>()?;
                Contents::Sparse { blob, size, extents }
            }
            3 => Contents::Link(self.bytes()?.into()),
            4 => Contents::Device(self.u64()?),
            _ => return None,
        };
        Some(Node {
            attributes: Attributes {
                mode,
                uid,
                gid,
                mtime: Timestamp { sec, nsec },
            },
            nlink,
            parent,
            children,
            contents,
            xattrs,
        })
    }

    fn xattrs(&mut self, count: usize) -> Option<Xattrs> {
        (0..count)
            .map(|_| {
                let name = self.bytes().filter(|name| name.len() <= NAME_MAX)?;
                let value = self.bytes().filter(|value| value.len() <= 64 << 10)?;
                Some((name.into(), value.into()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of an image takes at most 200 bytes of memory a file, its name included.
    #[test]
    fn files_are_small() {
        assert!(size_of::<Node>() + size_of::<Child>() + 40 <= 200);
    }
}
