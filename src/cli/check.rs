//! `framehaul check`

use std::process::ExitCode;

use super::ConfigArgs;
use crate::config::Destination;
use crate::daemon;
use crate::model::{Damaged, DestinationName, Engine, Program, RawCameraSpec, Sampling, SourceKind};

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let settings = match super::load(args) {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let cameras = match settings.file_cameras() {
        Ok(cameras) => cameras,
        Err(problems) => return Ok(super::report(&problems)),
    };
    let engines = daemon::engines(&settings)?;
    let (there, missing): (Vec<_>, Vec<_>) =
        Program::ALL.into_iter().partition(|program| engines.join(program.file_name()).is_file());
    let mut is_sound = true;
    for program in &missing {
        let path = engines.join(program.file_name());
        if let Some((camera, _)) = cameras.iter().find(|&(_, raw)| is_captured_by(raw, *program)) {
            eprintln!("error: capture.engine_dir: there is no {}, which camera {camera} needs", path.display());
            is_sound = false;
        } else if *program == usual() {
            eprintln!("error: capture.engine_dir: there is no {}", path.display());
            is_sound = false;
        }
    }
    if !is_sound {
        return Ok(ExitCode::from(super::EXIT_CONFIG));
    }
    println!("the configuration is sound");
    println!("  state        {}", settings.state_dir.display());
    println!("  listens on   {}", settings.listen);
    for (name, destination) in &settings.destinations {
        let name = if *name == DestinationName::default() { String::new() } else { format!(" ({name})") };
        println!("  frames go to {}{name}", place(destination));
    }
    for program in there {
        println!("  captures by  {}", engines.join(program.file_name()).display());
    }
    for program in missing {
        let word = program.engine().as_str();
        println!("  not there    {}: no camera with \"engine\": \"{word}\" can be captured", program.file_name());
    }
    if let Some(file) = &settings.cameras_file {
        println!("  cameras      {} in {}", cameras.len(), file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a camera of the file is captured with this program.
fn is_captured_by(raw: &RawCameraSpec, program: Program) -> bool {
    raw.clone().validate(None).is_ok_and(|spec| spec.program() == program)
}

/// The program that most cameras are captured with.
fn usual() -> Program {
    Engine::Auto.program(SourceKind::Rtsp, Sampling::All, Damaged::Drop)
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
