//! The system as a whole: names, randomness, what needs no subsystem of its own.

mod processor;
mod syscalls;

pub use processor::Processor;
pub(in crate::kernel) use syscalls::dispatch;

use super::stop::Errno;

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
    /// Speed of the processor as /proc/cpuinfo has it, in kHz.
    pub khz: u64,
    /// Identity of this boot, a UUID.
    pub boot_id: String,
}

impl Hardware {
    /// The machine that uvm runs on, with so many CPUs and this text in /proc/cpuinfo.
    pub fn read(cpus: u32, cpuinfo: &str) -> Hardware {
        let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
        Hardware {
            cpus,
            memory,
            khz: khz(cpuinfo).unwrap_or(1_000_000),
            boot_id: random_uuid(),
        }
    }

    /// Memory that programs can have, the host's caches included, in bytes.
    pub fn free_memory(&self) -> u64 {
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

/// Of `cpu MHz`, a decimal number.
fn khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (whole, fraction) = line.split_once(':')?.1.trim().split_once('.')?;
    let thousandths = format!("{fraction:0<3}");
    let khz = whole.parse::<u64>().ok()?.checked_mul(1000)? + thousandths.get(..3)?.parse::<u64>().ok()?;
    (khz > 0).then_some(khz)
}

/// Fill with random bytes, the one source of all randomness a guest sees.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Errno> {
    getrandom::fill(bytes).map_err(|_| Errno::EIO)
}

/// Random bytes. Zeros if the host had none, which no Linux this runs on does.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(errno) = fill_random(&mut bytes) {
        tracing::error!(%errno, "the host gives no random numbers");
    }
    bytes
}

/// A random number below `limit`, which is a power of two.
pub fn random_below(limit: u64) -> u64 {
    u64::from_ne_bytes(random_bytes()) & (limit - 1)
}

/// A random UUID (version 4) as text.
pub fn random_uuid() -> String {
    let mut bytes = [0; 16];
    // Without randomness there is still a valid, if not a unique, id.
    let _ = fill_random(&mut bytes);
    let id = u128::from_be_bytes(bytes) & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{id:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_read_from_the_text() {
        assert_eq!(khz("processor\t: 0\ncpu MHz\t\t: 2799.998\n"), Some(2_799_998));
        assert_eq!(khz("cpu MHz : 3000.5\n"), Some(3_000_500));
        assert_eq!(khz("cpu MHz : fast\n"), None);
        assert_eq!(khz(""), None);
    }
}
