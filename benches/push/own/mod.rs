//! Contestants that are this very binary, started anew with a hidden argument: framehaul's library, and the floor.
//!
//! They speak the protocol of `peers/contestant.py`.

mod floor;
mod ours;

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// The argument that makes a contestant of this binary; its name and its settings follow.
pub const CALLED: &str = "contestant";

/// What a contestant is started with.
#[derive(Debug, Deserialize)]
struct Settings {
    endpoint: String,
    bucket: String,
    pictures: PathBuf,
}

/// What it is told to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Order {
    /// Take a new client, without connections, whose objects have this prefix.
    Open { prefix: String, at_once: usize },
    /// Store pictures out of memory.
    Burst { frames: usize },
}

/// Somebody who stores pictures.
trait Uploader {
    /// Drops all connections, and is ready for so many requests at the same time.
    fn open(&mut self, prefix: &str, at_once: usize) -> anyhow::Result<()>;

    /// Stores so many pictures, which come round again and again, and has their URLs in order if it has any.
    fn burst(&mut self, frames: usize) -> anyhow::Result<()>;
}

/// Runs as a contestant.
///
/// # Errors
///
/// When its input is none of the protocol, or a picture cannot be stored.
pub fn run(name: &str, settings: &str) -> anyhow::Result<()> {
    let settings: Settings = serde_json::from_str(settings).context("the settings")?;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&settings.pictures)
        .with_context(|| format!("cannot read {}", settings.pictures.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    paths.sort();
    let pictures = paths.iter().map(|path| Ok(std::fs::read(path)?.into())).collect::<anyhow::Result<Vec<Bytes>>>()?;
    ensure!(!pictures.is_empty(), "there are no pictures");
    match name {
        "ours" => serve(ours::Ours::new(&settings, &pictures)?),
        "floor" => serve(floor::Floor::new(&settings, pictures)?),
        _ => anyhow::bail!("there is no contestant `{name}`"),
    }
}

fn serve(mut uploader: impl Uploader) -> anyhow::Result<()> {
    answer(&json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?).context("no order")? {
            Order::Open { prefix, at_once } => {
                uploader.open(&prefix, at_once)?;
                answer(&json!({}))?;
            }
            Order::Burst { frames } => {
                let begun = Instant::now();
                uploader.burst(frames)?;
                answer(&json!({ "ms": begun.elapsed().as_secs_f64() * 1e3 }))?;
            }
        }
    }
    Ok(())
}

fn answer(told: &Value) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{told}")?;
    Ok(stdout.flush()?)
}
