//! The host's vDSO as this very process has it. Stubs get the same, and the first one moves theirs to a place of ours.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;
use guest_runtime::abi::{HOST_VDSO, HOST_VDSO_LEN, VDSO_PARTS};

/// Names of the host's mappings that belong to it, in its memory maps.
const NAMES: [&str; 3] = ["[vdso]", "[vvar]", "[vvar_vclock]"];

/// What it consists of.
pub(super) struct HostVdso {
    /// Distance from the first byte of its text, and length, of each mapping; the text is the last.
    pub(super) parts: Vec<(i64, u64)>,
    /// Where stubs have its `clock_gettime`.
    pub(super) clock_gettime: u64,
}

impl HostVdso {
    /// None where the host has none, shows it otherwise than expected, or lets nobody look.
    pub(super) fn find() -> Option<HostVdso> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let (text, parts) = parts(&maps)?;
        let mut image = vec![0; usize::try_from(text.1).ok()?];
        let memory = File::open("/proc/self/mem").ok()?;
        memory.read_exact_at(&mut image, text.0).ok()?;
        Some(HostVdso {
            parts,
            clock_gettime: HOST_VDSO.checked_add(function(&image, "__vdso_clock_gettime")?)?,
        })
    }
}

/// The address and length of the text, and the parts.
type Found = ((u64, u64), Vec<(i64, u64)>);

fn parts(maps: &str) -> Option<Found> {
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, name) = (fields.next()?, fields.nth(4));
        if let Some(name) = name.filter(|name| NAMES.contains(name)) {
            let (start, end) = range.split_once('-')?;
            let (start, end) = (hex(start)?, hex(end)?);
            all.push((start, end.checked_sub(start)?, name));
        }
    }
    // Last: it is there only when all is.
    all.sort_by_key(|(_, _, name)| *name == NAMES[0]);
    let &(text, len, _) = all.iter().find(|(_, _, name)| *name == NAMES[0])?;
    let relative = |&(start, len, _): &(u64, u64, &str)| (start.wrapping_sub(text).cast_signed(), len);
    let parts: Vec<(i64, u64)> = all.iter().map(relative).collect();
    let half = HOST_VDSO_LEN / 2;
    let near = |&(at, len): &(i64, u64)| at.unsigned_abs() <= half && len <= half - at.unsigned_abs();
    (parts.len() <= VDSO_PARTS && parts.iter().all(near)).then_some(((text, len), parts))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Distance of a function from the first byte of the image.
fn function(image: &[u8], name: &str) -> Option<u64> {
    let elf = Elf::parse(image).ok()?;
    let symbol = elf
        .dynsyms
        .iter()
        .find(|s| elf.dynstrtab.get_at(s.st_name) == Some(name))?;
    let first = elf.program_headers.iter().find(|p| p.p_type == PT_LOAD)?;
    let at = symbol.st_value.checked_sub(first.p_vaddr)?;
    (at < image.len() as u64).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_it_is_told_by_name() {
        let maps = "\
5500-5600 r-xp 00000000 08:01 77 /bin/x [vdso]
7fa5318d7000-7fa5318db000 r--p 00000000 00:00 0                          [vvar]
7fa5318db000-7fa5318dd000 r--p 00000000 00:00 0                          [vvar_vclock]
7fa5318dd000-7fa5318df000 r-xp 00000000 00:00 0                          [vdso]
7fa5318e0000-7fa5318e1000 rw-p 00000000 00:00 0 
";
        let want = vec![(-0x6000, 0x4000), (-0x2000, 0x2000), (0, 0x2000)];
        assert_eq!(parts(maps), Some(((0x7fa5_318d_d000, 0x2000), want)));
        assert_eq!(parts("1000-2000 r--p 0 0:0 0 [vvar]\n"), None);
        let far = "1000-2000 r--p 0 0:0 0 [vvar]\n100000000-100001000 r-xp 0 0:0 0 [vdso]\n";
        assert_eq!(parts(far), None);
    }

    #[test]
    fn nonsense_has_no_functions() {
        assert_eq!(function(b"\x7fELF nonsense", "__vdso_clock_gettime"), None);
        assert_eq!(function(&[], "__vdso_clock_gettime"), None);
    }
}
