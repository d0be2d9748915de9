//! Strings, buffers, vectors of buffers, and directory entries.

use super::memory::{Fields, Memory, bytes, c_string, path};
use super::text::{self, ARRAY_LIMIT, Braces, STRING_LIMIT, dots, quote, quote_hex};

/// How many strings of an environment are counted.
const ENVIRONMENT_LIMIT: u64 = 65536;

/// How many bytes of directory entries are looked at.
const DIRENTS_LIMIT: u64 = 1 << 20;

/// How much of a buffer's bytes there is to show.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// All of them.
    All,
    /// So many in all buffers together.
    Bytes(u64),
    /// None, the addresses instead: the buffers were not filled.
    Nothing,
}

/// The first bytes of a buffer in quotes; its address if they cannot be read.
pub(super) fn buffer(mem: &dyn Memory, addr: u64, len: u64) -> String {
    buffer_with(mem, addr, len, quote)
}

/// The same in hexadecimal, for bytes that are never text.
pub(super) fn random_buffer(mem: &dyn Memory, addr: u64, len: u64) -> String {
    buffer_with(mem, addr, len, quote_hex)
}

fn buffer_with(mem: &dyn Memory, addr: u64, len: u64, quote: fn(&[u8]) -> String) -> String {
    if addr == 0 {
        return text::addr(addr);
    }
    let shown = usize::try_from(len).unwrap_or(usize::MAX).min(STRING_LIMIT);
    match bytes(mem, addr, shown) {
        Some(found) => format!("{}{}", quote(&found), dots(len)),
        None => text::addr(addr),
    }
}

/// A string that ends in a NUL, cut if it is long.
pub(super) fn string(mem: &dyn Memory, addr: u64) -> String {
    // One byte more, so that a string of just the limit is seen to end there.
    match c_string(mem, addr, STRING_LIMIT + 1) {
        _ if addr == 0 => text::addr(addr),
        None => text::addr(addr),
        Some((found, true)) => quote(&found),
        Some((found, false)) => format!("{}...", quote(found.get(..STRING_LIMIT).unwrap_or(&found))),
    }
}

/// A file name, never cut.
pub(super) fn file_name(mem: &dyn Memory, addr: u64) -> String {
    match path(mem, addr) {
        _ if addr == 0 => text::addr(addr),
        None => text::addr(addr),
        Some((found, ended)) => format!("{}{}", quote(&found), if ended { "" } else { "..." }),
    }
}

/// A vector of pointers to strings that ends in a null pointer.
pub(super) fn string_vector(mem: &dyn Memory, addr: u64) -> String {
    if addr == 0 {
        return text::addr(addr);
    }
    let mut items = Vec::new();
    while items.len() <= ARRAY_LIMIT {
        let at = addr.wrapping_add(items.len() as u64 * 8);
        match pointer(mem, at) {
            Some(0) => break,
            Some(item) => items.push(string(mem, item)),
            None if items.is_empty() => return text::addr(addr),
            None => {
                items.push(format!("... /* {} */", text::addr(at)));
                break;
            }
        }
    }
    text::list(items)
}

/// The address of an environment, and how many strings it has.
pub(super) fn environment(mem: &dyn Memory, addr: u64) -> String {
    if addr == 0 {
        return text::addr(addr);
    }
    let mut count = 0;
    while count < ENVIRONMENT_LIMIT {
        match pointer(mem, addr.wrapping_add(count * 8)) {
            Some(0) => break,
            Some(_) => count += 1,
            None => return format!("{} /* {count} vars, unterminated */", text::addr(addr)),
        }
    }
    format!(
        "{} /* {count} {} */",
        text::addr(addr),
        if count == 1 { "var" } else { "vars" }
    )
}

fn pointer(mem: &dyn Memory, addr: u64) -> Option<u64> {
    super::memory::array(mem, addr).map(u64::from_le_bytes)
}

/// An array of `count` `struct iovec` and what their buffers hold.
pub(super) fn iovec(mem: &dyn Memory, addr: u64, count: u64, shown: Shown) -> String {
    if count == 0 {
        return if addr == 0 { "NULL".into() } else { "[]".into() };
    }
    let wanted = usize::try_from(count).unwrap_or(usize::MAX).min(ARRAY_LIMIT + 1);
    let Some(vectors) = bytes(mem, addr, wanted * 16) else {
        return text::addr(addr);
    };
    let mut left = match shown {
        Shown::Bytes(bytes) => bytes,
        Shown::All | Shown::Nothing => u64::MAX,
    };
    text::list(vectors.chunks_exact(16).map(|vector| {
        let (base, len) = (Fields(vector).u64(0), Fields(vector).u64(8));
        let filled = len.min(left);
        left -= filled;
        let base = match shown {
            Shown::Nothing => text::addr(base),
            Shown::All | Shown::Bytes(_) => buffer(mem, base, filled),
        };
        Braces::new().field("iov_base", base).field("iov_len", len).end()
    }))
}

/// How many directory entries fill `len` bytes; the length of each is in two bytes at 16.
pub(super) fn directory_entries(mem: &dyn Memory, addr: u64, len: u64) -> String {
    let Some(entries) = bytes(mem, addr, len.min(DIRENTS_LIMIT) as usize) else {
        return text::addr(addr);
    };
    let mut count = 0;
    let mut rest = entries.as_slice();
    while rest.len() >= 18 {
        let own = usize::from(Fields(rest).u16(16));
        if own == 0 {
            break;
        }
        count += 1;
        rest = rest.get(own..).unwrap_or_default();
    }
    format!(
        "{} /* {count} {} */",
        text::addr(addr),
        if count == 1 { "entry" } else { "entries" }
    )
}
