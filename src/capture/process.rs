//! The daemon's handle on a capture process: starts it, reads it, watches it, ends it. Every wait has a deadline.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::codec::FramedRead;
use tracing::{debug, warn};

use super::cutter::Cutter;
use super::diagnosis::diagnose;
use super::wire::{CapturedFrame, ChildSettings, End, Message, STOP, Stats, StreamInfo};
use super::{Diagnosis, ErrorKind, Reach, ffmpeg_options};
use crate::model::{CameraId, CameraSpec, Extent, Program};
use crate::process::{Scrubber, Started, lines};

/// Time a child gets to take leave of its camera (TEARDOWN) before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// A child reports every second; one that is silent for this long hangs.
const SILENCE: Duration = Duration::from_secs(5);
/// Time beyond the open timeout in which a child should have said that it did not open.
const OPEN_GRACE: Duration = Duration::from_secs(2);
/// Time in which a child that has ended should have closed its standard error.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Longest line that is logged, characters. Well below what FFmpeg cuts its lines to (1,024): a password that was cut
/// in two is not recognised any more, and it stands beyond this.
const MAX_LOGGED_CHARS: usize = 512;

/// How long a capture process may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To open its stream.
    pub open: Duration,
    /// Between two packets.
    pub read: Duration,
    /// Between two pictures (or five frame intervals, if that is longer).
    pub stall: Duration,
}

/// What a capture process came up with.
#[derive(Debug)]
pub enum ProcessEvent {
    /// The stream is open.
    Opened(StreamInfo),
    /// A frame.
    Frame(CapturedFrame),
    /// So many frames before the next one found the pipe full.
    Overrun(u32),
    /// So many frames before the next one could not be decoded or encoded.
    Corrupt(u32),
    /// Counters, once a second.
    Stats(Stats),
    /// Nothing more will come; [`CaptureProcess::diagnose`] finds out why. The process has to be stopped all the same.
    Ended(Ending),
}

/// How the messages of a capture process came to an end.
#[derive(Debug)]
pub enum Ending {
    /// Its output was closed without a word.
    Closed,
    /// It said nothing within the time a stream has to open.
    NeverOpened,
    /// It said that the stream could not be opened; `late` when that took all the time it had.
    NotOpened {
        /// Whether the time to open was used up.
        late: bool,
    },
    /// It said that the stream is over.
    StreamEnded,
    /// It said that the stream's pictures have another size or format from here on.
    StreamChanged,
    /// It no longer reports.
    Hung,
    /// No new picture for so long.
    Stalled(Duration),
    /// It sent what is no message.
    Garbage(String),
}

/// A running capture process. Dropping it kills it.
#[derive(Debug)]
pub struct CaptureProcess {
    camera: CameraId,
    child: Child,
    stdin: ChildStdin,
    messages: FramedRead<ChildStdout, Cutter>,
    /// What standard error said, as far as it is understood: the first line that is counts.
    said: Arc<Mutex<Option<Diagnosis>>>,
    listener: JoinHandle<()>,
    deadlines: Deadlines,
    /// When the child must have spoken next.
    speak_by: Instant,
    opened_at: Option<Instant>,
    grabbed: u64,
    grabbed_at: Instant,
}

/// What is needed to start capture processes.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The directory of the capture programs.
    pub engines: PathBuf,
    /// How long it may take.
    pub deadlines: Deadlines,
    /// Where cameras may be.
    pub reach: Reach,
    /// How many may start in any second.
    pub starts: Arc<Semaphore>,
}

/// For how long a start takes up its place. A capture process needs a tenth of a second of a processor to begin;
/// hundreds of them at once would all be late for their own deadlines.
const A_START: Duration = Duration::from_secs(1);

/// Starts in any second for each processor.
const STARTS_A_PROCESSOR: usize = 8;

impl Launcher {
    /// The starts that this machine can bear at once.
    pub fn starts() -> Arc<Semaphore> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Semaphore::new(processors * STARTS_A_PROCESSOR))
    }

    /// Finds a camera's source and starts a capture process for this part of it.
    ///
    /// # Errors
    ///
    /// When the source cannot be found or may not be reached, or the program cannot be started.
    pub async fn launch(
        &self,
        camera: &CameraId,
        spec: &CameraSpec,
        extent: Extent,
    ) -> Result<CaptureProcess, Diagnosis> {
        let location = self.reach.locate(&spec.url, spec.tls, self.deadlines.open).await?;
        let place = self.starts.clone().acquire_owned().await.expect("it is never closed");
        tokio::spawn(async move {
            sleep(A_START).await;
            drop(place);
        });
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let Deadlines { open, read, .. } = self.deadlines;
        let settings = ChildSettings::new(spec, extent, location, millis(open), millis(read));
        CaptureProcess::spawn(&self.engines, camera, spec, &settings, self.deadlines).await
    }
}

impl CaptureProcess {
    /// Starts the program among `engines` that captures this camera, with these settings.
    async fn spawn(
        engines: &Path,
        camera: &CameraId,
        spec: &CameraSpec,
        settings: &ChildSettings,
        deadlines: Deadlines,
    ) -> Result<Self, Diagnosis> {
        let line = serde_json::to_vec(settings).expect("settings are plain data");

        let program = spec.program();
        let path = engines.join(program.file_name());
        let missing = |error: std::io::Error| {
            let (kind, way_out) = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                    (ErrorKind::CaptureMissing, "check `capture.engine_dir`")
                }
                _ => (ErrorKind::CaptureCrash, "the machine has no room for it at the moment"),
            };
            Diagnosis { kind, message: format!("cannot start {}: {error}: {way_out}", path.display()).into() }
        };
        let environment = match program {
            Program::Opencv => ffmpeg_options::environment(&settings.options),
            Program::Ffmpeg => Vec::new(),
        };
        let Started { child, stdin, stdout, stderr } =
            Started::new(&path, environment, &line).await.map_err(missing)?;

        let said = Arc::new(Mutex::new(None));
        let scrubber = Scrubber::new(spec.user.as_deref(), spec.password.as_ref());
        let listener = tokio::spawn(listen(stderr, camera.clone(), scrubber, said.clone()));
        let now = Instant::now();
        Ok(Self {
            camera: camera.clone(),
            child,
            stdin,
            messages: FramedRead::new(stdout, Cutter::default()),
            said,
            listener,
            deadlines,
            speak_by: now + deadlines.open + OPEN_GRACE,
            opened_at: None,
            grabbed: 0,
            grabbed_at: now,
        })
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the next event. Dropping the future loses nothing: it waits at one place only, before it takes a
    /// message.
    pub async fn next(&mut self) -> ProcessEvent {
        let body = match timeout_at(self.speak_by, self.messages.next()).await {
            Ok(Some(Ok(body))) => body,
            Ok(Some(Err(error))) => return ProcessEvent::Ended(Ending::Garbage(error.to_string())),
            Ok(None) => return ProcessEvent::Ended(Ending::Closed),
            Err(_) if self.opened_at.is_none() => return ProcessEvent::Ended(Ending::NeverOpened),
            Err(_) => return ProcessEvent::Ended(Ending::Hung),
        };
        let now = Instant::now();
        if self.opened_at.is_some() {
            self.speak_by = now + SILENCE;
        }
        match Message::read(body) {
            Ok(Message::Opened(info)) => {
                self.opened_at = Some(now);
                self.grabbed_at = now;
                self.speak_by = now + SILENCE;
                // What was said on the way to an open stream does not explain its end.
                self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                ProcessEvent::Opened(info)
            }
            Ok(Message::Frame(frame)) => ProcessEvent::Frame(frame),
            Ok(Message::Overrun(count)) => ProcessEvent::Overrun(count),
            Ok(Message::Corrupt(count)) => ProcessEvent::Corrupt(count),
            Ok(Message::Stats(stats)) => match self.stalled(&stats, now) {
                Some(stood) => ProcessEvent::Ended(Ending::Stalled(stood)),
                None => ProcessEvent::Stats(stats),
            },
            Ok(Message::Ended { how: End::Over, .. }) => ProcessEvent::Ended(Ending::StreamEnded),
            Ok(Message::Ended { how: End::Changed, .. }) => ProcessEvent::Ended(Ending::StreamChanged),
            Ok(Message::Ended { how: End::NotOpened, .. }) => {
                let late = now + OPEN_GRACE + Duration::from_millis(500) >= self.speak_by;
                ProcessEvent::Ended(Ending::NotOpened { late })
            }
            Err(garbage) => ProcessEvent::Ended(Ending::Garbage(garbage.to_string())),
        }
    }

    /// Excuses the time in which nobody has asked for events: it was not the process that stood still. One that opens its
    /// stream has its time for that.
    pub fn excuse(&mut self) {
        if self.opened_at.is_none() {
            return;
        }
        let now = Instant::now();
        self.grabbed_at = now;
        self.speak_by = self.speak_by.max(now + SILENCE);
    }

    /// Finds out why the messages ended, from the process's last words if it left any. Takes half a second at most.
    pub async fn diagnose(&mut self, ending: Ending) -> Diagnosis {
        let crash = |message: String| Diagnosis { kind: ErrorKind::CaptureCrash, message: message.into() };
        match ending {
            Ending::Closed => match timeout(LAST_WORDS, self.child.wait()).await {
                Ok(Ok(status)) => crash(format!("the capture process ended: {status}")),
                _ => crash("the capture process closed its output".to_owned()),
            },
            Ending::NeverOpened => self.told_or(ErrorKind::Timeout, "the camera does not answer").await,
            // The media library says only "not opened"; had it known more, standard error would have told. It is
            // silent, too, about whoever hangs up or speaks something else than RTSP.
            Ending::NotOpened { late: true } => {
                self.told_or(ErrorKind::Timeout, "the camera does not answer: check host and port in `url`").await
            }
            Ending::NotOpened { late: false } => {
                let sentence = "there is no video: check host, port and path in `url`";
                self.told_or(ErrorKind::NoVideo, sentence).await
            }
            // The child's own sentence is the media library's, which may repeat a URL: ours says as much.
            Ending::StreamEnded => {
                let sentence = "the stream ended: the camera has closed it or the network has cut it";
                self.told_or(ErrorKind::Eof, sentence).await
            }
            Ending::StreamChanged => Diagnosis {
                kind: ErrorKind::StreamChanged,
                message: "the size or the format of the pictures changed within the stream: it is opened anew".into(),
            },
            Ending::Hung => crash(format!("the capture process was silent for {} s", SILENCE.as_secs())),
            Ending::Stalled(stood) => Diagnosis {
                kind: ErrorKind::Stall,
                message: format!("no new picture for {} s", stood.as_secs()).into(),
            },
            Ending::Garbage(garbage) => crash(garbage),
        }
    }

    /// Judges a stall by the pictures reached, wanted or not.
    fn stalled(&mut self, stats: &Stats, now: Instant) -> Option<Duration> {
        if stats.grabbed != self.grabbed {
            self.grabbed = stats.grabbed;
            self.grabbed_at = now;
            return None;
        }
        let opened_at = self.opened_at?;
        let interval = match u32::try_from(self.grabbed) {
            Ok(grabbed @ 1..) => self.grabbed_at.duration_since(opened_at) / grabbed,
            _ => Duration::ZERO,
        };
        let patience = self.deadlines.stall.max(interval * 5);
        let stood = now.duration_since(self.grabbed_at);
        (stood >= patience).then_some(stood)
    }

    /// What standard error said, or else this.
    async fn told_or(&mut self, kind: ErrorKind, sentence: &'static str) -> Diagnosis {
        // The child's last line may still be on its way.
        let _ = timeout(LAST_WORDS, &mut self.listener).await;
        let said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        said.unwrap_or_else(|| Diagnosis { kind, message: sentence.into() })
    }

    /// Ends the process: a word, a second to take leave of the camera, then SIGKILL.
    pub async fn stop(mut self) {
        let _ = self.stdin.write_all(format!("{STOP}\n").as_bytes()).await;
        let messages = &mut self.messages;
        // Its writer may be waiting for room in the pipe, so the pipe is emptied to its end.
        let ended = async {
            while let Some(Ok(_)) = messages.next().await {}
            self.child.wait().await
        };
        if timeout(STOP_GRACE, ended).await.is_err() {
            // Reaping can take for ever, where the process is stuck in the kernel; the runtime goes on with it.
            match timeout(LAST_WORDS, self.child.kill()).await {
                Ok(Ok(())) => debug!(camera = %self.camera, "the capture process was killed"),
                _ => warn!(camera = %self.camera, "the capture process was killed and is not gone yet"),
            }
        }
    }
}

/// Reads a child's standard error to its end: scrubbed, logged, and compared with the table of known lines.
async fn listen(stderr: ChildStderr, camera: CameraId, scrubber: Scrubber, said: Arc<Mutex<Option<Diagnosis>>>) {
    let heard = |line: String| {
        if let Some(diagnosis) = diagnose(&line) {
            said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(diagnosis);
        }
        let line: String = line.chars().take(MAX_LOGGED_CHARS).collect();
        debug!(%camera, line, "capture process");
    };
    lines(stderr, scrubber, heard).await;
}
