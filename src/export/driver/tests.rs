use tempfile::TempDir;

use super::super::fixtures::{Scripted, Told, context, export, recording};
use super::super::{Export, Form};
use super::*;
use crate::media;
use crate::model::UnixMicros;
use crate::nvr::{self, RecorderErrorKind, Segment};
use crate::storage::{BucketErrorKind, ObjectInfo};

const HOUR: Duration = Duration::from_secs(3_600);
const PACKED: Form =
    Form::Packed { container: media::Container::Mp4, cut: media::Cut { skip: Duration::ZERO, most: None } };

/// A driver of these recordings.
fn driver(mut context: Context, change: impl FnOnce(&mut Export), names: &[&str]) -> Driver {
    change(&mut context.export);
    let segments: Vec<Segment> = names.iter().zip(0..).map(|(name, number)| recording(name, number)).collect();
    let track = nvr::Track {
        id: "101".into(),
        channel: 1,
        stream: nvr::StreamKind::Main,
        name: "Gate".into(),
        online: None,
        codec: None,
    };
    let items = plan::items(segments, &[], &[track], &context.export.names, "nvr");
    let groups = plan::groups(&items, &context.export.form, context.span);
    let (out, _) = mpsc::unbounded_channel();
    Driver::new(Arc::new(context), items, groups, out, watch::channel(Progress::default()).0)
}

async fn drive(driver: Driver) -> All {
    let (_stop, mut stopped) = oneshot::channel();
    driver.drive(&mut stopped).await.unwrap()
}

/// What became of each, in a word: the outcome, or why there is none.
fn fates(all: &All) -> Vec<&'static str> {
    let word = |entry: &Entry| entry.fate.reason().map_or(entry.fate.as_str(), Reason::as_str);
    all.entries.iter().map(word).collect()
}

fn local(dir: &TempDir, name: &str) -> Local {
    let path = dir.path().join(name);
    Local::new(path, ObjectInfo { bytes: 1, crc32c: 0 }, nvr::Container::Mp4)
}

#[tokio::test]
async fn a_recorder_that_asks_for_more_time_than_there_is_patience_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Duration::from_secs(2);
    let busy = RecorderErrorKind::Busy { retry_after: Some(asked) };
    let recorder = Scripted::new(move |_, turn| (turn < 1).then_some(busy));
    let context = context(export(&dir), recorder, Told::new(&dir));
    let begun = Instant::now();
    let all = drive(driver(context, |export| export.patience = asked / 2, &["a"])).await;
    assert_eq!((fates(&all), all.ended.is_none()), (vec!["stored"], true));
    assert!(begun.elapsed() >= asked, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_time_outside_the_hours_is_nobodys_fault() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Scripted::new(|_, _| None);
    let now = UnixMicros::now().to_utc();
    let hours = [now + 2 * HOUR, now + 3 * HOUR].map(|at| format!("{:02}:{:02}", at.hour(), at.minute())).join("-");
    let hours = Some(hours.parse().unwrap());
    let context = context(export(&dir), recorder.clone(), Told::new(&dir));
    let mut driver = driver(context, |export| export.hours = hours, &["a"]);
    for side in [Side::Recorder, Side::Bucket] {
        let fault = Fault::new(Reason::Recorder, Next::Again, "no");
        driver.away.failed(side, Instant::now(), &driver.context.moved, fault);
    }
    driver.ready.push_back(Step::Fetch(0));
    let wake = driver.begin().expect("they begin");
    assert!(wake - Instant::now() > HOUR);
    driver.may_come_back(wake);
    assert!(driver.ended.is_none() && recorder.asked() == 0);
    // Within them it is.
    driver.may_come_back(wake + driver.context.export.patience);
    assert!(matches!(driver.ended, Some((ExportError::Away { .. }, _))));
}

#[tokio::test]
async fn what_the_recorder_fails_at_with_all_of_them_costs_none_its_tries() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Scripted::new(|_, turn| (turn < 12).then_some(RecorderErrorKind::Io));
    let context = context(export(&dir), recorder, Told::new(&dir));
    let all = drive(driver(context, |export| export.retries = 1, &["a", "b"])).await;
    assert_eq!((fates(&all), all.ended.is_none()), (vec!["stored", "stored"], true));
}

#[tokio::test]
async fn one_that_always_fails_ends_while_the_others_come() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Scripted::new(|name, _| (name == "a").then_some(RecorderErrorKind::Io));
    let context = context(export(&dir), recorder, Told::new(&dir));
    let all = drive(driver(context, |export| export.retries = 1, &["a", "b", "c", "d", "e"])).await;
    assert_eq!(fates(&all), ["recorder", "stored", "stored", "stored", "stored"]);
    assert!(all.ended.is_none(), "{:?}", all.ended);
}

#[tokio::test]
async fn a_recorder_that_is_away_ends_all_of_it_when_patience_does() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Scripted::new(|_, _| Some(RecorderErrorKind::Io));
    let (begun, patience) = (Instant::now(), Duration::from_millis(300));
    let context = context(export(&dir), recorder, Told::new(&dir));
    let all = drive(driver(context, |export| export.patience = patience, &["a", "b"])).await;
    assert!(matches!(all.ended, Some(ExportError::Away { bucket: None, .. })), "{:?}", all.ended);
    assert!(begun.elapsed() >= patience, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_directory_for_files_that_is_full_is_not_the_buckets_fault() {
    let [dir, files] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut context = context(export(&dir), Scripted::new(|_, _| None), Told::new(&dir));
    let full = Told::failing(&files, BucketErrorKind::Transient);
    context.workshop = Some((files.path().to_owned(), Arc::new(full)));
    let patience = Duration::from_millis(300);
    let change = |export: &mut Export| (export.form, export.retries, export.patience) = (PACKED, 2, patience);
    let begun = Instant::now();
    let all = drive(driver(context, change, &["a", "b"])).await;
    assert_eq!(fates(&all), ["machine", "machine"]);
    let Some(ExportError::Machine(error)) = &all.ended else { panic!("{:?}", all.ended) };
    assert!(error.contains("on this machine: there is no room"), "{error}");
    assert!(begun.elapsed() >= patience, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_recorder_that_says_no_to_all_that_is_left_is_not_waited_for_as_if_it_were_away() {
    let dir = tempfile::tempdir().unwrap();
    let busy = RecorderErrorKind::Busy { retry_after: None };
    let recorder = Scripted::new(move |name, _| (name != "e").then_some(busy));
    let context = context(export(&dir), recorder.clone(), Told::new(&dir));
    let all = drive(driver(context, |export| export.retries = 2, &["a", "b", "c", "d", "e", "f"])).await;
    assert_eq!((fates(&all), all.ended.is_none()), (vec!["busy", "busy", "busy", "busy", "stored", "busy"], true));
    // Each has its tries, and one more at most from when not all had failed: none is asked for again before all were once.
    assert!((16..=21).contains(&recorder.asked()), "{}", recorder.asked());
}

#[tokio::test]
async fn a_bucket_that_asks_for_time_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Scripted::new(|_, _| None);
    let context = context(export(&dir), recorder.clone(), Told::new(&dir));
    let mut driver = driver(context, |_| {}, &["a", "b"]);
    let asks = Fault {
        retry_after: Some(HOUR),
        whose: Whose::Buckets(BucketErrorKind::Throttled),
        ..Fault::new(Reason::Bucket, Next::Again, "later")
    };
    driver.failed(Step::Fetch(0), 0, asks);
    driver.ready.push_back(Step::Fetch(1));
    let wake = driver.begin().expect("it is asked again");
    assert!(wake - Instant::now() > HOUR / 2);
    assert_eq!((driver.asking, driver.progress.waiting), (0, Some("for the bucket")));
    driver.bucket_until = Some(Instant::now());
    driver.begin();
    assert_eq!(driver.asking, 1);
}

#[tokio::test]
async fn a_recorder_of_which_nothing_is_wanted_is_not_away() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(export(&dir), Scripted::new(|_, _| None), Told::new(&dir));
    let mut driver = driver(context, |export| export.form = PACKED, &["a", "b", "c", "d", "e"]);
    let fault = || Fault { whose: Whose::Recorders, ..Fault::new(Reason::Recorder, Next::Again, "no") };
    let much_later = Instant::now() + 24 * HOUR;
    driver.away.failed(Side::Recorder, Instant::now(), &driver.context.moved, fault());
    driver.waiting.add(much_later, Step::Fetch(4));
    driver.begin();
    assert!(driver.away.over(much_later, &driver.context.moved, HOUR).is_some(), "one waits to be fetched");
    for place in 0..WHOLE {
        driver.locals.entry(place).or_default().insert(place, local(&dir, "whole"));
    }
    driver.begin();
    assert!(driver.away.over(much_later, &driver.context.moved, HOUR).is_none());
}

#[tokio::test]
async fn what_was_played_in_part_is_kept_when_nothing_more_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(export(&dir), Scripted::new(|_, _| None), Told::new(&dir));
    let mut driver = driver(context, |_| {}, &["a", "b"]);
    for (place, name) in ["a", "b"].into_iter().enumerate() {
        driver.got(place, Got::Part(Part { local: local(&dir, name), pictures: 1 }));
    }
    // One is being played once more.
    let Some(Step::Fetch(going_on)) = driver.ready.pop_front() else { panic!("they are played again") };
    driver.ask(Step::Fetch(going_on));
    driver.keep_parts();
    assert_eq!((driver.parts.len(), driver.to_make.len()), (1, 1));
    assert!(driver.parts.contains_key(&going_on));
    // A group that is given up takes what it has with it.
    driver.forget(driver.group_of[going_on]);
    assert!(driver.parts.is_empty());
}

#[tokio::test]
async fn an_export_ends_when_it_is_told_to_while_the_bucket_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(export(&dir), Scripted::new(|_, _| None), Told::silent(&dir));
    let (stop, mut stopped) = oneshot::channel();
    stop.send(()).unwrap();
    let driving = driver(context, |_| {}, &["a"]).drive(&mut stopped);
    let all = tokio::time::timeout(HOUR / 60, driving).await.expect("it ends").unwrap();
    assert_eq!((fates(&all), all.stopped, all.ended.is_none()), (vec!["interrupted"], true, true));
}

#[tokio::test]
async fn nothing_more_is_fetched_while_enough_of_it_waits_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(export(&dir), Scripted::new(|_, _| None), Told::new(&dir));
    let names = ["a", "b", "c", "d", "e"];
    let mut driver = driver(context, |export| (export.form, export.sessions) = (PACKED, 2), &names);
    // Makings that have failed, and wait for another try.
    for (place, name) in names.into_iter().enumerate().take(WHOLE) {
        driver.locals.entry(place).or_default().insert(place, local(&dir, name));
        driver.waiting.add(Instant::now() + HOUR, Step::Make(place));
    }
    driver.ready.push_back(Step::Fetch(WHOLE));
    assert_eq!((driver.begin().is_some(), driver.asking), (true, 0));
    driver.forget(0);
    driver.begin();
    assert_eq!(driver.asking, 1);
}

#[tokio::test]
async fn a_playback_that_is_no_better_than_the_one_before_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(export(&dir), Scripted::new(|_, _| None), Told::new(&dir));
    let mut driver = driver(context, |_| {}, &["a"]);
    let part = |name: &str, pictures| {
        let missing = Some(format!("{name} is not whole"));
        Got::Part(Part { local: Local { missing, ..local(&dir, name) }, pictures })
    };
    for (turn, (name, pictures)) in [("first", 50), ("better", 60)].into_iter().enumerate() {
        driver.got(0, part(name, pictures));
        assert_eq!(driver.ready.pop_front(), Some(Step::Fetch(0)));
        // Its next file is another one.
        assert_eq!(driver.tries.times(Step::Fetch(0)) as usize, turn + 1);
    }
    driver.got(0, part("no better", 60));
    assert_eq!((driver.ready.len(), driver.parts.len(), driver.to_make.len()), (0, 0, 1));
    assert_eq!(driver.locals[&0][&0].missing.as_deref(), Some("better is not whole"));

    // What cannot be played again is kept as well.
    driver.forget(0);
    driver.to_make.clear();
    driver.got(0, part("only", 50));
    driver.failed(Step::Fetch(0), 0, Fault::new(Reason::Gone, Next::GiveUp, "gone"));
    assert_eq!(driver.locals[&0][&0].missing.as_deref(), Some("only is not whole"));
    assert!(driver.fates[0].is_none());
}
