//! What becomes of the robust locks of a thread that ends: get_robust_list(2).

use std::sync::Arc;

use super::pi::{OWNER_DIED, TID_MASK, WAITERS, hand_over};
use super::{ANY, key_of, wake_in, word};
use crate::kernel::mm::Mm;
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;
use crate::kernel::user_memory::{UserAddr, UserMemory};

/// Most entries that are looked at: the list is the guest's and may be a circle.
const LIMIT: usize = 2048;

/// Mark all locks that `task` holds as their owner having died and wake one waiter of each. Call it while the thread's
/// address space is still there, when it ends or execs; a bad list ends the walk.
pub fn exit_robust_list(task: &Arc<Task>) {
    let head = task.robust_list();
    task.set_robust_list(0);
    if head != 0 {
        let mm = task.mm();
        let memory = UserMemory::new(mm.space.clone());
        // The guest's own list being broken is the guest's own loss.
        let _ = walk(task, &mm, &memory, UserAddr(head));
    }
}

fn walk(task: &Arc<Task>, mm: &Arc<Mm>, memory: &UserMemory, head: UserAddr) -> Result<(), Errno> {
    // struct robust_list_head: first entry, offset from an entry to its word, entry being taken or freed.
    let fields = memory.read_array::<u64>(head.cast(), 3)?;
    let &[first, offset, pending] = fields.as_slice() else {
        return Ok(());
    };
    let word_of = |entry: u64| UserAddr((entry & !1).wrapping_add(offset));
    let mut entry = first;
    for _ in 0..LIMIT {
        if entry & !1 == head.0 {
            break;
        }
        // Read before the lock is given away: its new owner may change the list.
        let next = memory.read(UserAddr(entry & !1).cast::<u64>());
        if entry != pending {
            abandon(task, mm, memory, word_of(entry), entry & 1 != 0, false)?;
        }
        entry = next?;
    }
    if pending & !1 != 0 {
        abandon(task, mm, memory, word_of(pending), pending & 1 != 0, true)?;
    }
    Ok(())
}

fn abandon(
    task: &Arc<Task>,
    mm: &Arc<Mm>,
    memory: &UserMemory,
    uaddr: UserAddr,
    pi: bool,
    pending: bool,
) -> Result<(), Errno> {
    let key = key_of(mm, uaddr, false)?;
    let value = word(memory, uaddr)?;
    if pending && !pi && value == 0 {
        // Freed but its waiter not woken yet.
        task.kernel.futexes.wake(&key, 1, ANY);
        return Ok(());
    }
    if value & TID_MASK != task.tid().cast_unsigned() {
        return Ok(());
    }
    let mut bucket = task.kernel.futexes.bucket(&key);
    if pi {
        return hand_over(&mut bucket, &key, memory, uaddr, OWNER_DIED);
    }
    memory.write(uaddr.cast(), &((value & WAITERS) | OWNER_DIED))?;
    // Even when nobody seems to wait: somebody may have said so between the read and the write, which is not atomic.
    wake_in(&mut bucket, &key, 1, ANY);
    Ok(())
}
