//! `framehaul verify`

mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::{Failure, Kind, finish};
use super::progress::Line;
use super::{ConfigArgs, Format};
use crate::config::Settings;
use crate::journal::Reader;
use crate::model::{CameraId, UnixMicros};
use crate::verify::{self, Report, Request, VerifyError};

#[derive(Debug, Args)]
#[command(override_usage = "framehaul verify [OPTIONS] <CAMERA|--all>")]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct VerifyArgs {
    /// The camera; it may be a deleted one.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    camera: Option<CameraId>,
    /// All cameras that there ever were, also deleted ones.
    #[arg(long)]
    all: bool,
    /// Only frames captured since then: RFC 3339, or a time ago such as 2d or 12h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<UnixMicros>,
    /// Where the bucket's list has no checksums, compare sizes only and do not read the objects.
    #[arg(long)]
    quick: bool,
    /// Findings shown at most [default: 50 for people, all for programs].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul verify gate --config /etc/framehaul/config.toml
  framehaul verify --all --since 2d
  framehaul verify --all --since 2026-01-31T00:00:00Z --format json --limit 1000

It reads the state directory, the manifests and the bucket, and changes nothing; the daemon may run or not. Run it as the
user that the daemon runs as. Every frame that is stored when it begins must be in the bucket, with its size and its
CRC32C. Cloud Storage tells both in its lists; elsewhere every object is read, unless --quick says that sizes will do.
Objects of other origins, of frames on their way, and of lost frames that may be there are counted, and are no fault.";

const EXIT_CODES: &str = "Exit codes:
  0 all is as the lists say   1 failed   2 wrong usage   65 something is not   66 no such camera
  69 some of it, or all, could not be checked   78 configuration";

/// Threads that talk to buckets.
const THREADS: usize = 2;

/// Threads that wait for a disk.
const BLOCKING_THREADS: usize = 16;

fn since(text: &str) -> Result<UnixMicros, String> {
    let micros = |since: Duration| i64::try_from(since.as_micros()).ok().map(UnixMicros);
    let found = match humantime::parse_duration(text) {
        Ok(ago) => Some(UnixMicros::now().before(ago)),
        Err(_) => humantime::parse_rfc3339(text)
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(micros),
    };
    found.ok_or_else(|| "use a time like 2026-01-31T00:00:00Z, or a time ago like 2d or 12h".to_owned())
}

pub fn run(args: &VerifyArgs) -> ExitCode {
    match super::load(&args.config) {
        Ok(settings) => finish(check(&settings, args)),
        Err(code) => code,
    }
}

fn check(settings: &Settings, args: &VerifyArgs) -> Result<(), Failure> {
    let journal = Reader::of(&settings.state_dir).map_err(|error| failed(error.into()))?;
    let request = Request { camera: args.camera.clone(), since: args.since, quick: args.quick };
    // Its own: the clients of buckets refresh their tokens there.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Other, format!("cannot start a runtime: {error}")))?;
    let mut line = Line::new();
    let report =
        runtime.block_on(verify::verify(settings, &journal, &request, &mut |far| line.show(|| show::progress(far))));
    drop(line);
    // A disk that does not answer must not keep us.
    runtime.shutdown_background();
    let report = report.map_err(failed)?;
    let limit = args.limit.unwrap_or(if args.format == Format::Json { usize::MAX } else { show::LIMIT });
    show::report(&report, &request, limit, args.format)?;
    conclude(&report)
}

/// What cannot be checked counts less than what is wrong for certain.
fn conclude(report: &Report) -> Result<(), Failure> {
    let total = report.total();
    let not_checked = total.of(verify::Kind::NotChecked);
    let wrong = verify::Kind::ALL.into_iter().any(|kind| kind != verify::Kind::NotChecked && total.of(kind) > 0);
    match (wrong, not_checked, report.findings.is_empty()) {
        (false, 0, true) => Ok(()),
        (false, ..) => {
            Err(Failure::new(Kind::Unreachable, format!("not all could be checked: {}", show::wrongs(&total))))
        }
        _ => Err(Failure::new(Kind::Damaged, show::wrongs(&total))),
    }
}

fn failed(error: VerifyError) -> Failure {
    let kind = match error {
        VerifyError::NoCamera(_) => Kind::NotFound,
        VerifyError::Bucket(_) => Kind::Unreachable,
        VerifyError::Journal(_) | VerifyError::Index(_) => Kind::Other,
    };
    Failure::new(kind, error.to_string())
}
