//! Terminals with a line in place of a master: what goes out, what comes in, and who is at the other end.

use std::sync::Arc;

use super::ends::Slave;
use super::{Device, State, Tty};
use crate::kernel::dev::console::Modem;
use crate::kernel::fs::FileOps;
use crate::kernel::stop::SysResult;
use crate::kernel::task::Pid;
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Most bytes that come in at once: a line discipline that is full is to be noticed.
const CHUNK: usize = 256;

impl Tty {
    /// Notified when there is output and when there is room for input.
    pub(in crate::kernel::dev) fn outer_queue(&self) -> &WaitQueue {
        &self.master_queue
    }

    /// Its slave as an open file.
    pub(in crate::kernel::dev) fn open_file(self: &Arc<Self>) -> Arc<dyn FileOps> {
        Arc::new(Slave::new(self))
    }

    /// Make it the controlling terminal of the session that `leader` leads.
    pub(in crate::kernel::dev) fn control(&self, leader: Pid) {
        let mut state = self.state.lock();
        state.session = Some(leader);
        state.foreground = leader;
    }

    /// Bytes that have not gone out (TIOCOUTQ).
    pub(in crate::kernel::dev) fn output_len(&self) -> usize {
        let on_line = self.line.as_ref().map_or(0, |line| line.output_len());
        self.state.lock().discipline.output_len() + on_line
    }

    /// There is output: a master is told of it, a line is given it.
    pub(super) fn output_came(&self) {
        match self.line {
            Some(_) => self.transmit(),
            None => self.master_queue.notify(Events::READ),
        }
    }

    /// Have output go to the line, as far as it takes it.
    pub(in crate::kernel::dev) fn transmit(&self) {
        let Some(line) = &self.line else { return };
        let mut moved = false;
        let mut state = self.state.lock();
        loop {
            let bytes = state.discipline.take_output(line.output_room());
            // Whoever uses the line beside this may have taken the room meanwhile.
            let sent = line.send(&bytes);
            state.discipline.untake_output(&bytes[sent..]);
            if sent == 0 {
                break;
            }
            moved = true;
        }
        drop(state);
        if moved {
            self.slave_queue.notify(Events::WRITE);
        }
    }

    /// Wake who waits for all output to be gone, if it is.
    pub(in crate::kernel::dev) fn output_went(&self) {
        if self.output_len() == 0 {
            self.slave_queue.notify(Events::WRITE);
        }
    }

    /// Take what has come in, as far as there is room for it. One thread does so.
    pub(in crate::kernel::dev) fn take_input(&self) {
        let Some(line) = &self.line else { return };
        loop {
            {
                let state = self.state.lock();
                let is_open = self.device == Device::Pts || state.slaves > 0;
                if !is_open || state.discipline.is_full() {
                    return;
                }
            }
            let bytes = line.receive(CHUNK);
            if bytes.is_empty() {
                return;
            }
            self.input(&bytes);
        }
    }

    /// Act upon who has come and gone at the other end: a terminal that is not local is hung up when the carrier is lost.
    pub(in crate::kernel::dev) fn follow_carrier(&self) {
        let Some(line) = &self.line else { return };
        let changes = line.counts().carrier_changes;
        let is_lost = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.carrier_changes, changes);
            if before == changes {
                return;
            }
            // More than one change: it was lost in between.
            let is_lost = changes - before > 1 || !line.modem().contains(Modem::CD);
            is_lost && self.heeds_carrier(&state)
        };
        if is_lost {
            self.hang_up();
        }
        self.slave_queue
            .notify(Events::READ | Events::WRITE | Events::HUP);
    }

    /// Whether the loss of the carrier matters.
    fn heeds_carrier(&self, state: &State) -> bool {
        match self.device {
            Device::Pts => true,
            Device::Serial => !state.discipline.termios.control(libc::CLOCAL),
            Device::Hvc => false,
        }
    }

    /// open(2) of a modem line waits until somebody is at the other end.
    pub(super) fn wait_for_carrier(&self) -> SysResult<()> {
        let Some(line) = self.line.as_ref().filter(|_| self.device == Device::Serial) else {
            return Ok(());
        };
        let wait = WaitFor::queue(&self.slave_queue, Events::HUP);
        if self.heeds_carrier(&self.state.lock()) && !line.modem().contains(Modem::CD) {
            line.set_modem(Modem::OURS);
            return Err(wait.into());
        }
        Ok(())
    }

    /// tcdrain(3): wait until all has gone out. A pseudo-terminal's other end never keeps anybody waiting.
    pub(super) fn wait_until_sent(&self) -> SysResult<()> {
        let wait = WaitFor::queue(&self.slave_queue, Events::WRITE | Events::HUP);
        if self.device == Device::Pts || self.output_len() == 0 {
            return Ok(());
        }
        Err(wait.into())
    }

    /// The first slave is opened.
    pub(super) fn start_up(&self, state: &State) {
        if let Some(line) = &self.line
            && state.discipline.termios.ospeed != 0
        {
            line.set_modem(Modem::OURS);
        }
    }

    /// The last slave was closed, or cut off. A pseudo-terminal stays as it is.
    pub(super) fn shut_down(&self, state: &mut State) {
        let Some(line) = self.line.as_ref().filter(|_| self.device != Device::Pts) else {
            return;
        };
        if state.discipline.termios.control(libc::HUPCL) {
            line.set_modem(Modem::empty());
        }
        state.slaves = 0;
        state.exclusive = false;
        state.discipline.stopped = false;
        state.discipline.flush_input();
    }
}
