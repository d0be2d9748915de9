//! Terminals: pseudo-terminals and the console, which is one whose other end is the terminal uvm was started on.
//!
//! A [`Tty`] holds both ends: programs use the *slave* through a line discipline, the *master* is what a terminal emulator
//! (or, for the console, [`console`]) holds.

mod console;
pub mod devpts;
mod ends;
mod ioctl;
pub(in crate::kernel) mod job;
mod ldisc;
mod termios;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

pub use console::Console;
pub use ends::{ConsoleDriver, ControllingDriver, PtmxDriver, PtsDriver};
pub use termios::WinSize;

use crate::kernel::Kernel;
use crate::kernel::signal::{self, SigInfo, Signal};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Pid;
use crate::kernel::time::Instant;
use crate::kernel::wait::{Events, WaitQueue};
use ldisc::{InputEffects, LineDiscipline};

/// Major number of the slaves of pseudo-terminals.
pub const PTS_MAJOR: u32 = 136;
/// Most pseudo-terminals (kernel.pty.max).
const PTY_MAX: u32 = 4096;

/// One terminal with both its ends.
pub struct Tty {
    kernel: Weak<Kernel>,
    /// Its number; the console has one too and differs only in who holds the master.
    pub index: u32,
    state: Lock<State>,
    /// Notified when the slave's readiness may have changed.
    slave_queue: WaitQueue,
    /// Notified when the master's readiness may have changed.
    master_queue: WaitQueue,
}

struct State {
    discipline: LineDiscipline,
    size: WinSize,
    /// Session that it controls.
    session: Option<Pid>,
    /// Foreground process group of that session.
    foreground: Pid,
    slaves: usize,
    /// Whether a slave was ever open: before, the master waits for one instead of seeing a hang-up.
    used: bool,
    /// The master is closed or a hang-up was forced: reads end, writes fail.
    hung_up: bool,
    /// TIOCSPTLCK.
    locked: bool,
    /// TIOCEXCL.
    exclusive: bool,
    /// TIOCPKT, and the status bits the master has not read.
    packet: bool,
    packet_status: u8,
    /// When a read with VTIME gives up, by reader.
    read_deadline: Option<(Pid, Instant)>,
    /// Owner, group and mode of the slave's node.
    node: NodeAttr,
}

/// Attributes of a node in devpts.
#[derive(Clone, Copy, Debug)]
struct NodeAttr {
    uid: u32,
    gid: u32,
    mode: u32,
    since: crate::kernel::time::Timestamp,
}

impl Tty {
    fn new(kernel: &Arc<Kernel>, index: u32, uid: u32) -> Arc<Tty> {
        Arc::new(Tty {
            kernel: Arc::downgrade(kernel),
            index,
            state: Lock::new(
                Rank::Tty,
                State {
                    discipline: LineDiscipline::default(),
                    size: WinSize::default(),
                    session: None,
                    foreground: 0,
                    slaves: 0,
                    used: false,
                    hung_up: false,
                    locked: true,
                    exclusive: false,
                    packet: false,
                    packet_status: 0,
                    read_deadline: None,
                    // Group tty, as Debian mounts devpts.
                    node: NodeAttr {
                        uid,
                        gid: 5,
                        mode: 0o620,
                        since: kernel.clock.realtime(),
                    },
                },
            ),
            slave_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
        })
    }

    /// Device number of the slave.
    pub fn dev(&self) -> u64 {
        libc::makedev(PTS_MAJOR, self.index)
    }

    /// Session it controls and that session's foreground process group.
    pub fn job(&self) -> (Option<Pid>, Pid) {
        let state = self.state.lock();
        (state.session, state.foreground)
    }

    /// Window size.
    pub fn size(&self) -> WinSize {
        self.state.lock().size
    }

    /// Change the window size; the foreground process group hears of it by SIGWINCH.
    pub fn resize(&self, size: WinSize) {
        let foreground = {
            let mut state = self.state.lock();
            if state.size == size {
                return;
            }
            state.size = size;
            state.foreground
        };
        self.signal(foreground, libc::SIGWINCH);
    }

    /// What a keyboard would do: bytes into the line discipline.
    pub fn input(&self, bytes: &[u8]) {
        let (effects, foreground) = {
            let mut state = self.state.lock();
            let effects = state.discipline.input(bytes);
            if !effects.signals.is_empty() && !state.discipline.termios.local(libc::NOFLSH) {
                state.packet_status |= ioctl::PKT_FLUSHREAD;
            }
            (effects, state.foreground)
        };
        self.act(&effects, foreground);
        self.slave_queue.notify(Events::READ);
        self.master_queue.notify(Events::READ);
    }

    fn act(&self, effects: &InputEffects, foreground: Pid) {
        for &signal in &effects.signals {
            self.signal(foreground, signal);
        }
        if effects.resumed {
            self.slave_queue.notify(Events::WRITE);
        }
    }

    fn signal(&self, pgid: Pid, signal: Signal) {
        if let Some(kernel) = self.kernel.upgrade()
            && pgid > 0
        {
            signal::send_to_pgrp(&kernel, pgid, SigInfo::kernel(signal));
        }
    }

    /// The line is cut: readers see the end, the session hears of it and loses its terminal.
    pub fn hang_up(&self) {
        let (session, foreground) = {
            let mut state = self.state.lock();
            if state.hung_up {
                return;
            }
            state.hung_up = true;
            state.discipline.flush_input();
            (state.session.take(), std::mem::take(&mut state.foreground))
        };
        self.slave_queue
            .notify(Events::READ | Events::WRITE | Events::HUP);
        self.master_queue
            .notify(Events::READ | Events::WRITE | Events::HUP);
        if let (Some(kernel), Some(session)) = (self.kernel.upgrade(), session) {
            job::signal_hang_up(&kernel, session, foreground);
        }
    }
}

/// All terminals of a guest.
pub struct Terminals {
    ptys: Lock<BTreeMap<u32, Arc<Tty>>>,
    console: Lock<Option<Arc<Tty>>>,
}

impl Default for Terminals {
    fn default() -> Self {
        Terminals {
            ptys: Lock::new(Rank::Table, BTreeMap::new()),
            console: Lock::new(Rank::Leaf, None),
        }
    }
}

impl Terminals {
    /// The console, if uvm was started on a terminal.
    pub fn console(&self) -> Option<Arc<Tty>> {
        self.console.lock().clone()
    }

    /// The pseudo-terminal with this number.
    pub fn pty(&self, index: u32) -> Option<Arc<Tty>> {
        self.ptys.lock().get(&index).cloned()
    }

    /// Numbers of all pseudo-terminals.
    pub fn indexes(&self) -> Vec<u32> {
        self.ptys.lock().keys().copied().collect()
    }

    /// The terminal that controls a session.
    pub fn of_session(&self, sid: Pid) -> Option<Arc<Tty>> {
        let all: Vec<_> = self.ptys.lock().values().cloned().collect();
        all.into_iter().find(|tty| tty.job().0 == Some(sid))
    }

    /// A session's leader has ended: its terminal, if any, is cut off from it.
    pub fn session_ended(&self, kernel: &Arc<Kernel>, sid: Pid) {
        let Some(tty) = self.of_session(sid) else { return };
        let foreground = {
            let mut state = tty.state.lock();
            state.session = None;
            std::mem::take(&mut state.foreground)
        };
        job::signal_hang_up(kernel, sid, foreground);
    }

    fn new_pty(&self, kernel: &Arc<Kernel>, uid: u32) -> Result<Arc<Tty>, Errno> {
        let mut ptys = self.ptys.lock();
        let index = (0..PTY_MAX)
            .find(|i| !ptys.contains_key(i))
            .ok_or(Errno::ENOSPC)?;
        let tty = Tty::new(kernel, index, uid);
        ptys.insert(index, tty.clone());
        Ok(tty)
    }

    fn remove_pty(&self, index: u32) {
        self.ptys.lock().remove(&index);
    }
}
