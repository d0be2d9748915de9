//! The requests of rtc(4).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Civil;
use super::device::{FREQUENCY_MAX, Rtc, USER_FREQUENCY};
use crate::kernel::fs::{Driver, File, FileOps, OpenFlags, Path};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{Sink, UserAddr};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Name, numbers and permission bits of the node.
pub const NODE: (&str, u32, u32, u32) = ("rtc0", 252, 0, 0o600);

const AIE_ON: u32 = 0x7001;
const AIE_OFF: u32 = 0x7002;
const UIE_ON: u32 = 0x7003;
const UIE_OFF: u32 = 0x7004;
const PIE_ON: u32 = 0x7005;
const PIE_OFF: u32 = 0x7006;
const ALM_SET: u32 = 0x4024_7007;
const ALM_READ: u32 = 0x8024_7008;
const RD_TIME: u32 = 0x8024_7009;
const SET_TIME: u32 = 0x4024_700a;
const IRQP_READ: u32 = 0x8008_700b;
const IRQP_SET: u32 = 0x4008_700c;
const WKALM_SET: u32 = 0x4028_700f;
const WKALM_RD: u32 = 0x8028_7010;

const DAY: i64 = 86_400;

/// `struct rtc_time`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct RtcTime {
    sec: i32,
    min: i32,
    hour: i32,
    mday: i32,
    /// From 0.
    mon: i32,
    /// From 1900.
    year: i32,
    wday: i32,
    yday: i32,
    isdst: i32,
}

/// `struct rtc_wkalrm`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct WakeAlarm {
    enabled: u8,
    pending: u8,
    padding: [u8; 2],
    time: RtcTime,
}

impl RtcTime {
    fn at(seconds: i64) -> RtcTime {
        let time = Civil::from_seconds(seconds);
        let int = |number: i64| i32::try_from(number).unwrap_or(0);
        RtcTime {
            sec: int(time.second),
            min: int(time.minute),
            hour: int(time.hour),
            mday: int(time.day),
            mon: int(time.month - 1),
            year: int(time.year - 1900),
            wday: int(time.weekday()),
            yday: int(time.day_of_year()),
            isdst: 0,
        }
    }

    /// Seconds since 1970; EINVAL when there is no such time, or it was before.
    fn seconds(&self) -> Result<i64, Errno> {
        let time = Civil {
            year: i64::from(self.year) + 1900,
            month: i64::from(self.mon) + 1,
            day: self.mday.into(),
            hour: self.hour.into(),
            minute: self.min.into(),
            second: self.sec.into(),
        };
        if time.is_valid() && time.year >= 1970 {
            Ok(time.seconds())
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// Opens /dev/rtc0.
pub struct RtcDriver;

impl Driver for RtcDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, _: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        if !cx.kernel.rtc.open() {
            return fail!(EBUSY);
        }
        Ok(Arc::new(RtcFile(cx.kernel.rtc.clone())))
    }
}

struct RtcFile(Arc<Rtc>);

impl Drop for RtcFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl FileOps for RtcFile {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let want = to.remaining();
        if want != 4 && want < 8 {
            return fail!(EINVAL);
        }
        let data = match self.0.take(|| WaitFor::queue(&self.0.queue, Events::READ)) {
            Ok(data) => data.to_le_bytes(),
            Err(_) if file.nonblocking() => return fail!(EAGAIN),
            Err(wait) => return Err(wait.into()),
        };
        Ok(to.put(&data[..want.min(8)])?)
    }

    fn poll(&self, _: &File) -> Events {
        if self.0.is_ready() {
            Events::READ
        } else {
            Events::empty()
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.0.queue.clone(), interest)]
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        let (rtc, to) = (&self.0, UserAddr(arg));
        let may_hurry = cx.task.creds().capable(Capability::SysResource);
        match request {
            RD_TIME => cx.memory.write(to.cast(), &RtcTime::at(rtc.seconds()))?,
            SET_TIME if !cx.task.creds().capable(Capability::SysTime) => return fail!(EACCES),
            SET_TIME => rtc.set(cx.memory.read::<RtcTime>(to.cast())?.seconds()?),
            AIE_ON | AIE_OFF => rtc.enable_alarm(request == AIE_ON),
            UIE_ON | UIE_OFF => rtc.tell_seconds(request == UIE_ON),
            PIE_ON if rtc.shown().frequency > USER_FREQUENCY && !may_hurry => return fail!(EACCES),
            PIE_ON | PIE_OFF => rtc.tell_periods(request == PIE_ON),
            IRQP_READ => cx.memory.write(to.cast(), &rtc.shown().frequency)?,
            IRQP_SET if arg > USER_FREQUENCY && !may_hurry => return fail!(EACCES),
            IRQP_SET if !arg.is_power_of_two() || !(2..=FREQUENCY_MAX).contains(&arg) => {
                return fail!(EINVAL);
            }
            IRQP_SET => rtc.set_frequency(arg),
            ALM_READ => cx.memory.write(to.cast(), &RtcTime::at(rtc.shown().alarm))?,
            ALM_SET => {
                let time: RtcTime = cx.memory.read(to.cast())?;
                rtc.set_alarm(next_alarm(rtc.seconds(), &time)?, false);
            }
            WKALM_RD => {
                let shown = rtc.shown();
                let alarm = WakeAlarm {
                    enabled: shown.alarm_is_on.into(),
                    pending: 0,
                    padding: [0; 2],
                    time: RtcTime::at(shown.alarm),
                };
                cx.memory.write(to.cast(), &alarm)?;
            }
            WKALM_SET => {
                let alarm: WakeAlarm = cx.memory.read(to.cast())?;
                let time = alarm.time.seconds()?;
                if time <= rtc.seconds() {
                    return fail!(ETIME);
                }
                rtc.set_alarm(time, alarm.enabled != 0);
            }
            _ => return fail!(ENOTTY),
        }
        Ok(0)
    }
}

/// The next time that it is so late; the day does not count.
fn next_alarm(now: i64, time: &RtcTime) -> Result<i64, Errno> {
    let today = now - now.rem_euclid(DAY);
    let date = RtcTime::at(now);
    let alarm = RtcTime {
        mday: date.mday,
        mon: date.mon,
        year: date.year,
        ..*time
    };
    let of_day = alarm.seconds()? - today;
    Ok(today + of_day + if today + of_day <= now { DAY } else { 0 })
}
