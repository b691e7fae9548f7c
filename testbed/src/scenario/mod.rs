//! What framehaul promises, as programs that try to break it: used by its tests in short, by `testbed accept` in full.
//!
//! Each scenario starts real parts, injects its faults, counts them, and returns figures; whether they are good enough
//! is decided by [`Outcome::pass`], from the same run.

mod capture;
mod changes;
mod churn;
mod crash;
mod credentials;
mod delivery;
mod footprint;
mod garbage;
mod hostile;
mod latency;
mod logins;
mod loss;
mod mutated;
mod order;
mod prometheus;
mod push;
mod recorder;
mod recovery;
mod reload;
mod service;
mod settings;
mod slope;
mod sources;
mod spool;
mod stage;
mod stream;
mod synthetic;
mod tasks;
pub mod testing;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use capture::{
    Cost, Counts, EndToEnd, Hauled, KeyFrames, Load, Medium, Memory, PassThrough, Rtsp, cost, end_to_end, key_frames,
    load, pass_through, rtsp,
};
pub use changes::{Changes, changes};
pub use churn::{Churn, churn};
pub use crash::{Crash, crash};
pub use credentials::{Credentials, credentials};
pub use delivery::{Flips, LostAnswers, Refused, Silent, Storm, flips, lost_answers, refused, silent, storm};
pub use footprint::{Footprint, footprint, media_libraries};
pub use garbage::garbage;
pub use hostile::hostile;
pub use latency::{Latency, latency};
pub use logins::{Logins, logins};
pub use loss::{LossCase, Losses, losses};
pub use mutated::{Mutated, mutated};
pub use order::{Order, order};
pub use prometheus::{Prometheus, prometheus};
pub use push::{PushCut, PushStorm, push_cut, push_nowhere, push_storm};
pub use recorder::{
    ExportKills, ExportSpeed, LiveChannels, LockedOut, ManyRecordings, Remuxed, Tools, broken_recordings, export_kills,
    export_speed, live_channels, locked_out, many_recordings, remuxed, side_by_side,
};
pub use recovery::{Recovery, recovery};
pub use reload::{Reload, reload};
pub use service::{Service, service};
pub use settings::{Settings, settings};
pub use slope::{Slope, Slopes, Weighed, Weight, slope, weigh};
pub use sources::{Sources, sources};
pub use spool::{
    Backlog, Cap, Damaged, DiskFull, Durability, Fairness, Kills, NoRoom, Outage, Refusal, Signals, SyncErrors,
    backlog, cap, damaged, disk_full, durability, fairness, kills, no_room, outage, refusal, signals, sync_errors,
};
pub use stage::Stage;
pub use stream::{Stream, stream};
pub use synthetic::{Pictures, pictures};
pub use tasks::{QueueChaos, Sheets, queue_chaos, recorder_canary, sheets};

/// What a scenario found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// What was asked.
    pub bound: String,
    /// What was seen.
    pub figure: Value,
    /// How many faults were injected: wrong answers, signals, panics, capture processes that misbehave. 0 where the
    /// scenario is there for a measurement; one that is there for its faults fails when there were none.
    pub faults: u64,
    /// Whether the bound was kept.
    pub pass: bool,
    /// What was wrong, sentence by sentence.
    pub problems: Vec<String>,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    /// The outcome of a scenario that is there for its faults.
    fn outcome(mut self, bound: impl Into<String>, figure: Value, faults: u64) -> Outcome {
        self.check(faults > 0, || "no fault was injected".to_owned());
        Outcome { faults, ..self.measured(bound, figure) }
    }

    /// The outcome of a scenario that measures and injects no faults.
    fn measured(self, bound: impl Into<String>, figure: Value) -> Outcome {
        Outcome { bound: bound.into(), figure, faults: 0, pass: self.0.is_empty(), problems: self.0 }
    }
}
