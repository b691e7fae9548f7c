//! Where recordings are exported to, and what an export left there and said.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::nvr::{Channel, NvrServer, RecordingInfo};
use crate::scenario::Stage;

/// Of every recorder here.
pub(in crate::scenario) const PASSWORD: &str = "Passw0rd1";
/// The day of the recordings, as framehaul is asked for it.
pub(super) const DAY: [&str; 4] = ["--start", "2026-11-19T00:00:00", "--end", "2026-11-19T23:59:59"];

/// Size and CRC32C of a file.
pub(in crate::scenario) type Sum = (u64, u32);

/// Channels with so many recordings each, otherwise alike.
pub(in crate::scenario) fn channels(recordings: &[u32], like: &Channel) -> Vec<Channel> {
    let named = (1..).zip(recordings);
    named
        .map(|(number, &recordings)| Channel { name: format!("Camera {number}"), recordings, ..like.clone() })
        .collect()
}

/// A directory with what an export needs, and what it makes.
#[derive(Debug)]
pub(super) struct Place {
    program: PathBuf,
    dir: PathBuf,
}

impl Place {
    /// With the right password.
    pub(super) fn new(stage: &Stage, name: &str) -> anyhow::Result<Self> {
        Self::with_password(stage, name, PASSWORD)
    }

    pub(super) fn with_password(stage: &Stage, name: &str, password: &str) -> anyhow::Result<Self> {
        let dir = stage.dir().join(name);
        let make = || {
            fs::create_dir_all(dir.join("temp"))?;
            fs::write(dir.join("password"), password)
        };
        make().with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { program: stage.program().to_owned(), dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where recordings come to lie.
    pub(super) fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// `framehaul export` into the directory.
    pub(super) fn export(&self, server: &NvrServer, arguments: &[&str]) -> Command {
        self.export_to(&format!("file://{}", self.out().display()), server, arguments)
    }

    /// The same to somewhere else.
    pub(super) fn export_to(&self, to: &str, server: &NvrServer, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["export", "--server", server.host(), "--username", "admin", "--to", to]);
        command.arg("--password-file").arg(self.dir.join("password")).arg("--temp").arg(self.dir.join("temp"));
        command.args(["--format", "ndjson"]).args(arguments);
        command.env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous").env("NO_PROXY", "127.0.0.1");
        command.stdin(Stdio::null()).current_dir(&self.dir);
        command
    }

    /// The recordings that lie there; lists of exports are none.
    pub(super) fn files(&self) -> anyhow::Result<BTreeMap<String, Sum>> {
        let mut files = files(&self.out())?;
        files.retain(|name, _| !name.starts_with("_export/"));
        Ok(files)
    }

    /// Whether nothing half is left, nor anything that was worked on.
    pub(super) fn is_tidy(&self) -> anyhow::Result<bool> {
        let temp = fs::read_dir(self.dir.join("temp")).context("the directory for files is gone")?.count();
        Ok(temp == 0 && !self.out().join(".framehaul-staging").exists())
    }
}

/// All files below a directory, by their paths; none where it is not there.
pub(in crate::scenario) fn files(dir: &Path) -> anyhow::Result<BTreeMap<String, Sum>> {
    let (mut files, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(inside) = dirs.pop() {
        for entry in fs::read_dir(inside).into_iter().flatten() {
            let path = entry.context("cannot read a directory")?.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).ok().and_then(Path::to_str).context("a name is no UTF-8")?;
            files.insert(name.to_owned(), sum(&path)?);
        }
    }
    Ok(files)
}

fn sum(path: &Path) -> anyhow::Result<Sum> {
    let read = || {
        let (mut file, mut piece, mut sum) = (File::open(path)?, vec![0; 1 << 20], (0, 0));
        loop {
            match file.read(&mut piece)? {
                0 => return Ok::<_, std::io::Error>(sum),
                n => sum = (sum.0 + n as u64, crc32c::crc32c_append(sum.1, &piece[..n])),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// The same of a recording as the recorder has it.
pub(in crate::scenario) fn sum_of(server: &NvrServer, recording: &RecordingInfo) -> anyhow::Result<Sum> {
    let bytes = server.read(recording.track, &recording.name)?;
    Ok((bytes.len() as u64, crc32c::crc32c(&bytes)))
}

/// All recordings by hikload's names, which are ours unless others are asked for.
pub(super) fn expected(server: &NvrServer) -> anyhow::Result<BTreeMap<String, Sum>> {
    let of = |recording: &RecordingInfo| {
        let begin: String = recording.begin.chars().filter(char::is_ascii_digit).collect();
        Ok((format!("{begin}-{}.mp4", recording.track), sum_of(server, recording)?))
    };
    server.recordings().iter().map(of).collect()
}

/// How many of the files that are wanted are there, byte for byte.
pub(super) fn whole(found: &BTreeMap<String, Sum>, wanted: &BTreeMap<String, Sum>) -> usize {
    wanted.iter().filter(|(name, sum)| found.get(*name) == Some(sum)).count()
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    /// The list that an export tells.
    pub(super) entries: Vec<Value>,
    pub(super) said: String,
    pub(super) seconds: f64,
}

impl Ran {
    /// Runs an export to its end.
    pub(super) fn export(command: &mut Command) -> anyhow::Result<Self> {
        let (told, ran) = run(command)?;
        let entries =
            told.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no entry: `{line}`")));
        Ok(Self { entries: entries.collect::<anyhow::Result<_>>()?, ..ran })
    }

    /// Runs another program to its end.
    pub(super) fn other(command: &mut Command) -> anyhow::Result<Self> {
        run(command).map(|(_, ran)| ran)
    }

    /// How many entries have this outcome.
    pub(super) fn outcomes(&self, outcome: &str) -> usize {
        self.entries.iter().filter(|entry| entry["outcome"] == outcome).count()
    }

    /// The reasons that are told, each once.
    pub(super) fn reasons(&self) -> Vec<&str> {
        let mut reasons: Vec<_> = self.entries.iter().filter_map(|entry| entry["reason"].as_str()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// The last that it said.
    pub(super) fn last_words(&self) -> &str {
        // A bar that tells how far it is goes back to the begin of its line.
        let mut lines = self.said.rsplit(['\n', '\r']).map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or_default()
    }
}

fn run(command: &mut Command) -> anyhow::Result<(String, Ran)> {
    let program = command.get_program().display().to_string();
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8(output.stdout).with_context(|| format!("{program} tells no text"))?;
    let is_ours = Path::new(&program).file_name() == Some(OsStr::new("framehaul"));
    ensure!(!is_ours || !said.contains(PASSWORD) && !told.contains(PASSWORD), "the password is told: {said}");
    Ok((told, Ran { code: output.status.code(), entries: Vec::new(), said, seconds }))
}
