//! framehaul hauls camera frames into object storage: many at a time, in order, losing none without saying so.
#![forbid(unsafe_code)]

pub mod actors;
pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod shutdown;
pub mod storage;
