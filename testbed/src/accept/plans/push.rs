//! `framehaul push`, batches, and the benchmark.

use std::time::Duration;

use super::{both, push_bounds};
use crate::accept::Plan;
use crate::accept::commands::{bench, regenerated};
use crate::clip::{ClipSpec, Codec};
use crate::scenario::{self, PushCut, PushStorm, Slope, Stage};

const SEED: u64 = 20_261_123;
/// Of pictures that are quickly decoded: this is about what follows.
const CLIP: ClipSpec =
    ClipSpec { camera: 1, width: 640, height: 480, fps: 25, gop: 25, codec: Codec::H264, seconds: 40 };

pub(in crate::accept) fn push() -> Vec<Plan> {
    vec![
        Plan::new(1, None, |_| push_bounds::burst(&bench("burst")?)),
        Plan::new(2, None, |_| push_bounds::sustained(&bench("sustained")?)),
        Plan::new(3, None, |_| push_bounds::pipeline(&bench("pipeline")?)),
        Plan::new(4, None, |program| scenario::slope(&Stage::new(program)?, &Slope::small())),
        Plan::new(5, Some(SEED), |program| {
            let cut = PushCut { clip: CLIP, cuts: 5, latency_ms: 50 };
            let storm = PushStorm { clip: CLIP, rate_503: 0.2, retries: 30, seed: SEED };
            let faults = both(
                scenario::push_cut(&Stage::new(program)?, &cut)?,
                scenario::push_storm(&Stage::new(program)?, &storm)?,
            );
            Ok(both(faults, scenario::push_nowhere(&Stage::new(program)?, CLIP, Duration::from_secs(5))?))
        }),
        Plan::new(6, None, |_| regenerated()),
    ]
}
