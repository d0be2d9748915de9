//! FUTEX_WAKE_OP: change one word, wake on two futexes.

use super::calls::{as_count, kernels_key};
use super::{ANY, wake_in, word};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserAddr;

/// The operand is a bit number (FUTEX_OP_OPARG_SHIFT).
const OPARG_SHIFT: u32 = 8;

/// FUTEX_WAKE_OP. The change of the second word is atomic against other futex calls but, unlike on Linux, not against
/// instructions of threads that run meanwhile: the supervisor has no way to do that in another address space.
pub(super) fn wake_op(
    cx: &SyscallCx<'_>,
    (uaddr, uaddr2): (UserAddr, UserAddr),
    private: bool,
    wake: u32,
    wake2: u32,
    encoded: u32,
) -> SysResult<i32> {
    let one = kernels_key(cx, uaddr, private)?;
    let two = kernels_key(cx, uaddr2, private)?;
    let operation = Operation::decode(encoded)?;
    let count = |n: u32| usize::try_from(n.cast_signed()).unwrap_or(1).max(1);
    cx.kernel.futexes.with_two(&one, &two, |pair| {
        let old = word(&cx.memory, uaddr2)?;
        cx.memory.write(uaddr2.cast(), &operation.apply(old))?;
        let mut woken = wake_in(pair.first(), &one, count(wake), ANY);
        if operation.holds(old) {
            woken += wake_in(pair.second(), &two, count(wake2), ANY);
        }
        Ok(as_count(woken))
    })
}

/// What FUTEX_OP() encodes.
#[derive(Clone, Copy, Debug)]
struct Operation {
    op: u32,
    operand: u32,
    compare: u32,
    against: i32,
}

impl Operation {
    fn decode(encoded: u32) -> Result<Operation, Errno> {
        let op = encoded >> 28;
        // Both 12-bit fields are sign-extended.
        let operand = (encoded << 8).cast_signed() >> 20;
        let against = (encoded << 20).cast_signed() >> 20;
        let compare = (encoded >> 24) & 15;
        let operand = if op & OPARG_SHIFT != 0 {
            1 << (operand & 31)
        } else {
            operand.cast_unsigned()
        };
        let op = op & !OPARG_SHIFT;
        if op > 4 || compare > 5 {
            return Err(Errno::ENOSYS);
        }
        Ok(Operation {
            op,
            operand,
            compare,
            against,
        })
    }

    fn apply(self, old: u32) -> u32 {
        match self.op {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    fn holds(self, old: u32) -> bool {
        let old = old.cast_signed();
        match self.compare {
            0 => old == self.against,
            1 => old != self.against,
            2 => old < self.against,
            3 => old <= self.against,
            4 => old > self.against,
            _ => old >= self.against,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(op: u32, operand: u32, compare: u32, against: u32) -> u32 {
        (op << 28) | (compare << 24) | ((operand & 0xfff) << 12) | (against & 0xfff)
    }

    #[test]
    fn decodes_signs_shifts_and_comparisons() {
        let add = Operation::decode(encode(1, 0xfff, 4, 0xffe)).ok();
        assert_eq!(add.map(|o| o.apply(5)), Some(4));
        assert_eq!(
            add.map(|o| (o.holds(u32::MAX), o.holds(0xffff_fffe))),
            Some((true, false))
        );
        let or = Operation::decode(encode(2 | 8, 31, 0, 0)).ok();
        assert_eq!(or.map(|o| (o.apply(1), o.holds(0))), Some((0x8000_0001, true)));
        assert_eq!(Operation::decode(encode(5, 0, 0, 0)).err(), Some(Errno::ENOSYS));
        assert_eq!(Operation::decode(encode(0, 0, 6, 0)).err(), Some(Errno::ENOSYS));
    }
}
