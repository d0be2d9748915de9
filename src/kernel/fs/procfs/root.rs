//! The files at the top of /proc.

use std::fmt::Write;
use std::sync::{Arc, Weak};

use super::super::pseudo::{Entry, PseudoDir, PseudoLink};
use super::super::{FileType, Link};
use super::{Subject, names, process, sysctl, ticks, tty};
use crate::kernel::Kernel;
use crate::kernel::dev::{block, rtc};
use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Pid, Task, current};
use crate::kernel::time::NANOS_PER_SEC;

pub(super) struct Root(pub(super) Weak<Kernel>);

type Make = fn(&Kernel) -> String;

const FILES: &[(&str, Make)] = &[
    ("cmdline", |_| "uvm\n".to_owned()),
    ("cpuinfo", |k| k.processor.cpuinfo().to_owned()),
    ("devices", |_| DEVICES.to_owned()),
    ("diskstats", |k| block::diskstats(&k.block)),
    ("execdomains", |_| "0-0\tLinux           \t[kernel]\n".to_owned()),
    ("filesystems", filesystems),
    ("interrupts", |k| cpu_header(k)),
    ("ioports", ioports),
    ("loadavg", loadavg),
    ("locks", |_| String::new()),
    ("meminfo", meminfo),
    ("misc", |_| String::new()),
    ("modules", |_| String::new()),
    ("partitions", |k| block::partitions(&k.block)),
    ("softirqs", |k| cpu_header(k)),
    ("stat", stat),
    ("swaps", |_| {
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned()
    }),
    ("uptime", uptime),
    ("version", version),
    ("vmstat", vmstat),
    ("zoneinfo", |_| String::new()),
];

const DEVICES: &str = "Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n\
                       136 pts\n229 hvc\n252 rtc\n\nBlock devices:\n  7 loop\n254 virtblk\n";

impl PseudoDir for Root {
    fn list(&self) -> Vec<(String, FileType)> {
        let mut list = names(FILES.iter().map(|(name, _)| *name), FileType::Regular);
        list.extend(names(["self", "thread-self", "mounts", "net"], FileType::Symlink));
        list.extend(names(["driver", "sys", "tty"], FileType::Directory));
        if let Some(kernel) = self.0.upgrade() {
            let pids = kernel.pids.lock();
            list.extend(
                pids.processes
                    .keys()
                    .map(|pid| (pid.to_string(), FileType::Directory)),
            );
        }
        list
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let kernel = self.0.upgrade()?;
        if let Some((_, make)) = FILES.iter().find(|(known, _)| *known == name) {
            let (kernel, make) = (self.0.clone(), *make);
            return Some(Entry::text(move || {
                kernel.upgrade().map(|k| make(&k)).unwrap_or_default()
            }));
        }
        match name {
            "self" => Some(Entry::link(Own(|task| task.pid().to_string()))),
            "thread-self" => Some(Entry::link(Own(|task| {
                format!("{}/task/{}", task.pid(), task.tid())
            }))),
            "mounts" => Some(Entry::link(Own(|_| "self/mounts".to_owned()))),
            "net" => Some(Entry::link(Own(|_| "self/net".to_owned()))),
            "driver" => Some(Entry::dir(Drivers(self.0.clone()))),
            "sys" => Some(Entry::dir(sysctl::Dir::root(&self.0))),
            "tty" => Some(Entry::dir(tty::Dir(self.0.clone()))),
            _ => {
                let pid = parse_pid(name)?;
                // A thread's id works too, though it is not listed.
                let pid = kernel.pids.group_of_any(pid)?.pid;
                let subject = Subject {
                    kernel: self.0.clone(),
                    pid,
                    tid: pid,
                    thread: false,
                };
                let owner = subject.owner();
                Some(Entry::dir(process::Dir(subject)).owned(owner))
            }
        }
    }
}

/// /proc/driver.
struct Drivers(Weak<Kernel>);

impl PseudoDir for Drivers {
    fn list(&self) -> Vec<(String, FileType)> {
        names(["rtc"], FileType::Regular)
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let kernel = self.0.clone();
        let text = move || {
            kernel
                .upgrade()
                .map(|k| rtc::described(&k.rtc))
                .unwrap_or_default()
        };
        (name == "rtc").then(|| Entry::text(text))
    }
}

/// A pid written the only way it is listed.
pub(super) fn parse_pid(name: &str) -> Option<Pid> {
    let pid: Pid = name.parse().ok()?;
    (pid > 0 && pid.to_string() == name).then_some(pid)
}

/// A link whose text depends on the reader.
struct Own(fn(&Task) -> String);

impl PseudoLink for Own {
    fn target(&self, task: Option<&Task>) -> Result<Link, Errno> {
        Ok(Link::Text((self.0)(task.ok_or(Errno::ENOENT)?).into_bytes()))
    }
}

fn filesystems(kernel: &Kernel) -> String {
    let kinds = &kernel.vfs.types;
    let line = |text: String, name: &&str| {
        let first = if kinds.needs_device(name) { "" } else { "nodev" };
        text + first + "\t" + name + "\n"
    };
    kinds.names().iter().fold(String::new(), line)
}

fn ioports(kernel: &Kernel) -> String {
    let admin = |task: Arc<Task>| task.creds().capable(Capability::SysAdmin);
    kernel.ports.table(current().is_some_and(admin))
}

fn cpu_header(kernel: &Kernel) -> String {
    let mut text = "    ".to_owned();
    for cpu in 0..kernel.hardware.cpus {
        let _ = write!(text, "        CPU{cpu}");
    }
    text + "\n"
}

/// Threads that exist and threads that run now.
fn thread_counts(kernel: &Kernel) -> (usize, usize) {
    let tasks: Vec<Arc<Task>> = kernel.pids.lock().tasks.values().cloned().collect();
    (
        tasks.len(),
        tasks.iter().filter(|t| !t.is_parked() && !t.is_waiting()).count(),
    )
}

fn loadavg(kernel: &Kernel) -> String {
    let (all, running) = thread_counts(kernel);
    // No average is kept: what runs now is the best answer there is.
    format!(
        "{running}.00 {running}.00 {running}.00 {running}/{all} {}\n",
        kernel.pids.lock().last()
    )
}

fn meminfo(kernel: &Kernel) -> String {
    let total = kernel.hardware.memory / 1024;
    let free = kernel.hardware.free_memory() / 1024;
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", total - free.min(total)),
        ("Inactive", 0),
        ("Active(anon)", total - free.min(total)),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total - free.min(total)),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free.min(total)),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
    ];
    let mut text = String::new();
    for (name, kib) in lines {
        let _ = writeln!(text, "{:<16}{kib:>8} kB", format!("{name}:"));
    }
    text + "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n\
            Hugepagesize:       2048 kB\nHugetlb:               0 kB\n"
}

/// CPU time of all that live and all that were waited for by init, in nanoseconds.
fn total_cpu(kernel: &Kernel) -> (u64, u64) {
    let (tasks, groups): (Vec<_>, Vec<_>) = {
        let pids = kernel.pids.lock();
        (
            pids.tasks.values().cloned().collect(),
            pids.processes.values().map(|p| p.group.clone()).collect(),
        )
    };
    let mut sum = tasks
        .iter()
        .map(|t| t.cpu_time())
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    for group in groups {
        let state = group.state.lock();
        for part in [state.ended_cpu, state.children_cpu] {
            sum = (sum.0 + part.0, sum.1 + part.1);
        }
    }
    sum
}

fn stat(kernel: &Kernel) -> String {
    let cpus = u64::from(kernel.hardware.cpus.max(1));
    let (user, system) = total_cpu(kernel);
    let up = kernel.clock.now().0;
    let (user, system) = (ticks(user), ticks(system));
    let idle = (ticks(up) * cpus).saturating_sub(user + system);
    let mut text = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let _ = writeln!(
            text,
            "cpu{cpu} {} 0 {} {} 0 0 0 0 0 0",
            user / cpus,
            system / cpus,
            idle / cpus
        );
    }
    let (_, running) = thread_counts(kernel);
    let boot =
        kernel.clock.realtime_nanos() / NANOS_PER_SEC.cast_signed() - (up / NANOS_PER_SEC).cast_signed();
    let made = kernel.pids.lock().last();
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {made}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0\n"
    );
    text
}

fn uptime(kernel: &Kernel) -> String {
    let up = kernel.clock.now().0;
    let (user, system) = total_cpu(kernel);
    let idle = (up * u64::from(kernel.hardware.cpus)).saturating_sub(user + system);
    let show = |nanos: u64| {
        format!(
            "{}.{:02}",
            nanos / NANOS_PER_SEC,
            nanos % NANOS_PER_SEC / 10_000_000
        )
    };
    format!("{} {}\n", show(up), show(idle))
}

fn version(_: &Kernel) -> String {
    use crate::kernel::sys::{RELEASE, VERSION};
    format!("Linux version {RELEASE} (uvm@uvm) {VERSION}\n")
}

fn vmstat(kernel: &Kernel) -> String {
    let free = kernel.hardware.free_memory() / 4096;
    format!(
        "nr_free_pages {free}\nnr_dirty 0\nnr_writeback 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\n\
         pgmajfault 0\n"
    )
}
