//! Sparse files: GNU's own header, and the three ways that GNU tar has to say it in pax records.

use anyhow::{Context, Result, bail};
use tar::{GnuExtSparseHeader, Header};

use super::super::blob::Window;
use super::pax::number;
use super::{BLOCK, Blocks, HEADER_MAX};
use crate::kernel::fs::imagefs::Extent;

/// Most pieces of one file.
const PIECES_MAX: usize = 1 << 16;

/// Which pieces of a file are stored.
pub(super) struct Map {
    /// Size of the file with its holes.
    pub(super) size: u64,
    /// Where each piece is in the file, and its length.
    pieces: Vec<(u64, u64)>,
    /// Bytes of the map itself before the contents.
    skip: u64,
}

impl Map {
    /// Where the pieces are, given where what is stored begins and how much that is.
    pub(super) fn extents(&self, data: u64, stored: u64) -> Result<Box<[Extent]>> {
        let mut offset = data + self.skip;
        let (mut used, mut end) = (self.skip, 0);
        let mut extents = Vec::new();
        for &(at, len) in &self.pieces {
            let piece_end = at.checked_add(len).filter(|&end| end <= self.size);
            if at < end || piece_end.is_none() {
                bail!("the pieces of a sparse file overlap or are beyond its end");
            }
            end = at + len;
            used = used
                .checked_add(len)
                .filter(|&used| used <= stored)
                .context("a sparse file is cut short")?;
            if len > 0 {
                extents.push(Extent { at, offset, len });
            }
            offset += len;
        }
        Ok(extents.into())
    }
}

/// The map of GNU's own kind of header, which may go on behind it: `data` is moved behind that.
pub(super) fn old(header: &Header, blocks: &mut Blocks<'_>, data: &mut u64) -> Result<Map> {
    let gnu = header.as_gnu().context("a sparse file without GNU's header")?;
    let wrong = "a number of a sparse file is none";
    let mut pieces = Vec::new();
    let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
        for piece in sparse.iter().filter(|piece| !piece.is_empty()) {
            pieces.push((piece.offset().context(wrong)?, piece.length().context(wrong)?));
        }
        if pieces.len() > PIECES_MAX {
            bail!("a sparse file has more than {PIECES_MAX} pieces");
        }
        Ok(())
    };
    add(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut next = GnuExtSparseHeader::new();
        next.as_mut_bytes().copy_from_slice(&blocks.get(*data)?);
        *data += BLOCK;
        add(next.sparse())?;
        more = next.is_extended();
    }
    Ok(Map {
        size: gnu.real_size().context(wrong)?,
        pieces,
        skip: 0,
    })
}

/// What pax records say of a sparse file.
#[derive(Default)]
pub(super) struct PaxSparse {
    size: Option<u64>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    /// Whether the map is stored before the contents (version 1.0).
    stored: bool,
}

impl PaxSparse {
    /// A record whose key begins with `GNU.sparse.`.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"major" => self.stored = number(value)? == 1,
            b"offset" | b"numbytes" => self.numbers.push(number(value)?),
            b"map" => {
                for text in value.split(|&byte| byte == b',') {
                    self.numbers.push(number(text)?);
                }
            }
            _ => {}
        }
        if self.numbers.len() > 2 * PIECES_MAX {
            bail!("a sparse file has more than {PIECES_MAX} pieces");
        }
        Ok(())
    }

    /// The map of a file; none if it is not sparse.
    pub(super) fn map(self, window: &Window, data: u64, stored: u64) -> Result<Option<Map>> {
        let Some(size) = self.size else { return Ok(None) };
        let (numbers, skip) = match self.stored {
            true => stored_map(window, data, stored)?,
            false => (self.numbers, 0),
        };
        let (pairs, []) = numbers.as_chunks::<2>() else {
            bail!("the map of a sparse file ends early");
        };
        let pieces = pairs.iter().map(|&[at, len]| (at, len)).collect();
        Ok(Some(Map { size, pieces, skip }))
    }
}

/// The numbers that stand before the contents, a line each, their count first; and how much room they take.
fn stored_map(window: &Window, data: u64, stored: u64) -> Result<(Vec<u64>, u64)> {
    let text = window.part(data, stored.min(HEADER_MAX))?.bytes(HEADER_MAX)?;
    let mut at = 0;
    let mut next = || -> Result<u64> {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .context("the map of a sparse file ends early")?;
        at += end + 1;
        number(&rest[..end])
    };
    let count = usize::try_from(next()?)?;
    if count > PIECES_MAX {
        bail!("a sparse file has more than {PIECES_MAX} pieces");
    }
    let numbers = (0..2 * count).map(|_| next()).collect::<Result<Vec<u64>>>()?;
    Ok((numbers, (at as u64).next_multiple_of(BLOCK)))
}
