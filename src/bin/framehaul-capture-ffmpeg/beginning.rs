//! Where the reading of a recording begins, of which a later part is wanted.

use ffmpeg_next::{Error, Packet};

use crate::decoder::Decoder;
use crate::input::{Input, Opening};

/// How far before what is wanted the reading begins, microseconds: at first, and where that finds too few key frames.
const LEADS: [i64; 3] = [4_000_000, 12_000_000, 36_000_000];

/// Opens a recording somewhere before a presentation time, microseconds, so that everything from then on can be decoded
/// as if all before had been; at its beginning where no such place is found.
///
/// # Errors
///
/// As [`Opening::open`].
pub fn open_before(opening: &Opening, from_micros: i64) -> Result<Input, Error> {
    let mut input = opening.open()?;
    if from_micros <= LEADS[0] {
        return Ok(input);
    }
    for target in LEADS.map(|lead| from_micros - lead).into_iter().filter(|target| *target > 0) {
        // What was looked at is read once more.
        if input.go_to(target) && can_begin(&mut input, from_micros) && input.go_to(target) {
            return Ok(input);
        }
    }
    opening.open()
}

/// Whether there is a key frame to begin with, and another one before what is wanted. Pictures between the two may refer
/// to some before the first one, and then those that refer to them are taken for damaged, too.
fn can_begin(input: &mut Input, from_micros: i64) -> bool {
    // After a recovery point that refers to pictures before it (ITU-T H.264, D.2.8) the pictures come into shape one by
    // one, and nobody knows when the last one has.
    next_key(input, from_micros).is_some_and(|key| Decoder::stands_alone(input, &key))
        && next_key(input, from_micros).is_some()
}

/// The next key frame, if it is shown by then. One without a time would be dated by a count from the beginning.
fn next_key(input: &mut Input, by_micros: i64) -> Option<Packet> {
    let mut packet = Packet::empty();
    while !packet.is_key() {
        input.expect_next();
        input.read(&mut packet).ok()?;
    }
    Some(packet).filter(|key| input.times(key).pts_micros.is_some_and(|pts_micros| pts_micros <= by_micros))
}
