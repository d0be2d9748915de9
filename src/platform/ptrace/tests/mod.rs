//! The platform driven by small pieces of machine code.

use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};

use super::PtracePlatform;
use crate::platform::{MapFlags, MemOp, Next, Platform, Prot, Thread, Trap, TrapHandler};

mod basic;
mod cost;
mod lifetime;
mod memory;
mod threads;

/// Where the code of test guests lies: one page, readable, writable and executable.
const CODE: u64 = 0x10_0000;
/// One page of data.
const DATA: u64 = 0x20_0000;
/// One past their stack of one page.
const STACK: u64 = 0x30_1000;

/// `syscall`
const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `jmp .`
const SPIN: &[u8] = &[0xeb, 0xfe];

/// An owner that is a closure.
struct Owner<F>(Mutex<F>);

impl<F: FnMut(&mut dyn Thread, Trap) -> Next + Send> TrapHandler for Owner<F> {
    fn trap(self: Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next {
        (self.0.lock().unwrap())(thread, trap)
    }
}

fn owner<F: FnMut(&mut dyn Thread, Trap) -> Next + Send + 'static>(f: F) -> Arc<dyn TrapHandler> {
    Arc::new(Owner(Mutex::new(f)))
}

fn map(thread: &mut dyn Thread, addr: u64, len: u64, prot: Prot) -> Result<u64, Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    thread.memory(&[MemOp::Map {
        addr,
        len,
        prot,
        flags,
        file: None,
    }])
}

/// A new platform and a stopped thread in it that will run `code`.
fn guest(code: &[u8]) -> (Arc<PtracePlatform>, Box<dyn Thread>) {
    let platform = PtracePlatform::new(false).unwrap();
    let thread = guest_in(&platform, code);
    (platform, thread)
}

fn guest_in(platform: &PtracePlatform, code: &[u8]) -> Box<dyn Thread> {
    let mut thread = platform.spawn().unwrap();
    map(&mut *thread, CODE, 4096, Prot::READ | Prot::WRITE | Prot::EXEC).unwrap();
    map(&mut *thread, DATA, 4096, Prot::READ | Prot::WRITE).unwrap();
    map(&mut *thread, STACK - 4096, 4096, Prot::READ | Prot::WRITE).unwrap();
    assert_eq!(thread.space().write(CODE, code), code.len());
    thread.regs_mut().rip = CODE;
    thread.regs_mut().rsp = STACK;
    thread
}

/// Run `code` as the only guest, with `f` as its owner.
fn run(code: &[u8], f: impl FnMut(&mut dyn Thread, Trap) -> Next + Send + 'static) {
    let (platform, thread) = guest(code);
    platform.start(thread, owner(f));
    platform.run().unwrap();
    no_children();
}

/// Check that this host thread has no host process left.
fn no_children() {
    let flags = WaitPidFlag::__WNOTHREAD | WaitPidFlag::__WALL;
    assert_eq!(waitpid(None, Some(flags)), Err(Errno::ECHILD));
}

/// `pieces` in a row.
fn code(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// `mov $value, %eax`
fn mov_eax(value: u32) -> Vec<u8> {
    let mut out = vec![0xb8];
    out.extend_from_slice(&value.to_le_bytes());
    out
}
