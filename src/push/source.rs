//! Where a push has its pictures from: whatever the daemon reads, image files, and JPEGs one after another.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Jpegs, NoJpeg, Picture, Pictures};
use crate::capture::child::monotonic_ns;
use crate::capture::wire::CapturedFrame;
use crate::capture::{Diagnosis, Ending, Launcher, ProcessEvent};
use crate::model::{CameraId, CameraSpec, ClockAnchor, LostReason, SourceKind, UnixMicros};

/// The largest image file that is read, bytes.
const MAX_FILE: u64 = 64 << 20;

/// Where pictures come from.
#[derive(Debug)]
pub enum Source {
    /// What a capture process reads: a camera, a video file.
    Stream {
        /// What is asked of it.
        spec: Box<CameraSpec>,
        /// How its process is started.
        launcher: Launcher,
        /// Pictures of the first so much of its presentation time are passed by.
        from: Duration,
    },
    /// Image files, each a picture, in this order.
    Files(Vec<PathBuf>),
    /// JPEGs that follow on each other on standard input.
    StandardInput,
}

/// How much of a source was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fed {
    /// Pictures, those that were missed among them.
    pub pictures: u64,
    /// Whether the push has ended before the source had.
    pub cut: bool,
}

/// Why a source gives no more.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A stream cannot be read, or broke off.
    #[error("{}: {}", .0.kind.as_str(), .0.message)]
    Stream(Diagnosis),
    /// A file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is no JPEG.
    #[error("{}: {error}: only JPEG files are taken as they are", .path.display())]
    NoJpeg {
        /// Which.
        path: PathBuf,
        /// Why.
        error: NoJpeg,
    },
    /// Standard input cannot be read, or holds something else than JPEGs.
    #[error("standard input: {0}")]
    StandardInput(std::io::Error),
}

impl Source {
    /// Gives pictures until there are no more, or so many were given.
    ///
    /// # Errors
    ///
    /// Why it gives no more; what was given until then is on its way.
    pub async fn feed(self, pictures: Pictures, limit: u64) -> Result<Fed, SourceError> {
        let mut feed = Feed { pictures: Some(pictures), given: 0, limit, cut: false };
        match self {
            Self::Stream { spec, launcher, from } => stream(&spec, &launcher, from, &mut feed).await?,
            Self::Files(paths) => files(paths, &mut feed).await?,
            Self::StandardInput => standard_input(&mut feed).await?,
        }
        Ok(Fed { pictures: feed.given, cut: feed.cut })
    }
}

/// Counts what is given.
struct Feed {
    /// Until there are no more.
    pictures: Option<Pictures>,
    given: u64,
    limit: u64,
    cut: bool,
}

impl Feed {
    /// Gives a picture, and returns whether there may be more.
    async fn give(&mut self, picture: Picture) -> bool {
        let Some(pictures) = self.pictures.as_ref().filter(|_| !self.is_full()) else { return false };
        self.cut = pictures.send(picture).await.is_err();
        self.given += u64::from(!self.cut);
        !self.is_full()
    }

    async fn missed(&mut self, count: u64, why: LostReason) {
        let count = count.min(self.limit - self.given);
        if let Some(pictures) = &self.pictures {
            self.cut |= pictures.missed(count, why).await.is_err();
            self.given += count;
        }
    }

    /// Says that there are no more, so that nobody waits for them while the source is left.
    fn end(&mut self) {
        self.pictures = None;
    }

    fn is_full(&self) -> bool {
        self.cut || self.given >= self.limit
    }
}

async fn stream(spec: &CameraSpec, launcher: &Launcher, from: Duration, feed: &mut Feed) -> Result<(), SourceError> {
    let name: CameraId = "push".parse().expect("it is an id");
    let patient = spec.url.kind() == SourceKind::File;
    let mut process = launcher.launch(&name, spec).await.map_err(SourceError::Stream)?;
    // They belong to the picture that comes after them: before it nobody knows whether they are passed by.
    let mut missed = Vec::new();
    let ended = loop {
        match process.next().await {
            ProcessEvent::Frame(frame) => {
                let position = Duration::from_micros(u64::try_from(frame.pts_micros).unwrap_or_default());
                if position < from {
                    missed.clear();
                    continue;
                }
                for (count, why) in missed.drain(..) {
                    feed.missed(count, why).await;
                }
                let goes_on = feed.give(picture(frame, patient.then_some(position))).await;
                // It was not the process that stood still.
                process.excuse();
                if !goes_on {
                    break None;
                }
            }
            ProcessEvent::Overrun(count) => missed.push((count.into(), LostReason::Overrun)),
            ProcessEvent::Corrupt(count) => missed.push((count.into(), LostReason::Corrupt)),
            ProcessEvent::Opened(_) | ProcessEvent::Stats(_) => {}
            ProcessEvent::Ended(Ending::StreamEnded) if patient && feed.given > 0 => break None,
            ProcessEvent::Ended(ending) => break Some(ending),
        }
        if feed.is_full() {
            break None;
        }
    };
    for (count, why) in missed {
        feed.missed(count, why).await;
    }
    feed.end();
    let diagnosis = match ended {
        Some(ending) => Some(process.diagnose(ending).await),
        None => None,
    };
    process.stop().await;
    diagnosis.map_or(Ok(()), |diagnosis| Err(SourceError::Stream(diagnosis)))
}

fn picture(frame: CapturedFrame, position: Option<Duration>) -> Picture {
    let captured_at = ClockAnchor::new(UnixMicros::now(), monotonic_ns()).date(frame.monotonic_ns);
    let CapturedFrame { jpeg, width, height, .. } = frame;
    Picture { jpeg, captured_at, position, width, height }
}

/// Reads one ahead, on a thread of its own: a disk may be slow.
async fn files(paths: Vec<PathBuf>, feed: &mut Feed) -> Result<(), SourceError> {
    let (read, mut pictures) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        for path in paths {
            // An error means that nobody wants more.
            if read.blocking_send(file(&path)).is_err() {
                break;
            }
        }
    });
    while let Some(picture) = pictures.recv().await {
        if !feed.give(picture?).await {
            break;
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<Picture, SourceError> {
    let failed = |error| SourceError::File { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    if read.map_err(failed)? as u64 > MAX_FILE {
        return Err(failed(std::io::Error::other("it is larger than 64 MiB")));
    }
    bytes.shrink_to_fit();
    Picture::new(Bytes::from(bytes)).map_err(|error| SourceError::NoJpeg { path: path.to_owned(), error })
}

async fn standard_input(feed: &mut Feed) -> Result<(), SourceError> {
    let (read, mut pictures) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        for picture in Jpegs::new(std::io::stdin().lock()) {
            // An error means that nobody wants more.
            if read.blocking_send(picture).is_err() {
                break;
            }
        }
    });
    while let Some(picture) = pictures.recv().await {
        if !feed.give(picture.map_err(SourceError::StandardInput)?).await {
            break;
        }
    }
    Ok(())
}
