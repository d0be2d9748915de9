//! The runtime's two memory files: the program that the host executes, and its flat image, relocated to where it shall lie.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use goblin::elf::Elf;
use goblin::elf::program_header::{PF_W, PT_LOAD};
use goblin::elf::reloc::R_X86_64_RELATIVE;
use guest_runtime::abi::{IMAGE_HEADER, PAGE, RUNTIME_BASE, RUNTIME_MAX};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The program that the build script made.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-runtime"));

/// `MFD_EXEC` of Linux 6.3.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// The runtime, ready to be executed.
pub(super) struct Image {
    /// The ELF file.
    pub(super) program: OwnedFd,
    /// What its first instructions map.
    pub(super) flat: OwnedFd,
    /// One past the last byte of its code.
    pub(super) text_end: u64,
    /// Where trampolines of patched sites jump to.
    #[allow(dead_code)]
    pub(super) entry: u64,
}

impl Image {
    pub(super) fn new() -> Result<Image, Errno> {
        // The program is part of this very build: that it is as expected is checked by every test that runs a guest.
        let layout = Layout::of(PROGRAM).ok_or(Errno::ENOEXEC)?;
        Ok(Image {
            program: sealed(PROGRAM)?,
            flat: sealed(&layout.bytes)?,
            text_end: RUNTIME_BASE + layout.code_len,
            entry: layout.entry,
        })
    }
}

/// The flat image: code and constants, then data from a page border on.
struct Layout {
    bytes: Vec<u8>,
    code_len: u64,
    entry: u64,
}

impl Layout {
    fn of(program: &[u8]) -> Option<Layout> {
        let elf = Elf::parse(program).ok()?;
        let symbol = |name: &str| {
            let symbol = elf
                .syms
                .iter()
                .find(|s| elf.strtab.get_at(s.st_name) == Some(name))?;
            Some(RUNTIME_BASE + symbol.st_value)
        };
        let loads = || elf.program_headers.iter().filter(|p| p.p_type == PT_LOAD);
        let code_len = loads().find(|p| p.p_flags & PF_W != 0)?.p_vaddr / PAGE * PAGE;
        let end = loads()
            .map(|p| p.p_vaddr + p.p_memsz)
            .max()?
            .next_multiple_of(PAGE);
        if end > RUNTIME_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(end).ok()?];
        for p in loads() {
            let from = program.get(p.file_range())?;
            let to = usize::try_from(p.p_vaddr).ok()?;
            bytes.get_mut(to..to + from.len())?.copy_from_slice(from);
        }
        for relocation in &elf.dynrelas {
            if relocation.r_type != R_X86_64_RELATIVE {
                return None;
            }
            let value = RUNTIME_BASE.checked_add_signed(relocation.r_addend?)?;
            put(&mut bytes, usize::try_from(relocation.r_offset).ok()?, value)?;
        }
        let header = [code_len, end - code_len, symbol("uvm_boot")?];
        for (i, value) in header.into_iter().enumerate() {
            put(&mut bytes, IMAGE_HEADER + i * 8, value)?;
        }
        Some(Layout {
            bytes,
            code_len,
            entry: symbol("uvm_entry")?,
        })
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> Option<()> {
    bytes.get_mut(at..at + 8)?.copy_from_slice(&value.to_ne_bytes());
    Some(())
}

/// A memory file with these contents that nothing can change while stubs map it.
fn sealed(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Hosts from Linux 6.3 on may be set up to want the intent to execute; older ones refuse the flag.
    let fd = match memfd_create(c"uvm-stub", flags | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(c"uvm-stub", flags),
        other => other,
    }?;
    let mut file = File::from(fd);
    file.write_all(bytes)
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
