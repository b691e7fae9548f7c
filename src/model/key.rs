//! Object keys: where a frame goes in its bucket.

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::{CameraId, Frame, Origin, Seq, UnixMicros};

/// The longest object name Cloud Storage takes, bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// A validated pattern for object keys, for example `{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg`.
///
/// A key is made of ids and numbers only, so that a hostile name cannot lead out of the bucket's prefix; it always
/// holds camera, origin and seq, so that no two frames of the world share one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Camera,
    Year,
    Month,
    Day,
    Hour,
    CapturedAt,
    Origin,
    Session,
    Seq,
}

const FIELDS: [(&str, Part); 9] = [
    ("camera", Part::Camera),
    ("yyyy", Part::Year),
    ("mm", Part::Month),
    ("dd", Part::Day),
    ("hh", Part::Hour),
    ("captured_at", Part::CapturedAt),
    ("origin", Part::Origin),
    ("session", Part::Session),
    ("seq", Part::Seq),
];

impl KeyTemplate {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// A sentence that names the offending piece: an unknown field, an unclosed brace, a character outside
    /// `A-Za-z0-9._/=-`, a `.` or empty path segment, a missing `{camera}`, `{origin}` or `{seq}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, tail) = rest.split_once('{').map_or((rest, None), |(l, t)| (l, Some(t)));
            if let Some(bad) = literal.chars().find(|c| !is_plain(*c)) {
                return Err(format!("`{}` cannot stand in a key: use letters, digits and ._/=-", bad.escape_debug()));
            }
            if !literal.is_empty() {
                parts.push(Part::Text(literal.to_owned()));
            }
            let Some(tail) = tail else { break };
            let (name, after) = tail.split_once('}').ok_or("a `{` is not closed by a `}`")?;
            let field = FIELDS.iter().find(|(field, _)| *field == name).ok_or_else(|| {
                let known = FIELDS.map(|(field, _)| format!("{{{field}}}")).join(" ");
                format!("`{{{}}}` is not known: use {known}", name.escape_debug())
            })?;
            parts.push(field.1.clone());
            rest = after;
        }
        for (needed, name) in [(Part::Camera, "camera"), (Part::Origin, "origin"), (Part::Seq, "seq")] {
            if !parts.contains(&needed) {
                return Err(format!("`{{{name}}}` is missing: without it two frames could share a key"));
            }
        }
        let shape = text.replace(['{', '}'], "");
        if shape.split('/').any(|segment| segment.is_empty() || segment.chars().all(|c| c == '.')) {
            return Err("a path segment is empty or made of dots only".to_owned());
        }
        if text.len() > MAX_KEY_BYTES / 4 {
            return Err(format!("it is longer than {} characters", MAX_KEY_BYTES / 4));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key of a frame: the same frame always gets the same key, which is what makes a repeated put harmless.
    pub fn render(&self, frame: &Frame, origin: &Origin) -> String {
        let at = frame.captured_at.to_utc();
        let mut key = String::with_capacity(96);
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Camera => key.push_str(frame.camera.as_str()),
                Part::Origin => key.push_str(origin.as_str()),
                Part::Session => write!(key, "{:06}", frame.session).expect(WRITTEN),
                Part::Seq => write!(key, "{:012}", frame.seq).expect(WRITTEN),
                time => push_time(&mut key, time, at),
            }
        }
        key
    }

    /// What the keys of all frames of a camera begin with.
    pub fn prefix(&self, camera: &CameraId, origin: &Origin) -> String {
        self.fixed(camera, origin).0
    }

    /// A text behind which the keys of all frames stand that were captured at `since` or later: the camera's prefix, and
    /// of the time that follows on it as much as sorts like time.
    pub fn floor(&self, camera: &CameraId, origin: &Origin, since: UnixMicros) -> String {
        let (mut floor, rest) = self.fixed(camera, origin);
        let mut order = [Part::Year, Part::Month, Part::Day, Part::Hour].iter();
        let (at, mut text) = (since.to_utc(), String::new());
        for part in rest {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::CapturedAt => {
                    floor.push_str(&text);
                    push_time(&mut floor, part, at);
                    break;
                }
                time if order.next() == Some(time) => {
                    floor.push_str(&text);
                    push_time(&mut floor, time, at);
                    text.clear();
                }
                _ => break,
            }
        }
        floor
    }

    /// The part of a camera's keys that is the same in all of them, and what follows on it. Where the camera comes first,
    /// it ends before the origin, so that a list shows others' objects, too.
    fn fixed(&self, camera: &CameraId, origin: &Origin) -> (String, &[Part]) {
        let (mut prefix, mut named) = (String::new(), false);
        for (nth, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) => prefix.push_str(text),
                Part::Camera => prefix.push_str(camera.as_str()),
                Part::Origin if !named => prefix.push_str(origin.as_str()),
                _ => return (prefix, &self.parts[nth..]),
            }
            named |= *part == Part::Camera;
        }
        (prefix, &[])
    }

    /// What a key says of its frame; `None` where it is none of this template.
    pub fn read(&self, key: &str) -> Option<Named> {
        let mut named = Partly::default();
        if !named.read(&self.parts, key) {
            return None;
        }
        Some(Named { camera: named.camera?.parse().ok()?, origin: Origin::parse(named.origin?)?, seq: named.seq? })
    }
}

/// What a key says of the frame that it was made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Whose frame it is.
    pub camera: CameraId,
    /// The state directory in which its seq counts.
    pub origin: Origin,
    /// Its place in the camera's order.
    pub seq: Seq,
}

/// What of a key is understood.
#[derive(Clone, Copy, Default)]
struct Partly<'a> {
    camera: Option<&'a str>,
    origin: Option<&'a str>,
    seq: Option<Seq>,
}

impl<'a> Partly<'a> {
    /// Reads a key by the parts of a template, to its end. What has no fixed length is tried from the longest down: a
    /// camera's id may hold what stands behind it.
    fn read(&mut self, parts: &[Part], key: &'a str) -> bool {
        let Some((part, parts)) = parts.split_first() else { return key.is_empty() };
        let digits = || key.bytes().take_while(u8::is_ascii_digit).count();
        let lengths = match part {
            Part::Text(text) => return key.strip_prefix(text.as_str()).is_some_and(|rest| self.read(parts, rest)),
            Part::Camera => 1..=key.len().min(63),
            Part::Year => 4..=4,
            Part::Month | Part::Day | Part::Hour => 2..=2,
            Part::CapturedAt => 23..=23,
            Part::Origin => 8..=8,
            Part::Session => 6..=digits(),
            Part::Seq => 12..=digits(),
        };
        lengths.rev().any(|length| {
            let Some((text, rest)) = key.split_at_checked(length) else { return false };
            let mut tried = *self;
            let fits = tried.take(part, text) && tried.read(parts, rest);
            if fits {
                *self = tried;
            }
            fits
        })
    }

    /// Takes the text of a part, if it can be one, and the one that stood there before.
    fn take(&mut self, part: &Part, text: &'a str) -> bool {
        fn same<T: PartialEq + Copy>(known: &mut Option<T>, found: T) -> bool {
            *known.get_or_insert(found) == found
        }
        match part {
            Part::Camera => text.parse::<CameraId>().is_ok() && same(&mut self.camera, text),
            Part::Origin => Origin::parse(text).is_some() && same(&mut self.origin, text),
            Part::Seq => text.parse().is_ok_and(|seq| format!("{seq:012}") == text && same(&mut self.seq, seq)),
            Part::CapturedAt => text.bytes().zip(b"00000000T000000.000000Z").all(|(found, like)| match like {
                b'0' => found.is_ascii_digit(),
                like => found == *like,
            }),
            Part::Year | Part::Month | Part::Day | Part::Hour | Part::Session => {
                text.bytes().all(|b| b.is_ascii_digit())
            }
            Part::Text(_) => true,
        }
    }
}

/// Why a `write!` into a key succeeds.
const WRITTEN: &str = "writing to a String cannot fail";

/// Writes a part that is made of the time.
fn push_time(key: &mut String, part: &Part, at: OffsetDateTime) {
    let written = match part {
        Part::Year => write!(key, "{:04}", at.year()),
        Part::Month => write!(key, "{:02}", u8::from(at.month())),
        Part::Day => write!(key, "{:02}", at.day()),
        Part::Hour => write!(key, "{:02}", at.hour()),
        // ISO 8601's basic form: sorts by time and holds no colon, which some file systems refuse.
        Part::CapturedAt => write!(
            key,
            "{:04}{:02}{:02}T{:02}{:02}{:02}.{:06}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.microsecond()
        ),
        Part::Text(_) | Part::Camera | Part::Origin | Part::Session | Part::Seq => Ok(()),
    };
    written.expect(WRITTEN);
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '=' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMicros;

    fn frame() -> Frame {
        Frame {
            camera: "gate-3".parse().unwrap(),
            seq: 42,
            session: 7,
            captured_at: UnixMicros(1_767_323_045_000_006),
            width: 2,
            height: 2,
            damaged: false,
            jpeg: bytes::Bytes::new(),
            crc32c: 0,
        }
    }

    #[test]
    fn renders_the_default_template() {
        let template = KeyTemplate::parse("{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg").unwrap();
        let origin = Origin::from_random([0; 5]);
        assert_eq!(
            template.render(&frame(), &origin),
            "gate-3/2026/01/02/03/20260102T030405.000006Z-00000000-000000000042.jpg"
        );
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let origin = Origin::from_random([1, 2, 3, 4, 5]);
        for (text, camera, seq) in [
            ("{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg", "gate-3", 42),
            ("{camera}-{origin}-{seq}", "gate-00000000-000000000042", 7),
            ("{yyyy}/{camera}-{session}-{seq}-{origin}", "a-000001-000000000002", 123_456_789_012_345),
            ("{origin}/{seq}{session}/{camera}/{camera}", "0", 1),
        ] {
            let template = KeyTemplate::parse(text).unwrap();
            let frame = Frame { camera: camera.parse().unwrap(), seq, ..frame() };
            let key = template.render(&frame, &origin);
            let named = Named { camera: frame.camera.clone(), origin: origin.clone(), seq };
            assert_eq!(template.read(&key), Some(named), "{text}");
            assert!(key.starts_with(&template.prefix(&frame.camera, &origin)), "{key}");
            let others = [format!("{key}x"), format!("x/{key}"), key[1..].replace('-', "/"), key.replace('0', "O")];
            for other in others {
                assert!(
                    template.read(&other).is_none_or(|named| named.seq != seq || named.origin != origin),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn what_was_captured_later_stands_behind_the_floor() {
        let origin = Origin::from_random([0; 5]);
        for (text, floor) in [
            (
                "{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg",
                "gate-3/2026/01/02/03/20260102T030405.000006Z",
            ),
            ("{camera}/{yyyy}-{mm}/{hh}/{origin}-{seq}", "gate-3/2026-01"),
            ("all/{camera}/{origin}/{seq}", "all/gate-3/"),
            ("{origin}-{camera}/d{captured_at}/{seq}", "00000000-gate-3/d20260102T030405.000006Z"),
            ("{dd}/{camera}/{origin}-{seq}", ""),
        ] {
            let template = KeyTemplate::parse(text).unwrap();
            assert_eq!(template.floor(&frame().camera, &origin, frame().captured_at), floor);
            for later in [0, 1, 3_600_000_000, 400 * 86_400_000_000] {
                let at = UnixMicros(frame().captured_at.0 + later);
                let key = template.render(&Frame { captured_at: at, ..frame() }, &origin);
                assert!(*key > *floor, "{key}");
            }
        }
    }

    #[test]
    fn refuses_templates_that_could_collide_or_climb() {
        for (bad, why) in [
            ("{camera}/{seq}.jpg", "`{origin}` is missing"),
            ("{camera}/../{origin}-{seq}", "dots only"),
            ("/{camera}/{origin}-{seq}", "empty"),
            ("{camera}/{origin}-{seq}/", "empty"),
            ("{camera}/{origin}-{sequence}", "`{sequence}` is not known"),
            ("{camera}/{origin}-{seq", "not closed"),
            ("{camera} {origin}-{seq}", "cannot stand"),
        ] {
            let message = KeyTemplate::parse(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
