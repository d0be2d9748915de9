//! Contents that are compressed by LZ4: extents of any length, each in whole blocks.

use std::sync::Arc;

use super::Erofs;
use super::index::{Cluster, Index};
use super::lz4;
use crate::kernel::fs::Metadata;
use crate::kernel::stop::Errno;

/// Longest extent, unpacked and packed, in bytes: Linux's own bounds.
const UNPACKED_MAX: u64 = 12 << 20;
const PACKED_MAX: u64 = 1 << 20;

/// A part of a file that was compressed as one.
struct Extent {
    from: u64,
    end: u64,
    plain: bool,
    at: u64,
    stored: u64,
}

pub(super) fn read(
    fs: &Erofs,
    meta: &Metadata,
    index: &Index,
    mut buf: &mut [u8],
    mut pos: u64,
) -> Result<(), Errno> {
    while !buf.is_empty() {
        let extent = find(fs, meta, index, pos)?;
        let len = buf.len().min((extent.end - pos) as usize);
        let skip = (pos - extent.from) as usize;
        let (part, rest) = buf.split_at_mut(len);
        if extent.plain {
            // What is stored as it is is no longer than what it is stored in.
            if extent.end - extent.from > extent.stored {
                return Err(Errno::EIO);
            }
            let at = extent.at + skip as u64;
            fs.blocks.read_contents(meta.file_type(), part, at)?;
        } else {
            let whole = unpack(fs, meta, &extent)?;
            part.copy_from_slice(whole.get(skip..skip + len).ok_or(Errno::EIO)?);
        }
        pos += len as u64;
        buf = rest;
    }
    Ok(())
}

/// The extent at a position, which is within the file.
fn find(fs: &Erofs, meta: &Metadata, index: &Index, pos: u64) -> Result<Extent, Errno> {
    let size = 1 << index.bits;
    let mut number = pos >> index.bits;
    let inside = pos & (size - 1);
    let nearest = number.saturating_sub(clusters_max(index));
    let (plain, second, from, block) = loop {
        if number < nearest {
            return Err(Errno::EIO);
        }
        match index.get(fs, number)? {
            Cluster::Head {
                plain,
                second,
                offset,
                block,
            } if offset <= inside || number < pos >> index.bits => {
                break (plain, second, number * size + offset, block);
            }
            // The extent before reaches into this cluster.
            Cluster::Head { .. } => number = number.checked_sub(1).ok_or(Errno::EIO)?,
            Cluster::Within { back, .. } => {
                number = match back {
                    0 => return Err(Errno::EIO),
                    back => number.checked_sub(back).ok_or(Errno::EIO)?,
                }
            }
        }
    };
    // What is stored as it is goes by the second kind of head.
    let is_big = index.is_big(second || plain);
    let mut blocks = 1;
    if is_big
        && number + 1 < index.count
        && let Cluster::Within {
            blocks: Some(count), ..
        } = index.get(fs, number + 1)?
    {
        blocks = count;
    }
    let stored = match is_big {
        true => u64::from(blocks) << fs.block_bits,
        false => size,
    };
    let end = end(fs, meta, index, number)?;
    if end <= pos || end - from > UNPACKED_MAX || stored > PACKED_MAX {
        return Err(Errno::EIO);
    }
    Ok(Extent {
        from,
        end,
        plain,
        at: fs.block_at(block),
        stored,
    })
}

/// Most clusters that an extent touches.
fn clusters_max(index: &Index) -> u64 {
    (UNPACKED_MAX >> index.bits) + 2
}

/// Where the extent that begins in a cluster ends: where the next one begins.
fn end(fs: &Erofs, meta: &Metadata, index: &Index, head: u64) -> Result<u64, Errno> {
    let longest = head + clusters_max(index);
    for number in head + 1..index.count.min(longest) {
        if let Cluster::Head { offset, .. } = index.get(fs, number)? {
            return Ok((number << index.bits) + offset);
        }
    }
    Ok(meta.size)
}

fn unpack(fs: &Erofs, meta: &Metadata, extent: &Extent) -> Result<Arc<Vec<u8>>, Errno> {
    let len = (extent.end - extent.from) as usize;
    if let Some(known) = fs.unpacked.get(extent.at)
        && known.len() == len
    {
        return Ok(known);
    }
    let mut packed = vec![0; extent.stored as usize];
    fs.blocks
        .read_contents(meta.file_type(), &mut packed, extent.at)?;
    let bytes = match fs.zero_padding {
        // Without padding in front nothing tells where the compressed bytes end.
        false => lz4::unpack_part(&packed, len)?,
        true => {
            let padding = packed.iter().take_while(|&&byte| byte == 0).count();
            let mut bytes = vec![0; len];
            match lz4_flex::block::decompress_into(&packed[padding..], &mut bytes) {
                Ok(done) if done == len => bytes,
                _ => return Err(Errno::EIO),
            }
        }
    };
    let bytes = Arc::new(bytes);
    fs.unpacked.put(extent.at, bytes.clone(), len);
    Ok(bytes)
}
