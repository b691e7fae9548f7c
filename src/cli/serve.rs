//! `framehaul serve`

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::ConfigArgs;
use crate::config::{LogFormat, LogSettings};
use crate::daemon;

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let settings = match super::load(args) {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    // The daemon reads it again; here its mistakes are told as those of any other part of the configuration.
    if let Err(problems) = settings.file_cameras() {
        return Ok(super::report(&problems));
    }
    start_log(&settings.log);
    daemon::serve(settings)
}

fn start_log(log: &LogSettings) {
    let filter = EnvFilter::try_new(&log.filter).expect("it was checked with the configuration");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}
