//! What the tests have in common: a recorder, and a client of it.

use std::sync::Arc;
use std::time::Duration;

use framehaul::model::UnixMicros;
use framehaul::nvr::{
    ClockMode, Common, Fetch, Media, Query, Recorder, RecorderError, RecorderErrorKind, RecorderSettings, Segment,
    SegmentKind, Span, Timeouts, open,
};
use futures_util::StreamExt as _;
use testbed::nvr::{Channel, Knobs, NvrServer, Options};

/// A recorder with so many recordings of ten minutes on channel 1, three on channel 2 and none on channel 3.
pub fn recorder(recordings: u32, knobs: Knobs) -> NvrServer {
    let channel = |name: &str, recordings| Channel { name: name.into(), recordings, ..Channel::default() };
    let channels = vec![channel("Gate", recordings), channel("Yard & <street> / Höf", 3), channel("Empty", 0)];
    NvrServer::start(Options { channels, knobs, ..Options::default() }).unwrap()
}

pub fn settings(server: &NvrServer) -> RecorderSettings {
    let (host, port) = server.host().split_once(':').unwrap();
    RecorderSettings {
        port: Some(port.parse().unwrap()),
        // The zone decides nothing in most tests, and is one search less.
        clock: ClockMode::DeviceLocal,
        ..RecorderSettings::new(host, "admin", "Passw0rd1".to_owned().into())
    }
}

pub fn client_of(settings: RecorderSettings) -> Arc<dyn Recorder> {
    open(settings, &Arc::new(Common::default())).unwrap()
}

pub fn client(server: &NvrServer) -> Arc<dyn Recorder> {
    client_of(settings(server))
}

pub fn utc(text: &str) -> UnixMicros {
    UnixMicros::parse(&format!("{text}.000000Z")).unwrap()
}

pub fn query(track: &str, from: &str, to: &str) -> Query {
    let span = Span { from: utc(from), to: utc(to) };
    Query { track: track.into(), span, kind: SegmentKind::Video, event: None }
}

/// The day on which everything was recorded.
pub fn day(track: &str) -> Query {
    query(track, "2026-11-19T00:00:00", "2026-11-20T00:00:00")
}

/// All that a search finds; an error ends it.
pub async fn found(client: &dyn Recorder, query: Query) -> Result<Vec<Segment>, RecorderError> {
    let mut all = Vec::new();
    let mut stream = client.search(query);
    while let Some(next) = stream.next().await {
        all.push(next?);
    }
    Ok(all)
}

/// The same where what may pass is tried again.
pub async fn found_at_last(client: &dyn Recorder, query: Query) -> (Vec<Segment>, Vec<RecorderErrorKind>) {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    let mut stream = client.search(query);
    while let Some(next) = stream.next().await {
        match next {
            Ok(segment) => all.push(segment),
            Err(error) => errors.push(error.kind),
        }
    }
    (all, errors)
}

/// The names of what is on a track, as the recorder knows them.
pub fn names(server: &NvrServer, track: u32) -> Vec<String> {
    server.recordings().into_iter().filter(|file| file.track == track).map(|file| file.name).collect()
}

pub fn keys(segments: &[Segment]) -> Vec<String> {
    segments.iter().map(|segment| segment.key.clone().unwrap_or_default()).collect()
}

/// The body, and how it ended.
pub async fn read(media: Media) -> (Vec<u8>, Result<(), RecorderError>) {
    let Media { mut body, .. } = media;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (bytes, Err(error)),
        }
    }
    (bytes, Ok(()))
}

pub async fn fetch(client: &dyn Recorder, segment: &Segment) -> Result<Vec<u8>, RecorderError> {
    let (bytes, end) = read(client.open(Fetch::Segment(segment)).await?).await;
    end.map(|()| bytes)
}

/// Timeouts that a test can wait for.
pub fn short() -> Timeouts {
    let soon = Duration::from_millis(400);
    Timeouts { connect: soon, answer: soon, stall: soon, stall_bytes: 1_000 }
}
