//! The journal of an upper layer: records in frames, each of which is there as a whole or not at all.
//!
//! A frame says up to where the journal was known to be on the disk when it was written. So a frame that is not whole is told
//! from damage: behind the former there is no frame that knows it to be on the disk. It and all behind it are cut off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use super::UpperError;
use super::record::Record;

/// The bytes a journal begins with.
const MAGIC: &[u8; 16] = b"uvm upper 1\n\0\0\0\0";

/// The bytes a frame begins with; its length, what is synced, and the sum follow.
const FRAME: [u8; 4] = *b"uvmF";

/// Bytes of a frame before its records.
const HEAD: usize = 4 + 4 + 8 + 4;

/// Longest records of a frame, in bytes.
const FRAME_MAX: usize = 64 << 20;

/// Space that is kept free behind the end, in bytes: on a full disk files can still be removed.
const RESERVE: u64 = 1 << 20;

/// Records of one frame when nothing says where it has to end, in bytes.
const PORTION: usize = 1 << 20;

/// A journal that can be written.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Where the next frame goes.
    len: u64,
    /// How much of it is on the disk.
    synced: u64,
    /// Up to where there is space for it.
    reserved: u64,
    /// Records that could not be written yet.
    backlog: Vec<u8>,
}

/// CRC-32 of a frame, which holds only at its offset.
fn sum(offset: u64, synced: u64, records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&synced.to_le_bytes());
    hasher.update(records);
    hasher.finalize()
}

impl Journal {
    /// A new journal in an empty file.
    pub(super) fn create(file: File) -> io::Result<Journal> {
        file.write_all_at(MAGIC, 0)?;
        Ok(Journal {
            file,
            len: MAGIC.len() as u64,
            synced: 0,
            reserved: 0,
            backlog: Vec::new(),
        })
    }

    /// Tell all records of a journal, and cut off what was not written to its end.
    pub(super) fn open(
        file: File,
        tell: &mut dyn FnMut(Record) -> Result<(), UpperError>,
    ) -> Result<Journal, UpperError> {
        let size = file.metadata()?.len();
        let mut begin = [0; MAGIC.len()];
        if size < begin.len() as u64 {
            return Err(UpperError::Damaged(0));
        }
        file.read_exact_at(&mut begin, 0)?;
        if begin != *MAGIC {
            return Err(UpperError::Unknown);
        }
        let mut at = begin.len() as u64;
        while let Some(frame) = Frame::read(&file, at, size)? {
            let mut records = frame.records.as_slice();
            while !records.is_empty() {
                tell(Record::decode(&mut records).ok_or(UpperError::Damaged(at))?)?;
            }
            at += (HEAD + frame.records.len()) as u64;
        }
        if at < size {
            if knows_more(&file, at, size)? {
                return Err(UpperError::Damaged(at));
            }
            file.set_len(at)?;
        }
        Ok(Journal {
            file,
            len: at,
            synced: 0,
            reserved: 0,
            backlog: Vec::new(),
        })
    }

    /// Write encoded records as one frame, and before them those that could not be written the last time.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.backlog.extend_from_slice(records);
        if self.backlog.is_empty() {
            return Ok(());
        }
        if self.reserved < self.len + RESERVE / 2 {
            // Fails on a full disk, where what is left has to do, and on file systems that reserve nothing.
            let _ = fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.len, RESERVE);
            self.reserved = self.len + RESERVE;
        }
        let len = u32::try_from(self.backlog.len())
            .ok()
            .filter(|&len| len as usize <= FRAME_MAX);
        let len = len.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut frame = Vec::with_capacity(HEAD + self.backlog.len());
        frame.extend_from_slice(&FRAME);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&self.synced.to_le_bytes());
        frame.extend_from_slice(&sum(self.len, self.synced, &self.backlog).to_le_bytes());
        frame.extend_from_slice(&self.backlog);
        self.file.write_all_at(&frame, self.len)?;
        self.len += frame.len() as u64;
        self.backlog.clear();
        Ok(())
    }

    /// Write many records, which need not be there as a whole.
    pub(super) fn append_all(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let mut portion = Vec::new();
        for record in records {
            record.encode(&mut portion);
            if portion.len() >= PORTION {
                self.append(&portion)?;
                portion.clear();
            }
        }
        self.append(&portion)
    }

    /// How long it is, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether all of it is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.len
    }

    /// Another descriptor of the file, to wait for the disk without holding the journal.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// It was on the disk when it was this long.
    pub(super) fn note_synced(&mut self, len: u64) {
        self.synced = self.synced.max(len);
    }
}

/// A whole frame.
struct Frame {
    synced: u64,
    records: Vec<u8>,
}

impl Frame {
    /// The frame at an offset; none if there is no whole one.
    fn read(file: &File, at: u64, size: u64) -> io::Result<Option<Frame>> {
        let mut head = [0; HEAD];
        if size - at < head.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut head, at)?;
        let number =
            |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let len = number(4) as usize;
        let synced = u64::from(number(8)) | u64::from(number(12)) << 32;
        if head[..4] != FRAME || len > FRAME_MAX || size - at - (HEAD as u64) < len as u64 {
            return Ok(None);
        }
        let mut records = vec![0; len];
        file.read_exact_at(&mut records, at + HEAD as u64)?;
        let whole = sum(at, synced, &records) == number(16);
        Ok(whole.then_some(Frame { synced, records }))
    }
}

/// Whether a frame behind `end` knows that what is at `end` was on the disk.
fn knows_more(file: &File, end: u64, size: u64) -> io::Result<bool> {
    const PIECE: usize = 1 << 20;
    // Who wrote so many beginnings of frames meant no good.
    const TRIED_MAX: u64 = 4096;
    let mut tried = 0;
    let mut at = end;
    let mut piece = vec![0; PIECE];
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut piece[..want], at)?;
        for found in piece[..want]
            .windows(FRAME.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == FRAME)
        {
            let from = at + found.0 as u64;
            let frame = Frame::read(file, from, size)?;
            tried += 1;
            if tried > TRIED_MAX || frame.is_some_and(|frame| frame.synced > end) {
                return Ok(true);
            }
        }
        // The next piece begins early enough for a frame that begins between the two.
        at += if want < PIECE {
            want
        } else {
            want - FRAME.len() + 1
        } as u64;
    }
    Ok(false)
}
