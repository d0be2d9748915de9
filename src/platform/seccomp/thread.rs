//! A guest thread: its host side, and the right to look at and change it while it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use guest_runtime::abi::{COMMANDS, Command, KICK, SEGMENTS_END, WINDOW, action, kind, op};
use libc::pid_t;
use nix::errno::Errno;

use super::core::Core;
use super::deaf;
use super::door::{Door, GoesOn};
use super::facts::Sheet;
use super::handed::Handed;
use super::launch::call;
use super::marshal::{Segments, leaves_memory};
use super::notify::Expectation;
use super::placement::Seat;
use super::process::{HostProcess, is_alive, lock};
use super::regs::{self, TRAP_FLAG};
use super::server::State;
use super::space::SeccompSpace;
use crate::platform::native::{stat, xstate};
use crate::platform::stats::Counters;
use crate::platform::{
    Facts, Fault, ForkKind, Grant, Granted, HostFile, Io, MemOp, Regs, Space, Thread, ThreadHandle, Trap,
};

/// How long a runtime may take for commands, and a new stub to say hello, before its process is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Signals of exceptions: whatever else a guest says that it met, it did not.
const EXCEPTIONS: [i32; 5] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
];

/// The conversation with the runtime of one thread.
#[derive(Default)]
pub(super) struct Talk {
    /// Number of the last answer.
    answers: u32,
    /// The last value of its `done` that we know.
    done: u32,
    /// It waits for an answer.
    pub(super) waiting: bool,
    /// Memory that came with its call.
    pub(super) segments: Segments,
}

/// What there is of a guest thread as long as anything refers to it.
pub(super) struct Host {
    pub(super) core: Arc<Core>,
    pub(super) process: Arc<HostProcess>,
    pub(super) space: Arc<SeccompSpace>,
    /// The host's thread id. Threads other than a stub's first tell it themselves: good only together with the process id.
    tid: pid_t,
    pub(super) slot: u64,
    door: Arc<Door>,
    /// Descriptors of files that it may read by itself.
    pub(super) handed: Arc<Handed>,
    facts: Sheet,
    seat: Arc<Seat>,
    pub(super) talk: Mutex<Talk>,
    pub(super) state: Mutex<State>,
    pub(super) kicked: AtomicBool,
    /// It was told to end: nobody waits for it long.
    ending: AtomicBool,
}

impl Host {
    pub(super) fn new(
        core: &Arc<Core>,
        process: Arc<HostProcess>,
        space: Arc<SeccompSpace>,
        tid: pid_t,
        slot: u64,
        door: Door,
    ) -> Arc<Host> {
        let facts = core.facts.sheet();
        door.set_facts(facts.address(), space.room_address());
        let door = Arc::new(door);
        let talk = Talk {
            waiting: true,
            ..Talk::default()
        };
        let host = Arc::new(Host {
            core: Arc::clone(core),
            seat: Seat::new(&process, tid, &door),
            process,
            space,
            tid,
            slot,
            door,
            handed: Arc::default(),
            facts,
            talk: Mutex::new(talk),
            state: Mutex::new(State::Held),
            kicked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        host.process.add(&host);
        host.space.add(&host);
        host
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    pub(super) fn shared_door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Have the runtime carry out `commands` up to the first that fails; the results of those that were. ESRCH when the
    /// thread is dead or not stopped.
    pub(super) fn command(&self, commands: &[Command]) -> Result<Vec<i64>, Errno> {
        self.command_with(commands, |_| {})
    }

    /// As [`Host::command`]; `then` sees the window before anybody else can have the runtime change it.
    pub(super) fn command_with(
        &self,
        commands: &[Command],
        then: impl FnOnce(&Door),
    ) -> Result<Vec<i64>, Errno> {
        let mut talk = lock(&self.talk);
        self.command_locked(&mut talk, commands, None)?;
        let results = (0..commands.len()).map(|i| self.door.result(i)).collect();
        then(&self.door);
        Ok(results)
    }

    /// As [`Host::command`], with `before` preparing the window.
    pub(super) fn command_after(
        &self,
        commands: &[Command],
        before: impl FnOnce(&Door),
    ) -> Result<Vec<i64>, Errno> {
        let mut talk = lock(&self.talk);
        before(&self.door);
        self.command_locked(&mut talk, commands, None)?;
        Ok((0..commands.len()).map(|i| self.door.result(i)).collect())
    }

    /// Whether it runs guest code, as far as anybody knows.
    pub(super) fn is_running(&self) -> bool {
        matches!(*lock(&self.state), State::Running { .. })
    }

    /// As [`Host::command`], serving the notification that comes of it.
    pub(super) fn command_expecting(
        &self,
        commands: &[Command],
        expectation: Option<&Arc<Expectation>>,
    ) -> Result<Vec<i64>, Errno> {
        let mut talk = lock(&self.talk);
        self.command_locked(&mut talk, commands, expectation)?;
        Ok((0..commands.len()).map(|i| self.door.result(i)).collect())
    }

    /// Have the runtime carry out `commands`, which the caller has prepared the window for.
    pub(super) fn command_locked(
        &self,
        talk: &mut Talk,
        commands: &[Command],
        expectation: Option<&Arc<Expectation>>,
    ) -> Result<(), Errno> {
        if !commands.iter().all(leaves_memory) {
            talk.segments.end();
        }
        self.execute(talk, commands, expectation)
    }

    /// Have the runtime copy to guest memory what was written to segments. What cannot be is lost: another thread has taken
    /// that memory away.
    pub(super) fn put_back(&self, talk: &mut Talk) {
        if let Err(e) = self.execute(talk, &[], None) {
            tracing::debug!(pid = self.process.pid, "a dead thread's memory: {e}");
        }
    }

    /// Have the runtime put back what was written to segments and then carry out `commands`.
    fn execute(
        &self,
        talk: &mut Talk,
        commands: &[Command],
        expectation: Option<&Arc<Expectation>>,
    ) -> Result<(), Errno> {
        if !talk.waiting || self.process.is_dead() || commands.len() > COMMANDS {
            talk.segments.forget_written();
            return Err(Errno::ESRCH);
        }
        self.answer(talk, action::REPLY, GoesOn::Not, commands);
        let begin = Instant::now();
        let patience = || {
            let ending = self.ending.load(Ordering::SeqCst);
            if ending { deaf::PATIENCE } else { PATIENCE }
        };
        if let Some(expectation) = expectation {
            let replied = || self.door.done().load(Ordering::SeqCst) != talk.done;
            // Who says that all is done and has made nobody who could still say hello has done something else.
            let in_vain =
                || (0..commands.len()).any(|i| self.door.result(i) < 0) || !is_alive(self.door.result(0));
            expectation
                .wait(|| replied() && in_vain() || self.process.has_ended() || begin.elapsed() > patience());
        }
        while !self.door.wait_done(talk.done, Duration::from_millis(100)) {
            if self.process.has_ended() {
                talk.waiting = false;
                return Err(Errno::ESRCH);
            }
            if begin.elapsed() > patience() {
                tracing::warn!(pid = self.process.pid, "a stub does not answer: killed");
                self.process.kill();
            }
        }
        talk.done = self.door.done().load(Ordering::SeqCst);
        if self.process.is_dead() {
            Err(Errno::ESRCH)
        } else {
            Ok(())
        }
    }

    /// Let it go on with the last answer of this conversation.
    pub(super) fn release(&self, action: u32, goes_on: GoesOn<'_>) {
        let mut talk = lock(&self.talk);
        talk.waiting = false;
        let mut commands = Vec::new();
        self.handed.add_closes(&mut commands);
        self.answer(&mut talk, action, goes_on, &commands);
        talk.segments.clear();
    }

    /// Answer, with what was written to segments.
    fn answer(&self, talk: &mut Talk, action: u32, goes_on: GoesOn<'_>, commands: &[Command]) {
        talk.answers = talk.answers.wrapping_add(1);
        let written = talk.segments.write_backs();
        self.door.answer(talk.answers, action, goes_on, written, commands);
        talk.segments.forget_written();
    }

    /// Interrupt it if it runs guest code.
    pub(super) fn interrupt(&self) {
        if !self.process.is_dead() {
            // SAFETY: plain numbers. The process is a child of ours that has not been reaped, so its id is right; a wrong
            // thread id can at most be that of a sibling.
            unsafe { libc::syscall(libc::SYS_tgkill, self.process.pid, self.tid, KICK) };
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.space.leave(self.slot, &self.door);
    }
}

/// The kernel's handle.
struct Handle(Arc<Host>);

impl ThreadHandle for Handle {
    fn kick(&self) {
        super::server::kick(&self.0);
    }

    fn end(&self) {
        self.0.ending.store(true, Ordering::SeqCst);
        self.kick();
        if self.0.is_running() {
            self.0.core.deaf.watch(&self.0);
        }
    }

    fn is_waiting(&self) -> bool {
        let host = &self.0;
        (host.door.rests() || host.door.busy() != 0)
            && host.is_running()
            && stat::sleeps(host.process.pid, host.tid)
    }

    fn cpu_time(&self) -> (u64, u64) {
        if self.0.process.is_dead() {
            return (0, 0);
        }
        stat::cpu_time(self.0.process.pid, self.0.tid).unwrap_or((0, 0))
    }

    fn robust_list(&self) -> u64 {
        self.0.door.robust_list()
    }

    fn forget_robust_list(&self) {
        self.0.door.forget_robust_list();
    }

    fn publish(&self, facts: &Facts) {
        self.0.facts.publish(facts);
    }
}

/// A stopped guest thread.
pub(super) struct SeccompThread {
    host: Arc<Host>,
    space: Arc<dyn Space>,
    handle: Arc<dyn ThreadHandle>,
    /// As the kernel sees and wants them.
    regs: Regs,
    /// As the runtime has them; none when it has none yet.
    have: Option<Regs>,
    /// It stands behind a call: setting rax may be enough.
    at_call: bool,
    /// That call came by a patched site.
    patched: bool,
    /// The runtime is to make that call itself.
    again: bool,
    /// Bytes that it says the host has moved for it.
    moved: u64,
    /// The CPU it rang from, as it says.
    cpu: u32,
    /// Calls by patched sites, and traps from another CPU than the server's, that were not told yet.
    patched_calls: u64,
    hops: u64,
    /// Somebody let it go on, or told it to end: dropping this object changes nothing.
    released: bool,
}

impl SeccompThread {
    pub(super) fn new(host: Arc<Host>, regs: Regs) -> Box<SeccompThread> {
        Box::new(SeccompThread {
            space: Arc::<SeccompSpace>::clone(&host.space),
            handle: Arc::new(Handle(Arc::clone(&host))),
            host,
            regs,
            have: None,
            at_call: false,
            patched: false,
            again: false,
            moved: 0,
            cpu: u32::MAX,
            patched_calls: 0,
            hops: 0,
            released: false,
        })
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The guest rang: what for. None when it makes no sense.
    pub(super) fn load(&mut self, stepping: bool) -> Option<Trap> {
        self.released = false;
        let request = self.host.door.request();
        {
            let mut talk = lock(&self.host.talk);
            talk.waiting = true;
            talk.segments.load(&request);
        }
        self.host.handed.rang(&self.host.process);
        self.regs = regs::from_guest(&request.regs);
        self.cpu = request.cpu;
        self.again = matches!(request.kind, kind::SITE | kind::WAITING);
        self.moved = request.moved;
        self.at_call = self.again || request.kind == kind::SYSCALL;
        self.patched = self.at_call && request.patched != 0;
        let stepped = request.kind == kind::FAULT && request.exception.signal == libc::SIGTRAP;
        if !self.patched {
            let rip = lock(&self.host.space.patches).guest_rip(self.regs.rip);
            if stepped && request.exception.code == libc::TRAP_TRACE && rip != self.regs.rip {
                // In a trampoline, which guests see nothing of: the step ends behind it.
                return None;
            }
            self.regs.rip = rip;
            if matches!(request.kind, kind::SYSCALL | kind::SITE) {
                let patcher = self.host.core.patcher();
                patcher.trapped(&self.host, self.regs.rip, self.regs.orig_rax);
            }
        }
        if request.kind == kind::CPUID {
            let patcher = self.host.core.patcher();
            patcher.cpuid_faulted(&self.host, self.regs.rip, self.regs.rax);
        }
        self.have = Some(self.regs);
        self.count(request.kind, request.cpu);
        if stepping && (request.kind == kind::FAULT || self.at_call) {
            // What it was let go on with, not what the guest itself had set.
            self.regs.eflags &= !TRAP_FLAG;
            self.regs.r11 &= if self.at_call { !TRAP_FLAG } else { u64::MAX };
        }
        let e = request.exception;
        match request.kind {
            kind::SYSCALL => Some(Trap::Syscall),
            kind::FOREIGN => Some(Trap::ForeignSyscall),
            kind::INTERRUPT => Some(Trap::Interrupted),
            kind::WAITING => Some(Trap::Waiting),
            // Codes of zero and below are those of kill(2) and its relatives.
            kind::FAULT if e.code > 0 && EXCEPTIONS.contains(&e.signal) => Some(Trap::Fault(Fault {
                signal: e.signal,
                code: e.code,
                addr: if e.code == libc::SI_KERNEL { 0 } else { e.addr },
                trapno: e.trapno,
                error: e.error,
            })),
            _ => None,
        }
    }

    /// Note what came, and whether it came from another CPU.
    fn count(&mut self, kind: u32, cpu: u32) {
        if nix::sched::sched_getcpu() != Ok(cpu as usize) {
            self.hops += 1;
        }
        let counters = &self.host.core.counters;
        let counter = match kind {
            kind::SYSCALL if self.patched => {
                self.patched_calls += 1;
                return;
            }
            kind::SYSCALL => &counters.trapped,
            kind::SITE => &counters.sites,
            kind::FOREIGN => &counters.foreign,
            kind::INTERRUPT | kind::WAITING => &counters.interrupts,
            _ => &counters.faults,
        };
        Counters::add(counter, 1);
    }

    /// Tell what was counted here, as most calls do, since the last time.
    pub(super) fn tell_counts(&mut self) {
        let counters = &self.host.core.counters;
        Counters::add(&counters.patched, std::mem::take(&mut self.patched_calls));
        Counters::add(&counters.hops, std::mem::take(&mut self.hops));
    }

    /// Whether it is to go on with a call that the runtime makes itself.
    pub(super) fn is_waiting(&self) -> bool {
        self.again
    }

    /// What its owner wants of it.
    pub(super) fn set_waiting(&mut self, again: bool) {
        self.again = again && self.at_call;
    }

    /// Let it run guest code, or go on with a call.
    pub(super) fn resume(&mut self, step: bool) {
        self.released = true;
        let mut want = self.regs;
        if self.is_waiting() {
            if !self.patched {
                want.rip = lock(&self.host.space.patches).resume(want.rip);
            }
            self.host
                .release(action::AGAIN, GoesOn::With(&regs::to_guest(&want)));
            return;
        }
        if step {
            want.eflags |= TRAP_FLAG;
        }
        let same_but_rax = self.have.is_some_and(|have| {
            Regs {
                rax: have.rax,
                ..want
            } == have
        });
        let mut action = if self.at_call && same_but_rax {
            action::RESUME
        } else {
            action::RESUME_FULL
        };
        if !(self.patched && action == action::RESUME) {
            let rip = lock(&self.host.space.patches).resume(want.rip);
            if rip != want.rip {
                want.rip = rip;
                action = action::RESUME_FULL;
            }
        }
        if action == action::RESUME {
            self.host.release(action, GoesOn::Returning(want.rax));
        } else {
            self.host.release(action, GoesOn::With(&regs::to_guest(&want)));
        }
    }

    /// End the host thread.
    pub(super) fn end(&mut self) {
        self.released = true;
        self.give_up_handed();
        self.host.release(action::EXIT, GoesOn::Not);
    }

    /// Results of commands, with an error where one of them failed.
    fn call(&self, commands: &[Command]) -> Result<u64, Errno> {
        let results = self.host.command(commands)?;
        let mut last = 0;
        for result in results {
            last = decode(result)?;
        }
        Ok(last)
    }
}

pub(super) fn decode(result: i64) -> Result<u64, Errno> {
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw(-result as i32))
    } else {
        Ok(result.cast_unsigned())
    }
}

impl Drop for SeccompThread {
    fn drop(&mut self) {
        if !self.released {
            self.end();
        }
    }
}

impl Thread for SeccompThread {
    fn space(&self) -> &Arc<dyn Space> {
        &self.space
    }

    fn handle(&self) -> Arc<dyn ThreadHandle> {
        Arc::clone(&self.handle)
    }

    fn regs(&self) -> &Regs {
        &self.regs
    }

    fn regs_mut(&mut self) -> &mut Regs {
        &mut self.regs
    }

    fn xstate(&mut self) -> Result<Vec<u8>, Errno> {
        let mut image = vec![0; xstate::size().min((WINDOW - SEGMENTS_END) as usize)];
        let args = [SEGMENTS_END, image.len() as u64, 0, 0, 0, 0, 0];
        let get = Command {
            op: op::GET_XSTATE,
            args,
            ..Command::default()
        };
        let results = self
            .host
            .command_with(&[get], |door| door.read_window(SEGMENTS_END as usize, &mut image))?;
        decode(results.first().copied().unwrap_or(-1))?;
        Ok(xstate::shown(image))
    }

    fn set_xstate(&mut self, image: &[u8]) -> Result<(), Errno> {
        let image = xstate::checked(image)?;
        let set = Command {
            op: op::SET_XSTATE,
            args: [SEGMENTS_END, image.len() as u64, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        let mut talk = lock(&self.host.talk);
        self.host.door.write_window(SEGMENTS_END as usize, &image);
        self.host.command_locked(&mut talk, &[set], None)?;
        decode(self.host.door.result(0)).map(drop)
    }

    fn memory(&mut self, ops: &[MemOp<'_>]) -> Result<u64, Errno> {
        self.operate(ops)
    }

    fn fork(&mut self, kind: ForkKind) -> Result<Box<dyn Thread>, Errno> {
        Ok(match kind {
            ForkKind::Copy => self.fork_copy()?,
            ForkKind::Share | ForkKind::Thread => self.fork_sharing(kind)?,
        })
    }

    fn trap_tsc(&mut self, on: bool) -> Result<(), Errno> {
        let mode = if on {
            libc::PR_TSC_SIGSEGV
        } else {
            libc::PR_TSC_ENABLE
        };
        let args = [libc::PR_SET_TSC as u64, mode as u64, 0, 0, 0, 0];
        self.call(&[call(libc::SYS_prctl, args)]).map(drop)
    }

    fn bare_cpuid(&mut self) {
        self.host.core.patcher().bare_cpuid(&self.host);
    }

    fn grant(&mut self, number: u32, file: &Arc<HostFile>, what: Granted) -> Option<Arc<dyn Grant>> {
        self.hand_in(number, file, what)
    }

    fn may_use_pipes(&self) -> bool {
        self.patched && self.host.core.io == Io::Enlightened
    }

    fn moved(&self) -> u64 {
        self.moved
    }

    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno> {
        self.host.core.placement.want(&self.host.seat, mask)
    }
}
