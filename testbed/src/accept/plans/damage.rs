//! Lost packets and hostile streams: lines 5 and 6 of the fast capture engine.

use std::time::Duration;

use crate::accept::Plan;
use crate::clip::Codec;
use crate::rtp_proxy::Spoil;
use crate::scenario::{self, LossCase, Losses, Mutated, Stage};

const SEED: u64 = 20_261_122;

pub(in crate::accept) fn damage() -> Vec<Plan> {
    let losses = Losses {
        engine: "framehaul-capture-ffmpeg",
        cases: cases(),
        lasts: Duration::from_secs(120),
        at_once: 7,
        caught: 0.99,
        false_alarms: 0.01,
        recovered: 0.99,
        deaf: Duration::from_secs(15),
        unlike: 1_000,
        seed: SEED,
    };
    let mutated = Mutated {
        engine: Some("ffmpeg"),
        lasts: Duration::from_secs(600),
        share: 0.03,
        bystanders: 2,
        fps: 10,
        resident_mb: 512.0,
        seed: SEED,
    };
    vec![
        Plan::new(5, Some(SEED), move |program| scenario::losses(&Stage::new(program)?, &losses)),
        Plan::new(6, Some(SEED), move |program| scenario::mutated(&Stage::new(program)?, &mutated)),
    ]
}

/// Every share of losses, of packets by themselves and in rows, over UDP; packets and bytes cut from interleaved TCP.
fn cases() -> Vec<LossCase> {
    let mut cases = Vec::new();
    for codec in Codec::ALL {
        let case = |transport, spoil| LossCase { codec, transport, spoil };
        for share in [0.01, 0.05, 0.2] {
            for burst in [1.0, 10.0] {
                cases.push(case("udp", Spoil::Lose { share, burst }));
            }
        }
        cases.push(case("tcp", Spoil::Lose { share: 0.01, burst: 1.0 }));
        cases.push(case("tcp", Spoil::Lose { share: 0.05, burst: 10.0 }));
        cases.push(case("tcp", Spoil::Cut { share: 0.002, most: 1_000 }));
    }
    cases
}
