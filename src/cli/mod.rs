//! The command line.

mod camera;
mod check;
mod destinations;
mod export;
mod failure;
mod interrupt;
mod nvr;
mod password;
mod printer;
mod progress;
mod push;
mod serve;
mod spool;
mod table;
mod tasks;
mod token;
mod verify;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Settings};

/// Hauls camera frames into object storage: many at a time, in order, losing none without saying so.
#[derive(Debug, Parser)]
#[command(name = "framehaul", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  framehaul check --config /etc/framehaul/config.toml
  framehaul serve --config /etc/framehaul/config.toml
  FRAMEHAUL__UPLOAD__WORKERS=8 framehaul serve
  framehaul camera add gate rtsp://10.0.0.9/main --user viewer --password-file gate.password
  framehaul nvr add hall http://10.0.0.5 --user viewer --password-file hall.password
  framehaul destinations
  framehaul token new grafana --scope read
  framehaul push clip.mp4 --every 25 --to gs://bucket/clip
  framehaul export --server 10.0.0.5 --username admin --password-file nvr.password --yesterday --to gs://bucket/nvr
  framehaul tasks template > tasks.xlsx
  framehaul worker --server https://tasks.example --token-file worker.token --to gs://bucket/recordings
  framehaul spool verify --config /etc/framehaul/config.toml
  framehaul verify --all --config /etc/framehaul/config.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT.
    Serve(ConfigArgs),
    /// Read the configuration, report every problem in it, and exit.
    Check(ConfigArgs),
    /// Add, look at, change and watch cameras of a running daemon.
    Camera(Box<camera::CameraArgs>),
    /// List the destinations of a running daemon: where frames go, and what waits for them.
    Destinations(destinations::DestinationsArgs),
    /// Store the recordings of a recorder in a bucket: each once, whole and verified.
    Export(Box<export::ExportArgs>),
    /// Add, look at and remove recorders of a running daemon, whose channels are cameras.
    Nvr(Box<nvr::NvrArgs>),
    /// Store pictures of a source in a bucket, without a daemon, and print the list of them.
    Push(Box<push::PushArgs>),
    /// Look into the spool, where frames wait on disk.
    Spool(spool::SpoolArgs),
    /// Export tasks as people write them into sheets: a template, and a check of what one asks for.
    Tasks(tasks::TasksArgs),
    /// Make, list and remove the tokens that open the API.
    Token(token::TokenArgs),
    /// Check lists, manifests and objects against each other.
    Verify(verify::VerifyArgs),
    /// Run export tasks that a daemon hands out, on any machine.
    Worker(Box<worker::WorkerArgs>),
}

/// For whom output is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file; without one, the defaults hold. FRAMEHAUL__SECTION__KEY in the environment stands above it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command that was asked for.
///
/// # Errors
///
/// When it cannot do what it is for.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Camera(args) => camera::run(*args),
        Command::Destinations(args) => destinations::run(args),
        Command::Export(args) => Ok(export::run(*args)),
        Command::Nvr(args) => nvr::run(*args),
        Command::Push(args) => Ok(push::run(&args)),
        Command::Spool(args) => Ok(spool::run(&args)),
        Command::Tasks(args) => Ok(tasks::run(&args)),
        Command::Token(args) => Ok(token::run(&args)),
        Command::Verify(args) => Ok(verify::run(&args)),
        Command::Worker(args) => Ok(worker::run(*args)),
    }
}

/// Exit code for a configuration that cannot be used, after `sysexits.h`.
const EXIT_CONFIG: u8 = 78;

/// Loads the configuration, or prints all its problems.
fn load(args: &ConfigArgs) -> Result<Settings, ExitCode> {
    load_with(args, None)
}

/// The same, with an entry that stands above all others.
fn load_with(args: &ConfigArgs, above: Option<(String, String)>) -> Result<Settings, ExitCode> {
    let mut environment = Vec::new();
    for (key, value) in std::env::vars_os() {
        match (key.into_string(), value.into_string()) {
            (Ok(key), Ok(value)) => environment.push((key, value)),
            (Ok(key), Err(_)) if key.starts_with("FRAMEHAUL__") => {
                eprintln!("error: {key}: is not UTF-8: write it into the configuration file");
                return Err(ExitCode::from(EXIT_CONFIG));
            }
            // The environment is also other programs'; what they keep there need not be text.
            _ => {}
        }
    }
    if let Some((key, value)) = above {
        environment.retain(|(other, _): &(String, String)| !other.eq_ignore_ascii_case(&key));
        environment.push((key, value));
    }
    config::load(args.config.as_deref(), environment).map_err(|problems| report(&problems))
}

/// Prints what is wrong with the configuration.
fn report(problems: &[config::Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    ExitCode::from(EXIT_CONFIG)
}
