//! The time stamp counter of guests whose clock is not the host's: RDTSC and RDTSCP trap (PR_SET_TSC) and are answered here.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use crate::kernel::task::Task;
use crate::platform::Thread;

/// Nanoseconds in a millisecond.
const NANOS_PER_MSEC: u128 = 1_000_000;

/// If the instruction that `code` begins with reads the counter, have it give what the guest's clock says, at the speed that the
/// guest is told of its processor; its length. None when it is another one, the clock is the host's, or the thread has asked for
/// faults.
pub(super) fn answer(task: &Task, thread: &mut dyn Thread, code: &[u8]) -> Option<usize> {
    let kernel = &task.kernel;
    if !kernel.clock.is_virtual() || task.state.lock().tsc_faults {
        return None;
    }
    let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
    let with_cpu = match instruction.mnemonic() {
        Mnemonic::Rdtsc => false,
        Mnemonic::Rdtscp => true,
        _ => return None,
    };
    kernel.reactor.clock_is_read();
    let counter = u128::from(kernel.clock.now().0) * u128::from(kernel.processor.khz()) / NANOS_PER_MSEC;
    let half = |number: u128| u64::try_from(number & 0xffff_ffff).unwrap_or(0);
    let regs = thread.regs_mut();
    regs.rax = half(counter);
    regs.rdx = half(counter >> 32);
    if with_cpu {
        // The first CPU of the first node.
        regs.rcx = 0;
    }
    Some(instruction.len())
}
