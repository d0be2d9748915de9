//! The clock in /sys and /proc.

use super::device::{Rtc, USER_FREQUENCY};
use super::{Civil, NODE};
use crate::kernel::dev::block::Shown;

/// Where it is in /sys.
const PLACE: &str = "devices/platform/rtc_cmos/rtc/rtc0";

fn date(time: &Civil) -> String {
    format!("{:04}-{:02}-{:02}", time.year, time.month, time.day)
}

fn clock(time: &Civil) -> String {
    format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second)
}

/// Its files and links in /sys.
pub fn sysfs(rtc: &Rtc) -> Vec<(String, Shown)> {
    let (seconds, state) = (rtc.seconds(), rtc.shown());
    let time = Civil::from_seconds(seconds);
    let (name, major, minor, _) = NODE;
    let alarm = if state.alarm_is_on {
        state.alarm.to_string()
    } else {
        String::new()
    };
    let texts = [
        ("date", date(&time)),
        ("time", clock(&time)),
        ("since_epoch", seconds.to_string()),
        ("name", "rtc_cmos rtc_cmos".to_owned()),
        ("hctosys", "1".to_owned()),
        ("max_user_freq", USER_FREQUENCY.to_string()),
        ("wakealarm", alarm),
        ("dev", format!("{major}:{minor}")),
        ("uevent", format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}")),
    ];
    let mut found: Vec<(String, Shown)> = texts
        .into_iter()
        .map(|(file, text)| (format!("{PLACE}/{file}"), Shown::Text(text)))
        .collect();
    let up = || Shown::Link(format!("../../{PLACE}"));
    found.push((format!("class/rtc/{name}"), up()));
    found.push((format!("dev/char/{major}:{minor}"), up()));
    let subsystem = "../../../../../class/rtc".to_owned();
    found.push((format!("{PLACE}/subsystem"), Shown::Link(subsystem)));
    found
}

/// /proc/driver/rtc.
pub fn described(rtc: &Rtc) -> String {
    let (time, state) = (rtc.time(), rtc.shown());
    let alarm = Civil::from_seconds(state.alarm);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let lines = [
        ("rtc_time\t", clock(&time)),
        ("rtc_date\t", date(&time)),
        ("alrm_time\t", clock(&alarm)),
        ("alrm_date\t", date(&alarm)),
        ("alarm_IRQ\t", yes(state.alarm_is_on)),
        ("alrm_pending\t", yes(false)),
        ("update IRQ enabled\t", yes(state.tells_seconds)),
        ("periodic IRQ enabled\t", yes(state.tells_periods)),
        ("periodic IRQ frequency\t", state.frequency.to_string()),
        ("max user IRQ frequency\t", USER_FREQUENCY.to_string()),
        ("24hr\t\t", yes(true)),
        ("batt_status\t", "okay".to_owned()),
    ];
    lines.iter().fold(String::new(), |text, (name, value)| {
        text + name + ": " + value + "\n"
    })
}
