//! What a guest is told of the processor.

use zerocopy::FromBytes;

use crate::cpu::Model;
use crate::platform::cpuid::Answers;

/// The processor of a guest.
#[derive(Clone, Debug)]
pub struct Processor {
    model: Model,
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
}
