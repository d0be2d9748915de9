//! Small programs for stubs: static ELF files of one page, in sealed executable memory files.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::PAGE_SIZE;

/// Where the page of [`one_page`] is loaded.
pub(super) const LOAD_ADDR: u64 = 0x40_0000;

/// Where in the page the code stands.
pub(super) const CODE_OFFSET: u64 = 0x100;

/// `MFD_EXEC` of Linux 6.3.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;

/// Make an executable file of these bytes. It is sealed, so that nothing can change it while stubs map it.
pub(super) fn sealed(name: &CStr, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let mut file = File::from(memfd(name)?);
    file.write_all(bytes)
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// A memory file that can be sealed and mapped for execution.
pub(super) fn memfd(name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Hosts from Linux 6.3 on may be set up to want the intent to execute; older ones refuse the flag.
    match memfd_create(name, flags | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    }
}

/// A static ELF file of one page with a little code, which begins `entry` bytes into it.
pub(super) fn one_page(code: &[u8], entry: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE_SIZE as usize);
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 62] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&1u32.to_le_bytes());
    for word in [LOAD_ADDR + CODE_OFFSET + entry, EHDR_LEN as u64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for half in [EHDR_LEN as u16, PHDR_LEN as u16, 2, 0, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    program_header(&mut out, PT_LOAD, PF_R | PF_X, LOAD_ADDR, PAGE_SIZE);
    // Without this header old hosts make every readable mapping executable.
    program_header(&mut out, PT_GNU_STACK, PF_R | PF_W, 0, 0);
    out.resize(CODE_OFFSET as usize, 0);
    out.extend_from_slice(code);
    out.resize(PAGE_SIZE as usize, 0xcc);
    out
}

fn program_header(out: &mut Vec<u8>, kind: u32, flags: u32, addr: u64, len: u64) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for word in [0, addr, addr, len, len, PAGE_SIZE] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}
