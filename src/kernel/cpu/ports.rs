//! Port instructions of threads that may use ports (ioperm(2), iopl(2)).

use super::memory::{GuestMemory, page_fault};
use crate::cpu::{Ports, Transfer, transfer};
use crate::kernel::dev::port::{PortAccess, PortBus};
use crate::kernel::task::Task;
use crate::platform::{Fault, Thread};

/// Repetitions of a string instruction that are done at once; the instruction then traps again, so that signals are looked at.
const MOST: u32 = 512;

const CLI: u8 = 0xfa;
const STI: u8 = 0xfb;

struct Allowed<'a> {
    bus: &'a PortBus,
    access: PortAccess,
}

impl Ports for Allowed<'_> {
    fn may_use(&self, port: u16, width: u16) -> bool {
        self.access.may_use(port, width)
    }

    fn input(&mut self, port: u16, width: u16) -> u32 {
        self.bus.input(port, width)
    }

    fn output(&mut self, port: u16, width: u16, value: u32) {
        self.bus.output(port, width, value);
    }
}

/// Carry out the instruction that `code`, found at rip, begins with. None when it is not one that the thread may use; else the
/// fault that it meets, if it does.
pub(super) fn carry_out(task: &Task, thread: &mut dyn Thread, code: &[u8]) -> Option<Option<Fault>> {
    let access = task.state.lock().ports.clone();
    if access.is_empty() {
        return None;
    }
    if access.is_highest() && matches!(code.first(), Some(&(CLI | STI))) {
        // Linux steps over these too: interrupts are not the program's, whatever it was given.
        let regs = thread.regs_mut();
        regs.rip = regs.rip.wrapping_add(1);
        return Some(None);
    }
    let most = if task.is_stepped() { 1 } else { MOST };
    let space = thread.space().clone();
    let mut ports = Allowed {
        bus: &task.kernel.ports,
        access,
    };
    match transfer(
        code,
        thread.regs_mut(),
        &mut ports,
        &mut GuestMemory(&*space),
        most,
    ) {
        Transfer::Refused => None,
        Transfer::Done | Transfer::Partly => Some(None),
        Transfer::BadMemory { address, write } => Some(Some(page_fault(&*space, address, write))),
    }
}
