//! What /proc and /sys tell of block devices.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::device::Device;
use super::{BlockDevices, SECTOR};

/// A file or link of /sys.
pub enum Shown {
    /// A text, without the end of its line.
    Text(String),
    /// Where it leads.
    Link(String),
}

/// /proc/partitions.
pub fn partitions(devices: &BlockDevices) -> String {
    let mut text = "major minor  #blocks  name\n\n".to_owned();
    let mut line = |(major, minor): (u32, u32), bytes: u64, name: &str| {
        let _ = writeln!(text, "{major:4}  {minor:7} {:10} {name}", bytes / 1024);
    };
    for device in devices.list() {
        let (numbers, size) = (device.numbers(), device.size());
        if size == 0 {
            continue;
        }
        line(numbers, size, device.name());
        for part in device.partitions() {
            let numbers = (numbers.0, numbers.1 + part.number);
            line(numbers, part.len, &device.partition_name(part.number));
        }
    }
    text
}

/// The counts of a device as /proc/diskstats and /sys have them; times and what partitions did are not counted.
fn counts(device: &Device) -> String {
    let counts = &device.counts;
    let [reads, read, writes, written] = [
        &counts.reads,
        &counts.sectors_read,
        &counts.writes,
        &counts.sectors_written,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    format!("{reads} 0 {read} 0 {writes} 0 {written} 0 0 0 0 0 0 0 0 0 0")
}

/// /proc/diskstats.
pub fn diskstats(devices: &BlockDevices) -> String {
    let mut text = String::new();
    for device in devices.list() {
        let (major, minor) = device.numbers();
        let _ = writeln!(text, "{major:4} {minor:7} {} {}", device.name(), counts(&device));
    }
    text
}

/// The files of /sys, by their paths.
pub fn sysfs(devices: &BlockDevices) -> Vec<(String, Shown)> {
    let mut found = Vec::new();
    for device in devices.list() {
        let (major, minor) = device.numbers();
        let at = format!("devices/virtual/block/{}", device.name());
        found.push((
            format!("block/{}", device.name()),
            Shown::Link(format!("../{at}")),
        ));
        links(&mut found, &at, device.name(), (major, minor));
        let mut put = |name: &str, text: String| found.push((format!("{at}/{name}"), Shown::Text(text)));
        let read_only = u8::from(device.is_read_only());
        put("dev", format!("{major}:{minor}"));
        put("size", (device.size() / SECTOR).to_string());
        put("ro", read_only.to_string());
        put("removable", "0".to_owned());
        put("range", "16".to_owned());
        put("alignment_offset", "0".to_owned());
        put("stat", counts(&device));
        put("uevent", uevent((major, minor), device.name(), "disk"));
        for (name, value) in [
            ("logical_block_size", "512"),
            ("physical_block_size", "512"),
            ("hw_sector_size", "512"),
            ("minimum_io_size", "512"),
            ("optimal_io_size", "0"),
            ("rotational", "0"),
            ("discard_granularity", "512"),
            ("discard_max_bytes", "2147450880"),
        ] {
            put(&format!("queue/{name}"), value.to_owned());
        }
        if let (Some(binding), Some(disk)) = (device.binding(), device.disk()) {
            put("loop/backing_file", disk.backing().unwrap_or_default());
            put("loop/offset", binding.offset().to_string());
            put("loop/sizelimit", binding.limit().to_string());
            put("loop/autoclear", u8::from(binding.clears_itself()).to_string());
            put("loop/partscan", "0".to_owned());
            put("loop/dio", "0".to_owned());
        }
        for part in device.partitions() {
            let name = device.partition_name(part.number);
            let numbers = (major, minor + part.number);
            let at = format!("{at}/{name}");
            links(&mut found, &at, &name, numbers);
            let mut put = |name: &str, text: String| found.push((format!("{at}/{name}"), Shown::Text(text)));
            put("dev", format!("{}:{}", numbers.0, numbers.1));
            put("partition", part.number.to_string());
            put("start", (part.start / SECTOR).to_string());
            put("size", (part.len / SECTOR).to_string());
            put("ro", read_only.to_string());
            put("uevent", uevent(numbers, &name, "partition"));
        }
    }
    found
}

/// The links to a device by its class and by its number.
fn links(found: &mut Vec<(String, Shown)>, at: &str, name: &str, (major, minor): (u32, u32)) {
    let up = || Shown::Link(format!("../../{at}"));
    found.push((format!("class/block/{name}"), up()));
    found.push((format!("dev/block/{major}:{minor}"), up()));
    let depth = "../".repeat(at.split('/').count());
    found.push((
        format!("{at}/subsystem"),
        Shown::Link(format!("{depth}class/block")),
    ));
}

fn uevent((major, minor): (u32, u32), name: &str, kind: &str) -> String {
    format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE={kind}")
}
