//! Where framehaul stands: `make bench`. Runs its parts one after the other, and makes a page of what they found.
//!
//! A part is one module with `run`, which gives a [`Section`](report::Section). Arguments are the parts to run (all
//! unless some are named), `--quick`, `--only ours,floor,aiohttp` for some contestants alone, `--out DIR` for the page and
//! its plots, and `--json FILE` for every figure. The page goes to docs/, with a headline for the README, unless there are
//! only some parts of it: then below target/. A part that fails costs the others nothing.

mod burst;
mod cameras;
mod contestant;
mod cost;
mod criterion;
mod headline;
mod machine;
mod own;
mod pictures;
mod pipeline;
mod report;
mod rtsp;
mod server;
mod setting;
mod spool;
mod sustained;
mod svg;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use self::machine::Machine;
use self::report::{Report, Section};
use self::setting::Setting;

/// Measures something. What it has used beside our own programs it tells the machine's description.
type Part = fn(&Setting, &mut Machine) -> anyhow::Result<Section>;

/// The parts, in the order of the page.
const PARTS: [(&str, Part); 7] = [
    ("burst", burst::run),
    ("sustained", sustained::run),
    ("pipeline", pipeline::run),
    ("rtsp", rtsp::run),
    ("cameras", cameras::run),
    ("criterion", criterion::run),
    ("spool", spool::run),
];

/// What was asked for.
struct Arguments {
    parts: Vec<String>,
    quick: bool,
    only: Vec<String>,
    out: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, settings] = &words[..]
        && word == own::CALLED
    {
        own::run(name, settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::read(words.into_iter())?;
    let setting = Setting::new(arguments.quick, arguments.only.clone())?;
    let machine = Machine::look()?;
    let mut report = Report { machine, command: arguments.command(), quick: arguments.quick, sections: Vec::new() };
    let mut failed = Vec::new();
    for (name, part) in PARTS.into_iter().filter(|(name, _)| arguments.wants(name)) {
        eprintln!("bench: {name}");
        let begun = Instant::now();
        match part(&setting, &mut report.machine) {
            Ok(section) => report.sections.push(section),
            // The others may have taken an hour.
            Err(error) => {
                eprintln!("bench: part `{name}`: {error:#}");
                failed.push(name);
            }
        }
        eprintln!("  {:.0} s", begun.elapsed().as_secs_f64());
        // After each: whoever ends it early keeps what was measured.
        if let Some(path) = &arguments.json {
            let text = format!("{:#}\n", report.json());
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    // Some parts alone make no page of the whole.
    let docs = PathBuf::from("docs");
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None if arguments.parts.is_empty() && arguments.only.is_empty() && failed.is_empty() => docs.clone(),
        None => setting.kept("report"),
    };
    println!("{}", report.write(&out)?.display());
    if out == docs {
        headline::write(Path::new("README.md"), &report.json())?;
    }
    ensure!(failed.is_empty(), "failed: {}; the others are above, and make no page of the whole", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn read(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self { parts: Vec::new(), quick: false, only: Vec::new(), out: None, json: None };
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().map(PathBuf::from).with_context(|| format!("{word} needs a value"));
            match &*word {
                "--quick" => read.quick = true,
                "--only" => read.only = value()?.to_string_lossy().split(',').map(str::to_owned).collect(),
                "--out" => read.out = Some(value()?),
                "--json" => read.json = Some(value()?),
                option if option.starts_with('-') => bail!("there is no option {option}"),
                part => {
                    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                    ensure!(names.contains(&part), "there is no part `{part}`: there are {}", names.join(", "));
                    read.parts.push(part.to_owned());
                }
            }
        }
        Ok(read)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    fn command(&self) -> String {
        let mut command = "make bench".to_owned();
        if !self.parts.is_empty() {
            command.push_str(&format!(" PARTS='{}'", self.parts.join(" ")));
        }
        if !self.only.is_empty() {
            command.push_str(&format!(" ONLY={}", self.only.join(",")));
        }
        if self.quick {
            command.push_str(" QUICK=1");
        }
        command
    }
}
