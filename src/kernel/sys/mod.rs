//! The system as a whole: names, randomness, what needs no subsystem of its own.

mod processor;
mod random;
mod syscalls;

pub use processor::Processor;
pub use random::{Generator, Random};
pub(in crate::kernel) use syscalls::dispatch;

/// Kernel release, as uname(2) tells it.
pub const RELEASE: &str = "6.18.0-uvm";
/// Kernel version, as uname(2) tells it.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC uvm";

/// What a guest is told about the machine it runs on.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Identity of this boot, a UUID.
    pub boot_id: String,
    /// Whether nothing may be told that changes by itself.
    pub steady: bool,
}

impl Hardware {
    /// The machine that uvm runs on, with so many CPUs.
    pub fn read(cpus: u32, random: &Random) -> Hardware {
        let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
        Hardware {
            cpus,
            memory,
            boot_id: random.uuid(),
            steady: random.is_seeded(),
        }
    }

    /// Memory that programs can have, the host's caches included, in bytes.
    pub fn free_memory(&self) -> u64 {
        if self.steady {
            return self.memory / 2;
        }
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()?
                .checked_mul(1024)
        });
        let free = || nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_unused());
        available.unwrap_or_else(free).min(self.memory)
    }
}
