//! The header of a qcow2 file, and what of it is not supported. All numbers are big-endian.

use crate::kernel::dev::block::raw::read_exact;
use crate::kernel::stop::Errno;
use crate::platform::HostFile;

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Largest list of tables, in bytes, as QEMU has it.
const L1_MAX: u64 = 32 << 20;

/// Largest table of reference counts, in bytes, as QEMU has it.
const COUNTS_MAX: u64 = 8 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadQcow2 {
    /// Something that is not there.
    #[error("its qcow2 {0}, which is not supported")]
    Unsupported(&'static str),
    /// Something that is not there for writing.
    #[error("its qcow2 {0}: it can only be used with :ro or :cow")]
    Unwritable(&'static str),
    /// What it says of itself cannot be.
    #[error("its qcow2 is damaged: {0}")]
    Damaged(&'static str),
    /// Reading failed.
    #[error("reading it failed: {}", .0.desc())]
    Read(#[from] Errno),
}

/// What the header says that is needed later.
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Where the list of L2 tables is, and how many entries of it are used.
    pub(super) l1_at: u64,
    pub(super) l1_len: u64,
    /// Where the table of blocks of reference counts is, and how many entries it has.
    pub(super) counts_at: u64,
    pub(super) counts_len: u64,
    /// Whether clusters are compressed by zstd instead of deflate.
    pub(super) zstd: bool,
    /// Whether there are features to be given up when somebody writes who does not know them.
    pub(super) has_autoclear: bool,
}

/// Fields of a header, which is as long as it ever is; what a shorter one lacks is zero.
struct Raw([u8; 112]);

impl Raw {
    fn u32(&self, at: usize) -> u32 {
        let found = self.0.get(at..).and_then(|rest| rest.first_chunk());
        u32::from_be_bytes(found.copied().unwrap_or_default())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at + 4))
    }
}

impl Header {
    /// How many clusters more a file of `end` clusters needs at most: for contents, tables, and blocks of counts, one of which counts
    /// its own cluster and at least 255 more.
    pub(super) fn clusters(&self, end: u64) -> u64 {
        let per_block = 1 << (self.cluster_bits - 1);
        let more = self.size.div_ceil(1 << self.cluster_bits) + self.l1_len;
        more + (end + more).div_ceil(per_block - 1) + 1
    }

    /// Read and check it; `len` is the file's length.
    pub(super) fn read(file: &HostFile, len: u64, writable: bool) -> Result<Header, BadQcow2> {
        let mut raw = Raw([0; 112]);
        if len < 512 {
            return Err(BadQcow2::Damaged("it is cut short"));
        }
        read_exact(file, &mut raw.0, 0)?;
        let version = raw.u32(4);
        if !matches!(version, 2 | 3) {
            return Err(BadQcow2::Unsupported("is of a version other than 2 and 3"));
        }
        if version == 2 {
            raw.0[72..].fill(0);
        }
        check_features(&raw, writable)?;
        let cluster_bits = raw.u32(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(BadQcow2::Damaged("its cluster size is none that there is"));
        }
        let size = raw.u64(24);
        if i64::try_from(size).is_err() {
            return Err(BadQcow2::Damaged("its size is none that there is"));
        }
        // An L2 table is a cluster of 8-byte entries, each for a cluster.
        let l1_len = size.div_ceil(1 << (cluster_bits * 2 - 3));
        let header = Header {
            cluster_bits,
            size,
            l1_at: raw.u64(40),
            l1_len,
            counts_at: raw.u64(48),
            counts_len: (u64::from(raw.u32(56)) << cluster_bits) / 8,
            zstd: raw.0[104] == 1,
            has_autoclear: raw.u64(88) != 0,
        };
        let fits = |at: u64, bytes: u64, max: u64| {
            let aligned = at.is_multiple_of(1 << cluster_bits);
            aligned && bytes <= max && at.checked_add(bytes).is_some_and(|end| end <= len)
        };
        if l1_len > u64::from(raw.u32(36)) || !fits(header.l1_at, l1_len * 8, L1_MAX) {
            return Err(BadQcow2::Damaged("its list of tables is not where it should be"));
        }
        if !fits(header.counts_at, header.counts_len * 8, COUNTS_MAX) {
            return Err(BadQcow2::Damaged(
                "its reference counts are not where they should be",
            ));
        }
        Ok(header)
    }
}

fn check_features(raw: &Raw, writable: bool) -> Result<(), BadQcow2> {
    const DIRTY: u64 = 1;
    const CORRUPT: u64 = 2;
    const OTHER_FILE: u64 = 4;
    const COMPRESSION: u64 = 8;
    let features = raw.u64(72);
    let unsupported = |what| Err(BadQcow2::Unsupported(what));
    if raw.u64(8) != 0 {
        return unsupported("has a backing file");
    }
    if raw.u32(32) != 0 {
        return unsupported("is encrypted");
    }
    if features & OTHER_FILE != 0 {
        return unsupported("keeps its contents in another file");
    }
    if features & !(DIRTY | CORRUPT | OTHER_FILE | COMPRESSION) != 0 {
        return unsupported("uses extended entries or newer features");
    }
    if raw.0[104] > 1 {
        return unsupported("uses an unknown compression");
    }
    let unwritable = |what| Err(BadQcow2::Unwritable(what));
    if writable && features & (DIRTY | CORRUPT) != 0 {
        return unwritable("was not closed, or is damaged ('qemu-img check -r all' mends it)");
    }
    if writable && raw.u32(60) != 0 {
        return unwritable("has snapshots");
    }
    // The width of counts is 16 bits unless version 3 says otherwise.
    if writable && raw.u32(4) == 3 && raw.u32(96) != 4 {
        return unwritable("has reference counts of another width than 16 bits");
    }
    Ok(())
}
