//! One attempt to bring recordings that have come into the form that is asked for, and to store that.
//!
//! The original is kept when it cannot be brought there: what was recorded is worth more than its form.

use std::fs::{self, File};
use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, unfold};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use super::attempt::Context;
use super::away::Moved;
use super::blocking::blocking;
use super::entry::{Stored, base64};
use super::fault::{Fault, Next};
use super::fetch::content_type;
use super::plan::{Group, Item};
use super::{Export, Fate, Form, Reason, Transport};
use crate::delivery::attempt_deadline;
use crate::media::{self, Cut, Frames, Job, MediaErrorKind, Outcome, Remux};
use crate::nvr::Container;
use crate::storage::{
    self, Attempt, Body, BodyError, Bucket, ContentType, Incoming, Object, ObjectInfo, Patience, StreamError, Streamed,
};

/// Pieces in which files are read.
const PIECE: usize = 512 << 10;
/// JPEGs on their way at the same time.
const PICTURES_AT_ONCE: usize = 16;
/// How long an object that is in memory may take, and the bytes a second that a bucket must take beyond that: a list of
/// many recordings has as many bytes as a film.
const PUT_WITHIN: Duration = Duration::from_secs(60);
const SLOWEST: NonZeroU32 = NonZeroU32::new(64 << 10).expect("it is more than nothing");
/// JPEG quality of single pictures.
const QUALITY: u8 = 90;

/// A recording that has come to this machine.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub path: PathBuf,
    pub info: ObjectInfo,
    pub container: Container,
    /// What of the recording is not in it, in a sentence, where something is not.
    pub missing: Option<String>,
}

impl Local {
    /// All of a recording.
    pub(super) fn new(path: PathBuf, info: ObjectInfo, container: Container) -> Self {
        Self { path, info, container, missing: None }
    }
}

/// What an object's key ends in, with the dot.
pub(super) fn extension(form: &Form, photo: bool) -> String {
    match form {
        // hikload's, whatever is inside.
        Form::Original => if photo { ".jpeg" } else { ".mp4" }.to_owned(),
        Form::Packed { container, .. } | Form::Joined { container, .. } => format!(".{}", container.extension()),
        Form::Pictures { .. } => ".ndjson".to_owned(),
    }
}

/// The key of an original that is kept beside what it could not become.
pub(super) fn kept(stem: &str, container: Container) -> String {
    format!("{stem}.original.{}", container.extension())
}

/// The key of what was played because the recorder sends no files: it has not the size of the original.
fn played(stem: &str) -> String {
    format!("{stem}.played.mp4")
}

/// The key of what was played and is not whole. It is none that a later run takes for the recording.
fn incomplete(stem: &str) -> String {
    format!("{stem}.incomplete.mp4")
}

/// All keys that a whole recording may have besides the one that is meant for it.
pub(super) fn others(export: &Export, stem: &str) -> Vec<String> {
    match (export.form, export.transport) {
        (Form::Original, Transport::Auto) => vec![played(stem)],
        (Form::Original, _) => Vec::new(),
        _ => [Container::ProgramStream, Container::Mp4, Container::Unknown].map(|as_it| kept(stem, as_it)).into(),
    }
}

/// Makes what is asked for of a group's recordings, in their order, and stores it. What became of each of them.
pub(super) async fn make(
    context: &Context,
    group: &Group,
    items: &[Item],
    locals: &[Local],
) -> Result<Vec<Fate>, Fault> {
    let form = &context.export.form;
    if locals.iter().any(|local| local.missing.is_some()) {
        return keep(context, items, locals, "a recording that it would be made of is not whole").await;
    }
    let inputs: Vec<PathBuf> = locals.iter().map(|local| local.path.clone()).collect();
    let cut = match &group.cut {
        Ok(cut) => *cut,
        Err(why) => return keep(context, items, locals, why).await,
    };
    let work = context.workshop()?.join(format!("made-{}", group.items[0]));
    let done = match form {
        // It was played, and so has come in the form that there is.
        Form::Original => {
            let asked = context.export.transport == Transport::Rtsp;
            let key = if asked { format!("{}{}", group.stem, extension(form, false)) } else { played(&group.stem) };
            let stored = upload(context, &inputs[0], &key, content_type(locals[0].container)).await?;
            let note = (!asked).then(|| "played over RTSP, since the recorder does not send it as a file".to_owned());
            return Ok(vec![Fate::Stored { object: stored, note }]);
        }
        Form::Packed { container, .. } | Form::Joined { container, .. } => {
            pack(context, inputs, &work, *container, cut).await
        }
        Form::Pictures { every, .. } => pictures(context, inputs, &work, *every, cut).await,
    };
    let stored = match done {
        Ok(outcome) => match outcome.incomplete.clone() {
            Some(why) => Err(why),
            None => Ok(store(context, group, &outcome).await?),
        },
        Err(error) => match error.kind {
            MediaErrorKind::Missing | MediaErrorKind::Output => return Err(error.into()),
            _ => Err(error.message),
        },
    };
    // What is left of it goes with the directory.
    let _ = blocking(move || fs::remove_dir_all(&work)).await;
    match stored {
        Ok((object, note)) if items.len() == 1 => Ok(vec![Fate::Stored { object, note }]),
        Ok((object, _)) => Ok(locals
            .iter()
            .map(|local| {
                let ObjectInfo { bytes, crc32c } = local.info;
                Fate::Joined { key: object.key.clone(), crc32c, bytes }
            })
            .collect()),
        Err(why) => keep(context, items, locals, &why).await,
    }
}

async fn pack(
    context: &Context,
    inputs: Vec<PathBuf>,
    work: &Path,
    container: media::Container,
    cut: Cut,
) -> Result<Outcome, media::MediaError> {
    fresh(work).await?;
    let output = work.join(format!("made.{}", container.extension()));
    run(context, Job::Remux(Remux { inputs, output, container, cut })).await
}

async fn pictures(
    context: &Context,
    inputs: Vec<PathBuf>,
    work: &Path,
    every: Duration,
    cut: Cut,
) -> Result<Outcome, media::MediaError> {
    fresh(work).await?;
    let directory = work.to_owned();
    run(context, Job::Frames(Frames { inputs, directory, every, quality: QUALITY, max_width: None, cut })).await
}

/// An empty directory.
async fn fresh(work: &Path) -> Result<(), media::MediaError> {
    let dir = work.to_owned();
    let made = blocking(move || {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(dir)
    });
    made.await.map_err(|error| {
        media::MediaError::new(MediaErrorKind::Output, format!("cannot make {}: {error}", work.display()))
    })
}

async fn run(context: &Context, job: Job) -> Result<Outcome, media::MediaError> {
    match &context.export.media {
        Some(launcher) => launcher.run(&job, |_| {}).await,
        None => Err(media::MediaError::new(MediaErrorKind::Missing, "there is no program for media here")),
    }
}

/// Stores what was made.
async fn store(context: &Context, group: &Group, outcome: &Outcome) -> Result<(Stored, Option<String>), Fault> {
    let form = &context.export.form;
    let key = format!("{}{}", group.stem, extension(form, false));
    let note = match &outcome.sound {
        media::Sound::Dropped { reason } => Some(format!("without its sound: {reason}")),
        _ => None,
    };
    let kind = match form {
        Form::Pictures { every, .. } => return Ok((list(context, group, outcome, *every, key).await?, note)),
        Form::Packed { container: media::Container::Mkv, .. }
        | Form::Joined { container: media::Container::Mkv, .. } => ContentType::Matroska,
        _ => ContentType::Mp4,
    };
    let made = outcome.files.first();
    let made = made.ok_or_else(|| Fault::new(Reason::Media, Next::GiveUp, "nothing was made".to_owned()))?;
    Ok((upload(context, made, &key, kind).await?, note))
}

/// Stores JPEGs, and after all of them the list that says that they are all there.
async fn list(
    context: &Context,
    group: &Group,
    outcome: &Outcome,
    every: Duration,
    key: String,
) -> Result<Stored, Fault> {
    let bucket = &*context.bucket;
    let mut lines = Vec::new();
    let mut puts = Vec::with_capacity(outcome.files.len());
    for (number, file) in outcome.files.iter().enumerate() {
        let key = format!("{}/{number:06}.jpg", group.stem);
        puts.push(picture(bucket, key, file.clone(), every.as_secs_f64() * number as f64));
    }
    let mut puts = stream::iter(puts).buffered(PICTURES_AT_ONCE);
    while let Some(line) = puts.next().await {
        lines.push(line?.to_string() + "\n");
    }
    let pictures = lines.len() as u64;
    let content = Bytes::from(lines.concat());
    let (bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
    put(bucket, Object { key: key.clone(), content, crc32c, content_type: ContentType::Ndjson }).await?;
    Ok(Stored { url: url(bucket, &key), key, bytes, crc32c, pictures: Some(pictures) })
}

/// Stores a JPEG, and gives its line in the list.
async fn picture(bucket: &dyn Bucket, key: String, file: PathBuf, position: f64) -> Result<serde_json::Value, Fault> {
    let content = read(file).await?;
    let (bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
    put(bucket, Object { key: key.clone(), content, crc32c, content_type: ContentType::Jpeg }).await?;
    Ok(json!({ "position": position, "key": key, "bytes": bytes, "crc32c": base64(crc32c) }))
}

/// How long so many bytes may take.
fn put_within(bytes: usize) -> Duration {
    attempt_deadline(PUT_WITHIN, SLOWEST, bytes)
}

/// Puts an object that is in memory, once.
pub(super) async fn put(bucket: &dyn Bucket, object: Object) -> Result<(), Fault> {
    let url = url(bucket, &object.key);
    let within = put_within(object.content.len());
    match storage::attempt(bucket, object, within).await {
        Attempt::Stored => Ok(()),
        Attempt::Conflict => Err(Fault::new(
            Reason::Conflict,
            Next::GiveUp,
            format!("{url} is there already and differs: export to another place, or take it away"),
        )),
        Attempt::Failed(error) | Attempt::Late(error) => Err(error.into()),
    }
}

/// Stores recordings as they came, because they could not be brought into the form that is asked for.
async fn keep(context: &Context, items: &[Item], locals: &[Local], why: &str) -> Result<Vec<Fate>, Fault> {
    let mut fates = Vec::new();
    for (item, local) in items.iter().zip(locals) {
        if let Some(missing) = &local.missing {
            fates.push(keep_part(context, item, local, missing).await?);
            continue;
        }
        let key = kept(&item.stem, local.container);
        let object = upload(context, &local.path, &key, content_type(local.container)).await?;
        fates.push(Fate::Stored { object, note: Some(format!("kept as it came: {why}")) });
    }
    Ok(fates)
}

/// Stores what was played of a recording that is not whole, and says so.
async fn keep_part(context: &Context, item: &Item, local: &Local, missing: &str) -> Result<Fate, Fault> {
    let key = incomplete(&item.stem);
    match upload(context, &local.path, &key, content_type(local.container)).await {
        Ok(object) => Ok(Fate::Part { object, reason: Reason::Cut, error: missing.to_owned() }),
        // Which of the two has more of it nobody can tell.
        Err(fault) if fault.reason == Reason::Conflict => {
            let there = url(&*context.bucket, &key);
            let error = format!("{missing}; what an earlier playback has brought, another part, is {there}");
            Ok(Fate::Failed { reason: Reason::Cut, error })
        }
        Err(fault) => Err(fault),
    }
}

/// Stores a file.
async fn upload(context: &Context, path: &Path, key: &str, content_type: ContentType) -> Result<Stored, Fault> {
    let bucket = &*context.bucket;
    let machine = |error: &dyn std::fmt::Display| {
        Fault::new(Reason::Machine, Next::Again, format!("cannot read {}: {error}", path.display()))
    };
    let from = path.to_owned();
    let opened = blocking(move || {
        let file = File::open(from)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    });
    let (file, bytes) = opened.await.map_err(|error| machine(&error))?;
    let incoming = Incoming {
        content_type,
        size_hint: Some(bytes),
        body: pieces(file, context.moved.clone()),
        patience: Patience::default(),
    };
    let info = match bucket.create_stream(key, incoming).await {
        Ok(Streamed::New(info)) => info,
        Ok(Streamed::Exists { there, came }) if came.is_none_or(|came| came == there) && there.bytes == bytes => there,
        Ok(Streamed::Exists { .. }) => {
            let detail = format!("{} is there already and differs: export to another place", url(bucket, key));
            return Err(Fault::new(Reason::Conflict, Next::GiveUp, detail));
        }
        Err(StreamError::Bucket(error)) => return Err(error.into()),
        Err(StreamError::Body(error)) => return Err(machine(&error)),
    };
    Ok(Stored { key: key.to_owned(), url: url(bucket, key), bytes: info.bytes, crc32c: info.crc32c, pictures: None })
}

/// A file, piece by piece.
fn pieces(file: File, moved: Arc<Moved>) -> Body {
    unfold(Some((file, moved, 0)), |way| async {
        let (mut file, moved, so_far) = way?;
        moved.taken(so_far);
        let read = blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            let read = file.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            read.map(|_| (Bytes::from(piece), file))
        });
        match read.await {
            Ok((piece, _)) if piece.is_empty() => None,
            Ok((piece, file)) => {
                let so_far = so_far + piece.len() as u64;
                Some((Ok(piece), Some((file, moved, so_far))))
            }
            Err(error) => Some((Err(Box::new(error) as BodyError), None)),
        }
    })
    .boxed()
}

async fn read(path: PathBuf) -> Result<Bytes, Fault> {
    let read = blocking(move || fs::read(path)).await;
    read.map(Bytes::from)
        .map_err(|error| Fault::new(Reason::Machine, Next::Again, format!("cannot read a picture: {error}")))
}

/// What may not stand in a `file://` URL as it is.
const IN_URLS: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');

/// An object's URL. The names of recordings are people's, and those of files are written so that any program finds them.
pub(super) fn url(bucket: &dyn Bucket, key: &str) -> String {
    match bucket.base_url() {
        base if base.starts_with("file://") => format!("{base}{}", utf8_percent_encode(key, IN_URLS)),
        base => format!("{base}{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Scripted, Told, context, export, recording};
    use super::super::plan;
    use super::*;

    #[test]
    fn a_large_list_has_more_time_than_a_picture() {
        assert_eq!(put_within(0), PUT_WITHIN);
        // A million recordings at 512 bytes each, over a line of 100 KB a second.
        assert!(put_within(512_000_000) > Duration::from_secs(512_000_000 / 100_000));
    }

    #[tokio::test]
    async fn what_was_played_in_part_is_stored_as_that_and_never_as_the_whole() {
        let [dir, files] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut export = export(&dir);
        export.transport = Transport::Rtsp;
        let items = plan::items(vec![recording("a", 0)], &[], &[], &export.names, "nvr");
        let context = context(export, Scripted::new(|_, _| None), Told::new(&dir));
        let group = plan::groups(&items, &context.export.form, context.span).remove(0);
        let make_of = async |content: &[u8]| {
            let path = files.path().join("played");
            fs::write(&path, content).unwrap();
            let info = ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(content) };
            let missing = Some("its second half".to_owned());
            let local = Local { missing, ..Local::new(path, info, Container::Mp4) };
            make(&context, &group, &items, &[local]).await.unwrap().remove(0)
        };
        for _ in 0..2 {
            let Fate::Part { object, reason: Reason::Cut, error } = make_of(b"half").await else { panic!("no part") };
            assert_eq!((object.key.as_str(), error.as_str()), ("20201119000000-101.incomplete.mp4", "its second half"));
        }
        let Fate::Failed { reason: Reason::Cut, error } = make_of(b"other").await else { panic!("stored") };
        assert!(error.contains("its second half") && error.contains(".incomplete.mp4"), "{error}");
        assert_eq!(fs::read(dir.path().join("20201119000000-101.incomplete.mp4")).unwrap(), b"half");
        assert!(!dir.path().join("20201119000000-101.mp4").exists());
    }
}
