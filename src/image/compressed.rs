//! Compressed archives: decompressed once, checked against their digest.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use sha2::{Digest, Sha256};

use super::blob::{Window, WindowReader};
use super::cache::Cache;
use super::layout::Layer;
use crate::platform::HostFile;

/// Most that the compressed parts of an image may grow to: this much, or this many times their size.
const GROWTH: (u64, u64) = (1 << 30, 64);

/// Most layers that are decompressed at a time: xz takes much memory for each.
const WORKERS_MAX: usize = 8;

/// Most memory for decoding xz, in KiB: what its strongest preset takes.
const XZ_MEMORY: u32 = 128 << 10;

/// How much is moved at once, in bytes.
const PIECE: usize = 256 << 10;

/// How much more may come out of the compressed parts of an image, in bytes.
pub(super) struct Growth(AtomicU64);

impl Growth {
    /// For parts that take so many bytes, compressed, in all.
    pub(super) fn of(bytes: u64) -> Growth {
        let (fixed, factor) = GROWTH;
        Growth(AtomicU64::new(fixed.max(bytes.saturating_mul(factor))))
    }

    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(bytes);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other(
                "it grows beyond all measure: a decompression bomb",
            )),
        }
    }
}

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

/// The layers of an image as archives that are not compressed, as many at a time as there are CPUs.
pub(super) fn plain_layers(layers: &[Layer], cache: &Cache) -> Result<Vec<Window>> {
    let total = layers.iter().map(|layer| layer.window.len());
    let growth = Growth::of(total.fold(0, u64::saturating_add));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(number) else {
                return done;
            };
            let made = plain(&layer.window, layer.digest.as_deref(), cache, &growth);
            if made.is_err() {
                // The others need not be begun.
                next.store(layers.len(), Ordering::Relaxed);
            }
            done.push((number, made));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = workers.min(layers.len()).min(WORKERS_MAX);
    let mut all = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..workers).filter_map(spawn).collect();
        let mut all = work();
        for other in others {
            all.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        all
    });
    all.sort_by_key(|(number, _)| *number);
    let count = layers.len();
    let named = |(number, made): (usize, Result<Window>)| {
        made.with_context(|| format!("layer {} of {count}", number + 1))
    };
    all.into_iter().map(named).collect()
}

/// An archive that is not compressed: this one, or what comes out of it. `digest` is the SHA-256 that it must have. What comes out
/// counts against `growth` whenever it was decompressed.
pub(super) fn plain(window: &Window, digest: Option<&str>, cache: &Cache, growth: &Growth) -> Result<Window> {
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
        let kept = Window::whole(HostFile::new(kept.into())?)?;
        growth.take(kept.len())?;
        return Ok(kept);
    }
    let mut file = cache.create()?;
    let hashed = expand_as(compression, window, growth, &mut |bytes| file.write_all(bytes))?;
    if let Some(digest) = digest {
        hashed.check(digest)?;
    }
    cache.keep(&file, &name);
    Window::whole(HostFile::new(file.into())?)
}

/// Tell `put` what comes out of a compressed archive, or all of one that is not compressed.
pub(super) fn expand(window: &Window, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    match compression(window)? {
        Some(compression) => {
            expand_as(compression, window, &Growth::of(window.len()), put)?;
        }
        None => drain(&mut window.reader(), put)?,
    }
    Ok(())
}

fn expand_as(
    compression: Compression,
    window: &Window,
    growth: &Growth,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Hashed> {
    let mut hashed = Hashed::new(window);
    let done = decompress(compression, &mut hashed, &mut |bytes| {
        growth.take(bytes.len() as u64)?;
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

/// Hand on all that is left of a reader.
pub(super) fn drain(from: &mut dyn Read, put: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => put(&piece[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Check an archive that is read in place, once for each state of its file.
fn check(window: &Window, digest: &str, cache: &Cache) -> Result<()> {
    let name = format!("checked-{digest}-{}", window.identity()?);
    if cache.find(&name).is_some() {
        return Ok(());
    }
    compare(&sha256(&mut window.reader())?, digest)?;
    cache.keep(&cache.create()?, &name);
    Ok(())
}

/// Fails unless bytes have this SHA-256.
pub(super) fn check_bytes(bytes: &[u8], digest: &str) -> Result<()> {
    compare(&hex(&Sha256::digest(bytes)), digest)
}

/// The digits of the SHA-256 of all that is left of a reader.
pub(super) fn sha256(from: &mut dyn Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    drain(from, &mut |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok(hex(&hash.finalize()))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails unless a digest is the one that it must be.
pub(super) fn compare(found: &str, digest: &str) -> Result<()> {
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
        compare(&hex(&self.hash.finalize()), digest)
    }
}

impl Read for Hashed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let done = self.reader.read(buf)?;
        self.hash.update(&buf[..done]);
        Ok(done)
    }
}
