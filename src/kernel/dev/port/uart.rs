//! A 16550A at COM1, on the same [`Line`] as ttyS0.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PortDevice;
use crate::kernel::dev::console::{Line, Modem};
use crate::kernel::sync::{Lock, Rank};

/// Its first port.
pub(super) const COM1: u16 = 0x3f8;

/// Bytes of the receiver's FIFO.
const FIFO: usize = 16;

/// Interrupts that can be enabled: data received, room to send, line status, modem status.
const IER_DATA: u8 = 1;
const IER_ROOM: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;
const IER_ALL: u8 = 0xf;

/// What the identification register says, most urgent first; and that the FIFOs are on.
const IIR_LINE: u8 = 6;
const IIR_DATA: u8 = 4;
const IIR_TIMEOUT: u8 = 0xc;
const IIR_ROOM: u8 = 2;
const IIR_MODEM: u8 = 0;
const IIR_NONE: u8 = 1;
const IIR_FIFO: u8 = 0xc0;

const FCR_ENABLE: u8 = 1;
const FCR_CLEAR_RECEIVER: u8 = 2;

const LCR_BREAK: u8 = 0x40;
const LCR_DIVISOR: u8 = 0x80;

const MCR_DTR: u8 = 1;
const MCR_RTS: u8 = 2;
const MCR_OUT1: u8 = 4;
const MCR_OUT2: u8 = 8;
const MCR_LOOP: u8 = 0x10;
const MCR_ALL: u8 = 0x1f;

const LSR_DATA: u8 = 1;
const LSR_OVERRUN: u8 = 2;
const LSR_BREAK: u8 = 0x10;
const LSR_ERRORS: u8 = 0x1e;
const LSR_ROOM: u8 = 0x60;

const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_RI: u8 = 0x40;
const MSR_DCD: u8 = 0x80;
/// The ring indicator's change counts only when it ends.
const MSR_RI_ENDED: u8 = 4;

/// COM1.
pub(super) struct Uart {
    line: Arc<Line>,
    state: Lock<State>,
}

impl Uart {
    pub(super) fn new(line: &Arc<Line>) -> Uart {
        Uart {
            line: line.clone(),
            state: Lock::new(Rank::Table, State::default()),
        }
    }
}

impl PortDevice for Uart {
    fn input(&self, port: u16) -> u8 {
        let mut state = self.state.lock();
        state.fetch(&self.line);
        match port & 7 {
            0 if state.has_divisor() => state.divisor.to_le_bytes()[0],
            1 if state.has_divisor() => state.divisor.to_le_bytes()[1],
            0 => state.take(),
            1 => state.ier,
            2 => state.identify(),
            3 => state.lcr,
            4 => state.mcr,
            5 => state.line_status(&self.line),
            6 => state.modem_status(&self.line),
            _ => state.scratch,
        }
    }

    fn output(&self, port: u16, value: u8) {
        let mut state = self.state.lock();
        let [low, high] = state.divisor.to_le_bytes();
        match port & 7 {
            0 if state.has_divisor() => state.divisor = u16::from_le_bytes([value, high]),
            1 if state.has_divisor() => state.divisor = u16::from_le_bytes([low, value]),
            0 => state.send(&self.line, value),
            1 => state.enable(value),
            2 => state.control_fifo(value),
            3 => state.control_line(value),
            4 => state.control_modem(&self.line, value),
            7 => state.scratch = value,
            // Writing a status register is for testing in the factory.
            _ => {}
        }
    }
}

struct State {
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    /// 115,200 divided by the speed. It changes nothing: bytes are sent at once.
    divisor: u16,
    received: VecDeque<u8>,
    /// Errors that were not read yet, as the line status has them.
    errors: u8,
    /// The modem's lines when they were last looked at.
    modem: u8,
    /// Changes of the modem's lines that were not read yet.
    changes: u8,
    /// There is room to send, and nobody was told yet.
    room_is_news: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            ier: 0,
            fcr: 0,
            lcr: 3,
            mcr: MCR_OUT2,
            scratch: 0,
            divisor: 12,
            received: VecDeque::new(),
            errors: 0,
            modem: 0,
            changes: 0,
            room_is_news: false,
        }
    }
}

impl State {
    fn has_divisor(&self) -> bool {
        self.lcr & LCR_DIVISOR != 0
    }

    fn is_looped(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    fn has_fifo(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn capacity(&self) -> usize {
        if self.has_fifo() { FIFO } else { 1 }
    }

    /// Take from the line what there is room for; the rest waits there.
    fn fetch(&mut self, line: &Line) {
        if !self.is_looped() {
            let room = self.capacity().saturating_sub(self.received.len());
            self.received.extend(line.receive(room));
        }
        self.note_modem(line);
    }

    fn take(&mut self) -> u8 {
        self.received.pop_front().unwrap_or(0)
    }

    fn send(&mut self, line: &Line, byte: u8) {
        self.room_is_news = true;
        if !self.is_looped() {
            // Without room, as the line status tells, it is lost.
            line.send(&[byte]);
        } else if self.received.len() < self.capacity() {
            self.received.push_back(byte);
        } else {
            self.errors |= LSR_OVERRUN;
            if !self.has_fifo() {
                self.received.clear();
                self.received.push_back(byte);
            }
        }
    }

    fn enable(&mut self, value: u8) {
        // To enable the interrupt anew asks for one.
        self.room_is_news |= value & !self.ier & IER_ROOM != 0;
        self.ier = value & IER_ALL;
    }

    /// The most urgent interrupt that would be pending.
    fn identify(&mut self) -> u8 {
        let fifo = if self.has_fifo() { IIR_FIFO } else { 0 };
        let has = |bit: u8| self.ier & bit != 0;
        let least = match self.fcr >> 6 {
            _ if !self.has_fifo() => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        };
        let pending = if has(IER_LINE) && self.errors & LSR_ERRORS != 0 {
            IIR_LINE
        } else if has(IER_DATA) && self.received.len() >= least {
            IIR_DATA
        } else if has(IER_DATA) && !self.received.is_empty() {
            IIR_TIMEOUT
        } else if has(IER_ROOM) && self.room_is_news {
            self.room_is_news = false;
            IIR_ROOM
        } else if has(IER_MODEM) && self.changes != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        };
        fifo | pending
    }

    fn control_fifo(&mut self, value: u8) {
        let was_on = self.has_fifo();
        let is_on = value & FCR_ENABLE != 0;
        if was_on != is_on || is_on && value & FCR_CLEAR_RECEIVER != 0 {
            self.received.clear();
        }
        self.fcr = if is_on { value } else { 0 };
    }

    fn control_line(&mut self, value: u8) {
        if self.is_looped() && value & !self.lcr & LCR_BREAK != 0 {
            self.errors |= LSR_BREAK;
            if self.received.len() < self.capacity() {
                self.received.push_back(0);
            }
        }
        self.lcr = value;
    }

    fn control_modem(&mut self, line: &Line, value: u8) {
        self.mcr = value & MCR_ALL;
        if !self.is_looped() {
            let mut signals = Modem::empty();
            signals.set(Modem::DTR, value & MCR_DTR != 0);
            signals.set(Modem::RTS, value & MCR_RTS != 0);
            line.set_modem(signals);
        }
        self.note_modem(line);
    }

    /// What the modem says, or in a loop what it is told.
    fn modem_lines(&self, line: &Line) -> u8 {
        let says = line.modem();
        let lines = if self.is_looped() {
            [
                (self.mcr & MCR_RTS != 0, MSR_CTS),
                (self.mcr & MCR_DTR != 0, MSR_DSR),
                (self.mcr & MCR_OUT1 != 0, MSR_RI),
                (self.mcr & MCR_OUT2 != 0, MSR_DCD),
            ]
        } else {
            [
                (says.contains(Modem::CTS), MSR_CTS),
                (says.contains(Modem::DSR), MSR_DSR),
                (says.contains(Modem::RI), MSR_RI),
                (says.contains(Modem::CD), MSR_DCD),
            ]
        };
        let on = lines.iter().filter(|(is_on, _)| *is_on);
        on.fold(0, |lines, (_, says)| lines | says)
    }

    /// Note what has changed since this was last asked.
    fn note_modem(&mut self, line: &Line) {
        let now = self.modem_lines(line);
        let before = std::mem::replace(&mut self.modem, now);
        let changed = before ^ now;
        self.changes |= changed >> 4 & !MSR_RI_ENDED;
        if changed & before & MSR_RI != 0 {
            self.changes |= MSR_RI_ENDED;
        }
    }

    fn modem_status(&mut self, line: &Line) -> u8 {
        self.note_modem(line);
        self.modem | std::mem::take(&mut self.changes)
    }

    fn line_status(&mut self, line: &Line) -> u8 {
        let data = if self.received.is_empty() { 0 } else { LSR_DATA };
        let has_room = self.is_looped() || line.output_room() > 0;
        data | std::mem::take(&mut self.errors) | if has_room { LSR_ROOM } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UART whose line somebody holds at the other end.
    fn connected() -> (Uart, Arc<Line>) {
        let line = Arc::new(Line::default());
        line.connect();
        line.set_carrier(true);
        (Uart::new(&line), line)
    }

    #[test]
    fn bytes_go_both_ways() {
        let (uart, line) = connected();
        line.put_input(b"input");
        assert_eq!(uart.input(COM1 + 5), LSR_ROOM | LSR_DATA);
        for byte in b"output" {
            uart.output(COM1, *byte);
        }
        assert_eq!(line.take_output(99), b"output");
        let read: Vec<u8> = (0..6).map(|_| uart.input(COM1)).collect();
        assert_eq!(read, b"input\0");
        while line.send(&[0; 999]) > 0 {}
        assert_eq!(uart.input(COM1 + 5), 0, "there is no room now");
    }

    #[test]
    fn what_does_not_fit_waits_in_the_line() {
        let (uart, line) = connected();
        uart.output(COM1 + 2, FCR_ENABLE);
        line.put_input(&[7; 40]);
        assert_eq!(uart.input(COM1 + 5) & LSR_ERRORS, 0);
        assert_eq!(line.input_len(), 40 - FIFO);
    }

    #[test]
    fn whoever_comes_is_seen_once() {
        let (uart, line) = connected();
        assert_eq!(uart.input(COM1 + 6), 0xbb);
        assert_eq!(uart.input(COM1 + 6), 0xb0);
        line.set_carrier(false);
        assert_eq!(uart.input(COM1 + 6), 0x0b);
        uart.output(COM1 + 4, MCR_DTR);
        assert_eq!(line.modem(), Modem::DTR);
    }

    #[test]
    fn interrupts_are_told_by_their_urgency() {
        let (uart, _) = connected();
        uart.output(COM1 + 4, MCR_LOOP);
        uart.input(COM1 + 6);
        uart.output(COM1 + 1, IER_ALL);
        assert_eq!(uart.input(COM1 + 2), IIR_ROOM);
        assert_eq!(uart.input(COM1 + 2), IIR_NONE, "it is told once");
        uart.output(COM1, 1);
        uart.output(COM1, 2);
        uart.output(COM1 + 4, MCR_LOOP | MCR_DTR);
        assert_eq!(uart.input(COM1 + 2), IIR_LINE);
        assert_eq!(uart.input(COM1 + 5) & LSR_ERRORS, LSR_OVERRUN);
        assert_eq!(uart.input(COM1 + 2), IIR_DATA);
        assert_eq!(uart.input(COM1), 2);
        assert_eq!(uart.input(COM1 + 2), IIR_ROOM);
        assert_eq!(uart.input(COM1 + 2), IIR_MODEM);
        assert_eq!(uart.input(COM1 + 6), MSR_DSR | MSR_DSR >> 4);
        assert_eq!(uart.input(COM1 + 2), IIR_NONE);
    }

    #[test]
    fn the_fifo_has_a_trigger() {
        let (uart, _) = connected();
        uart.output(COM1 + 4, MCR_LOOP);
        uart.output(COM1 + 2, FCR_ENABLE | 0x40);
        uart.output(COM1 + 1, IER_DATA);
        uart.output(COM1, 1);
        assert_eq!(uart.input(COM1 + 2), IIR_FIFO | IIR_TIMEOUT);
        for byte in 2..=20 {
            uart.output(COM1, byte);
        }
        assert_eq!(uart.input(COM1 + 2), IIR_FIFO | IIR_DATA);
        assert_eq!(uart.input(COM1 + 5) & LSR_OVERRUN, LSR_OVERRUN);
        let read: Vec<u8> = (0..17).map(|_| uart.input(COM1)).collect();
        assert_eq!((read[0], read[15], read[16]), (1, 16, 0));
    }
}
