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
pub(super) const FRAME_MAX: usize = 64 << 20;

/// Most bytes that are summed to tell a torn end from damage: what a guest wrote may look like many long frames.
const SUMMED_MAX: u64 = 1 << 30;

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
        while let Some(frame) = read_frame(&file, at, size)? {
            let mut records = frame.as_slice();
            while !records.is_empty() {
                tell(Record::decode(&mut records).ok_or(UpperError::Damaged(at))?)?;
            }
            at += (HEAD + frame.len()) as u64;
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
        })
    }

    /// Write encoded records as one frame.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if self.reserved < self.len + RESERVE / 2 {
            // Fails on a full disk, where what is left has to do, and on file systems that reserve nothing.
            let _ = fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.len, RESERVE);
            self.reserved = self.len + RESERVE;
        }
        let len = u32::try_from(records.len())
            .ok()
            .filter(|&len| len as usize <= FRAME_MAX);
        let len = len.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut frame = Vec::with_capacity(HEAD + records.len());
        frame.extend_from_slice(&FRAME);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&self.synced.to_le_bytes());
        frame.extend_from_slice(&sum(self.len, self.synced, records).to_le_bytes());
        frame.extend_from_slice(records);
        self.file.write_all_at(&frame, self.len)?;
        self.len += frame.len() as u64;
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

/// What a frame begins with.
struct Head {
    len: usize,
    synced: u64,
    sum: u32,
}

impl Head {
    /// The head at an offset; none if there is none, or no room for what it announces.
    fn read(file: &File, at: u64, size: u64) -> io::Result<Option<Head>> {
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
        let sum = number(16);
        Ok(Some(Head { len, synced, sum }))
    }
}

/// The records of the frame at an offset; none if there is no whole one.
fn read_frame(file: &File, at: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
    match Head::read(file, at, size)? {
        Some(head) => read_records(file, at, &head),
        None => Ok(None),
    }
}

fn read_records(file: &File, at: u64, head: &Head) -> io::Result<Option<Vec<u8>>> {
    let mut records = vec![0; head.len];
    file.read_exact_at(&mut records, at + HEAD as u64)?;
    let whole = sum(at, head.synced, &records) == head.sum;
    Ok(whole.then_some(records))
}

/// Whether a frame behind `end` knows that what is at `end` was on the disk.
fn knows_more(file: &File, end: u64, size: u64) -> io::Result<bool> {
    const PIECE: usize = 1 << 20;
    let mut summed = 0;
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
            let head = Head::read(file, from, size)?;
            let Some(head) = head.filter(|head| head.synced > end && head.synced <= from) else {
                continue;
            };
            summed += head.len as u64;
            if summed > SUMMED_MAX {
                return Ok(false);
            }
            if read_records(file, from, &head)?.is_some() {
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
