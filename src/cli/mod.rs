//! The command line.

mod check;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
  FRAMEHAUL__UPLOAD__WORKERS=8 framehaul serve";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT.
    Serve(ConfigArgs),
    /// Read the configuration, report every problem in it, and exit.
    Check(ConfigArgs),
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
    }
}

/// Exit code for a configuration that cannot be used, after `sysexits.h`.
const EXIT_CONFIG: u8 = 78;

/// Loads the configuration, or prints all its problems.
fn load(args: &ConfigArgs) -> Result<Settings, ExitCode> {
    config::load(args.config.as_deref(), std::env::vars()).map_err(|problems| {
        for problem in &problems {
            eprintln!("error: {problem}");
        }
        ExitCode::from(EXIT_CONFIG)
    })
}
