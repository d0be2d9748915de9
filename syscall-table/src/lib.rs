//! One declarative row per Linux x86-64 system call.
#![no_std]
