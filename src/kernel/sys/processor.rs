//! What a guest is told of the processor, read once at boot.

use zerocopy::FromBytes;

/// What the auxiliary vector of every program says of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// AT_HWCAP: CPUID 1 EDX.
    pub hwcap: u64,
    /// AT_HWCAP2.
    pub hwcap2: u64,
    /// AT_MINSIGSTKSZ: what a signal frame takes at most, in bytes.
    pub min_signal_stack: u64,
}

impl Processor {
    /// Ask the host.
    pub fn read() -> Processor {
        let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
        Processor {
            hwcap: value(&auxv, libc::AT_HWCAP).unwrap_or(0),
            hwcap2: value(&auxv, libc::AT_HWCAP2).unwrap_or(0),
            min_signal_stack: value(&auxv, libc::AT_MINSIGSTKSZ).unwrap_or(2048),
        }
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

    #[test]
    fn this_host_says_something() {
        let processor = Processor::read();
        assert!(processor.hwcap != 0, "{processor:?}");
        assert!(processor.min_signal_stack >= 512, "{processor:?}");
    }
}
