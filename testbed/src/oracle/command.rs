//! `testbed oracle`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;

use super::{Fetcher, Http, Pattern, Verdict, fetch_cameras, fetch_list, judge};

/// `testbed oracle`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's address, http://host:port
    #[arg(long, value_name = "URL")]
    api: String,
    /// File with the API's bearer token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Camera to judge; may be repeated [default: all the daemon knows]
    #[arg(long = "camera", value_name = "ID")]
    cameras: Vec<String>,
    /// Where gs:// objects are, http://host:port
    #[arg(long, value_name = "URL")]
    gcs_endpoint: Option<String>,
    /// Entries per page of the list
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Which frames are kept: every:N, or fps:SOURCE:WANTED
    #[arg(long, default_value = "every:1")]
    pattern: Pattern,
    /// Stored frames that each camera must have at least, so that judging nothing is not a success
    #[arg(long, value_name = "N", default_value_t = 1)]
    at_least: u64,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// One line per camera, then the faults in words
    Table,
    /// One JSON array
    Json,
}

/// Judges the cameras and prints the verdicts. Blocks. Success only if all are sound and each camera has enough frames.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let token = std::fs::read_to_string(&args.token_file)
        .with_context(|| format!("cannot read the token file {}", args.token_file.display()))?;
    let (token, http) = (token.trim(), Http::new()?);
    let cameras = if args.cameras.is_empty() { fetch_cameras(&http, &args.api, token)? } else { args.cameras };
    let fetcher = Fetcher::new(&http, args.gcs_endpoint.as_deref());
    let judged = cameras.iter().map(|camera| {
        let list = fetch_list(&http, &args.api, token, camera, args.page)?;
        Ok(judge(camera, &list.entries, |url| fetcher.fetch(url), args.pattern))
    });
    let verdicts: Vec<Verdict> = judged.collect::<anyhow::Result<_>>()?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&verdicts).context("cannot print the verdicts")?),
        Format::Table => print!("{}", table(&verdicts)),
    }
    let too_few: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| verdict.frames < args.at_least)
        .map(|verdict| verdict.camera.as_str())
        .collect();
    if !too_few.is_empty() {
        eprintln!("fewer than {} stored frames: {}", args.at_least, too_few.join(", "));
    }
    if verdicts.is_empty() {
        eprintln!("no camera to judge");
    }
    let green = !verdicts.is_empty() && too_few.is_empty() && verdicts.iter().all(Verdict::is_sound);
    Ok(if green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A head, one row per camera, and below them pauses and examples.
fn table(verdicts: &[Verdict]) -> String {
    let mut rows = vec![];
    let mut head: Vec<String> = ["camera", "frames", "tombstoned", "sessions"].map(str::to_owned).into();
    head.extend(Verdict::default().faults().map(|(name, _)| name.to_owned()));
    rows.push(head);
    for verdict in verdicts {
        let mut row = vec![verdict.camera.clone()];
        row.extend([verdict.frames, verdict.tombstoned, verdict.sessions].map(|count| count.to_string()));
        row.extend(verdict.faults().map(|(_, count)| count.to_string()));
        rows.push(row);
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    for verdict in verdicts {
        for pause in &verdict.between_sessions {
            let frames = pause.frames.map_or("an unknown number of".to_owned(), |frames| frames.to_string());
            text += &format!(
                "{}: session {} to {}: {frames} camera frames on\n",
                verdict.camera, pause.before, pause.after
            );
        }
        for example in &verdict.examples {
            text += &format!("{}: {example}\n", verdict.camera);
        }
    }
    text
}
