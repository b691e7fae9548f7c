//! Searches: words that the recorder understands, page after page, and what its times mean.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use time::{Duration, PrimitiveDateTime};

use super::Hikvision;
use super::page::{Key, Match, Page, written};
use super::pager::Pager;
use super::words::{Asked, SEARCHES, SearchWords};
use crate::model::UnixMicros;
use crate::nvr::{Abilities, DeviceClock, Locator, Query, RecorderError, RecorderErrorKind, Segment, SegmentKind};

/// Matches on a page, at most: what devices give that say nothing about it.
const PAGE: u32 = 64;
/// Failures in a row after which a search is over.
const MOST_FAILURES: u32 = 8;
/// How far beyond a search's border the begin, or the end, of a recording is looked for.
const BEYOND: [Duration; 2] = [Duration::hours(1), Duration::days(1)];
/// Recordings at a border of which that is asked for, and pages on which it is looked for, at most: there are a few, and a
/// recorder that calls all of them cut off must not be asked for ever.
const MOST_CUT: u32 = 100;
const MOST_BEYOND: u32 = 32;
/// Recorders' clocks end early in 2038, and some of their programs do.
const LAST_YEAR: i32 = 2037;
/// A recording that ends this close to the recorder's now, or behind it, is going on.
const NOW: std::time::Duration = std::time::Duration::from_secs(60);

/// From when to when, in the recorder's own time.
pub(super) type Window = (PrimitiveDateTime, PrimitiveDateTime);

/// A search that goes on.
struct Searching<'a> {
    recorder: &'a Hikvision,
    query: Query,
    /// What is to be searched yet.
    windows: VecDeque<Window>,
    /// The search of a window, and where its borders are.
    pager: Option<(Pager, Window)>,
    found: VecDeque<(Match, Window)>,
    /// What has come, from whatever window.
    seen: HashSet<Key>,
    /// The same for those without names, by their own begin: in each window they have other borders.
    unnamed: HashSet<String>,
    /// The begin of what came last: what follows begins later, whatever a clock shows that was set back.
    since: Option<UnixMicros>,
    failures: u32,
    /// Recordings whose borders were asked for.
    cut: u32,
    begun: bool,
    ended: bool,
}

/// The stream of what a search finds.
pub(super) fn stream(recorder: &Hikvision, query: Query) -> BoxStream<'_, Result<Segment, RecorderError>> {
    let searching = Searching {
        recorder,
        query,
        windows: VecDeque::new(),
        pager: None,
        found: VecDeque::new(),
        seen: HashSet::new(),
        unnamed: HashSet::new(),
        since: None,
        failures: 0,
        cut: 0,
        begun: false,
        ended: false,
    };
    stream::unfold(searching, |mut searching| async move { Some((searching.next().await?, searching)) }).boxed()
}

impl Searching<'_> {
    async fn next(&mut self) -> Option<Result<Segment, RecorderError>> {
        if self.ended {
            return None;
        }
        match self.find().await {
            Ok(Some(segment)) => {
                self.failures = 0;
                Some(Ok(segment))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.failures += 1;
                self.ended = !error.kind.may_pass() || self.failures >= MOST_FAILURES;
                Some(Err(error))
            }
        }
    }

    /// The next segment. Where it fails everything is as before.
    async fn find(&mut self) -> Result<Option<Segment>, RecorderError> {
        let (_, Abilities { clock, .. }) = self.recorder.known().await?;
        if !self.begun {
            self.begun = true;
            self.windows = windows(clock, &self.query);
        }
        loop {
            if let Some((found, window)) = self.found.front() {
                let cut = (found.start == window.0, found.end == window.1);
                let (borders, clipped) = match cut {
                    (false, false) => ((found.start, found.end), cut),
                    _ if self.cut >= MOST_CUT => ((found.start, found.end), cut),
                    _ => self.recorder.borders(&self.query, found, *window).await?,
                };
                self.cut += u32::from(cut.0 || cut.1);
                let Some((found, _)) = self.found.pop_front() else { continue };
                let segment = segment(clock, &self.query.track, found, borders, clipped, self.since);
                self.since = self.since.max(Some(segment.start.utc));
                let is_new = segment.key.is_some() || self.unnamed.insert(segment.identity().1);
                if is_new && self.wants(&segment) {
                    return Ok(Some(segment));
                }
                continue;
            }
            let Some((pager, window)) = &mut self.pager else {
                let Some((from, to)) = self.windows.pop_front() else { return Ok(None) };
                self.pager = Some((Pager::new(from, to), (from, to)));
                continue;
            };
            let window = *window;
            let Some(new) = self.recorder.page(&self.query, pager).await? else {
                self.pager = None;
                continue;
            };
            // The same recording may lie in two windows. One without a name may be another that looks like it, of the
            // hour that comes twice: that shows when its time is read.
            let new = new.into_iter().filter(|of| of.name.is_none() || self.seen.insert(of.key()));
            let new = new.filter(|of| is_of(of, &self.query));
            self.found.extend(new.map(|of| (of, window)));
        }
    }

    /// Whether a segment overlaps what was searched. Where its times are not sure it does.
    fn wants(&self, segment: &Segment) -> bool {
        let span = self.query.span;
        let before = segment.end.utc <= span.from && !segment.end.ambiguous && segment.end.utc > segment.start.utc;
        let behind = segment.start.utc >= span.to && !segment.start.ambiguous;
        !before && !behind
    }
}

impl Hikvision {
    /// The next page of a search: its new matches. `None` where there is none.
    async fn page(&self, query: &Query, pager: &mut Pager) -> Result<Option<Vec<Match>>, RecorderError> {
        let Some(next) = pager.next() else { return Ok(None) };
        let (from, to) = (written(next.from), written(next.to));
        let asked = Asked {
            id: next.id,
            track: &query.track,
            from: &from,
            to: &to,
            most: PAGE,
            position: next.position,
            event: query.event.as_deref(),
        };
        let (page, words) = self.ask(asked).await?;
        let taken = pager.take(page, words.positions);
        taken.map(Some).map_err(|what| self.client.error(RecorderErrorKind::Protocol, what))
    }

    /// Asks for a page, in the words that this recorder understands.
    async fn ask(&self, mut asked: Asked<'_>) -> Result<(Page, SearchWords), RecorderError> {
        // Most recorders do one search at a time, and refuse the others.
        let _one = self.searching.acquire().await.expect("it is never closed");
        asked.most = asked.most.min(self.page_size());
        let first = self.habits().search;
        let mut refused = None;
        for turn in 0..SEARCHES.len() {
            let place = (first + turn) % SEARCHES.len();
            match self.ask_in(&SEARCHES[place], &asked).await {
                Ok(page) => {
                    self.learn(|habits| habits.search = place);
                    return Ok((page, SEARCHES[place]));
                }
                Err(error) if super::is_about_words(error.kind) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.expect("there is more than one way to ask"))
    }

    async fn ask_in(&self, words: &SearchWords, asked: &Asked<'_>) -> Result<Page, RecorderError> {
        let root = self.client.xml(&words.call(asked)).await?;
        let page = Page::read(&root).ok_or_else(|| {
            let what = format!("it answers a search with `{}`, says that it has failed, or tells no times", root.name);
            self.client.error(RecorderErrorKind::Protocol, what)
        })?;
        if let Some(what) = page.excess() {
            return Err(self.client.error(RecorderErrorKind::Protocol, format!("it lists a recording with {what}")));
        }
        // A list of tracks that it does not understand it may ignore, and serve its first track.
        let other = page.matches.iter().filter_map(|of| of.track.as_deref()).find(|track| *track != asked.track);
        match other {
            Some(other) => {
                let what = format!("asked for track {} it answers with track {other}", asked.track);
                Err(self.client.error(RecorderErrorKind::Dialect, what))
            }
            None => Ok(page),
        }
    }

    /// Begin and end of a match, and whether they are still those of the search: where they are its borders, what lies
    /// beyond is searched, so that a recording has the same times whatever search has found it.
    async fn borders(
        &self,
        query: &Query,
        of: &Match,
        (from, to): Window,
    ) -> Result<(Window, (bool, bool)), RecorderError> {
        let (mut start, mut end, mut clipped) = (of.start, of.end, (of.start == from, of.end == to));
        for beyond in BEYOND {
            if clipped.0 {
                let window = (from.saturating_sub(beyond), from.saturating_add(Duration::SECOND));
                if let Some(same) = self.same(query, of, window).await? {
                    (start, clipped.0) = (same.start, same.start == window.0);
                }
            }
            if clipped.1 {
                let window = (to.saturating_sub(Duration::SECOND), to.saturating_add(beyond));
                if let Some(same) = self.same(query, of, window).await? {
                    (end, clipped.1) = (same.end, same.end == window.1);
                }
            }
        }
        Ok(((start, end), clipped))
    }

    /// The same recording as another search tells it.
    async fn same(&self, query: &Query, of: &Match, (from, to): Window) -> Result<Option<Match>, RecorderError> {
        let mut pager = Pager::new(from, to);
        for _ in 0..MOST_BEYOND {
            let Some(page) = self.page(query, &mut pager).await? else { break };
            let same = page.into_iter().find(|other| match (&of.name, &other.name) {
                (Some(name), Some(other)) => name == other,
                // Without names: what lies across the border, and ends, or begins, there.
                _ => other.start < of.end && other.end > of.start && other.size == of.size,
            });
            if same.is_some() {
                return Ok(same);
            }
        }
        Ok(None)
    }

    /// The end of the newest of the recordings in a window, in the recorder's own time.
    pub(super) async fn newest(
        &self,
        query: &Query,
        window: Window,
    ) -> Result<Option<PrimitiveDateTime>, RecorderError> {
        let mut pager = Pager::new(window.0, window.1);
        let mut newest = None;
        while let Some(page) = self.page(query, &mut pager).await? {
            newest = newest.max(page.iter().map(|of| of.end).max());
        }
        Ok(newest)
    }
}

/// What has to be searched for a span: a clock that is set back within it shows some times twice.
fn windows(clock: &DeviceClock, query: &Query) -> VecDeque<Window> {
    let parts = clock.parts(query.span).into_iter().filter(|part| part.from < part.to);
    let windows = parts.map(|part| {
        // As the clock shows it just before it is set back, if it is.
        let last = clock.tell(part.to.before(std::time::Duration::from_micros(1))).literal;
        (whole(clock.tell(part.from).literal), whole(last).saturating_add(Duration::SECOND))
    });
    let last = PrimitiveDateTime::MIN.replace_year(LAST_YEAR + 1).unwrap_or(PrimitiveDateTime::MAX);
    let last = last.replace_ordinal(1).unwrap_or(last).saturating_sub(Duration::SECOND);
    let first = PrimitiveDateTime::MIN.replace_year(1970).unwrap_or(PrimitiveDateTime::MIN);
    let first = first.replace_ordinal(1).unwrap_or(first);
    windows.map(|(from, to)| (from.max(first), to.min(last))).filter(|(from, to)| from < to).collect()
}

fn whole(time: PrimitiveDateTime) -> PrimitiveDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

/// Whether a match is what was searched for; recorders that do not understand the question send everything.
fn is_of(of: &Match, query: &Query) -> bool {
    let event = query.event.as_deref();
    let fits = |wanted: &str| of.event.as_deref().is_none_or(|is| is.eq_ignore_ascii_case(wanted));
    of.kind == query.kind && event.is_none_or(fits)
}

fn segment(
    clock: &DeviceClock,
    track: &str,
    of: Match,
    (start, end): Window,
    clipped: (bool, bool),
    since: Option<UnixMicros>,
) -> Segment {
    let start = clock.read(start, since);
    let end = clock.read(end, Some(start.utc));
    let open = of.kind == SegmentKind::Video && end.utc.after(NOW) >= clock.now().utc;
    Segment {
        track: track.to_owned(),
        start,
        end,
        clipped,
        key: of.name,
        size: of.size,
        kind: of.kind,
        codec: of.codec,
        locked: of.locked,
        open,
        locator: Locator(of.uri),
    }
}
