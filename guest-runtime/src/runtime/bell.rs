//! Ringing: tell the supervisor, wait for its answer.

use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use super::sys;
use super::thread::Block;
use crate::abi::{Exception, Registers, TURNS, kind};

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;

fn wake(word: &AtomicU32) {
    sys::call(
        sys::FUTEX,
        [ptr::from_ref(word) as u64, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0],
    );
}

fn wait(word: &AtomicU32, old: u32) {
    sys::call(
        sys::FUTEX,
        [ptr::from_ref(word) as u64, FUTEX_WAIT, u64::from(old), 0, 0, 0],
    );
}

impl Block {
    /// Tell of a trap.
    pub fn ring(&mut self, kind: u32, patched: bool, regs: &Registers, exception: Exception) {
        // What came so far will be looked at with this trap.
        self.pending = 0;
        let segments = if kind == kind::SYSCALL {
            self.marshal(regs)
        } else {
            0
        };
        // SAFETY: this thread's own page, mapped as long as the thread lives; only plain data is written.
        unsafe {
            let request = &raw mut (*self.page).request;
            let (from, to) = (
                ptr::from_ref(regs).cast::<u64>(),
                (&raw mut (*request).regs).cast::<u64>(),
            );
            for word in 0..size_of::<Registers>() / 8 {
                let value = from.add(word).read();
                // A line that is not written need not go to the other CPU.
                if to.add(word).read() != value {
                    to.add(word).write(value);
                }
            }
            if kind == kind::FAULT {
                (*request).exception = exception;
            }
            // What lies beside the word that the supervisor may be watching comes last.
            (*request).kind = kind;
            (*request).cpu = sys::cpu();
            (*request).patched = u32::from(patched);
            (*request).count = segments;
            (*request).moved = core::mem::take(&mut self.moved);
            self.req = self.req.wrapping_add(1);
            (*self.page).req.store(self.req, Ordering::Release);
            fence(Ordering::SeqCst);
            if (*self.page).watch.server.load(Ordering::SeqCst) == 0 {
                wake(&(*self.page).req);
            }
        }
    }

    /// Say that the commands are done.
    pub fn reply(&mut self) {
        self.done = self.done.wrapping_add(1);
        // SAFETY: as in `ring`.
        unsafe {
            (*self.page).done.0.store(self.done, Ordering::SeqCst);
            wake(&(*self.page).done.0);
        }
    }

    /// Wait for the next answer.
    pub fn wait(&mut self) {
        // SAFETY: as in `ring`.
        let (word, watch) = unsafe { (&(*self.page).rsp, &(*self.page).watch) };
        let turns = watch.turns.load(Ordering::Relaxed).min(TURNS);
        if turns != 0 {
            if watch.guest.load(Ordering::Relaxed) == 0 {
                watch.guest.store(1, Ordering::SeqCst);
            }
            for _ in 0..turns {
                let now = word.load(Ordering::SeqCst);
                if now != self.rsp_seen {
                    self.rsp_seen = now;
                    return;
                }
                spin_loop();
            }
        }
        // Before the last look: who answers looks at it after answering.
        if watch.guest.load(Ordering::Relaxed) != 0 {
            watch.guest.store(0, Ordering::SeqCst);
        }
        loop {
            let now = word.load(Ordering::SeqCst);
            if now != self.rsp_seen {
                self.rsp_seen = now;
                return;
            }
            wait(word, now);
        }
    }
}
