//! What the tests of file systems use: host directories that go away, and files read and written without a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{MemFs, MemFsOptions};
use crate::kernel::fs::hostfs::{Coherence, HostFs, HostFsOptions};
use crate::kernel::fs::{CreateArgs, DirEntry, File, FileSystem, Inode, OpenFlags};
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::time::Clock;
use crate::kernel::user_memory::{KernelSink, KernelSource};

/// A host directory that goes away with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("uvm-memfs-{}-{n}", std::process::id()));
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn options() -> MemFsOptions {
    MemFsOptions::new(7, Arc::new(Clock::new()))
}

pub(crate) fn lower(path: &Path) -> Arc<HostFs> {
    let options = HostFsOptions {
        dev: 6,
        coherence: Coherence::Fixed,
        writable: false,
        own_ids: false,
        reproducible: false,
    };
    HostFs::open(path, options).unwrap()
}

pub(crate) fn overlay(path: &Path) -> Arc<MemFs> {
    MemFs::overlay(lower(path).root(), options()).unwrap()
}

pub(crate) fn args(mode: u32) -> CreateArgs {
    CreateArgs {
        mode,
        uid: 0,
        gid: 0,
        rdev: 0,
    }
}

pub(crate) fn plain<T>(result: SysResult<T>) -> Result<T, Errno> {
    result.map_err(|stop| match stop {
        Stop::Errno(errno, _) => errno,
        other => panic!("{other:?}"),
    })
}

pub(crate) fn open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let ops = inode.clone().open(flags)?;
    Ok(File::anonymous(ops, String::new(), inode.clone(), flags))
}

pub(crate) fn read_at(file: &File, pos: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut sink = KernelSink::new(len);
    plain(file.ops.read(file, &mut pos.clone(), &mut sink))?;
    Ok(sink.bytes)
}

pub(crate) fn write_at(file: &File, pos: u64, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match file
            .ops
            .write(file, &mut pos.clone(), &mut KernelSource::new(bytes))
        {
            Err(Stop::Block(_)) => {}
            done => return plain(done),
        }
    }
}

pub(crate) fn allocate(file: &File, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
    plain(file.ops.allocate(file, mode, offset, len).map(drop))
}

pub(crate) fn contents(inode: &Arc<dyn Inode>) -> Result<Vec<u8>, Errno> {
    read_at(&*open(inode, OpenFlags::empty())?, 0, 1 << 20)
}

pub(crate) fn names(inode: &Arc<dyn Inode>) -> Vec<String> {
    let file = open(inode, OpenFlags::DIRECTORY).unwrap();
    let mut names = Vec::new();
    let mut emit = |entry: DirEntry| {
        names.push(String::from_utf8(entry.name).unwrap());
        true
    };
    plain(file.ops.read_dir(&file, 0, &mut emit)).unwrap();
    names.sort();
    names.retain(|n| n != "." && n != "..");
    names
}

pub(crate) fn shared(path: &Path) -> Arc<HostFs> {
    let options = HostFsOptions {
        dev: 5,
        coherence: Coherence::Shared,
        writable: true,
        own_ids: false,
        reproducible: false,
    };
    HostFs::open(path, options).unwrap()
}
