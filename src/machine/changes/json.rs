//! Changes as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::entry::{Entry, Side, What};
use crate::kernel::fs::FileType;

/// Write an object with a list of changes, one a line.
pub(super) fn write(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{{\"changes\":[")?;
    for (index, entry) in entries.iter().enumerate() {
        let separator = if index == 0 { "\n" } else { ",\n" };
        write!(out, "{separator}{}", Value::Object(change(entry)))?;
    }
    writeln!(out, "\n]}}")
}

fn change(entry: &Entry) -> Map<String, Value> {
    let mut object = Map::new();
    let path = [b"/", entry.path.as_slice()].concat();
    object.insert("path".into(), String::from_utf8_lossy(&path).into());
    if std::str::from_utf8(&path).is_err() {
        let hex: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
        object.insert("path_hex".into(), hex.into());
    }
    let kind = match entry.what {
        what if what.contains(What::ADDED) => "added",
        what if what.contains(What::DELETED) => "deleted",
        _ => "modified",
    };
    object.insert("change".into(), kind.into());
    if kind == "modified" {
        let what: Vec<String> = entry
            .what
            .iter_names()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        object.insert("what".into(), what.into());
    }
    if entry.opaque {
        object.insert("opaque".into(), true.into());
    }
    for (name, side) in [("before", &entry.before), ("after", &entry.after)] {
        if let Some(side) = side {
            object.insert(name.into(), facts(side));
        }
    }
    object
}

fn facts(side: &Side) -> Value {
    let meta = &side.meta;
    let mut facts = json!({
        "type": type_name(side.kind()),
        "mode": format!("{:04o}", meta.mode & 0o7777),
        "uid": meta.uid,
        "gid": meta.gid,
        "mtime": format!("{}.{:09}", meta.mtime.sec, meta.mtime.nsec),
    });
    if side.kind() == FileType::Regular {
        facts["size"] = meta.size.into();
    }
    if side.kind() == FileType::Symlink
        && let Ok(target) = side.link()
    {
        facts["target"] = String::from_utf8_lossy(&target).into();
    }
    facts
}

fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "fifo",
        FileType::CharDevice => "character device",
        FileType::Directory => "directory",
        FileType::BlockDevice => "block device",
        FileType::Regular => "file",
        FileType::Symlink => "link",
        FileType::Socket => "socket",
    }
}
