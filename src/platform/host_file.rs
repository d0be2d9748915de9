//! A host file that may be mapped into guests.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::fstat;

/// A host descriptor that a platform may hand to an address space to be mapped, with the host identity by which the
/// kernel finds the guest's name of a mapping again.
#[derive(Debug)]
pub struct HostFile {
    fd: OwnedFd,
    key: (u64, u64),
    room: Option<Room>,
}

/// What counts the host memory that a file takes, for as long as the file or a mapping of it may be there.
pub type Room = Arc<dyn Any + Send + Sync>;

impl HostFile {
    /// Wrap an open descriptor. Fails only when the host cannot fstat it.
    pub fn new(fd: OwnedFd) -> Result<Arc<HostFile>, Errno> {
        HostFile::make(fd, None)
    }

    /// A file whose memory is counted: whoever maps it keeps [`HostFile::room`].
    pub fn counted(fd: OwnedFd, room: Room) -> Result<Arc<HostFile>, Errno> {
        HostFile::make(fd, Some(room))
    }

    fn make(fd: OwnedFd, room: Option<Room>) -> Result<Arc<HostFile>, Errno> {
        let st = fstat(&fd)?;
        Ok(Arc::new(HostFile {
            fd,
            key: (st.st_dev, st.st_ino),
            room,
        }))
    }

    /// What counts its memory, if that is counted.
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Host device and inode number, as [`super::Mapping::file`] shows them.
    pub fn key(&self) -> (u64, u64) {
        self.key
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
