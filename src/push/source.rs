//! Where a push has its pictures from: whatever the daemon reads, image files, and JPEGs one after another.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use url::Url;

use super::{Jpegs, NoJpeg, Picture, Pictures};
use crate::capture::wire::CapturedFrame;
use crate::capture::{Diagnosis, Ending, ErrorKind, Launcher, ProcessEvent};
use crate::model::{CameraId, CameraSpec, ClockAnchor, Engine, Extent, LostReason, SourceKind, SourceUrl, UnixMicros};
use crate::process::child::monotonic_ns;

/// What each JPEG begins with.
pub const START_OF_IMAGE: [u8; 3] = [0xff, 0xd8, 0xff];
/// Image files that are read at the same time.
const READ_AHEAD: usize = 4;
/// The largest JPEG file that is read, bytes.
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
    /// Image files, each a picture, in this order. JPEGs are stored as they are, unless they are wider than what is asked
    /// of their maker; what is none is made one.
    Images {
        /// Which.
        paths: Vec<PathBuf>,
        /// Makes JPEGs of them.
        maker: Maker,
    },
    /// JPEGs that follow on each other on standard input.
    StandardInput,
}

/// Makes JPEGs of image files, each in a capture process of its own.
#[derive(Clone, Debug)]
pub struct Maker {
    /// What is asked of them; its URL is of no account.
    pub spec: Box<CameraSpec>,
    /// How a process is started.
    pub launcher: Launcher,
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
    /// A file is no image.
    #[error("{}: {}: {}", .path.display(), .diagnosis.kind.as_str(), .diagnosis.message)]
    Image {
        /// Which.
        path: PathBuf,
        /// Why.
        diagnosis: Diagnosis,
    },
    /// A file begins as a JPEG and is none.
    #[error("{}: {error}", .path.display())]
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
            Self::Images { paths, maker } => images(paths, &maker, &mut feed).await?,
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
    let patient = spec.url.kind() == SourceKind::File;
    let from_micros = (!from.is_zero()).then(|| i64::try_from(from.as_micros()).unwrap_or(i64::MAX));
    let extent = Extent { from_micros, skip: 0, frames: Some(feed.limit).filter(|limit| *limit < u64::MAX) };
    let mut process = launcher.launch(&name(), spec, extent).await.map_err(SourceError::Stream)?;
    let mut seen = false;
    let ended = loop {
        match process.next().await {
            ProcessEvent::Frame(frame) => {
                seen = true;
                // Of a recording; one whose times jump back may go behind its beginning.
                let position = u64::try_from(frame.pts_micros).ok().filter(|_| patient).map(Duration::from_micros);
                feed.give(picture(frame, position)).await;
            }
            ProcessEvent::Overrun(count) => feed.missed(count.into(), LostReason::Overrun).await,
            ProcessEvent::Corrupt(count) => feed.missed(count.into(), LostReason::Corrupt).await,
            ProcessEvent::Opened(_) | ProcessEvent::Stats(_) => {}
            // That what is asked for begins after its end is no failure of the file.
            ProcessEvent::Ended(Ending::StreamEnded) if patient && (seen || from_micros.is_some()) => break None,
            ProcessEvent::Ended(ending) => break Some(ending),
        }
        // It was not the process that stood still.
        process.excuse();
        if feed.is_full() {
            break None;
        }
    };
    feed.end();
    let diagnosis = match ended {
        // A camera would be opened anew; a file would begin again, and a list has one size.
        Some(Ending::StreamChanged) => Some(Diagnosis {
            kind: ErrorKind::StreamChanged,
            message: "the size or the format of the pictures changes here: what follows is not read".into(),
        }),
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

/// Reads some ahead, in their order.
async fn images(paths: Vec<PathBuf>, maker: &Maker, feed: &mut Feed) -> Result<(), SourceError> {
    let mut pictures = pin!(stream::iter(paths).map(|path| image(path, maker)).buffered(READ_AHEAD));
    while let Some(picture) = pictures.next().await {
        if !feed.give(picture?).await {
            break;
        }
    }
    Ok(())
}

async fn image(path: PathBuf, maker: &Maker) -> Result<Picture, SourceError> {
    let failed = |error| SourceError::File { path: path.clone(), error };
    let file = path.clone();
    // A disk may be slow.
    let read = tokio::task::spawn_blocking(move || read(&file)).await;
    let (captured_at, jpeg) = read.map_err(std::io::Error::other).flatten().map_err(failed)?;
    let picture = match jpeg {
        Some(jpeg) => Some(Picture::new(jpeg).map_err(|error| SourceError::NoJpeg { path: path.clone(), error })?),
        None => None,
    };
    let fits = |picture: &Picture| maker.spec.max_width.is_none_or(|most| picture.width <= most);
    let picture = match picture.filter(fits) {
        Some(picture) => picture,
        None => maker.make(&path).await?,
    };
    Ok(Picture { captured_at, ..picture })
}

/// When a file was last changed, which is what is known of when its picture was captured; and the file, if it is a JPEG.
fn read(path: &Path) -> std::io::Result<(UnixMicros, Option<Bytes>)> {
    let (mut file, mut bytes) = (File::open(path)?, vec![0; START_OF_IMAGE.len()]);
    let changed = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let captured_at = UnixMicros(0).after(changed);
    if file.read_exact(&mut bytes).is_err() || bytes != START_OF_IMAGE {
        return Ok((captured_at, None));
    }
    if file.take(MAX_FILE).read_to_end(&mut bytes)? as u64 == MAX_FILE {
        return Err(std::io::Error::other("it is larger than 64 MiB"));
    }
    bytes.shrink_to_fit();
    Ok((captured_at, Some(Bytes::from(bytes))))
}

impl Maker {
    async fn make(&self, path: &Path) -> Result<Picture, SourceError> {
        let failed = |diagnosis| SourceError::Image { path: path.to_owned(), diagnosis };
        let url = file_url(path).map_err(|error| SourceError::File { path: path.to_owned(), error })?;
        let mut spec = self.spec.clone();
        // OpenCV's goes by an image's name, which may be that of a numbered sequence.
        spec.engine = Engine::Ffmpeg;
        let wrong = |why: String| failed(Diagnosis { kind: ErrorKind::NotFound, message: why.into() });
        spec.url = SourceUrl::parse(&url).map_err(wrong)?;
        let mut process = self.launcher.launch(&name(), &spec, Extent::default()).await.map_err(failed)?;
        let made = loop {
            match process.next().await {
                ProcessEvent::Frame(frame) => break Ok(picture(frame, None)),
                ProcessEvent::Corrupt(_) => {
                    let message = "the picture is damaged".into();
                    break Err(Diagnosis { kind: ErrorKind::NoVideo, message });
                }
                ProcessEvent::Ended(ending) => break Err(process.diagnose(ending).await),
                ProcessEvent::Opened(_) | ProcessEvent::Overrun(_) | ProcessEvent::Stats(_) => {}
            }
        };
        // Dropped, it is killed: it has nothing to take leave of.
        made.map_err(failed)
    }
}

/// The URL of a file, of what a link leads to.
///
/// # Errors
///
/// When it is not there.
pub fn file_url(path: &Path) -> std::io::Result<String> {
    let path = std::fs::canonicalize(path)?;
    let url = Url::from_file_path(&path).map_err(|()| std::io::Error::other("no path of a file"))?;
    // Characters that a source's URL must not hold as they are.
    Ok(url.as_str().replace('@', "%40").replace('|', "%7C").replace('^', "%5E"))
}

fn name() -> CameraId {
    "push".parse().expect("it is an id")
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
