//! The test bed's command line; see the library for what its parts do.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use testbed::{accept, cameras, demo, demo_nvr, gcs, nvr, oracle, proxy, synthetic};

/// Real parts to test framehaul against
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Run a piece of work's acceptance and write docs/acceptance/NAME.json
    Accept(accept::Args),
    /// Serve RTSP cameras on 127.0.0.1 whose pictures carry their number
    Cameras(cameras::Args),
    /// Show the whole: cameras, daemon and bucket, judged at the end
    Demo(demo::Args),
    /// Show the other half: recorders, a sheet of tasks, workers and a bucket, judged at the end
    DemoNvr(demo_nvr::Args),
    /// Serve Cloud Storage's JSON API, with faults on demand
    Gcs(Box<gcs::Args>),
    /// Serve a recorder's ISAPI, with quirks and faults on demand
    Nvr(Box<nvr::Args>),
    /// Judge by the pixels whether a bucket holds what the cameras showed
    Oracle(oracle::Args),
    /// Spoil TCP connections by a script
    Proxy(proxy::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = synthetic::engine::if_called_by_name(std::env::args_os()) {
        return Ok(code);
    }
    match Cli::parse().part {
        Part::Accept(args) => accept::run(args),
        Part::Cameras(args) => block_on(cameras::run(args)),
        Part::Demo(args) => demo::run(args),
        Part::DemoNvr(args) => demo_nvr::run(args),
        Part::Gcs(args) => block_on(gcs::run(*args)),
        Part::Nvr(args) => block_on(nvr::run(*args)),
        Part::Oracle(args) => oracle::run(args),
        Part::Proxy(args) => block_on(proxy::run(args)),
    }
}

fn block_on(part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(part);
    // Not waiting for blocking tasks: one that reads standard input or makes a clip would hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
