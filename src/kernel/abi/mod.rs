//! Structures that guests and the kernel exchange through memory, as the x86-64 ABI lays them out.

pub mod elf;
pub mod fs;
pub mod sys;
pub mod task;
pub mod time;
