//! Reads what was written from its begin to its end.

use std::sync::Arc;

use framehaul::media::child::Counters;
use framehaul::media::{MediaError, MediaErrorKind};

use crate::input::{Input, Kind, Next};
use crate::io::Meter;
use crate::output::Written;

/// The packets of pictures and of sound that are in it.
///
/// # Errors
///
/// [`MediaErrorKind::Check`] where these are not the ones that were written.
pub fn check(written: &Written, counters: &Arc<Counters>) -> Result<[u64; 2], MediaError> {
    let wrong = |what: String| MediaError::new(MediaErrorKind::Check, format!("what was written is not sound: {what}"));
    let meter = Meter::new(counters, |counters| &counters.checked);
    let mut input = Input::metered(&written.part, meter).map_err(|error| wrong(error.message))?;
    let mut found = [0; 2];
    loop {
        match input.next() {
            Next::Packet(kind, packet) if !packet.is_corrupt() => found[kind as usize] += 1,
            Next::Packet(..) => return Err(wrong("a packet is cut short".to_owned())),
            Next::End => break,
            Next::Broken(error) => return Err(wrong(error)),
        }
    }
    if found != written.packets || input.unreadable().is_some() {
        let [pictures, sound] = found;
        let [of_pictures, of_sound] = written.packets;
        return Err(wrong(format!(
            "{pictures} of {of_pictures} pictures and {sound} of {of_sound} packets of sound are in it"
        )));
    }
    if found[Kind::Picture as usize] == 0 {
        return Err(wrong("there is no picture in it".to_owned()));
    }
    Ok(found)
}
