//! Devices and other ends that lead out of the guest.

pub mod stream;
