//! Writing files into archives.

mod sparse;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use tar::{Builder, EntryType, Header};

use crate::kernel::fs::reader::InodeReader;
use crate::kernel::fs::{FileType, Inode, Link, Metadata, major, minor};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Name and value of a pax record.
type Record = (String, Vec<u8>);

/// Writes a tar archive that depends on the files alone.
pub struct Packer<'a> {
    archive: Builder<&'a mut dyn Write>,
    /// The first name of each file that has several.
    names: HashMap<u64, Vec<u8>>,
    /// No time is later than this.
    latest: Option<i64>,
}

impl<'a> Packer<'a> {
    /// Write to `out`; times that are later than `latest` become that.
    pub fn new(out: &'a mut dyn Write, latest: Option<i64>) -> Packer<'a> {
        Packer {
            archive: Builder::new(out),
            names: HashMap::new(),
            latest,
        }
    }

    /// End the archive.
    pub fn finish(self) -> io::Result<()> {
        self.archive.into_inner()?.flush()
    }

    /// An empty file that means something by its name.
    pub fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.archive.append_data(&mut header, path_of(path), io::empty())
    }

    /// A file by its name: a hard link if an earlier name was that of the same file. Sockets have no place in archives.
    pub fn file(&mut self, path: &[u8], inode: &Arc<dyn Inode>, meta: &Metadata) -> io::Result<()> {
        let kind = inode.file_type();
        if kind == FileType::Socket {
            return Ok(());
        }
        let time = self.time(meta.mtime);
        let mut header = Header::new_gnu();
        header.set_mode(meta.mode & 0o7777);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        header.set_mtime(u64::try_from(time.sec).unwrap_or(0));
        header.set_size(0);
        if kind != FileType::Directory && meta.nlink > 1 {
            if let Some(known) = self.names.get(&meta.ino) {
                header.set_entry_type(EntryType::Link);
                return self
                    .archive
                    .append_link(&mut header, path_of(path), path_of(known));
            }
            self.names.insert(meta.ino, path.to_owned());
        }
        let mut records = records(time, xattrs(inode)?);
        let map = match kind {
            FileType::Regular => sparse::Map::of(inode, meta.size)?,
            _ => None,
        };
        records.extend(map.iter().flat_map(|map| map.records(path)));
        self.records(&records)?;
        match kind {
            FileType::Regular => {
                header.set_entry_type(EntryType::Regular);
                if let Some(map) = map {
                    header.set_size(map.stored());
                    sparse::make_posix(&mut header);
                    let data = map.data(inode)?;
                    return self.archive.append_data(&mut header, sparse::STORED_NAME, data);
                }
                header.set_size(meta.size);
                let data = Whole {
                    reader: InodeReader::open(inode)?,
                    left: meta.size,
                };
                return self.archive.append_data(&mut header, path_of(path), data);
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                let Link::Text(target) = inode.read_link(None)? else {
                    return Err(Errno::EINVAL.into());
                };
                self.link_text(&mut header, &target)?;
            }
            FileType::Directory => header.set_entry_type(EntryType::Directory),
            FileType::Fifo => header.set_entry_type(EntryType::Fifo),
            FileType::CharDevice => header.set_entry_type(EntryType::Char),
            FileType::BlockDevice | FileType::Socket => header.set_entry_type(EntryType::Block),
        }
        if matches!(kind, FileType::CharDevice | FileType::BlockDevice) {
            header.set_device_major(major(meta.rdev))?;
            header.set_device_minor(minor(meta.rdev))?;
        }
        self.archive.append_data(&mut header, path_of(path), io::empty())
    }

    /// A directory and all below it, but not what is in directories for which `stop` says so; names in byte order.
    pub fn tree(&mut self, root: &Arc<dyn Inode>, stop: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let mut left = vec![(b"./".to_vec(), root.clone())];
        while let Some((path, inode)) = left.pop() {
            let shown = || String::from_utf8_lossy(&path).into_owned();
            let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", shown()));
            let meta = inode.metadata().map_err(|errno| at(errno.into()))?;
            self.file(&path, &inode, &meta).map_err(at)?;
            if inode.file_type() != FileType::Directory || stop(&path) {
                continue;
            }
            let names = InodeReader::open(&inode).and_then(InodeReader::names);
            for name in names.map_err(|errno| at(errno.into()))?.into_iter().rev() {
                let child = inode.lookup(&name).map_err(|errno| at(errno.into()))?;
                let slash: &[u8] = match child.file_type() {
                    FileType::Directory => b"/",
                    _ => b"",
                };
                left.push(([&path, &name[..], slash].concat(), child));
            }
        }
        Ok(())
    }

    fn time(&self, time: Timestamp) -> Timestamp {
        match self.latest {
            Some(latest) if time.sec >= latest => Timestamp { sec: latest, nsec: 0 },
            _ => time,
        }
    }

    /// The text of a symbolic link as it is: what sets it by its path leaves out doubled slashes and dots.
    fn link_text(&mut self, header: &mut Header, text: &[u8]) -> io::Result<()> {
        let room = header.as_old().linkname.len();
        if text.len() > room {
            let mut long = Header::new_gnu();
            long.set_path("././@LongLink")?;
            long.set_entry_type(EntryType::GNULongLink);
            long.set_mode(0o644);
            long.set_uid(0);
            long.set_gid(0);
            long.set_mtime(0);
            long.set_size(text.len() as u64 + 1);
            long.set_cksum();
            self.archive
                .append(&long, [text, &b"\0"[..]].concat().as_slice())?;
        }
        header.set_link_name_literal(&text[..text.len().min(room)])
    }

    /// What a header has no room for.
    fn records(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let records = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(records)
    }
}

/// What is said of every kind of file.
fn records(time: Timestamp, xattrs: Vec<Xattr>) -> Vec<Record> {
    let mut records = Vec::new();
    if time.nsec != 0 || time.sec < 0 {
        records.push(("mtime".to_owned(), decimal(time).into_bytes()));
    }
    records.extend(xattrs.into_iter().map(|(name, value)| {
        let name = format!("SCHILY.xattr.{}", String::from_utf8_lossy(&name));
        (name, value)
    }));
    records
}

/// Reads as much of a file as its header says that it has.
struct Whole<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let done = self.reader.read(&mut buf[..want])?;
        if done == 0 && want > 0 {
            // A log that was truncated meanwhile.
            let why = format!("it ends {} bytes before the size that it shows", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.left -= done as u64;
        Ok(done)
    }
}

/// Seconds with a fraction, without zeroes at its end.
fn decimal(time: Timestamp) -> String {
    let all = i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let (sign, all) = (if all < 0 { "-" } else { "" }, all.unsigned_abs());
    let text = format!("{sign}{}.{:09}", all / 1_000_000_000, all % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The extended attributes of a file, by name.
pub fn xattrs(inode: &Arc<dyn Inode>) -> Result<Vec<Xattr>, Errno> {
    let mut found = Vec::new();
    for name in inode.list_xattr()? {
        match inode.get_xattr(&name) {
            Ok(value) => found.push((name, value)),
            // Listed, but not for us: access control lists, which no guest can change.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_pax_has_them() {
        let text = |sec, nsec| decimal(Timestamp { sec, nsec });
        assert_eq!(text(5, 250_000_000), "5.25");
        assert_eq!(text(10, 0), "10");
        assert_eq!(text(-2, 750_000_000), "-1.25");
        assert_eq!(text(-1, 0), "-1");
        assert_eq!(text(0, 1), "0.000000001");
    }

    #[test]
    fn what_ends_early_is_refused() {
        let read = |left| {
            let mut data = Vec::new();
            Whole {
                reader: &b"four"[..],
                left,
            }
            .read_to_end(&mut data)
            .map(|_| data)
        };
        assert_eq!(read(4).unwrap(), b"four");
        assert_eq!(read(2).unwrap(), b"fo");
        let refused = read(9).unwrap_err().to_string();
        assert!(
            refused.contains("5 bytes before the size that it shows"),
            "{refused}"
        );
    }
}
