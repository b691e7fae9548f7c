//! Which channels of a recorder.

use crate::export::{Stream, Tracks};

/// Channels or tracks in one cell, at most.
const MOST: usize = 512;

const HOW: &str = "write channels as 1-16 or 1,3,5, track ids as 101,201, or all";

/// What stands between two of them.
fn is_between(c: char) -> bool {
    matches!(c, ',' | ';' | '，' | '、' | '；') || c.is_whitespace()
}

/// Channels below 100, or ids of tracks, which are a channel's number and a stream's: `101` is the first channel's main one.
///
/// # Errors
///
/// When it is neither, or both.
pub(super) fn channels(text: &str, stream: Stream) -> Result<Tracks, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(Tracks::Every(stream));
    }
    let (mut channels, mut tracks): (Vec<u32>, Vec<String>) = Default::default();
    for piece in text.split(is_between).filter(|piece| !piece.is_empty()) {
        if let Some((first, last)) = piece.split_once(['-', '–']) {
            let (first, last) = (number(first)?, number(last)?);
            if !(1..=last).contains(&first) || last > 99 {
                return Err(format!("has a range that is none of channels from 1 to 99: {HOW}"));
            }
            channels.extend(first..=last);
        } else {
            match number(piece)? {
                channel @ 1..=99 => channels.push(channel),
                track if track > 100 && (1..=9).contains(&(track % 100)) => tracks.push(track.to_string()),
                _ => return Err(format!("has a number that is neither a channel nor a track: {HOW}")),
            }
        }
        if channels.len() + tracks.len() > MOST {
            return Err(format!("has more than {MOST} of them: part it"));
        }
    }
    match (channels.is_empty(), tracks.is_empty()) {
        (false, true) => {
            channels.sort_unstable();
            channels.dedup();
            Ok(Tracks::Channels(channels, stream))
        }
        (true, false) => ids(tracks, stream),
        (false, false) => Err("has channels and tracks: write one or the other".to_owned()),
        (true, true) => Err(format!("has no number: {HOW}")),
    }
}

/// Ids of tracks.
///
/// # Errors
///
/// When one of them is no number.
pub(super) fn tracks(text: &str, stream: Stream) -> Result<Tracks, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(Tracks::Every(stream));
    }
    let pieces = text.split(is_between).filter(|piece| !piece.is_empty());
    let tracks: Vec<String> = pieces.map(|piece| number(piece).map(|id| id.to_string())).collect::<Result<_, _>>()?;
    match tracks.len() {
        0 => Err(format!("has no number: {HOW}")),
        more if more > MOST => Err(format!("has more than {MOST} of them: part it")),
        _ => ids(tracks, stream),
    }
}

/// An id says which stream it is of; pictures lie on a track of their own beside it.
fn ids(mut tracks: Vec<String>, stream: Stream) -> Result<Tracks, String> {
    if stream == Stream::Sub {
        return Err("has track ids, which say themselves which stream they are of: write 102 rather than 101 and sub"
            .to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    tracks.retain(|track| seen.insert(track.clone()));
    Ok(Tracks::Ids(tracks, stream))
}

/// A number, which some programs write as `101.0`.
fn number(text: &str) -> Result<u32, String> {
    let text = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0')).map_or(text, |(text, _)| text);
    let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| format!("has something that is no number: {HOW}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_tracks_are_told_apart() {
        let ids = |ids: &[&str]| Ok(Tracks::Ids(ids.iter().map(|id| (*id).to_owned()).collect(), Stream::Main));
        for (text, expected) in [
            ("all", Ok(Tracks::Every(Stream::Main))),
            ("ALL", Ok(Tracks::Every(Stream::Main))),
            ("3", Ok(Tracks::Channels(vec![3], Stream::Main))),
            ("1-3,5, 2", Ok(Tracks::Channels(vec![1, 2, 3, 5], Stream::Main))),
            ("1、2，4", Ok(Tracks::Channels(vec![1, 2, 4], Stream::Main))),
            ("101", ids(&["101"])),
            ("101.0", ids(&["101"])),
            ("101,201;101 1602", ids(&["101", "201", "1602"])),
        ] {
            assert_eq!(channels(text, Stream::Main), expected, "{text}");
        }
        assert_eq!(tracks("1,10001", Stream::Main), ids(&["1", "10001"]));
        assert_eq!(channels("1", Stream::Sub), Ok(Tracks::Channels(vec![1], Stream::Sub)));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (text, word) in [
            ("gate", "no number"),
            ("1,gate", "no number"),
            ("-1", "no number"),
            ("+1", "no number"),
            ("101.5", "no number"),
            (",", "has no number"),
            ("0", "neither"),
            ("100", "neither"),
            ("120", "neither"),
            ("4294967296", "no number"),
            ("1,101", "one or the other"),
            ("16-1", "range"),
            ("1-100", "range"),
            ("101-116", "range"),
            (&"1-99,".repeat(6) as &str, "more than"),
        ] {
            let told = channels(text, Stream::Main).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
        assert!(channels("101", Stream::Sub).is_err());
        assert!(tracks("gate", Stream::Main).is_err());
    }
}
