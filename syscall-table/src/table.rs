//! The rows as data, and ways to find one.

use crate::{Answered, Arg, Host, Kind, Level, Ret, Row, Struct, Subsystem};

/// The highest number in the table: file_setattr(2) of Linux 6.17.
pub const NEWEST: u32 = 469;

/// Makes a slice of [`Row`] from the rows of one subsystem.
macro_rules! row_slice {
    ($subsystem:ident [$variant:ident] $($nr:literal $name:ident
        ($($arg:ident: $kind:ident $(($($of:tt)*))?),*) -> $ret:ident $(($ret_set:ident))?,
        $level:ident $(($errno:ident))? $($note:literal)?, $($tail:ident),+;)*
    ) => {
        &[$(Row {
            nr: $nr,
            name: stringify!($name),
            args: {
                const NAMES: &[&str] = &[$(stringify!($arg)),*];
                const ARGS: &[Arg] = &[$(Arg {
                    name: stringify!($arg),
                    kind: row_slice!(@kind NAMES $kind $(($($of)*))?),
                }),*];
                assert!(NAMES.len() <= 6, "a system call has at most six arguments");
                ARGS
            },
            ret: row_slice!(@ret $ret $(($ret_set))?),
            subsystem: Subsystem::$variant,
            level: row_slice!(@level $level $(($errno))? $($note)?),
            blocks: row_slice!(@blocks $($tail),+),
            answered: row_slice!(@answered $($tail),+),
            host: row_slice!(@host $($tail),+),
        }),*]
    };

    (@kind $names:ident Flags($set:ident)) => { Kind::Flags(&crate::flags::$set) };
    (@kind $names:ident Enum($set:ident)) => { Kind::Enum(&crate::flags::$set) };
    (@kind $names:ident In($of:ident)) => { Kind::In(Struct::$of) };
    (@kind $names:ident Out($of:ident)) => { Kind::Out(Struct::$of) };
    (@kind $names:ident InOut($of:ident)) => { Kind::InOut(Struct::$of) };
    (@kind $names:ident $array:ident($of:ident, $count:ident)) => {
        Kind::$array(Struct::$of, index_of($names, stringify!($count)))
    };
    (@kind $names:ident $kind:ident($other:ident)) => { Kind::$kind(index_of($names, stringify!($other))) };
    (@kind $names:ident $kind:ident) => { Kind::$kind };

    (@ret Enum($set:ident)) => { Ret::Enum(&crate::flags::$set) };
    (@ret $ret:ident) => { Ret::$ret };

    (@level full) => { Level::Full };
    (@level partial $note:literal) => { Level::Partial($note) };
    (@level refused($errno:ident) $reason:literal) => {
        Level::Refused { errno: crate::errno::$errno, reason: $reason }
    };

    (@blocks blocks, $($tail:ident),+) => { true };
    (@blocks $($tail:ident),+) => { false };

    (@answered blocks, $($tail:ident),+) => { row_slice!(@answered $($tail),+) };
    (@answered guest $(, $host:ident)?) => { Answered::Guest };
    (@answered native $(, $host:ident)?) => { Answered::Native };
    (@answered kernel $(, $host:ident)?) => { Answered::Kernel };

    (@host blocks, $($tail:ident),+) => { row_slice!(@host $($tail),+) };
    (@host $answered:ident) => { Host::Never };
    (@host $answered:ident, always) => { Host::Always };
    (@host $answered:ident, checked) => { Host::Checked };
    (@host $answered:ident, asked) => { Host::Asked };
}

/// The position of the argument called `name`. A row that refers to an argument it lacks does not compile.
const fn index_of(names: &[&str], name: &str) -> usize {
    let mut index = 0;
    while index < names.len() {
        if equal(names[index].as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("a row refers to an argument that it does not have");
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

const SUBSYSTEMS: [&[Row]; 11] = [
    cpu_rows!(row_slice, Cpu),
    fs_rows!(row_slice, Fs),
    ipc_rows!(row_slice, Ipc),
    mm_rows!(row_slice, Mm),
    net_rows!(row_slice, Net),
    poll_rows!(row_slice, Poll),
    sched_rows!(row_slice, Sched),
    signal_rows!(row_slice, Signal),
    sys_rows!(row_slice, Sys),
    task_rows!(row_slice, Task),
    time_rows!(row_slice, Time),
];

static TABLE: [Option<&Row>; NEWEST as usize + 1] = by_number();

/// Puts every row at its number. Two rows with one number do not compile.
const fn by_number() -> [Option<&'static Row>; NEWEST as usize + 1] {
    let mut table: [Option<&Row>; NEWEST as usize + 1] = [None; NEWEST as usize + 1];
    let mut subsystem = 0;
    while subsystem < SUBSYSTEMS.len() {
        let rows = SUBSYSTEMS[subsystem];
        let mut index = 0;
        while index < rows.len() {
            let nr = rows[index].nr as usize;
            assert!(table[nr].is_none(), "two rows have the same number");
            table[nr] = Some(&rows[index]);
            index += 1;
        }
        subsystem += 1;
    }
    table
}

/// The row of a system call's number, as found in `rax`.
pub fn lookup(nr: u64) -> Option<&'static Row> {
    *TABLE.get(usize::try_from(nr).ok()?)?
}

/// The row of a system call's name.
pub fn by_name(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}

/// All rows in the order of their numbers.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// x86-64 jumps from uprobe(2) to the numbers that all architectures share.
    const UNUSED: core::ops::Range<u32> = 337..424;

    #[test]
    fn every_number_has_a_row() {
        let missing: Vec<u32> = (0..=NEWEST)
            .filter(|nr| !UNUSED.contains(nr) && lookup((*nr).into()).is_none())
            .collect();
        assert_eq!(missing, []);
        assert!(UNUSED.into_iter().all(|nr| lookup(nr.into()).is_none()));
        assert!(lookup(u64::from(NEWEST) + 1).is_none());
        assert!(lookup(u64::MAX).is_none());
    }

    #[test]
    fn rows_come_in_order_and_names_are_unique() {
        let all: Vec<&Row> = rows().collect();
        assert!(all.is_sorted_by_key(|row| row.nr));
        for row in &all {
            assert_eq!(
                by_name(row.name).map(|found| found.nr),
                Some(row.nr),
                "{}",
                row.name
            );
            assert_eq!(lookup(row.nr.into()).map(|found| found.name), Some(row.name));
        }
    }

    #[test]
    fn names_are_those_of_the_headers() {
        let Ok(header) = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") else {
            return;
        };
        let mut compared = 0;
        for line in header.lines() {
            let Some(definition) = line.strip_prefix("#define __NR_") else {
                continue;
            };
            let Some((name, nr)) = definition.split_once(' ') else {
                continue;
            };
            let nr: u64 = nr.trim().parse().expect("a number");
            if nr <= NEWEST.into() {
                assert_eq!(lookup(nr).map(|row| row.name), Some(name), "{nr}");
                compared += 1;
            }
        }
        assert!(compared > 350, "{compared}");
    }

    #[test]
    fn arguments_refer_to_others_that_can_be_referred_to() {
        for row in rows() {
            for (index, arg) in row.args.iter().enumerate() {
                let Some(other) = arg.kind.refers_to() else {
                    continue;
                };
                assert_ne!(other, index, "{}", row.name);
                let kind = row.args[other].kind;
                let fits = match arg.kind {
                    Kind::By(_) => !kind.is_output(),
                    Kind::OutBufAt(_) | Kind::OutSockAddr(_) => kind == Kind::InOut(Struct::Int),
                    _ => matches!(kind, Kind::Size | Kind::Int | Kind::Uint),
                };
                assert!(
                    fits,
                    "{}: {} refers to {}",
                    row.name, arg.name, row.args[other].name
                );
            }
        }
    }

    #[test]
    fn refusals_have_a_reason_and_an_errno() {
        for row in rows() {
            match row.level {
                Level::Full => {}
                Level::Partial(note) => assert!(!note.is_empty(), "{}", row.name),
                Level::Refused { errno, reason } => {
                    assert!(!reason.is_empty() && (1..134).contains(&errno), "{}", row.name);
                }
            }
        }
    }
}
