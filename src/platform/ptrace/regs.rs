//! General registers: what the guest may have, and writing back what changed.

use std::mem::offset_of;

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::inject::{USER_CS, USER_DS, USER32_CS};
use super::tracee::Tracee;
use crate::platform::{HOST_END, Regs};

/// Offsets of the registers that [`Tracee::set_general`] leaves out.
const SEGMENTS: [usize; 6] = [
    offset_of!(Regs, fs_base),
    offset_of!(Regs, gs_base),
    offset_of!(Regs, ds),
    offset_of!(Regs, es),
    offset_of!(Regs, fs),
    offset_of!(Regs, gs),
];

/// The registers of a tracee. One in a 32-bit code segment leaves that, as the host would else take register sets of another layout;
/// what is returned second is what it then has.
pub(super) fn load(tracee: Tracee) -> Result<(Regs, Regs), Errno> {
    let regs = tracee.regs()?;
    let mut have = regs;
    if regs.cs == USER32_CS {
        have.cs = USER_CS;
        tracee.poke_user(offset_of!(Regs, cs), USER_CS)?;
    }
    Ok((regs, have))
}

/// Make `want` the tracee's registers, given that it has `have`, and update `have`.
pub(super) fn write_back(tracee: Tracee, have: &mut Regs, want: &Regs) -> Result<(), Errno> {
    let want = sanitized(want, have);
    let general = offset_of!(Regs, fs_base);
    if want.as_bytes()[..general] != have.as_bytes()[..general] {
        tracee.set_general(&want)?;
    }
    for offset in SEGMENTS {
        let value = word(&want, offset);
        if value != word(have, offset) {
            tracee.poke_user(offset, value)?;
        }
    }
    *have = want;
    Ok(())
}

fn word(regs: &Regs, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&regs.as_bytes()[offset..offset + 8]);
    u64::from_ne_bytes(bytes)
}

/// What the host accepts of `want`: user segments only. It masks privileged flags itself, and turns a non-canonical `rip`
/// or `rsp` into a fault of the guest.
fn sanitized(want: &Regs, have: &Regs) -> Regs {
    let base = |want: u64, have: u64| {
        // A guest can load any canonical base by wrfsbase; keeping that one is fine.
        if want < HOST_END || want == have { want } else { 0 }
    };
    let selector = |want: u64, have: u64| {
        if want == have || want & 3 == 3 {
            want & 0xffff
        } else {
            0
        }
    };
    Regs {
        // Never in a syscall as far as the host knows: it must not restart one.
        orig_rax: u64::MAX,
        cs: if want.cs == USER32_CS { USER32_CS } else { USER_CS },
        ss: USER_DS,
        fs_base: base(want.fs_base, have.fs_base),
        gs_base: base(want.gs_base, have.gs_base),
        ds: selector(want.ds, have.ds),
        es: selector(want.es, have.es),
        fs: selector(want.fs, have.fs),
        gs: selector(want.gs, have.gs),
        ..*want
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_segments_become_user_ones() {
        let want = Regs {
            cs: 0x10,
            ss: 0x18,
            ds: 0x10,
            es: 0x2b,
            fs_base: u64::MAX,
            gs_base: 0x1234,
            ..Regs::default()
        };
        let got = sanitized(&want, &Regs::default());
        assert_eq!((got.cs, got.ss, got.ds, got.es), (USER_CS, USER_DS, 0, 0x2b));
        assert_eq!((got.fs_base, got.gs_base, got.orig_rax), (0, 0x1234, u64::MAX));
    }

    #[test]
    fn a_base_the_guest_loaded_itself_stays() {
        let have = Regs {
            fs_base: 0xffff_8000_0000_0000,
            ..Regs::default()
        };
        assert_eq!(sanitized(&have, &have).fs_base, have.fs_base);
    }
}
