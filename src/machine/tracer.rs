//! `--trace`: the kernel's reports as lines of text.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::TraceTo;
use super::report::Recorder;
use crate::kernel::syscall::Tracer;
use crate::kernel::user_memory::{UserAddr, UserMemory};
use crate::trace::{Log, Memory, signal_event};

/// What hears of system calls: a trace, a report, or both; none if nobody asked.
pub(super) fn tracer(
    to: Option<&TraceTo>,
    recorder: Option<Arc<Recorder>>,
) -> Result<Option<Box<dyn Tracer>>> {
    let log = to.map(open).transpose()?;
    Ok(match (log, recorder) {
        (Some(log), Some(recorder)) => Some(Box::new(Both(log, recorder))),
        (None, Some(recorder)) => Some(Box::new(recorder)),
        (log, None) => log,
    })
}

/// A trace and a report.
struct Both(Box<dyn Tracer>, Arc<Recorder>);

impl Tracer for Both {
    fn enter(&self, tid: i32, nr: u64, args: &[u64; 6], memory: &UserMemory) {
        self.0.enter(tid, nr, args, memory);
        self.1.enter(tid, nr, args, memory);
    }

    fn exit(&self, tid: i32, nr: u64, args: &[u64; 6], result: i64, memory: &UserMemory) {
        self.0.exit(tid, nr, args, result, memory);
        self.1.exit(tid, nr, args, result, memory);
    }

    fn signal(&self, tid: i32, info: &[u8; 128]) {
        self.0.signal(tid, info);
    }

    fn finish(&self) {
        self.0.finish();
    }
}

/// One log for all tasks.
struct LogTracer(Mutex<Log<Box<dyn Write + Send>>>);

/// Open the trace. Nothing is buffered, so that a trace is complete whatever happens.
fn open(to: &TraceTo) -> Result<Box<dyn Tracer>> {
    let out: Box<dyn Write + Send> = match to {
        TraceTo::Stderr => Box::new(std::io::stderr()),
        TraceTo::File(path) => {
            Box::new(File::create(path).with_context(|| format!("--trace={}", path.display()))?)
        }
    };
    Ok(Box::new(LogTracer(Mutex::new(Log::new(out)))))
}

impl Memory for UserMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.copy_in(UserAddr(addr), buf)
    }
}

impl LogTracer {
    fn log(&self, report: impl FnOnce(&mut Log<Box<dyn Write + Send>>)) {
        report(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Tracer for LogTracer {
    fn enter(&self, tid: i32, nr: u64, args: &[u64; 6], memory: &UserMemory) {
        self.log(|log| log.enter(tid, nr, args, memory));
    }

    fn exit(&self, tid: i32, nr: u64, args: &[u64; 6], result: i64, memory: &UserMemory) {
        self.log(|log| log.exit(tid, nr, args, result, memory));
    }

    fn signal(&self, tid: i32, info: &[u8; 128]) {
        self.log(|log| log.event(tid, &signal_event(info)));
    }

    fn finish(&self) {
        self.log(Log::finish);
    }
}
