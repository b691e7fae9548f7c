//! framehaul hauls camera frames into object storage: many at a time, in order, losing none without saying so.
//!
//! Read the modules from the bottom up: [`model`] holds the nouns; [`delivery`] decides what goes next and how far the
//! order is complete; [`process`] is what all processes of ours have in common, of which [`capture`] runs one per camera
//! and [`media`] one per job with recordings; [`nvr`] asks recorders, [`storage`] puts objects into buckets, [`journal`]
//! keeps what must survive; [`actors`] wire these together; [`tasks`] hands export tasks out to workers; [`http`] lets others look and change things; [`daemon`] is
//! where it all meets. Dependencies point down this list and never up; [`config`] and [`metrics`] are handed down from the
//! top. [`pulse`] asks whether all of it makes progress, [`service`] tells the service manager, [`verify`] checks, for
//! the command line, what is in the buckets; [`push`] stores pictures and [`export`] recordings without a daemon, and
//! [`sheet`] reads tasks for it from what people write in a spreadsheet; a [`worker`] does those that a daemon hands out.
//!
//! Absent on purpose: no media library (they live in the capture programs and in `framehaul-media`), no actor below
//! [`actors`], no JSON outside [`http`] but for files and pipes of our own, no frame in a mailbox, no unsafe code.
//!
//! `docs/architecture.md` tells the rest.
#![forbid(unsafe_code)]

pub mod actors;
pub mod capture;
pub mod claim;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod export;
pub mod http;
pub mod journal;
pub mod manifest;
pub mod media;
pub mod metrics;
pub mod model;
pub mod nvr;
pub mod process;
pub mod pulse;
pub mod push;
pub mod service;
pub mod sheet;
pub mod shutdown;
pub mod spool;
pub mod storage;
pub mod tasks;
pub mod verify;
pub mod worker;
