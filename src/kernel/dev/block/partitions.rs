//! Partition tables: the PC's (MBR), with logical partitions, and GPT.

use super::{Disk, PARTITIONS, SECTOR};
use crate::kernel::stop::SysResult;

/// A part of a disk that is a device of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// From 1 on.
    pub(super) number: u32,
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// Bytes.
    pub(super) len: u64,
}

/// Bytes of a table's sector that are looked at.
type Sector = [u8; SECTOR as usize];

fn sector(disk: &dyn Disk, number: u64) -> SysResult<Option<Sector>> {
    let mut bytes = [0; SECTOR as usize];
    let at = number.checked_mul(SECTOR);
    match at.filter(|at| at.checked_add(SECTOR).is_some_and(|end| end <= disk.size())) {
        Some(at) => disk.read(&mut bytes, at).map(|()| Some(bytes)),
        None => Ok(None),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u64::from(u32::from_le_bytes(found.copied().unwrap_or_default()))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    word(bytes, at) | word(bytes, at + 4) << 32
}

/// The partitions of a disk; none if it has no table.
pub(super) fn read(disk: &dyn Disk) -> SysResult<Vec<Partition>> {
    let mut found = Found {
        size: disk.size(),
        list: Vec::new(),
    };
    let Some(first) = sector(disk, 0)? else {
        return Ok(found.list);
    };
    let rows = rows(&first);
    // The mark alone is also that of a boot sector.
    if first[510..] != [0x55, 0xaa] || rows.iter().any(|row| row.flag & 0x7f != 0) {
        return Ok(found.list);
    }
    const GPT: u8 = 0xee;
    if rows.iter().any(|row| row.kind == GPT) {
        gpt(disk, &mut found)?;
        return Ok(found.list);
    }
    for (number, row) in (1..).zip(&rows) {
        // Of what only holds others no more is shown than a boot loader needs.
        let len = if row.is_extended() {
            row.len.min(2)
        } else {
            row.len
        };
        found.add(number, row.start, len);
    }
    if let Some(extended) = rows.iter().find(|row| row.is_extended()) {
        logical(disk, extended.start, &mut found)?;
    }
    Ok(found.list)
}

struct Found {
    size: u64,
    list: Vec<Partition>,
}

impl Found {
    /// Add one that is there at all, in sectors.
    fn add(&mut self, number: u32, start: u64, len: u64) {
        let (Some(start), Some(len)) = (start.checked_mul(SECTOR), len.checked_mul(SECTOR)) else {
            return;
        };
        let fits = start.checked_add(len).is_some_and(|end| end <= self.size);
        if start > 0 && len > 0 && fits && number < PARTITIONS {
            self.list.push(Partition { number, start, len });
        }
    }
}

/// A row of an MBR, in sectors.
struct Row {
    flag: u8,
    kind: u8,
    start: u64,
    len: u64,
}

impl Row {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x5 | 0xf | 0x85)
    }
}

fn rows(sector: &Sector) -> [Row; 4] {
    [0, 1, 2, 3].map(|row| {
        let bytes = &sector[446 + row * 16..462 + row * 16];
        let kind = bytes[4];
        Row {
            flag: bytes[0],
            kind,
            start: word(bytes, 8),
            len: if kind == 0 { 0 } else { word(bytes, 12) },
        }
    })
}

/// Logical partitions: tables of one row, each with a second one that leads to the next.
fn logical(disk: &dyn Disk, extended: u64, found: &mut Found) -> SysResult<()> {
    let mut at = extended;
    for number in 5..PARTITIONS {
        let Some(table) = sector(disk, at)?.filter(|table| table[510..] == [0x55, 0xaa]) else {
            break;
        };
        let rows = rows(&table);
        found.add(number, at + rows[0].start, rows[0].len);
        if !rows[1].is_extended() || rows[1].len == 0 {
            break;
        }
        at = extended + rows[1].start;
    }
    Ok(())
}

fn gpt(disk: &dyn Disk, found: &mut Found) -> SysResult<()> {
    let Some(header) = sector(disk, 1)?.filter(|header| header.starts_with(b"EFI PART")) else {
        return Ok(());
    };
    let (rows, count, size) = (long(&header, 72), word(&header, 80), word(&header, 84));
    if !(128..=4096).contains(&size) {
        return Ok(());
    }
    for (number, row) in (1..PARTITIONS).zip(0..count) {
        let at = rows.checked_mul(SECTOR).and_then(|at| at.checked_add(row * size));
        let Some(at) = at.filter(|at| at.checked_add(128).is_some_and(|end| end <= disk.size())) else {
            break;
        };
        let mut row = [0; 48];
        disk.read(&mut row, at)?;
        let (first, last) = (long(&row, 32), long(&row, 40));
        if row[..16] != [0; 16]
            && let Some(len) = last.checked_sub(first).and_then(|len| len.checked_add(1))
        {
            found.add(number, first, len);
        }
    }
    Ok(())
}
