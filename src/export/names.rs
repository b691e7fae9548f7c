//! What exported recordings are called.
//!
//! A recording always gets the same key, whatever was searched for and whatever else there is: that is what makes a second
//! export find what the first one has stored. Without a template the names are hikload's.

use std::fmt::{self, Write as _};

use time::{OffsetDateTime, PrimitiveDateTime};

/// The longest piece of a key that comes from the recorder, bytes: file systems take 255 for a name, with all that stands
/// around it.
const LONGEST_PIECE: usize = 96;
/// The longest key that every store takes, bytes of UTF-8; destinations have a prefix before it.
pub(super) const LONGEST_KEY: usize = 480;

/// Which directories recordings lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// None: `20261119000000-101.mp4`.
    #[default]
    Flat,
    /// One for each camera: `Gate/20261119000000.mp4`.
    Camera,
    /// And in it one for each year: `Gate/2026/20261119000000.mp4`.
    Year,
    /// And in that one for each month: `Gate/2026/11/20261119000000.mp4`.
    Month,
    /// And in that one for each day: `Gate/2026/11/9/20261109000000.mp4`.
    Day,
}

/// How keys are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Names {
    /// As hikload makes them.
    Layout {
        /// Which directories there are.
        layout: Layout,
        /// What stands before each name.
        prefix: String,
    },
    /// As a template says.
    Template(Template),
}

impl Default for Names {
    fn default() -> Self {
        Self::Layout { layout: Layout::default(), prefix: String::new() }
    }
}

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The recorder, as it was named: host and port.
    pub server: &'a str,
    /// What the camera is called, told from all others: a [`piece`].
    pub camera: &'a str,
    pub channel: u32,
    pub track: &'a str,
    /// Whether it is a track that a channel has beside its main one.
    pub beside: bool,
    /// By the recorder's own clock.
    pub start: PrimitiveDateTime,
    pub end: PrimitiveDateTime,
    pub start_utc: OffsetDateTime,
    /// The recorder's name for the recording.
    pub name: Option<&'a str>,
    /// What tells it from another one that would have the same key.
    pub distinct: Option<&'a str>,
}

impl Names {
    /// Whether recordings of two recorders never have the same one.
    pub(super) fn tell_the_recorder(&self) -> bool {
        match self {
            Self::Layout { .. } => false,
            Self::Template(Template(parts)) => parts.contains(&Part::Field(Field::Server)),
        }
    }

    /// The key, without what says the form of its content.
    pub(super) fn stem(&self, facts: &Facts<'_>) -> String {
        let mut key = String::with_capacity(96);
        match self {
            Self::Layout { layout, prefix } => {
                let at = facts.start;
                let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
                // hikload writes months and days without zeros before them.
                let directory = match layout {
                    Layout::Flat => String::new(),
                    Layout::Camera => format!("{}/", facts.camera),
                    Layout::Year => format!("{}/{year}/", facts.camera),
                    Layout::Month => format!("{}/{year}/{month}/", facts.camera),
                    Layout::Day => format!("{}/{year}/{month}/{day}/", facts.camera),
                };
                write!(key, "{directory}{}{}", clean(prefix), digits(at)).expect(WRITTEN);
                if *layout == Layout::Flat || facts.beside {
                    write!(key, "-{}", piece(facts.track)).expect(WRITTEN);
                }
            }
            Self::Template(template) => template.render(facts, &mut key),
        }
        if let Some(distinct) = facts.distinct {
            write!(key, "-{}", piece(distinct)).expect(WRITTEN);
        }
        inside(key)
    }
}

/// A key that lies below its destination: no name in it is empty or leads elsewhere, whatever it was put together from.
fn inside(key: String) -> String {
    let leads_elsewhere = |name: &str| matches!(name, "" | "." | "..");
    if !key.split('/').any(leads_elsewhere) {
        return key;
    }
    let names: Vec<&str> = key.split('/').map(|name| if leads_elsewhere(name) { "_" } else { name }).collect();
    names.join("/")
}

const WRITTEN: &str = "a text can always be written to";

/// A time as hikload's names have it: `20261119000000`.
pub(super) fn digits(at: PrimitiveDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", at.hour(), at.minute(), at.second())
}

/// A recorder's text as a piece of a key: one name that leads nowhere else, and that a terminal and a file system can
/// take. What nobody could tell from another name is left as it is: blanks, `&`, letters of any language. Where nothing is
/// left of it, it is `_`.
pub(super) fn piece(text: &str) -> String {
    match clean(text) {
        nothing if nothing.is_empty() => "_".to_owned(),
        piece => piece,
    }
}

/// The same, and nothing where nothing is left.
pub(super) fn clean(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '/' | '\\')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let clean: String = text.trim().chars().map(|c| if odd(c) { '_' } else { c }).collect();
    let mut end = clean.len().min(LONGEST_PIECE);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    // A name of dots leads elsewhere, one that begins with a dot is hidden, and one that ends in a blank is another one for
    // some.
    let clean = clean[..end].trim_end_matches(['.', ' ']);
    match clean.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => clean.to_owned(),
    }
}

/// A pattern for keys, for example `{camera}/{yyyy}-{mm}-{dd}/{start}-{track}`.
///
/// It always tells track and begin, so that no two recordings share a key for want of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Server,
    Camera,
    Channel,
    Track,
    Name,
    Year,
    Month,
    Day,
    Hour,
    Start,
    End,
    StartUtc,
}

const FIELDS: [(&str, Field); 12] = [
    ("server", Field::Server),
    ("camera", Field::Camera),
    ("channel", Field::Channel),
    ("track", Field::Track),
    ("name", Field::Name),
    ("yyyy", Field::Year),
    ("mm", Field::Month),
    ("dd", Field::Day),
    ("hh", Field::Hour),
    ("start", Field::Start),
    ("end", Field::End),
    ("start_utc", Field::StartUtc),
];

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// A sentence that names the offending piece: an unknown field, an unclosed brace, a character that no key should have,
    /// an empty path segment or one of dots, a missing `{track}`, or neither `{start}` nor `{start_utc}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = || FIELDS.map(|(field, _)| format!("{{{field}}}")).join(" ");
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (literal, tail) = rest.split_once('{').map_or((rest, None), |(literal, tail)| (literal, Some(tail)));
            let plain = |c: char| c.is_ascii_alphanumeric() || "._/=- ".contains(c);
            if let Some(bad) = literal.chars().find(|c| !plain(*c)) {
                return Err(format!("`{}` cannot stand in a name: use letters, digits and ._/=-", bad.escape_debug()));
            }
            if !literal.is_empty() {
                parts.push(Part::Text(literal.to_owned()));
            }
            let Some(tail) = tail else { break };
            let (name, after) = tail.split_once('}').ok_or("a `{` is not closed by a `}`")?;
            let field = FIELDS.iter().find(|(field, _)| *field == name);
            let (_, field) =
                field.ok_or_else(|| format!("`{{{}}}` is not known: use {}", name.escape_debug(), known()))?;
            parts.push(Part::Field(*field));
            rest = after;
        }
        let has = |field| parts.contains(&Part::Field(field));
        if !has(Field::Track) {
            return Err("`{track}` is missing: without it two recordings could share a name".to_owned());
        }
        if !has(Field::Start) && !has(Field::StartUtc) {
            return Err(
                "`{start}` or `{start_utc}` is missing: without it two recordings could share a name".to_owned()
            );
        }
        let shape = text.replace(['{', '}'], "");
        if shape.split('/').any(|segment| segment.trim().is_empty() || segment.chars().all(|c| c == '.')) {
            return Err("a path segment is empty or made of dots only".to_owned());
        }
        if text.len() > LONGEST_KEY / 4 {
            return Err(format!("it is longer than {} characters", LONGEST_KEY / 4));
        }
        Ok(Self(parts))
    }

    fn render(&self, facts: &Facts<'_>, key: &mut String) {
        for part in &self.0 {
            let field = match part {
                Part::Text(text) => {
                    key.push_str(text);
                    continue;
                }
                Part::Field(field) => *field,
            };
            match field {
                Field::Server => key.push_str(&piece(facts.server)),
                Field::Camera => key.push_str(facts.camera),
                Field::Channel => write!(key, "{}", facts.channel).expect(WRITTEN),
                Field::Track => key.push_str(&piece(facts.track)),
                Field::Name => key.push_str(&piece(facts.name.unwrap_or("unnamed"))),
                Field::Year => write!(key, "{:04}", facts.start.year()).expect(WRITTEN),
                Field::Month => write!(key, "{:02}", u8::from(facts.start.month())).expect(WRITTEN),
                Field::Day => write!(key, "{:02}", facts.start.day()).expect(WRITTEN),
                Field::Hour => write!(key, "{:02}", facts.start.hour()).expect(WRITTEN),
                Field::Start => key.push_str(&digits(facts.start)),
                Field::End => key.push_str(&digits(facts.end)),
                Field::StartUtc => {
                    let utc = facts.start_utc;
                    write!(key, "{}Z", digits(PrimitiveDateTime::new(utc.date(), utc.time()))).expect(WRITTEN);
                }
            }
        }
    }
}

/// As it is read.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Field(field) => {
                    let known = FIELDS.iter().find(|(_, known)| known == field);
                    write!(f, "{{{}}}", known.map_or("", |(name, _)| name))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const FACTS: Facts<'_> = Facts {
        server: "10.0.0.5:8080",
        camera: "Yard & street",
        channel: 2,
        track: "201",
        beside: false,
        start: datetime!(2026-03-09 01:02:03),
        end: datetime!(2026-03-09 01:12:03),
        start_utc: datetime!(2026-03-09 00:02:03 UTC),
        name: Some("ch02_00000000008001213"),
        distinct: None,
    };

    #[test]
    fn layouts_are_those_of_hikload() {
        let stem = |layout, prefix: &str| Names::Layout { layout, prefix: prefix.to_owned() }.stem(&FACTS);
        assert_eq!(stem(Layout::Flat, ""), "20260309010203-201");
        assert_eq!(stem(Layout::Camera, ""), "Yard & street/20260309010203");
        assert_eq!(stem(Layout::Year, ""), "Yard & street/2026/20260309010203");
        assert_eq!(stem(Layout::Month, ""), "Yard & street/2026/3/20260309010203");
        assert_eq!(stem(Layout::Day, "shop-"), "Yard & street/2026/3/9/shop-20260309010203");
        let names = Names::Layout { layout: Layout::Camera, prefix: String::new() };
        let facts = Facts { track: "202", beside: true, distinct: Some("ch/02"), ..FACTS };
        assert_eq!(names.stem(&facts), "Yard & street/20260309010203-202-ch_02");
    }

    #[test]
    fn a_template_puts_every_field_into_its_place() {
        let every = "{server}/{camera}/{channel}/{track}/{name}/{yyyy}{mm}{dd}{hh}/{start}-{end}-{start_utc}";
        assert_eq!(
            Names::Template(Template::parse(every).unwrap()).stem(&FACTS),
            "10.0.0.5:8080/Yard & street/2/201/ch02_00000000008001213/2026030901/\
             20260309010203-20260309011203-20260309000203Z"
        );
        assert_eq!(Template::parse(every).unwrap().to_string(), every);
        for (text, word) in [
            ("{track}", "`{start}` or"),
            ("{start}", "`{track}`"),
            ("{start}-{track}-{canary}", "`{canary}`"),
            ("{start}-{track", "not closed"),
            ("{start}*{track}", "`*`"),
            ("/{start}-{track}", "segment"),
            ("a//{start}-{track}", "segment"),
            ("../{start}-{track}", "segment"),
            (&format!("{}{{start}}{{track}}", "a".repeat(200)), "longer"),
        ] {
            let told = Template::parse(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }

    #[test]
    fn quirk_29_what_a_recorder_calls_things_leads_nowhere_else() {
        let long = "é".repeat(300);
        for (text, expected) in [
            ("Yard & street", "Yard & street"),
            ("Hof/Tor", "Hof_Tor"),
            ("..", ""),
            ("../../etc", "_._.._etc"),
            (".hidden", "_hidden"),
            (" blanks . ", "blanks"),
            ("a\\b\u{1b}[2J\u{202e}\u{0}", "a_b_[2J__"),
            ("摄像机 1", "摄像机 1"),
            ("", ""),
            (&long, &"é".repeat(LONGEST_PIECE / 2)),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
            let or_more = if expected.is_empty() { "_" } else { expected };
            assert_eq!(piece(text), or_more, "{text:?}");
        }
    }

    #[test]
    fn quirk_29_no_name_within_a_key_is_empty_or_leads_elsewhere() {
        let nameless = Facts { server: "..", camera: "", track: " . ", name: Some(".."), ..FACTS };
        for (template, expected) in [
            ("{camera}/{name}/{start}-{track}", "_/_/20260309010203-_"),
            ("..{camera}/{start}-{track}", "_/20260309010203-_"),
            (".{camera}/..{name}/{server}/{start}-{track}", "_/.._/_/20260309010203-_"),
            ("{start}-{track}/{camera}", "20260309010203-_/_"),
        ] {
            assert_eq!(Names::Template(Template::parse(template).unwrap()).stem(&nameless), expected, "{template}");
        }
        let names = Names::Layout { layout: Layout::Day, prefix: "..".to_owned() };
        assert_eq!(names.stem(&nameless), "_/2026/3/9/20260309010203");
    }
}
