//! Terminal settings: termios(3), as TCGETS2 carries them.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct termios2`; the older `struct termios` is its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
    pub ispeed: u32,
    pub ospeed: u32,
}

/// Size of the `struct termios` of TCGETS, in bytes.
pub const TERMIOS_SIZE: usize = 36;

impl Default for Termios {
    /// What Linux gives a new terminal: cooked, echoing, 38400 baud.
    fn default() -> Self {
        let mut cc = [0; 19];
        cc[libc::VINTR] = 3;
        cc[libc::VQUIT] = 28;
        cc[libc::VERASE] = 127;
        cc[libc::VKILL] = 21;
        cc[libc::VEOF] = 4;
        cc[libc::VMIN] = 1;
        cc[libc::VSTART] = 17;
        cc[libc::VSTOP] = 19;
        cc[libc::VSUSP] = 26;
        cc[libc::VREPRINT] = 18;
        cc[libc::VDISCARD] = 15;
        cc[libc::VWERASE] = 23;
        cc[libc::VLNEXT] = 22;
        Termios {
            iflag: libc::ICRNL | libc::IXON,
            oflag: libc::OPOST | libc::ONLCR,
            cflag: libc::B38400 | libc::CS8 | libc::CREAD | libc::HUPCL,
            lflag: libc::ISIG
                | libc::ICANON
                | libc::ECHO
                | libc::ECHOE
                | libc::ECHOK
                | libc::ECHOCTL
                | libc::ECHOKE
                | libc::IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

impl Termios {
    /// Whether all of these input flags are set.
    pub fn input(&self, flags: u32) -> bool {
        self.iflag & flags == flags
    }

    /// Whether all of these output flags are set.
    pub fn output(&self, flags: u32) -> bool {
        self.oflag & flags == flags
    }

    /// Whether all of these local flags are set.
    pub fn local(&self, flags: u32) -> bool {
        self.lflag & flags == flags
    }

    /// Whether `byte` is the control character at index `which` (which 0 disables).
    pub fn is(&self, byte: u8, which: usize) -> bool {
        self.cc[which] == byte && byte != 0
    }
}

/// `struct winsize`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct WinSize {
    pub rows: u16,
    pub cols: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}
