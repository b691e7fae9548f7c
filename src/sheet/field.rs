//! Values of one kind each, from the text of a cell.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

/// Yes or no, as programs for sheets and people write it.
pub(super) fn truth(text: &str) -> Result<bool, &'static str> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "1" | "on" | "ja" | "да" | "是" | "wahr" | "истина" => Ok(true),
        "no" | "false" | "0" | "off" | "nein" | "нет" | "否" | "falsch" | "ложь" => Ok(false),
        _ => Err("is neither yes nor no"),
    }
}

/// One of some words, however it is capitalised.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let word = text.to_ascii_lowercase().replace([' ', '-'], "_");
    choices.iter().find(|(known, _)| *known == word).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        format!("is not known: use {}", known.join(", "))
    })
}

/// A whole number, which some programs write as `3.0`.
pub(super) fn whole(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let text = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0')).map_or(text, |(text, _)| text);
    let number = text.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("is no whole number from {} to {}", bounds.start(), bounds.end()))
}

/// A time: a number of seconds, or `1m30s`.
pub(super) fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.unwrap_or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| bounds.contains(time)).ok_or_else(|| {
        let shown = |time: &Duration| humantime::format_duration(*time);
        format!("is no time from {} to {}: write seconds, or 1m30s", shown(bounds.start()), shown(bounds.end()))
    })
}

/// A size, as `2MiB`; bytes where it has no unit.
pub(super) fn bytes(text: &str) -> Result<u64, &'static str> {
    let size = text.parse::<ByteSize>().ok().map(|size| size.as_u64());
    size.filter(|bytes| (1..=1 << 44).contains(bytes)).ok_or("is no size: write 2MiB, or bytes")
}

/// A text that says itself: no control characters, and not too long.
pub(super) fn word(text: &str, most: usize) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("has a line break, or another character that cannot be seen".to_owned());
    }
    if text.chars().count() > most {
        return Err(format!("is longer than {most} characters"));
    }
    Ok(text.to_owned())
}

/// A text of so many bytes at most, which is kept for each of very many tasks.
pub(super) fn at_most(text: &str, most: usize) -> Result<&str, String> {
    if text.len() <= most { Ok(text) } else { Err(format!("is longer than {most} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!((truth("Yes"), truth("ЛОЖЬ"), truth("是")), (Ok(true), Ok(false), Ok(true)));
        assert!(truth("maybe").is_err());
        assert_eq!(choice("Device local", &[("utc", 1), ("device_local", 2)]), Ok(2));
        assert_eq!(choice("gmt", &[("utc", 1), ("auto", 2)]), Err("is not known: use utc, auto".to_owned()));
        assert_eq!((whole("3", 1..=9), whole("3.0", 1..=9)), (Ok(3), Ok(3)));
        for text in ["", "0", "10", "3.5", "-3", "three", "3e0"] {
            assert!(whole(text, 1..=9).is_err(), "{text}");
        }
        let second = Duration::from_secs(1);
        let up_to_an_hour = Duration::ZERO..=3600 * second;
        for (text, seconds) in [("90", 90.0), ("1m30s", 90.0), ("1m 30s", 90.0), ("2.5", 2.5), ("0", 0.0)] {
            assert_eq!(duration(text, up_to_an_hour.clone()), Ok(second.mul_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "1e300", "3601", "1 fortnight", "00:01:30"] {
            assert!(duration(text, up_to_an_hour.clone()).is_err(), "{text}");
        }
        assert_eq!((bytes("2MiB"), bytes("1000")), (Ok(2 << 20), Ok(1000)));
        assert!(bytes("0").is_err() && bytes("fast").is_err());
        assert!(word("a\nb", 9).is_err() && word("abcdefghij", 9).is_err());
        assert_eq!((at_most("абв", 6), at_most("абв", 5).is_err()), (Ok("абв"), true));
    }
}
