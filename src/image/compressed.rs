//! Compressed archives: decompressed once, checked against their digest.

use std::io::{self, BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use sha2::{Digest, Sha256};

use super::blob::{Window, WindowReader};
use super::cache::Cache;
use crate::platform::HostFile;

/// Most that a compressed archive may grow to: this much, or this many times its size.
const GROWTH: (u64, u64) = (1 << 30, 64);

/// Most memory for decoding xz, in KiB: what its strongest preset takes.
const XZ_MEMORY: u32 = 128 << 10;

/// How much is moved at once, in bytes.
const PIECE: usize = 256 << 10;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
        })
    }
}

/// How a file is compressed, by its first bytes.
pub(super) fn compression(window: &Window) -> Result<Option<Compression>> {
    let mut magic = [0; 6];
    let read = window.read_at(&mut magic, 0)?;
    Ok(match &magic[..read] {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        // It may begin with a frame that is to be skipped, as what pzstd writes does.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some(Compression::Xz),
        [b'B', b'Z', b'h', ..] => bail!("bzip2 is not supported; compress it by gzip, zstd or xz"),
        _ => None,
    })
}

/// An archive that is not compressed: this one, or what comes out of it. `digest` is the SHA-256 that it must have.
pub(super) fn plain(window: &Window, digest: Option<&str>, cache: &Cache) -> Result<Window> {
    let Some(compression) = compression(window)? else {
        if let Some(digest) = digest {
            check(window, digest, cache)?;
        }
        return Ok(window.clone());
    };
    let name = match digest {
        Some(digest) => format!("sha256-{digest}.tar"),
        None => format!("file-{}.tar", window.identity()?),
    };
    if let Some(kept) = cache.find(&name) {
        return Window::whole(HostFile::new(kept.into())?);
    }
    let mut file = cache.create()?;
    let hashed = expand_as(compression, window, &mut |bytes| file.write_all(bytes))?;
    if let Some(digest) = digest {
        hashed.check(digest)?;
    }
    cache.keep(&file, &name);
    Window::whole(HostFile::new(file.into())?)
}

/// Tell `put` what comes out of a compressed archive, or all of one that is not compressed.
pub(super) fn expand(window: &Window, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    match compression(window)? {
        Some(compression) => expand_as(compression, window, put).map(|_| ()),
        None => Ok(drain(&mut window.reader(), put)?),
    }
}

fn expand_as(
    compression: Compression,
    window: &Window,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Hashed> {
    let mut hashed = Hashed::new(window);
    let (fixed, factor) = GROWTH;
    let mut left = fixed.max(window.len().saturating_mul(factor));
    let done = decompress(compression, &mut hashed, &mut |bytes| {
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("it grows beyond all measure: a decompression bomb"))?;
        put(bytes)
    });
    done.with_context(|| format!("decompressing {compression}"))?;
    Ok(hashed)
}

fn decompress(
    compression: Compression,
    from: &mut Hashed,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(PIECE, from);
    match compression {
        Compression::Gzip => drain(&mut MultiGzDecoder::new(from), put),
        Compression::Xz => drain(&mut XzReader::new_mem_limit(from, true, XZ_MEMORY), put),
        Compression::Zstd => frames(&mut from, put),
    }
}

/// What comes out of all frames of a file in zstd's format, one after the other.
fn frames(from: &mut dyn BufRead, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    use FrameDecoderError::ReadFrameHeaderError as BadHeader;
    while !from.fill_buf()?.is_empty() {
        let skip = match StreamingDecoder::new(&mut *from) {
            Ok(mut frame) => {
                drain(&mut frame, put)?;
                0
            }
            Err(BadHeader(ReadFrameHeaderError::SkipFrame { length, .. })) => u64::from(length),
            Err(error) => return Err(io::Error::other(error)),
        };
        if io::copy(&mut from.take(skip), &mut io::sink())? < skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn drain(from: &mut dyn Read, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n => put(&piece[..n])?,
        }
    }
}

/// Check an archive that is read in place, once for each state of its file.
fn check(window: &Window, digest: &str, cache: &Cache) -> Result<()> {
    let name = format!("checked-{digest}-{}", window.identity()?);
    if cache.find(&name).is_some() {
        return Ok(());
    }
    Hashed::new(window).check(digest)?;
    cache.keep(&cache.create()?, &name);
    Ok(())
}

/// Fails unless bytes have this SHA-256.
pub(super) fn check_bytes(bytes: &[u8], digest: &str) -> Result<()> {
    compare(&Sha256::digest(bytes), digest)
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compare(found: &[u8], digest: &str) -> Result<()> {
    let found = hex(found);
    if found != digest {
        bail!("it is damaged: its digest is sha256:{found} instead of sha256:{digest}");
    }
    Ok(())
}

/// A reader that remembers what went through it.
struct Hashed {
    reader: WindowReader,
    hash: Sha256,
}

impl Hashed {
    fn new(window: &Window) -> Hashed {
        Hashed {
            reader: window.reader(),
            hash: Sha256::new(),
        }
    }

    /// Read what is left, and compare.
    fn check(mut self, digest: &str) -> Result<()> {
        drain(&mut self, &mut |_| Ok(()))?;
        compare(&self.hash.finalize(), digest)
    }
}

impl Read for Hashed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let done = self.reader.read(buf)?;
        self.hash.update(&buf[..done]);
        Ok(done)
    }
}
