//! Time: one clock for everything a guest can see, timers, and the calls of clock_gettime(2) and timer_create(2).

mod clock;

pub use clock::{Clock, Instant, NANOS_PER_SEC, Timestamp};
