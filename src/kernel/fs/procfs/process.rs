//! /proc/PID and /proc/PID/task/TID.

use std::sync::{Arc, Weak};

use super::super::pseudo::{Entry, OpenText, PseudoDir, PseudoFile};
use super::super::{File, FileOps, FileType, MountFlags};
use super::fds::{self, PlaceLink};
use super::root::parse_pid;
use super::{Found, Subject, maps, names, net, status};
use crate::kernel::mm::Mm;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::user_memory::{CHUNK, PATH_MAX, Sink, Source, UserAddr, UserMemory};
use crate::platform::USER_END;

/// Longest argument or environment area shown, in bytes.
const AREA_MAX: u64 = 2 << 20;

type Make = fn(&Found) -> Result<Vec<u8>, Errno>;

/// Name, permission bits, whether only under PID and not under task/TID, contents.
const FILES: &[(&str, u32, bool, Make)] = &[
    ("auxv", 0o400, false, |f| {
        Ok(f.task()?.mm().state.lock().auxv.clone())
    }),
    ("cgroup", 0o444, false, |_| Ok(b"0::/\n".to_vec())),
    ("cmdline", 0o444, false, |f| area(f, true)),
    ("comm", 0o644, false, |f| Ok([f.comm(), b"\n".to_vec()].concat())),
    ("coredump_filter", 0o644, true, |_| Ok(b"00000033\n".to_vec())),
    ("environ", 0o400, false, |f| area(f, false)),
    ("gid_map", 0o644, false, |_| {
        Ok(b"         0          0 4294967295\n".to_vec())
    }),
    ("io", 0o400, false, |f| f.check_inspect().map(|()| IO.to_vec())),
    ("limits", 0o444, false, status::limits),
    ("loginuid", 0o644, false, |_| Ok(b"4294967295".to_vec())),
    ("maps", 0o444, false, maps::maps),
    ("mountinfo", 0o444, false, |f| mounts(f, true)),
    ("mounts", 0o444, false, |f| mounts(f, false)),
    ("oom_adj", 0o644, false, |_| Ok(b"0\n".to_vec())),
    ("oom_score", 0o444, false, |_| Ok(b"0\n".to_vec())),
    ("oom_score_adj", 0o644, false, |_| Ok(b"0\n".to_vec())),
    ("personality", 0o400, false, |f| {
        f.check_attach().map(|()| b"00000000\n".to_vec())
    }),
    ("sched", 0o644, false, |_| Ok(Vec::new())),
    ("schedstat", 0o444, false, |_| Ok(b"0 0 0\n".to_vec())),
    ("sessionid", 0o444, false, |_| Ok(b"4294967295".to_vec())),
    ("setgroups", 0o644, false, |_| Ok(b"allow\n".to_vec())),
    ("smaps", 0o444, false, maps::smaps),
    ("smaps_rollup", 0o444, false, maps::rollup),
    ("stack", 0o400, false, |f| f.check_attach().map(|()| Vec::new())),
    ("stat", 0o444, false, status::stat),
    ("statm", 0o444, false, status::statm),
    ("status", 0o444, false, status::status),
    ("uid_map", 0o644, false, |_| {
        Ok(b"         0          0 4294967295\n".to_vec())
    }),
    ("wchan", 0o444, false, |_| Ok(b"0".to_vec())),
];

/// Those that show an address space: whoever opens them must be allowed to inspect it, and goes on seeing only that one.
const OF_MEMORY: &[&str] = &["auxv", "environ", "maps", "smaps", "smaps_rollup"];

const IO: &[u8] = b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n\
                    cancelled_write_bytes: 0\n";

pub(super) struct Dir(pub(super) Subject);

impl PseudoDir for Dir {
    fn list(&self) -> Vec<(String, FileType)> {
        let files = FILES
            .iter()
            .filter(|(_, _, process_only, _)| !(self.0.thread && *process_only));
        let mut list = names(files.map(|(name, ..)| *name).chain(["mem"]), FileType::Regular);
        list.extend(names(["cwd", "exe", "root"], FileType::Symlink));
        list.extend(names(["attr", "fd", "fdinfo", "net"], FileType::Directory));
        if !self.0.thread {
            list.push(("task".to_owned(), FileType::Directory));
        }
        list
    }

    fn find(&self, name: &str) -> Option<Entry> {
        // A process that is gone has nothing, even for those who hold its directory open.
        self.0.find().ok()?;
        let subject = || self.0.clone();
        let owner = self.0.owner();
        if let Some((name, mode, _, make)) = FILES.iter().find(|(known, ..)| *known == name) {
            let file = ProcessFile {
                subject: subject(),
                name,
                make: *make,
            };
            return Some(Entry::file(file).mode(*mode).owned(owner));
        }
        let place = |place| {
            Entry::link(PlaceLink {
                subject: subject(),
                place,
            })
        };
        let entry = match name {
            "cwd" => place(|t| Some(t.places().cwd.clone())),
            "root" => place(|t| Some(t.places().root.clone())),
            "exe" => place(|t| t.mm().state.lock().exe.clone()),
            "fd" => Entry::dir(fds::Dir {
                subject: subject(),
                info: false,
            })
            .mode(0o500),
            "fdinfo" => Entry::dir(fds::Dir {
                subject: subject(),
                info: true,
            }),
            "attr" => Entry::dir(Attr),
            "mem" => Entry::file(MemFile(subject())).mode(0o600),
            "net" => Entry::dir(net::Net(subject().kernel)),
            "task" if !self.0.thread => Entry::dir(Threads(subject())),
            _ => return None,
        };
        Some(entry.owned(owner))
    }
}

struct ProcessFile {
    subject: Subject,
    name: &'static str,
    make: Make,
}

impl PseudoFile for ProcessFile {
    fn ops(self: Arc<Self>) -> Result<Option<Arc<dyn FileOps>>, Errno> {
        if !OF_MEMORY.contains(&self.name) {
            return Ok(None);
        }
        let found = self.subject.find()?;
        found.check_inspect()?;
        let mm = found
            .task
            .map_or_else(Weak::new, |task| Arc::downgrade(&task.mm()));
        Ok(Some(OpenText::new(Arc::new(MemoryFile {
            subject: self.subject.clone(),
            make: self.make,
            mm,
        }))))
    }

    fn text(&self) -> Result<Vec<u8>, Errno> {
        (self.make)(&self.subject.find()?)
    }

    fn write(&self, text: &[u8]) -> Result<(), Errno> {
        let found = self.subject.find()?;
        match self.name {
            "comm" => {
                let name = text.strip_suffix(b"\n").unwrap_or(text);
                found.task()?.state.lock().comm = name[..name.len().min(15)].to_vec();
                Ok(())
            }
            // Nothing here is ever out of memory in a way these could steer; tools set them by routine.
            "oom_score_adj" | "oom_adj" | "coredump_filter" => {
                let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
                text.trim().parse::<i64>().map(drop).or(Err(Errno::EINVAL))
            }
            _ => Err(Errno::EACCES),
        }
    }
}

/// An open file of [`OF_MEMORY`].
struct MemoryFile {
    subject: Subject,
    make: Make,
    mm: Weak<Mm>,
}

impl PseudoFile for MemoryFile {
    fn text(&self) -> Result<Vec<u8>, Errno> {
        let found = self.subject.find()?;
        match &found.task {
            Some(task) if self.mm.ptr_eq(&Arc::downgrade(&task.mm())) => (self.make)(&found),
            // It has ended, or begun another program, which may have more rights.
            _ => Ok(Vec::new()),
        }
    }
}

/// Arguments or environment, as they are in the process's memory now.
fn area(found: &Found, args: bool) -> Result<Vec<u8>, Errno> {
    let Some(task) = &found.task else {
        return Ok(Vec::new());
    };
    let mm = task.mm();
    let (start, end) = {
        let state = mm.state.lock();
        if args { state.args } else { state.env }
    };
    let length = end.saturating_sub(start).min(AREA_MAX);
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::EIO)?];
    let mut got = UserMemory::new(mm.space.clone()).copy_in(UserAddr(start), &mut bytes);
    if got == 0 {
        // Of a process that runs, a host that refuses process_vm_readv(2) may still show its mem.
        got = mm.space.peek(start, &mut bytes);
    }
    bytes.truncate(got);
    Ok(bytes)
}

/// mounts or mountinfo, as seen from the process's root.
fn mounts(found: &Found, info: bool) -> Result<Vec<u8>, Errno> {
    let root = found.task()?.places().root.clone();
    let mut text = Vec::new();
    for mount in found.kernel.vfs.mounts.list() {
        let at = super::super::Path {
            mount: mount.clone(),
            dentry: mount.root.clone(),
        };
        let place = at.text(&root);
        if !place.reachable {
            continue;
        }
        let options = options(mount.flags());
        let own = mount.fs.options();
        let super_options = if mount.read_only() { "ro" } else { "rw" };
        let (place, source) = (escape(&place.text), escape(&mount.source));
        if info {
            let parent = mount.at().map_or(mount.id, |p| p.mount.id);
            let dev = mount.fs.dev();
            let (major, minor) = (libc::major(dev), libc::minor(dev));
            let inside = escape(&mount.root_in_fs());
            text.extend(
                format!(
                    "{} {parent} {major}:{minor} {inside} {place} {options} - {} {source} {super_options}{own}\n",
                    mount.id,
                    mount.fs.name()
                )
                .into_bytes(),
            );
        } else {
            text.extend(format!("{source} {place} {} {options}{own} 0 0\n", mount.fs.name()).into_bytes());
        }
    }
    Ok(text)
}

fn options(flags: MountFlags) -> String {
    let mut text = if flags.contains(MountFlags::READ_ONLY) {
        "ro"
    } else {
        "rw"
    }
    .to_owned();
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::RELATIME, ",relatime"),
    ] {
        if flags.contains(flag) {
            text += name;
        }
    }
    text
}

/// White space and backslashes as octal, as getmntent(3) expects.
fn escape(path: &[u8]) -> String {
    let mut text = Vec::with_capacity(path.len().min(PATH_MAX));
    for &byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").into_bytes()),
            byte => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// task/.
struct Threads(Subject);

impl PseudoDir for Threads {
    fn list(&self) -> Vec<(String, FileType)> {
        let tids = self.0.find().map(|found| found.tids()).unwrap_or_default();
        tids.iter()
            .map(|tid| (tid.to_string(), FileType::Directory))
            .collect()
    }

    fn subdirectories(&self) -> u32 {
        u32::try_from(self.list().len()).unwrap_or(u32::MAX - 2)
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let tid = parse_pid(name)?;
        self.0.find().ok()?.tids().iter().find(|t| **t == tid)?;
        let subject = Subject {
            tid,
            thread: true,
            ..self.0.clone()
        };
        Some(Entry::dir(Dir(subject)).owned(self.0.owner()))
    }
}

/// attr/: no security module.
struct Attr;

impl PseudoDir for Attr {
    fn list(&self) -> Vec<(String, FileType)> {
        names(["current"], FileType::Regular)
    }

    fn find(&self, name: &str) -> Option<Entry> {
        (name == "current").then(|| Entry::text(|| "unconfined\n".to_owned()))
    }
}

/// mem: the memory at the position, whatever its protection.
struct MemFile(Subject);

impl PseudoFile for MemFile {
    fn text(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EIO)
    }

    fn ops(self: Arc<Self>) -> Result<Option<Arc<dyn FileOps>>, Errno> {
        let found = self.0.find()?;
        found.check_inspect()?;
        Ok(Some(Arc::new(OpenMem(found.task()?.mm()))))
    }
}

/// An open mem keeps the address space, not the process.
struct OpenMem(Arc<Mm>);

impl FileOps for OpenMem {
    fn read(&self, _: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let mut bytes = vec![0; to.remaining().min(CHUNK)];
        let got = if *pos < USER_END {
            self.0.space.peek(*pos, &mut bytes)
        } else {
            0
        };
        if got == 0 && !bytes.is_empty() {
            return Err(Errno::EIO.into());
        }
        let put = to.put(&bytes[..got])?;
        *pos += put as u64;
        Ok(put)
    }

    fn write(&self, _: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut bytes = vec![0; from.remaining().min(CHUNK)];
        let taken = from.take(&mut bytes)?;
        let put = if *pos < USER_END {
            self.0.space.poke(*pos, &bytes[..taken])
        } else {
            0
        };
        from.untake(taken - put);
        if put == 0 && taken > 0 {
            return Err(Errno::EIO.into());
        }
        *pos += put as u64;
        Ok(put)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: i64, _: i32) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }
}
