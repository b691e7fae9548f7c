//! framehaul hauls camera frames into object storage: many at a time, in order, losing none without saying so.
//!
//! Read the modules from the bottom up: [`model`] holds the nouns; [`delivery`] decides what goes next and how far the
//! order is complete; [`capture`] runs one process per camera, [`storage`] puts objects into buckets, [`journal`] keeps
//! what must survive; [`actors`] wire these together; [`http`] lets others look and change things; [`daemon`] is where
//! it all meets. Dependencies point down this list and never up; [`config`] and [`metrics`] are handed down from the
//! top. [`pulse`] asks whether all of it makes progress, [`service`] tells the service manager, [`verify`] checks, for
//! the command line, what is in the buckets, and [`push`] stores pictures without a daemon.
//!
//! Absent on purpose: no media library (they live in the capture programs), no actor below [`actors`], no JSON outside
//! [`http`] but for files and pipes of our own, no frame in a mailbox, no unsafe code.
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
pub mod http;
pub mod journal;
pub mod manifest;
pub mod metrics;
pub mod model;
pub mod pulse;
pub mod push;
pub mod service;
pub mod shutdown;
pub mod spool;
pub mod storage;
pub mod verify;
