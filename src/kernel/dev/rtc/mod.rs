//! The clock that goes on while a machine is off, as its users see it.

mod calendar;

pub use calendar::Civil;
