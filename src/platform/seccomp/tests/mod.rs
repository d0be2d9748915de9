//! The platform driven by small pieces of machine code.

use std::sync::{Arc, Mutex};

use super::SeccompPlatform;
use crate::platform::{Io, MapFlags, MemOp, Next, Platform, Prot, Thread, Trap, TrapHandler};

mod marshal;

/// Where the code of test guests lies: one page.
const CODE: u64 = 0x10_0000;
/// Two pages of data; nothing is mapped behind them.
const DATA: u64 = 0x20_0000;
const DATA_END: u64 = DATA + 0x2000;

/// `syscall`
const SYSCALL: &[u8] = &[0x0f, 0x05];

/// An owner that is a closure.
struct Owner<F>(Mutex<F>);

impl<F: FnMut(&mut dyn Thread, Trap) -> Next + Send> TrapHandler for Owner<F> {
    fn trap(self: Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next {
        (self.0.lock().unwrap())(thread, trap)
    }
}

fn map(thread: &mut dyn Thread, addr: u64, len: u64, prot: Prot) {
    let op = MemOp::Map {
        addr,
        len,
        prot,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED,
        file: None,
    };
    thread.memory(&[op]).unwrap();
}

/// A new platform, whether the host lets it copy between processes or not, and a stopped thread that makes system calls.
fn guest(may_copy: bool) -> (Arc<SeccompPlatform>, Box<dyn Thread>) {
    let platform = SeccompPlatform::new(Io::Enlightened, true, None).unwrap();
    if !may_copy {
        platform.core.forbid_copies();
    }
    let mut thread = platform.spawn().unwrap();
    map(&mut *thread, CODE, 0x1000, Prot::READ | Prot::WRITE | Prot::EXEC);
    map(&mut *thread, DATA, DATA_END - DATA, Prot::READ | Prot::WRITE);
    let code = SYSCALL.repeat(8);
    assert_eq!(thread.space().write(CODE, &code), code.len());
    thread.regs_mut().rip = CODE;
    (platform, thread)
}

/// Run `thread` as the only guest, with `f` as its owner.
fn run(
    platform: &SeccompPlatform,
    thread: Box<dyn Thread>,
    f: impl FnMut(&mut dyn Thread, Trap) -> Next + Send + 'static,
) {
    platform.start(thread, Arc::new(Owner(Mutex::new(f))));
    platform.run().unwrap();
}
