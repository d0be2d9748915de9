//! How execve(2) changes credentials: set-user-ID bits, file capabilities, root's. See capabilities(7),
//! "Transformation of capabilities during execve()".

use super::Subject;
use super::find::Program;
use crate::kernel::fs::MountFlags;
use crate::kernel::fs::access::{SETGID, SETUID};
use crate::kernel::task::Creds;

/// SECBIT_NOROOT.
const NOROOT: u32 = 1;
/// SECBIT_KEEP_CAPS.
const KEEP_CAPS: u32 = 1 << 4;

/// Group execute permission: without it the set-group-ID bit means something else.
const GROUP_EXEC: u32 = 0o010;

/// Who the program will run as.
pub(super) struct NewCreds {
    pub(super) creds: Creds,
    /// AT_SECURE: it has more rights than its caller and must not trust the environment.
    pub(super) secure: bool,
    /// Whether the caller's kind may dump and trace it.
    pub(super) dumpable: bool,
}

/// Capabilities that a file brings along (its `security.capability` attribute).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileCaps {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

impl FileCaps {
    /// Parse the attribute, version 2 or 3; none for others.
    fn parse(bytes: &[u8]) -> Option<FileCaps> {
        let word = |i: usize| {
            let word = bytes.get(i * 4..i * 4 + 4)?;
            Some(u64::from(u32::from_le_bytes(word.try_into().ok()?)))
        };
        let magic = word(0)?;
        let root = match (magic >> 24, bytes.len()) {
            (2, 20) => 0,
            (3, 24) => word(5)?,
            _ => return None,
        };
        (root == 0).then_some(FileCaps {
            permitted: word(1)? | word(3)? << 32,
            inheritable: word(2)? | word(4)? << 32,
            effective: magic & 1 != 0,
        })
    }
}

/// What the file of a program gives to those who run it.
struct Grant {
    uid: Option<u32>,
    gid: Option<u32>,
    caps: Option<FileCaps>,
}

fn grant_of(subject: &Subject, program: &Program) -> Grant {
    let mut grant = Grant {
        uid: None,
        gid: None,
        caps: None,
    };
    if subject.no_new_privs || program.path.mount.flags().contains(MountFlags::NOSUID) {
        return grant;
    }
    let inode = program.path.inode();
    if let Ok(meta) = inode.metadata() {
        grant.uid = (meta.mode & SETUID != 0).then_some(meta.uid);
        grant.gid = (meta.mode & (SETGID | GROUP_EXEC) == SETGID | GROUP_EXEC).then_some(meta.gid);
    }
    grant.caps = inode
        .get_xattr(b"security.capability")
        .ok()
        .and_then(|bytes| FileCaps::parse(&bytes));
    grant
}

/// The credentials of the program when `subject` executes it.
pub(super) fn new_creds(subject: &Subject, program: &Program) -> NewCreds {
    transform(&subject.creds, &grant_of(subject, program))
}

fn transform(old: &Creds, grant: &Grant) -> NewCreds {
    let mut new = old.clone();
    if let Some(uid) = grant.uid {
        new.euid = uid;
    }
    if let Some(gid) = grant.gid {
        new.egid = gid;
    }
    let mut permitted = 0;
    let mut effective = false;
    if let Some(caps) = grant.caps {
        permitted = new.bounding & caps.permitted | new.inheritable & caps.inheritable;
        effective = caps.effective;
    }
    let root_by_bit = new.euid == 0 && new.uid != 0;
    if new.securebits & NOROOT == 0 && !(grant.caps.is_some() && root_by_bit) {
        if new.euid == 0 || new.uid == 0 {
            permitted = new.bounding | new.inheritable;
        }
        effective |= new.euid == 0;
    }
    let changed_id = new.euid != old.euid || new.egid != old.egid;
    new.suid = new.euid;
    new.fsuid = new.euid;
    new.sgid = new.egid;
    new.fsgid = new.egid;
    if grant.caps.is_some() || changed_id {
        new.ambient = 0;
    }
    new.permitted = permitted | new.ambient;
    new.effective = if effective { new.permitted } else { new.ambient };
    new.securebits &= !KEEP_CAPS;
    let is_root = new.uid == 0 && new.securebits & NOROOT == 0;
    let grew = new.permitted & !new.ambient != 0;
    let secure = changed_id || !is_root && (effective || grew);
    let same_ids = new.euid == new.uid && new.egid == new.gid;
    NewCreds {
        creds: new,
        secure,
        dumpable: !secure && same_ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::task::{ALL_CAPABILITIES, Capability};

    const NONE: Grant = Grant {
        uid: None,
        gid: None,
        caps: None,
    };

    #[test]
    fn an_ordinary_program_changes_nothing() {
        let user = Creds::of_user(1000, 1000, &[4]);
        let new = transform(&user, &NONE);
        assert_eq!(new.creds, user);
        assert!(!new.secure && new.dumpable);
        let root = Creds::of_user(0, 0, &[]);
        let new = transform(&root, &NONE);
        assert_eq!(new.creds, root);
        assert!(!new.secure && new.dumpable);
    }

    #[test]
    fn set_user_id_root_gives_all_and_is_secure() {
        let user = Creds::of_user(1000, 1000, &[]);
        let new = transform(&user, &Grant { uid: Some(0), ..NONE });
        assert_eq!(
            (new.creds.uid, new.creds.euid, new.creds.suid, new.creds.fsuid),
            (1000, 0, 0, 0)
        );
        assert_eq!(new.creds.effective, ALL_CAPABILITIES);
        assert!(new.secure && !new.dumpable);
    }

    #[test]
    fn root_that_dropped_its_effective_id_keeps_permitted_only() {
        let mut creds = Creds::of_user(0, 0, &[]);
        creds.euid = 1000;
        creds.suid = 1000;
        creds.fsuid = 1000;
        let new = transform(&creds, &NONE);
        assert_eq!((new.creds.permitted, new.creds.effective), (ALL_CAPABILITIES, 0));
    }

    #[test]
    fn file_capabilities() {
        let mut bytes = vec![1, 0, 0, 2];
        bytes.extend((1u32 << Capability::NetRaw as u32).to_le_bytes());
        bytes.extend([0; 12]);
        let caps = FileCaps::parse(&bytes);
        let expected = FileCaps {
            permitted: 1 << 13,
            inheritable: 0,
            effective: true,
        };
        assert_eq!(caps, Some(expected));
        let user = Creds::of_user(1000, 1000, &[]);
        let new = transform(&user, &Grant { caps, ..NONE });
        assert_eq!((new.creds.permitted, new.creds.effective), (1 << 13, 1 << 13));
        assert!(new.secure);
        assert_eq!(FileCaps::parse(&bytes[..19]), None);
        assert_eq!(FileCaps::parse(&[]), None);
    }
}
