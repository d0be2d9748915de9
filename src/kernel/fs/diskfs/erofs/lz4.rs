//! LZ4 blocks of which only the unpacked length is known: whatever lies behind the last sequence that is wanted is not looked at.

use crate::kernel::stop::Errno;

/// Unpack exactly `len` bytes, which the caller has bounded.
pub(super) fn unpack_part(packed: &[u8], len: usize) -> Result<Vec<u8>, Errno> {
    let mut input = packed.iter().copied();
    let mut out = Vec::with_capacity(len);
    let mut next = || input.next().map(usize::from).ok_or(Errno::EIO);
    while out.len() < len {
        let token = next()?;
        let literals = length(token >> 4, &mut next)?;
        for _ in 0..literals.min(len - out.len()) {
            out.push(next()? as u8);
        }
        if out.len() == len {
            break;
        }
        let distance = next()? | next()? << 8;
        let start = out.len().checked_sub(distance).filter(|_| distance > 0);
        let start = start.ok_or(Errno::EIO)?;
        let count = length(token & 15, &mut next)?
            .saturating_add(4)
            .min(len - out.len());
        for at in start..start + count {
            out.push(out[at]);
        }
    }
    Ok(out)
}

/// A length: up to 14 in the token, more in bytes of which only the last is below 255.
fn length(short: usize, next: &mut dyn FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    let mut total = short;
    if short == 15 {
        loop {
            let more = next()?;
            total = total.saturating_add(more);
            if more < 255 {
                break;
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_is_not_looked_at() {
        // Three literals, eight bytes from three before, then what is no LZ4.
        let packed = [0x34, b'a', b'b', b'c', 3, 0, 0xff, 0xff];
        assert_eq!(unpack_part(&packed, 11).unwrap(), b"abcabcabcab");
        assert_eq!(unpack_part(&packed, 2).unwrap(), b"ab");
        assert_eq!(unpack_part(&packed, 12), Err(Errno::EIO));
        assert_eq!(unpack_part(&[0x10, 1, 9, 0], 9), Err(Errno::EIO));
        assert_eq!(unpack_part(&[], 1), Err(Errno::EIO));
    }
}
