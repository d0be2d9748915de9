//! A guest address space: the memory of one or several stubs.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::{Arc, Mutex, Weak};

use guest_runtime::abi::{Command, HOST_END, PRIVATE_STRIDE, SEGMENTS_END, SLOTS, WINDOW, op};
use libc::pid_t;
use nix::errno::Errno;

use super::core::Core;
use super::door::{Door, PageMapping};
use super::facts::Lease;
use super::marshal;
use super::patcher::{Gate, Patches};
use super::process::lock;
use super::thread::Host;
use crate::platform::native::mem::{Mem, below_end};
use crate::platform::native::{maps, remote};
use crate::platform::{Freedom, Mapping, MappingUsage, PAGE_SIZE, Space, SpaceSize, USER_END};

/// The part of a window that copies go through.
const COPY_OFFSET: usize = SEGMENTS_END as usize;
const COPY_LEN: usize = WINDOW as usize - COPY_OFFSET;

pub(super) struct SeccompSpace {
    core: Weak<Core>,
    /// The doorbells' memory file.
    memory: OwnedFd,
    threads: Mutex<Vec<Weak<Host>>>,
    slots: Mutex<Slots>,
    pub(super) patches: Mutex<Patches>,
    pub(super) gate: Gate,
    room: Lease,
    mem: Mem,
}

/// Which slots are in use.
#[derive(Default)]
struct Slots {
    used: Vec<bool>,
    /// Told to end, and perhaps not gone yet.
    leaving: Vec<(u64, Arc<Door>)>,
    /// Those of the first slots stay mapped for the threads to come: unmapping interrupts the other CPUs.
    mappings: HashMap<u64, Arc<PageMapping>>,
}

/// Slots whose mappings stay.
const KEPT_MAPPINGS: u64 = 64;

impl Slots {
    fn free(&mut self, slot: u64) {
        if let Some(used) = self.used.get_mut(slot as usize) {
            *used = false;
        }
    }
}

impl SeccompSpace {
    pub(super) fn new(core: &Arc<Core>, memory: OwnedFd) -> Arc<SeccompSpace> {
        Arc::new(SeccompSpace {
            core: Arc::downgrade(core),
            memory,
            threads: Mutex::default(),
            slots: Mutex::default(),
            patches: Mutex::default(),
            gate: Gate::default(),
            room: core.facts.room(),
            mem: Mem::default(),
        })
    }

    /// Where its threads find what they may do by themselves.
    pub(super) fn room_address(&self) -> u64 {
        self.room.address()
    }

    /// Its text is going to be rewritten, or was.
    pub(super) fn turn(&self) {
        self.room.turn();
    }

    /// Have its threads leave alone what `patches` are about.
    pub(super) fn publish(&self, patches: &Patches) {
        self.room.keep(patches.kept());
    }

    /// Do something with the thread whose owner runs on this host thread, if that is one of this space.
    fn of_present<R>(&self, act: impl FnOnce(&Host) -> R) -> Option<R> {
        marshal::with_present(|host| match host {
            Some(host) if ptr::eq(&*host.space, self) => Some(act(host)),
            _ => None,
        })
    }

    pub(super) fn add(&self, host: &Arc<Host>) {
        let mut threads = lock(&self.threads);
        threads.retain(|t| t.strong_count() > 0);
        threads.push(Arc::downgrade(host));
    }

    /// Mark a slot as used.
    pub(super) fn take(&self, slot: u64) {
        let mut slots = lock(&self.slots);
        let slot = slot as usize;
        if slots.used.len() <= slot {
            slots.used.resize(slot + 1, false);
        }
        slots.used[slot] = true;
    }

    /// A slot for a new thread. EAGAIN when there is none.
    pub(super) fn new_slot(&self) -> Result<u64, Errno> {
        let mut slots = lock(&self.slots);
        let (leaving, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut slots.leaving)
            .into_iter()
            .partition(|(_, door)| door.is_alive());
        slots.leaving = leaving;
        for (slot, _) in gone {
            slots.free(slot);
        }
        if let Some(free) = slots.used.iter().position(|used| !used) {
            slots.used[free] = true;
            return Ok(free as u64);
        }
        if slots.used.len() as u64 >= SLOTS {
            return Err(Errno::EAGAIN);
        }
        slots.used.push(true);
        Ok(slots.used.len() as u64 - 1)
    }

    /// The door of a slot that was just taken.
    pub(super) fn open_door(&self, slot: u64) -> Result<Door, Errno> {
        let known = lock(&self.slots).mappings.get(&slot).cloned();
        let mapping = match known {
            Some(mapping) => mapping,
            None => PageMapping::new(&self.memory, slot)?,
        };
        if slot < KEPT_MAPPINGS {
            lock(&self.slots).mappings.insert(slot, Arc::clone(&mapping));
        }
        Ok(Door::of(mapping))
    }

    /// A slot was not used after all.
    pub(super) fn give_back(&self, slot: u64) {
        lock(&self.slots).free(slot);
    }

    /// Nobody refers to a slot's thread any more. It may still be running its last instructions there.
    pub(super) fn leave(&self, slot: u64, door: &Arc<Door>) {
        lock(&self.slots).leaving.push((slot, Arc::clone(door)));
    }

    pub(super) fn threads(&self) -> Vec<Arc<Host>> {
        lock(&self.threads)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|t| !t.process.is_dead())
            .collect()
    }

    /// Run `copy` with the process of one living thread after another until one of them gets anywhere.
    fn remotely(&self, mut copy: impl FnMut(libc::pid_t) -> usize) -> usize {
        let Some(core) = self.core.upgrade() else { return 0 };
        if !core.may_copy() {
            return 0;
        }
        let mut last = None;
        for thread in self.threads() {
            if last == Some(thread.process.pid) {
                continue;
            }
            last = Some(thread.process.pid);
            let done = copy(thread.process.pid);
            if done > 0 {
                return done;
            }
            match Errno::last() {
                Errno::ESRCH => {}
                Errno::EPERM | Errno::ENOSYS => {
                    core.forbid_copies();
                    return 0;
                }
                _ => return 0,
            }
        }
        0
    }

    /// Have the runtime of a stopped thread copy, `len` bytes in pieces: `piece(host, offset, length)` gives what it moved.
    fn by_runtime(
        &self,
        done: usize,
        len: usize,
        mut piece: impl FnMut(&Host, usize, usize) -> Option<usize>,
    ) -> usize {
        for host in self.threads() {
            let mut at = done;
            while at < len {
                let want = (len - at).min(COPY_LEN);
                match piece(&host, at, want) {
                    // Not stopped: another may be.
                    None => break,
                    Some(moved) => {
                        at += moved;
                        if moved < want {
                            return at;
                        }
                    }
                }
            }
            if at > done {
                return at;
            }
        }
        done
    }

    /// The guest's mappings and the platform's own between them.
    pub(super) fn all_mappings(&self) -> Result<Vec<Mapping>, Errno> {
        Ok(maps::mappings(&self.read_proc("maps")?))
    }

    /// Before somebody reads this memory, or writes to it: have what calls in progress wrote in it, and have no part of it in
    /// any window.
    fn settle(&self, writing: Option<(u64, usize)>) {
        for host in self.threads() {
            match writing {
                None => host.settle(),
                Some((addr, len)) => host.forget(addr, len),
            }
        }
    }

    fn read_proc(&self, name: &str) -> Result<String, Errno> {
        for pid in self.pids() {
            match fs::read_to_string(format!("/proc/{pid}/{name}")) {
                Ok(text) if !text.is_empty() => return Ok(text),
                _ => {}
            }
        }
        Err(Errno::ESRCH)
    }

    fn pids(&self) -> Vec<pid_t> {
        self.threads().iter().map(|t| t.process.pid).collect()
    }
}

fn copy_command(op: u32, first: u64, second: u64, len: usize) -> Command {
    Command {
        op,
        args: [first, second, len as u64, 0, 0, 0, 0],
        ..Command::default()
    }
}

/// What every address space has of the platform.
const OWN: maps::Own = maps::Own {
    // All of it is mapped or reserved.
    total: HOST_END - USER_END,
    resident: 8 * PAGE_SIZE,
    shared: 6 * PAGE_SIZE,
    data: SLOTS * PRIVATE_STRIDE,
};

impl Space for SeccompSpace {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let len = below_end(addr, buf.len());
        match self.of_present(|host| host.read_segment(addr, &mut buf[..len])) {
            Some(true) => return len,
            Some(false) => {}
            None => self.settle(None),
        }
        let done = self.remotely(|pid| remote::read(pid, addr, &mut buf[..len]));
        self.by_runtime(done, len, |host, at, want| {
            let mut talk = lock(&host.talk);
            let copy = copy_command(op::COPY_IN, COPY_OFFSET as u64, addr + at as u64, want);
            host.command_locked(&mut talk, &[copy], None).ok()?;
            let moved = usize::try_from(host.door().result(0)).unwrap_or(0).min(want);
            host.door().read_window(COPY_OFFSET, &mut buf[at..at + moved]);
            Some(moved)
        })
    }

    fn write(&self, addr: u64, buf: &[u8]) -> usize {
        let len = below_end(addr, buf.len());
        match self.of_present(|host| host.write_segment(addr, &buf[..len])) {
            Some(true) => return len,
            Some(false) => {}
            None => self.settle(Some((addr, len))),
        }
        let done = self.remotely(|pid| remote::write(pid, addr, &buf[..len]));
        self.by_runtime(done, len, |host, at, want| {
            let mut talk = lock(&host.talk);
            host.door().write_window(COPY_OFFSET, &buf[at..at + want]);
            let copy = copy_command(op::COPY_OUT, addr + at as u64, COPY_OFFSET as u64, want);
            host.command_locked(&mut talk, &[copy], None).ok()?;
            Some(usize::try_from(host.door().result(0)).unwrap_or(0).min(want))
        })
    }

    fn peek(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.settle(None);
        let done = self.mem.peek(self.pids(), addr, buf);
        lock(&self.patches).restore_originals(addr, &mut buf[..done]);
        done
    }

    fn code(&self, addr: u64, buf: &mut [u8]) -> usize {
        let read = self.read(addr, buf);
        if read == 0 {
            return self.peek(addr, buf);
        }
        lock(&self.patches).restore_originals(addr, &mut buf[..read]);
        read
    }

    fn poke(&self, addr: u64, buf: &[u8]) -> usize {
        self.settle(Some((addr, buf.len())));
        self.mem.poke(self.pids(), addr, buf)
    }

    fn mappings(&self) -> Result<Vec<Mapping>, Errno> {
        let mut mappings = self.all_mappings()?;
        let patches = lock(&self.patches);
        mappings.retain(|m| !patches.owns(m.start, m.end));
        drop(patches);
        let core = self.core.upgrade().ok_or(Errno::ESRCH)?;
        for file in mappings.iter_mut().filter_map(|m| m.file.as_mut()) {
            *file = core.key_of(*file);
        }
        Ok(mappings)
    }

    fn mapping_usage(&self) -> Result<Vec<MappingUsage>, Errno> {
        let patches = lock(&self.patches).clone();
        Ok(maps::usage(&self.read_proc("smaps")?, |m| {
            patches.owns(m.start, m.end)
        }))
    }

    fn size(&self) -> Result<SpaceSize, Errno> {
        maps::size(&self.read_proc("statm")?, &OWN).ok_or(Errno::EIO)
    }

    fn peak(&self) -> Result<(u64, u64), Errno> {
        maps::peak(&self.read_proc("status")?, &OWN).ok_or(Errno::EIO)
    }

    fn allow(&self, freedom: Freedom) {
        self.room.allow(freedom);
    }
}
