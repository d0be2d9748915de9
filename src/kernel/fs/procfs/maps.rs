//! /proc/PID/maps and its kin: the host's map of the address space under the guest's names.

use std::fmt::Write;

use super::Found;
use crate::kernel::mm::MmState;
use crate::kernel::stop::Errno;
use crate::kernel::time::Vdso;
use crate::platform::{Mapping, MappingUsage, Prot};

/// Where names in maps begin.
const NAME_COLUMN: usize = 73;

fn kib(bytes: u64) -> u64 {
    bytes / 1024
}

/// The name of a mapping: a path, or what the kernel calls it.
fn name(found: &Found, state: &MmState, mapping: &Mapping) -> (Option<(u64, u64)>, Vec<u8>) {
    if let Some(path) = mapping.file.and_then(|key| state.files.get(key)) {
        let id = path
            .inode()
            .metadata()
            .map(|m| (m.dev, m.ino))
            .unwrap_or_default();
        return (Some(id), path.text(&found.kernel.vfs.mounts.root()).shown());
    }
    if let Some(vdso) = found.kernel.clock.vdso()
        && mapping.file == Some(vdso.file().key())
    {
        return (None, Vdso::name(mapping.offset).to_vec());
    }
    let holds = |address: u64| mapping.start < address && address <= mapping.end;
    let name: &[u8] = if holds(state.stack_top) {
        b"[stack]"
    } else if state.brk > state.brk_start && mapping.start < state.brk && mapping.end > state.brk_start {
        b"[heap]"
    } else if mapping.shared {
        b"/dev/zero (deleted)"
    } else {
        b""
    };
    (None, name.to_vec())
}

fn line(found: &Found, state: &MmState, mapping: &Mapping) -> Vec<u8> {
    let flag = |prot: Prot, letter: char| if mapping.prot.contains(prot) { letter } else { '-' };
    let (id, name) = name(found, state, mapping);
    let (dev, ino) = id.unwrap_or_default();
    let mut line = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino} ",
        mapping.start,
        mapping.end,
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXEC, 'x'),
        if mapping.shared { 's' } else { 'p' },
        if id.is_some() { mapping.offset } else { 0 },
        libc::major(dev),
        libc::minor(dev),
    )
    .into_bytes();
    if !name.is_empty() {
        line.resize(line.len().max(NAME_COLUMN), b' ');
        line.extend(name);
    }
    line.push(b'\n');
    line
}

/// maps.
pub(super) fn maps(found: &Found) -> Result<Vec<u8>, Errno> {
    let mm = found.task()?.mm();
    let mappings = mm.space.mappings()?;
    let state = mm.state.lock().clone();
    Ok(mappings.iter().flat_map(|m| line(found, &state, m)).collect())
}

/// smaps.
pub(super) fn smaps(found: &Found) -> Result<Vec<u8>, Errno> {
    let mm = found.task()?.mm();
    let mappings = mm.space.mappings()?;
    let usage = mm.space.mapping_usage()?;
    let state = mm.state.lock().clone();
    let mut text = Vec::new();
    for (mapping, usage) in mappings.iter().zip(usage) {
        text.extend(line(found, &state, mapping));
        text.extend(counters(mapping.end - mapping.start, &usage, true).into_bytes());
        text.extend_from_slice(b"VmFlags: rd wr mr mw me ac\n");
    }
    Ok(text)
}

/// smaps_rollup.
pub(super) fn rollup(found: &Found) -> Result<Vec<u8>, Errno> {
    let mm = found.task()?.mm();
    let mappings = mm.space.mappings()?;
    let sum = mm
        .space
        .mapping_usage()?
        .iter()
        .fold(MappingUsage::default(), |a, b| MappingUsage {
            rss: a.rss + b.rss,
            pss: a.pss + b.pss,
            shared_clean: a.shared_clean + b.shared_clean,
            shared_dirty: a.shared_dirty + b.shared_dirty,
            private_clean: a.private_clean + b.private_clean,
            private_dirty: a.private_dirty + b.private_dirty,
            referenced: a.referenced + b.referenced,
            anonymous: a.anonymous + b.anonymous,
            swap: a.swap + b.swap,
        });
    let start = mappings.first().map_or(0, |m| m.start);
    let end = mappings.last().map_or(0, |m| m.end);
    let head = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    let mut text = format!("{head:<NAME_COLUMN$}[rollup]\n");
    text += &counters(0, &sum, false);
    Ok(text.into_bytes())
}

fn counters(size: u64, usage: &MappingUsage, with_size: bool) -> String {
    let mut text = String::new();
    let mut put = |name: &str, bytes: u64| {
        let _ = writeln!(text, "{:<16}{:>8} kB", format!("{name}:"), kib(bytes));
    };
    if with_size {
        put("Size", size);
        put("KernelPageSize", 4096);
        put("MMUPageSize", 4096);
    }
    put("Rss", usage.rss);
    put("Pss", usage.pss);
    put("Shared_Clean", usage.shared_clean);
    put("Shared_Dirty", usage.shared_dirty);
    put("Private_Clean", usage.private_clean);
    put("Private_Dirty", usage.private_dirty);
    put("Referenced", usage.referenced);
    put("Anonymous", usage.anonymous);
    put("LazyFree", 0);
    put("AnonHugePages", 0);
    put("Swap", usage.swap);
    put("SwapPss", 0);
    put("Locked", 0);
    text
}
