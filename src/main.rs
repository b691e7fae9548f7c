//! The `framehaul` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use framehaul::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
