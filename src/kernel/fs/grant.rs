//! Enlightened I/O: files that guest threads read or write, and pipes that they read and write, by themselves, without a trap.
//!
//! A thread that reads a file again and again is given a host descriptor of it by its platform, which can read and nothing
//! else. What it does with that is no more than what it was allowed when it opened the file; so ending a grant is never a
//! matter of safety, but of what a correct guest sees. One that writes a file again and again is given one that can write, up to
//! a bound: who keeps that can do what he could by not closing his own, and where that would not do the
//! [file system](super::memfs) sees to it. A [`Ticket`] stands for one thread's grant of one descriptor. It ends
//! before anything changes that the thread would not notice by itself: the descriptor is closed or becomes another file's,
//! contents move elsewhere (copy-up), the next read has to note the access time, somebody watches files by inotify(7). Whoever
//! looks at the position of the open file description takes it back first.
//!
//! A read in progress that a ticket's end overtakes is made again, by the kernel. A write in progress is done, as one would be
//! that was called just before whatever ended the ticket. Not so with pipes, where what was moved was
//! moved, and the [pipe](super::pipe) waits until no thread can be in one.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::pipe::Pipe;
use super::{Fd, File, OpenFlags};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::platform::{Grant, Granted, WriteBound};

/// Reads by the kernel after which a grant pays, if there are as many more. A dynamic linker reads a library three times.
const READS: u32 = 4;

/// The same of writes: space has to be set aside, and a small file moves to a memory file of the host's.
const WRITES: u32 = 8;

/// Descriptions whose grants were ended so often are not granted again: each time it takes twice as many calls.
const TIRED: u32 = 8;

/// Threads that can have a grant of one description.
const MOST: usize = 8;

/// One thread's grant of one of its descriptors.
pub struct Ticket {
    owner: i32,
    number: u32,
    /// Whether calls by it wait, when that makes a difference.
    waits: bool,
    /// Below which offset writes by it begin; 0 for what is not to write.
    bound: AtomicU64,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    over: bool,
    grant: Option<Arc<dyn Grant>>,
    /// Where reading had come to when it ended, until somebody asks.
    position: Option<u64>,
}

impl State {
    /// The grant, unless it has ended.
    fn current(&self) -> Option<&Arc<dyn Grant>> {
        self.grant.as_ref().filter(|_| !self.over)
    }
}

impl Ticket {
    pub(super) fn new(owner: i32, number: u32, waits: bool) -> Arc<Ticket> {
        Arc::new(Ticket {
            owner,
            number,
            waits,
            bound: AtomicU64::new(0),
            state: Lock::new(Rank::Leaf, State::default()),
        })
    }

    /// Let the thread read, unless this is over already.
    pub(super) fn begin(&self, grant: Arc<dyn Grant>) {
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
        if !std::mem::replace(&mut state.over, true) {
            state.position = state.grant.as_ref().and_then(|grant| grant.end());
        }
    }

    /// Whether it has ended, or its thread has.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.over || state.grant.as_ref().is_some_and(|grant| !grant.is_alive())
    }

    /// After the end: whether the thread may still be in a call that it makes by the pipe.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state.lock();
        state.grant.as_ref().is_some_and(|grant| grant.is_busy())
    }

    /// Have `then` called when it is in none any more, after an interruption. Never called when there is no such thread.
    pub(super) fn when_quiet(&self, then: Box<dyn FnOnce() + Send>) {
        let grant = self.state.lock().grant.clone();
        if let Some(grant) = grant {
            grant.when_quiet(then);
        }
    }

    /// Kill the process of the thread, which does not come.
    pub(super) fn kill(&self) {
        let grant = self.state.lock().grant.clone();
        if let Some(grant) = grant {
            grant.kill();
        }
    }

    /// Whether it is to write, and how far.
    pub(super) fn set_bound(&self, bound: WriteBound) {
        self.bound.store(bound.start(), Ordering::Relaxed);
    }

    /// Whether a write by it may begin at `offset`.
    fn reaches(&self, offset: u64) -> bool {
        offset < self.bound.load(Ordering::Relaxed)
    }

    /// Whether this is a grant in force of that thread's descriptor.
    fn is_of(&self, owner: i32, number: u32) -> bool {
        self.owner == owner && self.number == number && self.is_in_force()
    }

    fn is_in_force(&self) -> bool {
        let state = self.state.lock();
        state.current().is_some_and(|grant| grant.is_alive())
    }

    /// Let read(2) begin at `position` and move it. Whether that is possible.
    pub(super) fn lend_position(&self, position: u64) -> bool {
        let state = self.state.lock();
        state.current().is_some_and(|grant| {
            grant.lend_position(position);
            true
        })
    }

    /// Take the position back, from a call in progress too.
    pub(super) fn take_position(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let left = state.position.take();
        left.or_else(|| state.current()?.take_position())
    }

    /// The position as it is now.
    pub(super) fn position(&self) -> Option<u64> {
        let state = self.state.lock();
        state.position.or_else(|| state.current()?.position())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end();
    }
}

/// The grants of an open file description.
pub struct Grants {
    /// Reads and writes by the kernel since the last grant ended.
    calls: AtomicU32,
    /// How often grants were ended.
    ended: AtomicU32,
    tickets: Lock<Vec<Arc<Ticket>>>,
}

impl Default for Grants {
    fn default() -> Self {
        Grants {
            calls: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            tickets: Lock::new(Rank::Leaf, Vec::new()),
        }
    }
}

impl Grants {
    /// Count a read or write; whether one more grant may pay, if that takes so many of them.
    fn pays(&self, calls: u32) -> bool {
        let done = self.calls.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let ended = self.ended.load(Ordering::Relaxed);
        ended < TIRED && done >= calls << ended
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

    /// Give up that one for another that reaches further, which does not count as an end.
    fn replace(&self, ticket: &Arc<Ticket>) {
        self.tickets.lock().retain(|held| !Arc::ptr_eq(held, ticket));
        ticket.end();
    }

    fn note_ended(&self, count: usize) {
        if count > 0 {
            self.ended.fetch_add(1, Ordering::Relaxed);
            self.calls.store(0, Ordering::Relaxed);
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

    /// Whether any of them is in force.
    pub(super) fn any_in_force(&self) -> bool {
        let all = self.tickets.lock().clone();
        all.iter()
            .filter_map(Weak::upgrade)
            .any(|ticket| ticket.is_in_force())
    }

    /// End them all.
    pub fn revoke(&self) {
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
    if !file.grants.pays(READS) {
        return;
    }
    let (owner, Ok(number)) = (cx.task.tid(), u32::try_from(fd.0)) else {
        return;
    };
    let held = file.grants.of(owner, number);
    let ticket = match held.filter(|held| !held.reaches(0)) {
        Some(held) => Some(held),
        None => grant(cx, fd, file, number, false),
    };
    if let Some(ticket) = ticket
        && at_position
    {
        file.pos.lend(&ticket);
    }
}

/// The calling thread has written what it wanted to `file` by its descriptor `fd`, up to `end`, at its position or elsewhere: let it
/// do so by itself from now on, if that pays.
pub(super) fn offer_writing(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>, end: u64, at_position: bool) {
    if !may_write(cx, file) || !file.grants.pays(WRITES) {
        return;
    }
    let (owner, Ok(number)) = (cx.task.tid(), u32::try_from(fd.0)) else {
        return;
    };
    let held = file.grants.of(owner, number);
    if let Some(held) = held.as_ref().filter(|held| held.reaches(0) && !held.reaches(end)) {
        file.grants.replace(held);
    }
    let ticket = match held.filter(|held| held.reaches(end)) {
        Some(held) => Some(held),
        None => grant(cx, fd, file, number, true),
    };
    if let Some(ticket) = ticket
        && at_position
    {
        file.pos.lend(&ticket);
    }
}

/// Whether this thread may write `file` without the kernel, which has nothing to say about such a write.
fn may_write(cx: &SyscallCx<'_>, file: &File) -> bool {
    let special = OpenFlags::APPEND | OpenFlags::DSYNC | OpenFlags::SYNC | OpenFlags::DIRECT;
    let unlimited = cx.task.group.soft_limit(libc::RLIMIT_FSIZE) == u64::MAX;
    unlimited && !file.flags().intersects(special) && !cx.kernel.clock.is_virtual()
}

/// The calling thread has read or written `file`, maybe a pipe, by its descriptor `fd`: have the bytes hosted if that pays.
pub(super) fn offer_pipe(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>) {
    let Some(pipe) = Pipe::of(file) else { return };
    if !pipe.pays() || file.path.is_some() || pipe.is_hosted() || !may_use_pipes(cx) {
        return;
    }
    let number = u32::try_from(fd.0)
        .ok()
        .filter(|_| pipe.host(&cx.kernel.vfs.host_pipes));
    if let Some(number) = number {
        grant(cx, fd, file, number, false);
    }
}

/// Whether the platform is to make this call on `file` by itself: it is one on an end of a hosted pipe, which its thread was granted
/// just now, or with which it was making the call already.
pub(super) fn hand_over(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>) -> bool {
    let (Some(pipe), Ok(number)) = (Pipe::of(file), u32::try_from(fd.0)) else {
        return false;
    };
    if !pipe.is_hosted() {
        return false;
    }
    let held = file.grants.of(cx.task.tid(), number);
    if cx.state.own {
        return held.is_some() && !cx.task.is_traced();
    }
    // Who has a grant and comes all the same cannot make this call.
    let may = held.is_none() && cx.state.progress == 0 && may_use_pipes(cx);
    may && grant(cx, fd, file, number, false).is_some()
}

/// Whether this thread may wait without the kernel, which looks at who waits when its clock is a virtual one.
fn may_use_pipes(cx: &SyscallCx<'_>) -> bool {
    cx.thread.may_use_pipes() && may_grant(cx) && !cx.kernel.clock.is_virtual()
}

/// Whether nobody wants to see what this thread does.
fn may_grant(cx: &SyscallCx<'_>) -> bool {
    !cx.kernel.sees_all_calls() && !cx.task.is_traced() && !cx.kernel.vfs.watches.any()
}

/// The position of `file` was moved: let the thread that has a grant go on there.
pub(super) fn moved(cx: &SyscallCx<'_>, fd: Fd, file: &Arc<File>) {
    if let Ok(number) = u32::try_from(fd.0)
        && let Some(ticket) = file.grants.of(cx.task.tid(), number)
    {
        file.pos.lend(&ticket);
    }
}

fn grant(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>, number: u32, writes: bool) -> Option<Arc<Ticket>> {
    let ticket = Ticket::new(cx.task.tid(), number, !file.nonblocking());
    if begin(cx, file, &ticket, writes).is_none() {
        ticket.end();
        if writes {
            // Setting something aside for nothing costs more than for reading.
            file.grants.note_ended(1);
        }
        return None;
    }
    // Another thread may have closed it meanwhile, or changed what its calls do, which found no ticket.
    let is_still = cx.task.files().get(fd).is_ok_and(|now| Arc::ptr_eq(&now, file));
    let waits = !file.nonblocking();
    if !is_still || ticket.waits != waits || writes && !may_write(cx, file) {
        file.grants.end();
    }
    Some(ticket)
}

fn begin(cx: &mut SyscallCx<'_>, file: &Arc<File>, ticket: &Arc<Ticket>, writes: bool) -> Option<()> {
    // In this order: whoever begins to watch, to limit, or to change contents, ends what he finds.
    cx.kernel.vfs.watches.granted.add(ticket);
    if writes {
        cx.kernel.vfs.writers.add(ticket);
    }
    if !may_grant(cx) || writes && !may_write(cx, file) {
        return None;
    }
    let stays = file.ops.stays_at_0();
    let (host, what) = if writes {
        let (host, bound) = file.ops.lend_for_writing(file, ticket)?;
        ticket.set_bound(bound);
        (host, Granted::Writing { bound, stays })
    } else {
        let what = match Pipe::of(file) {
            Some(_) => Granted::Pipe,
            None => Granted::File { stays },
        };
        (file.ops.lend(file, ticket)?, what)
    };
    let grant = cx.thread.grant(ticket.number, &host, what)?;
    if !file.grants.add(ticket) {
        grant.end();
        return None;
    }
    ticket.begin(grant);
    Some(())
}
