//! What both platforms do with host processes: starting the first, copies of their memory, their maps and times, checked memory operations.

#![allow(unsafe_code)]

pub(in crate::platform) mod cpuid;
pub(in crate::platform) mod identity;
pub(in crate::platform) mod launch;
pub(in crate::platform) mod maps;
pub(in crate::platform) mod mem;
pub(in crate::platform) mod memory;
pub(in crate::platform) mod remote;
pub(in crate::platform) mod stat;
pub(in crate::platform) mod xstate;
