//! The program's side of a job: what `framehaul-media` does around its media library.
//!
//! Three threads. The caller's does the job. The reporter says once a second how far it is, whatever that thread is at,
//! so that the daemon can tell a long job from one that hangs. The listener ends the process when the daemon is gone.

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::wire::{MAX_JOB_BYTES, Message};
use super::{Job, MediaError, Outcome, Progress};
use crate::process::child;

/// How often it says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What a media process may take of memory, bytes: the index of a day in one MP4, or the pictures of a decoder.
const MOST_MEMORY: u64 = 2 << 30;

/// How far a job is, for the reporter.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes read of the inputs, those read again once more, or received.
    pub read: AtomicU64,
    /// Bytes of the inputs in all.
    pub of: AtomicU64,
    /// Bytes written.
    pub written: AtomicU64,
    /// Bytes of program streams that were counted off, and of the output that were read again.
    pub checked: AtomicU64,
    /// Pictures so far.
    pub pictures: AtomicU64,
}

impl Counters {
    fn progress(&self) -> Progress {
        Progress {
            read: self.read.load(Relaxed),
            of: self.of.load(Relaxed),
            written: self.written.load(Relaxed),
            checked: self.checked.load(Relaxed),
            pictures: self.pictures.load(Relaxed),
        }
    }
}

/// Runs the media program: reads its job from standard input, does it, and says on standard output what came of it.
pub fn run(work: impl FnOnce(&Job, &Arc<Counters>) -> Result<Outcome, MediaError>) -> ExitCode {
    child::limit(MOST_MEMORY);
    let mut stdin = BufReader::new(std::io::stdin());
    let job = match child::settings::<Job>(&mut stdin, MAX_JOB_BYTES as u64) {
        Ok(job) => job,
        Err(code) => return code,
    };
    let Ok(pipe) = child::take_stdout() else { return ExitCode::from(71) };
    let pipe = Arc::new(Mutex::new(pipe));
    std::thread::spawn(move || {
        // Nothing more is said to us: what counts is that there is somebody who could.
        let _ = stdin.read(&mut [0]);
        child::end();
    });
    let counters = Arc::new(Counters::default());
    let (reporter, progress) = (pipe.clone(), counters.clone());
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(REPORT_EVERY);
            say(&reporter, &Message::Progress(progress.progress()));
        }
    });

    let outcome = work(&job, &counters);
    let code = if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // Held to the end of the process: nothing follows on the last word.
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    write(&mut pipe, &Message::Progress(counters.progress()));
    write(&mut pipe, &outcome.map_or_else(Message::Failed, Message::Done));
    std::mem::forget(pipe);
    code
}

fn say(pipe: &Mutex<File>, message: &Message) {
    write(&mut pipe.lock().unwrap_or_else(PoisonError::into_inner), message);
}

fn write(pipe: &mut File, message: &Message) {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    // Without a daemon there is nobody to tell, and the listener ends the process.
    let _ = pipe.write_all(&line);
}
