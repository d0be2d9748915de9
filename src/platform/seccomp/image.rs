//! The runtime's two memory files: the program that the host executes, and its flat image, relocated to where it shall lie.

use std::ops::Range;
use std::os::fd::OwnedFd;

use goblin::elf::Elf;
use goblin::elf::program_header::{PF_W, PT_LOAD};
use goblin::elf::reloc::R_X86_64_RELATIVE;
use guest_runtime::abi::{IMAGE_HEADER, PAGE, RUNTIME_BASE, RUNTIME_MAX, VDSO_HEADER, VDSO_PARTS};
use nix::errno::Errno;

use super::host_vdso::HostVdso;
use super::patch::Entries;
use crate::platform::program;

/// The program that the build script made.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-runtime"));

/// The runtime, ready to be executed.
pub(super) struct Image {
    /// The ELF file.
    pub(super) program: OwnedFd,
    /// What its first instructions map.
    pub(super) flat: OwnedFd,
    /// One past the last byte of its code.
    pub(super) text_end: u64,
    /// Where trampolines of patched sites jump to.
    pub(super) entries: Entries,
}

/// Where the code lies in every guest address space; nothing if the program is not as it should be.
pub(super) fn text() -> Range<u64> {
    let code_len = Layout::of(PROGRAM).map_or(0, |layout| layout.code_len);
    RUNTIME_BASE..RUNTIME_BASE + code_len
}

impl Image {
    /// The first stub is to keep the host's vDSO if it is `vdso`.
    pub(super) fn new(vdso: Option<&HostVdso>) -> Result<Image, Errno> {
        // The program is part of this very build: that it is as expected is checked by every test that runs a guest.
        let mut layout = Layout::of(PROGRAM).ok_or(Errno::ENOEXEC)?;
        layout
            .put_parts(vdso.map_or(&[], |vdso| &vdso.parts))
            .ok_or(Errno::ENOEXEC)?;
        Ok(Image {
            program: program::sealed(c"uvm-stub", PROGRAM)?,
            flat: program::sealed(c"uvm-stub", &layout.bytes)?,
            text_end: RUNTIME_BASE + layout.code_len,
            entries: layout.entries,
        })
    }
}

/// The flat image: code and constants, then data from a page border on.
struct Layout {
    bytes: Vec<u8>,
    code_len: u64,
    entries: Entries,
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
        // Program headers, from there on, are of no more use.
        let header = elf.header;
        let headers_end = header.e_phoff + u64::from(header.e_phentsize) * u64::from(header.e_phnum);
        if header.e_phoff != VDSO_HEADER as u64 || headers_end < (VDSO_HEADER + 8 + VDSO_PARTS * 16) as u64 {
            return None;
        }
        Some(Layout {
            bytes,
            code_len,
            entries: Entries {
                syscall: symbol("uvm_entry")?,
                cpuid: symbol("uvm_cpuid_entry")?,
            },
        })
    }

    /// Say what the host's vDSO consists of.
    fn put_parts(&mut self, parts: &[(i64, u64)]) -> Option<()> {
        let words = parts.iter().flat_map(|&(at, len)| [at.cast_unsigned(), len]);
        for (i, word) in std::iter::once(parts.len() as u64).chain(words).enumerate() {
            put(&mut self.bytes, VDSO_HEADER + i * 8, word)?;
        }
        Some(())
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> Option<()> {
    bytes.get_mut(at..at + 8)?.copy_from_slice(&value.to_ne_bytes());
    Some(())
}
