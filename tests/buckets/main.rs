//! What every bucket must do, over each of them: a directory, memory, Cloud Storage, S3 and Azure as emulators speak them.
//!
//! The emulators of S3 (moto) and Azure (Azurite) are installed below `target/`, once, with pip and npm; a missing tool
//! or network fails the test.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

mod azure;
mod conformance;
mod directory;
mod exports;
mod gcs;
mod large;
mod memory;
mod parts;
mod race;
mod refusals;
mod responder;
mod resumable;
mod s3;
mod servers;
mod streams;
