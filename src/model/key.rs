//! Object keys: where a frame goes in its bucket.

use std::fmt::Write as _;

use super::{Frame, Origin};

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
            let written = match part {
                Part::Text(text) => key.write_str(text),
                Part::Camera => key.write_str(frame.camera.as_str()),
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
                Part::Origin => key.write_str(origin.as_str()),
                Part::Session => write!(key, "{:06}", frame.session),
                Part::Seq => write!(key, "{:012}", frame.seq),
            };
            written.expect("writing to a String cannot fail");
        }
        key
    }
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
