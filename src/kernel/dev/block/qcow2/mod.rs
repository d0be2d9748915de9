//! qcow2: a disk in clusters that are anywhere in a file, found by tables of two levels, with a reference count for each.
//!
//! Written are only images without snapshots, so a cluster is used once, or more often by compressed parts that share it. The order of
//! writes is such that whoever is killed between two of them leaves at worst a cluster that nobody uses: first the count, then
//! contents, then the entry that leads there. The file is hostile: entries are checked when they are used, nothing is read outside of
//! the file, and what lies on the header or the tables that it names is never written as contents.

mod counts;
mod header;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;
use rustix::fs::{fdatasync, fstat};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::Disk;
use super::raw::{make_zero, read_exact, write_all};
use crate::kernel::fs::hostfs::host_errno;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::platform::HostFile;
pub use header::BadQcow2;
use header::{Header, MAGIC};

/// Bits of an entry that are a place in the file.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// An entry's place is used by nobody else.
const OWN: u64 = 1 << 63;
/// An entry of a compressed cluster.
const PACKED: u64 = 1 << 62;
/// A cluster reads as zeroes.
const ZERO: u64 = 1;

/// Clusters or absent tables that one call makes zero.
const STEPS: u64 = 2048;

/// Largest window of zstd, in bytes: a cluster is at most 2 MiB.
const ZSTD_WINDOW: u64 = 8 << 20;

/// A qcow2 file as a disk.
pub struct Qcow2 {
    file: Arc<HostFile>,
    read_only: bool,
    header: Header,
    state: Lock<State>,
}

/// What is remembered of the file; what changes is written at once.
struct State {
    l1: Vec<u64>,
    /// Where the blocks of reference counts are.
    counts: Vec<u64>,
    /// The file's length.
    len: u64,
    /// The first cluster behind all that are used.
    end: u64,
    /// What that is at most: tables that lie in contents would have the file grow without end.
    limit: u64,
    /// Clusters before that which are not used any more.
    free: Vec<u64>,
    /// The compressed cluster that was read last: its entry and what it holds.
    unpacked: Option<(u64, Arc<Vec<u8>>)>,
}

/// Whether nothing has to be read for a cluster with this entry.
fn reads_as_zeroes(entry: u64) -> bool {
    entry & PACKED == 0 && (entry & ZERO != 0 || entry & PLACE == 0)
}

/// Whether a file begins as qcow2 does.
pub fn is_qcow2(file: &HostFile) -> bool {
    let mut magic = [0; 4];
    read_exact(file, &mut magic, 0).is_ok() && magic == MAGIC
}

fn read_words(file: &HostFile, at: u64, count: u64) -> Result<Vec<u64>, Errno> {
    let mut bytes = vec![0; usize::try_from(count * 8).map_err(|_| Errno::EIO)?];
    read_exact(file, &mut bytes, at)?;
    let words = bytes.as_chunks().0.iter();
    Ok(words.map(|word| u64::from_be_bytes(*word)).collect())
}

impl Qcow2 {
    /// Read the header and the lists of tables.
    pub fn open(file: Arc<HostFile>, read_only: bool) -> Result<Qcow2, BadQcow2> {
        let len = fstat(&*file).map_err(host_errno)?.st_size.cast_unsigned();
        let header = Header::read(&file, len, !read_only)?;
        let end = len.div_ceil(1 << header.cluster_bits);
        let state = State {
            l1: read_words(&file, header.l1_at, header.l1_len)?,
            counts: match read_only {
                true => Vec::new(),
                false => read_words(&file, header.counts_at, header.counts_len)?,
            },
            len,
            end,
            limit: end + header.clusters(end),
            free: Vec::new(),
            unpacked: None,
        };
        if !read_only && header.has_autoclear {
            const AUTOCLEAR: u64 = 88;
            write_all(&file, &[0; 8], AUTOCLEAR)?;
        }
        Ok(Qcow2 {
            file,
            read_only,
            header,
            state: Lock::new(Rank::Inode, state),
        })
    }

    fn cluster(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// Whether a cluster of a table or of contents can be at this place.
    fn check(&self, state: &State, at: u64) -> Result<u64, Errno> {
        match at.is_multiple_of(self.cluster()) && at < state.len {
            true => Ok(at),
            false => Err(Errno::EIO),
        }
    }

    /// As [`Qcow2::check`], for a place that is going to be written.
    fn check_own(&self, state: &State, entry: u64) -> Result<u64, Errno> {
        let at = self.check(state, entry & PLACE)?;
        let header = &self.header;
        let touches = |table: u64, len: u64| at < table + len && table < at + self.cluster();
        let is_table = at < self.cluster()
            || touches(header.l1_at, header.l1_len * 8)
            || touches(header.counts_at, header.counts_len * 8);
        // Without snapshots all that is used is used once.
        match entry & OWN == 0 || is_table {
            true => Err(Errno::EIO),
            false => Ok(at),
        }
    }

    /// Where the entry of a cluster of the disk is, and the entry; none where there is no table.
    fn entry(&self, state: &State, number: u64) -> Result<Option<(u64, u64)>, Errno> {
        let per_table = self.cluster() / 8;
        let index = usize::try_from(number / per_table).map_err(|_| Errno::EIO)?;
        let table = state.l1.get(index).ok_or(Errno::EIO)? & PLACE;
        if table == 0 {
            return Ok(None);
        }
        let at = self.check(state, table)? + number % per_table * 8;
        let mut entry = [0; 8];
        read_exact(&self.file, &mut entry, at)?;
        Ok(Some((at, u64::from_be_bytes(entry))))
    }

    /// How far it is from a place on the disk to what the next table is for.
    fn to_next_table(&self, pos: u64) -> u64 {
        let covers = (self.cluster() / 8) << self.header.cluster_bits;
        covers - pos % covers
    }

    /// Where the entry of a cluster is, in a table that may be written; the table is made if there is none.
    fn entry_to_write(&self, state: &mut State, number: u64) -> Result<(u64, u64), Errno> {
        let per_table = self.cluster() / 8;
        let index = usize::try_from(number / per_table).map_err(|_| Errno::EIO)?;
        let old = *state.l1.get(index).ok_or(Errno::EIO)?;
        if old & PLACE != 0 {
            self.check_own(state, old)?;
            return self.entry(state, number)?.ok_or(Errno::EIO);
        }
        let table = self.allocate(state)?;
        let fill = vec![0; self.cluster() as usize];
        let list = self.header.l1_at + index as u64 * 8;
        let made = self
            .put(state, &fill, table)
            .and_then(|()| self.put(state, &(table | OWN).to_be_bytes(), list));
        if let Err(errno) = made {
            self.release(state, table);
            return Err(errno);
        }
        if let Some(entry) = state.l1.get_mut(index) {
            *entry = table | OWN;
        }
        Ok((table + number % per_table * 8, 0))
    }

    /// Write somewhere in the file, which may grow by that.
    fn put(&self, state: &mut State, bytes: &[u8], at: u64) -> Result<(), Errno> {
        write_all(&self.file, bytes, at)?;
        state.len = state.len.max(at + bytes.len() as u64);
        Ok(())
    }

    /// Where the bytes of a compressed cluster are, and how many.
    fn packed(&self, entry: u64) -> (u64, u64) {
        let bits = self.header.cluster_bits - 8;
        let place_bits = 62 - bits;
        let at = entry & ((1 << place_bits) - 1);
        let sectors = (entry >> place_bits & ((1 << bits) - 1)) + 1;
        (at, sectors * 512 - at % 512)
    }

    /// What a compressed cluster holds.
    fn unpack(&self, state: &mut State, entry: u64) -> Result<Arc<Vec<u8>>, Errno> {
        if let Some((known, bytes)) = &state.unpacked
            && *known == entry
        {
            return Ok(bytes.clone());
        }
        let (at, len) = self.packed(entry);
        let len = len.min(state.len.checked_sub(at).ok_or(Errno::EIO)?);
        let mut packed = vec![0; len as usize];
        read_exact(&self.file, &mut packed, at)?;
        let mut bytes = vec![0; self.cluster() as usize];
        let done = match self.header.zstd {
            false => DeflateDecoder::new(&packed[..]).read_exact(&mut bytes).is_ok(),
            true => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW);
                let stream = StreamingDecoder::new_with_decoder(&packed[..], decoder);
                stream.is_ok_and(|mut stream| stream.read_exact(&mut bytes).is_ok())
            }
        };
        if !done {
            return Err(Errno::EIO);
        }
        let bytes = Arc::new(bytes);
        state.unpacked = Some((entry, bytes.clone()));
        Ok(bytes)
    }

    /// Read what one cluster has from `skip` on.
    fn read_part(&self, state: &mut State, entry: u64, skip: u64, buf: &mut [u8]) -> Result<(), Errno> {
        buf.fill(0);
        if entry & PACKED != 0 {
            let bytes = self.unpack(state, entry)?;
            let start = skip as usize;
            buf.copy_from_slice(bytes.get(start..start + buf.len()).ok_or(Errno::EIO)?);
            return Ok(());
        }
        if reads_as_zeroes(entry) {
            return Ok(());
        }
        let at = self.check(state, entry & PLACE)? + skip;
        // The last cluster need not be all there.
        let there = state.len.saturating_sub(at).min(buf.len() as u64);
        read_exact(&self.file, &mut buf[..there as usize], at)
    }

    /// Write to one cluster of the disk.
    fn write_part(&self, state: &mut State, number: u64, skip: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (at, entry) = self.entry_to_write(state, number)?;
        let is_packed = entry & PACKED != 0;
        let has_place = !is_packed && entry & PLACE != 0;
        if has_place && entry & ZERO == 0 {
            let place = self.check_own(state, entry)?;
            return self.put(state, bytes, place + skip);
        }
        let mut whole = vec![0; self.cluster() as usize];
        self.read_part(state, entry, 0, &mut whole)?;
        let start = skip as usize;
        let into = whole.get_mut(start..start + bytes.len());
        into.ok_or(Errno::EIO)?.copy_from_slice(bytes);
        // What reads as zeroes may have a place all the same.
        let place = match has_place {
            true => self.check_own(state, entry)?,
            false => self.allocate(state)?,
        };
        let done = self
            .put(state, &whole, place)
            .and_then(|()| self.put(state, &(place | OWN).to_be_bytes(), at));
        if let Err(errno) = done {
            if !has_place {
                self.release(state, place);
            }
            return Err(errno);
        }
        if is_packed {
            self.release_packed(state, entry);
        }
        Ok(())
    }

    /// Have a cluster of the disk read as zeroes and give its place back.
    fn forget(&self, state: &mut State, number: u64) -> Result<(), Errno> {
        let Some((_, entry)) = self.entry(state, number)? else {
            return Ok(());
        };
        if entry == 0 {
            return Ok(());
        }
        let (at, entry) = self.entry_to_write(state, number)?;
        let is_packed = entry & PACKED != 0;
        let place = match !is_packed && entry & PLACE != 0 {
            true => Some(self.check_own(state, entry)?),
            false => None,
        };
        self.put(state, &[0; 8], at)?;
        if let Some(place) = place {
            self.release(state, place);
            // Space that the host does not take back does no harm.
            let _ = make_zero(&self.file, place, self.cluster().min(state.len - place));
        } else if is_packed {
            self.release_packed(state, entry);
        }
        Ok(())
    }

    fn release_packed(&self, state: &mut State, entry: u64) {
        state.unpacked = None;
        let (at, len) = self.packed(entry);
        let first = at >> self.header.cluster_bits;
        for number in first..=(at + len - 1) >> self.header.cluster_bits {
            self.release(state, number << self.header.cluster_bits);
        }
    }

    /// Call `each` for every cluster of a part of the disk: its number, where in it to begin, and how much.
    fn each_part(
        &self,
        at: u64,
        len: u64,
        mut each: impl FnMut(u64, u64, std::ops::Range<usize>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let pos = at + done;
            let skip = pos % self.cluster();
            let some = (self.cluster() - skip).min(len - done);
            each(
                pos >> self.header.cluster_bits,
                skip,
                done as usize..(done + some) as usize,
            )?;
            done += some;
        }
        Ok(())
    }
}

impl Disk for Qcow2 {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, buf: &mut [u8], at: u64) -> SysResult<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let len = buf.len() as u64;
        Ok(self.each_part(at, len, |number, skip, range| {
            let entry = self.entry(state, number)?.map_or(0, |(_, entry)| entry);
            self.read_part(state, entry, skip, &mut buf[range])
        })?)
    }

    fn write(&self, bytes: &[u8], at: u64) -> SysResult<()> {
        if self.read_only {
            return Err(Errno::EPERM.into());
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        Ok(self.each_part(at, bytes.len() as u64, |number, skip, range| {
            self.write_part(state, number, skip, &bytes[range])
        })?)
    }

    fn zero(&self, at: u64, len: u64) -> SysResult<u64> {
        if self.read_only {
            return Err(Errno::EPERM.into());
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let zeroes = vec![0; self.cluster() as usize];
        let mut done = 0;
        for _ in 0..STEPS {
            if done == len {
                break;
            }
            let pos = at + done;
            let (number, skip) = (pos >> self.header.cluster_bits, pos % self.cluster());
            let Some((_, entry)) = self.entry(state, number)? else {
                done += self.to_next_table(pos).min(len - done);
                continue;
            };
            let some = (self.cluster() - skip).min(len - done);
            if skip == 0 && (some == self.cluster() || pos + some == self.header.size) {
                self.forget(state, number)?;
            } else if entry != 0 {
                self.write_part(state, number, skip, &zeroes[..some as usize])?;
            }
            done += some;
        }
        Ok(done)
    }

    fn skip_zeroes(&self, at: u64, end: u64) -> u64 {
        let state = self.state.lock();
        let mut pos = at;
        for _ in 0..STEPS {
            pos += match self.entry(&state, pos >> self.header.cluster_bits) {
                _ if pos >= end => break,
                Ok(None) => self.to_next_table(pos),
                Ok(Some((_, entry))) if reads_as_zeroes(entry) => self.cluster() - pos % self.cluster(),
                _ => break,
            };
        }
        pos.min(end)
    }

    fn flush(&self) -> SysResult<()> {
        Ok(fdatasync(&*self.file).map_err(host_errno)?)
    }
}
