//! Files into one of another container.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use framehaul::media::child::Counters;
use framehaul::media::{MediaError, MediaErrorKind, Outcome, Remux};

use crate::copy::{Copy, Differs};
use crate::input::{Input, Next};
use crate::whole::{End, place, troubles};

/// Bytes of all of them.
pub fn total(inputs: &[std::path::PathBuf], counters: &Counters) {
    let bytes = inputs.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    counters.of.store(bytes, Relaxed);
}

/// Does the job.
///
/// # Errors
///
/// [`MediaError`]; the inputs are as they were.
pub fn remux(job: &Remux, counters: &Arc<Counters>) -> Result<Outcome, MediaError> {
    total(&job.inputs, counters);
    match attempt(job, None, counters) {
        Err(Failure::Sound(reason)) => {
            for counter in [&counters.read, &counters.written, &counters.pictures] {
                counter.store(0, Relaxed);
            }
            attempt(job, Some(reason), counters)
        }
        done => done,
    }
    .map_err(|failure| match failure {
        Failure::Sound(reason) => MediaError::new(MediaErrorKind::Differ, reason),
        Failure::Other(error) => error,
    })
}

/// Why an attempt failed.
enum Failure {
    /// It could do without the sound.
    Sound(String),
    /// It could not be done.
    Other(MediaError),
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        Self::Other(error)
    }
}

fn attempt(job: &Remux, without_sound: Option<String>, counters: &Arc<Counters>) -> Result<Outcome, Failure> {
    let Some((first, others)) = job.inputs.split_first() else {
        return Err(MediaError::new(MediaErrorKind::Input, "there is no input").into());
    };
    let mut input = Input::file(first, counters)?;
    let mut copy = Copy::new(&input, &job.output, job.container, job.cut, without_sound, counters)?;
    let mut path = first;
    let mut others = others.iter();
    loop {
        copy.next_input(&input).map_err(|differs| match differs {
            Differs::Sound => Failure::Sound(format!("the sound of {} is of another kind", path.display())),
            Differs::Pictures => Failure::Other(MediaError::new(
                MediaErrorKind::Differ,
                format!("the pictures of {} are of another kind or size than those before", path.display()),
            )),
        })?;
        if !pour(&mut input, path, &mut copy, counters)? {
            break;
        }
        let Some(next) = others.next() else { break };
        path = next;
        input = Input::file(path, counters)?;
    }
    Ok(copy.finish()?)
}

/// Takes all of an input. `false`: what is to be kept is over.
fn pour(input: &mut Input, path: &Path, copy: &mut Copy<'_>, counters: &Arc<Counters>) -> Result<bool, MediaError> {
    let mut seen = [0; 2];
    let end = loop {
        match input.next() {
            Next::Packet(kind, packet) => {
                seen[kind as usize] += 1;
                let place = place(&packet);
                if !copy.take(input, kind, packet)? {
                    break End::Wanted(place);
                }
            }
            Next::End => break End::Input,
            Next::Broken(error) => break End::Broken(error),
        }
    };
    for what in troubles(input, path, seen, &end, counters)? {
        copy.trouble(what);
    }
    Ok(!matches!(end, End::Wanted(_)))
}
