//! Which arguments of each system call point to memory that the guest runtime marshals: see its `marshal` module.

use std::fmt::Write;

use syscall_table::{Arg, Kind, Level, NEWEST, Row, Struct, lookup};

/// A thread that clone(2) makes may read its id, where its maker is told it, before its maker has gone on.
const LEFT_OUT: [&str; 1] = ["clone"];

/// For [`entry`]: an argument that no other one counts.
const ALONE: Option<usize> = None;

/// The source of the table that the runtime includes.
pub fn table() -> String {
    let (mut starts, mut arguments) = (Vec::new(), Vec::new());
    for number in 0..=NEWEST {
        starts.push(arguments.len());
        if let Some(row) = lookup(u64::from(number)) {
            arguments.extend(row_entries(row));
        }
    }
    starts.push(arguments.len());
    let mut source = format!("static STARTS: [u16; {}] = {starts:?};\n", starts.len());
    let _ = writeln!(source, "static ARGUMENTS: [Argument; {}] = [", arguments.len());
    for argument in arguments {
        let _ = writeln!(source, "    {argument},");
    }
    source + "];\n"
}

fn row_entries(row: &Row) -> Vec<String> {
    if matches!(row.level, Level::Refused { .. }) || LEFT_OUT.contains(&row.name) {
        return Vec::new();
    }
    let entries = row.args.iter().enumerate();
    entries
        .filter_map(|(index, arg)| entry(row, index, arg))
        .collect()
}

/// The entry of an argument, if it points to memory that can be marshalled.
fn entry(row: &Row, index: usize, arg: &Arg) -> Option<String> {
    let of = |structure: Struct| (0, structure.size());
    let (how, other, (base, size)) = match arg.kind {
        Kind::Path | Kind::Str => ("String", ALONE, (0, 0)),
        Kind::InBuf(n) | Kind::InSockAddr(n) | Kind::InCpuSet(n) => ("Read", Some(n), (0, 1)),
        Kind::OutBuf(n) | Kind::OutDirents(n) | Kind::OutDirents64(n) | Kind::OutCpuSet(n) => {
            ("Write", Some(n), (0, 1))
        }
        // A System V message begins with its type, which is not counted.
        Kind::InMessage(n) => ("Read", Some(n), (8, 1)),
        Kind::OutMessage(n) => ("Write", Some(n), (8, 1)),
        Kind::OutBufAt(n) | Kind::OutSockAddr(n) => ("WriteAt", Some(n), (0, 0)),
        Kind::InIovec(n) => ("ReadVectors", Some(n), (0, 0)),
        Kind::OutIovec(n) => ("WriteVectors", Some(n), (0, 0)),
        Kind::FdSet(n) => ("UpdateBits", Some(n), (0, 0)),
        Kind::In(Struct::Msghdr) => ("Send", ALONE, (0, 0)),
        Kind::InOut(Struct::Msghdr) => ("Receive", ALONE, (0, 0)),
        Kind::In(Struct::SigSetArg) => ("SignalSet", ALONE, (0, 0)),
        Kind::In(structure) => ("Read", ALONE, (structure.size(), 0)),
        Kind::Out(structure) => ("Write", ALONE, (structure.size(), 0)),
        Kind::InOut(structure) => ("Update", ALONE, (structure.size(), 0)),
        Kind::InArray(structure, n) => ("Read", Some(n), of(structure)),
        Kind::OutArray(structure, n) => ("Write", Some(n), of(structure)),
        Kind::InOutArray(structure, n) => ("Update", Some(n), of(structure)),
        _ => return None,
    };
    let counter = other.and_then(|n| row.args.get(n)).map(|arg| arg.kind);
    let narrow = matches!(counter, Some(Kind::Int | Kind::Uint));
    let other = other.map_or("Argument::NONE".to_string(), |n| n.to_string());
    Some(format!(
        "Argument {{ how: How::{how}, index: {index}, other: {other}, narrow: {narrow}, base: {base}, size: {size} }}"
    ))
}
