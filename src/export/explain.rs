//! Why nothing was found.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;

use super::{Export, Survey, Wanted, survey};
use crate::nvr::{Month, Query, Recorder, RecorderErrorKind, Track};

/// A clock that is off by less is right.
const RIGHT_WITHIN: time::Duration = time::Duration::minutes(1);
/// Tracks that are looked into, and months of the calendar, at most.
const TRACKS: usize = 4;
const MONTHS: usize = 2;

/// What may be the reason that nothing was found, in sentences, the likeliest first. Asks the recorder what else it has.
pub(super) async fn explain(export: &Export, survey: &Survey) -> Vec<String> {
    let mut told = Vec::new();
    let clock = &survey.abilities.clock;
    for (track, error) in &survey.failed {
        let way_out = match error.kind {
            RecorderErrorKind::Forbidden => ": the user needs the right to play back recordings of this channel",
            _ => "",
        };
        told.push(format!("track {} could not be searched: {}{way_out}", track.id, error.message));
    }
    let ahead = clock.ahead();
    if ahead.abs() > RIGHT_WITHIN {
        let (by, how) = (ahead.abs().whole_seconds(), if ahead.is_negative() { "behind" } else { "ahead of" });
        told.push(format!(
            "the recorder's clock shows {}, {by} s {how} this machine's: set it right, or ask for what it has by its clock",
            survey.now
        ));
    }
    let (from, to) = (clock.tell(survey.span.from), clock.tell(survey.span.to));
    let zone = if clock.writes_utc() { "UTC" } else { "its wall clock" };
    told.push(format!(
        "searched was from {from} to {to} by {zone}, which is {} to {} in UTC; --clock and --zone say it where that is wrong",
        survey.span.from, survey.span.to
    ));
    for track in survey.known.iter().filter(|track| track.online == Some(false)) {
        if survey.tracks.iter().any(|searched| searched.id == track.id) {
            told.push(format!("the camera behind track {} is not there", track.id));
        }
    }
    let known = |track: &&Track| survey.known.iter().any(|known| known.id == track.id);
    for track in survey.tracks.iter().filter(|track| !known(track)) {
        told.push(format!("the recorder tells of no track {}: {}", track.id, survey::listed(&survey.known)));
    }
    let Ok(recorder) = survey::connect(export) else { return told };
    for track in survey.tracks.iter().take(TRACKS) {
        if survey.failed.iter().all(|(failed, _)| failed.id != track.id) {
            told.push(elsewhere(export, survey, &*recorder, track).await);
        }
    }
    if let Some(event) = &export.event {
        told.push(format!("only what was recorded because of {event} was searched for: leave --event out for all"));
    }
    told
}

/// What a track has besides.
async fn elsewhere(export: &Export, survey: &Survey, recorder: &dyn Recorder, track: &Track) -> String {
    let clock = &survey.abilities.clock;
    let day = |moment| clock.zone().wall(moment).date();
    let (mut months, mut days) = (BTreeSet::new(), Vec::new());
    for date in [day(survey.span.from), day(survey.span.to)] {
        months.insert(Month { year: date.year(), month: date.month().into() });
    }
    for month in months.into_iter().take(MONTHS) {
        if let Ok(Some(found)) = recorder.days(&track.id, month).await {
            let found = (1..=31).filter(|day| found.contains(*day));
            days.extend(found.map(|day| format!("{:04}-{:02}-{day:02}", month.year, month.month)));
        }
    }
    if !days.is_empty() {
        return format!("track {} has recordings of {}", track.id, days.join(", "));
    }
    let Ok(span) = Wanted::All.span(clock, survey.now.utc) else { return String::new() };
    let kind = survey::kind(export.stream());
    let query = Query { track: track.id.clone(), span, kind, event: None };
    match recorder.search(query).next().await {
        Some(Ok(first)) => format!("the first that track {} has begins {}", track.id, first.start),
        Some(Err(error)) => format!("what else track {} has cannot be told: {}", track.id, error.message),
        None => format!("track {} has no recordings at all: is it recorded, and its disk there?", track.id),
    }
}
