//! A minimal sysfs: what programs ask about CPUs, memory and the classes of devices.

use std::sync::{Arc, Weak};

use super::pseudo::{Entry, PseudoDir, PseudoFs, PseudoLink};
use super::{FileSystem, FileType, Link};
use crate::kernel::Kernel;
use crate::kernel::dev::block::{self, Shown};
use crate::kernel::dev::{rtc, tty};
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;

/// Magic of statfs(2).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The file system of a guest, with device number `dev`.
pub fn new(kernel: &Arc<Kernel>, dev: u64) -> Arc<dyn FileSystem> {
    let root = Dir {
        kernel: Arc::downgrade(kernel),
        prefix: String::new(),
    };
    PseudoFs::new("sysfs", SYSFS_MAGIC, dev, kernel.clock.realtime(), root)
}

/// What a file is made from.
#[derive(Clone, Copy)]
struct Cpus {
    /// How many there are.
    count: u32,
    /// The one that it is of, where there is a file for each.
    this: u32,
}

type Make = fn(Cpus) -> String;

fn cpu_range(cpus: Cpus) -> String {
    if cpus.count > 1 {
        format!("0-{}", cpus.count - 1)
    } else {
        "0".to_owned()
    }
}

fn this_cpu(cpus: Cpus) -> String {
    cpus.this.to_string()
}

/// CPUs as a bit map in the host kernel's writing: the highest first, 32 of `count` between commas.
fn map_of(count: u32, has: impl Fn(u32) -> bool) -> String {
    let words = (0..count.div_ceil(32)).rev().map(|word| {
        let first = word * 32;
        let bits = (0..32u32.min(count - first)).filter(|bit| has(first + bit));
        let bits = bits.fold(0u32, |bits, bit| bits | 1 << bit);
        let width = (count - first).min(32).div_ceil(4) as usize;
        format!("{bits:0width$x}")
    });
    words.collect::<Vec<_>>().join(",")
}

fn cpu_map(cpus: Cpus) -> String {
    map_of(cpus.count, |_| true)
}

fn this_map(cpus: Cpus) -> String {
    map_of(cpus.count, |cpu| cpu == cpus.this)
}

/// Every file by its path, made from the number of CPUs; `%` in a path stands for each CPU. A path that ends with a slash
/// is an empty directory.
const FILES: &[(&str, Make)] = &[
    ("block/", |_| String::new()),
    ("bus/", |_| String::new()),
    ("class/block/", |_| String::new()),
    ("class/net/lo/address", |_| "00:00:00:00:00:00".to_owned()),
    ("class/net/lo/broadcast", |_| "00:00:00:00:00:00".to_owned()),
    ("class/net/lo/carrier", |_| "1".to_owned()),
    ("class/net/lo/flags", |_| "0x9".to_owned()),
    ("class/net/lo/ifindex", |_| "1".to_owned()),
    ("class/net/lo/mtu", |_| "65536".to_owned()),
    ("class/net/lo/operstate", |_| "unknown".to_owned()),
    ("class/net/lo/tx_queue_len", |_| "1000".to_owned()),
    ("class/net/lo/type", |_| "772".to_owned()),
    ("dev/block/", |_| String::new()),
    ("devices/system/cpu/cpu%/online", |_| "1".to_owned()),
    ("devices/system/cpu/cpu%/topology/core_cpus", this_map),
    ("devices/system/cpu/cpu%/topology/core_cpus_list", this_cpu),
    ("devices/system/cpu/cpu%/topology/core_id", this_cpu),
    ("devices/system/cpu/cpu%/topology/core_siblings", cpu_map),
    ("devices/system/cpu/cpu%/topology/core_siblings_list", cpu_range),
    ("devices/system/cpu/cpu%/topology/package_cpus", cpu_map),
    ("devices/system/cpu/cpu%/topology/package_cpus_list", cpu_range),
    ("devices/system/cpu/cpu%/topology/physical_package_id", |_| {
        "0".to_owned()
    }),
    ("devices/system/cpu/cpu%/topology/thread_siblings", this_map),
    ("devices/system/cpu/cpu%/topology/thread_siblings_list", this_cpu),
    ("devices/system/cpu/kernel_max", |_| "8191".to_owned()),
    ("devices/system/cpu/offline", |_| String::new()),
    ("devices/system/cpu/online", cpu_range),
    ("devices/system/cpu/possible", cpu_range),
    ("devices/system/cpu/present", cpu_range),
    ("devices/system/node/node0/cpulist", cpu_range),
    ("devices/system/node/node0/cpumap", cpu_map),
    ("devices/system/node/online", |_| "0".to_owned()),
    ("devices/system/node/possible", |_| "0".to_owned()),
    ("firmware/", |_| String::new()),
    ("fs/cgroup/", |_| String::new()),
    ("kernel/mm/transparent_hugepage/enabled", |_| {
        "always [madvise] never".to_owned()
    }),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", |_| {
        "2097152".to_owned()
    }),
    ("module/", |_| String::new()),
    ("power/", |_| String::new()),
];

/// What a name stands for.
enum What {
    Directory,
    /// A file, and the CPU that it is of.
    Made(Make, u32),
    Device(Shown),
}

/// The directory of all files whose paths begin with a prefix.
struct Dir {
    kernel: Weak<Kernel>,
    prefix: String,
}

impl Dir {
    /// Names below the prefix with what they stand for.
    fn below(&self) -> Vec<(String, What)> {
        let Some(kernel) = self.kernel.upgrade() else {
            return Vec::new();
        };
        let mut found: Vec<(String, What)> = Vec::new();
        let mut add = |path: &str, what: What| {
            let Some(rest) = path.strip_prefix(&self.prefix) else {
                return;
            };
            let name = rest.split('/').next().unwrap_or_default();
            if !name.is_empty() && !found.iter().any(|(known, _)| known == name) {
                let is_whole = name.len() == rest.len();
                found.push((name.to_owned(), if is_whole { what } else { What::Directory }));
            }
        };
        for (path, make) in FILES {
            let per_cpu = if path.contains('%') {
                kernel.hardware.cpus
            } else {
                1
            };
            for cpu in 0..per_cpu {
                add(&path.replace('%', &cpu.to_string()), What::Made(*make, cpu));
            }
        }
        let devices = block::sysfs(&kernel.block)
            .into_iter()
            .chain(tty::sysfs(&kernel))
            .chain(rtc::sysfs(&kernel.rtc));
        for (path, shown) in devices {
            add(&path, What::Device(shown));
        }
        found
    }
}

impl PseudoDir for Dir {
    fn list(&self) -> Vec<(String, FileType)> {
        let kind = |what: &What| match what {
            What::Directory => FileType::Directory,
            What::Made(..) | What::Device(Shown::Text(_)) => FileType::Regular,
            What::Device(Shown::Link(_)) => FileType::Symlink,
        };
        self.below()
            .iter()
            .map(|(name, what)| (name.clone(), kind(what)))
            .collect()
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let (_, what) = self.below().into_iter().find(|(known, _)| known == name)?;
        let kernel = self.kernel.clone();
        Some(match what {
            What::Made(make, this) => Entry::text(move || {
                let count = kernel.upgrade().map_or(1, |k| k.hardware.cpus);
                make(Cpus { count, this }) + "\n"
            }),
            What::Device(Shown::Text(text)) => Entry::text(move || format!("{text}\n")),
            What::Device(Shown::Link(target)) => Entry::link(Fixed(target)),
            What::Directory => Entry::dir(Dir {
                kernel,
                prefix: format!("{}{name}/", self.prefix),
            }),
        })
    }
}

/// A link that leads to the same place for all.
struct Fixed(String);

impl PseudoLink for Fixed {
    fn target(&self, _: Option<&Task>) -> Result<Link, Errno> {
        Ok(Link::Text(self.0.clone().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_cpus_are_written_as_linux_writes_them() {
        let shown = |count| {
            (
                cpu_map(Cpus { count, this: 0 }),
                this_map(Cpus { count, this: 1 }),
            )
        };
        assert_eq!(shown(2), ("3".to_owned(), "2".to_owned()));
        assert_eq!(shown(6), ("3f".to_owned(), "02".to_owned()));
        assert_eq!(shown(33), ("1,ffffffff".to_owned(), "0,00000002".to_owned()));
    }
}
