//! The code inside a guest's address space on the seccomp platform.
//!
//! Empty until that platform lands: the ptrace platform puts a single page of two instructions into a guest
//! and needs no runtime.
#![no_std]
