//! Who takes part.

use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::callgrind::{Counted, VALGRIND};
use super::capture::{self, Asked, Captured};
use super::trial::{self, Trial};
use super::{QUALITY, python};

/// On FFmpeg's scale of quality, 2 (good) to 31 (bad), what comes nearest to [`QUALITY`]: of pictures of a film its JPEGs
/// have a PSNR of 47.4 dB in luma and 208 KB, libjpeg-turbo's 47.3 dB and 218 KB; at 3 they have 45.7 dB and 154 KB.
const FFMPEG_QUALITY: &str = "2";

/// A way to get a JPEG of each picture of a film.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// The capture program with FFmpeg: what is measured here.
    Ours,
    /// The capture program with OpenCV.
    OpenCv,
    /// libavcodec alone.
    FloorDecode,
    /// libjpeg-turbo alone, from decoded planes.
    FloorEncode,
    /// Python's `cv2.VideoCapture.read` and `cv2.imencode`.
    Python,
    /// ffmpeg's command line.
    CommandLine,
}

/// Where the contestants' programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
    /// None: Python takes no part.
    python: Option<PathBuf>,
}

/// What a contestant took.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// JPEGs it made.
    pub frames: u64,
    /// Their bytes; 0 where it does not tell.
    pub bytes: u64,
    /// Processor time.
    pub processor: Duration,
    /// Most private memory, bytes.
    pub private: u64,
    /// Most threads.
    pub threads: u64,
}

impl Programs {
    /// Those beside `program`, the daemon; Python is installed into `python` on first use.
    ///
    /// # Errors
    ///
    /// When one is missing, or Python cannot be installed.
    pub fn new(program: &Path, python: Option<&Path>) -> anyhow::Result<Self> {
        let dir = program.parent().context("the daemon lies in a directory")?.to_owned();
        for name in [Contestant::Ours, Contestant::OpenCv, Contestant::FloorDecode].iter().filter_map(|of| of.program())
        {
            ensure!(dir.join(name).is_file(), "no {name} in {}: run cargo build --workspace --bins", dir.display());
        }
        let python = python
            .map(|dir| python::environment(&dir.join("opencv-python"), python::REQUIREMENTS))
            .transpose()
            .context("cannot install OpenCV for Python")?;
        Ok(Self { dir, python })
    }
}

impl Contestant {
    /// All, in the order in which they stand in tables and run.
    pub const ALL: [Self; 6] =
        [Self::Ours, Self::OpenCv, Self::FloorDecode, Self::FloorEncode, Self::Python, Self::CommandLine];

    /// The name in tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "framehaul-capture-ffmpeg",
            Self::OpenCv => "framehaul-capture-opencv",
            Self::FloorDecode => "libavcodec alone",
            Self::FloorEncode => "libjpeg-turbo alone",
            Self::Python => "python opencv",
            Self::CommandLine => "ffmpeg command line",
        }
    }

    /// The name of its program, where that is one of this workspace.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::OpenCv => Some(self.name()),
            Self::FloorDecode | Self::FloorEncode => Some("contest-floor"),
            Self::Python | Self::CommandLine => None,
        }
    }

    /// Whether it takes part.
    pub fn is_there(self, programs: &Programs) -> bool {
        self != Self::Python || programs.python.is_some()
    }

    /// What is asked of a capture program of ours.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn asked(self, programs: &Programs, film: &Path) -> Asked {
        let name = self.program().filter(|_| matches!(self, Self::Ours | Self::OpenCv));
        Asked::all(&programs.dir.join(name.expect("a capture program of ours")), film)
    }

    /// Makes a JPEG of each picture of a film.
    ///
    /// # Errors
    ///
    /// When it cannot, or misses one.
    pub fn run(self, programs: &Programs, film: &Path) -> anyhow::Result<Run> {
        self.run_as(programs, film, |command| command).with_context(|| self.name())
    }

    /// Counts its instructions for the same.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), or when valgrind is missing.
    pub fn instructions(self, programs: &Programs, film: &Path) -> anyhow::Result<(u64, u64)> {
        let counted = Counted::new()?;
        let run = self.run_as(programs, film, |command| counted.wrap(&command)).with_context(|| self.name())?;
        Ok((run.frames, counted.instructions()?))
    }

    /// A floor of a film's key frames alone.
    ///
    /// # Errors
    ///
    /// When it cannot.
    ///
    /// # Panics
    ///
    /// When it is no floor.
    pub fn run_over_key_frames(self, programs: &Programs, film: &Path) -> anyhow::Result<Run> {
        let mut command = self.floor(programs, film);
        command.arg("--keyframes");
        told(command).and_then(|trial| Run::floor(&trial)).with_context(|| self.name())
    }

    fn floor(self, programs: &Programs, film: &Path) -> Command {
        let part = match self {
            Self::FloorDecode => "decode",
            Self::FloorEncode => "encode",
            other => panic!("{} is no floor", other.name()),
        };
        let mut command = Command::new(programs.dir.join("contest-floor"));
        command.arg(part).arg(film).args(["--quality", &QUALITY.to_string()]);
        command
    }

    fn run_as(self, programs: &Programs, film: &Path, wrap: impl Fn(Command) -> Command) -> anyhow::Result<Run> {
        match self {
            Self::Ours | Self::OpenCv => {
                let asked = self.asked(programs, film);
                let read = |stdout| capture::read(stdout, |_| Ok(()));
                Run::captured(trial::run(&mut wrap(asked.command()), &asked.settings()?, read)?)
            }
            Self::FloorDecode | Self::FloorEncode => {
                let mut command = wrap(self.floor(programs, film));
                if command.get_program() == VALGRIND {
                    // rustix learns from the kernel where the vDSO is, and valgrind 3.19 has not mapped it.
                    command.arg("--untimed");
                }
                Run::floor(&told(command)?)
            }
            Self::Python => {
                let mut command = Command::new(programs.python.as_ref().context("Python takes no part")?);
                command.args(["-c", python::SCRIPT]).arg(film).arg(QUALITY.to_string());
                // A variable that OpenCV reads too.
                command.env("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1");
                Run::told(&told(wrap(command))?)
            }
            Self::CommandLine => {
                let mut command = Command::new("ffmpeg");
                command.args(["-v", "error", "-nostdin", "-threads", "1", "-i"]).arg(film);
                command.args(["-an", "-fps_mode", "passthrough", "-threads", "1", "-filter_threads", "1"]);
                command.args(["-c:v", "mjpeg", "-q:v", FFMPEG_QUALITY, "-f", "image2pipe", "-y", "/dev/null"]);
                command.args(["-progress", "pipe:1"]);
                let trial = trial::run(&mut wrap(command), "", text)?;
                ensure!(trial.status.success(), "it ended with {}: {}", trial.status, trial.complaints);
                Run::new(progress(&trial.told, "frame").context("it tells no number of frames")?, 0, &trial)
            }
        }
    }
}

impl Run {
    fn new<T>(frames: u64, bytes: u64, trial: &Trial<T>) -> anyhow::Result<Self> {
        let Trial { processor, private, threads, .. } = *trial;
        ensure!(frames > 0, "it made no JPEG: {}", trial.complaints);
        Ok(Self { frames, bytes, processor, private, threads })
    }

    fn captured(trial: Trial<Captured>) -> anyhow::Result<Self> {
        let Captured { frames, bytes, missed, .. } = trial.told;
        ensure!(missed == 0, "it missed {missed} frames: {}", trial.complaints);
        Self::new(frames, bytes, &trial)
    }

    /// Its part of the process alone.
    fn floor(trial: &Trial<Value>) -> anyhow::Result<Self> {
        let run = Self::told(trial)?;
        let seconds = trial.told["seconds"].as_f64().context("it tells no `seconds`")?;
        Ok(Self { processor: Duration::from_secs_f64(seconds), ..run })
    }

    fn told(trial: &Trial<Value>) -> anyhow::Result<Self> {
        ensure!(trial.status.success(), "it ended with {}: {}", trial.status, trial.complaints);
        let whole = |field: &str| trial.told[field].as_u64().with_context(|| format!("it tells no `{field}`"));
        Self::new(whole("frames")?, whole("bytes")?, trial)
    }
}

/// A program that tells a JSON object.
fn told(mut command: Command) -> anyhow::Result<Trial<Value>> {
    trial::run(&mut command, "", |stdout| {
        let text = text(stdout)?;
        serde_json::from_str(text.trim()).with_context(|| format!("it has told no JSON: `{}`", text.trim()))
    })
}

fn text(mut stdout: ChildStdout) -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text).context("cannot read what it tells")?;
    Ok(text)
}

/// The last that ffmpeg told of a name, as `name=value`.
fn progress(text: &str, name: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_tells_last_counts() {
        assert_eq!(progress("frame=12\nfps=3\nprogress=continue\nframe=40\nprogress=end\n", "frame"), Some(40));
        assert_eq!(progress("fps=3\n", "frame"), None);
    }
}
