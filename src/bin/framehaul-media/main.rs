//! Does one job with recordings: another container, a part of it, several joined, single pictures of it, or a playback
//! recorded. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

mod begin;
mod check;
mod copy;
mod frames;
mod input;
mod io;
mod output;
mod program_stream;
mod record;
mod remux;
mod sound;
mod timeline;
mod whole;

use std::process::ExitCode;
use std::sync::Arc;

use ffmpeg_next::util::log;
use framehaul::media::child::{self, Counters};
use framehaul::media::{Job, MediaError, Outcome};

fn main() -> ExitCode {
    child::run(work)
}

fn work(job: &Job, counters: &Arc<Counters>) -> Result<Outcome, MediaError> {
    log::set_flags(log::Flags::PRINT_LEVEL);
    // Of a file the packets tell what is broken; what a recorder has left out is told in warnings alone.
    log::set_level(if matches!(job, Job::Record(_)) { log::Level::Warning } else { log::Level::Error });
    match job {
        Job::Remux(job) => remux::remux(job, counters),
        Job::Frames(job) => frames::frames(job, counters),
        Job::Record(job) => record::record(job, counters),
    }
}
