//! The command line.

mod camera;
mod check;
mod destinations;
mod failure;
mod progress;
mod push;
mod serve;
mod spool;
mod table;
mod token;
mod verify;

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
  framehaul destinations
  framehaul token new grafana --scope read
  framehaul push clip.mp4 --every 25 --to gs://bucket/clip
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
    /// Store pictures of a source in a bucket, without a daemon, and print the list of them.
    Push(Box<push::PushArgs>),
    /// Look into the spool, where frames wait on disk.
    Spool(spool::SpoolArgs),
    /// Make, list and remove the tokens that open the API.
    Token(token::TokenArgs),
    /// Check lists, manifests and objects against each other.
    Verify(verify::VerifyArgs),
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
        Command::Push(args) => Ok(push::run(&args)),
        Command::Spool(args) => Ok(spool::run(&args)),
        Command::Token(args) => Ok(token::run(&args)),
        Command::Verify(args) => Ok(verify::run(&args)),
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
