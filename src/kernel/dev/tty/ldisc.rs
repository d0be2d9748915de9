//! The line discipline: what n_tty does between a terminal's keyboard and its readers, and between its writers and the
//! screen. Pure: no locks, no tasks; what it wants done is in what it returns.

use std::collections::VecDeque;

use super::termios::Termios;
use crate::kernel::signal::Signal;

/// Most bytes of input held for readers, as in Linux.
pub const INPUT_MAX: usize = 4096;
/// Most bytes of output held for the other end.
pub const OUTPUT_MAX: usize = 16 << 10;
/// Most bytes of output at which input is still echoed.
const ECHO_MAX: usize = 2 * OUTPUT_MAX;
/// Columns between tab stops.
const TAB: usize = 8;

/// State of one line discipline.
#[derive(Debug, Default)]
pub struct LineDiscipline {
    /// Settings.
    pub termios: Termios,
    /// Finished input: what readers get. In canonical mode each line ends with a delimiter.
    ready: VecDeque<u8>,
    /// Positions behind line ends in `ready`, counted from its front plus what was taken.
    line_ends: VecDeque<u64>,
    taken: u64,
    /// The line being edited (canonical mode).
    editing: Vec<u8>,
    /// The next byte is taken literally (VLNEXT).
    literal: bool,
    /// Output stopped by VSTOP or TCXONC.
    pub stopped: bool,
    /// Cursor column, for tabs and erasing.
    column: usize,
    /// Column at which the line being edited began.
    edit_start: usize,
    /// Bytes for the other end: processed output and echo.
    output: VecDeque<u8>,
}

/// What input asks for beside data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InputEffects {
    /// Signals for the foreground process group, in order.
    pub signals: Vec<Signal>,
    /// Output was resumed by VSTART.
    pub resumed: bool,
}

impl LineDiscipline {
    /// With these settings.
    pub fn new(termios: Termios) -> LineDiscipline {
        LineDiscipline {
            termios,
            ..LineDiscipline::default()
        }
    }

    fn canonical(&self) -> bool {
        self.termios.local(libc::ICANON)
    }

    /// Bytes a reader could get now (FIONREAD).
    pub fn readable_bytes(&self) -> usize {
        if self.canonical() {
            self.line_ends
                .back()
                .map_or(0, |end| usize::try_from(end - self.taken).unwrap_or(0))
        } else {
            self.ready.len()
        }
    }

    /// Whether a read would return at once: a whole line (possibly an empty one, the end of file) or `min` bytes.
    pub fn readable(&self, min: usize) -> bool {
        if self.canonical() {
            !self.line_ends.is_empty()
        } else {
            self.ready.len() >= min.max(1)
        }
    }

    /// Room for more input from the other end.
    pub fn input_room(&self) -> usize {
        // One byte is kept so that a line end can always get in.
        (INPUT_MAX - 1).saturating_sub(self.ready.len() + self.editing.len())
    }

    /// Whether the other end should hold input back.
    pub fn is_full(&self) -> bool {
        // A full canonical line still takes control characters, so it is only full when readers have lines to take.
        self.input_room() == 0 && (!self.canonical() || !self.line_ends.is_empty())
    }

    /// Take what a reader of `max` bytes gets: at most one line in canonical mode. Empty means end of file there.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        if !self.canonical() {
            let n = max.min(self.ready.len());
            return self.take(n);
        }
        let Some(end) = self.line_ends.front().copied() else {
            return Vec::new();
        };
        let length = usize::try_from(end - self.taken).unwrap_or(0);
        let bytes = self.take(length.min(max));
        if self.taken == end {
            self.line_ends.pop_front();
        }
        bytes
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        self.taken += n as u64;
        self.ready.drain(..n).collect()
    }

    /// Bytes come in from the other end. Takes all of them; what has no room is dropped, as a real terminal's is.
    pub fn input(&mut self, bytes: &[u8]) -> InputEffects {
        let mut effects = InputEffects::default();
        for &byte in bytes {
            let before = self.output.len();
            self.input_byte(byte, &mut effects);
            if before > ECHO_MAX {
                // Who types and does not look gets no echo.
                self.output.truncate(before);
            }
        }
        effects
    }

    fn input_byte(&mut self, mut byte: u8, effects: &mut InputEffects) {
        let t = self.termios;
        if t.input(libc::ISTRIP) {
            byte &= 0x7f;
        }
        if self.literal {
            self.literal = false;
            self.accept(byte);
            return;
        }
        if t.input(libc::IUCLC) && t.local(libc::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if t.input(libc::IXON) {
            if t.is(byte, libc::VSTART) {
                effects.resumed |= std::mem::replace(&mut self.stopped, false);
                return;
            }
            if t.is(byte, libc::VSTOP) {
                self.stopped = true;
                return;
            }
        }
        if t.local(libc::ISIG)
            && let Some(signal) = self.signal_of(byte)
        {
            if t.input(libc::IXON) {
                effects.resumed |= std::mem::replace(&mut self.stopped, false);
            }
            if !t.local(libc::NOFLSH) {
                self.flush_input();
                self.output.clear();
            }
            self.echo(byte);
            effects.signals.push(signal);
            return;
        }
        match byte {
            b'\r' if t.input(libc::IGNCR) => return,
            b'\r' if t.input(libc::ICRNL) => byte = b'\n',
            b'\n' if t.input(libc::INLCR) => byte = b'\r',
            _ => {}
        }
        if t.local(libc::ICANON) {
            self.edit(byte)
        } else {
            self.accept(byte)
        }
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        [
            (libc::VINTR, libc::SIGINT),
            (libc::VQUIT, libc::SIGQUIT),
            (libc::VSUSP, libc::SIGTSTP),
        ]
        .into_iter()
        .find_map(|(which, signal)| self.termios.is(byte, which).then_some(signal))
    }

    /// Canonical mode: editing characters and line ends.
    fn edit(&mut self, byte: u8) {
        let t = self.termios;
        let extended = t.local(libc::IEXTEN);
        if t.is(byte, libc::VERASE) || byte == 8 && t.cc[libc::VERASE] == 8 {
            self.erase_char();
        } else if extended && t.is(byte, libc::VWERASE) {
            self.erase_word();
        } else if t.is(byte, libc::VKILL) {
            self.kill_line(byte);
        } else if extended && t.is(byte, libc::VLNEXT) {
            self.literal = true;
            if t.local(libc::ECHO | libc::ECHOCTL) {
                self.put_raw(b"^\x08");
            }
        } else if extended && t.local(libc::ECHO) && t.is(byte, libc::VREPRINT) {
            self.echo(byte);
            self.put(b'\n');
            for b in self.editing.clone() {
                self.echo(b);
            }
        } else if t.is(byte, libc::VEOF) {
            self.end_line(None);
        } else if byte == b'\n' || t.is(byte, libc::VEOL) || extended && t.is(byte, libc::VEOL2) {
            if t.local(libc::ECHO) || byte == b'\n' && t.local(libc::ECHONL) {
                self.put_echo(byte);
            }
            self.end_line(Some(byte));
        } else {
            self.accept(byte);
        }
    }

    /// An ordinary byte: into the line, or to readers at once in raw mode.
    fn accept(&mut self, byte: u8) {
        if self.input_room() == 0 {
            if self.termios.input(libc::IMAXBEL) {
                self.put_raw(b"\x07");
            }
            return;
        }
        if self.canonical() {
            if self.editing.is_empty() {
                self.edit_start = self.column;
            }
            self.editing.push(byte);
        } else {
            self.ready.push_back(byte);
        }
        self.echo(byte);
    }

    /// VEOF ends a line without a delimiter; an empty one then reads as end of file.
    fn end_line(&mut self, delimiter: Option<u8>) {
        self.ready.extend(self.editing.drain(..));
        self.ready.extend(delimiter);
        self.line_ends.push_back(self.taken + self.ready.len() as u64);
    }

    fn erase_char(&mut self) {
        let utf8 = self.termios.input(libc::IUTF8);
        let Some(mut last) = self.editing.pop() else {
            return;
        };
        while utf8 && last & 0xc0 == 0x80 {
            match self.editing.pop() {
                Some(byte) => last = byte,
                None => break,
            }
        }
        self.erase_shown(last);
    }

    fn erase_word(&mut self) {
        let mut seen_word = false;
        while let Some(&byte) = self.editing.last() {
            let word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
            if seen_word && !word {
                break;
            }
            seen_word |= word;
            self.erase_char();
        }
    }

    fn kill_line(&mut self, byte: u8) {
        let t = self.termios;
        if t.local(libc::ECHO | libc::ECHOE | libc::ECHOKE) {
            while !self.editing.is_empty() {
                self.erase_char();
            }
            return;
        }
        self.editing.clear();
        self.echo(byte);
        if t.local(libc::ECHO | libc::ECHOK) {
            self.put(b'\n');
        }
    }

    /// Take an erased byte off the screen.
    fn erase_shown(&mut self, byte: u8) {
        let t = self.termios;
        if !t.local(libc::ECHO) {
            return;
        }
        if !t.local(libc::ECHOE) {
            self.echo(t.cc[libc::VERASE]);
            return;
        }
        let width = if byte == b'\t' {
            // Back to where the text before the tab ended.
            let before = self
                .editing
                .iter()
                .fold(self.edit_start, |col, &b| self.column_after(col, b));
            self.column.saturating_sub(before)
        } else if is_control(byte) {
            if t.local(libc::ECHOCTL) { 2 } else { 0 }
        } else {
            1
        };
        for _ in 0..width {
            self.put_raw(if byte == b'\t' { b"\x08" } else { b"\x08 \x08" });
        }
        self.column = self.column.saturating_sub(width);
    }

    fn column_after(&self, column: usize, byte: u8) -> usize {
        match byte {
            b'\t' => column + TAB - column % TAB,
            b if is_control(b) => column + if self.termios.local(libc::ECHOCTL) { 2 } else { 0 },
            b if b & 0xc0 == 0x80 && self.termios.input(libc::IUTF8) => column,
            _ => column + 1,
        }
    }

    fn echo(&mut self, byte: u8) {
        if self.termios.local(libc::ECHO) {
            self.put_echo(byte);
        }
    }

    fn put_echo(&mut self, byte: u8) {
        if is_control(byte) && byte != b'\t' && byte != b'\n' && self.termios.local(libc::ECHOCTL) {
            self.put_raw(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.put(byte);
        }
    }

    /// Forget input that nobody has read (TCIFLUSH).
    pub fn flush_input(&mut self) {
        self.taken += self.ready.len() as u64;
        self.ready.clear();
        self.line_ends.clear();
        self.editing.clear();
        self.literal = false;
    }

    /// Forget output that has not gone out (TCOFLUSH).
    pub fn flush_output(&mut self) {
        self.output.clear();
    }

    /// Change the settings. Input that was being edited becomes readable when canonical mode ends.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.canonical();
        self.termios = termios;
        if !termios.input(libc::IXON) {
            self.stopped = false;
        }
        if was_canonical && !self.canonical() {
            self.ready.extend(self.editing.drain(..));
            self.line_ends.clear();
        } else if !was_canonical && self.canonical() && !self.ready.is_empty() {
            // What came in raw counts as one line.
            self.line_ends.push_back(self.taken + self.ready.len() as u64);
        }
    }

    /// Room for writers.
    pub fn output_room(&self) -> usize {
        if self.stopped {
            0
        } else {
            OUTPUT_MAX.saturating_sub(self.output.len())
        }
    }

    /// Bytes waiting for the other end (TIOCOUTQ).
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// A writer's bytes, as many as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for &byte in bytes {
            // One byte can become a tab's worth.
            if self.output_room() < TAB {
                break;
            }
            self.put(byte);
            done += 1;
        }
        done
    }

    /// Take up to `max` bytes for the other end; none while output is stopped.
    pub fn take_output(&mut self, max: usize) -> Vec<u8> {
        if self.stopped {
            return Vec::new();
        }
        let n = max.min(self.output.len());
        self.output.drain(..n).collect()
    }

    /// Put back what the other end could not take.
    pub fn untake_output(&mut self, bytes: &[u8]) {
        for &b in bytes.iter().rev() {
            self.output.push_front(b);
        }
    }

    /// One byte through output processing.
    fn put(&mut self, byte: u8) {
        let t = self.termios;
        if !t.output(libc::OPOST) {
            self.output.push_back(byte);
            return;
        }
        match byte {
            b'\n' => {
                if t.output(libc::ONLCR) {
                    self.output.push_back(b'\r');
                }
                if t.output(libc::ONLCR) || t.output(libc::ONLRET) {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' if t.output(libc::OCRNL) => {
                if t.output(libc::ONLRET) {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' if t.output(libc::ONOCR) && self.column == 0 => {}
            b'\r' => {
                self.column = 0;
                self.output.push_back(b'\r');
            }
            b'\t' => {
                let spaces = TAB - self.column % TAB;
                self.column += spaces;
                if t.oflag & libc::TABDLY == libc::TAB3 {
                    self.output.extend(std::iter::repeat_n(b' ', spaces));
                } else {
                    self.output.push_back(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                self.output.push_back(8);
            }
            _ => {
                let byte = if t.output(libc::OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                };
                if !is_control(byte) && (byte & 0xc0 != 0x80 || !t.input(libc::IUTF8)) {
                    self.column += 1;
                }
                self.output.push_back(byte);
            }
        }
    }

    /// Bytes that are for the screen as they are.
    fn put_raw(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }
}

fn is_control(byte: u8) -> bool {
    byte < 32 || byte == 127
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (LineDiscipline, InputEffects) {
        let mut l = LineDiscipline::default();
        let effects = l.input(bytes);
        (l, effects)
    }

    fn screen(l: &mut LineDiscipline) -> String {
        String::from_utf8(l.take_output(usize::MAX)).unwrap()
    }

    #[test]
    fn a_line_is_read_when_it_ends() {
        let (mut l, _) = typed(b"ab");
        assert!(!l.readable(1));
        l.input(b"c\rde");
        assert_eq!((l.readable_bytes(), l.read(100)), (4, b"abc\n".to_vec()));
        assert!(!l.readable(1));
        assert_eq!(screen(&mut l), "abc\r\nde");
    }

    #[test]
    fn short_reads_keep_the_rest_of_the_line() {
        let (mut l, _) = typed(b"abc\nd\n");
        assert_eq!(
            [l.read(2), l.read(2), l.read(9), l.read(9)],
            [&b"ab"[..], b"c\n", b"d\n", b""]
        );
    }

    #[test]
    fn editing() {
        let (mut l, _) = typed(b"one two\x7f\x7f\x7fX\x15ab cd\x17e\n");
        assert_eq!(l.read(100), b"ab e\n");
    }

    #[test]
    fn erasing_goes_over_control_characters_and_tabs() {
        let (mut l, _) = typed(b"a\x16\x01\x7f");
        assert_eq!(screen(&mut l), "a^\x08^A\x08 \x08\x08 \x08");
        let (mut l, _) = typed(b"ab\t\x7f");
        assert_eq!(screen(&mut l), format!("ab\t{}", "\x08".repeat(6)));
    }

    #[test]
    fn end_of_file_ends_a_line_or_reads_nothing() {
        let (mut l, _) = typed(b"ab\x04\x04");
        assert_eq!((l.readable(1), l.read(9)), (true, b"ab".to_vec()));
        assert_eq!((l.readable(1), l.read(9), l.readable(1)), (true, vec![], false));
    }

    #[test]
    fn signals_flush_and_echo() {
        let (mut l, effects) = typed(b"junk\x03\x1c\x1aok\n");
        assert_eq!(effects.signals, [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP]);
        assert_eq!(l.read(9), b"ok\n");
        assert_eq!(screen(&mut l), "^Zok\r\n");
    }

    #[test]
    fn raw_mode_passes_bytes() {
        let mut l = LineDiscipline::default();
        let mut t = l.termios;
        t.lflag = 0;
        t.iflag = 0;
        t.oflag = 0;
        l.set_termios(t);
        l.input(b"\x03\r\x7f");
        assert!(l.readable(3) && !l.readable(4));
        assert_eq!(l.read(2), b"\x03\r");
        l.write(b"a\n");
        assert_eq!(screen(&mut l), "a\n");
    }

    #[test]
    fn stop_and_start() {
        let (mut l, _) = typed(b"\x13");
        assert_eq!((l.stopped, l.write(b"x")), (true, 0));
        assert!(l.input(b"\x11").resumed);
        assert_eq!(l.write(b"x"), 1);
    }

    #[test]
    fn leaving_canonical_mode_gives_what_was_typed() {
        let (mut l, _) = typed(b"ab");
        let mut t = l.termios;
        t.lflag &= !libc::ICANON;
        l.set_termios(t);
        assert_eq!(l.read(9), b"ab");
    }

    #[test]
    fn echo_is_bounded() {
        let mut l = LineDiscipline::default();
        for _ in 0..100 {
            l.input(&[b'x'; 1000]);
            l.input(b"\n");
            l.read(INPUT_MAX);
        }
        assert!(l.output_len() < ECHO_MAX + INPUT_MAX);
    }

    #[test]
    fn input_is_bounded() {
        let (mut l, _) = typed(&[b'x'; 10_000]);
        l.input(b"\n");
        assert!(l.readable_bytes() <= INPUT_MAX);
        assert_eq!(l.read(20_000).last(), Some(&b'\n'));
    }
}
