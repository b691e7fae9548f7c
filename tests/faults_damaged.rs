//! The daemon over a disk that is damaged, or refuses. Each test prints its seed, counts its faults and fails at none.
//! `ROUNDS=N` makes the damaged spools N; one of them is tried again with `SEED=1234 ROUNDS=1`.

use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed, number};
use testbed::scenario::{self, Damaged, Stage, SyncErrors};

/// Seeds of spools with which this failed once: they are tried first.
const REGRESSIONS: &[u64] = &[];

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

#[test]
fn a_damaged_spool_stops_no_start_and_is_told() {
    let given = number("SEED");
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("SEED={seed}");
    let plan = Damaged {
        cases: number("ROUNDS").unwrap_or(30),
        also: if given.is_none() { REGRESSIONS } else { &[] },
        cameras: 3,
        fps: 40.0,
        bytes: 30_000,
        frames: 40,
        ready: Duration::from_secs(15),
        seed,
    };
    assert_passed(scenario::damaged(&stage(), &plan));
}

#[test]
fn syncs_that_fail_lose_nothing() {
    let plan = SyncErrors { first: 20, every: 13, cameras: 3, fps: 25.0, bytes: 20_000, faults: 8 };
    assert_passed(scenario::sync_errors(&stage(), &plan));
}
