//! Wall-clock time as framehaul keeps it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct UnixMicros(pub i64);

const RFC3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

impl UnixMicros {
    /// The wall clock's time now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Takes a time as it prints itself, and no other way of writing it.
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = PrimitiveDateTime::parse(text, RFC3339).ok()?.assume_utc().unix_timestamp_nanos();
        let parsed = Self(i64::try_from(nanos / 1_000).ok()?);
        (parsed.to_string() == text).then_some(parsed)
    }

    /// The same instant as a calendar date in UTC. Times outside the years -9999 to 9999 become 1970.
    pub fn to_utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// So much later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
    }

    /// So much earlier.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` it is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// Seconds since 1970, as Prometheus writes times.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// RFC 3339 in UTC with six decimals: `2026-01-02T03:04:05.000006Z`.
impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_utc().format(RFC3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl serde::Serialize for UnixMicros {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc3339_with_microseconds() {
        assert_eq!(UnixMicros(1_767_323_045_000_006).to_string(), "2026-01-02T03:04:05.000006Z");
        assert_eq!(UnixMicros(0).to_string(), "1970-01-01T00:00:00.000000Z");
    }
    #[test]
    fn reads_what_it_prints_and_nothing_else() {
        for time in [0, -1, 1_767_323_045_000_006, 253_402_300_799_999_999] {
            assert_eq!(UnixMicros::parse(&UnixMicros(time).to_string()), Some(UnixMicros(time)));
        }
        for bad in ["", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000006+00:00", "2026-13-02T03:04:05.000006Z"] {
            assert_eq!(UnixMicros::parse(bad), None, "{bad}");
        }
    }
}
