//! `framehaul spool`

mod adopt;
mod show;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(super) use self::show::size;
use super::failure::{Failure, Kind, finish, note, print};
use super::{ConfigArgs, Format};
use crate::journal::Reader;
use crate::model::{CameraId, DestinationName, SeqRange};
use crate::spool::inspect::{InspectError, Inspector, SegmentState};

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

const EXAMPLES: &str = "Examples:
  framehaul spool ls --config /etc/framehaul/config.toml
  framehaul spool inspect 17 --format json
  framehaul spool verify --dir /mnt/rescued/spool
  framehaul spool ls --destination nas
  framehaul spool adopt --config /etc/framehaul/config.toml

All but `adopt` only read: a daemon may run or not, and a broken disk can be looked at. Run them as the user that the
daemon runs as. A frame is `waiting` while the journal has no outcome for it. `adopt` is for a spool whose disk is gone for
good: the daemon does not start with another one while frames wait in that which it knows.";

const EXIT_CODES: &str = "Exit codes:
  0 sound   1 failed   2 wrong usage   65 damage found   66 no such spool or segment   78 configuration";

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// List the segments: what they hold, and in what state they are.
    Ls {
        #[command(flatten)]
        place: PlaceArgs,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the frames of a segment.
    Inspect {
        /// Its number.
        segment: u64,
        #[command(flatten)]
        place: PlaceArgs,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Read everything and check every checksum.
    Verify {
        /// Only these segments.
        #[arg(value_name = "SEGMENT")]
        segments: Vec<u64>,
        #[command(flatten)]
        place: PlaceArgs,
        /// For people or for programs.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Take the spool that is there for the daemon's own, and give up what is in the one before. No daemon may run.
    Adopt(ConfigArgs),
}

#[derive(Debug, Args)]
struct PlaceArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The spool's directory, where it is not the one of the configuration; without --config nothing else is read then.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only what waits for this destination; each numbers its segments for itself.
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationName>,
}

/// A spool, and the journal that knows its frames' outcomes, where it can be read.
struct Place {
    dir: PathBuf,
    /// Its parts, by the names of their destinations: at least one.
    parts: Vec<(DestinationName, Inspector)>,
    journal: Option<Reader>,
}

impl Place {
    fn dir(&self) -> &Path {
        &self.dir
    }

    /// The parts that have a segment of this number, with its size; where none has, the first, which says so.
    fn with_segment(&self, number: u64) -> Result<Vec<(&DestinationName, &Inspector, u64)>, Failure> {
        let mut found = Vec::new();
        for (name, part) in &self.parts {
            let there = part.numbers().map_err(failed)?;
            found.extend(there.iter().find(|(n, _)| *n == number).map(|(_, size)| (name, part, *size)));
        }
        if found.is_empty() {
            found.extend(self.parts.first().map(|(name, part)| (name, part, 0)));
        }
        Ok(found)
    }
}

pub fn run(args: &SpoolArgs) -> ExitCode {
    let look = |place: &PlaceArgs, command: &dyn Fn(&Place) -> Result<(), Failure>| match open(place) {
        Ok(place) => finish(command(&place)),
        Err(code) => code,
    };
    match &args.command {
        SpoolCommand::Ls { place, format } => look(place, &|place| ls(place, *format)),
        SpoolCommand::Inspect { segment, place, format } => look(place, &|place| inspect(place, *segment, *format)),
        SpoolCommand::Verify { segments, place, format } => look(place, &|place| verify::run(place, segments, *format)),
        SpoolCommand::Adopt(config) => match super::load(config) {
            Ok(settings) => finish(adopt::run(&settings)),
            Err(code) => code,
        },
    }
}

fn open(args: &PlaceArgs) -> Result<Place, ExitCode> {
    let settings = match (&args.dir, &args.config.config) {
        (Some(_), None) => None,
        _ => Some(super::load(&args.config)?),
    };
    let journal = settings.as_ref().and_then(|settings| {
        let read = Reader::of(&settings.state_dir).and_then(|journal| journal.origin().map(|origin| (journal, origin)));
        // Not being able to tell is no reason not to look.
        read.inspect_err(|error| note(format_args!("what waits is not known: {error}"))).ok()
    });
    let (journal, origin) = journal.unzip();
    let own = settings.map(|settings| settings.spool.dir);
    let dir = args.dir.clone().or(own).expect("one of them is given");
    let parts = match &args.destination {
        Some(name) => Inspector::open(&dir, name, origin).map(|part| vec![(name.clone(), part)]),
        None => Inspector::open_all(&dir, origin.as_ref()),
    };
    let parts = parts.map_err(|error| finish(Err(failed(error))))?;
    Ok(Place { dir, parts, journal })
}

fn failed(error: InspectError) -> Failure {
    let kind = match error {
        InspectError::NoSpool { .. } | InspectError::NoSegment { .. } => Kind::NotFound,
        InspectError::Io { .. } => Kind::Other,
    };
    Failure::new(kind, error.to_string())
}

fn ls(place: &Place, format: Format) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for (name, part) in &place.parts {
        for segment in part.segments().map_err(failed)? {
            let waits = segment.cameras.iter().map(|(camera, seqs)| waiting(place, camera, seqs));
            let waits = waits.collect::<Result<Vec<_>, _>>()?;
            shown.push((name, segment, waits));
        }
    }
    print(show::segments(place.dir(), &shown, format))?;
    let damaged = shown.iter().filter(|(_, segment, _)| segment.state == SegmentState::Damaged).count();
    if damaged > 0 {
        let all = shown.len();
        let message = format!("{damaged} of {all} segments damaged: `framehaul spool verify` says where");
        return Err(Failure::new(Kind::Damaged, message));
    }
    Ok(())
}

/// A camera's frames in a segment that have no outcome; `None` where that is not known.
fn waiting(place: &Place, camera: &CameraId, seqs: &[SeqRange]) -> Result<Option<Vec<SeqRange>>, Failure> {
    let Some(journal) = &place.journal else { return Ok(None) };
    journal.unresolved(camera, seqs).map(Some).map_err(|error| Failure::new(Kind::Other, error.to_string()))
}

fn inspect(place: &Place, segment: u64, format: Format) -> Result<(), Failure> {
    let there = place.with_segment(segment)?;
    let [(name, part, _)] = there.as_slice() else {
        let names: Vec<&str> = there.iter().map(|(name, ..)| name.as_str()).collect();
        let message = format!(
            "several destinations have a segment {segment}: name one of {} with --destination",
            names.join(", ")
        );
        return Err(Failure::new(Kind::Usage, message));
    };
    let (records, verdict) = part.records(segment).map_err(failed)?;
    let mut shown = Vec::with_capacity(records.len());
    for record in records {
        let waits = waiting(place, &record.camera, &[SeqRange::one(record.seq)])?.map(|seqs| !seqs.is_empty());
        shown.push((record, waits));
    }
    print(show::records((name, segment), &shown, &verdict, format))?;
    match verdict.state {
        SegmentState::Damaged => Err(Failure::new(Kind::Damaged, format!("segment {segment} is damaged"))),
        _ => Ok(()),
    }
}
