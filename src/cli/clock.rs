//! Values of `--clock` and `--time-start`.

use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};

use crate::kernel::time::{NANOS_PER_SEC, Pace, Start};

/// What `--clock` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockArg {
    pace: Pace,
    /// Nanoseconds that CLOCK_REALTIME is ahead of the host's at first.
    ahead: Option<i64>,
}

/// The beginning of 2200: guests begin before that, in seconds since 1970.
const LAST: i64 = 7_258_118_400;
/// When deterministic guests begin, in nanoseconds since 1970: in 2030, when no file of today is from the future.
const DETERMINISTIC_START: i64 = 1_893_456_000 * NANOS_PER_SEC.cast_signed();
/// Slowest and fastest clock, in millionths of the host's speed.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e9;

/// `host`, `offset=DURATION`, `rate=FACTOR`, `travel` or `travel=inf-cpu`.
pub(super) fn clock(text: &str) -> Result<ClockArg, String> {
    let pace = |pace| Ok(ClockArg { pace, ahead: None });
    match text.split_once('=') {
        None if text == "host" => pace(Pace::Host),
        None if text == "travel" => pace(Pace::Travel),
        Some(("travel", "inf-cpu")) => pace(Pace::TravelOnly),
        Some(("rate", factor)) => pace(Pace::Rate(rate(factor)?)),
        Some(("offset", duration)) => Ok(ClockArg {
            pace: Pace::Host,
            ahead: Some(offset(duration)?),
        }),
        _ => Err(format!(
            "'{text}' is no clock: give host, offset=DURATION, rate=FACTOR, travel or travel=inf-cpu"
        )),
    }
}

fn rate(text: &str) -> Result<u32, String> {
    let wrong = || format!("'{text}' is no rate: give a number from 0.001 to 1000");
    let factor: f64 = text.parse().map_err(|_| wrong())?;
    let millionths = (factor * 1e6).round();
    if !RATES.contains(&millionths) {
        return Err(wrong());
    }
    // In the range of what can be told without a fraction.
    format!("{millionths:.0}").parse().map_err(|_| wrong())
}

/// Nanoseconds of `[+|-]` numbers with s, m, h, d or w, as `-1d12h`; seconds without a unit.
fn offset(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is no duration: give numbers with s, m, h, d or w, as -1d12h");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0i64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let mut letters = unit.chars();
        let per_unit = match letters.next() {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 7 * 86_400,
            Some(_) => return Err(wrong()),
        };
        rest = letters.as_str();
        let more = number.checked_mul(per_unit).ok_or_else(wrong)?;
        seconds = seconds.checked_add(more).ok_or_else(wrong)?;
    }
    seconds
        .checked_mul(sign * NANOS_PER_SEC.cast_signed())
        .ok_or_else(wrong)
}

/// `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS` of UTC, or `@SECONDS` since 1970; in nanoseconds.
pub(super) fn time_start(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!("'{text}' is no time: give YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS (UTC) or @SECONDS, before 2200")
    };
    let seconds = match text.strip_prefix('@') {
        Some(seconds) => seconds.parse().ok(),
        None => calendar(text),
    };
    let seconds = seconds.filter(|s| (0..LAST).contains(s)).ok_or_else(wrong)?;
    Ok(seconds * NANOS_PER_SEC.cast_signed())
}

fn calendar(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = fields(date, '-')?;
    let [hour, minute, second] = fields(time, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *lengths.get(before)?;
    if year < 1970 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let days = days + lengths[..before].iter().sum::<i64>() + day - 1;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Three numbers of digits alone.
fn fields(text: &str, separator: char) -> Option<[i64; 3]> {
    let number = |field: &str| {
        let digits = (1..=4).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| field.parse().ok()).flatten()
    };
    let all: Option<Vec<i64>> = text.split(separator).map(number).collect();
    all?.try_into().ok()
}

/// How the guest's clock moves and where it begins.
pub(super) fn settings(
    clock: ClockArg,
    time_start: Option<i64>,
    deterministic: bool,
) -> Result<(Pace, Start)> {
    if deterministic {
        if clock != ClockArg::default() {
            bail!("--deterministic has a clock of its own; --clock does not go with it");
        }
        return Ok((Pace::Turns, Start::At(time_start.unwrap_or(DETERMINISTIC_START))));
    }
    let start = match (clock.ahead, time_start) {
        (Some(_), Some(_)) => {
            bail!("--clock offset= and --time-start both say when the guest begins; give one of them")
        }
        (_, Some(at)) => Start::At(at),
        (ahead, None) => Start::Ahead(ahead.unwrap_or(0)),
    };
    if let Start::Ahead(nanos) = start {
        let now = clock_gettime(ClockId::CLOCK_REALTIME)?.tv_sec();
        let begins = now.saturating_add(nanos / NANOS_PER_SEC.cast_signed());
        if nanos != 0 && !(0..LAST).contains(&begins) {
            bail!("--clock offset=: the guest would begin before 1970 or after 2199");
        }
    }
    Ok((clock.pace, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let pace = |text: &str| clock(text).map(|c| c.pace);
        assert_eq!(clock("host"), Ok(ClockArg::default()));
        assert_eq!(pace("travel"), Ok(Pace::Travel));
        assert_eq!(pace("travel=inf-cpu"), Ok(Pace::TravelOnly));
        assert_eq!(pace("rate=2.5"), Ok(Pace::Rate(2_500_000)));
        assert_eq!(pace("rate=1000"), Ok(Pace::Rate(1_000_000_000)));
        let day = 86_400_000_000_000;
        assert_eq!(clock("offset=-1d").map(|c| c.ahead), Ok(Some(-day)));
        assert_eq!(clock("offset=+1d24h0").map(|c| c.ahead), Ok(Some(2 * day)));
        for wrong in [
            "",
            "Host",
            "travel=",
            "travel=fast",
            "rate",
            "rate=",
            "rate=0",
            "rate=-1",
            "rate=nan",
            "rate=inf",
            "rate=1e9",
            "rate=0.0001",
            "offset",
            "offset=",
            "offset=-",
            "offset=1y",
            "offset=d",
            "offset=1.5d",
            "offset=--1",
            "offset=99999999999999999999",
            "offset=300000w",
            "offset=é",
            "now",
        ] {
            assert!(clock(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        let seconds = |text: &str| time_start(text).map(|nanos| nanos / 1_000_000_000);
        assert_eq!(seconds("1970-01-01"), Ok(0));
        assert_eq!(seconds("2000-02-29T12:30:01"), Ok(951_827_401));
        assert_eq!(seconds("2026-11-22T17:00:00Z"), Ok(1_795_366_800));
        assert_eq!(seconds("2100-03-01"), Ok(4_107_542_400));
        assert_eq!(seconds("@86400"), Ok(86_400));
        for wrong in [
            "",
            "@",
            "@-1",
            "@7258118400",
            "2200-01-01",
            "1969-12-31",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-1-0",
            "2026-01-01T24:00:00",
            "2026-01-01T00:00",
            "2026-01-01T00:00:60",
            "tomorrow",
            "26-é-1",
            "2026-01-01-01",
            "+2026-01-01",
        ] {
            assert!(time_start(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_beginning_within_reason() {
        let offset = |nanos| ClockArg {
            pace: Pace::Host,
            ahead: Some(nanos),
        };
        assert!(settings(offset(1), Some(0), false).is_err());
        assert!(settings(offset(i64::MIN), None, false).is_err());
        assert!(settings(offset(i64::MAX), None, false).is_err());
        assert_eq!(
            settings(offset(5), None, false).unwrap(),
            (Pace::Host, Start::Ahead(5))
        );
        assert_eq!(
            settings(ClockArg::default(), Some(7), false).unwrap(),
            (Pace::Host, Start::At(7))
        );
    }
}
