//! The files of an image, in arrays.

use crate::kernel::fs::FileType;
use crate::kernel::time::Timestamp;

/// Longest name, in bytes.
pub(super) const NAME_MAX: usize = 255;
/// Most files of an image.
pub(super) const FILES_MAX: usize = 16 << 20;

/// Number of a file; the root's is 0.
pub(super) type Index = u32;

/// Attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of contents.
    pub mtime: Timestamp,
}

/// A piece of a file's contents; what no piece covers is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it is in the file.
    pub at: u64,
    /// Where it is in the blob.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// What a file has beside its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing: directories, FIFOs.
    None,
    /// Of a regular file, all in one piece at this offset of a blob.
    Whole {
        /// Number of the blob.
        blob: u32,
        /// Where it is in the blob.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Of a regular file with holes.
    Sparse {
        /// Number of the blob.
        blob: u32,
        /// Bytes with the holes.
        size: u64,
        /// Pieces in rising order that do not overlap.
        extents: Box<[Extent]>,
    },
    /// Where a symbolic link leads.
    Link(Box<[u8]>),
    /// Number of a device.
    Device(u64),
}

/// Name and value of an extended attribute.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// The extended attributes of a file.
pub type Xattrs = Box<[Xattr]>;

/// A file of an image.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    pub(super) nlink: u32,
    /// Of a directory: the one it is in, and which of [`Tree::children`] are its names, in byte order.
    pub(super) parent: Index,
    pub(super) children: (u32, u32),
    pub(super) contents: Contents,
    pub(super) xattrs: Option<Box<Xattrs>>,
}

impl Node {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_mode(self.attributes.mode).unwrap_or(FileType::Regular)
    }
}

/// A name in a directory: where it is in [`Tree::names`], and the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) start: u32,
    pub(super) len: u8,
    pub(super) node: Index,
}

/// All files of an image.
#[derive(Debug)]
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<Child>,
    pub(super) names: Vec<u8>,
    /// Bytes of contents in all.
    pub(super) size: u64,
}

impl Tree {
    pub(super) fn node(&self, index: Index) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    fn listed(&self, directory: &Node) -> &[Child] {
        let (start, len) = directory.children;
        self.children
            .get(start as usize..(start + len) as usize)
            .unwrap_or_default()
    }

    pub(super) fn name(&self, child: &Child) -> &[u8] {
        let start = child.start as usize;
        self.names
            .get(start..start + usize::from(child.len))
            .unwrap_or_default()
    }

    /// Note how much there is in all files.
    pub(super) fn count(&mut self) {
        let sizes = self.nodes.iter().map(|node| match node.contents {
            Contents::Whole { size, .. } | Contents::Sparse { size, .. } => size,
            _ => 0,
        });
        self.size = sizes.fold(0, u64::saturating_add);
    }

    /// The file of this name in a directory.
    pub(super) fn find(&self, directory: &Node, name: &[u8]) -> Option<Index> {
        let listed = self.listed(directory);
        let at = listed.binary_search_by(|child| self.name(child).cmp(name)).ok()?;
        listed.get(at).map(|child| child.node)
    }

    /// Name and file of an entry of a directory.
    pub(super) fn entry(&self, directory: &Node, at: usize) -> Option<(&[u8], Index)> {
        self.listed(directory)
            .get(at)
            .map(|child| (self.name(child), child.node))
    }
}
