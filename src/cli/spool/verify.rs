//! `framehaul spool verify`

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::super::Format;
use super::super::failure::{Failure, Kind, print};
use super::{Place, failed, show};
use crate::spool::inspect::{InspectError, SegmentState, Verdict};

/// How often progress is shown.
const EVERY: Duration = Duration::from_millis(200);

pub fn run(place: &Place, only: &[u64], format: Format) -> Result<(), Failure> {
    let mut wanted = Vec::new();
    if only.is_empty() {
        for (name, part) in &place.parts {
            let there = part.numbers().map_err(failed)?;
            wanted.extend(there.into_iter().map(|(number, size)| ((name, number), part, size)));
        }
    }
    for number in only {
        let there = place.with_segment(*number)?;
        wanted.extend(there.into_iter().map(|(name, part, size)| ((name, *number), part, size)));
    }
    let mut progress = Progress::new(wanted.len(), wanted.iter().map(|(.., size)| size).sum());
    let mut verdicts = Vec::new();
    for (which, part, size) in wanted {
        match part.verify(which.1, |done| progress.show(done)) {
            Ok(verdict) => verdicts.push((which, verdict)),
            // It had its time: all of its frames have their outcomes.
            Err(InspectError::NoSegment { .. }) if only.is_empty() => {}
            Err(InspectError::Io { error, .. }) if error.kind() != ErrorKind::PermissionDenied => {
                let (state, detail) = (SegmentState::Damaged, Some(format!("it cannot be read: {error}")));
                verdicts.push((which, Verdict { state, detail, frames: 0, bytes: 0, damage: Vec::new() }));
            }
            Err(error) => return Err(failed(error)),
        }
        progress.next(size);
    }
    drop(progress);
    print(show::verdicts(place.dir(), &verdicts, format))?;
    let damaged = verdicts.iter().filter(|(_, verdict)| verdict.state == SegmentState::Damaged).count();
    if damaged > 0 {
        return Err(Failure::new(Kind::Damaged, format!("{damaged} of {} segments damaged", verdicts.len())));
    }
    Ok(())
}

/// A line on the terminal that says how far it is; none where standard error goes elsewhere.
struct Progress {
    shown: Option<Instant>,
    segments: usize,
    bytes: u64,
    done: (usize, u64),
    terminal: bool,
}

impl Progress {
    fn new(segments: usize, bytes: u64) -> Self {
        Self { shown: None, segments, bytes, done: (0, 0), terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, within: u64) {
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let (done, all) = (show::size(self.done.1 + within), show::size(self.bytes));
        let line = format!("segment {} of {}, {done} of {all}", self.done.0 + 1, self.segments);
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    fn next(&mut self, bytes: u64) {
        self.done = (self.done.0 + 1, self.done.1 + bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
