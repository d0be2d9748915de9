//! Socket addresses in guest memory.

use crate::kernel::stop::Errno;
use crate::kernel::user_memory::{UserAddr, UserMemory, UserRef};

/// Largest address of any family (`struct sockaddr_storage`), in bytes.
const STORAGE: usize = 128;

/// Size of `struct sockaddr_un`, in bytes.
const SOCKADDR_UN: usize = 110;

/// The name of an AF_UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixAddress {
    /// A path, as bind(2) was given it.
    Path(Vec<u8>),
    /// A name that is in no file system; any bytes.
    Abstract(Vec<u8>),
}

/// An address as a guest gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A name.
    Name(UnixAddress),
    /// AF_UNIX alone: bind to any name.
    Any,
    /// AF_UNSPEC: undo connect.
    Unspecified,
}

/// Read an address argument: EINVAL for a bad length, EFAULT.
pub fn read(memory: &UserMemory, addr: UserAddr, len: i32) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > STORAGE {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; len];
    memory.read_bytes(addr, &mut bytes)?;
    Ok(bytes)
}

impl Given {
    /// From what a guest gave; EINVAL for a bad length or another family.
    pub fn parse(bytes: &[u8]) -> Result<Given, Errno> {
        let (family, name) = bytes.split_at_checked(2).ok_or(Errno::EINVAL)?;
        let family = i32::from(u16::from_le_bytes([family[0], family[1]]));
        if family == libc::AF_UNSPEC {
            return Ok(Given::Unspecified);
        }
        if family != libc::AF_UNIX || bytes.len() > SOCKADDR_UN {
            return Err(Errno::EINVAL);
        }
        Ok(match name.split_first() {
            None => Given::Any,
            Some((0, rest)) => Given::Name(UnixAddress::Abstract(rest.to_vec())),
            Some(_) => {
                let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                Given::Name(UnixAddress::Path(name[..end].to_vec()))
            }
        })
    }

    /// The name; EINVAL for anything else.
    pub fn name(self) -> Result<UnixAddress, Errno> {
        match self {
            Given::Name(name) => Ok(name),
            Given::Any | Given::Unspecified => Err(Errno::EINVAL),
        }
    }
}

impl UnixAddress {
    /// As `struct sockaddr_un`, without what follows the name.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = family();
        match self {
            UnixAddress::Path(path) => {
                bytes.extend(path);
                bytes.push(0);
            }
            UnixAddress::Abstract(name) => {
                bytes.push(0);
                bytes.extend(name);
            }
        }
        bytes
    }
}

fn family() -> Vec<u8> {
    (libc::AF_UNIX as u16).to_le_bytes().to_vec()
}

/// The bytes of a socket's name; a nameless one has just a family.
pub fn bytes_of(name: Option<&UnixAddress>) -> Vec<u8> {
    name.map_or_else(family, UnixAddress::to_bytes)
}

/// Write an address where `addr` points, cut to the room that `len` says, and its true length to `len`. Nothing for a null
/// pointer. EINVAL for a negative room.
pub fn write(memory: &UserMemory, addr: UserAddr, len: UserRef<i32>, bytes: &[u8]) -> Result<(), Errno> {
    if addr.is_null() {
        return Ok(());
    }
    let room = usize::try_from(memory.read(len)?).map_err(|_| Errno::EINVAL)?;
    memory.write_bytes(addr, &bytes[..bytes.len().min(room)])?;
    memory.write(len, &i32::try_from(bytes.len()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_guests_give() {
        let unix = |rest: &[u8]| [&[1, 0], rest].concat();
        assert_eq!(Given::parse(&[1]), Err(Errno::EINVAL));
        assert_eq!(Given::parse(&unix(b"")), Ok(Given::Any));
        assert_eq!(Given::parse(&[0, 0, 9]), Ok(Given::Unspecified));
        assert_eq!(Given::parse(&[2, 0, 9]), Err(Errno::EINVAL));
        let path = Given::Name(UnixAddress::Path(b"a/b".to_vec()));
        assert_eq!(Given::parse(&unix(b"a/b\0junk")), Ok(path.clone()));
        assert_eq!(Given::parse(&unix(b"a/b")), Ok(path));
        let name = Given::Name(UnixAddress::Abstract(b"x\0y".to_vec()));
        assert_eq!(Given::parse(&unix(b"\0x\0y")), Ok(name));
        assert_eq!(Given::parse(&unix(&[b'a'; 109])), Err(Errno::EINVAL));
    }

    #[test]
    fn shows_names_with_their_ends() {
        assert_eq!(bytes_of(None), [1, 0]);
        assert_eq!(bytes_of(Some(&UnixAddress::Path(b"s".to_vec()))), [1, 0, b's', 0]);
        assert_eq!(
            bytes_of(Some(&UnixAddress::Abstract(b"s".to_vec()))),
            [1, 0, 0, b's']
        );
    }
}
