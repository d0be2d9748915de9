//! The kernel's log: /dev/kmsg, and what syslog(2) gives of it. All that is in it was written by the guest; what uvm has to say of
//! itself is for the host.

use std::collections::VecDeque;
use std::sync::Arc;

use super::mem::MEM_MAJOR;
use crate::kernel::fs::{File, FileOps};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, Instant};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Minor number of the device.
pub(super) const MINOR: u32 = 11;
/// Name, numbers and permission bits of the node.
pub const NODE: (&str, u32, u32, u32) = ("kmsg", MEM_MAJOR, MINOR, 0o644);

/// Bytes of all records together, as syslog(2) tells it; older ones make room.
pub const CAPACITY: usize = 1 << 17;
/// Longest write, in bytes.
const LONGEST: usize = 1024;
/// What a record takes beside its text, so that empty ones end too.
const OVERHEAD: usize = 64;
/// KERN_WARNING of LOG_USER: what is written without a priority.
const PRIORITY: u32 = 1 << 3 | 4;

/// One line of the log.
struct Record {
    /// Level, and facility by 8.
    priority: u32,
    time: Instant,
    text: Vec<u8>,
}

impl Record {
    /// What was written, which may begin with `<PRIORITY>`.
    fn parse(written: &[u8], time: Instant) -> Record {
        let end = written
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(written.len());
        let (priority, text) = given_priority(&written[..end]).unwrap_or((PRIORITY, &written[..end]));
        // As on Linux nobody speaks for the kernel: facility 0 is that of users.
        let facility = if priority >> 3 & 0xff == 0 {
            1
        } else {
            priority >> 3 & 0xff
        };
        Record {
            priority: facility << 3 | priority & 7,
            time,
            text: text.strip_suffix(b"\n").unwrap_or(text).to_vec(),
        }
    }

    fn micros(&self) -> u64 {
        self.time.0 / 1000
    }

    fn size(&self) -> usize {
        self.text.len() + OVERHEAD
    }

    /// As read(2) of /dev/kmsg gives it.
    fn for_device(&self, number: u64) -> Vec<u8> {
        let mut line = format!("{},{number},{},-;", self.priority, self.micros()).into_bytes();
        for &byte in &self.text {
            if matches!(byte, b' '..=b'~') && byte != b'\\' {
                line.push(byte);
            } else {
                line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
        }
        line.push(b'\n');
        line
    }

    /// As syslog(2) gives it.
    fn for_syslog(&self) -> Vec<u8> {
        let (seconds, micros) = (self.micros() / 1_000_000, self.micros() % 1_000_000);
        let prefix = format!("<{}>[{seconds:5}.{micros:06}] ", self.priority);
        let mut lines = Vec::new();
        for line in self.text.split(|&byte| byte == b'\n') {
            lines.extend_from_slice(prefix.as_bytes());
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        lines
    }
}

/// The priority that a line begins with, and what is behind it.
fn given_priority(line: &[u8]) -> Option<(u32, &[u8])> {
    let inner = line.strip_prefix(b"<")?;
    let end = inner.iter().position(|&byte| byte == b'>')?;
    let number = std::str::from_utf8(&inner[..end]).ok()?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let priority = if is_number {
        number.parse().ok()?
    } else {
        return None;
    };
    Some((priority, &inner[end + 1..]))
}

/// The log of a guest.
pub struct Log {
    clock: Arc<Clock>,
    queue: WaitQueue,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    records: VecDeque<Record>,
    /// Number of the first one that is still there.
    first: u64,
    /// Of all together.
    bytes: usize,
    /// The first one that was not cleared.
    cleared: u64,
    /// Where SYSLOG_ACTION_READ goes on: a record, and bytes of it.
    unread: (u64, usize),
}

impl State {
    /// Number of the record that comes next.
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = &Record> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.records.iter().skip(skip)
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.size();
        self.records.push_back(record);
        while self.bytes > CAPACITY
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.size();
            self.first += 1;
        }
    }

    /// What SYSLOG_ACTION_READ has not given yet.
    fn unread(&self) -> Vec<u8> {
        let (number, done) = self.unread;
        let skip = if number < self.first { 0 } else { done };
        let all: Vec<u8> = self.from(number).flat_map(Record::for_syslog).collect();
        all.get(skip..).unwrap_or_default().to_vec()
    }

    /// So many bytes of it were given.
    fn was_read(&mut self, mut bytes: usize) {
        let (mut number, mut done) = self.unread;
        if number < self.first {
            (number, done) = (self.first, 0);
        }
        while let Some(record) = self.from(number).next() {
            let left = record.for_syslog().len().saturating_sub(done);
            if bytes < left {
                break;
            }
            bytes -= left;
            (number, done) = (number + 1, 0);
        }
        self.unread = (number, done + bytes);
    }
}

impl Log {
    /// An empty one.
    pub fn new(clock: &Arc<Clock>) -> Arc<Log> {
        Arc::new(Log {
            clock: clock.clone(),
            queue: WaitQueue::new(),
            state: Lock::new(Rank::Object, State::default()),
        })
    }

    fn write(&self, text: &[u8]) {
        let record = Record::parse(text, self.clock.now());
        self.state.lock().push(record);
        self.queue.notify(Events::READ);
    }

    /// The next bytes of SYSLOG_ACTION_READ, at most `len`; they stay unread until [`Log::was_read`].
    pub fn unread(&self, len: usize) -> Result<Vec<u8>, WaitFor> {
        let state = self.state.lock();
        let mut bytes = state.unread();
        bytes.truncate(len);
        if bytes.is_empty() && len > 0 {
            return Err(WaitFor::queue(&self.queue, Events::READ));
        }
        Ok(bytes)
    }

    /// So many of the unread bytes have reached the reader.
    pub fn was_read(&self, bytes: usize) {
        self.state.lock().was_read(bytes);
    }

    /// How many bytes SYSLOG_ACTION_READ has not given yet.
    pub fn unread_size(&self) -> usize {
        self.state.lock().unread().len()
    }

    /// The last records that were not cleared, as many as `len` bytes hold.
    pub fn last(&self, len: usize) -> Vec<u8> {
        let state = self.state.lock();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut total = 0;
        for record in state.from(state.cleared).rev() {
            let line = record.for_syslog();
            total += line.len();
            if total > len {
                break;
            }
            lines.push(line);
        }
        lines.into_iter().rev().flatten().collect()
    }

    /// Let [`Log::last`] give only what comes from now on.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.cleared = state.end();
    }
}

/// /dev/kmsg, open. Its position is the number of a record; 0 is the first that there is.
pub(super) struct Kmsg(pub(super) Arc<Log>);

impl FileOps for Kmsg {
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let state = self.0.state.lock();
        if *pos == 0 {
            *pos = state.first;
        } else if *pos < state.first {
            *pos = state.first;
            return fail!(EPIPE);
        }
        let Some(record) = state.from(*pos).next() else {
            if file.nonblocking() {
                return fail!(EAGAIN);
            }
            return Err(WaitFor::queue(&self.0.queue, Events::READ).into());
        };
        let line = record.for_device(*pos);
        drop(state);
        if line.len() > to.remaining() {
            return fail!(EINVAL);
        }
        to.put(&line)?;
        *pos += 1;
        Ok(line.len())
    }

    fn write(&self, _: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        if from.remaining() > LONGEST {
            return fail!(EINVAL);
        }
        let mut text = vec![0; from.remaining()];
        if from.take(&mut text)? < text.len() {
            return fail!(EFAULT);
        }
        self.0.write(&text);
        Ok(text.len())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let state = self.0.state.lock();
        match whence {
            _ if offset != 0 => fail!(ESPIPE),
            libc::SEEK_END => Ok(state.end()),
            libc::SEEK_DATA => Ok(state.cleared.max(state.first)),
            _ => fail!(EINVAL),
        }
    }

    fn poll(&self, file: &File) -> Events {
        let state = self.0.state.lock();
        let pos = file.pos.get();
        match pos {
            _ if pos >= state.end() => Events::empty(),
            1.. if pos < state.first => Events::READ | Events::ERR | Events::PRI,
            _ => Events::READ,
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.0.queue.clone(), interest)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &[u8]) -> Record {
        Record::parse(text, Instant(1_234_567_890))
    }

    #[test]
    fn records_are_shown_as_linux_shows_them() {
        assert_eq!(record(b"hello\n").for_device(7), b"12,7,1234567,-;hello\n");
        assert_eq!(
            record(b"<3>a\tb\\").for_device(0),
            b"11,0,1234567,-;a\\x09b\\x5c\n"
        );
        assert_eq!(record(b"<30>x").for_syslog(), b"<30>[    1.234567] x\n");
        assert_eq!(record(b"<x>y\0z").for_syslog(), b"<12>[    1.234567] <x>y\n");
        assert_eq!(
            record(b"a\nb\n").for_syslog(),
            b"<12>[    1.234567] a\n<12>[    1.234567] b\n"
        );
    }

    #[test]
    fn old_records_make_room_and_reading_goes_on_in_the_middle_of_one() {
        let log = Log::new(&Arc::new(Clock::new()));
        assert!(log.unread(10).is_err());
        for number in 0..5000 {
            log.write(format!("line {number}").as_bytes());
        }
        let state = log.state.lock();
        assert!(state.bytes <= CAPACITY && state.first > 0 && state.end() == 5000);
        drop(state);
        let mut all = Vec::new();
        while let Ok(bytes) = log.unread(7) {
            log.was_read(bytes.len());
            all.extend(bytes);
        }
        assert!(all.ends_with(b"] line 4999\n") && all.starts_with(b"<12>["));
        assert_eq!(log.unread_size(), 0);
        let last = log.last(60);
        assert!(last.len() <= 60 && last.ends_with(b"] line 4999\n"));
        log.clear();
        assert!(log.last(1000).is_empty());
    }
}
