//! Time: one clock for everything a guest can see, timers, and the calls of clock_gettime(2) and timer_create(2).

mod clock;
mod clocks;
mod countdown;
mod cpu;
mod cpu_limit;
mod interval;
mod posix;
mod process;
mod sleep;
mod syscalls;
mod vdso;

pub(in crate::kernel) use clock::host_monotonic;
pub use clock::{Clock, Instant, NANOS_PER_SEC, Pace, Start, Timestamp};
pub(in crate::kernel) use clocks::timer_base;
pub use countdown::{Base, Countdown};
pub(in crate::kernel) use cpu_limit::watch_cpu_limit;
pub use process::ProcessTimers;
pub(in crate::kernel) use process::signal_taken;
pub(in crate::kernel) use syscalls::dispatch;
pub use vdso::Vdso;
