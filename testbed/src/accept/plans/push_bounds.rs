//! What the benchmark's figures have to keep to.

use anyhow::Context;
use serde_json::{Value, json};

use crate::contest::round;
use crate::scenario::Outcome;

const OURS: &str = "ours";
const FLOOR: &str = "floor";
/// Whose journal and order are kept.
const DAEMON: &str = "daemon_memory";
const AIOHTTP: &str = "aiohttp";
const THREADS: &str = "threads";
/// As the article has it.
const CELERY: &str = "celery_prefork_10";

/// A figure, and the most or the least that it may be.
struct Bound {
    what: String,
    figure: f64,
    most: Option<f64>,
    least: Option<f64>,
    /// What the floor has there, where it is not the measure.
    floor: Option<f64>,
}

impl Bound {
    fn most(what: impl Into<String>, figure: f64, most: f64) -> Self {
        Self { what: what.into(), figure, most: Some(most), least: None, floor: None }
    }

    fn least(what: impl Into<String>, figure: f64, least: f64) -> Self {
        Self { what: what.into(), figure, most: None, least: Some(least), floor: None }
    }

    fn beside(self, floor: f64) -> Self {
        Self { floor: Some(floor), ..self }
    }

    fn holds(&self) -> bool {
        self.most.is_none_or(|most| self.figure <= most) && self.least.is_none_or(|least| self.figure >= least)
    }

    fn json(&self) -> Value {
        let Self { what, figure, most, least, floor } = self;
        let bound = if most.is_some() { "most" } else { "least" };
        let limit = most.or(*least).map(round);
        let mut value = json!({ "what": what, "figure": round(*figure), bound: limit, "holds": self.holds() });
        if let Some(floor) = floor {
            value["floor"] = json!(round(*floor));
            if !self.holds() && most.is_some_and(|most| *floor > most) {
                value["why"] = json!("prepared requests over raw connections alone take longer than that");
            }
        }
        value
    }
}

fn outcome(bound: &str, bounds: &[Bound], figures: &Value) -> Outcome {
    let missed = bounds.iter().filter(|bound| !bound.holds()).map(|bound| bound.json().to_string());
    let problems: Vec<String> = missed.collect();
    Outcome {
        bound: bound.to_owned(),
        figure: json!({ "bounds": bounds.iter().map(Bound::json).collect::<Vec<_>>(), "measured": figures }),
        faults: 0,
        pass: problems.is_empty(),
        problems,
    }
}

/// A median of a part's figures.
fn median(part: &Value, path: &[&str]) -> anyhow::Result<f64> {
    let mut value = part;
    for name in path {
        value = &value[name];
    }
    value["median"].as_f64().with_context(|| format!("the benchmark has not told {}", path.join(" ")))
}

/// Bursts: of the latency, of the floor, of the fastest peer.
///
/// # Errors
///
/// When a figure is missing.
pub(super) fn burst(part: &Value) -> anyhow::Result<Outcome> {
    let mut bounds = Vec::new();
    for (wire, lines) in [("plain", "warm"), ("plain", "cold"), ("tls", "warm")] {
        let case = |frames: u32, latency: u32| format!("{wire}/{latency}/{frames}/{lines}");
        let of = |case: &str, who: &str| median(part, &["cases", case, who]);
        let long = case(50, 1_050);
        let latency = Bound::most(format!("{long}: 1.03 x the latency"), of(&long, OURS)?, 1.03 * 1_050.0);
        bounds.push(latency.beside(of(&long, FLOOR)?));
        let short = case(50, 50);
        bounds.push(Bound::most(format!("{short}: 1.3 x the floor"), of(&short, OURS)?, 1.3 * of(&short, FLOOR)?));
        let all = part["cases"][&short].as_object().with_context(|| format!("no {short}"))?;
        let peers = all.keys().filter(|who| ![OURS, FLOOR].contains(&who.as_str()));
        let fastest = peers.map(|who| of(&short, who)).collect::<anyhow::Result<Vec<f64>>>()?;
        let fastest = fastest.into_iter().min_by(f64::total_cmp).context("no peer")?;
        bounds.push(Bound::most(format!("{short}: 1.15 x the fastest peer"), of(&short, OURS)?, 1.15 * fastest));
        for latency in [200, 1_050] {
            for frames in [1, 5, 10, 15, 30, 50, 100] {
                let case = case(frames, latency);
                bounds.push(Bound::most(format!("{case}: 1.1 x the floor"), of(&case, OURS)?, 1.1 * of(&case, FLOOR)?));
            }
        }
        let many = case(500, 1_050);
        let latency = Bound::most(format!("{many}: 1.12 x the latency"), of(&many, OURS)?, 1.12 * 1_050.0);
        bounds.push(latency.beside(of(&many, FLOOR)?));
    }
    for wire in ["plain", "tls"] {
        // Two medians of the same thing are never the same: the slowest warm one is what it may not be slower than.
        let slowest = part["silence"][wire]["warm_ms"]["max"].as_f64().context("no burst before the silence")?;
        let after = median(part, &["silence", wire, "after_silence_ms"])?;
        bounds.push(Bound::most(format!("{wire}: after 60 s of silence, of the slowest warm one"), after, slowest));
    }
    let bound = "50 pictures at 1,050 ms within 1.03 x the latency, at 50 ms within 1.3 x the floor and 1.15 x the fastest peer; \
                 from 200 ms up within 1.1 x the floor for each number up to 100; 500 at 1,050 ms within 1.12 x the latency; \
                 the same over TLS; after 60 s of silence not slower than warm";
    Ok(outcome(bound, &bounds, part))
}

/// Processor time and memory at work.
///
/// # Errors
///
/// When a figure is missing.
pub(super) fn sustained(part: &Value) -> anyhow::Result<Outcome> {
    let processor = |who: &str| median(part, &["contestants", who, "processor_s_per_1000"]);
    let memory = |who: &str| median(part, &["contestants", who, "memory_mb"]);
    let all = part["contestants"].as_object().context("no contestants")?;
    let celeries = all.keys().filter(|who| who.starts_with("celery"));
    let leanest = celeries.map(|who| memory(who)).collect::<anyhow::Result<Vec<f64>>>()?;
    let leanest = leanest.into_iter().min_by(f64::total_cmp).context("no Celery")?;
    let (ours, held) = (processor(DAEMON)?, memory(DAEMON)?);
    let bounds = [
        Bound::most("processor time: 4 x the floor's", ours, 4.0 * processor(FLOOR)?),
        Bound::most("processor time: bare aiohttp's", ours, processor(AIOHTTP)?),
        Bound::most("processor time: a fifth of google-cloud-storage's in threads", ours, processor(THREADS)? / 5.0),
        Bound::most("processor time: a fortieth of the article's Celery's", ours, processor(CELERY)? / 40.0),
        Bound::most("memory: bare aiohttp's", held, memory(AIOHTTP)?),
        Bound::most("memory: a tenth of the leanest Celery's", held, leanest / 10.0),
    ];
    let bound = "sustained at 50 ms with journal and order, everything counted: processor time within 4 x the floor's, bare aiohttp's, \
                 a fifth of google-cloud-storage's in threads and a fortieth of the article's Celery's; memory within bare aiohttp's \
                 and a tenth of the leanest Celery's";
    Ok(outcome(bound, &bounds, part))
}

/// Whole pipelines.
///
/// # Errors
///
/// When a figure is missing.
pub(super) fn pipeline(part: &Value) -> anyhow::Result<Outcome> {
    let rate = |who: &str| median(part, &["contestants", who, "frames_per_processor_s"]);
    let all = part["contestants"].as_object().context("no contestants")?;
    let pythons = all.keys().filter(|who| who.starts_with("opencv_"));
    let best = pythons.map(|who| rate(who)).collect::<anyhow::Result<Vec<f64>>>()?;
    let best = best.into_iter().max_by(f64::total_cmp).context("no Python pipeline")?;
    let bounds =
        [Bound::least("pictures per processor second: 1.5 x the best Python pipeline's", rate(OURS)?, 1.5 * best)];
    let bound = "500 pictures of a 1080p file at 50 ms: at least 1.5 x the pictures per processor second of the best Python pipeline";
    Ok(outcome(bound, &bounds, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(who: &[(&str, f64)], field: impl Fn(f64) -> Value) -> Value {
        who.iter().map(|(who, figure)| ((*who).to_owned(), field(*figure))).collect::<serde_json::Map<_, _>>().into()
    }

    fn bursts(ours_at_50: f64) -> Value {
        let mut cases = serde_json::Map::new();
        for wire in ["plain", "tls"] {
            for (latency, ours) in [(50, ours_at_50), (200, 204.0), (1_050, 1_056.0)] {
                for frames in [1, 5, 10, 15, 30, 50, 100, 500] {
                    for lines in ["warm", "cold"] {
                        let latency = f64::from(latency);
                        let who = [(OURS, ours), (FLOOR, latency + 3.0), ("aiohttp", latency + 8.0)];
                        let spread = |ms| json!({ "median": ms });
                        cases.insert(format!("{wire}/{latency}/{frames}/{lines}"), of(&who, spread));
                    }
                }
            }
        }
        let silence = json!({ "warm_ms": { "median": 55.0, "max": 58.0 }, "after_silence_ms": { "median": 56.0 } });
        json!({ "cases": cases, "silence": { "plain": silence.clone(), "tls": silence } })
    }

    #[test]
    fn a_missed_bound_is_named_and_a_missing_figure_is_no_pass() {
        assert!(burst(&bursts(60.0)).unwrap().pass);
        let missed = burst(&bursts(70.0)).unwrap();
        assert!(!missed.pass && missed.problems.len() == 6, "{:?}", missed.problems);
        assert!(missed.problems[0].contains("plain/50/50/warm: 1.3 x the floor"), "{:?}", missed.problems);
        assert!(burst(&json!({ "cases": {} })).is_err());
        let mut slow = bursts(60.0);
        slow["cases"]["tls/1050/500/warm"] = of(&[(OURS, 1_228.0), (FLOOR, 1_239.0)], |ms| json!({ "median": ms }));
        let slow = burst(&slow).unwrap().problems;
        assert!(slow.len() == 1 && slow[0].contains("raw connections alone take longer"), "{slow:?}");

        let cost = |processor: f64| {
            json!({ "processor_s_per_1000": { "median": processor }, "memory_mb": { "median": 40.0 },
            "frames_per_processor_s": { "median": 1e3 / processor } })
        };
        let who = [(FLOOR, 0.05), (DAEMON, 0.1), (AIOHTTP, 0.2), (THREADS, 1.0), (CELERY, 6.0)];
        let judged = sustained(&json!({ "contestants": of(&who, cost) })).unwrap();
        assert!(judged.problems.len() == 1 && judged.problems[0].contains("leanest Celery"), "{:?}", judged.problems);
        let who = [(OURS, 5.0), ("opencv_threads", 12.0), ("opencv_aiohttp", 8.0)];
        assert!(pipeline(&json!({ "contestants": of(&who, cost) })).unwrap().pass);
        let who = [(OURS, 6.0), ("opencv_aiohttp", 8.0)];
        assert!(!pipeline(&json!({ "contestants": of(&who, cost) })).unwrap().pass);
    }
}
