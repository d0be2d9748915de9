//! Small pieces of text: strings in quotes, addresses, modes, devices, ids.

use syscall_table::{errno, flags, signal};

/// How many bytes of a string are shown.
pub(super) const STRING_LIMIT: usize = 32;

/// How many elements of an array are shown.
pub(super) const ARRAY_LIMIT: usize = 32;

/// Appends formatted text to a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($text)*);
    }};
}
pub(super) use put;

/// Bytes as a C string literal, without a limit.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' | b'\\' => put!(text, "\\{}", char::from(*byte)),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            0x0b => text.push_str("\\v"),
            0x0c => text.push_str("\\f"),
            b'\r' => text.push_str("\\r"),
            b' '..=b'~' => text.push(char::from(*byte)),
            // A digit behind a short octal escape would be taken for a part of it.
            _ if rest.peek().is_some_and(|next| next.is_ascii_digit()) => put!(text, "\\{byte:03o}"),
            _ => put!(text, "\\{byte:o}"),
        }
    }
    text.push('"');
    text
}

/// Bytes as a C string literal of hexadecimal escapes.
pub(super) fn quote_hex(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        put!(text, "\\x{byte:02x}");
    }
    text.push('"');
    text
}

/// Dots behind a literal that does not show all of `len` bytes.
pub(super) fn dots(len: u64) -> &'static str {
    if len > STRING_LIMIT as u64 { "..." } else { "" }
}

/// A pointer that is not followed.
pub(super) fn addr(addr: u64) -> String {
    if addr == 0 {
        "NULL".into()
    } else {
        format!("{addr:#x}")
    }
}

/// A number in hexadecimal, zero without its prefix.
pub(super) fn hex(value: u64) -> String {
    if value == 0 {
        "0".into()
    } else {
        format!("{value:#x}")
    }
}

/// Permissions without a file type.
pub(super) fn octal(mode: u64) -> String {
    format!("0{mode:02o}")
}

/// A file type and permissions.
pub(super) fn mode(mode: u64) -> String {
    let kind = mode & 0o170_000;
    let mut text = flags::FILE_TYPE
        .name_of(kind)
        .map(str::to_owned)
        .unwrap_or_else(|| octal(kind));
    for (bit, name) in [(0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")] {
        if mode & bit != 0 {
            put!(text, "|{name}");
        }
    }
    let permissions = octal(mode & 0o777);
    if kind == 0 && mode & 0o7000 == 0 {
        permissions
    } else {
        format!("{text}|{permissions}")
    }
}

/// A device number in the encoding of the system calls.
pub(super) fn dev(dev: u64) -> String {
    let major = ((dev >> 8) & 0xfff) | ((dev >> 32) & 0xffff_f000);
    let minor = (dev & 0xff) | ((dev >> 12) & 0xffff_ff00);
    makedev(major, minor)
}

/// A device by its two numbers.
pub(super) fn makedev(major: u64, minor: u64) -> String {
    format!("makedev({}, {})", hex(major), hex(minor))
}

/// A user or group; all ones is -1.
pub(super) fn id(id: u32) -> String {
    if id == u32::MAX {
        "-1".into()
    } else {
        id.to_string()
    }
}

/// A signal's name, or its number if it has none.
pub(super) fn signal_name(number: u64) -> String {
    signal::name(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// The directory that relative names start from.
pub(super) fn dirfd(fd: i32) -> String {
    if fd == -100 {
        "AT_FDCWD".into()
    } else {
        fd.to_string()
    }
}

/// A signal set as strace writes it: names without `SIG`, negated if most signals are in it.
pub(super) fn sigset(set: u64) -> String {
    let inverted = set.count_ones() >= 42;
    let listed = if inverted { !set } else { set };
    let mut text = String::from(if inverted { "~[" } else { "[" });
    let mut separator = "";
    for number in (1..=64).filter(|number| listed & (1 << (number - 1)) != 0) {
        let name = signal::name(number).unwrap_or("?");
        put!(text, "{separator}{}", name.strip_prefix("SIG").unwrap_or(name));
        separator = " ";
    }
    text.push(']');
    text
}

/// A clock, which may be the CPU time of a process, of a thread, or a device's.
pub(super) fn clock(id: i32) -> String {
    if let Some(name) = u64::try_from(id).ok().and_then(|id| flags::CLOCK.name_of(id)) {
        return name.into();
    }
    let owner = !(id >> 3);
    if id >= 0 {
        return format!("{id:#x} /* CLOCK_??? */");
    }
    match id & 7 {
        3 => format!("FD_TO_CLOCKID({owner})"),
        kind => {
            let scope = if kind & 4 == 0 { "PROCESS" } else { "THREAD" };
            let counted = ["PROF", "VIRT", "SCHED"]
                .get((kind & 3) as usize)
                .unwrap_or(&"???");
            format!("MAKE_{scope}_CPUCLOCK({owner}, CPUCLOCK_{counted})")
        }
    }
}

/// Elements in brackets, the rest as dots.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        if index == ARRAY_LIMIT {
            text.push_str("...");
            break;
        }
        text.push_str(&item);
    }
    text.push(']');
    text
}

/// A failed call's result: `-1 ENOENT (No such file or directory)`.
pub(super) fn failure(number: i32) -> String {
    let (Some(name), Some(text)) = (errno::name(number), errno::text(number)) else {
        return format!("-1 (errno {number})");
    };
    // The numbers from 512 on are the kernel's own: the call is to be restarted, the program sees nothing.
    let value = if number >= errno::ERESTARTSYS { "?" } else { "-1" };
    format!("{value} {name} ({text})")
}

/// Writes the fields of a structure in braces.
pub(super) struct Braces(String);

impl Braces {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    /// Adds `name=value`.
    pub(super) fn field(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        put!(self.0, "{name}={value}");
        self
    }

    /// Adds text of another form.
    pub(super) fn text(mut self, text: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        self.0.push_str(text);
        self
    }

    /// Closes the braces behind all fields.
    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// Closes the braces behind dots for the fields that are not shown.
    pub(super) fn abbreviated(self) -> String {
        self.text("...").end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_in_c() {
        assert_eq!(
            quote(b"a\"b\\\n\x1b[1m\x00\x009\xff"),
            r#""a\"b\\\n\33[1m\0\0009\377""#
        );
    }

    #[test]
    fn sets_of_most_signals_are_negated() {
        assert_eq!(sigset(0), "[]");
        assert_eq!(sigset(u64::MAX), "~[]");
        assert_eq!(sigset(0x1_0002), "[INT CHLD]");
        assert_eq!(sigset(!0x1_8000_0000), "~[RTMIN RT_1]");
    }

    #[test]
    fn clocks_of_others_are_decoded() {
        assert_eq!(clock(1), "CLOCK_MONOTONIC");
        assert_eq!(
            clock(!(1234 << 3) & !7 | 2),
            "MAKE_PROCESS_CPUCLOCK(1234, CPUCLOCK_SCHED)"
        );
        assert_eq!(clock(55), "0x37 /* CLOCK_??? */");
    }

    #[test]
    fn modes_and_devices_read_as_in_c() {
        assert_eq!(mode(0o100_644), "S_IFREG|0644");
        assert_eq!(mode(0), "000");
        assert_eq!(mode(0o022), "022");
        assert_eq!(dev(0x501), "makedev(0x5, 0x1)");
        assert_eq!(dev(0), "makedev(0, 0)");
    }

    #[test]
    fn failures_name_the_error() {
        assert_eq!(failure(2), "-1 ENOENT (No such file or directory)");
        assert_eq!(
            failure(512),
            "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
        );
        assert_eq!(failure(4000), "-1 (errno 4000)");
    }
}
