//! The supervisor's side of a doorbell page: shared memory that a hostile guest writes too.
//!
//! Everything read from it is copied once, into memory of our own, and checked by whoever uses it. The counters that tell
//! what is new are kept here; what the guest makes of its words can at most end its own conversation.

use std::hint::spin_loop;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use guest_runtime::abi::{
    Answer, COMMANDS, Command, GRANTS, Grant, PAGE, Page, Registers, Request, SEGMENTS, SHARED_STRIDE,
    WINDOW, WRITE_BACKS, Watch, WriteBack, kind,
};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The mapped page and window of one slot.
pub(super) struct PageMapping(NonNull<Page>);

// SAFETY: the page is plain shared memory that is only accessed by atomics and by copies through raw pointers.
unsafe impl Send for PageMapping {}
// SAFETY: as above; who may write what when is decided by the locks of `thread::Host`.
unsafe impl Sync for PageMapping {}

impl PageMapping {
    /// Map slot `slot` of a space's memory.
    pub(super) fn new(memory: impl AsFd, slot: u64) -> Result<Arc<PageMapping>, Errno> {
        let len = NonZeroUsize::new(SHARED_STRIDE as usize).ok_or(Errno::EINVAL)?;
        let offset = i64::try_from(slot * SHARED_STRIDE).map_err(|_| Errno::EINVAL)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the host chooses.
        let page = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, memory, offset)? };
        Ok(Arc::new(PageMapping(page.cast())))
    }
}

impl Drop for PageMapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which nothing is borrowed any more.
        let unmapped = unsafe { munmap(self.0.cast(), SHARED_STRIDE as usize) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// The conversation of one thread by the page and window of its slot.
pub(super) struct Door {
    mapping: Arc<PageMapping>,
    /// How often somebody rang for the dead. The page itself may hold anything, by its guest's doing.
    dead_rings: AtomicU32,
}

/// What a server knows of a door: what is different is new.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    req: u32,
    dead_rings: u32,
}

/// With what an answer lets the guest go on.
#[derive(Clone, Copy)]
pub(super) enum GoesOn<'a> {
    /// All registers.
    With(&'a Registers),
    /// The result of the call; nothing else has changed.
    Returning(u64),
    /// It does not go on yet, or never again.
    Not,
}

impl Door {
    /// Map slot `slot` of a space's memory and give its words their first values.
    pub(super) fn open(memory: impl AsFd, slot: u64) -> Result<Door, Errno> {
        Ok(Door::of(PageMapping::new(memory, slot)?))
    }

    /// Give the words of a page their first values.
    pub(super) fn of(mapping: Arc<PageMapping>) -> Door {
        let door = Door {
            mapping,
            dead_rings: AtomicU32::new(0),
        };
        let watch = door.watch();
        let words = [&watch.server, &watch.guest, &watch.turns];
        for word in words.into_iter().chain([door.req(), door.rsp(), door.done()]) {
            word.store(0, Ordering::SeqCst);
        }
        door.answered_word().store(0, Ordering::Relaxed);
        for word in door.native_words().into_iter().chain(door.cpuid_words()) {
            word.store(0, Ordering::Relaxed);
        }
        for place in 0..GRANTS {
            door.grant(place).state.store(0, Ordering::SeqCst);
        }
        door.rests_word().store(0, Ordering::SeqCst);
        door.forget_robust_list();
        door.busy_word().store(0, Ordering::SeqCst);
        // Until the host says otherwise. For a stub's first thread it never does: its slot is not used again.
        door.alive().store(1, Ordering::SeqCst);
        door
    }

    fn page(&self) -> *mut Page {
        self.mapping.0.as_ptr()
    }

    fn req(&self) -> &AtomicU32 {
        // SAFETY: mapped as long as `self` lives; an atomic may be changed by others.
        unsafe { &(*self.page()).req }
    }

    fn rsp(&self) -> &AtomicU32 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).rsp }
    }

    pub(super) fn done(&self) -> &AtomicU32 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).done.0 }
    }

    /// Whether a thread that shares memory with its maker has not ended yet.
    pub(super) fn is_alive(&self) -> bool {
        self.alive().load(Ordering::SeqCst) != 0
    }

    /// Where the guest finds what it is told without ringing, and what it may do.
    pub(super) fn set_facts(&self, facts: u64, room: u64) {
        let page = self.page();
        // SAFETY: as in `req`.
        let words = unsafe { [&(*page).facts, &(*page).room] };
        words[0].store(facts, Ordering::SeqCst);
        words[1].store(room, Ordering::SeqCst);
    }

    /// Calls that, as the guest says, were answered without ringing.
    pub(super) fn answered(&self) -> u64 {
        self.answered_word().load(Ordering::Relaxed)
    }

    /// Calls that, as the guest says, the runtime has made itself.
    pub(super) fn native(&self) -> u64 {
        let [all, _] = self.native_words();
        all.load(Ordering::Relaxed)
    }

    /// CPUID instructions that, as the guest says, the runtime has answered: of patched sites, and those that faulted.
    pub(super) fn cpuids(&self) -> [u64; 2] {
        self.cpuid_words().map(|word| word.load(Ordering::Relaxed))
    }

    /// Of those, writes of plain files.
    pub(super) fn written(&self) -> u64 {
        let [_, written] = self.native_words();
        written.load(Ordering::Relaxed)
    }

    /// Whether, as the guest says, it waits by a futex of its own.
    pub(super) fn rests(&self) -> bool {
        self.rests_word().load(Ordering::SeqCst) != 0
    }

    /// The head of its list of robust futexes that, as the guest says, it has named; 0 for none.
    pub(super) fn robust_list(&self) -> u64 {
        self.robust_word().load(Ordering::SeqCst)
    }

    /// It was named otherwise.
    pub(super) fn forget_robust_list(&self) {
        self.robust_word().store(0, Ordering::SeqCst);
    }

    fn robust_word(&self) -> &AtomicU64 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).robust }
    }

    /// The state of the granted pipe that, as the guest says, it is using.
    pub(super) fn busy(&self) -> u64 {
        self.busy_word().load(Ordering::SeqCst)
    }

    fn busy_word(&self) -> &AtomicU64 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).busy }
    }

    fn rests_word(&self) -> &AtomicU32 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).rests }
    }

    fn native_words(&self) -> [&AtomicU64; 2] {
        let page = self.page();
        // SAFETY: as in `req`.
        unsafe { [&(*page).native, &(*page).written] }
    }

    fn cpuid_words(&self) -> [&AtomicU64; 2] {
        let page = self.page();
        // SAFETY: as in `req`.
        unsafe { [&(*page).cpuid, &(*page).cpuid_faults] }
    }

    fn answered_word(&self) -> &AtomicU64 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).answered }
    }

    /// What may be read for the guest's descriptor `place`.
    pub(super) fn grant(&self, place: usize) -> &Grant {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).grants[place.min(GRANTS - 1)] }
    }

    fn alive(&self) -> &AtomicU32 {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).alive.0 }
    }

    fn watch(&self) -> &Watch {
        // SAFETY: as in `req`.
        unsafe { &(*self.page()).watch }
    }

    /// Have the guest look so often for an answer before it sleeps.
    pub(super) fn set_turns(&self, turns: u32) {
        self.watch().turns.store(turns, Ordering::Relaxed);
    }

    /// What is there now.
    fn look(&self) -> Seen {
        // In this order: whoever rings for the dead counts first and then changes the word, so that a wait for the
        // value read here ends at once when the count read after it is an old one.
        let req = self.req().load(Ordering::SeqCst);
        let dead_rings = self.dead_rings.load(Ordering::SeqCst);
        Seen { req, dead_rings }
    }

    /// Wait until there is something that is not in `seen`; what is there then. Looks `turns` times before it sleeps.
    pub(super) fn wait_ring(&self, seen: Seen, turns: u32) -> Seen {
        let watching = &self.watch().server;
        if turns != 0 {
            if watching.load(Ordering::Relaxed) == 0 {
                watching.store(1, Ordering::SeqCst);
            }
            for _ in 0..turns {
                let now = self.look();
                if now != seen {
                    return now;
                }
                spin_loop();
            }
        }
        // Before the last look: a guest looks at it after ringing.
        if watching.load(Ordering::Relaxed) != 0 {
            watching.store(0, Ordering::SeqCst);
        }
        loop {
            let now = self.look();
            if now != seen {
                return now;
            }
            wait(self.req(), now.req, None);
        }
    }

    /// Ring in place of a guest that is dead.
    pub(super) fn ring_for_the_dead(&self) {
        self.dead_rings.fetch_add(1, Ordering::SeqCst);
        self.req().fetch_add(1 << 31, Ordering::SeqCst);
        self.done().fetch_add(1 << 31, Ordering::SeqCst);
        wake(self.req());
        wake(self.done());
    }

    /// Wait at most `timeout` for `done` to leave `old`. Whether it has.
    pub(super) fn wait_done(&self, old: u32, timeout: Duration) -> bool {
        if self.done().load(Ordering::SeqCst) == old {
            wait(self.done(), old, Some(timeout));
        }
        self.done().load(Ordering::SeqCst) != old
    }

    /// Give the answer number `number`.
    pub(super) fn answer(
        &self,
        number: u32,
        action: u32,
        goes_on: GoesOn<'_>,
        write_backs: impl Iterator<Item = WriteBack>,
        commands: &[Command],
    ) {
        debug_assert!(commands.len() <= COMMANDS);
        // SAFETY: inside the mapped page; plain data.
        unsafe {
            let answer: *mut Answer = &raw mut (*self.page()).answer;
            for (i, command) in commands.iter().take(COMMANDS).enumerate() {
                (&raw mut (*answer).commands[i]).write_volatile(*command);
            }
            match goes_on {
                GoesOn::With(regs) => (&raw mut (*answer).regs).write_volatile(*regs),
                GoesOn::Returning(rax) => (&raw mut (*answer).rax).write_volatile(rax),
                GoesOn::Not => {}
            }
            // What lies beside the word that the guest may be watching comes last.
            let mut written = 0;
            for (i, back) in write_backs.take(WRITE_BACKS).enumerate() {
                (&raw mut (*answer).write_backs[i]).write_volatile(back);
                written += 1;
            }
            (&raw mut (*answer).written).write_volatile(written);
            (&raw mut (*answer).count).write_volatile(commands.len() as u16);
            (&raw mut (*answer).action).write_volatile(action);
        }
        // Together with what lies beside it: a watcher takes the line away as soon as anything else is waited for here.
        self.rsp().store(number, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.watch().guest.load(Ordering::SeqCst) == 0 {
            wake(self.rsp());
        }
    }

    /// A copy of the trap that the guest rang for.
    pub(super) fn request(&self) -> Request {
        let mut request = Request::default();
        // SAFETY: inside the mapped page; any bytes are valid for each of these. Only what means something is read.
        unsafe {
            let from = &raw const (*self.page()).request;
            request.kind = (&raw const (*from).kind).read_volatile();
            request.cpu = (&raw const (*from).cpu).read_volatile();
            request.patched = (&raw const (*from).patched).read_volatile();
            request.count = (&raw const (*from).count).read_volatile();
            request.moved = (&raw const (*from).moved).read_volatile();
            request.regs = (&raw const (*from).regs).read_volatile();
            if request.kind == kind::FAULT {
                request.exception = (&raw const (*from).exception).read_volatile();
            }
            let count = (request.count as usize).min(SEGMENTS);
            for (i, segment) in request.segments.iter_mut().enumerate().take(count) {
                *segment = (&raw const (*from).segments[i]).read_volatile();
            }
        }
        request
    }

    /// What the guest says became of command `index`.
    pub(super) fn result(&self, index: usize) -> i64 {
        let index = index.min(COMMANDS - 1);
        // SAFETY: inside the mapped page.
        unsafe { (&raw const (*self.page()).answer.commands[index].result).read_volatile() }
    }

    /// Copy from the window.
    pub(super) fn read_window(&self, offset: usize, buf: &mut [u8]) {
        let len = buf.len().min((WINDOW as usize).saturating_sub(offset));
        // SAFETY: inside the mapped window, and `buf` is ours; that the guest may change the source meanwhile only
        // means that the bytes are whatever they are.
        unsafe { ptr::copy(self.window().add(offset), buf.as_mut_ptr(), len) };
    }

    /// Copy to the window.
    pub(super) fn write_window(&self, offset: usize, data: &[u8]) {
        let len = data.len().min((WINDOW as usize).saturating_sub(offset));
        // SAFETY: as above.
        unsafe { ptr::copy(data.as_ptr(), self.window().add(offset), len) };
    }

    fn window(&self) -> *mut u8 {
        // SAFETY: the window follows the page in the same mapping.
        unsafe { self.page().cast::<u8>().add(PAGE as usize) }
    }
}

fn wait(word: &AtomicU32, old: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a live word, and a timeout that is null or a live local. Shared, not private: the guest is another process.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, old, timeout) };
}

fn wake(word: &AtomicU32) {
    // SAFETY: a live word.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
