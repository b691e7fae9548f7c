//! What a channel of a recorder has recorded: a page of its timeline, asked of the recorder when it is wanted.

use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::messages::{FindRecordings, Recorded, Recordings};
use super::place::TimelinePlace;
use crate::actors::Supervisor;
use crate::actors::control::{Answer, answer};
use crate::actors::messages::ControlError;
use crate::model::{Presence, UnixMicros};
use crate::nvr::{Query, Recorder, RecorderError, RecorderErrorKind, Segment, SegmentKind, Span, StreamKind};

/// How long a search may take.
const SEARCH_WITHIN: Duration = Duration::from_secs(45);
/// Failures that may pass and are waited out within one search.
const MOST_FAILURES: u32 = 4;
/// Before a recorder that is busy is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// Two recordings this close follow on each other: recorders tell whole seconds.
const NO_GAP: Duration = Duration::from_secs(2);
/// So much before the last recording of a page the next search begins: recorders tell whole seconds.
const BORDER: Duration = Duration::from_secs(2);
/// Recordings of one channel that may begin at one moment. Recorders have one, or two where their clock was set.
const MOST_TOGETHER: usize = 1_000;
/// When somebody may come again for whom there was no room.
const COME_AGAIN: Duration = Duration::from_secs(5);

impl Handler<FindRecordings> for Supervisor {
    type Result = Answer<Recordings>;

    fn handle(&mut self, wanted: FindRecordings, _: &mut Self::Context) -> Self::Result {
        let record = match self.nvr(&wanted.nvr) {
            Ok(record) => record,
            Err(error) => return answer(Err(error)),
        };
        let nvr = &wanted.nvr;
        let recorder =
            record.recorder.clone().filter(|_| matches!(record.presence, Presence::There | Presence::Doubtful));
        let Some(recorder) = recorder else {
            let why = record.error().map(|error| error.message);
            let why = why.unwrap_or_else(|| "it is being asked for the first time".to_owned());
            return answer(Err(ControlError::Unavailable(format!("recorder `{nvr}` cannot be searched now: {why}"))));
        };
        let Ok(place) = record.searches.clone().try_acquire_owned() else {
            let message = format!("recorder `{nvr}` is being searched for others: come again when that is over");
            return answer(Err(ControlError::TooMany { message, retry_after: COME_AGAIN }));
        };
        Box::pin(async move {
            let _place = place;
            let late = || {
                let what =
                    format!("it has not found all recordings within {} s: ask for less", SEARCH_WITHIN.as_secs());
                Err(RecorderError::new(RecorderErrorKind::Timeout, what))
            };
            let found = timeout(SEARCH_WITHIN, find(&*recorder, &wanted)).await;
            found.unwrap_or_else(|_| late()).map_err(ControlError::Recorder)
        })
    }
}

/// A page of the timeline.
async fn find(recorder: &dyn Recorder, wanted: &FindRecordings) -> Result<Recordings, RecorderError> {
    let (_, abilities) = recorder.identify().await?;
    let track = track_of(recorder, wanted.channel).await?;
    // A little before the last recording that was told: one that a recorder cuts off at the border of a search would seem to
    // begin there, and be another one.
    let from = wanted.after.as_ref().map_or(wanted.from, |after| after.begin.before(BORDER).max(wanted.from));
    let query =
        Query { track: track.clone(), span: Span { from, to: wanted.to }, kind: SegmentKind::Video, event: None };
    let mut page = Page::new(wanted);
    let (mut results, mut failures) = (recorder.search(query), 0);
    while let Some(result) = results.next().await {
        match result {
            Ok(segment) => {
                failures = 0;
                if let Some(next) = page.take(segment)? {
                    return Ok(Recordings { track, entries: page.timeline.entries, next: Some(next) });
                }
            }
            Err(error) if error.kind.may_pass() && failures < MOST_FAILURES => {
                failures += 1;
                sleep(AGAIN * failures).await;
            }
            Err(error) => return Err(error),
        }
    }
    let next = page.settle();
    if next.is_none() {
        // What is to come is no gap.
        page.timeline.until(wanted.to.min(abilities.clock.now().utc));
    }
    Ok(Recordings { track, entries: page.timeline.entries, next })
}

/// A page while it fills.
struct Page<'a> {
    wanted: &'a FindRecordings,
    timeline: Timeline,
    /// Recordings that begin at one moment, until the next one begins later: then they are put in their order.
    together: Vec<Segment>,
    /// Recordings that were told.
    count: usize,
    /// Behind the last of them.
    last: Option<TimelinePlace>,
}

impl<'a> Page<'a> {
    fn new(wanted: &'a FindRecordings) -> Self {
        let covered = wanted.after.as_ref().map_or(wanted.from, |after| after.begin);
        let timeline = Timeline { covered, entries: Vec::new() };
        Self { wanted, timeline, together: Vec::new(), count: 0, last: None }
    }

    /// Takes the next recording; where the page is full, and there is more, comes back with where the next one begins.
    fn take(&mut self, segment: Segment) -> Result<Option<TimelinePlace>, RecorderError> {
        let is_together = self.together.first().is_none_or(|first| first.start.utc == segment.start.utc);
        let next = if is_together { None } else { self.settle() };
        if self.together.len() == MOST_TOGETHER {
            let what = format!("it tells of more than {MOST_TOGETHER} recordings that begin at {}", segment.start.utc);
            return Err(RecorderError::new(RecorderErrorKind::Protocol, what));
        }
        self.together.push(segment);
        // One more than there is room for is all that has to be known.
        let is_full = self.count == self.wanted.limit;
        let follows = |segment: &Segment| self.wanted.after.as_ref().is_none_or(|after| after.is_before(segment));
        Ok(next.or_else(|| self.last.clone().filter(|_| is_full && self.together.iter().any(follows))))
    }

    /// Tells those that begin at one moment; where there is no room for all, comes back with where the next page begins.
    fn settle(&mut self) -> Option<TimelinePlace> {
        let mut together = std::mem::take(&mut self.together);
        together.sort_by(|one, other| one.identity().cmp(&other.identity()));
        for segment in together {
            // What the page before has told, which this one goes on behind.
            if self.wanted.after.as_ref().is_some_and(|after| !after.is_before(&segment)) {
                self.timeline.cover(segment.end.utc);
                continue;
            }
            if self.count == self.wanted.limit {
                return self.last.clone();
            }
            (self.count, self.last) = (self.count + 1, Some(TimelinePlace::behind(&segment)));
            self.timeline.tell(segment);
        }
        None
    }
}

/// The track that a channel's main stream is recorded on; the usual one where the recorder does not tell.
async fn track_of(recorder: &dyn Recorder, channel: u32) -> Result<String, RecorderError> {
    let tracks = match recorder.tracks().await {
        Ok(tracks) => tracks,
        Err(error) if error.kind.ends_all() || error.kind.may_pass() => return Err(error),
        Err(_) => Vec::new(),
    };
    let mut of_channel = tracks.into_iter().filter(|track| track.channel == channel);
    let main = of_channel.find(|track| track.stream == StreamKind::Main);
    Ok(main.map_or_else(|| format!("{channel}01"), |track| track.id))
}

/// Recordings and gaps, as they are told.
struct Timeline {
    /// Up to here it is told.
    covered: UnixMicros,
    entries: Vec<Recorded>,
}

impl Timeline {
    fn tell(&mut self, segment: Segment) {
        let Segment { start, end, key: name, size: bytes, open, locked, .. } = segment;
        self.until(start.utc);
        self.entries.push(Recorded::Recording { start, end, name, bytes, open, locked });
        self.cover(end.utc);
    }

    /// Up to that moment there is nothing more.
    fn until(&mut self, moment: UnixMicros) {
        if moment > self.covered.after(NO_GAP) {
            self.entries.push(Recorded::Gap { start: self.covered, end: moment });
        }
    }

    fn cover(&mut self, end: UnixMicros) {
        self.covered = self.covered.max(end);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::nvr::DeviceTime;

    fn segment(minute: i64, name: &str) -> Segment {
        let at = |minute: i64| DeviceTime {
            literal: datetime!(2026-11-19 00:00) + time::Duration::minutes(minute),
            utc: UnixMicros(1_795_046_400_000_000 + minute * 60_000_000),
            ambiguous: false,
        };
        Segment {
            track: "101".into(),
            start: at(minute),
            end: at(minute + 10),
            clipped: (false, false),
            key: Some(name.into()),
            size: None,
            kind: SegmentKind::Video,
            codec: None,
            locked: None,
            open: false,
            locator: serde_json::from_value(serde_json::json!("x")).unwrap(),
        }
    }

    /// The names on each page of so many recordings, the recorder's answers being these, in its own order.
    fn pages(recorded: &[(i64, &str)], limit: usize) -> Vec<Vec<String>> {
        let begin = segment(0, "").start.utc;
        let to = begin.after(Duration::from_secs(86_400));
        let nvr = "hall".parse().unwrap();
        let mut wanted = FindRecordings { nvr, channel: 1, from: begin, to, after: None, limit };
        let mut pages = Vec::new();
        loop {
            let mut page = Page::new(&wanted);
            let taken = recorded.iter().find_map(|(minute, name)| page.take(segment(*minute, name)).unwrap());
            let next = taken.or_else(|| page.settle());
            let names = page.timeline.entries.iter().filter_map(|entry| match entry {
                Recorded::Recording { name, .. } => name.clone(),
                Recorded::Gap { .. } => None,
            });
            pages.push(names.collect());
            let Some(next) = next else { return pages };
            // As it comes back in the next request.
            wanted.after = Some(next.to_string().parse().unwrap());
        }
    }

    #[test]
    fn recordings_that_begin_at_one_moment_are_told_once_each_wherever_a_page_ends() {
        let recorded = [(0, "a"), (10, "d"), (10, "b"), (10, "c"), (20, "e")];
        let all = ["a", "b", "c", "d", "e"];
        for limit in 1..=6 {
            let pages = pages(&recorded, limit);
            assert_eq!(pages.concat(), all, "{limit}: {pages:?}");
            assert!(pages.iter().all(|page| (1..=limit).contains(&page.len())), "{limit}: {pages:?}");
            assert_eq!(pages.len(), all.len().div_ceil(limit), "{limit}: {pages:?}");
        }
        // The recorder may tell them in another order each time.
        assert_eq!(pages(&[(10, "c"), (10, "b")], 1), [["b"], ["c"]]);
        assert_eq!(pages(&[], 1), [Vec::<String>::new()]);
    }

    #[test]
    fn a_moment_at_which_more_begin_than_can_be_is_a_fault() {
        let nvr = "hall".parse().unwrap();
        let begin = segment(0, "").start.utc;
        let to = begin.after(Duration::from_secs(86_400));
        let wanted = FindRecordings { nvr, channel: 1, from: begin, to, after: None, limit: 1 };
        let mut page = Page::new(&wanted);
        let taken = (0..=MOST_TOGETHER).map(|number| page.take(segment(0, &number.to_string()))).find_map(Result::err);
        assert!(taken.is_some_and(|error| error.kind == RecorderErrorKind::Protocol));
    }
}
