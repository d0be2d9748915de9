//! What a guest is told of the processor.

use std::sync::OnceLock;

use zerocopy::FromBytes;

use crate::cpu::Model;
use crate::platform::cpuid::Answers;

/// The processor of a guest.
#[derive(Clone, Debug)]
pub struct Processor {
    model: Model,
    khz: OnceLock<u64>,
    /// The host's AT_HWCAP2.
    host_hwcap2: u64,
    /// AT_MINSIGSTKSZ: what a signal frame takes at most, in bytes. The host's, whose processor saves it.
    pub min_signal_stack: u64,
}

impl Processor {
    /// One of this model, on this host.
    pub fn new(model: Model) -> Processor {
        let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
        Processor {
            model,
            khz: OnceLock::new(),
            host_hwcap2: value(&auxv, libc::AT_HWCAP2).unwrap_or(0),
            min_signal_stack: value(&auxv, libc::AT_MINSIGSTKSZ).unwrap_or(2048),
        }
    }

    /// Whether instructions that the host's processor lacks are carried out.
    pub fn emulates_missing(&self) -> bool {
        self.model.emulates_missing()
    }

    /// What CPUID says.
    pub fn answers(&self) -> &Answers {
        self.model.answers()
    }

    /// What /proc/cpuinfo says.
    pub fn cpuinfo(&self) -> &str {
        self.model.cpuinfo()
    }

    /// Its speed as /proc/cpuinfo has it, in kHz.
    pub fn khz(&self) -> u64 {
        *self.khz.get_or_init(|| khz(self.cpuinfo()).unwrap_or(1_000_000))
    }

    /// AT_HWCAP: CPUID 1 EDX.
    pub fn hwcap(&self) -> u64 {
        self.model.hwcap()
    }

    /// AT_HWCAP2.
    pub fn hwcap2(&self) -> u64 {
        self.model.hwcap2(self.host_hwcap2)
    }
}

fn value(auxv: &[u8], key: u64) -> Option<u64> {
    auxv.chunks_exact(16)
        .filter_map(|pair| <[u64; 2]>::read_from_bytes(pair).ok())
        .find(|pair| pair[0] == key)
        .map(|pair| pair[1])
}

/// Of `cpu MHz`, a decimal number.
fn khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (whole, fraction) = line.split_once(':')?.1.trim().split_once('.')?;
    let thousandths = format!("{fraction:0<3}");
    let khz = whole.parse::<u64>().ok()?.checked_mul(1000)? + thousandths.get(..3)?.parse::<u64>().ok()?;
    (khz > 0).then_some(khz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Choice;

    #[test]
    fn this_host_says_something() {
        let processor = Processor::new(Model::here(&Choice::default(), 1, false).unwrap());
        assert!(processor.hwcap() & 1 << 26 != 0, "{processor:?}");
        assert!(processor.min_signal_stack >= 512, "{processor:?}");
    }

    #[test]
    fn the_speed_is_read_from_the_text() {
        assert_eq!(khz("processor\t: 0\ncpu MHz\t\t: 2799.998\n"), Some(2_799_998));
        assert_eq!(khz("cpu MHz : 3000.5\n"), Some(3_000_500));
        assert_eq!(khz("cpu MHz : fast\n"), None);
        assert_eq!(khz(""), None);
    }
}
