//! The processor that guests are shown: which features it has, what CPUID and /proc/cpuinfo say of it, and what becomes of every
//! instruction whose effect depends on more than the guest's own registers and memory.

mod cpuinfo;
mod features;
mod instructions;
mod leaves;
mod missing;
mod model;
mod ports;

pub use instructions::{Class, Handling, INSTRUCTIONS, Instruction, Remedy};
pub use missing::{Memory, Outcome, emulate};
pub use model::{Choice, HostProcessor, Model};
pub use ports::{Buffer, Ports, Transfer, transfer};
