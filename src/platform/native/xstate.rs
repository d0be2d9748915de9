//! The extended state in XSAVE format as guests have it: its size on this host, and which images the CPU accepts.

use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::ops::Range;
use std::sync::OnceLock;

use nix::errno::Errno;

/// Where the header is, and its length.
const HEADER: usize = 512;
/// The least an image has: the FXSAVE area and the header.
const MINIMUM: usize = 576;
const MXCSR: usize = 24;
/// What the host's kernel keeps for itself in the FXSAVE area, and where the mask of features is in what it shows to tracers.
const RESERVED: Range<usize> = 464..512;
/// Features that need permission first (AMX); the platform's own code saves and loads without it.
const NEED_PERMISSION: u64 = 3 << 17;
/// The one of them that there is no room for without permission.
const TILES: u32 = 18;
/// CPUID leaf of the extended state.
const XSTATE: u32 = 0xd;

struct Host {
    size: usize,
    features: u64,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        // SAFETY: the host's kernel uses XSAVE for user space whenever the CPU has it, and this platform needs FSGSBASE, which
        // is much younger.
        let features = unsafe { features() } & !(1 << TILES);
        let others = (2..63).filter(|n| features & 1 << n != 0);
        let ends = others.map(|n| {
            let component = __cpuid_count(XSTATE, n);
            component.ebx as usize + component.eax as usize
        });
        Host {
            size: ends.max().unwrap_or(0).max(MINIMUM),
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

/// An image as the host gave it, made as guests have it: of their size, with the mask of their features where the host has it in what
/// it shows to tracers.
pub(in crate::platform) fn shown(mut image: Vec<u8>) -> Vec<u8> {
    image.truncate(size());
    if let Some(reserved) = image.get_mut(RESERVED) {
        reserved.fill(0);
        reserved[..8].copy_from_slice(&host().features.to_ne_bytes());
    }
    image
}

/// Bytes of an image with all features.
pub(in crate::platform) fn size() -> usize {
    host().size
}

/// `image` at full size, if the CPU would load it. Features left out are in their initial state.
pub(in crate::platform) fn checked(image: &[u8]) -> Result<Vec<u8>, Errno> {
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
