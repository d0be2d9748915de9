//! Little-endian fields of what was read from an image.

use crate::kernel::stop::Errno;

/// Bytes with fields in them. A field beyond the end is EIO: the image is damaged.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Errno> {
        let rest = self.0.get(at..).ok_or(Errno::EIO)?;
        rest.first_chunk().copied().ok_or(Errno::EIO)
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Errno> {
        self.0.get(at).copied().ok_or(Errno::EIO)
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Errno> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Errno> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, Errno> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(super) fn bytes(self, at: usize, len: usize) -> Result<&'a [u8], Errno> {
        let end = at.checked_add(len).ok_or(Errno::EIO)?;
        self.0.get(at..end).ok_or(Errno::EIO)
    }
}

/// The device number of a 32-bit field, as Linux encodes it since 2.6.
pub(super) fn device(encoded: u32) -> u64 {
    let major = (encoded >> 8) & 0xfff;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00);
    libc::makedev(major, minor)
}
