//! Faults of the disk and of the process, injected into spool and journal as they are wired in the daemon.
//!
//! Each test prints its seed, counts its faults and fails at none. The short form tries some cases of each kind;
//! `ROUNDS` set, all of them (`make faults ROUNDS=500`). A case is tried again with the seed that is printed:
//! `SEED=1234`.
//!
//! The model of the disk, which also loses and tears what was not synced, is in `src/spool/tests`.

mod boundaries;
mod child;
mod engine;
mod extent;
mod manifests;
mod order;
#[path = "../manifests/reader.rs"]
mod reader;
mod strace;
mod verdict;
