//! Rewriting syscall sites of running guests: when, and how the bytes get there.
//!
//! A site that keeps trapping is patched; what is learnt of a file serves every address space that maps it later, where all its
//! sites are patched before anything runs there. Text is never writable and executable at once: while it is writable no
//! other thread of the address space runs guest code. They are kept from it by the space's [`Gate`], and by kicks if need be.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use guest_runtime::abi::{COMMANDS, Command, op};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::kept::Kept;
use super::launch::call;
use super::patch::{
    Arena, Entries, FileKey, Kind, Known, Plan, Plans, Recipe, Refusal, Targets, Verdict, Window, analyse,
    find_room,
};
use super::process::lock;
use super::server;
use super::space::SeccompSpace;
use super::thread::Host;
use crate::platform::{HostFile, Prot, Space};

/// Nothing is patched before so many traps in one address space: to open a text for the first time costs as much, and most
/// programs that a shell runs have ended by then.
const SETTLED: u32 = 64;
/// A site is patched when it has trapped so often in one address space.
const WORTHWHILE: u32 = 6;
/// From so many traps on, threads that run are stopped for it.
const URGENT: u32 = 4 * WORTHWHILE;
/// As [`WORTHWHILE`] and [`URGENT`], for CPUID: of how many faults one hears, which are the first, the 8th, the 64th of a thread.
const WORTHWHILE_CPUID: u32 = 2;
const URGENT_CPUID: u32 = 3;
/// How long to wait for them.
const PATIENCE: Duration = Duration::from_millis(20);
/// A text of which so many CPUID instructions are known is patched as soon as it is mapped: each of them would cost several
/// microseconds. The C library's loader has 19, which each new program executes 70 times in all.
const DUE_CPUIDS: usize = 4;
/// At most so many sites are counted.
const MAX_COUNTED: usize = 4096;
/// Bytes of a mapping for trampolines.
const ARENA: u64 = 32 << 10;
/// Bytes of text that are read at once to compare them with what was learnt.
const LOOK: u64 = 4096;
/// Where in the window bytes to be written are put.
const OFFSET: usize = 0x8000;
/// Protections of text and trampolines: while they are written, and else.
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const READ_EXECUTE: i32 = libc::PROT_READ | libc::PROT_EXEC;

/// An executable mapping of a file.
#[derive(Clone, Debug)]
struct Text {
    range: Range<u64>,
    key: FileKey,
    /// It was opened before anything ran there, as it will be the next time.
    opened: bool,
}

/// What is patched in one address space. A copy goes with a copied address space.
#[derive(Clone, Default)]
pub(super) struct Patches {
    plans: Plans,
    arenas: Vec<Arena>,
    texts: Vec<Text>,
    /// Those to be patched before anything runs there.
    due: Vec<Text>,
    /// Traps in all.
    trapped: u32,
    /// Traps by site.
    traps: HashMap<u64, u32>,
    /// CPUID is to fault where it stands: a thread wants to see it do so.
    bares_cpuid: bool,
    /// Where all this lies.
    kept: Kept,
}

impl Patches {
    /// Where a thread that stopped at `rip` is for the guest.
    pub(super) fn guest_rip(&self, rip: u64) -> u64 {
        self.plans.guest_rip(rip)
    }

    /// Where a thread must go on that for the guest goes on at `rip`.
    pub(super) fn resume(&self, rip: u64) -> u64 {
        self.plans.resume(rip).unwrap_or(rip)
    }

    /// The text that has `site`.
    fn text_of(&self, site: u64) -> Option<Text> {
        let mut texts = self.texts.iter();
        texts.find(|text| text.range.contains(&site)).cloned()
    }

    /// Note one more trap at `site`: how many there were. None when there are too many sites.
    fn count(&mut self, site: u64) -> Option<u32> {
        if self.traps.len() >= MAX_COUNTED && !self.traps.contains_key(&site) {
            return None;
        }
        let count = self.traps.entry(site).or_default();
        *count = count.saturating_add(1);
        Some(*count)
    }

    /// Put the original bytes back into what was read from `addr`.
    pub(super) fn restore_originals(&self, addr: u64, bytes: &mut [u8]) {
        self.plans.restore_originals(addr, bytes);
    }

    /// Whether a mapping is one of ours, which guests are not shown.
    pub(super) fn owns(&self, start: u64, end: u64) -> bool {
        let inside = |arena: &Arena| arena.range().start <= start && end <= arena.range().end;
        self.arenas.iter().any(inside)
    }

    /// Where guests may change nothing without the platform's knowledge.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Text there is no more, or may be written now.
    fn forget_text(&mut self, range: &Range<u64>) {
        let is_apart = |text: &Text| text.range.end <= range.start || range.end <= text.range.start;
        self.texts.retain(is_apart);
        self.due.retain(is_apart);
    }

    /// What was at these addresses is gone. Whether anything there was kept.
    fn forget(&mut self, range: Range<u64>) -> bool {
        let kept = self.kept.remove(&range);
        self.forget_text(&range);
        self.plans.remove(range.clone());
        self.arenas
            .retain(|arena| arena.range().end <= range.start || range.end <= arena.range().start);
        kept
    }
}

/// Whether threads of an address space may begin to run guest code: always, but while it is being patched.
#[derive(Default)]
pub(super) struct Gate(RwLock<()>);

impl Gate {
    /// Hold this while a thread is let go. Taken before its state is locked.
    pub(super) fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// No thread of a space but one runs guest code as long as this is there.
struct Held<'a> {
    space: &'a SeccompSpace,
    _closed: RwLockWriteGuard<'a, ()>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.space.turn();
    }
}

/// What is patched, for all address spaces.
pub(super) struct Patcher {
    /// Where trampolines jump to; none where the host's processor lacks what the entries need.
    entries: Option<Entries>,
    known: Mutex<Known>,
}

impl Patcher {
    pub(super) fn new(entries: Entries) -> Patcher {
        let able = std::arch::is_x86_feature_detected!("bmi2");
        Patcher {
            entries: able.then_some(entries),
            known: Mutex::default(),
        }
    }

    /// The `syscall` in front of `rip` trapped in the stopped thread `host`, with `number` in rax.
    pub(super) fn trapped(&self, host: &Arc<Host>, rip: u64, number: u64) {
        if self.entries.is_none() {
            return;
        }
        let site = rip.wrapping_sub(2);
        let (text, count) = {
            let mut patches = lock(&host.space.patches);
            let Some(text) = patches.text_of(site) else { return };
            patches.trapped = patches.trapped.saturating_add(1);
            let Some(count) = patches.count(site) else { return };
            if patches.trapped < SETTLED {
                drop(patches);
                // The next to map it has this site patched with the others, for next to nothing.
                if text.opened {
                    self.learn(&host.space, &text, site, number);
                }
                return;
            }
            (text, count)
        };
        // Again after twice as many, when it could not be done before.
        if !count.is_multiple_of(WORTHWHILE) || !(count / WORTHWHILE).is_power_of_two() {
            return;
        }
        if self.learn(&host.space, &text, site, number).is_some() {
            self.patch(host, &text, count >= URGENT);
        }
    }

    /// The CPUID instruction at `site` faulted in the stopped thread `host`, with `leaf` in rax, and that was not the only time.
    pub(super) fn cpuid_faulted(&self, host: &Arc<Host>, site: u64, leaf: u64) {
        let (text, count) = {
            let mut patches = lock(&host.space.patches);
            if self.entries.is_none() || patches.bares_cpuid {
                return;
            }
            let Some(text) = patches.text_of(site) else { return };
            let Some(count) = patches.count(site) else { return };
            (text, count)
        };
        // Learning takes longer than the dynamic linker's faults do, all of them together: a guest that runs one program has
        // nothing of it, unless the site is in a loop.
        if count < WORTHWHILE_CPUID && !lock(&self.known).met_before(&text.key) {
            return;
        }
        let known = self.learn(&host.space, &text, site, leaf);
        if known.is_some() && count >= WORTHWHILE_CPUID {
            self.patch(host, &text, count >= URGENT_CPUID);
        }
    }

    /// Patch all that is known of a text, now that it is to be opened.
    fn patch(&self, host: &Arc<Host>, text: &Text, urgent: bool) {
        let Some(entries) = self.entries else { return };
        let Some(_closed) = hold_others(host, urgent) else {
            return;
        };
        let sites = lock(&self.known).sites(&text.key, text.range.start);
        if let Err(e) = apply(host, entries, &text.range, &sites) {
            tracing::debug!("not patching {:#x}: {e}", text.range.start);
        }
    }

    /// Have CPUID instructions fault where they stand from now on: a thread of the space wants to see that, with the registers
    /// as they were.
    pub(super) fn bare_cpuid(&self, host: &Arc<Host>) {
        let texts = {
            let mut patches = lock(&host.space.patches);
            patches.bares_cpuid = true;
            patches.texts.clone()
        };
        let is_cpuid = |plan: &&Arc<Plan>| plan.kind() == Kind::Cpuid;
        for text in texts {
            let of_text = |patches: &Patches| {
                let plans = patches.plans.overlapping(text.range.clone());
                plans.filter(is_cpuid).cloned().collect::<Vec<_>>()
            };
            if of_text(&lock(&host.space.patches)).is_empty() {
                continue;
            }
            let Some(_closed) = hold_others(host, true) else {
                tracing::debug!("CPUID instructions of {:#x} stay patched", text.range.start);
                continue;
            };
            let mut patches = lock(&host.space.patches);
            let plans = of_text(&patches);
            let originals = plans.iter().map(|p| (p.overwritten().start, p.original()));
            match write(host, &text.range, (READ_WRITE, READ_EXECUTE), originals) {
                Ok(()) => plans.iter().for_each(|plan| patches.plans.remove_plan(plan)),
                Err(e) => tracing::debug!("not baring {:#x}: {e}", text.range.start),
            }
        }
    }

    /// Find out how to patch a site; none when it cannot be.
    fn learn(&self, space: &SeccompSpace, text: &Text, site: u64, number: u64) -> Option<()> {
        let offset = site - text.range.start;
        match lock(&self.known).verdict(&text.key, offset) {
            Some(Verdict::Patch(_)) => return Some(()),
            Some(Verdict::Leave) => return None,
            None => {}
        }
        let wanted = Window::wanted(&text.range, site);
        let mut bytes = vec![0; usize::try_from(wanted.end - wanted.start).ok()?];
        if space.read(wanted.start, &mut bytes) != bytes.len() {
            return None;
        }
        lock(&space.patches).restore_originals(wanted.start, &mut bytes);
        let window = Window::new(text.range.clone(), wanted.start, &bytes)?;
        let mut found = analyse(&window, site, number, None);
        if found == Err(Refusal::NeedsTargets) {
            found = match self.targets(space, text) {
                Some(targets) => analyse(&window, site, number, Some(&targets)),
                None => Err(Refusal::NeedsTargets),
            };
        }
        let verdict = match found {
            Ok(recipe) => Verdict::Patch(recipe),
            // No site of any kind.
            Err(Refusal::NoSite) => return None,
            Err(why) => {
                tracing::debug!("site {site:#x} stays as it is: {why}");
                Verdict::Leave
            }
        };
        let able = matches!(verdict, Verdict::Patch(_));
        lock(&self.known).learn(text.key, offset, verdict);
        able.then_some(())
    }

    fn targets(&self, space: &SeccompSpace, text: &Text) -> Option<Arc<Targets>> {
        if let Some(targets) = lock(&self.known).targets(&text.key) {
            return Some(targets);
        }
        let len = usize::try_from(text.range.end - text.range.start).ok()?;
        let mut bytes = vec![0; len.min(256 << 20)];
        let got = space.read(text.range.start, &mut bytes);
        // The last page may lie beyond the end of the file.
        bytes.truncate(got);
        lock(&space.patches).restore_originals(text.range.start, &mut bytes);
        let targets = Arc::new(Targets::scan(&bytes)?);
        lock(&self.known).learn_targets(text.key, Arc::clone(&targets), got);
        Some(targets)
    }

    /// A file was mapped at `range`.
    pub(super) fn mapped(
        &self,
        host: &Arc<Host>,
        range: Range<u64>,
        prot: Prot,
        private: Option<(&HostFile, u64)>,
    ) {
        self.unmapped(host, range.clone());
        if self.entries.is_none() {
            return;
        }
        let Some((file, offset)) = private else { return };
        if !prot.contains(Prot::EXEC) || prot.contains(Prot::WRITE) {
            return;
        }
        let Ok(st) = fstat(file) else { return };
        let key = FileKey {
            device: st.st_dev,
            inode: st.st_ino,
            modified: (st.st_mtime, st.st_mtime_nsec),
            offset,
        };
        let sites = {
            let mut known = lock(&self.known);
            known.meet(key);
            known.sites(&key, range.start)
        };
        let cpuids = sites.iter().filter(|(_, recipe)| recipe.kind() == Kind::Cpuid);
        let opened = cpuids.count() >= DUE_CPUIDS;
        let text = Text { range, key, opened };
        let mut patches = lock(&host.space.patches);
        if opened {
            patches.due.push(text.clone());
        }
        patches.kept.insert(text.range.clone());
        patches.texts.push(text);
        host.space.publish(&patches);
    }

    /// Patch what is due in the space of the stopped thread `host`, which is going to be let go.
    pub(super) fn catch_up(&self, host: &Arc<Host>) {
        let due = std::mem::take(&mut lock(&host.space.patches).due);
        due.iter().for_each(|text| self.patch(host, text, false));
    }

    /// Nothing, or something else, is at these addresses now.
    pub(super) fn unmapped(&self, host: &Host, range: Range<u64>) {
        let mut patches = lock(&host.space.patches);
        if patches.forget(range) {
            host.space.publish(&patches);
        }
    }

    /// The protection of memory was changed.
    pub(super) fn protected(&self, host: &Host, range: &Range<u64>, prot: Prot) {
        if prot.contains(Prot::WRITE) || !prot.contains(Prot::EXEC) {
            lock(&host.space.patches).forget_text(range);
        }
    }
}

/// See to it that no other thread in the space of `host` runs guest code until the guard is dropped. None when one does
/// and is not to be stopped. Threads that wait by a futex of their own need not be: they ask before they go on.
fn hold_others(host: &Arc<Host>, urgent: bool) -> Option<Held<'_>> {
    let held = Held {
        _closed: host.space.gate.close(),
        space: &host.space,
    };
    host.space.turn();
    let begin = Instant::now();
    let mut kicked = false;
    loop {
        let running: Vec<_> = host
            .space
            .threads()
            .into_iter()
            .filter(|t| !Arc::ptr_eq(t, host) && t.is_running() && !t.door().rests())
            .collect();
        if running.is_empty() {
            return Some(held);
        }
        if !urgent || begin.elapsed() > PATIENCE {
            return None;
        }
        if !kicked {
            running.iter().for_each(|t| {
                server::interrupt_running(t);
            });
            kicked = true;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Write trampolines and jumps for these sites of one text. Nobody else runs in the space.
fn apply(host: &Host, entries: Entries, text: &Range<u64>, sites: &[(u64, Recipe)]) -> anyhow::Result<()> {
    let mut patches = lock(&host.space.patches);
    let arena = match patches
        .arenas
        .iter()
        .position(|a| a.serves(text) && a.range().end - a.next() > ARENA / 8)
    {
        Some(at) => at,
        None => {
            let range = map_arena(host, &patches, text)?;
            patches.kept.insert(range.clone());
            patches.arenas.push(Arena::new(range));
            host.space.publish(&patches);
            patches.arenas.len() - 1
        }
    };
    let mut plans: Vec<Plan> = Vec::new();
    let mut looked = Looked::default();
    for (site, recipe) in sites {
        let bare = recipe.kind() == Kind::Cpuid && patches.bares_cpuid;
        if bare || patches.plans.of_site(*site).is_some() {
            continue;
        }
        let at = patches.arenas[arena].next();
        let free = plans.last().map_or(text.start, |last| last.covered().end)..text.end;
        match fitting(
            host,
            &patches,
            recipe.place(*site, at, entries),
            &mut looked,
            &free,
        ) {
            Ok(plan) if patches.arenas[arena].take(plan.trampoline().len()) => plans.push(plan),
            Ok(_) => tracing::debug!("site {site:#x}: no room for its trampoline"),
            Err(e) => tracing::debug!("site {site:#x}: {e}"),
        }
    }
    if plans.is_empty() {
        return Ok(());
    }
    write_all(host, patches.arenas[arena].range(), text, &plans)?;
    tracing::debug!(
        pid = host.process.pid,
        "patched {} sites of {:#x}",
        plans.len(),
        text.start
    );
    for plan in plans {
        patches.plans.insert(plan)?;
    }
    Ok(())
}

/// A piece of text that was read: sites lie close together, and most are in the piece that the one before them was in.
#[derive(Default)]
struct Looked {
    start: u64,
    bytes: Vec<u8>,
}

impl Looked {
    /// Bytes of a text that ends at `end`. EFAULT where there is none any more.
    fn at(&mut self, host: &Host, range: &Range<u64>, end: u64) -> Result<&[u8], Errno> {
        let inside = |looked: &Looked| {
            let from = usize::try_from(range.start.checked_sub(looked.start)?).ok()?;
            let to = usize::try_from(range.end.checked_sub(looked.start)?).ok()?;
            (to <= looked.bytes.len()).then_some(from..to)
        };
        if inside(self).is_none() {
            let len = end
                .min(range.start.saturating_add(LOOK))
                .saturating_sub(range.start) as usize;
            self.start = range.start;
            self.bytes.resize(len, 0);
            let got = host.space.read(range.start, &mut self.bytes);
            self.bytes.truncate(got);
        }
        let inside = inside(self).ok_or(Errno::EFAULT)?;
        self.bytes.get(inside).ok_or(Errno::EFAULT)
    }
}

/// A plan that the present bytes, the other plans, and what is `free` of the text, allow.
fn fitting(
    host: &Host,
    patches: &Patches,
    plan: Result<Plan, Refusal>,
    looked: &mut Looked,
    free: &Range<u64>,
) -> anyhow::Result<Plan> {
    let plan = plan?;
    let covered = plan.covered();
    anyhow::ensure!(free.start <= covered.start, Refusal::Overlap);
    plan.check(looked.at(host, &covered, free.end)?)?;
    patches.plans.fits(&plan)?;
    Ok(plan)
}

/// Memory for trampolines near `text`.
fn map_arena(host: &Host, patches: &Patches, text: &Range<u64>) -> anyhow::Result<Range<u64>> {
    let at = find_room(&host.space.all_mappings()?, text, ARENA)?;
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64;
    debug_assert!(!patches.owns(at, at + ARENA));
    let map = call(libc::SYS_mmap, [at, ARENA, prot, flags, u64::MAX, 0]);
    let got = host.command(&[map])?.first().copied();
    anyhow::ensure!(got == Some(at.cast_signed()), Errno::EEXIST);
    Ok(at..at + ARENA)
}

fn protect(range: &Range<u64>, prot: i32) -> Command {
    call(
        libc::SYS_mprotect,
        [range.start, range.end - range.start, prot as u64, 0, 0, 0],
    )
}

/// Writable while written, executable again afterwards: first the trampolines, then the jumps to them.
fn write_all(host: &Host, arena: &Range<u64>, text: &Range<u64>, plans: &[Plan]) -> anyhow::Result<()> {
    let jumps = plans.iter().map(|p| (p.overwritten().start, p.jump()));
    let start = plans.first().map_or(arena.start, |p| p.trampoline_range().start);
    let mut trampolines = Vec::new();
    for plan in plans {
        trampolines.resize(usize::try_from(plan.trampoline_range().start - start)?, 0);
        trampolines.extend_from_slice(plan.trampoline());
    }
    let trampolines = std::iter::once((start, &*trampolines));
    write(host, arena, (READ_WRITE, READ_EXECUTE), trampolines)?;
    write(host, text, (READ_WRITE, READ_EXECUTE), jumps)
}

fn write<'a>(
    host: &Host,
    range: &Range<u64>,
    (open, closed): (i32, i32),
    pieces: impl Iterator<Item = (u64, &'a [u8])>,
) -> anyhow::Result<()> {
    let mut pieces = pieces.peekable();
    let mut written = Ok(());
    let mut is_closed = false;
    while pieces.peek().is_some() && written.is_ok() {
        let mut list = vec![protect(range, open)];
        let mut bytes = Vec::new();
        while list.len() < COMMANDS - 1
            && let Some((at, piece)) = pieces.next_if(|(_, p)| bytes.len() + p.len() <= OFFSET)
        {
            let args = [at, (OFFSET + bytes.len()) as u64, piece.len() as u64, 0, 0, 0, 0];
            bytes.extend_from_slice(piece);
            list.push(Command {
                op: op::COPY_OUT,
                args,
                ..Command::default()
            });
        }
        let is_last = pieces.peek().is_none();
        if is_last {
            list.push(protect(range, closed));
        }
        written = host
            .command_after(&list, |door| door.write_window(OFFSET, &bytes))
            .and_then(|results| {
                let due = |c: &Command| i64::from(c.op == op::COPY_OUT) * c.args[2].cast_signed();
                let whole = list.iter().zip(&results).all(|(c, r)| due(c) == *r);
                if whole { Ok(()) } else { Err(Errno::EFAULT) }
            });
        is_closed = is_last && written.is_ok();
    }
    // Whatever became of it.
    if !is_closed {
        host.command(&[protect(range, closed)])?;
    }
    Ok(written?)
}
