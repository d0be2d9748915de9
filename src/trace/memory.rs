//! Reading the guest's memory for the trace: bounded, and never assumed to succeed.

/// A guest's memory as the trace sees it.
pub trait Memory {
    /// Reads from `addr` on into `buf`, and says how many bytes could be read; zero for a bad address.
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;
}

/// The longest file name that is shown, in bytes, as Linux takes none that is longer.
const PATH_MAX: usize = 4096;

/// Exactly `N` bytes, or nothing.
pub(super) fn array<const N: usize>(mem: &dyn Memory, addr: u64) -> Option<[u8; N]> {
    let mut buf = [0; N];
    (mem.read(addr, &mut buf) == N).then_some(buf)
}

/// Exactly `len` bytes, or nothing. Callers bound `len`.
pub(super) fn bytes(mem: &dyn Memory, addr: u64, len: usize) -> Option<Vec<u8>> {
    let mut buf = vec![0; len];
    (mem.read(addr, &mut buf) == len).then_some(buf)
}

/// A string up to its NUL, and whether the NUL was found within `limit` bytes; nothing if a byte before it
/// cannot be read.
pub(super) fn c_string(mem: &dyn Memory, addr: u64, limit: usize) -> Option<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    while text.len() < limit {
        let mut chunk = [0; 256];
        let at = addr.checked_add(text.len() as u64)?;
        // A chunk ends at a multiple of its size, so that it does not reach into a page the string is not in.
        let until_boundary = chunk.len() - (at % chunk.len() as u64) as usize;
        let room = until_boundary.min(limit - text.len());
        let read = mem.read(at, chunk.get_mut(..room)?);
        let chunk = chunk.get(..read)?;
        if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(chunk.get(..end)?);
            return Some((text, true));
        }
        if read < room {
            return None;
        }
        text.extend_from_slice(chunk);
    }
    Some((text, false))
}

/// A file name.
pub(super) fn path(mem: &dyn Memory, addr: u64) -> Option<(Vec<u8>, bool)> {
    c_string(mem, addr, PATH_MAX)
}

/// The bytes of a structure. What lies beyond its end reads as zero, as in a structure of an older kernel.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        self.0
            .get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or([0; N])
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(super) fn i16(self, at: usize) -> i16 {
        i16::from_le_bytes(self.array(at))
    }

    pub(super) fn i32(self, at: usize) -> i32 {
        i32::from_le_bytes(self.array(at))
    }

    pub(super) fn i64(self, at: usize) -> i64 {
        i64::from_le_bytes(self.array(at))
    }

    /// The bytes from `at` on, at most `len` of them.
    pub(super) fn slice(self, at: usize, len: usize) -> &'a [u8] {
        let rest = self.0.get(at..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }
}
