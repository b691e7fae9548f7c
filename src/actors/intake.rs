//! Admission: from a captured picture to a frame with a seq, in a session the journal has.
//!
//! With a spool the seq is durable with the frame, and the accounts count it from then on. Without, it comes from a
//! block that was reserved in the journal before, and counts at once.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Hub;
use crate::capture::wire::{CapturedFrame, StreamInfo};
use crate::config::Durability;
use crate::journal::{Journal, Ledger, NewSession, SessionEnd};
use crate::model::{
    CameraClock, ClockAnchor, Dated, Frame, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, TimeSource,
    UnixMicros,
};
use crate::process::child::monotonic_ns;

/// Pictures that may wait for the journal, at the start of a session or for seqs. About two seconds of most streams;
/// further ones become `lost(overrun)`.
const WAITING: usize = 64;
/// Bytes of the pictures that may wait; one may always.
const WAITING_BYTES: usize = 8 << 20;

/// Gives pictures their seqs, in the order in which they come. One for each generation of a camera.
///
/// It never waits: what cannot be admitted yet waits here, and [`Intake::progress`] says when to look again.
pub struct Intake {
    ledger: Arc<Ledger>,
    hub: Hub,
    journal: Journal,
    codec: Option<String>,
    session: Option<Session>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The camera's own.
    clock: CameraClock,
}

struct Session {
    number: SessionNo,
    first_seq: Seq,
    anchor: ClockAnchor,
    size: (u32, u32),
    time_source: TimeSource,
    last_captured_at: UnixMicros,
    /// Set until the journal has the session.
    opening: Option<oneshot::Receiver<()>>,
}

enum Waiting {
    Picture(CapturedFrame, Dated),
    Missed(u64, LostReason),
}

impl Intake {
    /// An intake with no session yet: that opens with the first picture.
    pub fn new(ledger: Arc<Ledger>, hub: Hub, journal: Journal) -> Self {
        hub.newest().show(ledger.camera());
        let waiting = ledger.take_untold().into_iter().map(|(why, count)| Waiting::Missed(count, why));
        let waiting = waiting.collect();
        let clock = CameraClock::default();
        let mut intake = Self { ledger, hub, journal, codec: None, session: None, waiting, waiting_bytes: 0, clock };
        if intake.is_waiting() {
            intake.flush();
        }
        intake
    }

    /// With a clock of the camera's that may be believed; without, it never is.
    pub fn with_clock(mut self, clock: CameraClock) -> Self {
        self.clock = clock;
        self
    }

    /// How far the camera's clock is ahead of the pictures' arrival, microseconds.
    pub fn clock_offset_micros(&self) -> Option<i64> {
        self.clock.offset_micros()
    }

    /// Takes note of what the stream is, and asks for seqs before the first picture comes. Not at the start: a camera
    /// that never answers needs none.
    pub fn opened(&mut self, stream: &StreamInfo) {
        self.codec = Some(stream.codec.clone()).filter(|codec| !codec.is_empty());
        self.refill();
    }

    /// Whether anything waits for the journal.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The open session, once the journal has it.
    pub fn session(&self) -> Option<SessionNo> {
        self.session.as_ref().filter(|session| session.opening.is_none()).map(|session| session.number)
    }

    /// Takes a picture in.
    pub fn picture(&mut self, picture: CapturedFrame) {
        let bytes = picture.jpeg.len();
        let full = self.waiting_bytes > 0 && self.waiting_bytes + bytes > WAITING_BYTES;
        if full || self.waiting.len() >= WAITING {
            return self.missed(1, LostReason::Overrun);
        }
        self.waiting_bytes += bytes;
        let arrival = ClockAnchor::new(UnixMicros::now(), monotonic_ns()).date(picture.monotonic_ns);
        let dated = self.clock.date(arrival, picture.monotonic_ns, picture.pts_micros, picture.wall_micros);
        self.waiting.push_back(Waiting::Picture(picture, dated));
        self.flush();
    }

    /// Takes note of pictures that did not get here.
    pub fn missed(&mut self, count: u64, why: LostReason) {
        match self.waiting.back_mut() {
            Some(Waiting::Missed(more, reason)) if *reason == why => *more += count,
            _ => self.waiting.push_back(Waiting::Missed(count, why)),
        }
        self.flush();
    }

    /// Waits until something that waits may be able to go on, and lets it. Pending for ever while nothing waits for the
    /// journal. Dropping the future loses nothing.
    pub async fn progress(&mut self) {
        match self.session.as_mut().and_then(|session| session.opening.as_mut()) {
            Some(opening) => {
                // An error means that the journal is gone, and the process with it.
                let _ = opening.await;
                if let Some(session) = &mut self.session {
                    session.opening = None;
                }
            }
            None => self.ledger.refilled().await,
        }
        self.flush();
    }

    /// Waits until nothing waits for the journal any more: what was captured is admitted before its session closes.
    pub async fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.progress().await;
        }
    }

    /// Admits what can be admitted.
    fn flush(&mut self) {
        while let Some(next) = self.waiting.pop_front() {
            if !self.admit(&next) {
                self.waiting.push_front(next);
                break;
            }
            if let Waiting::Picture(picture, _) = next {
                self.waiting_bytes -= picture.jpeg.len();
            }
        }
        self.refill();
    }

    fn refill(&self) {
        if !self.counts_later() && self.ledger.wants_block() {
            self.journal.reserve(self.ledger.clone());
        }
    }

    /// Whether a seq counts only once its frame is on disk, or has ended.
    fn counts_later(&self) -> bool {
        self.hub.durability() == Durability::Disk
    }

    /// How many seqs can be had now.
    fn available(&self) -> u64 {
        if self.counts_later() { u64::MAX } else { self.ledger.available() }
    }

    fn admit(&mut self, next: &Waiting) -> bool {
        if self.available() == 0 {
            return false;
        }
        match next {
            Waiting::Picture(picture, dated) => self.admit_picture(picture, *dated),
            Waiting::Missed(count, why) => self.admit_missed(*count, *why),
        }
    }

    fn admit_picture(&mut self, picture: &CapturedFrame, dated: Dated) -> bool {
        let counts_later = self.counts_later();
        let now = (UnixMicros::now(), monotonic_ns());
        let size = (picture.width, picture.height);
        let over = self.session.as_ref().and_then(|session| {
            if session.size != size {
                Some("the picture's size changed")
            } else if session.anchor.is_stale(now.0, now.1) {
                Some("the wall clock was set")
            } else if (session.time_source, dated.source) == (TimeSource::Rtcp, TimeSource::Arrival) {
                Some("the camera's clock is not believed")
            } else {
                None
            }
        });
        if let Some(why) = over {
            self.close(why);
        }
        let session = match &mut self.session {
            Some(session) => session,
            None => {
                let anchor = ClockAnchor::new(now.0, now.1);
                let time_source = dated.source;
                let opened = date(time_source, anchor, picture, dated);
                let new = self.ledger.next_session(opened, self.codec.clone(), size);
                let new = NewSession { time_source, ..new };
                let (number, first_seq) = (new.session, new.first_seq);
                let opening = Some(self.journal.open_session(new));
                let last_captured_at = opened;
                self.session.insert(Session { number, first_seq, anchor, size, time_source, last_captured_at, opening })
            }
        };
        if session.opening.is_some() {
            return false;
        }
        // Within a session time never steps back, whatever a child says.
        let captured_at = date(session.time_source, session.anchor, picture, dated).max(session.last_captured_at);
        let Some(seqs) = issue(&self.ledger, counts_later, 1, Some(captured_at)) else { return false };
        session.last_captured_at = captured_at;
        debug_assert!(seqs.first >= session.first_seq);
        let crc32c = crc32c::crc32c(&picture.jpeg);
        self.hub.admit(Frame {
            camera: self.ledger.camera().clone(),
            seq: seqs.first,
            session: session.number,
            captured_at,
            width: picture.width,
            height: picture.height,
            damaged: picture.damaged,
            jpeg: picture.jpeg.clone(),
            crc32c,
        });
        true
    }

    fn admit_missed(&mut self, count: u64, why: LostReason) -> bool {
        let session = self.session.as_ref();
        if session.is_some_and(|session| session.opening.is_some()) {
            return false;
        }
        let counts_later = self.counts_later();
        let Some(seqs) = issue(&self.ledger, counts_later, count, None) else {
            // More were lost than a block holds: in pieces.
            let some = self.available().min(count);
            let Some(seqs) = issue(&self.ledger, counts_later, some, None) else { return false };
            self.lose(seqs, why);
            self.waiting.push_front(Waiting::Missed(count - some, why));
            return true;
        };
        self.lose(seqs, why);
        true
    }

    fn lose(&self, seqs: SeqRange, reason: LostReason) {
        self.hub.settle(Settled {
            camera: self.ledger.camera().clone(),
            seqs,
            session: self.session.as_ref().map(|session| session.number),
            outcome: Outcome::Lost { reason, maybe_stored: false },
            counted: !self.counts_later(),
        });
    }

    /// Ends the generation: what still waits for the journal is lost, and its session, if one is open, is closed.
    pub fn end(&mut self, why: &str) {
        self.give_up();
        self.close(why);
    }

    /// Gives what waits its numbers, in ranges, without its pictures: the journal writes these down when it can. What
    /// gets no numbers now, because none are reserved, is left to the next generation to tell.
    fn give_up(&mut self) {
        self.waiting_bytes = 0;
        let mut left: Vec<(u64, LostReason)> = Vec::new();
        for waiting in self.waiting.drain(..) {
            let (count, why) = match waiting {
                // As any that find no room to wait.
                Waiting::Picture(..) => (1, LostReason::Overrun),
                Waiting::Missed(count, why) => (count, why),
            };
            match left.last_mut() {
                Some((more, reason)) if *reason == why => *more += count,
                _ => left.push((count, why)),
            }
        }
        for (count, why) in left {
            let some = self.available().min(count);
            if some > 0
                && let Some(seqs) = issue(&self.ledger, self.counts_later(), some, None)
            {
                warn!(camera = %self.ledger.camera(), count = some, "pictures waited for the journal to the end: they are lost");
                self.lose(seqs, why);
            }
            if some < count {
                self.ledger.leave_untold(why, count - some);
            }
        }
    }

    /// Closes the session, if one is open; the next picture opens another.
    fn close(&mut self, why: &str) {
        let Some(session) = self.session.take() else { return };
        info!(camera = %self.ledger.camera(), session = session.number, why, "session closed");
        self.journal.close_session(SessionEnd {
            camera: self.ledger.camera().clone(),
            session: session.number,
            closed: session.last_captured_at,
            why: why.to_owned(),
        });
    }
}

/// When a picture was taken, by what its session goes by. That was settled with its first picture: a clock that becomes
/// known later waits for the next session, since each beginning of a stream would have two otherwise.
fn date(by: TimeSource, anchor: ClockAnchor, picture: &CapturedFrame, dated: Dated) -> UnixMicros {
    match by {
        TimeSource::Arrival => anchor.date(picture.monotonic_ns),
        TimeSource::Rtcp => dated.at,
    }
}

/// The next seqs: at once where their frames count later, else as far as they are reserved.
fn issue(ledger: &Ledger, counts_later: bool, count: u64, captured_at: Option<UnixMicros>) -> Option<SeqRange> {
    if counts_later { Some(ledger.number(count, captured_at)) } else { ledger.issue(count, captured_at) }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.end("interrupted");
    }
}
