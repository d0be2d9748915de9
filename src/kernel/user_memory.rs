//! Typed access to guest memory.
//!
//! Guest memory is hostile: it is copied once into a value of ours, checked, then used; there is never a Rust reference
//! into it. A bad address gives EFAULT, a copy that ends early says how far it came.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::stop::Errno;
use crate::platform::{PAGE_SIZE, Space, USER_END};

/// Longest path, in bytes with the final zero (PATH_MAX).
pub const PATH_MAX: usize = 4096;

/// Longest transfer of one call (MAX_RW_COUNT), in bytes.
pub const MAX_TRANSFER: u64 = 0x7fff_f000;

/// Most vectors of one readv(2) (UIO_MAXIOV).
pub const MAX_IOV: u64 = 1024;

/// How much an in-kernel copy of a transfer holds at once, in bytes.
pub const CHUNK: usize = 256 << 10;
/// Bytes of a string that are looked at first, and then as many as there are already.
const STRING_STEP: usize = 64;

/// An address in the guest, not known to be good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// Whether it is the null pointer.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `bytes` further on; EFAULT on overflow.
    pub fn plus(self, bytes: u64) -> Result<UserAddr, Errno> {
        self.0.checked_add(bytes).map(UserAddr).ok_or(Errno::EFAULT)
    }

    /// As a pointer to a `T`.
    pub fn cast<T>(self) -> UserRef<T> {
        UserRef {
            addr: self,
            to: PhantomData,
        }
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A guest pointer to a `T`, not known to be good.
pub struct UserRef<T> {
    addr: UserAddr,
    to: PhantomData<fn() -> T>,
}

impl<T> Clone for UserRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserRef<T> {}

impl<T> UserRef<T> {
    /// Its address.
    pub fn addr(self) -> UserAddr {
        self.addr
    }

    /// Whether it is the null pointer.
    pub fn is_null(self) -> bool {
        self.addr.is_null()
    }

    /// None for the null pointer.
    pub fn non_null(self) -> Option<UserRef<T>> {
        (!self.is_null()).then_some(self)
    }

    /// Pointer to element `index` of the array this points to; EFAULT on overflow.
    pub fn at(self, index: u64) -> Result<UserRef<T>, Errno> {
        let offset = index.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        Ok(self.addr.plus(offset)?.cast())
    }
}

/// A guest pointer to a zero-terminated string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCString(pub UserAddr);

/// Memory of one guest address space.
#[derive(Clone)]
pub struct UserMemory(Arc<dyn Space>);

impl UserMemory {
    /// Memory of `space`.
    pub fn new(space: Arc<dyn Space>) -> UserMemory {
        UserMemory(space)
    }

    /// The address space itself.
    pub fn space(&self) -> &Arc<dyn Space> {
        &self.0
    }

    /// Copy in; the number of bytes up to the first bad one.
    pub fn copy_in(&self, addr: UserAddr, buf: &mut [u8]) -> usize {
        let len = within_user(addr, buf.len());
        if len == 0 {
            0
        } else {
            self.0.read(addr.0, &mut buf[..len])
        }
    }

    /// Copy out; the number of bytes up to the first bad one.
    pub fn copy_out(&self, addr: UserAddr, buf: &[u8]) -> usize {
        let len = within_user(addr, buf.len());
        if len == 0 {
            0
        } else {
            self.0.write(addr.0, &buf[..len])
        }
    }

    /// Copy all of it in or EFAULT.
    pub fn read_bytes(&self, addr: UserAddr, buf: &mut [u8]) -> Result<(), Errno> {
        if self.copy_in(addr, buf) == buf.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Copy all of it out or EFAULT.
    pub fn write_bytes(&self, addr: UserAddr, buf: &[u8]) -> Result<(), Errno> {
        if self.copy_out(addr, buf) == buf.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Read one value.
    pub fn read<T: FromBytes + IntoBytes>(&self, from: UserRef<T>) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(from.addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Write one value.
    pub fn write<T: IntoBytes + Immutable>(&self, to: UserRef<T>, value: &T) -> Result<(), Errno> {
        self.write_bytes(to.addr, value.as_bytes())
    }

    /// Read `count` values. The caller has bounded `count`.
    pub fn read_array<T>(&self, from: UserRef<T>, count: usize) -> Result<Vec<T>, Errno>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let mut values = T::new_vec_zeroed(count).map_err(|_| Errno::ENOMEM)?;
        self.read_bytes(from.addr, values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Write all of `values`.
    pub fn write_array<T: IntoBytes + Immutable>(&self, to: UserRef<T>, values: &[T]) -> Result<(), Errno> {
        self.write_bytes(to.addr, values.as_bytes())
    }

    /// Read a string without its final zero: EFAULT, or ENAMETOOLONG when there is no zero in `max` bytes.
    pub fn read_cstring(&self, from: UserCString, max: usize) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut addr = from.0;
        while string.len() < max {
            // Most strings end soon and within a page, and a page is what can be bad. The seccomp platform's runtime takes
            // the same steps.
            let to_page_end = PAGE_SIZE - addr.0 % PAGE_SIZE;
            let want = (to_page_end as usize)
                .min(max - string.len())
                .min(string.len().max(STRING_STEP));
            let start = string.len();
            string.resize(start + want, 0);
            let got = self.copy_in(addr, &mut string[start..]);
            if let Some(end) = string[start..start + got].iter().position(|&b| b == 0) {
                string.truncate(start + end);
                return Ok(string);
            }
            if got < want {
                return Err(Errno::EFAULT);
            }
            addr = addr.plus(got as u64)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Read a path: at most PATH_MAX with its zero.
    pub fn read_path(&self, from: UserCString) -> Result<Vec<u8>, Errno> {
        self.read_cstring(from, PATH_MAX)
    }
}

/// How much of `len` bytes at `addr` lies in the guest's half of the address space.
fn within_user(addr: UserAddr, len: usize) -> usize {
    let room = USER_END.saturating_sub(addr.0);
    len.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// Where bytes go: guest memory or a buffer of the kernel's own.
pub trait Sink {
    /// Bytes still wanted.
    fn remaining(&self) -> usize;
    /// Take some of `bytes` (at most [`Sink::remaining`]); fewer than offered when memory ends early,
    /// EFAULT when the very first byte cannot be taken.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
}

/// Where bytes come from: guest memory or a buffer of the kernel's own.
pub trait Source {
    /// Bytes still offered.
    fn remaining(&self) -> usize;
    /// Fill some of `buf`; fewer than wanted at the end or when memory ends early, EFAULT when the very first byte
    /// cannot be had.
    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno>;
    /// Step back over the last `bytes` taken, which were not used.
    fn untake(&mut self, bytes: usize);
    /// Bytes taken so far, those of earlier runs of the same call too.
    fn taken(&self) -> usize;
}

/// One `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct IoVec {
    /// Address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A scatter list in guest memory with a position, a [`Sink`] and a [`Source`].
pub struct UserBuf {
    memory: UserMemory,
    vectors: Vec<IoVec>,
    position: usize,
    total: usize,
}

impl UserBuf {
    /// One buffer; the length is cut to [`MAX_TRANSFER`] as Linux does. EFAULT when it leaves the guest's half.
    pub fn new(memory: &UserMemory, addr: UserAddr, len: u64) -> Result<UserBuf, Errno> {
        let end = addr.0.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > USER_END && len > 0 {
            return Err(Errno::EFAULT);
        }
        Ok(UserBuf::from_vectors(memory, vec![IoVec { base: addr.0, len }]))
    }

    /// The vectors of readv(2) and its like: EINVAL for too many or a negative length, EFAULT for bad memory.
    pub fn from_iovec(memory: &UserMemory, iov: UserRef<IoVec>, count: u64) -> Result<UserBuf, Errno> {
        if count > MAX_IOV {
            return Err(Errno::EINVAL);
        }
        let vectors = memory.read_array(iov, count as usize)?;
        let mut total = 0u64;
        for v in &vectors {
            if v.len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            if v.len > 0 && v.base.checked_add(v.len).is_none_or(|end| end > USER_END) {
                return Err(Errno::EFAULT);
            }
            total = total.saturating_add(v.len);
        }
        Ok(UserBuf::from_vectors(memory, vectors))
    }

    /// Vectors into the memory of another task, read already: bad ones end the transfer.
    pub fn remote(memory: &UserMemory, vectors: Vec<IoVec>) -> UserBuf {
        UserBuf::from_vectors(memory, vectors)
    }

    fn from_vectors(memory: &UserMemory, vectors: Vec<IoVec>) -> UserBuf {
        let total = vectors
            .iter()
            .fold(0u64, |sum, v| sum.saturating_add(v.len))
            .min(MAX_TRANSFER);
        UserBuf {
            memory: memory.clone(),
            vectors,
            position: 0,
            total: total as usize,
        }
    }

    /// Bytes moved so far.
    pub fn done(&self) -> usize {
        self.position
    }

    /// Skip `bytes`, which an earlier run of the same call has moved.
    pub fn skip(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(bytes).min(self.total);
    }

    /// Move at most `bytes` more.
    pub fn limit(&mut self, bytes: usize) {
        self.total = self.total.min(self.position.saturating_add(bytes));
    }

    /// Run `copy` over the contiguous pieces from the present position, up to `want` bytes.
    fn each_piece(
        &mut self,
        want: usize,
        mut copy: impl FnMut(&UserMemory, UserAddr, usize, usize) -> usize,
    ) -> Result<usize, Errno> {
        let want = want.min(self.total - self.position);
        let mut done = 0;
        let mut before = 0u64;
        for v in &self.vectors {
            if done == want {
                break;
            }
            let at = (self.position + done) as u64;
            if at >= before.saturating_add(v.len) {
                before = before.saturating_add(v.len);
                continue;
            }
            let inside = at - before;
            let len = usize::try_from(v.len - inside)
                .unwrap_or(usize::MAX)
                .min(want - done);
            let copied = copy(&self.memory, UserAddr(v.base.saturating_add(inside)), done, len);
            done += copied;
            if copied < len {
                if done == 0 {
                    return Err(Errno::EFAULT);
                }
                break;
            }
            before = before.saturating_add(v.len);
        }
        self.position += done;
        Ok(done)
    }
}

impl Sink for UserBuf {
    fn remaining(&self) -> usize {
        self.total - self.position
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.each_piece(bytes.len(), |memory, addr, at, len| {
            memory.copy_out(addr, &bytes[at..at + len])
        })
    }
}

impl Source for UserBuf {
    fn remaining(&self) -> usize {
        self.total - self.position
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.each_piece(buf.len(), |memory, addr, at, len| {
            memory.copy_in(addr, &mut buf[at..at + len])
        })
    }

    fn untake(&mut self, bytes: usize) {
        self.position = self.position.saturating_sub(bytes);
    }

    fn taken(&self) -> usize {
        self.position
    }
}

/// A [`Sink`] that collects up to a limit in kernel memory.
#[derive(Debug)]
pub struct KernelSink {
    /// What was put so far.
    pub bytes: Vec<u8>,
    limit: usize,
}

impl KernelSink {
    /// Wants `limit` bytes.
    pub fn new(limit: usize) -> KernelSink {
        KernelSink {
            bytes: Vec::new(),
            limit,
        }
    }
}

impl Sink for KernelSink {
    fn remaining(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let n = bytes.len().min(Sink::remaining(self));
        self.bytes.extend_from_slice(&bytes[..n]);
        Ok(n)
    }
}

/// A [`Source`] over kernel memory.
#[derive(Debug)]
pub struct KernelSource<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> KernelSource<'a> {
    /// Offers `bytes`.
    pub fn new(bytes: &'a [u8]) -> KernelSource<'a> {
        KernelSource { bytes, position: 0 }
    }
}

impl Source for KernelSource<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = buf.len().min(self.remaining());
        buf[..n].copy_from_slice(&self.bytes[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }

    fn untake(&mut self, bytes: usize) {
        self.position = self.position.saturating_sub(bytes);
    }

    fn taken(&self) -> usize {
        self.position
    }
}
