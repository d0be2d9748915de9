//! The lines of a trace: calls of many threads, each on a line of its own unless another one comes in between.

use std::collections::HashMap;
use std::io::Write;

use syscall_table::{Ret, Row};

use super::text::put;
use super::{Memory, Summary};

/// Writes one line per call to `W`, after the id of its thread.
///
/// What cannot be written is lost: a guest does not fail because nobody reads its trace.
pub struct Log<W> {
    out: W,
    summary: Summary,
    /// Calls that have begun, by thread.
    begun: HashMap<i32, (u64, [u64; 6])>,
    /// The line that is not finished yet, and whose it is. Its text has been written already.
    open: Option<(i32, String)>,
}

impl<W: Write> Log<W> {
    /// A trace that goes to `out`, which should not buffer: unfinished lines are there to be seen.
    pub fn new(out: W) -> Self {
        Self {
            out,
            summary: Summary::default(),
            begun: HashMap::new(),
            open: None,
        }
    }

    /// A call begins. To report a call again that has not ended changes nothing.
    pub fn enter(&mut self, tid: i32, nr: u64, args: &[u64; 6], mem: &dyn Memory) {
        if self.begun.get(&tid) == Some(&(nr, *args)) {
            return;
        }
        self.interrupt_line();
        let mut line = prefix(tid);
        match syscall_table::lookup(nr) {
            Some(row) => super::enter(row, args, mem, &mut line),
            None => super::enter_unknown(nr, args, &mut line),
        }
        self.summary.count(nr);
        self.write(&line);
        self.begun.insert(tid, (nr, *args));
        self.open = Some((tid, line));
        if syscall_table::lookup(nr).is_some_and(|row| row.ret == Ret::Never) {
            self.exit(tid, nr, args, 0, mem);
        }
    }

    /// A call is over with this raw result.
    pub fn exit(&mut self, tid: i32, nr: u64, args: &[u64; 6], result: i64, mem: &dyn Memory) {
        self.begun.remove(&tid);
        let row = syscall_table::lookup(nr);
        let (written, mut line) = match self.open.take() {
            Some((owner, line)) if owner == tid => (line.len(), line),
            other => {
                self.open = other;
                self.interrupt_line();
                (0, resumed(tid, nr, row))
            }
        };
        match row {
            Some(row) => super::exit(row, args, result, mem, &mut line),
            None => super::exit_unknown(result, &mut line),
        }
        line.push('\n');
        self.write(line.get(written..).unwrap_or_default());
    }

    /// Anything else worth a line, such as a signal or the end of a process.
    pub fn event(&mut self, tid: i32, text: &str) {
        self.interrupt_line();
        let line = prefix(tid) + text + "\n";
        self.write(&line);
    }

    /// The guest has ended: ends the last line and prints which calls were refused.
    pub fn finish(&mut self) {
        self.interrupt_line();
        let _ = self.summary.print(&mut self.out);
        let _ = self.out.flush();
    }

    /// Ends a line whose call goes on.
    fn interrupt_line(&mut self) {
        if self.open.take().is_some() {
            self.write(" <unfinished ...>\n");
        }
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }
}

fn prefix(tid: i32) -> String {
    format!("{tid:<5} ")
}

fn resumed(tid: i32, nr: u64, row: Option<&Row>) -> String {
    let mut line = prefix(tid);
    match row {
        Some(row) => put!(line, "<... {} resumed>", row.name),
        None => put!(line, "<... syscall_{nr:#x} resumed>"),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Memory for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> usize {
            0
        }
    }

    fn text(log: Log<Vec<u8>>) -> String {
        String::from_utf8(log.out).expect("text")
    }

    #[test]
    fn a_call_without_company_takes_one_line() {
        let mut log = Log::new(Vec::new());
        log.enter(7, 3, &[4, 0, 0, 0, 0, 0], &Nothing);
        log.enter(7, 3, &[4, 0, 0, 0, 0, 0], &Nothing);
        log.exit(7, 3, &[4, 0, 0, 0, 0, 0], -9, &Nothing);
        log.finish();
        assert!(
            text(log)
                .starts_with("7     close(4)                          = -1 EBADF (Bad file descriptor)\n")
        );
    }

    #[test]
    fn calls_that_overlap_are_taken_up_again() {
        let mut log = Log::new(Vec::new());
        log.enter(7, 0, &[4, 0x1000, 8, 0, 0, 0], &Nothing);
        log.enter(8, 39, &[0; 6], &Nothing);
        log.exit(8, 39, &[0; 6], 8, &Nothing);
        log.exit(7, 0, &[4, 0x1000, 8, 0, 0, 0], 0, &Nothing);
        log.event(7, "--- SIGHUP ---");
        let expected = "7     read(4,  <unfinished ...>\n\
                        8     getpid()                          = 8\n\
                        7     <... read resumed>\"\", 8)          = 0\n\
                        7     --- SIGHUP ---\n";
        assert_eq!(text(log), expected);
    }

    #[test]
    fn calls_that_never_return_end_at_once() {
        let mut log = Log::new(Vec::new());
        log.enter(7, 231, &[3, 0, 0, 0, 0, 0], &Nothing);
        log.event(7, "+++ exited with 3 +++");
        let expected = "7     exit_group(3)                     = ?\n7     +++ exited with 3 +++\n";
        assert_eq!(text(log), expected);
    }

    #[test]
    fn unknown_numbers_are_shown_in_full() {
        let mut log = Log::new(Vec::new());
        log.enter(7, 0x1f4, &[1, 0, 0, 0, 0, 0], &Nothing);
        log.exit(7, 0x1f4, &[1, 0, 0, 0, 0, 0], -38, &Nothing);
        log.finish();
        let text = text(log);
        let expected = "7     syscall_0x1f4(0x1, 0, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("1    500 ?"), "{text}");
    }
}
