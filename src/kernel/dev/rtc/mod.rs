//! The clock that goes on while a machine is off, as its users see it: /dev/rtc0, /sys/class/rtc and /proc/driver/rtc.

mod calendar;
mod device;
mod file;
mod shown;

pub use calendar::Civil;
pub use device::Rtc;
pub use file::{NODE, RtcDriver};
pub use shown::{described, sysfs};
