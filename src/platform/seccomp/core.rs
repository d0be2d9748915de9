//! The platform's state: the zygote, all stubs, and the end of it all.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use guest_runtime::cpuid::Answers;
use libc::pid_t;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::deaf::Deaf;
use super::door::Door;
use super::facts::FactsFile;
use super::host_vdso::HostVdso;
use super::image::Image;
use super::launch;
use super::notify::Notifier;
use super::patcher::Patcher;
use super::placement::{Placement, Stay};
use super::pool::Pool;
use super::process::{Processes, lock};
use super::regs;
use super::server::{self, Task};
use super::space::SeccompSpace;
use super::thread::{Host, SeccompThread};
use crate::platform::native::{cpuid, identity};
use crate::platform::stats::Counters;
use crate::platform::{Activity, ForkKind, HostFile, Io, Thread};

pub(super) struct Core {
    pub(super) processes: Processes,
    pub(super) counters: Counters,
    patcher: OnceLock<Patcher>,
    /// Threads that were told to end.
    pub(super) deaf: Arc<Deaf>,
    notifier: OnceLock<Arc<Notifier>>,
    pub(super) facts: Arc<FactsFile>,
    /// Where stubs can ask for the host's time.
    host_clock: OnceLock<u64>,
    zygote: Mutex<Option<Box<SeccompThread>>>,
    /// The process group of all stubs.
    group: OnceLock<Pid>,
    /// Keys of handed-in files by what memory maps show, where that differs.
    identities: Mutex<HashMap<(u64, u64), (u64, u64)>>,
    /// Where threads go that were woken by no handler.
    wakeups: Mutex<Option<Sender<Task>>>,
    /// Threads with an owner.
    owned: AtomicUsize,
    pub(super) pool: Pool,
    pub(super) placement: Arc<Placement>,
    /// While the first guest thread is made, before it is started.
    staying: Mutex<Option<Stay>>,
    pub(super) io: Io,
    /// Counts threads that are not parked, where somebody wants to know.
    activity: OnceLock<Arc<Activity>>,
    /// CPUID faults in guests.
    pub(super) cpuid_faults: bool,
    stopping: AtomicBool,
    copies_forbidden: AtomicBool,
}

impl Core {
    pub(super) fn new(io: Io, host_clock: bool, answers: Option<&Answers>) -> Result<Arc<Core>, Errno> {
        let core = Arc::new(Core {
            processes: Processes::default(),
            counters: Counters::default(),
            patcher: OnceLock::new(),
            deaf: Arc::default(),
            notifier: OnceLock::new(),
            facts: FactsFile::new(answers)?,
            host_clock: OnceLock::new(),
            zygote: Mutex::default(),
            group: OnceLock::new(),
            identities: Mutex::default(),
            wakeups: Mutex::default(),
            owned: AtomicUsize::new(0),
            pool: Pool::default(),
            placement: Placement::new(),
            staying: Mutex::default(),
            io,
            activity: OnceLock::new(),
            cpuid_faults: answers.is_some(),
            stopping: AtomicBool::new(false),
            copies_forbidden: AtomicBool::new(false),
        });
        core.make_zygote(host_clock)?;
        let (sender, woken) = channel();
        let faults = core.cpuid_faults;
        if faults {
            cpuid::expect_faults();
        }
        *lock(&core.wakeups) = Some(sender);
        let spawned = thread::Builder::new()
            .name("wakeups".into())
            .stack_size(1 << 20)
            .spawn(move || {
                if faults {
                    cpuid::join_guests();
                }
                woken.iter().for_each(server::run_woken);
            });
        spawned.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(core)
    }

    fn make_zygote(self: &Arc<Core>, host_clock: bool) -> Result<(), Errno> {
        let _here = self.placement.stay();
        let vdso = if host_clock { HostVdso::find() } else { None };
        let image = Image::new(vdso.as_ref())?;
        let _ = self.patcher.set(Patcher::new(image.entries));
        let memory = launch::bell_memory()?;
        let door = Door::open(&memory, 0)?;
        let launched = launch::launch(&image, &memory, self.facts.file())?;
        let process = self.processes.enter(launched.pid)?;
        let space = SeccompSpace::new(self, memory);
        space.take(0);
        let host = Host::new(self, process, space, launched.pid, 0, door);
        let confined = launch::confine(&host, image.text_end, &launched.socket, self.io);
        let listener: OwnedFd = confined.inspect_err(|_| {
            host.process.kill();
            // Reaped here: nobody serves this platform.
            let _ = waitpid(Pid::from_raw(launched.pid), Some(WaitPidFlag::__WALL));
        })?;
        // All are set once, here.
        let _ = self.group.set(Pid::from_raw(launched.pid));
        let _ = self.notifier.set(Notifier::new(listener));
        if let Some(clock) = vdso.and_then(|vdso| launch::find_clock(&host, &vdso)) {
            let _ = self.host_clock.set(clock);
        }
        *lock(&self.zygote) = Some(SeccompThread::new(host, regs::initial()));
        Ok(())
    }

    /// The listener. Set before anything can need it.
    pub(super) fn notifier(&self) -> &Arc<Notifier> {
        self.notifier
            .get()
            .unwrap_or_else(|| unreachable!("made with the zygote"))
    }

    /// Who rewrites syscall sites. Set before anything can need it.
    pub(super) fn patcher(&self) -> &Patcher {
        self.patcher
            .get()
            .unwrap_or_else(|| unreachable!("made with the zygote"))
    }

    /// Where stubs can ask for the host's time; none where they cannot.
    pub(super) fn host_clock(&self) -> Option<u64> {
        self.host_clock.get().copied()
    }

    /// A new address space with one stopped thread in it.
    pub(super) fn spawn(&self) -> Result<Box<dyn Thread>, Errno> {
        let mut zygote = lock(&self.zygote);
        let zygote = zygote.as_mut().ok_or(Errno::ESRCH)?;
        if self.owned.load(Ordering::SeqCst) == 0 {
            let mut staying = lock(&self.staying);
            // One of a try before, which gives its thread all CPUs back.
            drop(staying.take());
            *staying = self.placement.stay();
        }
        self.placement.come_here(zygote.host().seat());
        zygote.fork(ForkKind::Copy)
    }

    pub(super) fn count_activity(&self, activity: Arc<Activity>) {
        // Once.
        let _ = self.activity.set(activity);
    }

    /// A thread with an owner is not parked any more.
    pub(super) fn unparked(&self) {
        if let Some(activity) = self.activity.get() {
            activity.begin();
        }
    }

    /// A thread with an owner was parked, or has lost it.
    pub(super) fn parked(&self) {
        if let Some(activity) = self.activity.get() {
            activity.end();
        }
    }

    /// One more thread with an owner.
    pub(super) fn begin(&self) {
        drop(lock(&self.staying).take());
        self.owned.fetch_add(1, Ordering::SeqCst);
        self.unparked();
    }

    /// One thread with an owner less.
    pub(super) fn end(&self) {
        self.parked();
        if self.owned.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.kill_all();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Have the owner of a stopped thread called by a host thread that is there for that.
    pub(super) fn woken(&self, task: Task) {
        if let Some(sender) = &*lock(&self.wakeups) {
            // The receiver goes last.
            let _ = sender.send(task);
        }
    }

    fn kill_all(&self) {
        if let Some(group) = self.group.get() {
            // ESRCH when nobody is left.
            let _ = killpg(*group, Signal::SIGKILL);
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.kill_all();
    }

    /// Reap stubs until none is left.
    pub(super) fn run(&self) -> Result<(), Errno> {
        let group = *self.group.get().ok_or(Errno::ESRCH)?;
        if self.owned.load(Ordering::SeqCst) == 0 {
            self.kill_all();
        }
        let any = Pid::from_raw(-group.as_raw());
        loop {
            match waitpid(any, Some(WaitPidFlag::__WALL)) {
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        self.reaped(pid.as_raw(), group);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(e) => return Err(e),
            }
        }
        if !self.pool.finish() {
            return Err(Errno::ETIMEDOUT);
        }
        self.placement.finish();
        *lock(&self.wakeups) = None;
        drop(lock(&self.zygote).take());
        Ok(())
    }

    fn reaped(&self, pid: pid_t, group: Pid) {
        for host in self.processes.reaped(pid) {
            server::died(&host);
        }
        if pid == group.as_raw() && self.owned.load(Ordering::SeqCst) > 0 && !self.is_stopping() {
            tracing::error!("the first stub was killed from outside: the guest ends");
            self.kill_all();
        }
    }

    /// Whether memory of stubs may be copied by process_vm_readv(2).
    pub(super) fn may_copy(&self) -> bool {
        !self.copies_forbidden.load(Ordering::Relaxed)
    }

    /// The host refused such a copy.
    pub(super) fn forbid_copies(&self) {
        self.copies_forbidden.store(true, Ordering::Relaxed);
    }

    /// Learn what memory maps will show of a file that is about to be mapped.
    pub(super) fn identify(&self, file: &Arc<HostFile>) -> Result<(), Errno> {
        if let Some(shown) = identity::shown(file)?
            && shown != file.key()
        {
            lock(&self.identities).insert(shown, file.key());
        }
        Ok(())
    }

    /// The key of the handed-in file that the host's memory maps show as `shown`.
    pub(super) fn key_of(&self, shown: (u64, u64)) -> (u64, u64) {
        lock(&self.identities).get(&shown).copied().unwrap_or(shown)
    }
}
