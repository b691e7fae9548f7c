//! A recorder's playback into a file, as fast as it comes: as fast as it was recorded, from most.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use framehaul::media::child::Counters;
use framehaul::media::{Cut, MediaError, MediaErrorKind, Outcome, Record};

use crate::copy::Copy;
use crate::input::{Input, Next};

/// What may be missing at the end of a playback that is called complete: recorders begin and end with a key frame.
const TOLERANCE: Duration = Duration::from_secs(2);

/// A playback may take so many times as long as what it plays.
const MOST_SLOWNESS: u32 = 3;

/// Does the job.
///
/// # Errors
///
/// [`MediaError`], of which standard error may know more.
pub fn record(job: &Record, counters: &Arc<Counters>) -> Result<Outcome, MediaError> {
    let mut input = Input::playback(job)?;
    // Some recorders do not stop at the end.
    let cut = Cut { skip: Duration::ZERO, most: Some(job.most) };
    let mut copy = Copy::new(&input, &job.output, job.container, cut, None, counters)?;
    copy.next_input(&input).map_err(|_| MediaError::new(MediaErrorKind::Input, "its pictures are none"))?;
    let begun = Instant::now();
    let ended = loop {
        if begun.elapsed() > job.most.saturating_mul(MOST_SLOWNESS).saturating_add(job.patience) {
            break Some("it is too slow".to_owned());
        }
        match input.next() {
            Next::Packet(kind, packet) => {
                counters.read.fetch_add(packet.size() as u64, Relaxed);
                if !copy.take(&input, kind, packet)? {
                    break None;
                }
            }
            Next::End => break Some("it ended".to_owned()),
            Next::Broken(error) => break Some(error),
        }
    };
    if let Some(what) = input.unreadable() {
        copy.trouble(format!("the playback: {what}"));
    }
    // Takes leave of the recorder, which has few sessions, before the file is read again.
    drop(input);
    let come = Duration::from_micros(u64::try_from(copy.end()).unwrap_or_default());
    if let Some(how) = ended
        && come + TOLERANCE < job.most
    {
        copy.trouble(format!("the playback was over after {come:.1?} of {:.1?}: {how}", job.most));
    }
    copy.finish()
}
