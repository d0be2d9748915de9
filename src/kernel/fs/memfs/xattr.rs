//! Extended attributes, xattr(7).

use std::collections::BTreeMap;

use super::data::Data;
use super::lending::CAPABILITY;
use super::node::Node;
use crate::kernel::fs::FileType;
use crate::kernel::stop::Errno;

/// Attributes of our own by name.
pub(super) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Most bytes of names and values of one inode.
const TOTAL_MAX: usize = 256 << 10;

/// Access control lists are not kept, so nobody is told that they are.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    let kept: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if kept.iter().any(|prefix| name.starts_with(prefix)) {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

/// user.* is for regular files and directories only.
fn check_change(node: &Node, name: &[u8]) -> Result<(), Errno> {
    check_name(name)?;
    if name.starts_with(b"user.") && !matches!(node.kind, FileType::Regular | FileType::Directory) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

pub(super) fn get(node: &Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
    check_name(name)?;
    if let Some(own) = &node.state.lock().xattrs {
        return own.get(name).cloned().ok_or(Errno::ENODATA);
    }
    match &node.lower {
        Some(lower) => match lower.get_xattr(name) {
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENODATA),
            other => other,
        },
        None => Err(Errno::ENODATA),
    }
}

pub(super) fn list(node: &Node) -> Result<Vec<Vec<u8>>, Errno> {
    if let Some(own) = &node.state.lock().xattrs {
        return Ok(own.keys().cloned().collect());
    }
    node.lower
        .as_ref()
        .map_or(Ok(Vec::new()), |lower| lower.list_xattr())
}

/// Copy the lower inode's attributes, unless that was done before.
fn own(node: &Node) -> Result<(), Errno> {
    if node.state.lock().xattrs.is_some() {
        return Ok(());
    }
    let mut attributes = Attributes::new();
    if let Some(lower) = &node.lower {
        for name in lower.list_xattr()? {
            if let Ok(value) = lower.get_xattr(&name) {
                attributes.insert(name, value);
            }
        }
    }
    let mut state = node.change();
    state.xattrs.get_or_insert_with(|| Box::new(attributes));
    Ok(())
}

pub(super) fn set(node: &Node, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
    check_change(node, name)?;
    node.tree.ready()?;
    own(node)?;
    let now = node.tree.now();
    node.tree.make_room(value.len() as u64);
    let mut state = node.change();
    if name == CAPABILITY {
        node.seal(&mut state)?;
    }
    let Some(own) = &state.xattrs else {
        return Err(Errno::EIO);
    };
    match own.contains_key(name) {
        true if flags & libc::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
        false if flags & libc::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
        _ => {}
    }
    let others = own.iter().filter(|(n, _)| n.as_slice() != name);
    let total: usize = size(others) + name.len() + value.len();
    if total > TOTAL_MAX {
        return Err(Errno::ENOSPC);
    }
    node.tree.charge(&mut state.xattrs_charged, total as u64)?;
    if let Some(own) = &mut state.xattrs {
        own.insert(name.to_vec(), value.to_vec());
    }
    state.ctime = now;
    Ok(())
}

/// Bytes of names and values.
pub(super) fn size<'a>(attributes: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> usize {
    attributes.map(|(name, value)| name.len() + value.len()).sum()
}

pub(super) fn remove(node: &Node, name: &[u8]) -> Result<(), Errno> {
    check_change(node, name)?;
    node.tree.ready()?;
    own(node)?;
    let now = node.tree.now();
    let mut state = node.change();
    let removed = state.xattrs.as_mut().and_then(|own| own.remove(name));
    removed.ok_or(Errno::ENODATA)?;
    let left = state.xattrs.as_ref().map_or(0, |own| size(own.iter()));
    node.tree.recharge(&mut state.xattrs_charged, left as u64);
    state.ctime = now;
    Ok(())
}

/// Whether there were any.
pub(super) fn drop_capabilities(node: &Node) -> Result<bool, Errno> {
    let state = node.state.lock();
    let own = state.xattrs.as_ref().map(|own| own.contains_key(CAPABILITY));
    // Who made contents of its own has been here.
    let unchanged = matches!(state.data, Data::Lower | Data::Copying { .. });
    drop(state);
    if !own.unwrap_or_else(|| unchanged && get(node, CAPABILITY).is_ok()) {
        return Ok(false);
    }
    match remove(node, CAPABILITY) {
        Err(Errno::ENODATA) => Ok(false),
        removed => removed.map(|()| true),
    }
}
