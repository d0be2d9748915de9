//! /proc/PID/stat, status, statm and limits: a process in numbers.

use std::fmt::Write;

use super::{Found, ticks};
use crate::kernel::signal::{SIG_DFL, SIG_IGN, SigSet, bit};
use crate::kernel::stop::Errno;
use crate::kernel::task::Creds;
use crate::platform::SpaceSize;

const PAGE: u64 = crate::platform::PAGE_SIZE;

/// Blocked, ignored and caught signals.
fn signal_sets(found: &Found) -> (SigSet, SigSet, SigSet) {
    let Some(task) = &found.task else { return (0, 0, 0) };
    let blocked = task.signals.lock().mask;
    let sighand = task.sighand();
    let (mut ignored, mut caught) = (0, 0);
    for signal in 1..=64 {
        match sighand.action(signal).handler {
            SIG_DFL => {}
            SIG_IGN => ignored |= bit(signal),
            _ => caught |= bit(signal),
        }
    }
    (blocked, ignored, caught)
}

fn size(found: &Found) -> SpaceSize {
    found
        .task
        .as_ref()
        .and_then(|t| t.mm().space.size().ok())
        .unwrap_or_default()
}

/// stat: proc_pid_stat(5), one field after the other.
pub(super) fn stat(found: &Found) -> Result<Vec<u8>, Errno> {
    let mut text = format!("{} (", found.tid).into_bytes();
    text.extend(found.comm());
    let tty = found.kernel.terminals.of_session(found.sid);
    let (tty_nr, tpgid) = tty.map_or((0, -1), |t| (t.dev(), t.job().1));
    let (user, system) = found.cpu();
    let (threads, children, nice) = {
        let state = found.group.state.lock();
        (state.threads.len(), state.children_cpu, 0)
    };
    let nice = found.task.as_ref().map_or(nice, |t| t.state.lock().nice);
    let started = found.task.as_ref().map_or(0, |t| t.state.lock().started.0);
    let size = size(found);
    let (blocked, ignored, caught) = signal_sets(found);
    let mm = found
        .task
        .as_ref()
        .map(|t| t.mm().state.lock().clone())
        .unwrap_or_default();
    let rss_limit = found.group.soft_limit(libc::RLIMIT_RSS);
    let exit = found.zombie.map_or(0, |z| z.status.wait_status());
    let _ = writeln!(
        Utf8(&mut text),
        ") {} {} {} {} {tty_nr} {tpgid} 0 0 0 0 0 {} {} {} {} {} {nice} {threads} 0 {} {} {} {rss_limit} \
         {} {} {} 0 0 0 {} {ignored} {caught} {} 0 0 {} 0 0 0 0 0 0 {} {} {} {} {} {} {exit}",
        found.state(),
        found.parent,
        found.pgid,
        found.sid,
        ticks(user),
        ticks(system),
        ticks(children.0),
        ticks(children.1),
        20 + nice,
        ticks(started),
        size.total,
        size.resident / PAGE,
        mm.brk_start.min(1),
        mm.brk_start.min(1),
        mm.stack_top,
        blocked & 0x7fff_ffff,
        u8::from(found.state() == 'S'),
        found.group.exit_signal(),
        mm.brk_start,
        mm.brk_start,
        mm.brk_start,
        mm.args.0,
        mm.args.1,
        format_args!("{} {}", mm.env.0, mm.env.1),
    );
    Ok(text)
}

/// Lets `write!` append to bytes.
struct Utf8<'a>(&'a mut Vec<u8>);

impl Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// statm.
pub(super) fn statm(found: &Found) -> Result<Vec<u8>, Errno> {
    let size = size(found);
    let [total, resident, shared, data] =
        [size.total, size.resident, size.shared, size.data].map(|b| b / PAGE);
    Ok(format!("{total} {resident} {shared} 0 0 {data} 0\n").into_bytes())
}

/// status: proc_pid_status(5).
pub(super) fn status(found: &Found) -> Result<Vec<u8>, Errno> {
    let mut text = b"Name:\t".to_vec();
    for byte in found.comm() {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            byte => text.push(byte),
        }
    }
    let word = match found.state() {
        'Z' => "Z (zombie)",
        'T' => "T (stopped)",
        'S' => "S (sleeping)",
        _ => "R (running)",
    };
    let creds = found.task.as_ref().map(|t| t.creds());
    let umask = found.task.as_ref().map_or(0, |t| t.fs().lock().umask);
    let mut out = Utf8(&mut text);
    let _ = write!(
        out,
        "\nUmask:\t{umask:04o}\nState:\t{word}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n",
        found.group.pid, found.tid, found.parent
    );
    if let Some(creds) = &creds {
        identity(&mut out, creds);
    }
    let _ = write!(out, "NStgid:\t{}\nNSpid:\t{}\n", found.group.pid, found.tid);
    let _ = write!(
        out,
        "NSpgid:\t{}\nNSsid:\t{}\nKthread:\t0\n",
        found.pgid, found.sid
    );
    if found.task.is_some() {
        memory(&mut out, found);
    }
    signals(&mut out, found);
    if let Some(creds) = &creds {
        let _ = write!(
            out,
            "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n",
            creds.inheritable, creds.permitted, creds.effective, creds.bounding, creds.ambient
        );
    }
    let nnp = found.task.as_ref().is_some_and(|t| t.state.lock().no_new_privs);
    let cpus = found.kernel.hardware.cpus;
    let mask = if cpus >= 64 { u64::MAX } else { (1u64 << cpus) - 1 };
    let _ = write!(
        out,
        "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tvulnerable\n\
         Cpus_allowed:\t{mask:x}\nCpus_allowed_list:\t{}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        u8::from(nnp),
        if cpus > 1 {
            format!("0-{}", cpus - 1)
        } else {
            "0".to_owned()
        },
    );
    Ok(text)
}

fn identity(out: &mut Utf8<'_>, creds: &Creds) {
    let files = 64;
    let _ = write!(
        out,
        "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{files}\nGroups:\t",
        creds.uid, creds.euid, creds.suid, creds.fsuid, creds.gid, creds.egid, creds.sgid, creds.fsgid
    );
    for gid in creds.groups.iter() {
        let _ = write!(out, "{gid} ");
    }
    let _ = out.write_str("\n");
}

fn memory(out: &mut Utf8<'_>, found: &Found) {
    let size = size(found);
    let peak = found.task.as_ref().and_then(|t| t.mm().space.peak().ok());
    let (peak, peak_resident) = peak.unwrap_or_default();
    let lines = [
        ("VmPeak", peak.max(size.total)),
        ("VmSize", size.total),
        ("VmLck", 0),
        ("VmPin", 0),
        ("VmHWM", peak_resident.max(size.resident)),
        ("VmRSS", size.resident),
        ("RssAnon", size.resident.saturating_sub(size.shared)),
        ("RssFile", size.shared),
        ("RssShmem", 0),
        ("VmData", size.data),
        ("VmStk", 132 << 10),
        ("VmExe", 4 << 10),
        ("VmLib", size.shared),
        ("VmPTE", 64 << 10),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in lines {
        let _ = writeln!(out, "{name}:\t{:>8} kB", bytes / 1024);
    }
    let _ = out.write_str("CoreDumping:\t0\nTHP_enabled:\t1\n");
}

fn signals(out: &mut Utf8<'_>, found: &Found) {
    let (blocked, ignored, caught) = signal_sets(found);
    let own = found.task.as_ref().map_or(0, |t| t.signals.lock().pending.set());
    let (shared, queued) = {
        let pending = found.group.pending.lock();
        (pending.set(), pending.len())
    };
    let threads = found.group.state.lock().threads.len();
    let limit = found.group.soft_limit(libc::RLIMIT_SIGPENDING);
    let _ = write!(
        out,
        "Threads:\t{threads}\nSigQ:\t{queued}/{limit}\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n\
         SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
    );
}

/// limits.
pub(super) fn limits(found: &Found) -> Result<Vec<u8>, Errno> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let show = |value: u64| {
        if value == u64::MAX {
            "unlimited".to_owned()
        } else {
            value.to_string()
        }
    };
    let limits = found.group.state.lock().limits.clone();
    let mut text = format!(
        "{:<26}{:<21}{:<21}{:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for ((name, unit), limit) in NAMES.iter().zip(limits.0) {
        let _ = writeln!(
            text,
            "{name:<26}{:<21}{:<21}{unit:<10}",
            show(limit.soft),
            show(limit.hard)
        );
    }
    Ok(text.into_bytes())
}
