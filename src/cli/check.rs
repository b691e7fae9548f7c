//! `framehaul check`

use std::process::ExitCode;

use super::ConfigArgs;
use crate::config::Destination;
use crate::daemon;
use crate::model::DestinationName;

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let settings = match super::load(args) {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let engine = daemon::engine(&settings)?;
    if !engine.is_file() {
        eprintln!("error: capture.engine_dir: there is no {}", engine.display());
        return Ok(ExitCode::from(super::EXIT_CONFIG));
    }
    let cameras = match settings.file_cameras() {
        Ok(cameras) => cameras,
        Err(problems) => return Ok(super::report(&problems)),
    };
    println!("the configuration is sound");
    println!("  state        {}", settings.state_dir.display());
    println!("  listens on   {}", settings.listen);
    for (name, destination) in &settings.destinations {
        let name = if *name == DestinationName::default() { String::new() } else { format!(" ({name})") };
        println!("  frames go to {}{name}", place(destination));
    }
    println!("  captures by  {}", engine.display());
    if let Some(file) = &settings.cameras_file {
        println!("  cameras      {} in {}", cameras.len(), file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a destination is.
fn place(destination: &Destination) -> String {
    match destination {
        Destination::File { dir } => format!("file://{}", dir.display()),
        Destination::Gcs { bucket, prefix, .. } => format!("gs://{bucket}/{prefix}"),
        Destination::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}"),
        Destination::Azure { container, prefix, .. } => format!("az://{container}/{prefix}"),
    }
}
