//! The runtime: catches what a guest thread does, tells the supervisor, and does what it answers.

mod bell;
mod boot;
mod clock;
mod commands;
mod cpuid;
mod entry;
mod facts;
mod futex;
mod granted;
mod marshal;
mod memory;
mod native;
mod pipes;
mod signals;
mod sys;
mod thread;

use core::panic::PanicInfo;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    sys::exit_group()
}

// The prebuilt core library refers to it; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
