//! What the server does to its clients, and the dice it throws for it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// How the server misbehaves. Everything can be changed while it runs; the default is a server without faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Fixed part of the latency of uploads and object reads, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// Median of the lognormal part of that latency, in milliseconds; 0 means that there is no such part.
    #[arg(long, default_value_t = 0.0)]
    pub latency_median_ms: f64,
    /// Sigma of the lognormal part: 0.5 puts the 99th percentile at 3.2 medians, 1 at 10.
    #[arg(long, default_value_t = 0.0)]
    pub latency_sigma: f64,
    /// How fast a request body is read on each connection, in bytes per second; unlimited when absent.
    #[arg(long)]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// How many uploads all clients together get done in a second, one after the other; unlimited when absent.
    #[arg(long)]
    pub uploads_per_s: Option<u64>,
    /// Share of calls answered with 503, from 0 to 1. Nothing of such a call takes effect.
    #[arg(long, default_value_t = 0.0)]
    pub rate_503: f64,
    /// Share of calls answered with 429, from 0 to 1. Nothing of such a call takes effect.
    #[arg(long, default_value_t = 0.0)]
    pub rate_429: f64,
    /// Share of uploads that are stored and then answered with 503 all the same, from 0 to 1: the client cannot know.
    #[arg(long, default_value_t = 0.0)]
    pub rate_lost_answer: f64,
    /// Share of uploads that are stored and whose connection is then reset, from 0 to 1: the client gets no answer at
    /// all.
    #[arg(long, default_value_t = 0.0)]
    pub rate_reset: f64,
    /// Share of calls that are never answered, from 0 to 1, until the client goes away. Nothing of such a call takes
    /// effect.
    #[arg(long, default_value_t = 0.0)]
    pub rate_hang: f64,
    /// Share of calls whose answer's body comes at `slow_answer_bytes_per_s`, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_slow_answer: f64,
    /// How fast the bodies of slow answers come; one byte per second when absent.
    #[arg(long)]
    pub slow_answer_bytes_per_s: Option<u64>,
    /// Share of pieces of resumable uploads of which the first half is taken and no more, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_part: f64,
    /// The `Retry-After` of injected answers, in seconds; no such header when absent.
    #[arg(long)]
    pub retry_after_s: Option<u32>,
    /// Draws each `Retry-After` of injected answers evenly from `retry_after_s`, or 0, to this, in whole seconds.
    #[arg(long)]
    pub retry_after_max_s: Option<u32>,
    /// Answers every call with this status, as a revoked key (401), a missing permission (403) or a lost bucket (404)
    /// would.
    #[arg(long)]
    pub refuse_status: Option<u16>,
    /// Answers uploads of objects with this in their name with 400, as something that is not to be had whoever asks.
    #[arg(long)]
    pub refuse_name: Option<String>,
    /// Stores somebody else's bytes, as many, under each name that begins with this when it is first uploaded, and answers
    /// that upload with 503: whoever comes again finds a foreign object under its key.
    #[arg(long)]
    pub foreign_name: Option<String>,
    /// Takes storage calls only with `Authorization: Bearer`, a token of this server or a JWT of its service account.
    #[arg(long)]
    pub require_auth: bool,
    /// How long tokens that are handed out claim to live, in seconds; an hour when absent.
    #[arg(long)]
    pub token_lifetime_s: Option<u64>,
    /// Refuses tokens and JWTs older than so many seconds, whatever they claim. A JWT's age counts from its first use.
    #[arg(long)]
    pub expire_tokens_after_s: Option<f64>,
    /// Answers those who want a token, from the metadata server or for an assertion, with this status.
    #[arg(long)]
    pub refuse_tokens_status: Option<u16>,
    /// Where the random numbers start. They start again when this value changes, and only then.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Computes the MD5 of every object, as Cloud Storage does. It costs more than all other work on an upload, so
    /// without this only an MD5 that the client supplied is checked, kept and reported.
    #[arg(long)]
    pub md5: bool,
}

impl Knobs {
    /// These knobs with those in `patch`, a JSON object, put in their place. Changes nothing when it fails.
    pub(super) fn patched(&self, patch: &[u8]) -> anyhow::Result<Knobs> {
        let patch: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(patch).context("the change of knobs must be a JSON object")?;
        let mut all = serde_json::to_value(self).context("cannot write the knobs as JSON")?;
        if let Some(all) = all.as_object_mut() {
            all.extend(patch);
        }
        let knobs: Knobs = serde_json::from_value(all).context("cannot change the knobs")?;
        knobs.validate()?;
        Ok(knobs)
    }

    /// Refuses values that mean nothing.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let rates = [
            ("rate_503", self.rate_503),
            ("rate_429", self.rate_429),
            ("rate_lost_answer", self.rate_lost_answer),
            ("rate_reset", self.rate_reset),
            ("rate_hang", self.rate_hang),
            ("rate_slow_answer", self.rate_slow_answer),
            ("rate_part", self.rate_part),
        ];
        for (name, rate) in rates {
            if !(0.0..=1.0).contains(&rate) {
                bail!("knob `{name}` is {rate}: it is a share of all calls, from 0 to 1");
            }
        }
        if rates.iter().map(|(_, rate)| rate).sum::<f64>() > 1.0 {
            let named = rates.iter().filter(|(_, rate)| *rate > 0.0).map(|(name, rate)| format!("`{name}` ({rate})"));
            bail!("knobs {} add up to more than 1", named.collect::<Vec<_>>().join(", "));
        }
        if !(0.0..=600_000.0).contains(&self.latency_median_ms) {
            bail!("knob `latency_median_ms` is {}: it goes from 0 to 600000", self.latency_median_ms);
        }
        if !(0.0..=4.0).contains(&self.latency_sigma) {
            bail!("knob `latency_sigma` is {}: it goes from 0 to 4", self.latency_sigma);
        }
        let speeds = [
            ("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s, "no limit"),
            ("uploads_per_s", self.uploads_per_s, "no limit"),
            ("slow_answer_bytes_per_s", self.slow_answer_bytes_per_s, "1"),
        ];
        for (name, speed, absent) in speeds {
            if speed == Some(0) {
                bail!("knob `{name}` is 0: give at least 1, or null for {absent}");
            }
        }
        for (name, status) in
            [("refuse_status", self.refuse_status), ("refuse_tokens_status", self.refuse_tokens_status)]
        {
            if let Some(status) = status
                && !(400..=599).contains(&status)
            {
                bail!("knob `{name}` is {status}: it is an HTTP error, from 400 to 599");
            }
        }
        if let Some(max) = self.retry_after_max_s
            && max < self.retry_after_s.unwrap_or(0)
        {
            bail!("knob `retry_after_max_s` is {max}: `retry_after_s` is more");
        }
        if let Some(seconds) = self.expire_tokens_after_s
            && !(0.0..=86_400.0).contains(&seconds)
        {
            bail!("knob `expire_tokens_after_s` is {seconds}: it goes from 0 to 86400");
        }
        if let Some(seconds) = self.token_lifetime_s
            && seconds > 86_400
        {
            bail!("knob `token_lifetime_s` is {seconds}: it goes from 0 to 86400");
        }
        Ok(())
    }
}

/// What happens to a call instead of what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is answered with this status and nothing else.
    Status(u16),
    /// It takes effect, if it is an upload, and is answered with 503.
    LostAnswer,
    /// It takes effect, if it is an upload, and its connection is reset.
    Reset,
    /// It has no effect and is never answered.
    Hang,
    /// The body of its answer comes slowly.
    SlowAnswer,
    /// It takes half of the piece, if it brings one.
    Part,
}

/// The random numbers behind the knobs. Faults, latencies and waits have a sequence each, so that turning a latency on
/// does not change which calls fail.
#[derive(Debug)]
pub(super) struct Dice {
    faults: fastrand::Rng,
    latencies: fastrand::Rng,
    waits: fastrand::Rng,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let mut faults = fastrand::Rng::with_seed(seed);
        let latencies = faults.fork();
        Dice { faults, latencies, waits: fastrand::Rng::with_seed(!seed) }
    }

    /// The `Retry-After` of the next injected answer, in seconds.
    pub(super) fn retry_after_s(&mut self, knobs: &Knobs) -> Option<u32> {
        match knobs.retry_after_max_s {
            None => knobs.retry_after_s,
            Some(max) => Some(self.waits.u32(knobs.retry_after_s.unwrap_or(0)..=max)),
        }
    }

    /// The fault to inject into the next call, if any. Throws one number per call, whatever the rates are.
    pub(super) fn fault(&mut self, knobs: &Knobs) -> Option<Fault> {
        let thrown = self.faults.f64();
        let mut reach = 0.0;
        [
            (knobs.rate_503, Fault::Status(503)),
            (knobs.rate_429, Fault::Status(429)),
            (knobs.rate_lost_answer, Fault::LostAnswer),
            (knobs.rate_reset, Fault::Reset),
            (knobs.rate_hang, Fault::Hang),
            (knobs.rate_slow_answer, Fault::SlowAnswer),
            (knobs.rate_part, Fault::Part),
        ]
        .into_iter()
        .find_map(|(rate, fault)| {
            reach += rate;
            (thrown < reach).then_some(fault)
        })
    }

    /// How long the next upload or read takes.
    pub(super) fn latency(&mut self, knobs: &Knobs) -> Duration {
        let mut ms = knobs.latency_ms as f64;
        if knobs.latency_median_ms > 0.0 {
            ms += knobs.latency_median_ms * (knobs.latency_sigma * self.normal()).exp();
        }
        Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX)
    }

    /// A standard normal number, after Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.latencies.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.latencies.f64()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let knobs = Knobs { rate_503: 0.25, retry_after_s: Some(3), ..Knobs::default() };
        let changed = knobs.patched(br#"{"latency_ms": 7, "retry_after_s": null}"#).unwrap();
        assert_eq!(changed, Knobs { rate_503: 0.25, latency_ms: 7, ..Knobs::default() });
    }

    #[test]
    fn a_meaningless_patch_is_refused_by_name() {
        for (patch, named) in [
            (r#"{"rate_504": 0.1}"#, "rate_504"),
            (r#"{"rate_503": 1.5}"#, "rate_503"),
            (r#"{"rate_503": 0.6, "rate_429": 0.6}"#, "rate_429"),
            (r#"{"rate_503": 0.6, "rate_lost_answer": 0.6}"#, "rate_lost_answer"),
            (r#"{"latency_sigma": -1}"#, "latency_sigma"),
            (r#"{"latency_median_ms": 1e9}"#, "latency_median_ms"),
            (r#"{"bandwidth_bytes_per_s": 0}"#, "bandwidth_bytes_per_s"),
            (r#"{"uploads_per_s": 0}"#, "uploads_per_s"),
            (r#"{"rate_hang": 0.6, "rate_reset": 0.6}"#, "rate_hang"),
            (r#"{"slow_answer_bytes_per_s": 0}"#, "slow_answer_bytes_per_s"),
            (r#"{"refuse_status": 200}"#, "refuse_status"),
            (r#"{"retry_after_s": 3, "retry_after_max_s": 2}"#, "retry_after_max_s"),
            (r#"{"refuse_tokens_status": 200}"#, "refuse_tokens_status"),
            (r#"{"expire_tokens_after_s": -1}"#, "expire_tokens_after_s"),
            (r#"{"token_lifetime_s": 1000000}"#, "token_lifetime_s"),
            (r#"[1]"#, "JSON object"),
        ] {
            let error = Knobs::default().patched(patch.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{patch}: {error:#}");
        }
    }

    #[test]
    fn the_same_seed_throws_the_same_faults_whether_or_not_there_is_a_latency() {
        let knobs = Knobs {
            rate_503: 0.3,
            rate_429: 0.2,
            rate_lost_answer: 0.1,
            rate_reset: 0.05,
            rate_hang: 0.05,
            rate_slow_answer: 0.05,
            rate_part: 0.05,
            latency_median_ms: 10.0,
            latency_sigma: 1.0,
            ..Knobs::default()
        };
        let mut plain = Dice::new(42);
        let mut late = Dice::new(42);
        let mut other = Dice::new(43);
        let plain: Vec<_> = (0..1000).map(|_| plain.fault(&knobs)).collect();
        let with_latency: Vec<_> = (0..1000)
            .map(|_| {
                late.latency(&knobs);
                late.fault(&knobs)
            })
            .collect();
        assert_eq!(plain, with_latency);
        assert_ne!(plain, (0..1000).map(|_| other.fault(&knobs)).collect::<Vec<_>>());
        let count = |wanted| plain.iter().filter(|fault| **fault == Some(wanted)).count();
        // Five standard deviations on either side.
        for (fault, bounds) in [
            (Fault::Status(503), 228..=372),
            (Fault::Status(429), 137..=263),
            (Fault::LostAnswer, 53..=147),
            (Fault::Reset, 16..=84),
            (Fault::Hang, 16..=84),
            (Fault::SlowAnswer, 16..=84),
            (Fault::Part, 16..=84),
        ] {
            assert!(bounds.contains(&count(fault)), "{fault:?}: {}", count(fault));
        }
    }

    #[test]
    fn the_lognormal_latency_has_its_median_and_its_tail() {
        let knobs = Knobs { latency_ms: 5, latency_median_ms: 20.0, latency_sigma: 0.5, ..Knobs::default() };
        let mut dice = Dice::new(1);
        let mut ms: Vec<f64> = (0..20_001).map(|_| dice.latency(&knobs).as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        let (median, p99) = (ms[10_000] - 5.0, ms[19_801] - 5.0);
        assert!((19.0..21.0).contains(&median), "median {median}");
        // exp(2.326 * 0.5) = 3.2 medians.
        assert!((59.0..69.0).contains(&p99), "p99 {p99}");
    }
}
