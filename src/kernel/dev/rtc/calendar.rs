//! Days and seconds of the Gregorian calendar, in UTC.

const SECONDS_PER_DAY: i64 = 86_400;
/// Days of 400 years, and of what lies between the first of March of year 0 and 1970.
const DAYS_PER_ERA: i64 = 146_097;
const DAYS_TO_1970: i64 = 719_468;

/// A second of a day, as a clock with a calendar shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Civil {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Civil {
    /// The second that is so many after the beginning of 1970.
    pub fn from_seconds(seconds: i64) -> Civil {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        // Years begin in March, so that the day that some lack comes last.
        let day = days + DAYS_TO_1970;
        let (era, day) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        Civil {
            year: era * 400 + year + i64::from(month >= 10),
            month: if month < 10 { month + 3 } else { month - 9 },
            day: day - (153 * month + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Seconds since 1970. Fields that go beyond their range carry over; each must be below a million.
    pub fn seconds(&self) -> i64 {
        // The year, from March, and the month in it.
        let months = self.year * 12 + self.month - 3;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let days = era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100;
        let days = days + (153 * month + 2) / 5 + self.day - 1 - DAYS_TO_1970;
        days * SECONDS_PER_DAY + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// Days since Sunday.
    pub fn weekday(&self) -> i64 {
        // The first day of 1970 was a Thursday.
        (self.seconds().div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7)
    }

    /// Days since the first of January.
    pub fn day_of_year(&self) -> i64 {
        let new_year = Civil {
            year: self.year,
            month: 1,
            day: 1,
            ..Civil::default()
        };
        (self.seconds() - new_year.seconds()).div_euclid(SECONDS_PER_DAY)
    }

    /// Whether there is such a second.
    pub fn is_valid(&self) -> bool {
        (1..10_000).contains(&self.year)
            && (1..=12).contains(&self.month)
            && Civil::from_seconds(self.seconds()) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn civil(year: i64, month: i64, day: i64) -> Civil {
        Civil {
            year,
            month,
            day,
            hour: 23,
            minute: 59,
            second: 58,
        }
    }

    #[test]
    fn known_days() {
        for (day, seconds, weekday, of_year) in [
            (civil(1970, 1, 1), 86_398, 4, 0),
            (civil(2000, 2, 29), 951_868_798, 2, 59),
            (civil(2026, 11, 22), 1_795_391_998, 0, 325),
            (civil(1969, 12, 31), -2, 3, 364),
            (civil(2100, 3, 1), 4_107_628_798, 1, 59),
        ] {
            assert_eq!((day.seconds(), Civil::from_seconds(seconds)), (seconds, day));
            assert_eq!((day.weekday(), day.day_of_year()), (weekday, of_year), "{day:?}");
            assert!(day.is_valid());
        }
    }

    #[test]
    fn there_and_back() {
        for day in (-800_000..800_000).step_by(13) {
            let seconds = day * SECONDS_PER_DAY + day.rem_euclid(SECONDS_PER_DAY);
            assert_eq!(Civil::from_seconds(seconds).seconds(), seconds);
        }
    }

    #[test]
    fn what_does_not_exist() {
        assert!(!civil(2025, 2, 29).is_valid());
        assert!(!civil(2025, 13, 1).is_valid());
        assert!(!civil(2025, 0, 1).is_valid());
        assert_eq!(civil(2025, 2, 29).seconds(), civil(2025, 3, 1).seconds());
    }
}
