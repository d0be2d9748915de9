//! The mount tree as text: /proc/PID/mountinfo and /proc/PID/mounts.

use std::sync::Arc;

use super::{Dentry, Mount, MountFlags, Path, Vfs, major, minor};

/// What the root mount's parent is said to be: no mount that a guest can see.
const NO_PARENT: u32 = 1;

/// /proc/PID/mountinfo for a task with this root directory.
pub fn mountinfo(vfs: &Vfs, root: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for (mount, place) in visible(vfs, root) {
        let parent = mount.at().map_or(NO_PARENT, |at| at.mount.id);
        let dev = mount.fs.dev();
        let head = format!("{} {} {}:{} ", mount.id, parent, major(dev), minor(dev));
        text.extend_from_slice(head.as_bytes());
        escape(&inside(&mount.root), &mut text);
        text.push(b' ');
        escape(&place, &mut text);
        let middle = format!(" {} - {} ", options(mount.flags()), mount.fs.name());
        text.extend_from_slice(middle.as_bytes());
        escape(&mount.source, &mut text);
        text.extend_from_slice(format!(" {}{}\n", access(&mount), mount.fs.options()).as_bytes());
    }
    text
}

/// /proc/PID/mounts for a task with this root directory.
pub fn mounts(vfs: &Vfs, root: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for (mount, place) in visible(vfs, root) {
        escape(&mount.source, &mut text);
        text.push(b' ');
        escape(&place, &mut text);
        let tail = format!(
            " {} {}{} 0 0\n",
            mount.fs.name(),
            options(mount.flags()),
            mount.fs.options()
        );
        text.extend_from_slice(tail.as_bytes());
    }
    text
}

/// All mounts that can be reached from a root directory, with the paths they are at.
fn visible(vfs: &Vfs, root: &Path) -> Vec<(Arc<Mount>, Vec<u8>)> {
    let place = |mount: Arc<Mount>| {
        let top = Path {
            dentry: mount.root.clone(),
            mount: mount.clone(),
        };
        let text = top.text(root);
        text.reachable.then_some((mount, text.text))
    };
    vfs.mounts.list().into_iter().filter_map(place).collect()
}

/// The way to a dentry from its file system's root.
fn inside(dentry: &Arc<Dentry>) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut at = dentry.clone();
    while let Some(parent) = at.parent() {
        parts.push(at.name());
        at = parent;
    }
    let mut text = Vec::new();
    for part in parts.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(part);
    }
    if text.is_empty() { b"/".to_vec() } else { text }
}

fn access(mount: &Mount) -> &'static str {
    if mount.read_only() { "ro" } else { "rw" }
}

fn options(flags: MountFlags) -> String {
    const NAMES: [(MountFlags, &str); 6] = [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
    ];
    let mut text = String::from(if flags.contains(MountFlags::READ_ONLY) {
        "ro"
    } else {
        "rw"
    });
    for (flag, name) in NAMES {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

/// Octal escapes for what separates fields and lines.
fn escape(bytes: &[u8], to: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => to.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => to.push(byte),
        }
    }
}
