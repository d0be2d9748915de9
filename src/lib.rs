//! uvm: a virtual machine monitor whose machine is an ordinary host process tree.

pub mod kernel;
pub mod platform;
