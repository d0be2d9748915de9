//! The thread block: what the runtime keeps of one guest thread, at the start of its private slot.

use core::mem::size_of;

use crate::abi::{PAGE, PRIVATE_BASE, PRIVATE_STRIDE, Page, Registers, SHARED_BASE, SHARED_STRIDE};

/// Bytes for the runtime's own stack, behind the block.
pub const STACK: u64 = 0x6000;

/// Places for [`Block::cpuid_sites`].
pub const SITES: usize = 64;

/// What the entry code keeps at the top of the runtime's stack: vector registers that Rust code may change, and the
/// general registers with a word of padding above.
#[repr(C)]
pub struct Frame {
    pub vectors: [[u64; 2]; 16],
    pub regs: Registers,
    pad: u64,
}

/// Offsets that the entry code knows: `me` 0, `frame_top` 8, `rsp` 16, `go_on` 24, `pending` 32.
#[repr(C)]
pub struct Block {
    pub me: *mut Block,
    /// Top of the runtime's stack.
    pub frame_top: u64,
    /// The guest's rsp while the entry code saves it.
    pub rsp: u64,
    /// Where a patched call goes on.
    pub go_on: u64,
    /// A kick came while the runtime ran.
    pub pending: u64,
    /// What a new host process says hello with; 0 in a new thread of the same process.
    pub token: u64,
    pub page: *mut Page,
    pub slot: u64,
    /// The number of the call that the entry may answer at once.
    pub number: u64,
    /// The last values of the words on the page that this side knows.
    pub req: u32,
    pub rsp_seen: u32,
    pub done: u32,
    /// The trap flag, if it was found set, and cleared, while the entry code ran: its copy on the stack may lack it.
    pub stepping: u64,
    /// What the next ring tells to have been moved for its call.
    pub moved: u64,
    /// CPUID instructions that faulted lately: where, and how often.
    pub cpuid_sites: [[u64; 2]; SITES],
}

const _: () = assert!(size_of::<Block>() <= PAGE as usize);

impl Block {
    /// The block of a slot, filled in.
    pub fn of_slot(slot: u64) -> &'static mut Block {
        let at = PRIVATE_BASE + slot * PRIVATE_STRIDE;
        // SAFETY: private memory of this thread's slot, mapped since the first stub began; any bytes are a valid Block.
        let block = unsafe { &mut *(at as *mut Block) };
        block.me = block;
        block.frame_top = at + PAGE + STACK;
        block.page = (SHARED_BASE + slot * SHARED_STRIDE) as *mut Page;
        block.slot = slot;
        block.forget();
        block
    }

    /// Begin with a fresh doorbell page.
    pub fn forget(&mut self) {
        (self.req, self.rsp_seen, self.done, self.pending) = (0, 0, 0, 0);
        (self.moved, self.stepping) = (0, 0);
    }

    /// The block of the thread that runs on an alternate stack with something at `address`.
    pub fn around(address: u64) -> &'static mut Block {
        // SAFETY: as in `of_slot`: only the host's signal delivery, on the alternate stack, leads here.
        unsafe { &mut *((address & !(PRIVATE_STRIDE - 1)) as *mut Block) }
    }

    /// The alternate stack for host signals: the rest of the slot.
    pub fn alternate_stack(&self) -> (u64, u64) {
        let start = self.frame_top;
        let end = self.me as u64 + PRIVATE_STRIDE;
        (start, end - start)
    }

    /// Where the entry code leaves registers.
    pub fn frame(&self) -> *mut Frame {
        (self.frame_top - size_of::<Frame>() as u64) as *mut Frame
    }

    /// Address of the byte at `offset` of the window.
    pub fn window(&self, offset: u64) -> u64 {
        self.page as u64 + PAGE + offset
    }
}
