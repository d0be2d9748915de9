//! Guest memory that came with a call: *segments* that the runtime copied into the window, or found to be writable.
//!
//! While the owner of a thread runs on a host thread, that thread's call is the [present](during) one there, and its
//! accesses to the thread's own space are served from the window where they lie inside a segment. What it writes stays
//! there until the answer, which tells the runtime to copy it to guest memory; should that fail (another thread has
//! unmapped it since), the call returns EFAULT. So everything else that looks at guest memory, or changes it, first has
//! what was written [put back](Host::settle): commands, parking, debuggers, accesses by other tasks. What is changed
//! behind a segment's back ends the segment.
//!
//! Where the segments are was copied when the guest rang. That the window may change any time is no different from guest
//! memory changing, and a guest that tells of memory it does not have deceives only itself.

use std::cell::RefCell;
use std::sync::Arc;

use guest_runtime::abi::{
    Command, Request, SEGMENTS, SEGMENTS_END, Segment, WRITE_BACKS, WriteBack, kind, op,
};

use super::process::lock;
use super::thread::Host;
use crate::platform::USER_END;

thread_local! {
    /// The thread whose owner runs on this host thread.
    static PRESENT: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// Run the owner of `host`'s thread.
pub(super) fn during<R>(host: &Arc<Host>, owner: impl FnOnce() -> R) -> R {
    let before = PRESENT.replace(Some(Arc::clone(host)));
    let result = owner();
    PRESENT.set(before);
    result
}

/// Look at the thread whose owner runs on this host thread, if any.
pub(super) fn with_present<R>(look: impl FnOnce(Option<&Arc<Host>>) -> R) -> R {
    PRESENT.with_borrow(|present| look(present.as_ref()))
}

/// Bytes of guest memory that have a place in the window.
#[derive(Clone, Copy)]
struct Range {
    addr: u64,
    len: u64,
    offset: u64,
}

impl Range {
    fn end(&self) -> u64 {
        self.addr + self.len
    }

    fn contains(&self, addr: u64, len: usize) -> bool {
        addr >= self.addr && addr.saturating_add(len as u64) <= self.end()
    }

    fn overlaps(&self, addr: u64, len: usize) -> bool {
        addr < self.end() && self.addr < addr.saturating_add(len as u64)
    }

    /// Where `addr`, which it contains, is in the window.
    fn place(&self, addr: u64) -> usize {
        (self.offset + (addr - self.addr)) as usize
    }
}

struct Piece {
    range: Range,
    readable: bool,
    writable: bool,
}

/// The segments of a call, and what was written to them.
#[derive(Default)]
pub(super) struct Segments {
    pieces: Vec<Piece>,
    /// Not in guest memory yet.
    written: Vec<Range>,
}

impl Segments {
    /// Those of a call that was just made. No two of them share guest memory.
    pub(super) fn load(&mut self, request: &Request) {
        self.clear();
        let count = if request.kind == kind::SYSCALL {
            request.count as usize
        } else {
            0
        };
        for segment in request.segments.iter().take(count.min(SEGMENTS)) {
            let range = Range {
                addr: segment.addr,
                len: u64::from(segment.len),
                offset: u64::from(segment.offset),
            };
            let is_in_window = range.offset + range.len <= SEGMENTS_END;
            let is_in_guest = range
                .addr
                .checked_add(range.len)
                .is_some_and(|end| end <= USER_END);
            let is_new = |p: &Piece| !p.range.overlaps(range.addr, segment.len as usize);
            if range.len > 0 && is_in_window && is_in_guest && self.pieces.iter().all(is_new) {
                self.pieces.push(Piece {
                    range,
                    readable: segment.flags & Segment::READABLE != 0,
                    writable: segment.flags & Segment::WRITABLE != 0,
                });
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.written.clear();
    }

    /// Where the window has `len` bytes of guest memory at `addr`, if it has.
    fn readable(&self, addr: u64, len: usize) -> Option<usize> {
        let piece = self.pieces.iter().find(|p| p.range.contains(addr, len))?;
        let known = piece.readable || self.written.iter().any(|w| w.contains(addr, len));
        known.then(|| piece.range.place(addr))
    }

    /// Where to write `len` bytes at `addr`, if the window is the place.
    fn writable(&self, addr: u64, len: usize) -> Option<usize> {
        let mut pieces = self.pieces.iter();
        let piece = pieces.find(|p| p.writable && p.range.contains(addr, len))?;
        Some(piece.range.place(addr))
    }

    /// `len` bytes at `addr` were written to their place. False when nothing more can be kept in mind before what is has
    /// been put back.
    fn note(&mut self, addr: u64, len: usize, place: usize) -> bool {
        let next = |w: &&mut Range| w.addr <= addr && addr <= w.end() && w.place(addr) == place;
        if let Some(before) = self.written.iter_mut().find(next) {
            before.len = before.len.max(addr + len as u64 - before.addr);
            return true;
        }
        if self.written.len() >= WRITE_BACKS {
            return false;
        }
        self.written.push(Range {
            addr,
            len: len as u64,
            offset: place as u64,
        });
        true
    }

    fn is_written(&self, addr: u64, len: usize) -> bool {
        self.written.iter().any(|w| w.overlaps(addr, len))
    }

    /// What the runtime is to put back.
    pub(super) fn write_backs(&self) -> impl Iterator<Item = WriteBack> {
        // A segment is shorter than the window.
        self.written.iter().map(|w| WriteBack {
            addr: w.addr,
            len: w.len as u32,
            offset: w.offset as u32,
        })
    }

    /// It was put back, or cannot be.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
    }

    /// Guest memory is going to change otherwise; what was written is still to be put back.
    pub(super) fn end(&mut self) {
        self.pieces.clear();
    }
}

/// Whether a command leaves the memory of segments as it is. Who copies out has had what it changes forgotten.
pub(super) fn leaves_memory(command: &Command) -> bool {
    matches!(
        command.op,
        op::COPY_IN | op::COPY_OUT | op::GET_XSTATE | op::SET_XSTATE | op::TAKE
    )
}

impl Host {
    /// Copy from this thread's window what its call brought with it. False where that is not all of `buf`.
    pub(super) fn read_segment(&self, addr: u64, buf: &mut [u8]) -> bool {
        let mut talk = lock(&self.talk);
        if let Some(place) = talk.segments.readable(addr, buf.len()) {
            self.door().read_window(place, buf);
            return true;
        }
        if talk.segments.is_written(addr, buf.len()) {
            self.put_back(&mut talk);
        }
        false
    }

    /// Write to this thread's window what its answer will put in guest memory. False when it has to be written otherwise.
    pub(super) fn write_segment(&self, addr: u64, buf: &[u8]) -> bool {
        let mut talk = lock(&self.talk);
        let Some(place) = talk.segments.writable(addr, buf.len()) else {
            drop(talk);
            self.forget(addr, buf.len());
            return false;
        };
        if !talk.segments.note(addr, buf.len(), place) {
            self.put_back(&mut talk);
            talk.segments.note(addr, buf.len(), place);
        }
        self.door().write_window(place, buf);
        true
    }

    /// `len` bytes at `addr` are going to change otherwise.
    pub(super) fn forget(&self, addr: u64, len: usize) {
        let mut talk = lock(&self.talk);
        if talk.segments.is_written(addr, len) {
            self.put_back(&mut talk);
        }
        talk.segments.pieces.retain(|p| !p.range.overlaps(addr, len));
    }

    /// Put all that was written to segments into guest memory.
    pub(super) fn settle(&self) {
        let mut talk = lock(&self.talk);
        if !talk.segments.written.is_empty() {
            self.put_back(&mut talk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(segments: &[(u64, u32, u16, u16)]) -> Request {
        let mut request = Request {
            kind: kind::SYSCALL,
            count: segments.len() as u32,
            ..Request::default()
        };
        for (to, &(addr, len, offset, flags)) in request.segments.iter_mut().zip(segments) {
            *to = Segment {
                addr,
                len,
                offset,
                flags,
            };
        }
        request
    }

    fn loaded(segments: &[(u64, u32, u16, u16)]) -> Segments {
        let mut loaded = Segments::default();
        loaded.load(&request(segments));
        loaded
    }

    const BOTH: u16 = Segment::READABLE | Segment::WRITABLE;

    #[test]
    fn segments_out_of_bounds_do_not_count() {
        let end = SEGMENTS_END as u16;
        for bad in [
            (0x1000, 0, 0, BOTH),
            (0x1000, 2, end - 1, BOTH),
            (0x1000, 1, end, BOTH),
            (0x1000, u32::MAX, 0, BOTH),
            (USER_END - 1, 2, 0, BOTH),
            (u64::MAX, 2, 0, BOTH),
        ] {
            assert!(loaded(&[bad]).pieces.is_empty(), "{bad:x?}");
        }
        assert_eq!(loaded(&[(USER_END - 2, 2, end - 2, BOTH)]).pieces.len(), 1);
        let mut many = request(&[(0x1000, 1, 0, BOTH)]);
        many.count = u32::MAX;
        let mut segments = Segments::default();
        segments.load(&many);
        assert_eq!(segments.pieces.len(), 1);
        many.kind = kind::FAULT;
        segments.load(&many);
        assert!(segments.pieces.is_empty());
    }

    #[test]
    fn the_first_of_two_that_overlap_counts() {
        let segments = loaded(&[
            (0x1000, 8, 0, BOTH),
            (0x1007, 8, 64, BOTH),
            (0x1008, 8, 128, BOTH),
        ]);
        assert_eq!(segments.readable(0x1000, 8), Some(0));
        assert_eq!(segments.readable(0x1008, 8), Some(128));
        assert_eq!(segments.readable(0x1007, 2), None);
    }

    #[test]
    fn room_can_be_read_where_it_was_written() {
        let mut segments = loaded(&[(0x1000, 100, 64, Segment::WRITABLE)]);
        assert_eq!(segments.readable(0x1000, 1), None);
        let place = segments.writable(0x1010, 16).unwrap();
        assert_eq!(place, 64 + 16);
        assert!(segments.note(0x1010, 16, place));
        assert!(segments.note(0x1020, 16, place + 16));
        assert_eq!(segments.readable(0x1010, 32), Some(place));
        assert_eq!(segments.readable(0x100f, 32), None);
        let backs: Vec<_> = segments
            .write_backs()
            .map(|w| (w.addr, w.offset, w.len))
            .collect();
        assert_eq!(backs, [(0x1010, 64 + 16, 32)]);
        segments.forget_written();
        assert_eq!(segments.write_backs().count(), 0);
        assert_eq!(segments.writable(0x1063, 2), None);
    }

    #[test]
    fn an_answer_holds_what_can_be_kept_in_mind() {
        let mut segments = loaded(&[(0x1000, 1000, 0, BOTH)]);
        for at in 0..WRITE_BACKS {
            assert!(segments.note(0x1000 + 2 * at as u64, 1, 2 * at));
        }
        assert!(!segments.note(0x1000 + 2 * WRITE_BACKS as u64, 1, 2 * WRITE_BACKS));
        assert!(segments.note(0x1000 + 1, 1, 1));
        assert_eq!(segments.write_backs().count(), WRITE_BACKS);
    }
}
