//! How blocks are compressed.

use std::io::Read;

use flate2::bufread::ZlibDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::FrameDecoder;

use super::{BadImage, Format, Squashfs};
use crate::kernel::stop::Errno;

/// Most memory for decoding xz, in KiB: a dictionary is at most as large as a block, 1 MiB.
const XZ_MEMORY: u32 = 8 << 10;

/// Largest window of zstd, in bytes: what its strongest level takes for a block of 1 MiB, and some.
const ZSTD_WINDOW: u64 = 8 << 20;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    pub(super) fn by_number(number: u16) -> Result<Compression, BadImage> {
        Ok(match number {
            1 => Compression::Gzip,
            4 => Compression::Xz,
            5 => Compression::Lz4,
            6 => Compression::Zstd,
            other => {
                let what = match other {
                    2 => "lzma compression".to_owned(),
                    3 => "lzo compression".to_owned(),
                    _ => format!("compression number {other}"),
                };
                return Err(BadImage::Unsupported {
                    format: Squashfs::NAME,
                    what,
                });
            }
        })
    }

    /// Unpack a block, which must not become larger than `limit`.
    pub(super) fn unpack(self, packed: &[u8], limit: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; limit];
        let len = match self {
            Compression::Gzip => fill(&mut ZlibDecoder::new(packed), &mut bytes)?,
            Compression::Xz => fill(&mut XzReader::new_mem_limit(packed, false, XZ_MEMORY), &mut bytes)?,
            Compression::Lz4 => {
                lz4_flex::block::decompress_into(packed, &mut bytes).map_err(|_| Errno::EIO)?
            }
            Compression::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW);
                decoder.decode_all(packed, &mut bytes).map_err(|_| Errno::EIO)?
            }
        };
        bytes.truncate(len);
        // Whoever remembers it counts its length.
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}

/// Read until the end, which must come before `buf` is more than full.
fn fill(from: &mut dyn Read, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0;
    while len < buf.len() {
        match from.read(&mut buf[len..]).map_err(|_| Errno::EIO)? {
            0 => return Ok(len),
            n => len += n,
        }
    }
    match from.read(&mut [0]) {
        Ok(0) => Ok(len),
        _ => Err(Errno::EIO),
    }
}
