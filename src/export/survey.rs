//! What a recorder has of what is wanted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::{Export, ExportError, Stream, Tracks};
use crate::delivery::Backoff;
use crate::nvr::{
    self, Abilities, DeviceTime, Identity, Query, Recorder, RecorderError, RecorderErrorKind, Segment, SegmentKind,
    Span, StreamKind, Track,
};

/// Recordings of one export, at most: a recorder that lists more tells the same ones again.
const MOST: usize = 1_000_000;
/// Bytes of what it tells of them, at most: it chooses their names and addresses.
const MOST_TEXT: usize = 512 << 20;
/// Failures in a row that [may pass](RecorderErrorKind::may_pass) with which a [search](Recorder::search) ends.
const SEARCH_FAILURES: u32 = 8;
/// How often a question before the search is asked again.
const ASKED_AGAIN: u32 = 5;
/// The first wait before one is asked again.
const RETRY_MIN: Duration = Duration::from_millis(500);

/// What a recorder has of what is wanted.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Who it is.
    pub identity: Identity,
    /// What it can do, and how its clock is read.
    pub abilities: Abilities,
    /// Its now, when it was asked.
    pub now: DeviceTime,
    /// The span that is wanted.
    pub span: Span,
    /// All tracks that it tells of.
    pub known: Vec<Track>,
    /// Why it tells of none, where it does not.
    pub unlisted: Option<RecorderError>,
    /// Those that were searched.
    pub tracks: Vec<Track>,
    /// What was found on them, each once, by track and time.
    pub segments: Vec<Segment>,
    /// Those of the tracks whose search has failed, and why. What was found on them before that is among the segments.
    pub failed: Vec<(Track, RecorderError)>,
}

/// The recorder's client.
pub(super) fn connect(export: &Export) -> Result<Arc<dyn Recorder>, ExportError> {
    nvr::open(export.recorder.clone(), &export.common).map_err(ExportError::Recorder)
}

/// Asks a recorder for all of it; `found` is told how many recordings there are so far.
pub(super) async fn of(
    export: &Export,
    recorder: &dyn Recorder,
    mut found: impl FnMut(u64) + Send,
) -> Result<Survey, ExportError> {
    let (identity, abilities) = again(export, || recorder.identify()).await.map_err(ExportError::Recorder)?;
    let now = abilities.clock.now();
    let asked_at = export.asked_at.unwrap_or(now.utc);
    let span = export.wanted.span(&abilities.clock, asked_at).map_err(ExportError::Usage)?;
    let (known, unlisted) = match again(export, || recorder.tracks()).await {
        Ok(known) => (known, None),
        Err(error) if is_needless(&export.tracks, error.kind) => (Vec::new(), Some(error)),
        Err(error) => return Err(ExportError::Recorder(error)),
    };
    let tracks = select(&known, &export.tracks).map_err(ExportError::Usage)?;
    let mut survey =
        Survey { identity, abilities, now, span, known, unlisted, tracks, segments: Vec::new(), failed: Vec::new() };
    let (mut met, mut text) = (HashSet::new(), 0);
    for track in survey.tracks.clone() {
        let query = Query { track: track.id.clone(), span, kind: kind(export.stream()), event: export.event.clone() };
        let mut results = recorder.search(query);
        let (mut failures, mut failed) = (0, None);
        while let Some(result) = results.next().await {
            match result {
                Ok(segment) => {
                    (failures, failed) = (0, None);
                    let wanted = segment.start.utc < span.to && segment.end.utc >= span.from;
                    let (on, name) = segment.identity();
                    if wanted && met.insert((on.to_owned(), name)) {
                        text += segment.text_bytes();
                        survey.segments.push(segment);
                        found(survey.segments.len() as u64);
                    }
                    if let Some(detail) = too_much(survey.segments.len(), text) {
                        return Err(ExportError::Recorder(RecorderError::new(RecorderErrorKind::Protocol, detail)));
                    }
                }
                Err(error) if error.kind.ends_all() => return Err(ExportError::Recorder(error)),
                // Read on, it asks once more, as often as it has patience.
                Err(error) => {
                    failures += 1;
                    if error.kind.may_pass() {
                        wait(export, failures, error.kind).await;
                    }
                    failed = ends(error.kind, failures).then_some(error);
                }
            }
        }
        survey.failed.extend(failed.map(|error| (track, error)));
    }
    Ok(survey)
}

/// Why so many recordings with so many bytes of text are too much, if they are.
fn too_much(recordings: usize, text: usize) -> Option<String> {
    let what = match () {
        () if recordings >= MOST => format!("{MOST} recordings"),
        () if text > MOST_TEXT => format!("{MOST_TEXT} bytes of names and addresses"),
        () => return None,
    };
    Some(format!("it lists more than {what}: ask for a shorter span"))
}

/// Whether a search is at its end with a failure, so many of them in a row. After any other one it is asked once more, and
/// where it ends then, all was found.
fn ends(kind: RecorderErrorKind, failures: u32) -> bool {
    !kind.may_pass() || failures >= SEARCH_FAILURES
}

/// Whether it may be done without the recorder's list of tracks. Not for a failure that may pass: the names of cameras are
/// in keys, and those must be the same the next time.
fn is_needless(asked: &Tracks, kind: RecorderErrorKind) -> bool {
    !kind.ends_all() && !kind.may_pass() && matches!(asked, Tracks::Ids(..))
}

/// What the tracks of a stream hold.
pub(super) fn kind(stream: Stream) -> SegmentKind {
    if stream == Stream::Photo { SegmentKind::Photo } else { SegmentKind::Video }
}

/// Asks until there is an answer, or a failure that stays.
async fn again<'a, T>(
    export: &Export,
    ask: impl Fn() -> BoxFuture<'a, Result<T, RecorderError>>,
) -> Result<T, RecorderError> {
    let mut failures = 0;
    loop {
        match ask().await {
            Err(error) if error.kind.may_pass() && failures < ASKED_AGAIN.min(export.retries) => {
                failures += 1;
                wait(export, failures, error.kind).await;
            }
            answer => return answer,
        }
    }
}

async fn wait(export: &Export, failures: u32, kind: RecorderErrorKind) {
    let retry_after = if let RecorderErrorKind::Busy { retry_after } = kind { retry_after } else { None };
    let backoff = Backoff { min: RETRY_MIN, max: export.retry_max };
    sleep(backoff.delay(failures, retry_after, &mut fastrand::Rng::new())).await;
}

/// The tracks that are asked for.
fn select(known: &[Track], asked: &Tracks) -> Result<Vec<Track>, String> {
    let of = |stream: Stream, among: &dyn Fn(u32) -> bool| -> Vec<Track> {
        let wanted = match stream {
            Stream::Main => StreamKind::Main,
            Stream::Sub => StreamKind::Sub,
            Stream::Photo => StreamKind::Third,
        };
        let listed: Vec<Track> =
            known.iter().filter(|track| track.stream == wanted && among(track.channel)).cloned().collect();
        if !listed.is_empty() || stream != Stream::Photo {
            return listed;
        }
        // Pictures have tracks that few recorders list.
        let mains = known.iter().filter(|track| track.stream == StreamKind::Main && among(track.channel));
        let beside = |main: &Track| Track {
            id: format!("{}03", main.channel),
            stream: StreamKind::Third,
            codec: None,
            ..main.clone()
        };
        mains.map(beside).collect()
    };
    match asked {
        Tracks::Every(stream) => match of(*stream, &|_| true) {
            none if none.is_empty() => Err(format!("the recorder tells of no such track; {}", listed(known))),
            tracks => Ok(tracks),
        },
        Tracks::Channels(channels, stream) => {
            let missing = |channel: &&u32| of(*stream, &|one| one == **channel).is_empty();
            match channels.iter().find(missing) {
                Some(channel) => Err(format!("there is no such track of channel {channel}; {}", listed(known))),
                None => Ok(of(*stream, &|channel| channels.contains(&channel))),
            }
        }
        Tracks::Ids(ids, _) => {
            let mut tracks: Vec<Track> = Vec::new();
            for id in ids.iter().filter(|id| !ids.is_empty() && !id.is_empty()) {
                if tracks.iter().all(|track| track.id != *id) {
                    tracks.push(known.iter().find(|track| track.id == *id).cloned().unwrap_or_else(|| unknown(id)));
                }
            }
            Ok(tracks)
        }
    }
}

/// A track that the recorder does not tell of: recorders do not tell of all that they have.
fn unknown(id: &str) -> Track {
    let number: u32 = id.parse().unwrap_or_default();
    let stream = match number % 100 {
        1 => StreamKind::Main,
        2 => StreamKind::Sub,
        3 => StreamKind::Third,
        _ => StreamKind::Other,
    };
    Track { id: id.to_owned(), channel: number / 100, stream, name: String::new(), online: None, codec: None }
}

/// The tracks there are, in a sentence.
pub(super) fn listed(known: &[Track]) -> String {
    const MOST: usize = 16;
    if known.is_empty() {
        return "it tells of none at all: name them with --tracks 101,201".to_owned();
    }
    let ids: Vec<&str> = known.iter().take(MOST).map(|track| track.id.as_str()).collect();
    let more = known.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("it has {}{more}", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Track> {
        ["101", "102", "201", "202"].map(unknown).to_vec()
    }

    fn ids(asked: &Tracks) -> Result<Vec<String>, String> {
        select(&known(), asked).map(|tracks| tracks.into_iter().map(|track| track.id).collect())
    }

    #[test]
    fn a_search_has_failed_where_it_is_not_asked_again() {
        use RecorderErrorKind as Kind;
        for kind in [Kind::Busy { retry_after: None }, Kind::Timeout, Kind::Io] {
            assert!(
                (1..SEARCH_FAILURES).all(|failures| !ends(kind, failures)) && ends(kind, SEARCH_FAILURES),
                "{kind:?}"
            );
        }
        for kind in [Kind::Forbidden, Kind::Protocol, Kind::NotFound] {
            assert!(ends(kind, 1), "{kind:?}");
        }
    }

    #[test]
    fn what_a_recorder_lists_has_its_bounds() {
        assert_eq!(too_much(MOST - 1, MOST_TEXT), None);
        assert!(too_much(MOST, 1).unwrap().contains("1000000 recordings"));
        assert!(too_much(1, MOST_TEXT + 1).unwrap().contains("bytes of names"));
    }

    #[test]
    fn a_list_of_tracks_is_done_without_only_where_it_stays_away() {
        use RecorderErrorKind as Kind;
        let ids = Tracks::Ids(vec!["101".to_owned()], Stream::Main);
        for (kind, needless) in [
            (Kind::Unsupported, true),
            (Kind::Forbidden, true),
            (Kind::Protocol, true),
            (Kind::Busy { retry_after: None }, false),
            (Kind::Timeout, false),
            (Kind::Io, false),
            (Kind::Auth, false),
        ] {
            assert_eq!(is_needless(&ids, kind), needless, "{kind:?}");
            assert!(!is_needless(&Tracks::Every(Stream::Main), kind), "{kind:?}");
        }
    }

    #[test]
    fn tracks_are_chosen_by_stream_channel_or_id() {
        let texts = |ids: &[&str]| Ok(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(ids(&Tracks::Every(Stream::Main)), texts(&["101", "201"]));
        assert_eq!(ids(&Tracks::Every(Stream::Sub)), texts(&["102", "202"]));
        assert_eq!(ids(&Tracks::Every(Stream::Photo)), texts(&["103", "203"]));
        assert_eq!(ids(&Tracks::Channels(vec![2], Stream::Main)), texts(&["201"]));
        let some = ["202", "901", "202", ""].map(str::to_owned).to_vec();
        assert_eq!(ids(&Tracks::Ids(some, Stream::Main)), texts(&["202", "901"]));
        let told = ids(&Tracks::Channels(vec![1, 7], Stream::Main)).unwrap_err();
        assert_eq!(told, "there is no such track of channel 7; it has 101, 102, 201, 202");
        assert!(select(&[], &Tracks::Every(Stream::Main)).unwrap_err().contains("--tracks"));
    }
}
