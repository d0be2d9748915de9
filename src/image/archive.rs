//! What is in a tar archive, and where: ustar, GNU's and POSIX's (pax) headers, their sparse files, extended attributes.
//!
//! Only headers are read. Each is checked; lengths are bounded by the archive's own.

mod pax;
mod sparse;

use anyhow::{Context, Result, bail};
use tar::Header;

use super::blob::Window;
use crate::kernel::fs::imagefs::{Extent, Xattrs};
use crate::kernel::time::Timestamp;
use pax::Pax;

const BLOCK: u64 = 512;

/// Longest header beyond a block (pax records, GNU's long names), in bytes.
const HEADER_MAX: u64 = 1 << 20;

/// How much is read at once for headers that follow each other closely, in bytes.
const AHEAD: usize = 16 << 10;

/// It does not begin as an archive does.
#[derive(Debug, thiserror::Error)]
#[error("it is no tar archive")]
pub(super) struct NoArchive;

/// One file of an archive.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Xattrs,
}

/// What kind of file it is, and what is special about it. Offsets are those of the host file.
#[derive(Debug)]
pub(super) enum Kind {
    File { offset: u64, size: u64 },
    Sparse { size: u64, extents: Box<[Extent]> },
    HardLink(Vec<u8>),
    Link(Vec<u8>),
    CharDevice(u64),
    BlockDevice(u64),
    Directory,
    Fifo,
}

impl Found {
    /// Bytes that it takes beside its path and its size.
    pub(super) fn text_len(&self) -> u64 {
        let kind = match &self.kind {
            Kind::HardLink(text) | Kind::Link(text) => text.len(),
            Kind::Sparse { extents, .. } => size_of_val(&**extents),
            _ => 0,
        };
        let xattrs: usize = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        (kind + xattrs) as u64
    }
}

/// Whether it begins with the header of an archive.
pub(super) fn begins(window: &Window) -> Result<bool> {
    let mut block = [0; 512];
    Ok(window.read_at(&mut block, 0)? == block.len() && sum_is_right(&block))
}

/// Tell `visit` of each file in an archive, in the archive's order.
pub(super) fn scan(window: &Window, visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
    let mut blocks = Blocks {
        window,
        buffer: Vec::new(),
        buffer_at: 0,
    };
    let mut extra = Extra::default();
    let mut at = 0;
    if window.len() < BLOCK {
        return Err(NoArchive.into());
    }
    while at < window.len() {
        let block = blocks.get(at)?;
        // An archive ends by two blocks of zeroes; one is as good, and so is the end of the file.
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(&block);
        if !sum_is_right(&block) {
            match at {
                0 => return Err(NoArchive.into()),
                _ => bail!("it is damaged at byte {at}: a header's checksum is wrong"),
            }
        }
        let entry = Entry {
            blocks: &mut blocks,
            header,
            at,
        };
        at = entry
            .take(&mut extra, visit)
            .with_context(|| format!("at byte {at} of the archive"))?;
    }
    Ok(())
}

/// Unsigned sum of all bytes with the sum itself as blanks; some old programs summed signed ones.
fn sum_is_right(block: &[u8; 512]) -> bool {
    let Ok(told) = Header::from_byte_slice(block).cksum() else {
        return false;
    };
    let counted = |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(index, &byte)| counted(index, byte))
    };
    let unsigned: u32 = bytes().map(u32::from).sum();
    let signed: i32 = bytes().map(|byte| i32::from(byte.cast_signed())).sum();
    told == unsigned || i32::try_from(told) == Ok(signed)
}

/// Blocks of an archive, some of them read ahead.
struct Blocks<'a> {
    window: &'a Window,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Blocks<'_> {
    fn get(&mut self, at: u64) -> Result<[u8; 512]> {
        let cached = at
            .checked_sub(self.buffer_at)
            .and_then(|skip| usize::try_from(skip).ok());
        let mut found = cached.and_then(|skip| self.buffer.get(skip..)?.first_chunk().copied());
        if found.is_none() {
            self.buffer.resize(AHEAD, 0);
            let read = self.window.read_at(&mut self.buffer, at)?;
            self.buffer.truncate(read);
            self.buffer_at = at;
            found = self.buffer.first_chunk().copied();
        }
        found.context("it is cut short")
    }

    /// A long header.
    fn text(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        if len > HEADER_MAX {
            bail!("a header is longer than {HEADER_MAX} bytes");
        }
        self.window.part(at, len)?.bytes(HEADER_MAX)
    }
}

/// What headers say of the file that comes next.
#[derive(Default)]
struct Extra {
    pax: Pax,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// One header of an archive.
struct Entry<'a, 'b> {
    blocks: &'a mut Blocks<'b>,
    header: &'a Header,
    at: u64,
}

impl Entry<'_, '_> {
    /// Deal with it; where the next one is.
    fn take(self, extra: &mut Extra, visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<u64> {
        let kind = self.header.as_bytes()[156];
        let told = self.header.entry_size().context("a size that is no number")?;
        let mut data = self.at + BLOCK;
        // The size of a file may be too large for its header, that of a header is not.
        let is_header = matches!(kind, b'x' | b'g' | b'X' | b'L' | b'K');
        let stored = match extra.pax.size {
            Some(size) if !is_header => size,
            _ => told,
        };
        match kind {
            b'x' | b'X' => extra.pax = Pax::parse(&self.blocks.text(data, stored)?)?,
            // What it says of all files that follow is never about what is read here.
            b'g' => {}
            b'L' => extra.name = Some(until_zero(self.blocks.text(data, stored)?)),
            b'K' => extra.link = Some(until_zero(self.blocks.text(data, stored)?)),
            _ => {
                let extra = std::mem::take(extra);
                let map = match kind {
                    b'S' => Some(sparse::old(self.header, self.blocks, &mut data)?),
                    _ => None,
                };
                self.blocks.window.part(data, stored)?;
                if let Some(found) = self.file(kind, extra, data, stored, map)? {
                    visit(found)?;
                }
            }
        }
        let end = data
            .checked_add(stored)
            .filter(|&end| end <= self.blocks.window.len());
        Ok(end.context("it is cut short")?.next_multiple_of(BLOCK))
    }

    /// The file that a header is about; none if it is of a kind that no file system has.
    fn file(
        &self,
        kind: u8,
        extra: Extra,
        data: u64,
        stored: u64,
        map: Option<sparse::Map>,
    ) -> Result<Option<Found>> {
        let Extra { pax, name, link } = extra;
        let header = self.header;
        let path = pax
            .path
            .or(name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || match pax.link.or(link) {
            Some(link) => link,
            None => header
                .link_name_bytes()
                .map(|link| link.into_owned())
                .unwrap_or_default(),
        };
        let map = match map {
            Some(map) => Some(map),
            None => pax.sparse.map(self.blocks.window, data, stored)?,
        };
        let kind = match kind {
            // Before there was a kind for them, directories were files with a slash behind the name.
            b'0' | 0 | b'7' | b'S' if map.is_none() && path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => self.contents(data, stored, map)?,
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Link(link()),
            b'3' => Kind::CharDevice(self.device()?),
            b'4' => Kind::BlockDevice(self.device()?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Ok(None),
        };
        let number = |told: Option<u64>, field: std::io::Result<u64>| -> Result<u32> {
            let number = told
                .map_or_else(|| field, Ok)
                .context("an owner that is no number")?;
            u32::try_from(number).context("an owner that is too large")
        };
        Ok(Some(Found {
            path,
            kind,
            mode: header.mode().context("a mode that is no number")? & 0o7777,
            uid: number(pax.uid, header.uid())?,
            gid: number(pax.gid, header.gid())?,
            mtime: match pax.mtime {
                Some(time) => time,
                None => Timestamp {
                    sec: header.mtime().context("a time that is no number")?.cast_signed(),
                    nsec: 0,
                },
            },
            xattrs: pax.xattrs.into(),
        }))
    }

    fn contents(&self, data: u64, stored: u64, map: Option<sparse::Map>) -> Result<Kind> {
        let start = self.blocks.window.start();
        Ok(match map {
            None => Kind::File {
                offset: start + data,
                size: stored,
            },
            Some(map) => Kind::Sparse {
                size: map.size,
                extents: map.extents(start + data, stored)?,
            },
        })
    }

    fn device(&self) -> Result<u64> {
        let number = |field: std::io::Result<Option<u32>>| -> Result<u32> {
            Ok(field.context("a device that is no number")?.unwrap_or(0))
        };
        let (major, minor) = (
            number(self.header.device_major())?,
            number(self.header.device_minor())?,
        );
        Ok(libc::makedev(major, minor))
    }
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    text
}
