//! What was read and unpacked last, bounded in bytes, which what it takes to remember something counts among.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Medium;
use crate::kernel::fs::FileType;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// Size of the pieces in which [`Blocks`] remembers, in bytes.
const PIECE: usize = 4096;

/// Most bytes that [`Blocks`] remembers.
const PIECES_MAX: usize = 4 << 20;

/// What an entry takes beside its value's bytes: the value itself, its counts, and its places in map and queue, which grow by doubling.
const ENTRY: usize = 192;

/// Values by the position that they were read from. Those not wanted for longest go first (second chance).
pub(super) struct Cache<T> {
    inner: Lock<Inner<T>>,
    limit: usize,
}

struct Inner<T> {
    known: HashMap<u64, Known<T>>,
    order: VecDeque<u64>,
    bytes: usize,
}

struct Known<T> {
    value: Arc<T>,
    bytes: usize,
    used: bool,
}

impl<T> Cache<T> {
    /// Remembers values of `limit` bytes in all.
    pub(super) fn new(limit: usize) -> Cache<T> {
        let inner = Inner {
            known: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
        };
        Cache {
            inner: Lock::new(Rank::Leaf, inner),
            limit,
        }
    }

    pub(super) fn get(&self, at: u64) -> Option<Arc<T>> {
        let mut inner = self.inner.lock();
        let known = inner.known.get_mut(&at)?;
        known.used = true;
        Some(known.value.clone())
    }

    /// Remember a value that takes so many bytes on the heap.
    pub(super) fn put(&self, at: u64, value: Arc<T>, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY);
        let mut inner = self.inner.lock();
        if inner.known.contains_key(&at) {
            return;
        }
        // Each round clears one mark, so this ends.
        while inner.bytes + bytes > self.limit {
            let Some(oldest) = inner.order.pop_front() else {
                return;
            };
            match inner.known.get_mut(&oldest) {
                Some(known) if known.used => {
                    known.used = false;
                    inner.order.push_back(oldest);
                }
                _ => {
                    let gone = inner.known.remove(&oldest);
                    inner.bytes -= gone.map_or(0, |known| known.bytes);
                }
            }
        }
        inner.bytes += bytes;
        inner.order.push_back(at);
        let used = false;
        inner.known.insert(at, Known { value, bytes, used });
    }
}

/// A medium of which the pieces read last are remembered: for what is read in small parts and often.
pub(super) struct Blocks {
    medium: Arc<dyn Medium>,
    pieces: Cache<Vec<u8>>,
}

impl Blocks {
    pub(super) fn new(medium: Arc<dyn Medium>) -> Blocks {
        Blocks {
            medium,
            pieces: Cache::new(PIECES_MAX),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.medium.size()
    }

    /// Read contents of a file: those of directories are remembered, of others whoever wants them twice does that.
    pub(super) fn read_contents(&self, of: FileType, buf: &mut [u8], at: u64) -> Result<(), Errno> {
        match of {
            FileType::Directory => self.read(buf, at),
            _ => self.medium.read(buf, at),
        }
    }

    /// Read all of `buf`; EIO beyond the end.
    pub(super) fn read(&self, mut buf: &mut [u8], mut at: u64) -> Result<(), Errno> {
        while !buf.is_empty() {
            let skip = (at % PIECE as u64) as usize;
            let piece = self.piece(at - skip as u64)?;
            let found = piece.get(skip..).filter(|rest| !rest.is_empty());
            let found = found.ok_or(Errno::EIO)?;
            let (part, rest) = buf.split_at_mut(found.len().min(buf.len()));
            part.copy_from_slice(&found[..part.len()]);
            at += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    /// So many bytes from a position on. The caller has bounded the length.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.size()) {
            return Err(Errno::EIO);
        }
        let mut bytes = vec![0; len];
        self.read(&mut bytes, at)?;
        Ok(bytes)
    }

    fn piece(&self, at: u64) -> Result<Arc<Vec<u8>>, Errno> {
        if let Some(known) = self.pieces.get(at) {
            return Ok(known);
        }
        let len = self.size().saturating_sub(at).min(PIECE as u64) as usize;
        let mut piece = vec![0; len];
        self.medium.read(&mut piece, at)?;
        let piece = Arc::new(piece);
        self.pieces.put(at, piece.clone(), PIECE);
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_bounded_and_keeps_what_is_wanted() {
        let cache = Cache::new(3 * (ENTRY + 10));
        for at in 0..3 {
            cache.put(at, Arc::new(at), 10);
        }
        assert!(cache.get(0).is_some());
        cache.put(3, Arc::new(3), 10);
        cache.put(4, Arc::new(4), 3 * (ENTRY + 10));
        for at in 10..1000 {
            cache.put(at, Arc::new(at), 0);
        }
        assert!(cache.inner.lock().known.len() <= 3 && cache.inner.lock().order.len() <= 3);
        let known: Vec<_> = (0..5).filter_map(|at| cache.get(at).map(|v| *v)).collect();
        assert!(
            cache.inner.lock().bytes <= 3 * (ENTRY + 10) && known.len() <= 3,
            "{known:?}"
        );
    }
}
