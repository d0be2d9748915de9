//! System V IPC, message queues and futexes.

use syscall_table::flags;

use crate::trace::buffers;
use crate::trace::memory::{Fields, Memory, array};
use crate::trace::text::{self, Braces};

/// `struct sembuf`, 6 bytes.
pub(super) fn sembuf(operation: Fields<'_>) -> String {
    Braces::new()
        .field("sem_num", operation.u16(0))
        .field("sem_op", operation.i16(2))
        .field("sem_flg", flags::SEM_OP.display(operation.u16(4).into()))
        .end()
}

/// `struct mq_attr`, 64 bytes.
pub(super) fn mq_attr(attr: Fields<'_>) -> String {
    Braces::new()
        .field("mq_flags", flags::OPEN_BITS.display(attr.u64(0)))
        .field("mq_maxmsg", attr.i64(8))
        .field("mq_msgsize", attr.i64(16))
        .field("mq_curmsgs", attr.i64(24))
        .end()
}

/// `struct futex_waitv`, 24 bytes.
pub(super) fn futex_waitv(waiter: Fields<'_>) -> String {
    Braces::new()
        .field("val", text::hex(waiter.u64(0)))
        .field("uaddr", text::addr(waiter.u64(8)))
        .field("flags", flags::FUTEX2.display(waiter.u32(16).into()))
        .end()
}

/// `struct ipc64_perm`, at the beginning of every `..._ds`, 48 bytes.
fn permissions(object: Fields<'_>) -> String {
    Braces::new()
        .field("uid", object.u32(4))
        .field("gid", object.u32(8))
        .field("mode", text::octal(object.u32(20).into()))
        .field("key", object.u32(0))
        .field("cuid", object.u32(12))
        .field("cgid", object.u32(16))
        .end()
}

/// `struct shmid64_ds`, 112 bytes.
pub(in crate::trace) fn shmid_ds(object: Fields<'_>) -> String {
    Braces::new()
        .field("shm_perm", permissions(object))
        .field("shm_segsz", object.u64(48))
        .field("shm_cpid", object.i32(80))
        .field("shm_lpid", object.i32(84))
        .field("shm_nattch", object.u64(88))
        .field("shm_atime", object.i64(56))
        .field("shm_dtime", object.i64(64))
        .field("shm_ctime", object.i64(72))
        .end()
}

/// `struct semid64_ds`, 104 bytes.
pub(in crate::trace) fn semid_ds(object: Fields<'_>) -> String {
    Braces::new()
        .field("sem_perm", permissions(object))
        .field("sem_otime", object.i64(48))
        .field("sem_ctime", object.i64(64))
        .field("sem_nsems", object.u64(80))
        .end()
}

/// `struct msqid64_ds`, 120 bytes.
pub(in crate::trace) fn msqid_ds(object: Fields<'_>) -> String {
    Braces::new()
        .field("msg_perm", permissions(object))
        .field("msg_stime", object.i64(48))
        .field("msg_rtime", object.i64(56))
        .field("msg_ctime", object.i64(64))
        .field("msg_qnum", object.u64(80))
        .field("msg_qbytes", object.u64(88))
        .field("msg_lspid", object.i32(96))
        .field("msg_lrpid", object.i32(100))
        .end()
}

/// A System V message: its type, then `len` bytes.
pub(in crate::trace) fn user_message(mem: &dyn Memory, addr: u64, len: u64) -> String {
    let Some(kind) = array(mem, addr).map(i64::from_le_bytes) else {
        return text::addr(addr);
    };
    let body = buffers::buffer(mem, addr.wrapping_add(8), len);
    Braces::new().field("mtype", kind).field("mtext", body).end()
}
