//! The daemon's side of a job: starts its process, listens to it, and ends it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::{FramedRead, LinesCodec};
use tracing::{debug, warn};

use super::wire::{MAX_JOB_BYTES, MAX_LINE_BYTES, Message};
use super::{Job, MediaError, MediaErrorKind, Outcome, Progress, Record};
use crate::capture::{Diagnosis, ErrorKind, diagnose};
use crate::process::{Scrubber, Started, lines};

/// The program.
const PROGRAM: &str = "framehaul-media";
/// It reports every second; where it has not for so long, it hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// Time in which a process that has said its last word should have gone, and its standard error be read.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Longest line that is logged, characters.
const MAX_LOGGED_CHARS: usize = 512;
/// What FFmpeg says of packets that a recorder has left out.
const MISSED: &str = "RTP: missed ";

/// What a job may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time in which it must get ahead: read, write or check something.
    pub stall: Duration,
    /// Time in all, if there is an end to it.
    pub whole: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stall: Duration::from_secs(120), whole: None }
    }
}

/// What is needed to start media processes.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The directory of `framehaul-media`.
    pub engines: PathBuf,
    /// What each job may take.
    pub limits: Limits,
}

/// What standard error has told.
#[derive(Debug, Default)]
struct Heard {
    /// The first line that is understood.
    diagnosis: Option<Diagnosis>,
    /// Whether packets were left out.
    missed: bool,
}

/// Removes what is half written when a job ends in any other way than well.
struct Part(Option<PathBuf>);

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "cannot remove what a media process has half written");
        }
    }
}

impl Launcher {
    /// Does a job in a process of its own, and says once a second how far it is. Dropping the future kills the process and
    /// removes what it has half written; JPEGs are the caller's to remove.
    ///
    /// # Errors
    ///
    /// [`MediaError`]. Nothing is left of the output then, but for JPEGs.
    pub async fn run(&self, job: &Job, mut progress: impl FnMut(Progress) + Send) -> Result<Outcome, MediaError> {
        // Dropped after the process, which is killed first.
        let mut part = Part(job.output().map(part_of));
        // A job that does not fit into the pipe waits for the process to take it.
        let within = SILENCE.min(self.limits.stall);
        let mut process = timeout(within, Process::start(&self.engines, job)).await.unwrap_or_else(|_| {
            let message = format!("the media process did not take its job for {within:?}");
            Err(MediaError::new(MediaErrorKind::Hung, message))
        })?;
        let said = process.listen(self.limits, &mut progress).await;
        let outcome = process.end(said).await;
        if outcome.is_ok() {
            part.0 = None;
        }
        outcome
    }
}

impl Job {
    /// The one file that it writes, if it is one.
    pub fn output(&self) -> Option<&Path> {
        match self {
            Self::Remux(job) => Some(&job.output),
            Self::Record(job) => Some(&job.output),
            Self::Frames(_) => None,
        }
    }

    fn scrubber(&self) -> Scrubber {
        match self {
            Self::Record(Record { user, password, .. }) => Scrubber::new(user.as_deref(), password.as_ref()),
            Self::Remux(_) | Self::Frames(_) => Scrubber::new(None, None),
        }
    }
}

/// What an output is called until it is complete.
pub fn part_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A running media process. Dropping it kills it.
struct Process {
    child: Child,
    /// Held open: the process ends when it is closed.
    _stdin: tokio::process::ChildStdin,
    messages: FramedRead<tokio::process::ChildStdout, LinesCodec>,
    heard: Arc<Mutex<Heard>>,
    listener: JoinHandle<()>,
}

impl Process {
    async fn start(engines: &Path, job: &Job) -> Result<Self, MediaError> {
        let settings = serde_json::to_vec(job)
            .map_err(|_| MediaError::new(MediaErrorKind::Input, "the names of files must be UTF-8"))?;
        if settings.len() > MAX_JOB_BYTES {
            let message = format!("the names of the files are longer than {MAX_JOB_BYTES} bytes together");
            return Err(MediaError::new(MediaErrorKind::Input, message));
        }
        let path = engines.join(PROGRAM);
        let Started { child, stdin, stdout, stderr } =
            Started::new(&path, Vec::new(), &settings).await.map_err(|error| not_started(&path, &error))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let told = heard.clone();
        let listener = tokio::spawn(lines(stderr, job.scrubber(), move |line| {
            let mut heard = told.lock().unwrap_or_else(PoisonError::into_inner);
            heard.missed |= line.contains(MISSED);
            if heard.diagnosis.is_none() {
                heard.diagnosis = diagnose(&line);
            }
            let line: String = line.chars().take(MAX_LOGGED_CHARS).collect();
            debug!(line, "media process");
        }));
        let messages = FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        Ok(Self { child, _stdin: stdin, messages, heard, listener })
    }

    /// Its last word.
    async fn listen(
        &mut self,
        limits: Limits,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Outcome, MediaError> {
        let begun = Instant::now();
        let over = limits.whole.map(|whole| begun + whole);
        let (mut last, mut ahead_by) = (Progress::default(), begun + limits.stall);
        loop {
            let silent = Instant::now() + SILENCE;
            let until = [Some(silent), Some(ahead_by), over].into_iter().flatten().min().unwrap_or(silent);
            let line = match timeout_at(until, self.messages.next()).await {
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(error))) => return Err(crash(format!("the media process sent garbage: {error}"))),
                Ok(None) => return Err(self.how_it_ended().await),
                Err(_) => {
                    let message = match over {
                        Some(over) if over <= until => format!("not done in {:?}", limits.whole.unwrap_or_default()),
                        _ if ahead_by <= until => format!("it did not get ahead for {:?}", limits.stall),
                        _ => format!("the media process was silent for {} s", SILENCE.as_secs()),
                    };
                    return Err(MediaError::new(MediaErrorKind::Hung, message));
                }
            };
            match serde_json::from_str(&line) {
                Ok(Message::Progress(now)) => {
                    if now != last {
                        (last, ahead_by) = (now, Instant::now() + limits.stall);
                    }
                    // What is read again is movement, and nothing that anybody wants to be shown.
                    progress(Progress { read: if now.of > 0 { now.read.min(now.of) } else { now.read }, ..now });
                }
                Ok(Message::Done(outcome)) => return Ok(outcome),
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Err(crash("the media process sent what is no message".to_owned())),
            }
        }
    }

    async fn how_it_ended(&mut self) -> MediaError {
        crash(match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(Ok(status)) => format!("the media process ended: {status}"),
            _ => "the media process closed its output".to_owned(),
        })
    }

    /// Ends it, and adds to its last word what standard error knows better.
    async fn end(mut self, said: Result<Outcome, MediaError>) -> Result<Outcome, MediaError> {
        let by_itself = !matches!(&said, Err(error) if error.kind == MediaErrorKind::Hung);
        if !by_itself || timeout(LAST_WORDS, self.child.wait()).await.is_err() {
            // Reaping can take for ever, where the process is stuck in the kernel; the runtime goes on with it.
            match timeout(LAST_WORDS, self.child.kill()).await {
                Ok(Ok(())) => debug!("the media process was killed"),
                _ => warn!("the media process was killed and is not gone yet"),
            }
        }
        let _ = timeout(LAST_WORDS, &mut self.listener).await;
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        match said {
            Ok(mut outcome) => {
                if heard.missed {
                    let sentence = "the recorder has left out packets";
                    outcome.incomplete.get_or_insert_with(|| sentence.to_owned());
                }
                Ok(outcome)
            }
            Err(error) if error.kind == MediaErrorKind::Unreachable => Err(heard.diagnosis.map_or(error, better)),
            Err(error) => Err(error),
        }
    }
}

/// Without its program no job can be done; a machine that has no room for one more process has it a while later.
fn not_started(path: &Path, error: &io::Error) -> MediaError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => MediaErrorKind::Missing,
        _ => MediaErrorKind::Crash,
    };
    MediaError::new(kind, format!("cannot start {}: {error}", path.display()))
}

fn crash(message: String) -> MediaError {
    MediaError::new(MediaErrorKind::Crash, message)
}

/// A recorder's refusal, as FFmpeg's lines tell it apart.
fn better(diagnosis: Diagnosis) -> MediaError {
    let (kind, message) = match diagnosis.kind {
        ErrorKind::Auth => (MediaErrorKind::Auth, "the recorder does not accept user and password"),
        ErrorKind::Denied => (MediaErrorKind::Forbidden, "the recorder forbids this user the playback"),
        ErrorKind::NotFound => (MediaErrorKind::NotFound, "the recorder has no such recording"),
        ErrorKind::Busy => (MediaErrorKind::Busy, "the recorder has no session left for a playback (453)"),
        ErrorKind::Refused => (MediaErrorKind::Unreachable, "nobody listens at the recorder's RTSP port"),
        ErrorKind::UnknownHost => (MediaErrorKind::Unreachable, "the recorder's name is not known"),
        ErrorKind::Timeout => (MediaErrorKind::Unreachable, "the recorder does not answer"),
        ErrorKind::Eof => (MediaErrorKind::Unreachable, "the recorder has cut the connection"),
        _ => (MediaErrorKind::Unreachable, "the recorder does not play it back"),
    };
    MediaError::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_no_wrong_password() {
        for (line, kind) in [
            ("[rtsp @ 0x1] method DESCRIBE failed: 401 Unauthorized", MediaErrorKind::Auth),
            ("[rtsp @ 0x1] method DESCRIBE failed: 403 Forbidden", MediaErrorKind::Forbidden),
            ("[rtsp @ 0x1] method SETUP failed: 453 Not Enough Bandwidth", MediaErrorKind::Busy),
        ] {
            assert_eq!(better(diagnose(line).unwrap()).kind, kind, "{line}");
        }
    }
}
