//! Table blocks: up to 8 KiB each, one behind the other, read as if they were one text.

use std::sync::Arc;

use super::Squashfs;
use crate::kernel::stop::Errno;

/// Size of a table block, unpacked, in bytes.
const BLOCK: usize = 8192;

/// A table block.
pub(super) struct MetaBlock {
    bytes: Vec<u8>,
    /// Where the next one is.
    next: u64,
}

/// A position in a table: the block at this place of the image, and an offset in it, unpacked.
#[derive(Clone, Debug)]
pub(in crate::kernel::fs::diskfs) struct Cursor {
    block: u64,
    offset: usize,
}

impl Cursor {
    pub(super) fn new(block: u64, offset: usize) -> Cursor {
        Cursor { block, offset }
    }

    /// From a reference, the upper bits of which count from where the table begins.
    pub(super) fn within(table: u64, reference: u64) -> Result<Cursor, Errno> {
        let block = table.checked_add(reference >> 16).ok_or(Errno::EIO)?;
        Ok(Cursor::new(block, (reference & 0xffff) as usize))
    }

    /// The offset in its block of what is so many bytes further on, all blocks before that being full.
    pub(super) fn offset_after(&self, bytes: u64) -> usize {
        ((self.offset as u64 + bytes) % BLOCK as u64) as usize
    }

    /// So many bytes further on.
    pub(super) fn skip(&mut self, fs: &Squashfs, bytes: u64) -> Result<(), Errno> {
        let mut left = bytes;
        while left > 0 {
            left -= self
                .here(fs, usize::try_from(left).unwrap_or(usize::MAX), |_| ())?
                .0 as u64;
        }
        Ok(())
    }

    /// Use up to `want` bytes of the block that this is in, at least one, and go on behind them.
    fn here<T>(
        &mut self,
        fs: &Squashfs,
        want: usize,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<(usize, T), Errno> {
        let mut block = fs.meta_block(self.block)?;
        if self.offset == block.bytes.len() {
            *self = Cursor::new(block.next, 0);
            block = fs.meta_block(self.block)?;
        }
        let rest = block.bytes.get(self.offset..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(Errno::EIO)?;
        let len = rest.len().min(want);
        self.offset += len;
        Ok((len, with(&rest[..len])))
    }
}

impl Squashfs {
    /// Read all of `buf` from a table, and go on behind it.
    pub(super) fn read_meta(&self, cursor: &mut Cursor, mut buf: &mut [u8]) -> Result<(), Errno> {
        while !buf.is_empty() {
            let want = buf.len();
            let (len, ()) = cursor.here(self, want, |found| buf[..found.len()].copy_from_slice(found))?;
            buf = &mut buf[len..];
        }
        Ok(())
    }

    fn meta_block(&self, at: u64) -> Result<Arc<MetaBlock>, Errno> {
        const UNCOMPRESSED: u16 = 1 << 15;
        if let Some(known) = self.meta.get(at) {
            return Ok(known);
        }
        let mut header = [0; 2];
        self.medium.read(&mut header, at)?;
        let header = u16::from_le_bytes(header);
        let size = header & (UNCOMPRESSED - 1);
        if size == 0 || usize::from(size) > BLOCK {
            return Err(Errno::EIO);
        }
        let start = at.checked_add(2).ok_or(Errno::EIO)?;
        let mut bytes = vec![0; usize::from(size)];
        self.medium.read(&mut bytes, start)?;
        if header & UNCOMPRESSED == 0 {
            bytes = self.compression.unpack(&bytes, BLOCK)?;
        }
        if bytes.is_empty() {
            return Err(Errno::EIO);
        }
        let next = start + u64::from(size);
        let block = Arc::new(MetaBlock { bytes, next });
        self.meta.put(at, block.clone(), BLOCK);
        Ok(block)
    }
}
