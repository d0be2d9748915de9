//! System V IPC: sysvipc(7). What its three kinds of objects have in common: keys, ids, permissions.

use std::collections::BTreeMap;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Capability, Creds, Pid};
use crate::kernel::time::Clock;

mod msg;
mod sem;
mod shm;

pub(super) use msg::{msgctl, msgget, msgrcv, msgsnd};
pub(super) use sem::{semctl, semget, semop, semtimedop};
pub(super) use shm::{shmat, shmctl, shmdt, shmget};

const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: i32 = 0o1000;
const IPC_EXCL: i32 = 0o2000;
const IPC_NOWAIT: i32 = 0o4000;

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;

/// Objects of one kind; an id is an index and, above it, how often the index was used.
const INDEX_BITS: u32 = 15;
const SEQUENCES: i32 = 1 << 16;

/// Read and write permission for all classes.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;

/// The System V objects of a guest.
#[derive(Default)]
pub struct SysV {
    queues: Registry<msg::Queue>,
    semaphores: Registry<sem::Set>,
    segments: Registry<shm::Segment>,
}

impl SysV {
    /// A process has ended: undo what it asked to have undone (SEM_UNDO).
    pub fn on_exit(&self, pid: Pid) {
        for (_, set) in self.semaphores.list() {
            set.undo(pid);
        }
    }
}

/// `struct ipc64_perm`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub(super) struct IpcPerm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

/// Who may use an object, and when that was last changed.
#[derive(Clone, Copy, Debug)]
struct Perm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    /// Seconds since 1970.
    changed: i64,
}

fn seconds(clock: &Clock) -> i64 {
    clock.realtime().sec
}

impl Perm {
    fn new(creds: &Creds, key: i32, mode: u32, clock: &Clock) -> Perm {
        Perm {
            key,
            uid: creds.euid,
            gid: creds.egid,
            cuid: creds.euid,
            cgid: creds.egid,
            mode: mode & 0o777,
            changed: seconds(clock),
        }
    }

    /// Whether `want` (a pattern for all three classes) is allowed; EACCES.
    fn check(&self, creds: &Creds, want: u32) -> Result<(), Errno> {
        let shift = if creds.euid == self.uid || creds.euid == self.cuid {
            6
        } else if [self.gid, self.cgid]
            .iter()
            .any(|gid| creds.egid == *gid || creds.groups.contains(gid))
        {
            3
        } else {
            0
        };
        let wanted = (want | want >> 3 | want >> 6) & 7;
        if wanted & !(self.mode >> shift) == 0 || creds.capable(Capability::IpcOwner) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether it may be changed or removed; EPERM.
    fn check_owner(&self, creds: &Creds) -> Result<(), Errno> {
        if [self.uid, self.cuid].contains(&creds.euid) || creds.capable(Capability::SysAdmin) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// IPC_SET.
    fn set(&mut self, from: &IpcPerm, clock: &Clock) {
        self.uid = from.uid;
        self.gid = from.gid;
        self.mode = self.mode & !0o777 | from.mode & 0o777;
        self.changed = seconds(clock);
    }

    fn shown(&self, id: i32) -> IpcPerm {
        IpcPerm {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode,
            seq: u16::try_from(id >> INDEX_BITS).unwrap_or_default(),
            ..IpcPerm::default()
        }
    }
}

/// What all kinds of objects can tell.
trait Object {
    /// Most objects of this kind.
    const LIMIT: usize;
    fn perm(&self) -> Perm;
}

/// Objects of one kind by index.
struct Registry<T>(Lock<Slots<T>>);

struct Slots<T> {
    by_index: BTreeMap<i32, (i32, Arc<T>)>,
    sequence: i32,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        let slots = Slots {
            by_index: BTreeMap::new(),
            sequence: 0,
        };
        Registry(Lock::new(Rank::Table, slots))
    }
}

impl<T: Object> Registry<T> {
    /// msgget(2) and its like: the id of the object with this key. `check` sees one that exists, `make` makes a new one.
    /// No object's own lock may be of rank Table or earlier.
    fn get(
        &self,
        creds: &Creds,
        key: i32,
        flags: i32,
        check: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(u32) -> Result<T, Errno>,
    ) -> Result<i32, Errno> {
        let mode = flags.cast_unsigned() & 0o777;
        let mut slots = self.0.lock();
        if key != IPC_PRIVATE {
            let found = slots.by_index.values().find(|(_, o)| o.perm().key == key);
            if let Some((id, object)) = found {
                if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                check(object)?;
                object.perm().check(creds, mode)?;
                return Ok(*id);
            }
            if flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        if slots.by_index.len() >= T::LIMIT {
            return Err(Errno::ENOSPC);
        }
        let object = Arc::new(make(mode)?);
        let index = (0..).find(|i| !slots.by_index.contains_key(i)).unwrap_or(0);
        let id = (slots.sequence << INDEX_BITS) | index;
        slots.sequence = (slots.sequence + 1) % SEQUENCES;
        slots.by_index.insert(index, (id, object));
        Ok(id)
    }

    /// The object with an id; EINVAL.
    fn find(&self, id: i32) -> Result<Arc<T>, Errno> {
        let slots = self.0.lock();
        let index = id & ((1 << INDEX_BITS) - 1);
        match slots.by_index.get(&index) {
            Some((found, object)) if *found == id => Ok(object.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The object at an index with its id (MSG_STAT and its like); EINVAL.
    fn at(&self, index: i32) -> Result<(i32, Arc<T>), Errno> {
        self.0.lock().by_index.get(&index).cloned().ok_or(Errno::EINVAL)
    }

    fn remove(&self, id: i32) {
        let index = id & ((1 << INDEX_BITS) - 1);
        let mut slots = self.0.lock();
        let removed = match slots.by_index.get(&index) {
            Some((found, _)) if *found == id => slots.by_index.remove(&index),
            _ => None,
        };
        drop(slots);
        drop(removed);
    }

    fn list(&self) -> Vec<(i32, Arc<T>)> {
        self.0.lock().by_index.values().cloned().collect()
    }

    /// Number of objects and highest index in use.
    fn usage(&self) -> (i32, i32) {
        let slots = self.0.lock();
        let highest = slots.by_index.keys().next_back().copied().unwrap_or(0);
        (i32::try_from(slots.by_index.len()).unwrap_or(i32::MAX), highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Perm);

    impl Object for Thing {
        const LIMIT: usize = 2;
        fn perm(&self) -> Perm {
            self.0
        }
    }

    fn get(registry: &Registry<Thing>, key: i32, flags: i32) -> Result<i32, Errno> {
        let creds = Creds::of_user(1000, 1000, &[]);
        let clock = Clock::new();
        registry.get(
            &creds,
            key,
            flags,
            |_| Ok(()),
            |mode| Ok(Thing(Perm::new(&creds, key, mode, &clock))),
        )
    }

    #[test]
    fn keys_name_one_object_and_ids_are_not_reused_soon() {
        let registry = Registry::default();
        assert_eq!(get(&registry, 7, 0o600), Err(Errno::ENOENT));
        let id = get(&registry, 7, IPC_CREAT | 0o600);
        assert_eq!(get(&registry, 7, 0o600), id);
        assert_eq!(get(&registry, 7, IPC_CREAT | IPC_EXCL), Err(Errno::EEXIST));
        assert!(get(&registry, IPC_PRIVATE, 0o600).is_ok_and(|other| Ok(other) != id));
        assert_eq!(get(&registry, 8, IPC_CREAT), Err(Errno::ENOSPC));
        let id = id.unwrap_or(-1);
        registry.remove(id);
        assert!(registry.find(id).is_err());
        assert!(get(&registry, 7, IPC_CREAT | 0o600).is_ok_and(|new| new != id));
    }

    #[test]
    fn permission_goes_by_class() {
        let clock = Clock::new();
        let owner = Creds::of_user(1000, 100, &[]);
        let perm = Perm::new(&owner, 0, 0o640, &clock);
        let group = Creds::of_user(1001, 5, &[100]);
        let other = Creds::of_user(1002, 5, &[]);
        assert_eq!(perm.check(&owner, READ | WRITE), Ok(()));
        assert_eq!(
            (perm.check(&group, READ), perm.check(&group, WRITE)),
            (Ok(()), Err(Errno::EACCES))
        );
        assert_eq!(perm.check(&other, READ), Err(Errno::EACCES));
        assert_eq!(perm.check(&Creds::of_user(0, 0, &[]), WRITE), Ok(()));
        assert_eq!(perm.check_owner(&other), Err(Errno::EPERM));
    }
}
