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

/// Speeds by the code that is in CBAUD; the first sixteen, and those with CBAUDEX.
const SPEEDS: [u32; 16] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
];
const HIGH_SPEEDS: [u32; 16] = [
    0, 57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];
/// Where the code of the input's speed is.
const IBSHIFT: u32 = 16;

/// The speed that a code stands for, in baud; `other` for the code that says that it is apart (BOTHER).
fn speed(code: u32, other: u32) -> u32 {
    let low = (code & 0xf) as usize;
    match code & libc::CBAUD {
        libc::BOTHER => other,
        code if code & libc::CBAUDEX != 0 => HIGH_SPEEDS[low],
        _ => SPEEDS[low],
    }
}

impl Termios {
    /// What Linux gives a serial port: as a new terminal's, but 9600 baud, and without modem control.
    pub fn serial() -> Self {
        let common = Termios::default();
        Termios {
            cflag: libc::B9600 | libc::CS8 | libc::CREAD | libc::HUPCL | libc::CLOCAL,
            ispeed: 9600,
            ospeed: 9600,
            ..common
        }
    }

    /// Have the speeds in baud follow from the codes in the control flags.
    pub fn settle_speeds(&mut self) {
        self.ospeed = speed(self.cflag, self.ospeed);
        self.ispeed = match self.cflag >> IBSHIFT & libc::CBAUD {
            libc::B0 => self.ospeed,
            code => speed(code, self.ispeed),
        };
    }

    /// Whether all of these control flags are set.
    pub fn control(&self, flags: u32) -> bool {
        self.cflag & flags == flags
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_from_codes() {
        let mut t = Termios::serial();
        t.settle_speeds();
        assert_eq!((t.ispeed, t.ospeed), (9600, 9600));
        t.cflag = t.cflag & !libc::CBAUD | libc::B115200 | libc::B300 << IBSHIFT;
        t.settle_speeds();
        assert_eq!((t.ispeed, t.ospeed), (300, 115_200));
        t.cflag = t.cflag & !(libc::CBAUD | libc::CBAUD << IBSHIFT) | libc::BOTHER;
        t.ospeed = 31250;
        t.settle_speeds();
        assert_eq!((t.ispeed, t.ospeed), (31250, 31250));
        t.cflag = t.cflag & !libc::CBAUD | libc::B4000000;
        t.settle_speeds();
        assert_eq!(t.ospeed, 4_000_000);
    }
}
