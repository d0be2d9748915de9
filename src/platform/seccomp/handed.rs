//! Descriptors that a stub was handed, for guest threads to read files, and to read or write pipes, by themselves.
//!
//! Those of files are open for reading alone, of files that the guest process may read, and the filter lets nothing but pread(2)
//! and close(2) through with their numbers: no call moves an offset, changes a flag or learns more than the contents. Or they are
//! open for writing alone, and it is pwrite(2), up to a bound that the number says, which has been set aside for the file. Those of
//! pipes are one end each of one that the guest process has that end of, and there it is read(2), write(2) and close(2). What a
//! guest thread finds on its page only tells it which descriptor to use: whatever it makes of that, it reads and writes what it
//! might have anyway.
//!
//! A thread closes what it was handed, with an answer of its own, so never while it reads. Its number is used again when the
//! thread has rung after that. A stub that is cloned closes its copies.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use guest_runtime::abi::{
    BOUND_SHIFT, COMMANDS, Command, FILE_WRITES, GRANTS, NO_POSITION, PIPE_READS, PIPE_WRITES, STAYS, op,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::door::Door;
use super::filter::{HAND_PIPE, HAND_READ, hand_write};
use super::launch::call;
use super::process::{HostProcess, lock};
use super::server;
use super::thread::{Host, SeccompThread, decode};
use crate::platform::{Grant, Granted, HostFile, Io};

/// Descriptors that one thread can have: all closed by one answer.
const MOST: usize = 16;

/// Numbers of a stub's descriptors that are taken.
#[derive(Default)]
pub(super) struct Numbers(Mutex<BTreeSet<u32>>);

impl Numbers {
    fn take(&self, mut among: Range<u32>) -> Option<u32> {
        let mut taken = lock(&self.0);
        let free = among.find(|number| !taken.contains(number))?;
        taken.insert(free);
        Some(free)
    }

    fn free(&self, numbers: &[u32]) {
        let mut taken = lock(&self.0);
        numbers.iter().for_each(|number| {
            taken.remove(number);
        });
    }
}

/// What one thread was handed.
#[derive(Default)]
pub(super) struct Handed {
    lists: Mutex<Lists>,
    /// Whether there is something to close, or to find closed.
    changing: AtomicBool,
}

#[derive(Default)]
struct Lists {
    /// The positions where the thread had come to when it ended: its page may be another thread's since.
    left: Option<Vec<AtomicU64>>,
    serial: u32,
    open: Vec<u32>,
    /// Of those, no longer wanted.
    unwanted: Vec<u32>,
    /// Told to be closed by the last answer.
    told: Vec<u32>,
    /// To be called when the thread next comes to the supervisor.
    quiet: Vec<Box<dyn FnOnce() + Send>>,
}

impl Handed {
    /// Add to an answer that lets the thread go on what it is to close.
    pub(super) fn add_closes(&self, commands: &mut Vec<Command>) {
        if !self.changing.load(Ordering::SeqCst) {
            return;
        }
        let mut lists = lock(&self.lists);
        let room = COMMANDS.saturating_sub(commands.len());
        let left = lists.unwanted.len().saturating_sub(room);
        let told = lists.unwanted.split_off(left);
        commands.extend(told.iter().map(|number| close(*number)));
        lists.told.extend(told);
    }

    /// The thread has rung: what it was told before it has done.
    pub(super) fn rang(&self, process: &HostProcess) {
        if !self.changing.load(Ordering::SeqCst) {
            return;
        }
        let mut lists = lock(&self.lists);
        let told = std::mem::take(&mut lists.told);
        lists.open.retain(|number| !told.contains(number));
        let quiet = std::mem::take(&mut lists.quiet);
        self.changing.store(!lists.unwanted.is_empty(), Ordering::SeqCst);
        drop(lists);
        process.numbers.free(&told);
        quiet.into_iter().for_each(|then| then());
    }

    /// The thread ends: what it still has open.
    fn finish(&self, door: &Door) -> Vec<u32> {
        let mut lists = lock(&self.lists);
        // Most threads never had anything.
        let places = if lists.serial == 0 { 0 } else { GRANTS };
        lists.left.get_or_insert_with(|| {
            let words = (0..places).map(|place| door.grant(place));
            words
                .map(|words| AtomicU64::new(words.position.load(Ordering::SeqCst)))
                .collect()
        });
        let quiet = std::mem::take(&mut lists.quiet);
        let open = std::mem::take(&mut lists.open);
        drop(lists);
        quiet.into_iter().for_each(|then| then());
        open
    }

    fn is_over(&self) -> bool {
        lock(&self.lists).left.is_some()
    }

    fn discard(&self, number: u32) {
        let mut lists = lock(&self.lists);
        lists.unwanted.push(number);
        self.changing.store(true, Ordering::SeqCst);
    }
}

fn close(number: u32) -> Command {
    Command {
        optional: 1,
        ..call(libc::SYS_close, [u64::from(number), 0, 0, 0, 0, 0])
    }
}

/// A descriptor handed to a thread for one of its guest's.
struct HandedFile {
    host: Weak<Host>,
    handed: Arc<Handed>,
    door: Arc<Door>,
    /// The guest's number.
    place: usize,
    /// The host's.
    number: u32,
    /// What the page says while it may be used: different each time.
    state: u64,
}

impl HandedFile {
    /// Say on the page, as long as that is this thread's, what may be used.
    fn tell(&self, state: u64) {
        let lists = lock(&self.handed.lists);
        if lists.left.is_none() {
            self.door.grant(self.place).state.store(state, Ordering::SeqCst);
        }
    }

    /// Look at the position, on the page or as the thread left it; what comes of that as the guest says.
    fn at_position(&self, look: impl FnOnce(&AtomicU64) -> u64) -> Option<u64> {
        let lists = lock(&self.handed.lists);
        let position = match &lists.left {
            Some(left) => left.get(self.place).map(look)?,
            None => look(&self.door.grant(self.place).position),
        };
        (position != NO_POSITION).then_some(position.min(i64::MAX as u64))
    }
}

impl Grant for HandedFile {
    fn begin(&self) {
        self.take_position();
        self.tell(self.state);
    }

    fn lend_position(&self, position: u64) {
        self.at_position(|word| word.swap(position, Ordering::SeqCst));
    }

    fn take_position(&self) -> Option<u64> {
        self.at_position(|word| word.swap(NO_POSITION, Ordering::SeqCst))
    }

    fn position(&self) -> Option<u64> {
        self.at_position(|word| word.load(Ordering::SeqCst))
    }

    fn end(&self) -> Option<u64> {
        self.tell(0);
        self.handed.discard(self.number);
        self.take_position()
    }

    fn is_alive(&self) -> bool {
        !self.handed.is_over()
    }

    /// A thread that has stopped is in no call. It sees that the grant has ended before it makes another.
    fn is_busy(&self) -> bool {
        let says_so = self.door.busy() == self.state && self.is_alive();
        let host = self.host.upgrade().filter(|_| says_so);
        host.is_some_and(|host| !host.process.is_dead() && host.is_running())
    }

    fn when_quiet(&self, then: Box<dyn FnOnce() + Send>) {
        let mut lists = lock(&self.handed.lists);
        lists.quiet.push(then);
        self.handed.changing.store(true, Ordering::SeqCst);
        drop(lists);
        if let Some(host) = self.host.upgrade() {
            server::kick(&host);
        }
    }

    fn kill(&self) {
        if let Some(host) = self.host.upgrade() {
            host.process.kill();
        }
    }
}

/// Whether writes of that descriptor go where they say, and the host's limit stops none of them.
fn may_write(flags: OFlag) -> bool {
    let limit = getrlimit(Resource::RLIMIT_FSIZE);
    !flags.contains(OFlag::O_APPEND) && limit.is_ok_and(|(soft, _)| soft == RLIM_INFINITY)
}

fn if_stays(stays: bool) -> u64 {
    if stays { STAYS } else { 0 }
}

impl SeccompThread {
    /// Hand `file` in for the guest's descriptor `place`. None when it can do more than it should, or there are too many.
    pub(super) fn hand_in(&self, place: u32, file: &HostFile, what: Granted) -> Option<Arc<dyn Grant>> {
        let host = self.host();
        let place = usize::try_from(place).ok().filter(|place| *place < GRANTS)?;
        if host.core.io == Io::Mediated || lock(&host.handed.lists).open.len() >= MOST {
            return None;
        }
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).ok()?);
        let (among, kind) = match (what, flags & OFlag::O_ACCMODE) {
            _ if flags.contains(OFlag::O_PATH) => return None,
            (Granted::File { stays }, OFlag::O_RDONLY) => (HAND_READ, if_stays(stays)),
            (Granted::Writing { bound, stays }, OFlag::O_WRONLY) if may_write(flags) => {
                let kind = FILE_WRITES | u64::from(bound.place()) << BOUND_SHIFT;
                (hand_write(bound), kind | if_stays(stays))
            }
            (Granted::Pipe, OFlag::O_RDONLY) => (HAND_PIPE, PIPE_READS),
            (Granted::Pipe, OFlag::O_WRONLY) => (HAND_PIPE, PIPE_WRITES),
            _ => return None,
        };
        let fd = file.as_fd().try_clone_to_owned().ok()?;
        let number = host.process.numbers.take(among)?;
        // Should it fail, nobody knows whether the number is in use: it stays taken.
        self.take(fd, number)?;
        let mut lists = lock(&host.handed.lists);
        lists.serial = lists.serial.wrapping_add(1).max(1);
        lists.open.push(number);
        let state = u64::from(lists.serial) << 32 | kind | u64::from(number);
        drop(lists);
        Some(Arc::new(HandedFile {
            host: Arc::downgrade(host),
            handed: Arc::clone(&host.handed),
            door: host.shared_door(),
            place,
            number,
            state,
        }))
    }

    fn take(&self, fd: OwnedFd, number: u32) -> Option<()> {
        let expectation = self.host().core.notifier().expect_at(fd, number).ok()?;
        let take = Command {
            op: op::TAKE,
            args: [expectation.token(), 0, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        let results = self.host().command_expecting(&[take], Some(&expectation)).ok()?;
        decode(results.first().copied().unwrap_or(-1)).ok().map(drop)
    }

    /// It is going to end: have it close what it was handed, unless that goes with its process.
    pub(super) fn give_up_handed(&self) {
        let host = self.host();
        let open = host.handed.finish(host.door());
        if open.is_empty() || host.process.is_dead() || !host.process.has_siblings() {
            return;
        }
        let closes: Vec<Command> = open.iter().map(|number| close(*number)).collect();
        if host.command(&closes).is_ok() {
            host.process.numbers.free(&open);
        }
    }
}
