//! uvm: a virtual machine monitor whose machine is an ordinary host process tree.

pub mod cli;
pub mod cpu;
pub mod image;
pub mod kernel;
pub mod machine;
pub mod platform;
#[cfg(test)]
mod testing;
pub mod trace;
