//! `--report`: what a guest did, from the calls that its tasks make.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use syscall_table::{Level, errno};

use crate::kernel::fs::{Fd, FileType, Path};
use crate::kernel::syscall::Tracer;
use crate::kernel::task::{Task, current};
use crate::kernel::user_memory::{UserAddr, UserMemory};

/// Most paths of each list.
const PATHS_MAX: usize = 100_000;

/// Notes what the tasks of a guest do.
pub(super) struct Recorder {
    began: Instant,
    notes: Mutex<Notes>,
    memory: Mutex<Memory>,
}

/// How much memory the guest's processes had.
#[derive(Default)]
struct Memory {
    /// When that was last looked at.
    at: Option<Instant>,
    /// The most of their own that all had together, in bytes.
    peak: u64,
}

/// How long a look at memory is as good as another one.
const MEMORY_EVERY: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Notes {
    threads: HashSet<i32>,
    programs: BTreeSet<Vec<u8>>,
    read: BTreeSet<Vec<u8>>,
    written: BTreeSet<Vec<u8>>,
    /// Family of a socket, and the error that it met, if any.
    sockets: BTreeMap<(i32, i32), u64>,
    /// Addresses outside the guest that were tried, in vain.
    outside: BTreeMap<SocketAddr, u64>,
    refused: BTreeMap<u64, u64>,
    /// Whether a list is not complete.
    cut: bool,
}

/// What a guest did.
pub struct Report {
    recorder: Arc<Recorder>,
    elapsed: Duration,
}

impl Recorder {
    pub(super) fn new() -> Arc<Recorder> {
        Arc::new(Recorder {
            began: Instant::now(),
            notes: Mutex::default(),
            memory: Mutex::default(),
        })
    }

    /// The guest has ended.
    pub(super) fn finish(self: Arc<Self>) -> Report {
        Report {
            elapsed: self.began.elapsed(),
            recorder: self,
        }
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Look at the memory of all processes: always before a call that gives some back (`last`), else now and then.
    fn measure(&self, last: bool) {
        let Some(task) = current() else { return };
        {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            if !last && memory.at.is_some_and(|at| at.elapsed() < MEMORY_EVERY) {
                return;
            }
            memory.at = Some(Instant::now());
        }
        let tasks: Vec<Arc<Task>> = task.kernel.pids.lock().tasks.values().cloned().collect();
        let mut spaces: Vec<_> = tasks.iter().map(|task| task.mm()).collect();
        spaces.sort_by_key(Arc::as_ptr);
        spaces.dedup_by_key(|mm| Arc::as_ptr(mm));
        let sizes = spaces.iter().filter_map(|mm| mm.space.size().ok());
        let own: u64 = sizes.map(|size| size.resident.saturating_sub(size.shared)).sum();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.peak = memory.peak.max(own);
    }

    /// The program of the present task.
    fn program(&self) {
        let Some(task) = current() else { return };
        let exe = task.mm().state.lock().exe.clone();
        if let Some(path) = exe {
            let text = text(&task, &path);
            self.note(|notes| notes.cut |= !insert(&mut notes.programs, text));
        }
    }

    /// The present task has opened a file.
    fn opened(&self, fd: i64) {
        let (Some(task), Ok(fd)) = (current(), i32::try_from(fd)) else {
            return;
        };
        let Ok(file) = task.files().get(Fd(fd)) else {
            return;
        };
        let Some(path) = file
            .path
            .as_ref()
            .filter(|_| file.inode.file_type() == FileType::Regular)
        else {
            return;
        };
        let (text, flags) = (text(&task, path), file.flags());
        self.note(|notes| {
            if flags.writable() {
                notes.cut |= !insert(&mut notes.written, text.clone());
            }
            if flags.readable() {
                notes.cut |= !insert(&mut notes.read, text);
            }
        });
    }
}

fn text(task: &Task, path: &Path) -> Vec<u8> {
    path.text(&task.kernel.vfs.mounts.root()).text
}

/// Where a call wanted to send something.
fn destination(name: &str, args: &[u64; 6], memory: &UserMemory) -> Option<SocketAddr> {
    let (at, length) = match name {
        "connect" => (args[1], args[2]),
        "sendto" => (args[4], args[5]),
        "sendmsg" => {
            let [at, length]: [u64; 2] = memory.read(UserAddr(args[1]).cast()).ok()?;
            (at, length)
        }
        _ => return None,
    };
    let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
    let length = usize::try_from(length as u32).ok()?.min(bytes.len());
    memory.read_bytes(UserAddr(at), bytes.get_mut(..length)?).ok()?;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match i32::from(u16::from_le_bytes([bytes[0], bytes[1]])) {
        libc::AF_INET => Some(([bytes[4], bytes[5], bytes[6], bytes[7]], port).into()),
        libc::AF_INET6 => {
            let ip = bytes[8..24].first_chunk::<16>()?;
            Some((Ipv6Addr::from(*ip), port).into())
        }
        _ => None,
    }
}

/// Put one more into a list; false if that is full.
fn insert(list: &mut BTreeSet<Vec<u8>>, text: Vec<u8>) -> bool {
    let fits = list.len() < PATHS_MAX || list.contains(&text);
    if fits {
        list.insert(text);
    }
    fits
}

impl Tracer for Arc<Recorder> {
    fn enter(&self, tid: i32, nr: u64, _: &[u64; 6], _: &UserMemory) {
        let row = syscall_table::lookup(nr);
        self.measure(matches!(
            row.map(|row| row.name),
            Some("exit_group" | "execve" | "execveat")
        ));
        let mut new = false;
        self.note(|notes| new = notes.threads.insert(tid));
        if new {
            self.program();
        }
    }

    fn exit(&self, _: i32, nr: u64, args: &[u64; 6], result: i64, memory: &UserMemory) {
        let row = syscall_table::lookup(nr);
        if row.is_none_or(|row| matches!(row.level, Level::Refused { .. })) {
            self.note(|notes| *notes.refused.entry(nr).or_default() += 1);
        }
        match row.map(|row| row.name) {
            Some("open" | "openat" | "openat2" | "creat") if result >= 0 => self.opened(result),
            Some("execve" | "execveat") if result == 0 => self.program(),
            Some("socket") => {
                let error = i32::try_from(-result).unwrap_or(0).max(0);
                self.note(|notes| *notes.sockets.entry((args[0] as u32 as i32, error)).or_default() += 1);
            }
            Some(name) if result == -i64::from(libc::ENETUNREACH) => {
                if let Some(address) = destination(name, args, memory) {
                    self.note(|notes| {
                        let room = notes.outside.len() < PATHS_MAX || notes.outside.contains_key(&address);
                        notes.cut |= !room;
                        if room {
                            *notes.outside.entry(address).or_default() += 1;
                        }
                    });
                }
            }
            _ => {}
        }
    }

    fn signal(&self, _: i32, _: &[u8; 128]) {}

    fn finish(&self) {}
}

impl Report {
    /// A JSON object. `disk` is how many bytes the guest's changes take.
    pub(super) fn write(&self, status: u8, disk: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
        let notes = self.recorder.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let list = |paths: &BTreeSet<Vec<u8>>| -> Vec<String> {
            paths
                .iter()
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect()
        };
        let sockets = notes.sockets.iter().map(|(&(family, error), count)| {
            json!({"family": family_name(family), "error": errno::name(error), "count": count})
        });
        let outside = notes
            .outside
            .iter()
            .map(|(address, count)| json!({"address": address.to_string(), "count": count}));
        let refused = notes.refused.iter().map(|(&nr, count)| {
            let name = syscall_table::lookup(nr).map(|row| row.name);
            json!({"call": name, "number": nr, "count": count})
        });
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let largest = usage.map(|usage| usage.max_rss().saturating_mul(1024));
        let peak = self
            .recorder
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .peak;
        let report = json!({
            "status": status,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "largest_process_bytes": largest,
            "peak_memory_bytes": peak,
            "disk_bytes": disk,
            "programs": list(&notes.programs),
            "files_read": list(&notes.read),
            "files_written": list(&notes.written),
            "sockets": sockets.collect::<Vec<_>>(),
            "addresses_outside": outside.collect::<Vec<_>>(),
            "calls_refused": refused.collect::<Vec<_>>(),
            "complete": !notes.cut,
        });
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)
    }
}

fn family_name(family: i32) -> String {
    match family {
        libc::AF_UNIX => "AF_UNIX".into(),
        libc::AF_INET => "AF_INET".into(),
        libc::AF_INET6 => "AF_INET6".into(),
        libc::AF_NETLINK => "AF_NETLINK".into(),
        libc::AF_PACKET => "AF_PACKET".into(),
        other => other.to_string(),
    }
}
