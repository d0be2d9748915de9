//! Enlightened reading: files that guest threads read by themselves, without a trap.
//!
//! A thread that reads a file again and again is given a host descriptor of it by its platform, which can read and nothing
//! else. What it does with that is no more than what it was allowed when it opened the file; so ending a grant is never a
//! matter of safety, but of what a correct guest sees. A [`Ticket`] stands for one thread's grant of one descriptor. It ends
//! before anything changes that the thread would not notice by itself: the descriptor is closed or becomes another file's,
//! contents move elsewhere (copy-up), the next read has to note the access time, somebody watches files by inotify(7). Whoever
//! looks at the position of the open file description takes it back first.
//!
//! A call in progress that a ticket's end overtakes is made again, by the kernel.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::{Fd, File};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::platform::Grant;

/// Reads by the kernel after which a grant pays, if there are as many more. A dynamic linker reads a library three times.
const READS: u32 = 4;

/// Descriptions whose grants were ended so often are not granted again: each time it takes twice as many reads.
const TIRED: u32 = 8;

/// Threads that can have a grant of one description.
const MOST: usize = 8;

/// One thread's grant of one of its descriptors.
pub struct Ticket {
    owner: i32,
    number: u32,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    over: bool,
    grant: Option<Arc<dyn Grant>>,
    /// Where reading had come to when it ended, until somebody asks.
    position: Option<u64>,
}

impl Ticket {
    fn new(owner: i32, number: u32) -> Arc<Ticket> {
        Arc::new(Ticket {
            owner,
            number,
            state: Lock::new(Rank::Leaf, State::default()),
        })
    }

    /// Let the thread read, unless this is over already.
    fn begin(&self, grant: Arc<dyn Grant>) {
        let mut state = self.state.lock();
        if state.over {
            grant.end();
        } else {
            grant.begin();
            state.grant = Some(grant);
        }
    }

    /// From now on reads of that descriptor trap.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        if let Some(grant) = state.grant.take() {
            state.position = grant.end();
        }
    }

    /// Whether this is a grant in force of that thread's descriptor.
    fn is_of(&self, owner: i32, number: u32) -> bool {
        self.owner == owner && self.number == number && self.is_in_force()
    }

    fn is_in_force(&self) -> bool {
        let state = self.state.lock();
        state.grant.as_ref().is_some_and(|grant| grant.is_alive())
    }

    /// Let read(2) begin at `position` and move it. Whether that is possible.
    pub(super) fn lend_position(&self, position: u64) -> bool {
        let state = self.state.lock();
        state.grant.as_ref().is_some_and(|grant| {
            grant.lend_position(position);
            true
        })
    }

    /// Take the position back, from a call in progress too.
    pub(super) fn take_position(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let left = state.position.take();
        left.or_else(|| state.grant.as_ref()?.take_position())
    }

    /// The position as it is now.
    pub(super) fn position(&self) -> Option<u64> {
        let state = self.state.lock();
        state.position.or_else(|| state.grant.as_ref()?.position())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end();
    }
}

/// The grants of an open file description.
pub struct Grants {
    /// Reads by the kernel since the last grant ended.
    reads: AtomicU32,
    /// How often grants were ended.
    ended: AtomicU32,
    tickets: Lock<Vec<Arc<Ticket>>>,
}

impl Default for Grants {
    fn default() -> Self {
        Grants {
            reads: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            tickets: Lock::new(Rank::Leaf, Vec::new()),
        }
    }
}

impl Grants {
    /// Count a read; whether one more grant may pay.
    fn pays(&self) -> bool {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let ended = self.ended.load(Ordering::Relaxed);
        ended < TIRED && reads >= READS << ended
    }

    /// The thread's own, if it is in force.
    fn of(&self, owner: i32, number: u32) -> Option<Arc<Ticket>> {
        let tickets = self.tickets.lock().clone();
        tickets.into_iter().find(|ticket| ticket.is_of(owner, number))
    }

    /// One more, in place of what is no longer in force. False when there are too many.
    fn add(&self, ticket: &Arc<Ticket>) -> bool {
        let all = std::mem::take(&mut *self.tickets.lock());
        let (kept, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|ticket| ticket.is_in_force());
        self.note_ended(gone.len());
        let mut tickets = self.tickets.lock();
        tickets.extend(kept);
        if tickets.len() >= MOST {
            return false;
        }
        tickets.push(Arc::clone(ticket));
        true
    }

    fn note_ended(&self, count: usize) {
        if count > 0 {
            self.ended.fetch_add(1, Ordering::Relaxed);
            self.reads.store(0, Ordering::Relaxed);
        }
    }

    /// A descriptor of the description is closed: end all.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.tickets.lock());
        all.iter().for_each(|ticket| ticket.end());
    }
}

/// Tickets that something may end, which they do not keep alive.
pub struct Revocable {
    any: AtomicBool,
    tickets: Lock<Vec<Weak<Ticket>>>,
}

impl Default for Revocable {
    fn default() -> Self {
        Revocable {
            any: AtomicBool::new(false),
            tickets: Lock::new(Rank::Leaf, Vec::new()),
        }
    }
}

impl Revocable {
    /// One more that [`Revocable::revoke`] ends.
    pub(super) fn add(&self, ticket: &Arc<Ticket>) {
        let mut tickets = self.tickets.lock();
        if tickets.len() == tickets.capacity() {
            tickets.retain(|ticket| ticket.strong_count() > 0);
        }
        tickets.push(Arc::downgrade(ticket));
        self.any.store(true, Ordering::SeqCst);
    }

    /// End them all.
    pub(super) fn revoke(&self) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let all = {
            let mut tickets = self.tickets.lock();
            self.any.store(false, Ordering::SeqCst);
            std::mem::take(&mut *tickets)
        };
        all.iter()
            .filter_map(Weak::upgrade)
            .for_each(|ticket| ticket.end());
    }
}

/// The calling thread has read as much as it wanted of `file` by its descriptor `fd`, at its position or elsewhere: let it do
/// so by itself from now on, if that pays.
pub(super) fn offer(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>, at_position: bool) {
    if !file.grants.pays() {
        return;
    }
    let (owner, Ok(number)) = (cx.task.tid(), u32::try_from(fd.0)) else {
        return;
    };
    let ticket = file.grants.of(owner, number).or_else(|| grant(cx, file, number));
    if let Some(ticket) = ticket
        && at_position
    {
        file.pos.lend(&ticket);
    }
    // Another thread may have closed it meanwhile, which found no ticket.
    let is_still = cx.task.files().get(fd).is_ok_and(|now| Arc::ptr_eq(&now, file));
    if !is_still {
        file.grants.end();
    }
}

/// The position of `file` was moved: let the thread that has a grant go on there.
pub(super) fn moved(cx: &SyscallCx<'_>, fd: Fd, file: &Arc<File>) {
    if let Ok(number) = u32::try_from(fd.0)
        && let Some(ticket) = file.grants.of(cx.task.tid(), number)
    {
        file.pos.lend(&ticket);
    }
}

fn grant(cx: &mut SyscallCx<'_>, file: &Arc<File>, number: u32) -> Option<Arc<Ticket>> {
    if cx.kernel.tracer.is_some() {
        return None;
    }
    let ticket = Ticket::new(cx.task.tid(), number);
    // In this order: whoever begins to watch, or to change contents, ends what he finds.
    cx.kernel.vfs.watches.granted.add(&ticket);
    if cx.kernel.vfs.watches.any() {
        return None;
    }
    let host = file.ops.lend(file, &ticket)?;
    let grant = cx.thread.grant(number, &host)?;
    if !file.grants.add(&ticket) {
        grant.end();
        return None;
    }
    ticket.begin(grant);
    Some(ticket)
}
