//! Marshalling: what a call reads goes into the window with it, and where it writes is tried, so that the supervisor needs
//! no other way to guest memory. Which arguments that are is generated from the system call table.
//!
//! All this only saves time: what cannot be copied, does not fit or is not writable has no segment, and the supervisor
//! finds out by its other ways to guest memory.

use super::memory;
use super::thread::Block;
use crate::abi::{PAGE, Page, RUNTIME_BASE, Registers, SEGMENTS, SEGMENTS_END, Segment};

/// Longest string, with its zero.
const STRING_MAX: u64 = 4096;
/// Strings are copied in steps, as the kernel reads them: this many bytes first, and then as many as there are already.
const STRING_STEP: u64 = 64;
/// Longest buffer that goes by the window: above, the host's own copies between processes are as fast.
const BUFFER_MAX: u64 = 0x4000;
/// Of a longer buffer to be filled this much does: often little of it is.
const BUFFER_START: u64 = PAGE;
/// Most buffers of a list.
const VECTORS_MAX: u64 = 8;
/// Segments begin at multiples of this.
const ALIGN: u64 = 64;
/// Below, no guest has memory.
const LOWEST: u64 = 0x1000;

/// How an argument points to memory.
#[derive(Clone, Copy)]
enum How {
    /// To a string.
    String,
    /// To bytes that the call reads.
    Read,
    /// To bytes that it writes.
    Write,
    /// To bytes that it reads and writes.
    Update,
    /// The same, and the other argument counts bits in words of 64.
    UpdateBits,
    /// To room of as many bytes as the 32-bit number says that the other argument points to.
    WriteAt,
    /// To buffers that it reads from, the other argument counting them.
    ReadVectors,
    /// To buffers that it fills.
    WriteVectors,
    /// To a `msghdr` of what it sends.
    Send,
    /// To a `msghdr` of what it receives.
    Receive,
    /// To a signal set's address and size.
    SignalSet,
}

/// An argument that points to memory: of `base` bytes and `size` more for each that the other argument counts.
#[derive(Clone, Copy)]
struct Argument {
    how: How,
    index: u8,
    /// The other argument; [`Argument::NONE`] where there is none.
    other: u8,
    /// That one has 32 bits.
    narrow: bool,
    base: u16,
    size: u16,
}

impl Argument {
    const NONE: u8 = 6;

    /// The value of the other argument.
    fn count(&self, args: &[u64; 6]) -> u64 {
        match args.get(usize::from(self.other)) {
            Some(value) if self.narrow => value & 0xffff_ffff,
            Some(value) => *value,
            None => 0,
        }
    }
}

// `STARTS`: where in `ARGUMENTS` those of each call begin.
include!(env!("UVM_MARSHAL_TABLE"));

impl Block {
    /// Fill window and segments for the call that `regs` make. The number of segments.
    pub fn marshal(&mut self, regs: &Registers) -> u32 {
        let mut window = Filler {
            page: self.page,
            start: self.window(0),
            used: 0,
            count: 0,
        };
        let number = regs.rax as usize;
        if let (Some(start), Some(end)) = (STARTS.get(number), STARTS.get(number.wrapping_add(1))) {
            let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
            let arguments = ARGUMENTS
                .get(usize::from(*start)..usize::from(*end))
                .unwrap_or(&[]);
            // Trying whether memory can be written waits for all that was written before: first, there is little of that.
            let tried = |argument: &&Argument| matches!(argument.how, How::Write);
            for argument in arguments.iter().filter(tried) {
                window.argument(argument, &args);
            }
            for argument in arguments.iter().filter(|argument| !tried(argument)) {
                window.argument(argument, &args);
            }
        }
        window.count as u32
    }
}

struct Filler {
    page: *mut Page,
    /// Address of the window.
    start: u64,
    used: u64,
    count: usize,
}

impl Filler {
    fn argument(&mut self, argument: &Argument, args: &[u64; 6]) {
        let at = args[usize::from(argument.index % 6)];
        if at < LOWEST {
            return;
        }
        let count = argument.count(args);
        let len = u64::from(argument.base).saturating_add(u64::from(argument.size).saturating_mul(count));
        match argument.how {
            How::String => self.string(at),
            How::Read => self.read(at, len),
            How::Write => self.write(at, len),
            How::Update => self.update(at, len),
            How::UpdateBits => self.update(at, count.div_ceil(64).saturating_mul(8)),
            How::WriteAt => {
                if let Some(len) = guest_u32(count) {
                    self.write(at, u64::from(len));
                }
            }
            How::ReadVectors => self.vectors(at, count, Filler::read),
            How::WriteVectors => self.vectors(at, count, Filler::write),
            How::Send => {
                if let Some(header) = self.message(at, Filler::read) {
                    self.read(header[0], header[1] & 0xffff_ffff);
                    self.vectors(header[2], header[3], Filler::read);
                    self.read(header[4], header[5]);
                }
            }
            How::Receive => {
                if let Some(header) = self.message(at, Filler::update) {
                    self.write(header[0], header[1] & 0xffff_ffff);
                    self.vectors(header[2], header[3], Filler::write);
                    self.write(header[4], header[5]);
                }
            }
            How::SignalSet => {
                let first = self.used;
                self.read(at, 16);
                if self.used > first {
                    self.read(self.word(first), 8);
                }
            }
        }
    }

    /// A word of the window.
    fn word(&self, offset: u64) -> u64 {
        // SAFETY: callers stay inside the window, where any bytes will do.
        unsafe { ((self.start + offset) as *const u64).read_unaligned() }
    }

    /// Room left, if there may be one more segment.
    fn room(&self) -> u64 {
        if self.count < SEGMENTS {
            SEGMENTS_END.saturating_sub(self.used)
        } else {
            0
        }
    }

    /// Tell of `len` bytes at `at`, for which the window was used from where it is used so far.
    fn record(&mut self, at: u64, len: u64, flags: u16) {
        let segment = Segment {
            addr: at,
            len: len as u32,
            offset: self.used as u16,
            flags,
        };
        // SAFETY: this thread's own page, of which only plain data is written; the index is below SEGMENTS.
        let place = unsafe { &mut (*self.page).request.segments[self.count.min(SEGMENTS - 1)] };
        // A line that is not written need not go to the other CPU.
        if *place != segment {
            *place = segment;
        }
        self.count += 1;
        self.used = (self.used + len).next_multiple_of(ALIGN);
    }

    /// Copy `len` bytes at `at` behind what is used. Whether all could be.
    fn copy(&mut self, done: u64, at: u64, len: u64) -> bool {
        let to = self.start + self.used + done;
        at.checked_add(len).is_some_and(|end| end <= RUNTIME_BASE) && memory::copy(to, at, len) == len
    }

    fn string(&mut self, at: u64) {
        let mut len = 0;
        let most = self.room().min(STRING_MAX);
        while len < most {
            let Some(from) = at.checked_add(len) else { return };
            let want = (PAGE - from % PAGE).min(len.max(STRING_STEP)).min(most - len);
            if !self.copy(len, from, want) {
                return;
            }
            let found = self.has_zero(self.used + len, want);
            len += want;
            if found {
                self.record(at, len, Segment::READABLE);
                return;
            }
        }
    }

    /// Whether one of `len` bytes of the window is zero.
    fn has_zero(&self, offset: u64, len: u64) -> bool {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let mut at = 0;
        while at + 8 <= len {
            let word = self.word(offset + at);
            if word.wrapping_sub(ONES) & !word & (ONES << 7) != 0 {
                return true;
            }
            at += 8;
        }
        // SAFETY: inside the window, where any bytes will do.
        (at..len).any(|at| unsafe { *((self.start + offset + at) as *const u8) } == 0)
    }

    fn read(&mut self, at: u64, len: u64) {
        if self.fits(len) && self.copy(0, at, len) {
            self.record(at, len, Segment::READABLE);
        }
    }

    fn update(&mut self, at: u64, len: u64) {
        if self.fits(len) && self.copy(0, at, len) {
            let writable = if writable(at, len) == len {
                Segment::WRITABLE
            } else {
                0
            };
            self.record(at, len, Segment::READABLE | writable);
        }
    }

    fn fits(&self, len: u64) -> bool {
        len > 0 && len <= BUFFER_MAX && len <= self.room()
    }

    fn write(&mut self, at: u64, len: u64) {
        let want = if len > BUFFER_MAX { BUFFER_START } else { len };
        let len = writable(at, want.min(self.room()));
        if len > 0 {
            self.record(at, len, Segment::WRITABLE);
        }
    }

    /// The array of `count` vectors at `at` and what they point to.
    fn vectors(&mut self, at: u64, count: u64, each: fn(&mut Filler, u64, u64)) {
        if count > VECTORS_MAX || at < LOWEST {
            return;
        }
        let array = self.used;
        self.read(at, count * 16);
        if self.used == array {
            return;
        }
        for vector in 0..count {
            let (at, len) = (self.word(array + vector * 16), self.word(array + vector * 16 + 8));
            if at >= LOWEST {
                each(self, at, len);
            }
        }
    }

    /// The `msghdr` at `at`: its name and length, vectors and count, control data and length.
    fn message(&mut self, at: u64, header: fn(&mut Filler, u64, u64)) -> Option<[u64; 6]> {
        let start = self.used;
        header(self, at, 56);
        (self.used > start).then(|| [0, 1, 2, 3, 4, 5].map(|word| self.word(start + word * 8)))
    }
}

/// How many of `len` bytes at `at` can be written, up to a page that cannot.
fn writable(at: u64, len: u64) -> u64 {
    let mut done = 0;
    while done < len {
        match at.checked_add(done) {
            Some(byte) if memory::is_writable(byte) => done += PAGE - byte % PAGE,
            _ => break,
        }
    }
    done.min(len)
}

/// A number in guest memory.
fn guest_u32(at: u64) -> Option<u32> {
    let mut value = 0u32;
    (at >= LOWEST && memory::copy(&raw mut value as u64, at, 4) == 4).then_some(value)
}
