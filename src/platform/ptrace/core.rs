//! The platform's state: every host thread it has, and what the host reported of them out of turn.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, ThreadId};

use nix::errno::Errno;

use super::host::{HostProcess, HostThread};
use super::image;
use super::inject;
use super::mail::{Mail, lock};
use super::regs;
use super::space::PtraceSpace;
use super::thread::PtraceThread;
use super::tracee::{Status, Tracee, wait_any, wait_one};
use super::zygote::Zygote;
use crate::platform::{HostFile, TrapHandler};

/// A thread and its owner.
pub(super) struct Task {
    pub(super) thread: Box<PtraceThread>,
    pub(super) owner: Arc<dyn TrapHandler>,
}

/// Where a host thread is in its life.
pub(super) enum Slot {
    /// The kernel has it, as a thread it did not start yet or in a trap handler.
    Taken,
    /// Running guest code.
    Running { task: Task, stepping: bool },
    /// Stopped until kicked.
    Parked(Task),
    /// Told to end.
    Ending,
}

/// One host thread that has not been reaped.
pub(super) struct Entry {
    pub(super) host: Arc<HostThread>,
    pub(super) slot: Slot,
}

impl Entry {
    fn is_stopped(&self) -> bool {
        matches!(self.slot, Slot::Taken | Slot::Parked(_))
    }
}

/// Only the tracing thread uses it. Never locked while a trap handler or a host call that waits is under way.
#[derive(Default)]
pub(super) struct State {
    pub(super) entries: HashMap<Tracee, Entry>,
    /// Reports that came while waiting for something else.
    pub(super) backlog: VecDeque<(Tracee, Status)>,
    /// Started threads whose owner is to be called: they died while waiting for something else, or were kicked early.
    pub(super) due: Vec<Task>,
    /// Threads with an owner.
    pub(super) owned: usize,
    /// Of those, running ones.
    pub(super) running: usize,
    pub(super) zygote: Option<Tracee>,
    pub(super) bell: Option<Tracee>,
}

impl State {
    fn take_report(&mut self, tracee: Tracee) -> Option<Status> {
        let at = self.backlog.iter().position(|(t, _)| *t == tracee)?;
        self.backlog.remove(at).map(|(_, status)| status)
    }
}

pub(super) struct Core {
    /// CPUID faults in guests.
    pub(super) cpuid_faults: bool,
    image: OwnedFd,
    mail: Arc<Mail>,
    /// The thread that ptrace answers to: the first that made a stub.
    tracer: OnceLock<ThreadId>,
    /// Keys of handed-in files by what memory maps show, where that differs.
    identities: Mutex<HashMap<(u64, u64), (u64, u64)>>,
    /// Locked before `state`.
    zygote: Mutex<Option<Zygote>>,
    state: Mutex<State>,
}

impl Core {
    pub(super) fn new(cpuid_faults: bool) -> Result<Core, Errno> {
        Ok(Core {
            cpuid_faults,
            image: image::create()?,
            mail: Arc::default(),
            tracer: OnceLock::new(),
            identities: Mutex::default(),
            zygote: Mutex::default(),
            state: Mutex::default(),
        })
    }

    pub(super) fn mail(&self) -> &Arc<Mail> {
        &self.mail
    }

    /// Whether the caller is the thread that ptrace answers to.
    pub(super) fn is_tracing_thread(&self) -> bool {
        self.tracer.get() == Some(&thread::current().id())
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut lock(&self.state))
    }

    pub(super) fn register(&self, host: &Arc<HostThread>) {
        let entry = Entry {
            host: Arc::clone(host),
            slot: Slot::Taken,
        };
        self.with(|s| s.entries.insert(host.tracee, entry));
    }

    /// Do something with the zygote, which is made first, or again when it was killed from outside.
    fn with_zygote<R>(&self, f: impl Fn(&mut Zygote) -> Result<R, Errno>) -> Result<R, Errno> {
        if *self.tracer.get_or_init(|| thread::current().id()) != thread::current().id() {
            return Err(Errno::ESRCH);
        }
        let mut slot = lock(&self.zygote);
        if let Some(zygote) = &mut *slot
            && self.with(|s| s.zygote.is_some())
        {
            match f(zygote) {
                Err(Errno::ESRCH) => {
                    zygote.kill();
                    self.reaped(zygote.tracee());
                }
                other => return other,
            }
        }
        f(self.make_zygote(&mut slot)?)
    }

    /// Make the zygote now.
    pub(super) fn prepare(&self) -> Result<(), Errno> {
        self.with_zygote(|_| Ok(()))
    }

    fn make_zygote<'a>(&self, slot: &'a mut Option<Zygote>) -> Result<&'a mut Zygote, Errno> {
        if self.with(|s| s.entries.is_empty()) {
            *slot = Some(Zygote::new(&self.image, self.cpuid_faults)?);
        } else if let Some(zygote) = slot {
            // Those that live on have the old one's descriptors: so must its successor.
            let makers = self.stopped(|_| true);
            let mut clones = makers.iter().map(|host| self.clone_in(host));
            let tracee = clones.find_map(Result::ok).ok_or(Errno::ESRCH)?;
            if self.wait_for(tracee, false) == Status::Gone {
                return Err(Errno::ESRCH);
            }
            zygote.replace(tracee)?;
        }
        let zygote = slot.as_mut().ok_or(Errno::ESRCH)?;
        self.with(|s| s.zygote = Some(zygote.tracee()));
        Ok(zygote)
    }

    /// The stopped threads that are `wanted`. Any of them may have been killed.
    fn stopped(&self, wanted: impl Fn(&HostThread) -> bool) -> Vec<Arc<HostThread>> {
        self.with(|s| {
            let stopped = s.entries.values().filter(|e| e.is_stopped() && wanted(&e.host));
            stopped.map(|e| Arc::clone(&e.host)).collect()
        })
    }

    /// Make one host call in a stopped thread, behind the back of whoever holds it: its registers stay as they are.
    fn call_in(&self, host: &HostThread, number: i64, args: [u64; 6]) -> Result<u64, Errno> {
        let (saved, _) = regs::load(host.tracee)?;
        let wait = || self.wait_for(host.tracee, host.may_be_held_back());
        let (result, _) = inject::call(host.tracee, &wait, image::SYSCALL, number, args)?;
        host.tracee.set_general(&saved)?;
        result
    }

    fn clone_in(&self, host: &HostThread) -> Result<Tracee, Errno> {
        let tid = self.call_in(host, libc::SYS_clone, [inject::CLONE_COPY, 0, 0, 0, 0, 0])?;
        Tracee::from_result(tid)
    }

    /// Clone the zygote: an address space with nothing but the platform's page, in a process of its own that has not
    /// reported its first stop yet.
    pub(super) fn clone_zygote(&self) -> Result<Tracee, Errno> {
        Tracee::from_result(
            self.with_zygote(|z| z.call(libc::SYS_clone, [inject::CLONE_COPY, 0, 0, 0, 0, 0]))?,
        )
    }

    /// The stubs' descriptor of `file`.
    pub(super) fn hand_in(&self, file: &Arc<HostFile>) -> Result<u64, Errno> {
        let (fd, new) = self.with_zygote(|z| z.hand_in(file))?;
        if new
            && let Some(shown) = self.with_zygote(|z| z.identity(file, fd))?
            && shown != file.key()
        {
            lock(&self.identities).insert(shown, file.key());
        }
        Ok(fd)
    }

    /// The key of the handed-in file that the host's memory maps show as `shown`.
    pub(super) fn key_of(&self, shown: (u64, u64)) -> (u64, u64) {
        lock(&self.identities).get(&shown).copied().unwrap_or(shown)
    }

    /// Close what the stubs hold open of files that are closed by now.
    pub(super) fn forget_closed_files(&self) {
        if let Some(zygote) = &mut *lock(&self.zygote) {
            zygote.forget_closed();
        }
    }

    /// Wait for the next report of one tracee. `held_back`: it may be one of those that the host reports only after others.
    pub(super) fn wait_for(&self, wanted: Tracee, held_back: bool) -> Status {
        // A new thread's first stop can come while its maker is still waited for.
        if let Some(status) = self.with(|s| s.take_report(wanted)) {
            return status;
        }
        if held_back {
            return self.wait_among_all(wanted);
        }
        let status = wait_one(wanted);
        if status == Status::Gone {
            self.reaped(wanted);
        }
        status
    }

    /// Wait for one tracee, keeping what comes from others for later.
    fn wait_among_all(&self, wanted: Tracee) -> Status {
        loop {
            match wait_any(true) {
                Ok(Some((tracee, status))) => {
                    if status == Status::Gone {
                        self.reaped(tracee);
                    }
                    if tracee == wanted {
                        return status;
                    }
                    if status != Status::Gone {
                        self.with(|s| s.backlog.push_back((tracee, status)));
                    }
                }
                Ok(None) | Err(Errno::EINTR) => {}
                Err(_) => return Status::Gone,
            }
        }
    }

    /// The host reported the end of `tracee`, whose id may mean something else from now on.
    pub(super) fn reaped(&self, tracee: Tracee) {
        self.with(|s| {
            s.backlog.retain(|(t, _)| *t != tracee);
            if s.zygote == Some(tracee) {
                s.zygote = None;
            }
            if s.bell == Some(tracee) {
                s.bell = None;
            }
            let Some(entry) = s.entries.remove(&tracee) else {
                return;
            };
            entry.host.set_reaped();
            if !matches!(entry.slot, Slot::Ending) {
                entry.host.process.live.fetch_sub(1, Ordering::Relaxed);
            }
            match entry.slot {
                Slot::Running { task, .. } => {
                    s.running -= 1;
                    s.due.push(task);
                }
                Slot::Parked(task) => {
                    self.mail.began();
                    s.due.push(task);
                }
                Slot::Taken | Slot::Ending => {}
            }
        });
    }

    /// End a stopped host thread: alone, or with its process when it is the last one there.
    pub(super) fn end(&self, host: &HostThread) {
        let known = self.with(|s| match s.entries.get_mut(&host.tracee) {
            Some(entry) if !host.is_reaped() && !matches!(entry.slot, Slot::Ending) => {
                entry.slot = Slot::Ending;
                true
            }
            _ => false,
        });
        if !known {
            return;
        }
        if host.process.live.fetch_sub(1, Ordering::Relaxed) <= 1 {
            host.process.leader.kill_process();
        } else if inject::call_last(host.tracee, libc::SYS_exit, [0; 6]).is_err() {
            tracing::debug!("host thread {} died before its end", host.tracee.0);
        }
    }

    /// Have a stopped thread in `space` read a few bytes at `addr` as a syscall of its own would, so that the host grows
    /// the stack above if there is one. Whether the bytes are readable now.
    pub(super) fn touch(&self, space: &PtraceSpace, addr: u64) -> bool {
        if !self.is_tracing_thread() {
            return false;
        }
        // The host copies the new limit in before it finds that there is no such resource.
        let args = [u64::from(u32::MAX), addr & !15, 0, 0, 0, 0];
        let results = self.stopped(|host| ptr::eq(&*host.space, space)).into_iter();
        results
            .map(|host| self.call_in(&host, libc::SYS_setrlimit, args))
            .find(|result| *result != Err(Errno::ESRCH))
            == Some(Err(Errno::EINVAL))
    }

    /// Kill and reap everything.
    pub(super) fn end_all(&self) {
        let (mut threads, leaders) = self.with(|s| {
            let mut threads: Vec<Tracee> = s.entries.keys().copied().collect();
            let leaders: Vec<Arc<HostProcess>> =
                s.entries.values().map(|e| Arc::clone(&e.host.process)).collect();
            threads.extend(s.zygote.into_iter().chain(s.bell));
            (threads, leaders)
        });
        for process in &leaders {
            process.leader.kill_process();
        }
        self.with(|s| s.zygote.into_iter().chain(s.bell).for_each(Tracee::kill_process));
        // The host reports a leader only after the other threads of its process.
        threads.sort_by_key(|t| leaders.iter().any(|p| p.leader == *t));
        for tracee in threads {
            while wait_one(tracee) != Status::Gone {}
            self.reaped(tracee);
        }
        // Owners may do anything when they are dropped.
        drop(self.with(|s| std::mem::take(&mut s.due)));
        *lock(&self.zygote) = None;
    }
}
