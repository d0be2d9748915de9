//! ioctl(2): what its argument means for each request.

use syscall_table::flags;

use super::memory::{Fields, array};
use super::text::{self, Braces};
use super::{Call, structs};

/// What the argument of a request is.
#[derive(Clone, Copy, PartialEq)]
enum Argument {
    /// Nothing is looked at.
    Nothing,
    /// A number, not a pointer.
    Number,
    Queue,
    OpenFlags,
    /// A pointer to an `int` that is read, or written.
    InInt,
    OutInt,
    OutU64,
    OutInodeFlags,
    InInodeFlags,
    InWindow,
    OutWindow,
    InTermios,
    OutTermios,
    FileRange,
    OutRtcTime,
    /// Anything else: an address.
    Unknown,
}

fn kind(request: u64) -> Argument {
    match flags::IOCTL.name_of(request & 0xffff_ffff).unwrap_or_default() {
        "FIOCLEX" | "FIONCLEX" | "TIOCEXCL" | "TIOCNXCL" | "TIOCNOTTY" | "TIOCSBRK" | "TIOCCBRK"
        | "TIOCVHANGUP" | "TIOCCONS" | "BLKRRPART" | "BLKFLSBUF" | "RTC_AIE_ON" | "RTC_AIE_OFF"
        | "RTC_UIE_ON" | "RTC_UIE_OFF" | "RTC_PIE_ON" | "RTC_PIE_OFF" => Argument::Nothing,
        "TIOCSCTTY" | "TCSBRK" | "TCSBRKP" | "FICLONE" | "TIOCSIG" | "KDSETMODE" | "KDSKBMODE"
        | "VT_ACTIVATE" | "VT_WAITACTIVE" => Argument::Number,
        "TCFLSH" => Argument::Queue,
        "TIOCGPTPEER" => Argument::OpenFlags,
        "FIONBIO" | "FIOASYNC" | "TIOCSPGRP" | "TIOCSPTLCK" | "TIOCPKT" | "TIOCSETD" | "FIOSETOWN"
        | "SIOCSPGRP" | "BLKROSET" | "TIOCMBIS" | "TIOCMBIC" | "TIOCMSET" | "TIOCSSOFTCAR" => Argument::InInt,
        "FIONREAD" | "TIOCOUTQ" | "TIOCGPGRP" | "TIOCGSID" | "TIOCGPTN" | "TIOCGETD" | "TIOCGPTLCK"
        | "TIOCGPKT" | "TIOCGEXCL" | "TIOCMGET" | "TIOCGSOFTCAR" | "TIOCGDEV" | "FIOGETOWN" | "SIOCGPGRP"
        | "SIOCATMARK" | "FIGETBSZ" | "BLKROGET" | "BLKSSZGET" | "BLKBSZGET" | "BLKPBSZGET" | "BLKIOMIN"
        | "BLKIOOPT" | "BLKALIGNOFF" | "RNDGETENTCNT" | "KDGETMODE" | "KDGKBMODE" | "VT_OPENQRY"
        | "LOOP_CTL_GET_FREE" => Argument::OutInt,
        "FIOQSIZE" | "BLKGETSIZE" | "BLKGETSIZE64" | "BLKRAGET" => Argument::OutU64,
        "FS_IOC_GETFLAGS" => Argument::OutInodeFlags,
        "FS_IOC_SETFLAGS" => Argument::InInodeFlags,
        "TIOCSWINSZ" => Argument::InWindow,
        "TIOCGWINSZ" => Argument::OutWindow,
        "TCSETS" | "TCSETSW" | "TCSETSF" | "TCSETS2" | "TCSETSW2" | "TCSETSF2" => Argument::InTermios,
        "TCGETS" | "TCGETS2" => Argument::OutTermios,
        "FICLONERANGE" => Argument::FileRange,
        "RTC_RD_TIME" => Argument::OutRtcTime,
        _ => Argument::Unknown,
    }
}

/// Whether the request looks at its argument.
pub(super) fn has_argument(request: u64) -> bool {
    kind(request) != Argument::Nothing
}

/// Whether the request answers through its argument.
pub(super) fn is_late(request: u64) -> bool {
    use Argument::{OutInodeFlags, OutInt, OutRtcTime, OutTermios, OutU64, OutWindow};
    let outputs = [OutInt, OutU64, OutInodeFlags, OutWindow, OutTermios, OutRtcTime];
    // _IOC_READ, for what has no name
    outputs.contains(&kind(request)) || (kind(request) == Argument::Unknown && request & 0x8000_0000 != 0)
}

/// The request: its name, or the four parts of its number.
pub(super) fn request(request: u64) -> String {
    let request = request & 0xffff_ffff;
    if let Some(name) = flags::IOCTL.name_of(request) {
        return name.into();
    }
    let direction = match request >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    let (kind, number, size) = ((request >> 8) & 0xff, request & 0xff, (request >> 16) & 0x3fff);
    format!(
        "_IOC({direction}, {}, {}, {})",
        text::hex(kind),
        text::hex(number),
        text::hex(size)
    )
}

/// The argument.
pub(super) fn argument(call: &Call<'_>) -> String {
    let (request, value) = (call.arg(1), call.arg(2));
    match kind(request) {
        Argument::Nothing | Argument::Unknown => text::hex(value),
        Argument::Number => value.cast_signed().to_string(),
        Argument::Queue => match value {
            0 => "TCIFLUSH".into(),
            1 => "TCOFLUSH".into(),
            2 => "TCIOFLUSH".into(),
            _ => text::hex(value),
        },
        Argument::OpenFlags => flags::OPEN.display(value).to_string(),
        _ if is_late(request) && call.done().is_none() => text::addr(value),
        kind => pointed(call, kind, value).unwrap_or_else(|| text::addr(value)),
    }
}

/// What the argument points to.
fn pointed(call: &Call<'_>, kind: Argument, addr: u64) -> Option<String> {
    let mem = call.mem;
    Some(match kind {
        Argument::InInt | Argument::OutInt => format!("[{}]", i32::from_le_bytes(array(mem, addr)?)),
        Argument::OutU64 => format!("[{}]", u64::from_le_bytes(array(mem, addr)?)),
        Argument::InInodeFlags | Argument::OutInodeFlags => {
            let inode_flags = u32::from_le_bytes(array(mem, addr)?);
            format!("[{}]", flags::INODE.display(inode_flags.into()))
        }
        Argument::InWindow | Argument::OutWindow => structs::window_size(Fields(&array::<8>(mem, addr)?)),
        Argument::InTermios | Argument::OutTermios => structs::termios(Fields(&array::<36>(mem, addr)?)),
        Argument::FileRange => {
            let found = array::<32>(mem, addr)?;
            let range = Fields(&found);
            Braces::new()
                .field("src_fd", range.i64(0))
                .field("src_offset", range.u64(8))
                .field("src_length", range.u64(16))
                .field("dest_offset", range.u64(24))
                .end()
        }
        Argument::OutRtcTime => {
            let found = array::<36>(mem, addr)?;
            let names = ["tm_sec", "tm_min", "tm_hour", "tm_mday", "tm_mon", "tm_year"];
            let fields = names.iter().enumerate();
            fields
                .fold(Braces::new(), |braces, (index, name)| {
                    braces.field(name, Fields(&found).i32(index * 4))
                })
                .abbreviated()
        }
        _ => text::addr(addr),
    })
}
