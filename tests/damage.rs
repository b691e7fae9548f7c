//! Pictures with holes are not delivered as good, and streams made to do harm cost their own capture processes only: the
//! short forms of lines 5 and 6 of `make accept NAME=fast-capture`.

use std::time::Duration;

use testbed::clip::Codec;
use testbed::rtp_proxy::Spoil;
use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, LossCase, Losses, Mutated, Stage};

fn stage() -> Stage {
    // Built with the daemon, and found beside it.
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

/// Twenty seconds are too few to find a rate of 1 %: these are bounds for something that has come apart. They hold some six
/// key frames after a loss in H.265, one of which a busy machine may cost.
fn losses(engine: &'static str) -> Losses {
    let case = |codec, transport, spoil| LossCase { codec, transport, spoil };
    Losses {
        engine,
        cases: vec![
            case(Codec::H264, "udp", Spoil::Lose { share: 0.01, burst: 1.0 }),
            case(Codec::H264, "tcp", Spoil::Lose { share: 0.05, burst: 10.0 }),
            case(Codec::H265, "udp", Spoil::Lose { share: 0.05, burst: 10.0 }),
            case(Codec::Mjpeg, "udp", Spoil::Lose { share: 0.05, burst: 1.0 }),
        ],
        lasts: Duration::from_secs(20),
        at_once: 4,
        caught: 0.97,
        false_alarms: 0.03,
        recovered: 0.8,
        deaf: Duration::from_secs(15),
        unlike: 100,
        seed: 1,
    }
}

#[test]
fn what_lost_packets_have_damaged_is_marked_and_nothing_else_is() {
    assert_passed(scenario::losses(&stage(), &losses("framehaul-capture-ffmpeg")));
}

#[test]
fn a_program_that_knows_nothing_of_damage_is_found_out() {
    let plan = losses("framehaul-capture-opencv");
    let plan = Losses { cases: plan.cases[..1].to_vec(), ..plan };
    let outcome = scenario::losses(&stage(), &plan).expect("a run");
    assert!(!outcome.pass, "{}", outcome.figure);
    assert!(outcome.problems.join("; ").contains("unlike pictures were delivered as good"), "{:?}", outcome.problems);
}

#[test]
fn mutated_streams_cost_their_own_capture_processes_only() {
    let plan = Mutated {
        engine: Some("ffmpeg"),
        lasts: Duration::from_secs(15),
        share: 0.02,
        bystanders: 1,
        fps: 10,
        resident_mb: 512.0,
        seed: any_seed(),
    };
    assert_passed(scenario::mutated(&stage(), &plan));
}

/// Another one at each run, and said, so that a failure can be had again.
fn any_seed() -> u64 {
    let seed = testing::number("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("SEED={seed}");
    seed
}
