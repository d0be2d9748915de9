//! `uvm syscalls`: the table of system calls, for people and for programs.

use std::io::{self, Write};

use syscall_table::{Level, Row, errno};

use super::json::string;

/// Prints all rows in the order of their numbers, in aligned columns.
///
/// # Errors
/// Those of `out`.
pub(super) fn print(out: &mut dyn Write) -> io::Result<()> {
    let name_width = syscall_table::rows()
        .map(|row| row.name.len())
        .max()
        .unwrap_or_default();
    let columns = ["number", "name", "subsystem", "level", "note"];
    line(out, name_width, columns)?;
    for row in syscall_table::rows() {
        let number = row.nr.to_string();
        line(
            out,
            name_width,
            [
                &number,
                row.name,
                row.subsystem.name(),
                row.level.name(),
                &note(row.level),
            ],
        )?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, name_width: usize, columns: [&str; 5]) -> io::Result<()> {
    let [number, name, subsystem, level, note] = columns;
    let text = format!("{number:>6}  {name:<name_width$}  {subsystem:<9}  {level:<7}  {note}");
    writeln!(out, "{}", text.trim_end())
}

/// What is missing, or which error the caller gets and why.
fn note(level: Level) -> String {
    match level {
        Level::Refused { errno, reason } => {
            format!("{}: {reason}", errno::name(errno).unwrap_or("?"))
        }
        _ => level.note().to_owned(),
    }
}

/// Prints all rows as a JSON array, one object a line.
///
/// # Errors
/// Those of `out`.
pub(super) fn print_json(out: &mut dyn Write) -> io::Result<()> {
    let mut opening = "[\n";
    for row in syscall_table::rows() {
        out.write_all(opening.as_bytes())?;
        out.write_all(object(row).as_bytes())?;
        opening = ",\n";
    }
    out.write_all(b"\n]\n")
}

fn object(row: &Row) -> String {
    let args: Vec<String> = row.args.iter().map(|arg| string(arg.name)).collect();
    let errno = match row.level {
        Level::Refused { errno, .. } => errno::name(errno).map_or_else(|| errno.to_string(), string),
        _ => "null".to_owned(),
    };
    format!(
        "{{\"number\":{},\"name\":{},\"arguments\":[{}],\"subsystem\":{},\"level\":{},\"errno\":{errno},\
         \"note\":{},\"blocks\":{},\"answered\":{},\"host\":{}}}",
        row.nr,
        string(row.name),
        args.join(","),
        string(row.subsystem.name()),
        string(row.level.name()),
        string(row.level.note()),
        row.blocks,
        string(row.answered.name()),
        string(row.host.name()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: fn(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_row_takes_one_line() {
        let text = printed(print);
        assert_eq!(text.lines().count(), syscall_table::rows().count() + 1);
        assert!(
            text.lines()
                .any(|line| line.starts_with("   321  bpf  ") && line.contains(" EPERM: ")),
            "{text}"
        );
        assert!(text.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn json_has_one_object_per_row() {
        let text = printed(print_json);
        assert_eq!(text.lines().count(), syscall_table::rows().count() + 2);
        assert!(
            text.starts_with("[\n{\"number\":0,\"name\":\"read\",\"arguments\":[\"fd\",\"buf\",\"count\"],")
        );
        assert!(text.ends_with("}\n]\n"));
        assert!(
            text.lines()
                .filter(|line| line.starts_with('{'))
                .all(|line| line.contains("\"level\":\""))
        );
    }
}
