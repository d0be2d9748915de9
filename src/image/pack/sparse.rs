//! Files with holes in archives: GNU tar's form 1.0 in pax records, which docker's and podman's readers know as well.
//!
//! What counts as a hole depends on the contents alone, so that equal contents give equal archives wherever they come from.

use std::io::{self, Read};
use std::sync::Arc;

use tar::Header;

use super::Record;
use crate::kernel::fs::Inode;
use crate::kernel::fs::reader::InodeReader;

/// Holes are made of blocks of this many bytes at least.
const BLOCK_MIN: u64 = 64 << 10;
/// Most blocks of a file: in larger files they are larger.
const BLOCKS_MAX: u64 = 1 << 15;
/// A file without so many bytes of holes is written as any other.
const WORTH: u64 = 1 << 20;
/// The name of what is stored, for who does not know of holes.
pub(super) const STORED_NAME: &str = "GNUSparseFile.0";
/// What archives are made of, in bytes.
const RECORD: usize = 512;

/// What is stored of a file with holes.
pub(super) struct Map {
    size: u64,
    /// Where each piece is in the file, and its length.
    pieces: Vec<(u64, u64)>,
    /// The pieces as they stand before the contents.
    text: Vec<u8>,
}

impl Map {
    /// The map of a file of this size; none if it is not worth one.
    pub(super) fn of(inode: &Arc<dyn Inode>, size: u64) -> io::Result<Option<Map>> {
        if size < WORTH {
            return Ok(None);
        }
        let mut pieces = pieces(&mut InodeReader::open(inode)?, size)?;
        let data: u64 = pieces.iter().map(|&(_, len)| len).sum();
        if size - data < WORTH {
            return Ok(None);
        }
        if pieces.last().is_none_or(|&(at, len)| at + len < size) {
            // Says where the file ends.
            pieces.push((size, 0));
        }
        let mut text = format!("{}\n", pieces.len());
        for (at, len) in &pieces {
            text.push_str(&format!("{at}\n{len}\n"));
        }
        let mut text = text.into_bytes();
        text.resize(text.len().next_multiple_of(RECORD), 0);
        Ok(Some(Map { size, pieces, text }))
    }

    /// What is said of it before its header.
    pub(super) fn records(&self, path: &[u8]) -> [Record; 4] {
        // As all others are named, by which GNU tar knows whether a directory is complete.
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let record = |name: &str, value: &[u8]| (format!("GNU.sparse.{name}"), value.to_vec());
        [
            record("major", b"1"),
            record("minor", b"0"),
            record("name", path),
            record("realsize", self.size.to_string().as_bytes()),
        ]
    }

    /// How much is stored.
    pub(super) fn stored(&self) -> u64 {
        let data: u64 = self.pieces.iter().map(|&(_, len)| len).sum();
        self.text.len() as u64 + data
    }

    /// What is stored.
    pub(super) fn data(&self, inode: &Arc<dyn Inode>) -> io::Result<impl Read> {
        let pieces = Pieces {
            reader: InodeReader::open(inode)?,
            left: self.pieces.iter(),
            now: 0,
        };
        Ok(self.text.as_slice().chain(pieces))
    }
}

/// Have a header be one of POSIX's kind: in one of its own GNU tar looks for a map of its own.
pub(super) fn make_posix(header: &mut Header) {
    header.as_mut_bytes()[257..265].copy_from_slice(b"ustar\x0000");
}

/// Runs of blocks that are not all zero.
fn pieces(reader: &mut InodeReader, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let block = BLOCK_MIN.max(size.div_ceil(BLOCKS_MAX).next_power_of_two());
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut bytes = vec![0; BLOCK_MIN as usize];
    let mut at = 0;
    while at < size {
        reader.set_position(at);
        reader.skip_hole()?;
        at = reader.position();
        if at >= size {
            break;
        }
        let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(bytes.len());
        let read = reader.read(&mut bytes[..want])?;
        if read == 0 {
            break;
        }
        if bytes[..read].iter().all(|&byte| byte == 0) {
            at += read as u64;
            continue;
        }
        // The whole block, and on behind it.
        let start = at - at % block;
        at = (start + block).min(size);
        match pieces.last_mut() {
            Some((from, len)) if *from + *len == start => *len += at - start,
            _ => pieces.push((start, at - start)),
        }
    }
    Ok(pieces)
}

/// Reads the pieces of a file, one behind the other.
struct Pieces<'a> {
    reader: InodeReader,
    left: std::slice::Iter<'a, (u64, u64)>,
    /// How much is left of the present one.
    now: u64,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.now == 0 {
            let Some(&(at, len)) = self.left.next() else {
                return Ok(0);
            };
            self.reader.set_position(at);
            self.now = len;
        }
        let want = usize::try_from(self.now).unwrap_or(usize::MAX).min(buf.len());
        let read = self.reader.read(&mut buf[..want])?;
        self.now -= read as u64;
        match read {
            0 if want > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}
