//! Where the reading of a recording begins, of which a later part is wanted.

use std::time::Instant;

use ffmpeg_next::{Error, Packet};

use crate::decoder::Decoder;
use crate::input::{Input, Opening};
use crate::keys::CONFIDENT;

/// How far before what is wanted the reading begins, microseconds: at first, and where that finds too few key frames.
const LEADS: [i64; 3] = [4_000_000, 12_000_000, 40_000_000];

/// Key frames before what is wanted. Pictures after the first one may refer to some before it, and then those that refer
/// to them are taken for damaged, too, up to the second one; and after so many the choice of packets is what it would be
/// had all been read.
const KEYS_AHEAD: u32 = CONFIDENT + 1;

/// Opens a recording somewhere before a presentation time, microseconds, so that everything from then on can be decoded
/// as if all before had been; at its beginning where no such place is found soon.
///
/// # Errors
///
/// As [`Opening::open`].
pub fn open_before(opening: &Opening, from_micros: i64) -> Result<Input, Error> {
    let begun = Instant::now();
    let mut input = opening.open()?;
    if from_micros <= LEADS[0] || !opening.has_index(&input) {
        return Ok(input);
    }
    // The daemon waits for the whole of it, and may have to wait for a second opening.
    input.expect_within((opening.patience() / 2).saturating_sub(begun.elapsed()));
    for target in LEADS.map(|lead| from_micros - lead).into_iter().filter(|target| *target > 0) {
        // What was looked at is read once more.
        if input.go_to(target) && can_begin(&mut input, from_micros) && input.go_to(target) {
            return Ok(input);
        }
    }
    drop(input);
    opening.open()
}

/// Whether there are key frames enough, and the first one is one to begin with. After a recovery point that refers to
/// pictures before it (ITU-T H.264, D.2.8) the pictures come into shape one by one, and nobody knows when the last has.
fn can_begin(input: &mut Input, from_micros: i64) -> bool {
    next_key(input, from_micros).is_some_and(|key| Decoder::stands_alone(input, &key))
        && (1..KEYS_AHEAD).all(|_| next_key(input, from_micros).is_some())
}

/// The next key frame, if it is shown by then. One without a time would be dated by a count from the beginning.
fn next_key(input: &mut Input, by_micros: i64) -> Option<Packet> {
    let mut packet = Packet::empty();
    loop {
        input.read(&mut packet).ok()?;
        let pts_micros = input.times(&packet).pts_micros;
        if packet.is_key() {
            return Some(packet).filter(|_| pts_micros.is_some_and(|pts_micros| pts_micros <= by_micros));
        }
        // A picture after it may be shown before it, but hardly by as much as that.
        if pts_micros.is_some_and(|pts_micros| pts_micros > by_micros.saturating_add(LEADS[0])) {
            return None;
        }
    }
}
