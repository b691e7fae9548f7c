//! Processor time of a JPEG: our capture program against others, and against what it costs at least.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::super::{Outcome, Problems, Stage};
use super::Files;
use crate::clip::Film;
use crate::contest::{Contestant, Programs, Run, Spread, Table};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Cost {
    /// The films.
    pub media: Vec<Medium>,
    /// How often each contestant makes JPEGs of each film; all of them in turn.
    pub rounds: usize,
    /// Where Python gets its environment; without one it takes no part.
    pub python: Option<PathBuf>,
    /// Whether instructions are counted, once, of films that are judged.
    pub counts: Counts,
    /// What one of our JPEGs may cost at most, as a multiple of libavcodec's and libjpeg-turbo's time together.
    pub most_of_floor: f64,
    /// The same of Python's.
    pub most_of_python: f64,
    /// The same of ffmpeg's command line.
    pub most_of_command_line: f64,
}

/// Whether instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// By callgrind, which takes fifty times as long for the few pictures it gets.
    Callgrind,
    /// Not at all.
    None,
}

/// A film, and what it is called.
#[derive(Debug, Clone)]
pub struct Medium {
    /// In reports and tables.
    pub name: &'static str,
    /// The film.
    pub film: Film,
    /// Whether the bounds hold for it; the figures of others are told.
    pub judged: bool,
}

/// What a contestant took in all rounds.
#[derive(Debug, Default)]
struct Taken {
    /// Milliseconds a frame, its start not counted.
    ms: Vec<f64>,
    /// Milliseconds of a start alone: what the first GOP took more than one in the midst.
    start_ms: Vec<f64>,
    /// Most private memory, MB (10^6 bytes).
    private_mb: f64,
    threads: u64,
    /// KB of a JPEG.
    jpeg_kb: Option<f64>,
    /// Millions of instructions a frame.
    instructions: Option<f64>,
    /// Why they were not counted.
    not_counted: Option<String>,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a contestant cannot be run, or misses a frame.
pub fn cost(stage: &Stage, plan: &Cost) -> anyhow::Result<Outcome> {
    let programs = Programs::new(stage.program(), plan.python.as_deref())?;
    let contestants: Vec<Contestant> = Contestant::ALL.into_iter().filter(|one| one.is_there(&programs)).collect();
    let mut problems = Problems::default();
    let mut figure = Map::new();
    for medium in &plan.media {
        let files = Files::of_film(&medium.film)?;
        let mut taken: Vec<Taken> = contestants.iter().map(|_| Taken::default()).collect();
        for _ in 0..plan.rounds {
            for (contestant, taken) in contestants.iter().zip(&mut taken) {
                taken.round(*contestant, &programs, &files, &mut problems)?;
            }
        }
        if plan.counts == Counts::Callgrind && medium.judged {
            count(&contestants, &mut taken, &programs, &medium.film)?;
        }
        let told = judge(plan, medium, &contestants, &taken, &mut problems)?;
        eprintln!("{}\n{}", medium.name, table(&contestants, &taken)?.text());
        figure.insert(medium.name.to_owned(), told);
    }
    let bound = format!(
        "processor time of a JPEG at most {} x (libavcodec alone + libjpeg-turbo alone), {} x Python's read and imencode, \
         {} x ffmpeg's command line; medians of {}",
        plan.most_of_floor, plan.most_of_python, plan.most_of_command_line, plan.rounds
    );
    Ok(problems.measured(bound, figure.into()))
}

impl Taken {
    fn round(
        &mut self,
        contestant: Contestant,
        programs: &Programs,
        files: &Files,
        problems: &mut Problems,
    ) -> anyhow::Result<()> {
        let (whole, start) = (contestant.run(programs, &files.whole)?, contestant.run(programs, &files.start)?);
        for (run, frames) in [(&whole, files.frames), (&start, files.start_frames)] {
            problems.check(run.frames == frames, || {
                format!("{}: {} JPEGs of {frames} pictures", contestant.name(), run.frames)
            });
        }
        let seconds = |run: &Run| run.processor.as_secs_f64();
        let ms = files.ms_per_frame(seconds(&whole), seconds(&start));
        self.ms.push(ms);
        self.start_ms.push(seconds(&start) * 1e3 - ms * files.start_frames as f64);
        self.private_mb = self.private_mb.max(whole.private as f64 / 1e6);
        self.threads = self.threads.max(whole.threads);
        self.jpeg_kb = (whole.bytes > 0).then(|| whole.bytes as f64 / whole.frames as f64 / 1e3);
        Ok(())
    }

    fn json(&self) -> anyhow::Result<Value> {
        let round = crate::contest::round;
        Ok(json!({
            "ms": Spread::of(self.ms.clone())?.json(),
            "start_ms": Spread::of(self.start_ms.clone())?.json(),
            "private_mb": round(self.private_mb),
            "threads": self.threads,
            "jpeg_kb": self.jpeg_kb.map(round),
            "million_instructions": self.instructions.map(round),
            "not_counted": self.not_counted,
        }))
    }
}

/// Counts instructions a frame: of two GOPs, less those of one.
fn count(contestants: &[Contestant], taken: &mut [Taken], programs: &Programs, film: &Film) -> anyhow::Result<()> {
    let (dir, gop) = (crate::cameras::default_cache_dir(), film.clip.gop);
    let (two, one) = (film.beginning(&dir, 2 * gop)?, film.beginning(&dir, gop)?);
    for (contestant, taken) in contestants.iter().zip(&mut *taken) {
        let both =
            contestant.instructions(programs, &two).and_then(|two| Ok((two, contestant.instructions(programs, &one)?)));
        match both {
            Ok((long, short)) => {
                let (frames, instructions) = (long.0.saturating_sub(short.0), long.1.saturating_sub(short.1));
                taken.instructions = Some(instructions as f64 / frames.max(1) as f64 / 1e6);
            }
            // Valgrind does not know all that programs do; the count is no bound, and is told where there is one.
            Err(error) => taken.not_counted = Some(format!("{error:#}")),
        }
    }
    // The program that encodes decodes before.
    let place = |wanted| contestants.iter().position(|one| *one == wanted);
    if let Some((decode, encode)) = place(Contestant::FloorDecode).zip(place(Contestant::FloorEncode)) {
        let decoding = taken[decode].instructions;
        taken[encode].instructions = taken[encode].instructions.zip(decoding).map(|(both, decoding)| both - decoding);
    }
    Ok(())
}

fn judge(
    plan: &Cost,
    medium: &Medium,
    contestants: &[Contestant],
    taken: &[Taken],
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let mut told = Map::new();
    for (contestant, taken) in contestants.iter().zip(taken) {
        told.insert(contestant.name().to_owned(), taken.json()?);
    }
    let median = |wanted: &[Contestant]| -> anyhow::Result<Option<f64>> {
        let mut sum = 0.0;
        for wanted in wanted {
            let Some(place) = contestants.iter().position(|one| one == wanted) else { return Ok(None) };
            sum += Spread::of(taken[place].ms.clone())?.median;
        }
        Ok(Some(sum))
    };
    let alone = [Contestant::FloorDecode, Contestant::FloorEncode];
    let (ours, floor) = (median(&[Contestant::Ours])?, median(&alone)?);
    let others = [
        ("of_floor", &alone[..], plan.most_of_floor),
        ("of_python", &[Contestant::Python], plan.most_of_python),
        ("of_command_line", &[Contestant::CommandLine], plan.most_of_command_line),
    ];
    for (name, other, most) in others {
        let Some((ours, other)) = ours.zip(median(other)?) else { continue };
        let share = ours / other;
        told.insert(name.to_owned(), json!(crate::contest::round(share)));
        problems.check(!medium.judged || share <= most, || {
            let alone = floor.map_or_else(String::new, |floor| {
                format!(
                    ": libavcodec alone and libjpeg-turbo alone, without right colours, are {:.2} of it already",
                    floor / other
                )
            });
            format!("{}: {ours:.2} ms are {share:.2} {name}, allowed are {most}{alone}", medium.name)
        });
    }
    Ok(told.into())
}

fn table(contestants: &[Contestant], taken: &[Taken]) -> anyhow::Result<Table> {
    let mut table =
        Table::new(&["", "ms a frame", "least", "most", "start ms", "MB private", "KB a JPEG", "M instructions"]);
    let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for (contestant, taken) in contestants.iter().zip(taken) {
        let (ms, start) = (Spread::of(taken.ms.clone())?, Spread::of(taken.start_ms.clone())?);
        table.row([
            contestant.name().to_owned(),
            format!("{:.2}", ms.median),
            format!("{:.2}", ms.min),
            format!("{:.2}", ms.max),
            format!("{:.0}", start.median),
            format!("{:.1}", taken.private_mb),
            known(taken.jpeg_kb),
            known(taken.instructions),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{ClipSpec, Codec};

    /// Ours, the two halves of the floor, Python and the command line, each with its milliseconds.
    fn judged(ms: [f64; 5], judged: bool) -> (Value, Vec<String>) {
        use Contestant::*;
        let contestants = [Ours, FloorDecode, FloorEncode, Python, CommandLine];
        let taken = ms.map(|ms| Taken { ms: vec![ms], start_ms: vec![1.0], ..Taken::default() });
        let clip = ClipSpec { camera: 1, width: 1920, height: 1080, fps: 25, gop: 25, codec: Codec::H264, seconds: 1 };
        let medium = Medium { name: "1080p", film: Film { clip, kbits: 4_000 }, judged };
        let plan = Cost {
            media: Vec::new(),
            rounds: 1,
            python: None,
            counts: Counts::None,
            most_of_floor: 1.25,
            most_of_python: 0.8,
            most_of_command_line: 0.5,
        };
        let mut problems = Problems::default();
        let told = judge(&plan, &medium, &contestants, &taken, &mut problems).unwrap();
        (told, problems.0)
    }

    #[test]
    fn each_bound_is_judged_and_only_where_it_holds() {
        let (told, problems) = judged([6.0, 3.0, 2.0, 8.0, 13.0], true);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            (&told["of_floor"], &told["of_python"], &told["of_command_line"]),
            (&json!(1.2), &json!(0.75), &json!(0.462))
        );
        for (ms, named) in [
            ([6.0, 2.0, 2.0, 8.0, 13.0], "of_floor"),
            ([6.0, 3.0, 2.0, 7.0, 13.0], "of_python"),
            ([6.0, 3.0, 2.0, 8.0, 11.0], "of_command_line"),
        ] {
            let (_, problems) = judged(ms, true);
            assert!(problems.len() == 1 && problems[0].contains(named), "{problems:?}");
            assert!(judged(ms, false).1.is_empty());
        }
    }
}
