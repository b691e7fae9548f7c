//! Python with OpenCV, as pip installs it: what most who grab frames from cameras begin with. It brings an FFmpeg and a
//! libjpeg-turbo of its own, both newer than those of Debian's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// What it runs.
pub(super) const SCRIPT: &str = include_str!("contest.py");
/// What it needs, as pip reads it.
pub(super) const REQUIREMENTS: &str = include_str!("requirements.txt");

/// A Python in an environment `environment` that holds what is required, made anew when that has changed.
///
/// # Errors
///
/// When it cannot be installed.
pub fn environment(environment: &Path, requirements: &str) -> anyhow::Result<PathBuf> {
    let python = environment.join("bin/python");
    // Written last, so that a broken installation is not taken for a whole one.
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(python);
    }
    fs::create_dir_all(environment).with_context(|| format!("cannot make {}", environment.display()))?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    let wanted = environment.join("requirements.txt");
    fs::write(&wanted, requirements).with_context(|| format!("cannot write {}", wanted.display()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"];
    run(Command::new(&python).args(pip).arg(&wanted))?;
    fs::write(&stamp, requirements).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, complaints.trim());
    Ok(())
}
