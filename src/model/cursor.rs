//! How far a consumer of a camera's list has come.

use std::fmt;
use std::str::FromStr;

use super::{Seq, SessionNo};

/// A place in a camera's list: after an entry that was told.
///
/// As text it is `12`, after the frame or the run of lost ones that ends with seq 12, or `12/3`, after the entry of
/// session 3 that follows on seq 12. So the place right after a session's entry has a name of its own, and going on
/// from it neither repeats nor skips that entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// The last seq that was told; 0 at the beginning.
    pub seq: Seq,
    /// The last session that was told since; 0 for none.
    pub session: SessionNo,
}

/// A text is no [`Cursor`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a cursor is a seq like 12, or a seq and a session like 12/3")]
pub struct InvalidCursor;

impl Cursor {
    /// After the entry that ends with this seq.
    pub fn after(seq: Seq) -> Self {
        Self { seq, session: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session {
            0 => write!(f, "{}", self.seq),
            session => write!(f, "{}/{session}", self.seq),
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, session) = match text.split_once('/') {
            Some((seq, session)) => (seq, number(session).filter(|session| *session > 0).ok_or(InvalidCursor)?),
            None => (text, 0),
        };
        let seq = number(seq).ok_or(InvalidCursor)?;
        Ok(Self { seq, session: SessionNo::try_from(session).map_err(|_| InvalidCursor)? })
    }
}

/// Digits only: `parse` would take a sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for (text, seq, session) in [("0", 0, 0), ("12", 12, 0), ("12/3", 12, 3), ("0/1", 0, 1)] {
            let cursor = Cursor { seq, session };
            assert_eq!((text.parse(), cursor.to_string()), (Ok(cursor), text.to_owned()));
        }
        for bad in ["", "/", "1/", "/1", "1/0", "+1", "-1", "1/+1", "1/2/3", "x", " 1", "1/4294967296"] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad:?}");
        }
        assert_eq!("18446744073709551616".parse::<Cursor>(), Err(InvalidCursor));
    }
}
