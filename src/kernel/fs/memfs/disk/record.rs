//! What the journal of an upper layer says, as bytes: docs/upper-layer.md describes the form.

use crate::kernel::fs::memfs::xattr::Attributes;
use crate::kernel::time::Timestamp;

/// Number of the root directory. Other files of the upper have larger ones.
pub(super) const ROOT: u64 = (1 << 52) - 1;

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

/// Longest path of the lower tree, link text, and name or value of an extended attribute, in bytes.
const TEXT_MAX: usize = 16 << 20;

/// Most paths of the lower tree told of one file.
pub(super) const ORIGINS_MAX: u32 = 64;

/// One statement about the upper. Later ones replace earlier ones about the same.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// What upper this is: always the first.
    Header(Header),
    /// All that is known of a file but its names and contents.
    Node(Box<NodeRecord>),
    /// What a name in a directory leads to; none is a whiteout.
    Name {
        directory: u64,
        name: Box<[u8]>,
        node: Option<u64>,
    },
    /// The upper says nothing of this name any more.
    Unname { directory: u64, name: Box<[u8]> },
    /// The last name of a file is gone, and with it the names that it has as a directory.
    Forget(u64),
}

/// What an upper lies upon.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// What the lower tree is, as text.
    pub(super) lower: Vec<u8>,
    /// When the first guest began to look at it.
    pub(super) since: Timestamp,
}

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeRecord {
    pub(super) id: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) rdev: u64,
    /// Names that it was given by link(2).
    pub(super) links: u64,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) btime: Option<Timestamp>,
    pub(super) contents: Contents,
    /// None: those of the lower file.
    pub(super) xattrs: Option<Attributes>,
    /// Where the lower tree has it: names with a slash between. Nothing for a file that it does not have.
    pub(super) origins: Vec<Box<[u8]>>,
}

/// Where the contents of a file are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Contents {
    /// In the lower file, or there are none (directories and nodes).
    Lower,
    Empty,
    /// In the data file of its number.
    File,
    /// It is a symbolic link with this text.
    Link(Box<[u8]>),
}

const HEADER: u8 = 1;
const NODE: u8 = 2;
const NAME: u8 = 3;
const WHITEOUT: u8 = 4;
const UNNAME: u8 = 5;
const FORGET: u8 = 6;

/// Bytes being put together. Numbers are little-endian.
struct Encoder<'a>(&'a mut Vec<u8>);

impl Encoder<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.raw(bytes);
    }

    fn time(&mut self, time: Timestamp) {
        self.u64(time.sec.cast_unsigned());
        self.u32(time.nsec);
    }
}

/// Bytes being taken apart. None: they are no record.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn raw(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.raw(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.raw(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.raw(8)?.try_into().ok()?))
    }

    fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        if len > most { None } else { self.raw(len) }
    }

    fn time(&mut self) -> Option<Timestamp> {
        let sec = self.u64()?.cast_signed();
        let nsec = self.u32()?;
        (nsec < 1_000_000_000).then_some(Timestamp { sec, nsec })
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A name in a directory.
    fn name(&mut self) -> Option<Box<[u8]>> {
        let name = self.bytes(NAME_MAX)?;
        let plain =
            !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|b| matches!(b, 0 | b'/'));
        plain.then(|| name.into())
    }

    /// A path of the lower tree; empty for its root.
    fn path(&mut self) -> Option<Box<[u8]>> {
        let path = self.bytes(TEXT_MAX)?;
        let plain = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        let good = path.is_empty() || path.split(|&b| b == b'/').all(plain);
        good.then(|| path.into())
    }
}

impl Record {
    /// Put the bytes of this behind `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut to = Encoder(out);
        match self {
            Record::Header(header) => {
                to.u8(HEADER);
                to.bytes(&header.lower);
                to.time(header.since);
            }
            Record::Node(node) => {
                to.u8(NODE);
                node.encode(&mut to);
            }
            Record::Name {
                directory,
                name,
                node,
            } => {
                to.u8(if node.is_some() { NAME } else { WHITEOUT });
                to.u64(*directory);
                to.bytes(name);
                if let Some(node) = node {
                    to.u64(*node);
                }
            }
            Record::Unname { directory, name } => {
                to.u8(UNNAME);
                to.u64(*directory);
                to.bytes(name);
            }
            Record::Forget(node) => {
                to.u8(FORGET);
                to.u64(*node);
            }
        }
    }

    /// Take a record from the front of `bytes`; none if that is no record.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Record> {
        let mut from = Decoder(bytes);
        let record = match from.u8()? {
            HEADER => Record::Header(Header {
                lower: from.bytes(TEXT_MAX)?.to_vec(),
                since: from.time()?,
            }),
            NODE => Record::Node(Box::new(NodeRecord::decode(&mut from)?)),
            kind @ (NAME | WHITEOUT) => Record::Name {
                directory: from.u64()?,
                name: from.name()?,
                node: if kind == NAME { Some(from.u64()?) } else { None },
            },
            UNNAME => Record::Unname {
                directory: from.u64()?,
                name: from.name()?,
            },
            FORGET => Record::Forget(from.u64()?),
            _ => return None,
        };
        *bytes = from.0;
        Some(record)
    }
}

impl NodeRecord {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.u64(self.id);
        for value in [self.mode, self.uid, self.gid, self.nlink] {
            to.u32(value);
        }
        to.u64(self.rdev);
        to.u64(self.links);
        for time in [self.atime, self.mtime, self.ctime] {
            to.time(time);
        }
        to.u8(u8::from(self.btime.is_some()));
        if let Some(time) = self.btime {
            to.time(time);
        }
        match &self.contents {
            Contents::Lower => to.u8(0),
            Contents::Empty => to.u8(1),
            Contents::File => to.u8(2),
            Contents::Link(text) => {
                to.u8(3);
                to.bytes(text);
            }
        }
        to.u8(u8::from(self.xattrs.is_some()));
        if let Some(attributes) = &self.xattrs {
            to.u32(u32::try_from(attributes.len()).unwrap_or(u32::MAX));
            for (name, value) in attributes {
                to.bytes(name);
                to.bytes(value);
            }
        }
        to.u32(u32::try_from(self.origins.len()).unwrap_or(u32::MAX));
        for origin in &self.origins {
            to.bytes(origin);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<NodeRecord> {
        Some(NodeRecord {
            id: from.u64()?,
            mode: from.u32()?,
            uid: from.u32()?,
            gid: from.u32()?,
            nlink: from.u32()?,
            rdev: from.u64()?,
            links: from.u64()?,
            atime: from.time()?,
            mtime: from.time()?,
            ctime: from.time()?,
            btime: if from.flag()? { Some(from.time()?) } else { None },
            contents: match from.u8()? {
                0 => Contents::Lower,
                1 => Contents::Empty,
                2 => Contents::File,
                3 => Contents::Link(from.bytes(TEXT_MAX)?.into()),
                _ => return None,
            },
            xattrs: if from.flag()? {
                let mut attributes = Attributes::new();
                for _ in 0..from.u32()? {
                    let name = from.bytes(TEXT_MAX)?.to_vec();
                    attributes.insert(name, from.bytes(TEXT_MAX)?.to_vec());
                }
                Some(attributes)
            } else {
                None
            },
            origins: {
                let mut origins = Vec::new();
                let count = from.u32().filter(|&count| count <= ORIGINS_MAX)?;
                for _ in 0..count {
                    origins.push(from.path()?);
                }
                origins
            },
        })
    }

    /// Bytes of its texts.
    pub(super) fn text_len(&self) -> u64 {
        let link = match &self.contents {
            Contents::Link(text) => text.len(),
            _ => 0,
        };
        let attributes = self.xattrs.iter().flatten();
        let xattrs: usize = attributes.map(|(name, value)| name.len() + value.len()).sum();
        let origins: usize = self.origins.iter().map(|origin| origin.len()).sum();
        (link + xattrs + origins) as u64
    }
}
