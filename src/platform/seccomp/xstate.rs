//! The extended state in XSAVE format: its size on this host, and which images the CPU accepts.

use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

use nix::errno::Errno;

/// Where the header is, and its length.
const HEADER: usize = 512;
/// The least an image has: the FXSAVE area and the header.
const MINIMUM: usize = 576;
const MXCSR: usize = 24;
/// Features that need permission first (AMX); the platform's own code saves and loads without it.
const NEED_PERMISSION: u64 = 3 << 17;

struct Host {
    size: usize,
    features: u64,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        // SAFETY: the host's kernel uses XSAVE for user space whenever the CPU has it, and this platform needs FSGSBASE, which
        // is much younger.
        let features = unsafe { features() };
        Host {
            size: (__cpuid_count(0xd, 0).ebx as usize).max(MINIMUM),
            features,
        }
    })
}

/// # Safety
/// The CPU and its kernel must support XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn features() -> u64 {
    // SAFETY: register 0 always exists then.
    unsafe { _xgetbv(0) }
}

/// Bytes of an image with all features.
pub(super) fn size() -> usize {
    host().size
}

/// `image` at full size, if the CPU would load it. Features left out are in their initial state.
pub(super) fn checked(image: &[u8]) -> Result<Vec<u8>, Errno> {
    if image.len() < MINIMUM || image.len() > size() {
        return Err(Errno::EINVAL);
    }
    let mut full = image.to_vec();
    full.resize(size(), 0);
    let word = |at: usize| full[at..].first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
    let present = word(HEADER);
    let reserved = (1..8).any(|i| word(HEADER + i * 8) != 0);
    let mxcsr = word(MXCSR) as u32;
    if present & !(host().features & !NEED_PERMISSION) != 0 || reserved || mxcsr & !0xffff != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_the_cpu_would_refuse_are_refused() {
        let good = vec![0; MINIMUM];
        assert_eq!(checked(&good).map(|i| i.len()), Ok(size()));
        for (at, value) in [
            (HEADER, 0x80),
            (HEADER + 7, 0x80),
            (HEADER + 8, 1),
            (HEADER + 63, 1),
            (MXCSR + 2, 1),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            let refused = checked(&bad) == Err(Errno::EINVAL);
            assert!(refused || at == HEADER, "byte {at}");
        }
        assert_eq!(checked(&good[1..]), Err(Errno::EINVAL));
    }
}
