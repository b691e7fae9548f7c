//! JPEGs passed through: what that costs in comparison with decoding and encoding them, and that they are the camera's.

use anyhow::ensure;
use serde_json::{Map, json};

use super::super::{Outcome, Problems, Stage};
use super::Files;
use crate::cameras::default_cache_dir;
use crate::clip::{ClipSpec, jpegs};
use crate::contest::{Contestant, Programs, Spread, Table};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct PassThrough {
    /// A clip of JPEGs.
    pub clip: ClipSpec,
    /// How often each is measured, in turn.
    pub rounds: usize,
    /// The share of the processor time of transcoding that passing through may take.
    pub most: f64,
}

/// What is measured. Transcoding is libavcodec's decoder and libjpeg-turbo's encoder alone: nothing that transcodes with
/// them takes less.
const WAYS: [&str; 5] = ["passed through", "decoded alone", "encoded alone", "resized by us", "opencv"];

/// Runs the scenario.
///
/// # Errors
///
/// When a program cannot be run over the clip.
pub fn pass_through(stage: &Stage, plan: &PassThrough) -> anyhow::Result<Outcome> {
    let programs = Programs::new(stage.program(), None)?;
    let files = Files::of_jpegs(&plan.clip)?;
    let stream = std::fs::read(plan.clip.cached(&default_cache_dir())?)?;
    let expected = jpegs(&stream);
    ensure!(expected.len() as u64 == files.frames, "{} JPEGs in the clip", expected.len());
    let mut problems = Problems::default();
    let mut ms: [Vec<f64>; WAYS.len()] = Default::default();
    let (mut same, mut other) = (0_u64, 0_u64);
    for _ in 0..plan.rounds {
        for (way, ms) in ms.iter_mut().enumerate() {
            let mut run = |film| {
                let contestant = match way {
                    0 | 3 => Contestant::Ours,
                    1 => Contestant::FloorDecode,
                    2 => Contestant::FloorEncode,
                    _ => Contestant::OpenCv,
                };
                if !matches!(way, 0 | 3) {
                    let run = contestant.run(&programs, film)?;
                    return anyhow::Ok((run.processor.as_secs_f64(), run.frames));
                }
                let mut asked = contestant.asked(&programs, film);
                // One pixel less is a resize, and everything else stays.
                asked.max_width = (way == 3).then_some(plan.clip.width - 1);
                let mut next = 0;
                let trial = asked.run(|jpeg| {
                    let given = expected.get(next).is_some_and(|range| stream[range.clone()] == *jpeg);
                    next += 1;
                    if way == 0 {
                        *if given { &mut same } else { &mut other } += 1;
                    }
                    Ok(())
                })?;
                ensure!(trial.told.missed == 0, "{}: {} frames were missed", WAYS[way], trial.told.missed);
                Ok((trial.processor.as_secs_f64(), trial.told.frames))
            };
            let ((whole, frames), (start, _)) = (run(&files.whole)?, run(&files.start)?);
            problems.check(frames == files.frames, || format!("{}: {frames} of {} JPEGs", WAYS[way], files.frames));
            ms.push(files.ms_per_frame(whole, start));
        }
    }
    problems.check(other == 0, || format!("{other} JPEGs are not the file's, {same} are"));

    let spreads = ms.into_iter().map(Spread::of).collect::<anyhow::Result<Vec<_>>>()?;
    let share = |of: f64| spreads[0].median / of;
    let of_transcoding = share(spreads[1].median + spreads[2].median);
    problems.check(of_transcoding <= plan.most, || {
        format!("{:.1} % of the time of transcoding, allowed are {:.1} %", of_transcoding * 1e2, plan.most * 1e2)
    });
    let mut figure = Map::new();
    let mut table = Table::new(&["", "ms a frame", "least", "most"]);
    for (name, spread) in WAYS.iter().zip(&spreads) {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(|ms| format!("{ms:.3}"));
        table.row([(*name).to_owned(), median, min, max]);
        figure.insert((*name).to_owned(), json!({ "ms": spread.json() }));
    }
    eprintln!("{}", table.text());
    let round = crate::contest::round;
    figure.insert("of_decoded_and_encoded_alone".to_owned(), json!(round(of_transcoding)));
    figure.insert("of_resized_by_us".to_owned(), json!(round(share(spreads[3].median))));
    figure.insert("of_opencv".to_owned(), json!(round(share(spreads[4].median))));
    figure.insert("compared".to_owned(), json!(same + other));
    figure.insert("identical".to_owned(), json!(same));
    let bound = format!(
        "JPEGs passed through take at most {:.0} % of the processor time of transcoding them, and are the file's byte for byte",
        plan.most * 1e2
    );
    Ok(problems.measured(bound, figure.into()))
}
