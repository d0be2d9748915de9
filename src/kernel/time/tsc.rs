//! The time stamp counter of guests whose clock is not the host's: RDTSC and RDTSCP trap (PR_SET_TSC) and are answered here.

use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use crate::kernel::task::Task;
use crate::kernel::user_memory::UserAddr;
use crate::platform::{Fault, Thread};

/// Longest x86 instruction in bytes.
const INSTRUCTION: usize = 15;
/// Nanoseconds in a millisecond.
const NANOS_PER_MSEC: u128 = 1_000_000;

/// If `fault` is the reading of the counter, have it give what the guest's clock says, at the speed that the guest is told of
/// its processor. Not for a thread that asked for the fault.
pub(in crate::kernel) fn answer(task: &Arc<Task>, thread: &mut dyn Thread, fault: &Fault) -> bool {
    let kernel = &task.kernel;
    let expected = fault.signal == libc::SIGSEGV && kernel.clock.is_virtual();
    if !expected || task.state.lock().tsc_faults {
        return false;
    }
    let rip = thread.regs().rip;
    let mut code = [0; INSTRUCTION];
    let got = task.memory().copy_in(UserAddr(rip), &mut code);
    let mut decoder = Decoder::with_ip(64, &code[..got], rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let with_cpu = match instruction.mnemonic() {
        Mnemonic::Rdtsc => false,
        Mnemonic::Rdtscp => true,
        _ => return false,
    };
    kernel.reactor.clock_is_read();
    let counter = u128::from(kernel.clock.now().0) * u128::from(kernel.hardware.khz) / NANOS_PER_MSEC;
    let half = |number: u128| u64::try_from(number & 0xffff_ffff).unwrap_or(0);
    let regs = thread.regs_mut();
    regs.rax = half(counter);
    regs.rdx = half(counter >> 32);
    if with_cpu {
        // The first CPU of the first node.
        regs.rcx = 0;
    }
    regs.rip = instruction.next_ip();
    true
}
