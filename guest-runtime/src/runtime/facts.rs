//! Calls that the entry code answers from what the supervisor has told beforehand.
//!
//! Only those by patched sites: the supervisor is to learn of all others, so that it patches their sites.

use core::mem::offset_of;

use crate::abi::Entry;

const GETPID: usize = 39;
const GETUID: usize = 102;
const GETGID: usize = 104;
const GETEUID: usize = 107;
const GETEGID: usize = 108;
const GETPPID: usize = 110;
const GETTID: usize = 186;

/// Where in an [`Entry`] the answer to a call lies, by number; 0 for calls that have none there.
pub static OFFSETS: [u8; 512] = offsets();

const fn offsets() -> [u8; 512] {
    let mut table = [0; 512];
    table[GETPID] = offset_of!(Entry, pid) as u8;
    table[GETTID] = offset_of!(Entry, tid) as u8;
    table[GETPPID] = offset_of!(Entry, ppid) as u8;
    table[GETUID] = offset_of!(Entry, uid) as u8;
    table[GETEUID] = offset_of!(Entry, euid) as u8;
    table[GETGID] = offset_of!(Entry, gid) as u8;
    table[GETEGID] = offset_of!(Entry, egid) as u8;
    table
}
