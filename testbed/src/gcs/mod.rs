//! Google Cloud Storage's JSON API as a server in this process, with faults on demand.
//!
//! It speaks what the official client crate and a `curl` need to put, read, list and delete objects: single-shot
//! uploads (`multipart` in two or three parts, `media`), generations and their preconditions, CRC32C and MD5 checks,
//! ranges, pages. Absent on purpose: resumable uploads (answered with 501), permissions, object versions, encryption,
//! and every call that changes metadata in place.
//!
//! From the socket inwards: [`GcsServer`] owns a thread and accepts connections; `service` turns a request into an
//! answer, with `call` reading its first line, `upload` and `multipart` its body; `store` holds the objects and knows
//! no HTTP; `resource` and `refusal` write what the service would write. [`Knobs`] are the faults, [`Stats`] the
//! counts, and both can be reached at run time under `/_testbed/`.
//!
//! Everything runs on one thread. An upload is read and summed where it lies in the read buffers, and copied once when
//! its bytes are kept.

mod call;
mod command;
mod knobs;
mod multipart;
mod pieces;
mod refusal;
mod resource;
mod server;
mod service;
mod stats;
mod store;
mod upload;

pub use command::{Args, run};
pub use knobs::Knobs;
pub use server::{GcsServer, ObjectInfo, Options};
pub use stats::{Injected, Requests, Stats};
