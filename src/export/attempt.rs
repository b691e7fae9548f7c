//! One attempt with one recording, and what it needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::away::Moved;
use super::bandwidth::Bandwidth;
use super::blocking::blocking;
use super::entry::Stored;
use super::fault::{Fault, Next, Whose};
use super::fetch::{Came, How, Keys};
use super::make::{Local, extension, url};
use super::plan::Item;
use super::{Export, Fate, Form, Reason, Transport, fetch, survey};
use crate::media::{self, Job, MediaError, MediaErrorKind, Record};
use crate::nvr::{self, DeviceClock, Fetch, Query, Recorder, Segment, SegmentKind, Span};
use crate::storage::{Bucket, ObjectInfo};

/// What all that is on its way needs.
pub(super) struct Context {
    pub export: Export,
    pub recorder: Arc<dyn Recorder>,
    pub clock: DeviceClock,
    pub span: Span,
    pub bucket: Arc<dyn Bucket>,
    pub bandwidth: Arc<Bandwidth>,
    pub moved: Arc<Moved>,
    /// Where files are worked on, and the same as a bucket.
    pub workshop: Option<(PathBuf, Arc<dyn Bucket>)>,
}

impl Context {
    /// Where files are worked on.
    pub(super) fn workshop(&self) -> Result<&Path, Fault> {
        let missing = || Fault::new(Reason::Machine, Next::EndAll, "there is no directory for files".to_owned());
        self.workshop.as_ref().map(|(dir, _)| dir.as_path()).ok_or_else(missing)
    }
}

/// What is to be done next with a recording, or with a group of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    /// Look whether a recording has come to rest.
    Check(usize),
    /// Fetch it.
    Fetch(usize),
    /// Make what is asked for of what has come.
    Make(usize),
}

impl Step {
    /// Whether the recorder is asked for it.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Fetch(_))
    }
}

/// A step that was tried.
pub(super) struct Ended {
    pub step: Step,
    pub done: Done,
}

/// What came of a step.
pub(super) enum Done {
    /// How the recorder lists it now; `None` where it does not.
    Checked(Result<Option<Segment>, Fault>),
    Fetched(Result<Got, Fault>),
    /// What became of each recording of a group.
    Made(Result<Vec<Fate>, Fault>),
}

/// What was fetched.
pub(super) enum Got {
    /// It is in the bucket; `there`: and was before.
    Stored { object: Stored, there: bool },
    /// It is on this machine.
    Local(Local),
    /// What a playback has brought is on this machine, and is not all of it.
    Part(Part),
}

/// What came of a playback that brought not all.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// What came. It says what is missing.
    pub local: Local,
    /// Pictures in it: which of two is the better one.
    pub pictures: u64,
}

/// Looks at a recording again.
pub(super) async fn check(context: &Context, item: &Item) -> Result<Option<Segment>, Fault> {
    let Context { export, recorder, clock, .. } = context;
    let segment = &item.segment;
    let span = Span { from: segment.start.utc, to: clock.now().utc.after(Duration::from_secs(1)) };
    let kind = survey::kind(export.stream());
    let query = Query { track: segment.track.clone(), span, kind, event: export.event.clone() };
    let mut found = recorder.search(query);
    while let Some(one) = found.next().await {
        let one = one?;
        if one.identity() == segment.identity() {
            return Ok(Some(one));
        }
    }
    Ok(None)
}

/// Fetches a recording: into the bucket where it stays as it is, else onto this machine. `turn` tells a try from those
/// before it.
pub(super) async fn fetch(
    context: &Context,
    item: &Item,
    (place, turn): (usize, u32),
    came: Arc<AtomicU64>,
) -> Result<Got, Fault> {
    let Context { export, recorder, .. } = context;
    let played = format!("played-{place}-{turn}.mp4");
    if export.transport == Transport::Rtsp && item.segment.kind == SegmentKind::Video {
        return play(context, item, &played, &came).await;
    }
    let how = How {
        bandwidth: context.bandwidth.clone(),
        any_size: export.any_size,
        came: came.clone(),
        moved: context.moved.clone(),
        stays: export.form == Form::Original,
    };
    let fetched = if export.form == Form::Original {
        let key = format!("{}{}", item.stem, extension(&export.form, item.segment.kind == SegmentKind::Photo));
        let by_time = fetch::by_time(&item.stem);
        let keys = Keys { listed: &key, by_time: &by_time };
        fetch::fetch(&**recorder, &item.segment, &*context.bucket, keys, how).await.map(|came| {
            let Came { key, info, there, .. } = came;
            let ObjectInfo { bytes, crc32c } = info;
            let url = url(&*context.bucket, &key);
            Got::Stored { object: Stored { key, url, bytes, crc32c, pictures: None }, there }
        })
    } else {
        let dir = context.workshop()?;
        let (_, bucket) = context.workshop.as_ref().expect("its directory is there");
        let key = format!("fetched-{place}");
        let keys = Keys { listed: &key, by_time: &key };
        fetch::fetch(&**recorder, &item.segment, &**bucket, keys, how)
            .await
            .map(|Came { info, container, .. }| Got::Local(Local::new(dir.join(&key), info, container)))
            .map_err(of_this_machine)
    };
    match fetched {
        Err(fault) if may_be_played(context, item, &fault) => {
            play(context, item, &played, &came).await.map_err(|played| Fault {
                message: format!("{}; nor is it played: {}", fault.message, played.message),
                ..played
            })
        }
        fetched => fetched,
    }
}

/// A fault of the directory for files is this machine's, and says nothing of the bucket that recordings go into.
fn of_this_machine(fault: Fault) -> Fault {
    match fault.whose {
        Whose::Buckets(_) => {
            let detail = format!("it cannot be kept on this machine: {}", fault.message);
            Fault { whose: Whose::Machines, ..Fault::new(Reason::Machine, fault.next, detail) }
        }
        Whose::Its | Whose::Recorders | Whose::Machines => fault,
    }
}

/// Whether it may be had over RTSP where it is not sent as a file.
fn may_be_played(context: &Context, item: &Item, fault: &Fault) -> bool {
    fault.reason == Reason::Unsupported
        && context.export.transport == Transport::Auto
        && context.export.media.is_some()
        && context.workshop.is_some()
        && item.segment.kind == SegmentKind::Video
}

/// Records a recording from its playback, into a file of that name.
async fn play(context: &Context, item: &Item, name: &str, came: &AtomicU64) -> Result<Got, Fault> {
    let Context { export, recorder, moved, .. } = context;
    came.store(0, Relaxed);
    let playback = recorder.playback(Fetch::Segment(&item.segment)).await?;
    let output = context.workshop()?.join(name);
    let takes = item.segment.end.utc.since(item.segment.start.utc);
    let job = Job::Record(Record {
        url: playback.url.into(),
        user: Some(export.recorder.user.clone()),
        password: Some(export.recorder.password.clone()),
        output: output.clone(),
        container: media::Container::Mp4,
        most: takes,
        patience: export.recorder.timeouts.stall,
    });
    let missing = || MediaError::new(MediaErrorKind::Missing, "there is no program for media here");
    let launcher = export.media.as_ref().ok_or_else(missing)?;
    let mut admission = recorder.admit().await?;
    let played = launcher.run(&job, |progress| {
        if progress.read > 0 {
            admission.goes_on();
        }
        if came.swap(progress.read, Relaxed) < progress.read {
            moved.came();
        }
    });
    let outcome = match played.await {
        Err(error) if error.kind == MediaErrorKind::Auth => return Err(admission.refused().into()),
        outcome => outcome?,
    };
    let info = sum(output.clone()).await?;
    let local = Local::new(output, info, nvr::Container::Mp4);
    Ok(match outcome.incomplete {
        None => Got::Local(local),
        Some(why) => {
            let missing = Some(format!("played over RTSP it is not whole: {why}"));
            Got::Part(Part { local: Local { missing, ..local }, pictures: outcome.pictures.written })
        }
    })
}

/// Size and checksum of a file.
async fn sum(path: PathBuf) -> Result<ObjectInfo, Fault> {
    let shown = path.display().to_string();
    let read = blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let (mut info, mut piece) = (ObjectInfo { bytes: 0, crc32c: 0 }, vec![0; 256 << 10]);
        loop {
            match std::io::Read::read(&mut file, &mut piece)? {
                0 => return Ok(info),
                read => {
                    info.bytes += read as u64;
                    info.crc32c = crc32c::crc32c_append(info.crc32c, &piece[..read]);
                }
            }
        }
    });
    read.await.map_err(|error| Fault::new(Reason::Machine, Next::Again, format!("cannot read {shown}: {error}")))
}
