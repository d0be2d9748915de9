//! The fast platform: no ptrace; a filter sends what a guest does to the runtime in its own address space.

pub mod filter;
pub mod patch;
