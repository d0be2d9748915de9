//! A guest's /proc, parsed by the procfs crate: a reader that was not written with ours in mind.

use std::process::Command;

use procfs::process::{Limits, MemoryMaps, MountInfos, Stat, StatM, Status};
use procfs::{
    CpuInfo, FromBufRead, FromBufReadSI, FromRead, KernelStats, LoadAverage, Meminfo, Uptime,
    current_system_info,
};

/// A file as a shell in a guest of `/` reads it, in `/proc/self` being the reader itself.
fn guest_file(path: &str) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_uvm"))
        .args(["run", "/", "--", "/bin/cat", path])
        .output()
        .expect("start uvm");
    assert!(output.status.success(), "cat {path}: {output:?}");
    output.stdout
}

#[test]
fn a_process_is_what_it_says() {
    let stat = Stat::from_read(&*guest_file("/proc/self/stat")).expect("stat");
    assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (1, "cat", 'R'));
    assert_eq!(
        (stat.ppid, stat.pgrp, stat.session, stat.num_threads),
        (0, 1, 1, 1)
    );
    assert!(
        stat.vsize > 0 && stat.rss > 0 && stat.nice == 0 && stat.priority == 20,
        "{stat:?}"
    );

    let status = Status::from_buf_read(&*guest_file("/proc/self/status")).expect("status");
    assert_eq!(
        (status.name.as_str(), status.tgid, status.pid, status.ppid),
        ("cat", 1, 1, 0)
    );
    assert_eq!((status.ruid, status.egid, status.threads), (0, 0, 1));
    assert!(status.vmrss.is_some_and(|kib| kib > 0), "{status:?}");

    let sizes = StatM::from_read(&*guest_file("/proc/self/statm")).expect("statm");
    assert!(sizes.size >= sizes.resident && sizes.resident > 0, "{sizes:?}");

    let limits = Limits::from_buf_read(&*guest_file("/proc/self/limits")).expect("limits");
    assert!(
        format!("{:?}", limits.max_open_files).contains("1024"),
        "{limits:?}"
    );
}

#[test]
fn mappings_and_mounts_are_the_guests() {
    let maps = MemoryMaps::from_buf_read(&*guest_file("/proc/self/maps")).expect("maps");
    let text = format!("{maps:?}");
    assert!(
        text.contains("cat") && text.contains("Stack") && text.contains("Heap"),
        "{text}"
    );
    assert!(!text.contains("memfd"), "the host shows through: {text}");

    let mounts = MountInfos::from_buf_read(&*guest_file("/proc/self/mountinfo")).expect("mountinfo");
    let points: Vec<_> = mounts
        .0
        .iter()
        .map(|m| m.mount_point.display().to_string())
        .collect();
    for wanted in ["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm"] {
        assert!(
            points.iter().any(|p| p == wanted),
            "{wanted} is missing in {points:?}"
        );
    }
}

#[test]
fn the_system_adds_up() {
    let memory = Meminfo::from_buf_read(&*guest_file("/proc/meminfo")).expect("meminfo");
    assert!(
        memory.mem_total > memory.mem_free && memory.mem_free > 0,
        "{memory:?}"
    );

    let cpus = CpuInfo::from_buf_read(&*guest_file("/proc/cpuinfo")).expect("cpuinfo");
    let stats = KernelStats::from_buf_read(&*guest_file("/proc/stat"), current_system_info()).expect("stat");
    assert_eq!(stats.cpu_time.len(), cpus.num_cores());
    assert!(stats.procs_running.is_some_and(|n| n >= 1), "{stats:?}");

    let uptime = Uptime::from_read(&*guest_file("/proc/uptime")).expect("uptime");
    assert!(
        uptime.uptime < 60.0,
        "a guest that was just started is up for {} s",
        uptime.uptime
    );

    let load = LoadAverage::from_read(&*guest_file("/proc/loadavg")).expect("loadavg");
    assert!(load.max >= 1 && load.latest_pid >= 1, "{load:?}");
}
