//! The rows, one file per subsystem, each a macro that hands all its rows to a callback.

#[macro_use]
mod cpu;
#[macro_use]
mod fs;
#[macro_use]
mod ipc;
#[macro_use]
mod mm;
#[macro_use]
mod net;
#[macro_use]
mod poll;
#[macro_use]
mod sched;
#[macro_use]
mod signal;
#[macro_use]
mod sys;
#[macro_use]
mod task;
#[macro_use]
mod time;
