//! The hours in which a recorder may be asked for recordings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use time::macros::format_description;
use time::{PrimitiveDateTime, Time};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Hours of the day by the recorder's own clock, from one time to another, as in `22:00-06:00`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hours {
    from: Time,
    until: Time,
}

/// A text that names no hours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("give two different times of the recorder's day, as in 22:00-06:00")]
pub struct InvalidHours;

impl FromStr for Hours {
    type Err = InvalidHours;

    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        let read = |text: &str| Time::parse(text.trim(), format_description!("[hour]:[minute]")).ok();
        let (from, until) = text.split_once('-').ok_or(InvalidHours)?;
        match (read(from), read(until)) {
            (Some(from), Some(until)) if from != until => Ok(Self { from, until }),
            _ => Err(InvalidHours),
        }
    }
}

/// As it is read.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), until.hour(), until.minute())
    }
}

impl Hours {
    /// How long it is until they begin; zero within them.
    pub fn wait(self, now: PrimitiveDateTime) -> Duration {
        let now = now.time();
        let within = match self.from < self.until {
            true => self.from <= now && now < self.until,
            false => self.from <= now || now < self.until,
        };
        if within {
            return Duration::ZERO;
        }
        let since_midnight = |at: Time| (at - Time::MIDNIGHT).unsigned_abs();
        let (from, now) = (since_midnight(self.from), since_midnight(now));
        if now < from { from - now } else { from + DAY - now }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn hours_may_go_over_midnight() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let wait = |hours: &str, now| hours.parse::<Hours>().unwrap().wait(now);
        let night = "22:00-06:00";
        assert_eq!(night.parse::<Hours>().unwrap().to_string(), night);
        assert_eq!(wait(night, datetime!(2026-11-19 22:00)), Duration::ZERO);
        assert_eq!(wait(night, datetime!(2026-11-19 03:00)), Duration::ZERO);
        assert_eq!(wait(night, datetime!(2026-11-19 06:00)), minutes(16 * 60));
        assert_eq!(wait(night, datetime!(2026-11-19 21:59)), minutes(1));
        let day = "08:30 - 12:00";
        assert_eq!(wait(day, datetime!(2026-11-19 08:30)), Duration::ZERO);
        assert_eq!(wait(day, datetime!(2026-11-19 12:00)), minutes(20 * 60 + 30));
        assert_eq!(wait(day, datetime!(2026-11-19 00:00)), minutes(8 * 60 + 30));
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        for text in ["", "22:00", "22:00-22:00", "24:00-06:00", "22-6", "22:00-06:00-07:00", "a-b"] {
            assert_eq!(text.parse::<Hours>(), Err(InvalidHours), "{text}");
        }
    }
}
