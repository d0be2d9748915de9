//! A serial line: the bytes between a device of the guest and what is outside.

use std::collections::VecDeque;

use bitflags::bitflags;

use crate::kernel::sync::{Lock, Rank};
use crate::kernel::wait::{Events, WaitQueue};

/// Most bytes that wait to go out.
const OUTPUT_MAX: usize = 16 << 10;
/// Most bytes that wait for the guest.
const INPUT_MAX: usize = 4096;

bitflags! {
    /// Modem signals, with the values of TIOCM_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Modem: u32 {
        /// Data terminal ready: the guest has its end open.
        const DTR = 0x002;
        /// Request to send: the guest takes input.
        const RTS = 0x004;
        /// Clear to send.
        const CTS = 0x020;
        /// Carrier detect: somebody is at the other end.
        const CD = 0x040;
        /// Ring.
        const RI = 0x080;
        /// Data set ready.
        const DSR = 0x100;
    }
}

impl Modem {
    /// What the guest says.
    pub const OURS: Modem = Modem::DTR.union(Modem::RTS);
    /// What the other end says while somebody is there.
    pub const THEIRS: Modem = Modem::CTS.union(Modem::CD).union(Modem::DSR);
}

/// How many bytes went through a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// From the guest.
    pub sent: u64,
    /// To the guest.
    pub received: u64,
    /// How often somebody came or went at the other end.
    pub carrier_changes: u64,
}

/// A line with two ends. The *guest's* end is a device: ttyS0, the UART behind its ports. The *outer* end is
/// a back-end, what uvm was told to connect. Nothing here waits: who finds no room or no bytes waits for the queue of its end.
///
/// While nobody is at the other end what goes out is kept, the newest bytes of it, and the guest never waits.
pub struct Line {
    state: Lock<State>,
    guest: WaitQueue,
    outside: WaitQueue,
}

#[derive(Default)]
struct State {
    output: VecDeque<u8>,
    input: VecDeque<u8>,
    ours: Modem,
    theirs: Modem,
    /// Whether there is an outer end at all: what cannot reach anybody is not kept.
    connected: bool,
    counts: Counts,
}

impl Default for Line {
    /// A line with nothing at its outer end: what goes out is lost.
    fn default() -> Self {
        Line {
            state: Lock::new(Rank::Leaf, State::default()),
            guest: WaitQueue::new(),
            outside: WaitQueue::new(),
        }
    }
}

impl Line {
    /// Give it an outer end.
    pub fn connect(&self) {
        self.state.lock().connected = true;
    }

    /// Send bytes out. Returns how many of them there was room for.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let taken = {
            let mut state = self.state.lock();
            let taken = state.room().min(bytes.len());
            state.counts.sent += taken as u64;
            if state.connected {
                state.output.extend(&bytes[..taken]);
                let surplus = state.output.len().saturating_sub(OUTPUT_MAX);
                state.output.drain(..surplus);
            }
            taken
        };
        if taken > 0 {
            self.outside.notify(Events::READ);
        }
        taken
    }

    /// Take up to `max` bytes that came in.
    pub fn receive(&self, max: usize) -> Vec<u8> {
        let bytes: Vec<u8> = {
            let mut state = self.state.lock();
            let n = max.min(state.input.len());
            state.counts.received += n as u64;
            state.input.drain(..n).collect()
        };
        if !bytes.is_empty() {
            self.outside.notify(Events::WRITE);
        }
        bytes
    }

    /// How many bytes there are to receive.
    pub fn input_len(&self) -> usize {
        self.state.lock().input.len()
    }

    /// How many bytes have not gone out.
    pub fn output_len(&self) -> usize {
        let state = self.state.lock();
        // What waits for nobody is on no wire.
        if state.has_carrier() {
            state.output.len()
        } else {
            0
        }
    }

    /// How many bytes [`Line::send`] would take.
    pub fn output_room(&self) -> usize {
        self.state.lock().room()
    }

    /// Signals of both ends.
    pub fn modem(&self) -> Modem {
        let state = self.state.lock();
        state.ours | state.theirs
    }

    /// Set what the guest says: DTR and RTS.
    pub fn set_modem(&self, signals: Modem) {
        self.state.lock().ours = signals & Modem::OURS;
    }

    /// How much went through.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Notified when there is input (`READ`), when there is room for output (`WRITE`), and when somebody came or went at the other
    /// end (`PRI`). Callbacks may run on the host's side of things: see [`Wakeup`](crate::kernel::wait::Wakeup).
    pub fn guest_queue(&self) -> &WaitQueue {
        &self.guest
    }

    /// Notified when there is output (`READ`) and when there is room for input (`WRITE`).
    pub fn outer_queue(&self) -> &WaitQueue {
        &self.outside
    }

    /// Take up to `max` bytes that go out.
    pub fn take_output(&self, max: usize) -> Vec<u8> {
        let mut state = self.state.lock();
        let n = max.min(state.output.len());
        state.output.drain(..n).collect()
    }

    /// Put back what could not go out after all.
    pub fn untake_output(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        for &byte in bytes.iter().rev() {
            state.output.push_front(byte);
        }
    }

    /// Output went out: there is room for more.
    pub fn output_went(&self) {
        self.guest.notify(Events::WRITE);
    }

    /// How many bytes may come in.
    pub fn input_room(&self) -> usize {
        INPUT_MAX.saturating_sub(self.state.lock().input.len())
    }

    /// Bytes come in, no more than there is room for.
    pub fn put_input(&self, bytes: &[u8]) {
        self.state.lock().input.extend(bytes);
        self.guest.notify(Events::READ);
    }

    /// Say whether somebody is at the outer end.
    pub fn set_carrier(&self, on: bool) {
        {
            let mut state = self.state.lock();
            if state.has_carrier() == on {
                return;
            }
            state.theirs = if on { Modem::THEIRS } else { Modem::empty() };
            state.counts.carrier_changes += 1;
        }
        self.guest.notify(Events::PRI | Events::WRITE);
    }
}

impl State {
    fn has_carrier(&self) -> bool {
        self.theirs.contains(Modem::CD)
    }

    fn room(&self) -> usize {
        if self.has_carrier() {
            OUTPUT_MAX.saturating_sub(self.output.len())
        } else {
            OUTPUT_MAX
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> Line {
        let line = Line::default();
        line.connect();
        line
    }

    #[test]
    fn output_waits_for_room_only_while_somebody_is_there() {
        let line = connected();
        assert_eq!(line.send(&[b'a'; OUTPUT_MAX]), OUTPUT_MAX);
        assert_eq!((line.send(b"bc"), line.output_len()), (2, 0));
        line.set_carrier(true);
        assert_eq!((line.send(b"d"), line.output_len()), (0, OUTPUT_MAX));
        assert_eq!(line.take_output(OUTPUT_MAX - 3).len(), OUTPUT_MAX - 3);
        assert_eq!(line.take_output(10), b"abc");
        line.untake_output(b"bc");
        assert_eq!((line.send(b"d"), line.take_output(10)), (1, b"bcd".to_vec()));
        assert_eq!(line.counts().sent, OUTPUT_MAX as u64 + 3);
    }

    #[test]
    fn what_goes_nowhere_is_lost() {
        let line = Line::default();
        assert_eq!(line.send(b"abc"), 3);
        line.set_carrier(true);
        assert_eq!((line.output_len(), line.take_output(10)), (0, vec![]));
    }

    #[test]
    fn input_is_bounded() {
        let line = connected();
        line.put_input(&[b'x'; 4000]);
        assert_eq!((line.input_room(), line.receive(3999).len()), (96, 3999));
        assert_eq!(
            (line.input_len(), line.receive(9), line.receive(9)),
            (1, b"x".to_vec(), vec![])
        );
    }

    #[test]
    fn modem_signals() {
        let line = connected();
        line.set_modem(Modem::all());
        assert_eq!(line.modem(), Modem::OURS);
        line.set_carrier(true);
        assert_eq!(line.modem(), Modem::OURS | Modem::THEIRS);
        line.set_carrier(true);
        assert_eq!(line.counts().carrier_changes, 1);
    }
}
