//! The index of a compressed file: for each *logical cluster* (a block of the file) whether an extent begins in it, where, and
//! where its compressed bytes are. It comes in rows of 8 bytes, or in packs of rows of 4 or 2 bytes on average.

use super::Erofs;
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::stop::Errno;

/// Bytes of the header before the index.
const HEADER: u64 = 8;

/// A distance back that is the number of compressed blocks instead.
const IS_COUNT: u32 = 1 << 11;

/// An index.
pub(super) struct Index {
    /// Where the header ends.
    start: u64,
    packed: bool,
    /// Whether some rows take 2 bytes.
    dense: bool,
    /// Whether extents may take more than one compressed block, by which of the two kinds of head they have.
    big: [bool; 2],
    /// Bits of the size of a cluster.
    pub(super) bits: u32,
    /// How many there are.
    pub(super) count: u64,
}

/// What is said of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// An extent begins so many bytes into it.
    Head {
        /// Whether it is stored as it is.
        plain: bool,
        /// Which kind of head.
        second: bool,
        offset: u64,
        block: u32,
    },
    /// It belongs to the extent that begins in the cluster so far before.
    Within { back: u64, blocks: Option<u32> },
}

impl Index {
    pub(super) fn open(fs: &Erofs, behind: u64, size: u64, packed: bool) -> Result<Index, Errno> {
        let at = behind.next_multiple_of(8);
        let header = fs.blocks.bytes(at, HEADER as usize)?;
        let header = Fields(&header);
        let (advice, algorithms, cluster) = match packed || fs.big_clusters {
            true => (header.u16(4)?, header.u8(6)?, header.u8(7)?),
            // Before there were big clusters there was nothing to say.
            false => (0, 0, 0),
        };
        const DENSE: u16 = 0x1;
        const BIG: [u16; 2] = [0x2, 0x4];
        const KNOWN: u16 = 0x7;
        // LZ4 is number 0 for both kinds of head.
        if advice & !KNOWN != 0 || algorithms != 0 || cluster & !7 != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let bits = u32::from(fs.block_bits) + u32::from(cluster);
        Ok(Index {
            start: at + HEADER,
            packed,
            dense: advice & DENSE != 0,
            big: BIG.map(|bit| advice & bit != 0),
            bits,
            count: size.div_ceil(1 << bits),
        })
    }

    /// Whether the extent of a head may take more than one block.
    pub(super) fn is_big(&self, second: bool) -> bool {
        self.big[usize::from(second)]
    }

    pub(super) fn get(&self, fs: &Erofs, number: u64) -> Result<Cluster, Errno> {
        if number >= self.count {
            return Err(Errno::EIO);
        }
        match self.packed {
            true => self.packed(fs, number),
            false => self.whole(fs, number),
        }
    }

    /// A row of 8 bytes.
    fn whole(&self, fs: &Erofs, number: u64) -> Result<Cluster, Errno> {
        let at = number
            .checked_mul(8)
            .and_then(|skip| self.start.checked_add(skip + 8));
        let row = fs.blocks.bytes(at.ok_or(Errno::EIO)?, 8)?;
        let row = Fields(&row);
        let kind = u32::from(row.u16(0)? & 3);
        if kind == WITHIN {
            let back = u32::from(row.u16(4)?);
            return Ok(match back & IS_COUNT {
                0 => Cluster::Within {
                    back: u64::from(back),
                    blocks: None,
                },
                _ => Cluster::Within {
                    back: 1,
                    blocks: Some(back & !IS_COUNT),
                },
            });
        }
        self.head(kind, u32::from(row.u16(2)?), row.u32(4)?)
    }

    fn head(&self, kind: u32, offset: u32, block: u32) -> Result<Cluster, Errno> {
        if offset >> self.bits != 0 {
            return Err(Errno::EIO);
        }
        Ok(Cluster::Head {
            plain: kind == PLAIN,
            second: kind == SECOND_HEAD,
            offset: u64::from(offset),
            block,
        })
    }

    /// A row of a pack. Packs of two rows of 4 bytes come first, up to a multiple of 32 bytes, and last.
    fn packed(&self, fs: &Erofs, number: u64) -> Result<Cluster, Errno> {
        let first = ((32 - self.start % 32) % 32) / 4;
        let dense = match self.dense && first < self.count {
            true => (self.count - first) / 16 * 16,
            false => 0,
        };
        let (mut at, mut left, mut width) = (self.start, number, 4);
        if left >= first {
            at += first * 4;
            left -= first;
            if left < dense {
                width = 2;
            } else {
                at += dense * 2;
                left -= dense;
            }
        }
        let rows: u64 = if width == 4 { 2 } else { 16 };
        if self.bits > 14 || (width == 2 && self.bits > 12) {
            return Err(Errno::EOPNOTSUPP);
        }
        let size = rows * width;
        let place = at.checked_add(left * width).ok_or(Errno::EIO)?;
        // The 4-byte packs are aligned to 8 bytes wherever they begin.
        let begin = place / size * size;
        let bytes = fs.blocks.bytes(begin, size as usize)?;
        let pack = Pack {
            bytes: &bytes,
            low_bits: self.bits.max(12),
            row_bits: ((size - 4) * 8 / rows) as usize,
            rows: rows as usize,
        };
        pack.row(self, ((place - begin) / width) as usize)
    }
}

/// Kinds of cluster.
const PLAIN: u32 = 0;
const WITHIN: u32 = 2;
const SECOND_HEAD: u32 = 3;

/// Rows that share the number of a block.
struct Pack<'a> {
    bytes: &'a [u8],
    low_bits: u32,
    row_bits: usize,
    rows: usize,
}

impl Pack<'_> {
    /// Kind and number of a row.
    fn bits(&self, row: usize) -> Result<(u32, u32), Errno> {
        let bit = self.row_bits * row;
        let word = Fields(self.bytes).u32(bit / 8)? >> (bit % 8);
        Ok(((word >> self.low_bits) & 3, word & ((1 << self.low_bits) - 1)))
    }

    fn row(&self, index: &Index, row: usize) -> Result<Cluster, Errno> {
        let (kind, low) = self.bits(row)?;
        if kind != WITHIN {
            let base = Fields(self.bytes).u32(self.bytes.len() - 4)?;
            let block = base.checked_add(self.blocks_before(index, row)?);
            return index.head(kind, low, block.ok_or(Errno::EIO)?);
        }
        if low & IS_COUNT != 0 {
            let blocks = Some(low & !IS_COUNT);
            return Ok(Cluster::Within { back: 1, blocks });
        }
        let back = match row + 1 == self.rows {
            false => low,
            // The last row says how far it is to the next head instead; the one before it knows.
            true => match self.bits(row - 1)? {
                (WITHIN, low) if low & IS_COUNT != 0 => 2,
                (WITHIN, low) => low + 1,
                _ => 1,
            },
        };
        Ok(Cluster::Within {
            back: u64::from(back),
            blocks: None,
        })
    }

    /// How many blocks the heads before a row take: the pack says where the first is.
    fn blocks_before(&self, index: &Index, row: usize) -> Result<u32, Errno> {
        let mut at = row;
        if !index.big[0] {
            let mut blocks = 1;
            while at > 0 {
                at -= 1;
                let (kind, low) = self.bits(at)?;
                if kind == WITHIN {
                    match at.checked_sub(low as usize) {
                        Some(before) => at = before,
                        None => break,
                    }
                }
                blocks += 1;
            }
            return Ok(blocks);
        }
        let mut blocks = 0;
        while at > 0 {
            at -= 1;
            let (kind, low) = self.bits(at)?;
            if kind != WITHIN {
                blocks += 1;
            } else if low & IS_COUNT != 0 {
                blocks += low & !IS_COUNT;
                at = at.saturating_sub(1);
            } else if low <= 1 {
                return Err(Errno::EIO);
            } else {
                at = at.saturating_sub(low as usize - 2);
            }
        }
        Ok(blocks)
    }
}
