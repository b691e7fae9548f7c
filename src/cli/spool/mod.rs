//! `framehaul spool`

mod show;
mod verify;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::{Failure, Kind, finish, note, print};
use super::{ConfigArgs, Format};
use crate::journal::{JournalError, Reader};
use crate::model::{CameraId, Origin, SeqRange};
use crate::spool::inspect::{self, RecordReport, SegmentReport, SegmentState};

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

They only read: the daemon may run or not, and the disk may be broken. Run them as the user that the daemon runs as. A
frame is waiting while the journal has no outcome for it.";

const EXIT_CODES: &str = "Exit codes:
  0 sound   1 failed   2 wrong usage   65 damage found   66 no such spool or segment   78 configuration";

/// How often a segment is read that becomes shorter meanwhile: it is being sealed, and that happens once.
const LOOKS: usize = 3;

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// List the segments: in what state they are, and what they hold.
    Ls(ShowArgs),
    /// List the frames of one segment.
    Inspect {
        /// Its number.
        segment: u64,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Read everything and check every checksum.
    Verify(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The spool's directory, where it is not the configuration's. Without --config nothing else is read then.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A spool, and the journal that knows its frames' outcomes, where it can be read.
struct Place {
    dir: PathBuf,
    journal: Option<(Reader, Origin)>,
}

pub fn run(args: &SpoolArgs) -> ExitCode {
    let (SpoolCommand::Ls(show) | SpoolCommand::Inspect { show, .. } | SpoolCommand::Verify(show)) = &args.command;
    let place = match Place::of(show) {
        Ok(place) => place,
        Err(code) => return code,
    };
    finish(match &args.command {
        SpoolCommand::Ls(_) => ls(&place, show.format),
        SpoolCommand::Inspect { segment, .. } => inspect(&place, *segment, show.format),
        SpoolCommand::Verify(_) => verify::run(&place.dir, show.format),
    })
}

impl Place {
    fn of(args: &ShowArgs) -> Result<Self, ExitCode> {
        let settings = match (&args.dir, &args.config.config) {
            (Some(_), None) => None,
            _ => Some(super::load(&args.config)?),
        };
        let own = settings.as_ref().map(|settings| settings.spool.dir.clone());
        let dir = args.dir.clone().or(own).expect("without one the configuration names it");
        let journal = settings.and_then(|settings| {
            let read = || -> Result<_, JournalError> {
                let journal = Reader::of(&settings.state_dir)?;
                let origin = journal.origin()?;
                Ok((journal, origin))
            };
            // Not being able to tell is no reason not to look.
            read().inspect_err(|error| note(format_args!("what waits is not known: {error}"))).ok()
        });
        Ok(Self { dir, journal })
    }

    /// Which of a camera's frames in a segment of this origin wait; `None` where that is not known.
    fn waiting(
        &self,
        origin: Option<&Origin>,
        camera: &CameraId,
        seqs: &[SeqRange],
    ) -> Result<Option<Vec<SeqRange>>, Failure> {
        let Some((journal, own)) = &self.journal else { return Ok(None) };
        if origin != Some(own) {
            return Ok(None);
        }
        journal.unresolved(camera, seqs).map(Some).map_err(|error| Failure::new(Kind::Other, error.to_string()))
    }

    fn segments(&self) -> Result<Vec<SegmentReport>, Failure> {
        inspect::segments(&self.dir).map_err(|error| failed(&self.dir, error))
    }
}

/// Why a spool cannot be looked at.
fn failed(dir: &std::path::Path, error: std::io::Error) -> Failure {
    let dir = dir.display();
    match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Kind::NotFound, format!("there is no spool in {dir}: name its directory with --dir"))
        }
        _ => Failure::new(Kind::Other, format!("cannot read the spool in {dir}: {error}")),
    }
}

fn ls(place: &Place, format: Format) -> Result<(), Failure> {
    let mut segments = Vec::new();
    for segment in place.segments()? {
        let waits = segment.cameras.iter().map(|part| place.waiting(segment.origin.as_ref(), &part.camera, &part.runs));
        let waits = waits.collect::<Result<Vec<_>, _>>()?;
        segments.push((segment, waits));
    }
    print(show::segments(&place.dir, &segments, format))?;
    judge(segments.iter().map(|(segment, _)| segment))
}

/// Fails where one of these is damaged.
fn judge<'a>(segments: impl Iterator<Item = &'a SegmentReport>) -> Result<(), Failure> {
    let damaged = segments.filter(|segment| segment.state == SegmentState::Damaged).count();
    match damaged {
        0 => Ok(()),
        1 => Err(Failure::new(Kind::Damaged, "1 segment is damaged")),
        more => Err(Failure::new(Kind::Damaged, format!("{more} segments are damaged"))),
    }
}

fn inspect(place: &Place, number: u64, format: Format) -> Result<(), Failure> {
    let segments = place.segments()?;
    let missing = || {
        let dir = place.dir.display();
        Failure::new(Kind::NotFound, format!("there is no segment {number} in {dir}: see `framehaul spool ls`"))
    };
    let segment = segments.iter().find(|segment| segment.number == Some(number)).ok_or_else(missing)?;
    let records = if segment.state == SegmentState::Foreign { Vec::new() } else { records(place, number)? };
    let mut shown = Vec::with_capacity(records.len());
    for record in records {
        let waits = place.waiting(segment.origin.as_ref(), &record.camera, &[SeqRange::one(record.seq)])?;
        shown.push((record, waits.map(|seqs| !seqs.is_empty())));
    }
    print(show::records(segment, &shown, format))?;
    let damaged = shown.iter().filter(|(record, _)| record.content.is_none()).count();
    if damaged > 0 {
        return Err(Failure::new(Kind::Damaged, format!("{damaged} of {} frames are damaged", shown.len())));
    }
    judge([segment].into_iter())
}

fn records(place: &Place, number: u64) -> Result<Vec<RecordReport>, Failure> {
    let mut looks = 1;
    loop {
        match inspect::records(&place.dir, number) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && looks < LOOKS => looks += 1,
            Err(error) => {
                let kind = if error.kind() == ErrorKind::NotFound { Kind::NotFound } else { Kind::Damaged };
                return Err(Failure::new(kind, format!("cannot read segment {number}: {error}")));
            }
            Ok(records) => return Ok(records),
        }
    }
}
