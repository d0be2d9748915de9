//! The code inside a guest's address space on the seccomp platform, and the protocol by which the supervisor drives it.
//!
//! As a crate this is the protocol only ([`abi`]). The runtime itself is the same source compiled by uvm's build script
//! into a static, position-independent program (`--cfg uvm_runtime`) that is embedded in `uvm` and executed from a memory
//! file. **Nothing in the runtime is trusted**: guest code can jump anywhere in it and change its data. What a guest can do to
//! the host is decided by the seccomp filter and by the supervisor alone.
#![no_std]
#![cfg_attr(uvm_runtime, no_main)]

pub mod abi;
pub mod cpuid;
#[cfg(uvm_runtime)]
#[allow(unsafe_code)]
mod runtime;
