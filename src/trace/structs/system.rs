//! The system as a whole, and terminals.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::{self, Braces, quote};

/// The beginning of `struct new_utsname`, 390 bytes: six strings of 65 bytes.
pub(super) fn utsname(names: Fields<'_>) -> String {
    let name = |at: usize| {
        let field = names.slice(at, 65);
        quote(field.split(|byte| *byte == 0).next().unwrap_or_default())
    };
    Braces::new()
        .field("sysname", name(0))
        .field("nodename", name(65))
        .abbreviated()
}

/// `struct sysinfo`, 112 bytes.
pub(super) fn sysinfo(info: Fields<'_>) -> String {
    let loads = [info.u64(8), info.u64(16), info.u64(24)];
    Braces::new()
        .field("uptime", info.i64(0))
        .field("loads", text::list(loads.map(|load| load.to_string())))
        .field("totalram", info.u64(32))
        .field("freeram", info.u64(40))
        .field("sharedram", info.u64(48))
        .field("bufferram", info.u64(56))
        .field("totalswap", info.u64(64))
        .field("freeswap", info.u64(72))
        .field("procs", info.u16(80))
        .field("totalhigh", info.u64(88))
        .field("freehigh", info.u64(96))
        .field("mem_unit", info.u32(104))
        .end()
}

/// `struct winsize`, 8 bytes.
pub(in crate::trace) fn window_size(size: Fields<'_>) -> String {
    Braces::new()
        .field("ws_row", size.u16(0))
        .field("ws_col", size.u16(2))
        .field("ws_xpixel", size.u16(4))
        .field("ws_ypixel", size.u16(6))
        .end()
}

/// The kernel's `struct termios`, 36 bytes, without its control characters.
pub(in crate::trace) fn termios(modes: Fields<'_>) -> String {
    Braces::new()
        .field("c_iflag", flags::TERMINAL_INPUT.display(modes.u32(0).into()))
        .field("c_oflag", flags::TERMINAL_OUTPUT.display(modes.u32(4).into()))
        .field("c_cflag", flags::TERMINAL_CONTROL.display(modes.u32(8).into()))
        .field("c_lflag", flags::TERMINAL_LOCAL.display(modes.u32(12).into()))
        .abbreviated()
}
