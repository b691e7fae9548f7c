//! Identifiers whose shape is checked once, when they are made.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a camera: `[a-z0-9][a-z0-9_-]{0,62}`.
///
/// It stands in object keys, metric labels and URLs, so it holds nothing that any of them would need to escape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(Arc<str>);

/// Why a text is no [`CameraId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a camera id: use 1 to 63 characters of a-z, 0-9, `_` and `-`, the first a letter or a digit", .0.escape_debug())]
pub struct InvalidCameraId(String);

impl CameraId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CameraId {
    /// Ids for a camera of this name, the nearest first: `Gate 3` is `gate-3`, then `gate-3-2`, `gate-3-3` and so on.
    pub fn from_name(name: &str) -> impl Iterator<Item = Self> {
        let mut id = String::new();
        for c in name.chars().flat_map(char::to_lowercase) {
            match c {
                'a'..='z' | '0'..='9' => id.push(c),
                '_' if !id.is_empty() => id.push(c),
                _ if id.is_empty() || id.ends_with('-') => {}
                _ => id.push('-'),
            }
        }
        // Room for a number.
        id.truncate(56);
        let id = id.trim_end_matches('-');
        let id = if id.is_empty() { "camera".to_owned() } else { id.to_owned() };
        (1..).map(move |n: u32| {
            let numbered = if n == 1 { id.clone() } else { format!("{id}-{n}") };
            numbered.parse().expect("it holds nothing else")
        })
    }
}

/// Whether a text is `[a-z0-9][a-z0-9_-]{0,62}`.
pub(super) fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len()) && word(&bytes[0]) && bytes.iter().all(|b| word(b) || matches!(b, b'_' | b'-'))
}

impl FromStr for CameraId {
    type Err = InvalidCameraId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_id(text) {
            Ok(Self(text.into()))
        } else {
            // A hostile name may be kilobytes long; the message repeats only its beginning.
            Err(InvalidCameraId(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for CameraId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Eight characters made once with a state directory. They stand in every object key, so that a second daemon, or one
/// that lost its state directory, never collides with objects that are already there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin(Arc<str>);

/// Letters and digits that are not mistaken for one another (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Origin {
    /// Makes an origin of five random bytes (40 bits, eight characters of five bits each).
    pub fn from_random(bytes: [u8; 5]) -> Self {
        let bits = bytes.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
        let text: String = (0..8).map(|i| char::from(ALPHABET[(bits >> (35 - 5 * i)) as usize & 31])).collect();
        Self(text.into())
    }

    /// Takes an origin as the journal keeps it; `None` where it has another shape.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 8 && text.bytes().all(|b| ALPHABET.contains(&b))).then(|| Self(text.into()))
    }

    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_ids_hold_nothing_that_needs_escaping() {
        for good in ["a", "0", "gate-3", "hall_2", &"x".repeat(63)] {
            assert_eq!(good.parse::<CameraId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a b", "../x", "a/b", "a\0", "\u{202e}a", &"x".repeat(64)] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad:?}");
        }
        let message = "a\0".parse::<CameraId>().unwrap_err().to_string();
        assert!(message.starts_with("`a\\0` is not a camera id"), "{message}");
    }

    #[test]
    fn names_make_ids() {
        let ids = |name: &str| CameraId::from_name(name).take(2).map(|id| id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids("Gate 3"), ["gate-3", "gate-3-2"]);
        assert_eq!(ids("  \u{c4}u\u{df}en/Tor (S\u{fc}d)! "), ["u-en-tor-s-d", "u-en-tor-s-d-2"]);
        assert_eq!(ids("\u{95e8}"), ["camera", "camera-2"]);
        assert_eq!(ids(&"x".repeat(100))[1], format!("{}-2", "x".repeat(56)));
        assert_eq!(ids("__a")[0], "a");
    }

    #[test]
    fn origins_are_eight_plain_characters() {
        assert_eq!(Origin::from_random([0; 5]).as_str(), "00000000");
        assert_eq!(Origin::from_random([255; 5]).as_str(), "zzzzzzzz");
        let origin = Origin::from_random([1, 2, 3, 4, 5]);
        assert_eq!(Origin::parse(origin.as_str()), Some(origin));
        assert_eq!(Origin::parse("../../ab"), None);
    }
}
