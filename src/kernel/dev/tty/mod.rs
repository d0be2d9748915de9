//! Terminals: pseudo-terminals, and those that are on a [line](super::console::Line) to the outside.
//!
//! A [`Tty`] holds both ends: programs use the *slave* through a line discipline, the *master* is what a terminal emulator
//! holds. In place of a master, ttyS0 and hvc0 have a line, as has the pseudo-terminal that stands for the host's.

pub mod devpts;
mod ends;
mod ioctl;
pub(in crate::kernel) mod job;
mod ldisc;
mod on_line;
mod serial;
mod shown;
mod termios;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

pub use ends::{ConsoleDriver, ControllingDriver, LineDriver, PtmxDriver, PtsDriver};
pub use shown::{drivers, serial_driver, sysfs};
use termios::Termios;
pub use termios::WinSize;

use super::console::Line;
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
/// Major number of serial ports, and the minor number of the first.
pub const SERIAL_MAJOR: u32 = 4;
const SERIAL_MINOR: u32 = 64;
/// Major number of the consoles of hypervisors.
pub const HVC_MAJOR: u32 = 229;
/// Most pseudo-terminals (kernel.pty.max).
const PTY_MAX: u32 = 4096;

/// What a terminal is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The slave of a pseudo-terminal, /dev/pts/N.
    Pts,
    /// A serial port, /dev/ttySN.
    Serial,
    /// A console of the hypervisor, /dev/hvcN.
    Hvc,
}

/// One terminal with both its ends.
pub struct Tty {
    kernel: Weak<Kernel>,
    /// What it is.
    pub device: Device,
    /// Its number among those.
    pub index: u32,
    /// What is there instead of a master.
    line: Option<Arc<Line>>,
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
    /// The master is closed or a hang-up was forced, for good: reads end, writes fail.
    hung_up: bool,
    /// How often a terminal that can be opened again was hung up: what was opened before is no more on it.
    hang_ups: u64,
    /// Its session is still to hear of the hang-up: nobody reads the end before.
    is_telling: bool,
    /// The carrier's changes that were followed.
    carrier_changes: u64,
    /// What setserial(8) changes.
    port: serial::Port,
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
    fn new(
        kernel: &Arc<Kernel>,
        (device, index): (Device, u32),
        line: Option<Arc<Line>>,
        uid: u32,
    ) -> Arc<Tty> {
        Arc::new(Tty {
            kernel: Arc::downgrade(kernel),
            device,
            index,
            line,
            state: Lock::new(
                Rank::Tty,
                State {
                    discipline: LineDiscipline::new(match device {
                        Device::Serial => Termios::serial(),
                        Device::Pts | Device::Hvc => Termios::default(),
                    }),
                    size: WinSize::default(),
                    session: None,
                    foreground: 0,
                    slaves: 0,
                    used: false,
                    hung_up: false,
                    hang_ups: 0,
                    is_telling: false,
                    carrier_changes: 0,
                    port: serial::Port::default(),
                    locked: device == Device::Pts,
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
        match self.device {
            Device::Pts => libc::makedev(PTS_MAJOR, self.index),
            Device::Serial => libc::makedev(SERIAL_MAJOR, SERIAL_MINOR + self.index),
            Device::Hvc => libc::makedev(HVC_MAJOR, self.index),
        }
    }

    /// Its name below /dev.
    pub fn name(&self) -> String {
        match self.device {
            Device::Pts => format!("pts/{}", self.index),
            Device::Serial => format!("ttyS{}", self.index),
            Device::Hvc => format!("hvc{}", self.index),
        }
    }

    /// Where its node is.
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name())
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
            if self.device == Device::Pts {
                state.hung_up = true;
            } else {
                state.hang_ups += 1;
                self.shut_down(&mut state);
            }
            state.discipline.flush_input();
            state.is_telling = true;
            (state.session.take(), std::mem::take(&mut state.foreground))
        };
        if let (Some(kernel), Some(session)) = (self.kernel.upgrade(), session) {
            job::signal_hang_up(&kernel, session, foreground);
        }
        self.state.lock().is_telling = false;
        self.slave_queue
            .notify(Events::READ | Events::WRITE | Events::HUP);
        self.master_queue
            .notify(Events::READ | Events::WRITE | Events::HUP);
    }
}

/// All terminals of a guest.
pub struct Terminals {
    ptys: Lock<BTreeMap<u32, Arc<Tty>>>,
    /// Serial ports and the like, which are there for good.
    fixed: Lock<Vec<Arc<Tty>>>,
    console: Lock<Option<Arc<Tty>>>,
}

impl Default for Terminals {
    fn default() -> Self {
        Terminals {
            ptys: Lock::new(Rank::Table, BTreeMap::new()),
            fixed: Lock::new(Rank::Leaf, Vec::new()),
            console: Lock::new(Rank::Leaf, None),
        }
    }
}

impl Terminals {
    /// The console, if there is one.
    pub fn console(&self) -> Option<Arc<Tty>> {
        self.console.lock().clone()
    }

    /// Make a terminal the console.
    pub fn set_console(&self, tty: &Arc<Tty>) {
        *self.console.lock() = Some(tty.clone());
    }

    /// Add a terminal that is there for good, on this line.
    pub fn add_fixed(&self, kernel: &Arc<Kernel>, device: Device, index: u32, line: &Arc<Line>) -> Arc<Tty> {
        let tty = Tty::new(kernel, (device, index), Some(line.clone()), 0);
        self.fixed.lock().push(tty.clone());
        tty
    }

    /// All that are there for good.
    pub fn fixed(&self) -> Vec<Arc<Tty>> {
        self.fixed.lock().clone()
    }

    /// A new pseudo-terminal with a line in place of its master.
    pub fn new_pty_on(&self, kernel: &Arc<Kernel>, line: &Arc<Line>) -> Result<Arc<Tty>, Errno> {
        let tty = self.add_pty(kernel, Some(line.clone()), 0)?;
        let mut state = tty.state.lock();
        state.locked = false;
        state.discipline.termios.iflag |= libc::IUTF8;
        drop(state);
        Ok(tty)
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
        let mut all = self.fixed();
        all.extend(self.ptys.lock().values().cloned());
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
        self.add_pty(kernel, None, uid)
    }

    fn add_pty(&self, kernel: &Arc<Kernel>, line: Option<Arc<Line>>, uid: u32) -> Result<Arc<Tty>, Errno> {
        let mut ptys = self.ptys.lock();
        let index = (0..PTY_MAX)
            .find(|i| !ptys.contains_key(i))
            .ok_or(Errno::ENOSPC)?;
        let tty = Tty::new(kernel, (Device::Pts, index), line, uid);
        ptys.insert(index, tty.clone());
        Ok(tty)
    }

    fn remove_pty(&self, index: u32) {
        self.ptys.lock().remove(&index);
    }
}
