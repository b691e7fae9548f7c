//! Key frames alone: what they cost in comparison with all frames, and that they are the same pictures.

use std::sync::Mutex;

use anyhow::Context;
use serde_json::{Map, json};

use super::super::{Outcome, Problems, Stage};
use super::Files;
use crate::clip::Film;
use crate::contest::{Contestant, Programs, Spread, Table};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct KeyFrames {
    /// The film; of one key frame a second, a frame a second is asked for as well.
    pub film: Film,
    /// How often each is measured, in turn.
    pub rounds: usize,
    /// The share of the processor time of all frames that key frames may take.
    pub most: f64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When the capture program cannot be run over the film.
pub fn key_frames(stage: &Stage, plan: &KeyFrames) -> anyhow::Result<Outcome> {
    let programs = Programs::new(stage.program(), None)?;
    let files = Files::of_film(&plan.film)?;
    let gop = u64::from(plan.film.clip.gop);
    let a_key_frame = f64::from(plan.film.clip.fps) / f64::from(plan.film.clip.gop);
    let samplings = [("all", json!("all")), ("keyframes", json!("keyframes")), ("fps", json!({ "fps": a_key_frame }))];
    let mut problems = Problems::default();
    let mut seconds: [Vec<f64>; 3] = Default::default();
    let mut sums: [Vec<u32>; 3] = Default::default();
    for _ in 0..plan.rounds {
        for (place, (_, sampling)) in samplings.iter().enumerate() {
            let run = |film| {
                let asked = Contestant::Ours.asked(&programs, film).sampled(sampling.clone());
                let sums = Mutex::new(Vec::new());
                let trial = asked.run(|jpeg| {
                    sums.lock().map(|mut sums| sums.push(crc32c::crc32c(jpeg))).ok().context("one thread reads")
                })?;
                anyhow::Ok((trial.processor.as_secs_f64(), trial.told.missed, sums.into_inner().unwrap_or_default()))
            };
            let ((whole, missed, found), (start, ..)) = (run(&files.whole)?, run(&files.start)?);
            problems.check(missed == 0, || format!("{}: {missed} frames were missed", samplings[place].0));
            seconds[place].push(whole - start);
            sums[place] = found;
        }
    }
    let [all, keys, fps] = &sums;
    problems.check(all.len() as u64 == files.frames, || format!("{} JPEGs of {} pictures", all.len(), files.frames));
    let expected: Vec<u32> = all.iter().step_by(gop as usize).copied().collect();
    problems.check(*keys == expected, || {
        format!("{} key frames, not the {} that are among all frames", keys.len(), expected.len())
    });
    // Which of a second's pictures are chosen is the sampler's to say; how many is not.
    problems.check(fps.len().abs_diff(expected.len()) <= 1, || format!("{} frames at {a_key_frame} fps", fps.len()));

    let film_seconds = (files.frames - files.start_frames) as f64 / f64::from(plan.film.clip.fps);
    let mut figure = Map::new();
    let mut table = Table::new(&["", "ms a second of film", "least", "most", "of all"]);
    let whole = Spread::of(seconds[0].clone())?.median;
    for ((name, _), seconds) in samplings.iter().zip(seconds) {
        let share = Spread::of(seconds.clone())?.median / whole;
        let ms = Spread::of(seconds.iter().map(|seconds| seconds * 1e3 / film_seconds).collect())?;
        problems.check(*name == "all" || share <= plan.most, || {
            format!("{name}: {:.1} % of the time of all frames, allowed are {:.1} %", share * 1e2, plan.most * 1e2)
        });
        table.row([
            (*name).to_owned(),
            format!("{:.1}", ms.median),
            format!("{:.1}", ms.min),
            format!("{:.1}", ms.max),
            format!("{:.1} %", share * 1e2),
        ]);
        let share = crate::contest::round(share);
        figure.insert((*name).to_owned(), json!({ "ms_a_second": ms.json(), "of_all": share }));
    }
    eprintln!("{}", table.text());
    figure.insert("key_frames".to_owned(), json!(keys.len()));
    figure.insert("same_as_among_all".to_owned(), json!(*keys == expected));
    let bound = format!(
        "a frame a second by key frames takes at most {:.0} % of the processor time of reading all; the pictures are the same",
        plan.most * 1e2
    );
    Ok(problems.measured(bound, figure.into()))
}
