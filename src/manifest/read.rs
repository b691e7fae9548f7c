//! From bytes to lines: strict, because what lies in a bucket may have been cut off, spoilt or written by others.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::line::{RawHeader, RawLine};
use super::write::checksum;
use super::{FORMAT, Header, Line, Manifest, VERSION};
use crate::model::{LostReason, Origin, Seq, SeqRange, SessionNo, TimeSource, UnixMicros};

/// A line is never as long as this: keys and URLs are bounded, and so are the words of a session's end.
const LONGEST_LINE: usize = 16 << 10;

/// The longest key that a bucket takes (Cloud Storage's own bound).
const LONGEST_KEY: usize = 1_024;

/// Why bytes are no manifest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It does not say that it is one.
    #[error("it is no manifest of framehaul: its first line does not say `\"format\":\"{FORMAT}\"`")]
    Foreign,
    /// It is one of a version that this program does not know.
    #[error("it is a manifest of version {0}, this program reads version {VERSION}: use a newer framehaul")]
    Version(u32),
    /// Its end is missing.
    #[error("it is cut off: it does not end with a whole line of type `end`")]
    CutOff,
    /// Its bytes are not those that were written.
    #[error("it is damaged: its bytes have the CRC32C {found}, its last line says {told}")]
    Checksum {
        /// What its bytes have.
        found: String,
        /// What it says.
        told: String,
    },
    /// A line cannot be understood, or is not in its place.
    #[error("line {line}: {detail}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
}

/// Reads a manifest. Fields that it does not know are ignored: a later version may add them.
///
/// # Errors
///
/// Where it is not whole, not what was written, or says something that cannot be: seqs with holes, repeats or out of
/// order, sessions that go back, times, checksums, keys or reasons that are none.
pub fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let wrong = |line: usize, detail: String| ManifestError::Line { line, detail };
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let header: RawHeader = match serde_json::from_slice::<Named>(bounded(first)) {
        Ok(Named { format: Some(format), .. }) if format != FORMAT => return Err(ManifestError::Foreign),
        Ok(Named { format: None, .. }) | Err(_) => return Err(ManifestError::Foreign),
        Ok(Named { version: Some(version), .. }) if version != VERSION => return Err(ManifestError::Version(version)),
        Ok(_) => serde_json::from_slice(bounded(first)).map_err(|error| wrong(1, error.to_string()))?,
    };
    let header = header.check().map_err(|detail| wrong(1, detail))?;

    // The end first: of what is cut off or damaged, nothing else is worth a word.
    let body = bytes.strip_suffix(b"\n").ok_or(ManifestError::CutOff)?;
    let before = body.iter().rposition(|b| *b == b'\n').ok_or(ManifestError::CutOff)? + 1;
    let Ok(RawLine::End { crc32c: told }) = serde_json::from_slice(bounded(&body[before..])) else {
        return Err(ManifestError::CutOff);
    };
    let found = checksum(crc32c::crc32c(&bytes[..before]));
    if found != told {
        return Err(ManifestError::Checksum { found, told: told.chars().take(12).collect() });
    }

    let mut lines = Vec::new();
    let mut order = Order { next: Some(header.seqs.first), session: 0, entries: 0 };
    for (nth, text) in bytes[first.len() + 1..before].split_inclusive(|b| *b == b'\n').enumerate() {
        let raw = serde_json::from_slice(bounded(text)).map_err(|error| wrong(nth + 2, error.to_string()))?;
        let line = line_of(raw).and_then(|line| order.take(&line).map(|()| line));
        lines.push(line.map_err(|detail| wrong(nth + 2, detail))?);
    }
    order.end(&header).map_err(|detail| wrong(1, detail))?;
    Ok(Manifest { header, lines })
}

/// What is looked at before all else.
#[derive(serde::Deserialize)]
struct Named {
    format: Option<String>,
    version: Option<u32>,
}

/// A line as far as it may go; one that is longer is cut, and then cannot be read.
fn bounded(line: &[u8]) -> &[u8] {
    &line[..line.len().min(LONGEST_LINE)]
}

impl RawHeader {
    fn check(self) -> Result<Header, String> {
        let camera = self.camera.parse().map_err(|error| format!("{error}"))?;
        let origin = Origin::parse(&self.origin).ok_or_else(|| format!("`{}` is no origin", shown(&self.origin)))?;
        let seqs = range(self.first, self.last)?;
        if self.missing_from.is_some_and(|missing| missing == 0 || missing >= seqs.first) {
            return Err("`missing_from` is not before its first seq".to_owned());
        }
        let (entries, missing_from) = (self.entries, self.missing_from);
        Ok(Header { camera, origin, seqs, entries, missing_from, written_at: time(&self.written_at)? })
    }
}

/// Keeps account of what a line may say after those before it.
struct Order {
    /// The seq that the next frame must have; `None` after the last that there is.
    next: Option<Seq>,
    session: SessionNo,
    entries: u64,
}

impl Order {
    fn take(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Session { session, .. } if *session <= self.session => {
                return Err(format!("session {session} begins after session {}", self.session));
            }
            Line::SessionEnd { session, .. } if *session < self.session => {
                return Err(format!("session {session} ends after session {} has begun", self.session));
            }
            Line::Session { session, .. } => self.session = *session,
            _ => {}
        }
        if let Some(seqs) = line.seqs() {
            if Some(seqs.first) != self.next {
                let next = self.next.map_or("none".to_owned(), |seq| seq.to_string());
                return Err(format!("it has seq {}, and {next} is next", seqs.first));
            }
            (self.next, self.entries) = (seqs.last.checked_add(1), self.entries + 1);
        }
        Ok(())
    }

    fn end(&self, header: &Header) -> Result<(), String> {
        if self.next != header.seqs.last.checked_add(1) {
            return Err(format!("its last seq is {}, and its lines do not end there", header.seqs.last));
        }
        if self.entries != header.entries {
            return Err(format!("it has {} entries and says {}", self.entries, header.entries));
        }
        Ok(())
    }
}

fn line_of(raw: RawLine) -> Result<Line, String> {
    Ok(match raw {
        RawLine::Session { session, opened, codec, width, height, time_source } => {
            let known = time_source.as_deref().map_or(Some(TimeSource::Arrival), TimeSource::parse);
            let time_source = known.ok_or_else(|| "its time goes by what this program does not know".to_owned())?;
            Line::Session { session: number(session)?, opened: time(&opened)?, codec, width, height, time_source }
        }
        RawLine::SessionEnd { session, closed, why } => {
            let closed = closed.as_deref().map(time).transpose()?;
            Line::SessionEnd { session: number(session)?, closed, why }
        }
        RawLine::Frame {
            session,
            seq,
            captured_at,
            stored_at,
            destination,
            url,
            key,
            bytes,
            crc32c,
            width,
            height,
            damaged,
        } => {
            let destination =
                destination.parse().map_err(|_| format!("`{}` is no destination", shown(&destination)))?;
            let (captured_at, stored_at) = (time(&captured_at)?, time(&stored_at)?);
            if !is_key(&key) {
                return Err(format!("`{}` is no key of an object", shown(&key)));
            }
            let crc32c = checksum_of(&crc32c)?;
            Line::Frame {
                session,
                seq,
                captured_at,
                stored_at,
                destination,
                url,
                key,
                bytes,
                crc32c,
                width,
                height,
                damaged,
            }
        }
        RawLine::Tombstone { session, seq, last, reason, maybe_stored } => {
            let known = LostReason::parse(&reason);
            let reason = known.ok_or_else(|| format!("`{}` is no reason this program knows", shown(&reason)))?;
            Line::Tombstone { session, seqs: range(seq, last)?, reason, maybe_stored }
        }
        RawLine::End { .. } => return Err("it is of type `end` and not the last".to_owned()),
    })
}

/// Seqs count from 1, and the journal keeps them as SQLite's integers.
fn range(first: Seq, last: Seq) -> Result<SeqRange, String> {
    if first == 0 || last < first || i64::try_from(last).is_err() {
        return Err(format!("{first} to {last} are no seqs"));
    }
    Ok(SeqRange { first, last })
}

fn number(session: SessionNo) -> Result<SessionNo, String> {
    if session == 0 { Err("0 is no session".to_owned()) } else { Ok(session) }
}

fn time(text: &str) -> Result<UnixMicros, String> {
    UnixMicros::parse(text).ok_or_else(|| format!("`{}` is no time like 2026-01-02T03:04:05.000006Z", shown(text)))
}

fn checksum_of(text: &str) -> Result<u32, String> {
    let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| format!("`{}` is no CRC32C in base64", shown(text)))
}

/// Whether this may be an object's key: whoever takes it for the name of a file gets nowhere else with it.
fn is_key(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'=' | b'-');
    let part = |part: &str| !part.is_empty() && part.bytes().any(|b| b != b'.');
    text.len() <= LONGEST_KEY && text.bytes().all(plain) && text.split('/').all(part)
}

/// So much of a hostile text as a message may repeat.
fn shown(text: &str) -> String {
    text.chars().take(60).collect::<String>().escape_debug().to_string()
}
