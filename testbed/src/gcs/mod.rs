//! Google Cloud Storage's JSON API as a server in this process, with faults on demand.
//!
//! It speaks what the official clients and a `curl` need to put, read, list and delete objects: uploads (`multipart` in
//! two or three parts, `media`, `resumable`), generations and their preconditions, CRC32C and MD5 checks, ranges,
//! pages. With `require_auth` it takes the tokens and JWTs of its one service account only; it plays the endpoint that
//! exchanges assertions for tokens, and the metadata server that hands them out, on the same port. Absent on purpose:
//! permissions, object versions, encryption, and every call that changes metadata in place.
//!
//! From the socket inwards: [`GcsServer`] owns a thread and accepts connections; `service` turns a request into an
//! answer, with `call` reading its first line, `upload` and `multipart` its body, `objects`, `session` and `access`
//! doing what it asks; `store` holds the objects, `tokens` the tokens, and neither knows HTTP; `account` signs nothing
//! and verifies all; `resource` and `refusal` write what the service would write. [`Knobs`] are the faults, [`Stats`]
//! the counts, and both can be reached at run time under `/_testbed/`; `arrivals` says when each call came.
//!
//! Everything runs on one thread. An upload is read and summed where it lies in the read buffers, and copied once when
//! its bytes are kept.

mod access;
mod account;
mod arrivals;
mod call;
mod command;
mod knobs;
mod line;
mod multipart;
mod objects;
mod paced;
mod pieces;
mod refusal;
mod resource;
mod server;
mod service;
mod session;
mod stats;
mod store;
mod tokens;
mod upload;

pub use arrivals::Arrival;
pub use command::{Args, run};
pub use knobs::Knobs;
pub use objects::foreign;
pub use server::{GcsServer, ObjectInfo, Options};
pub use stats::{AuthStats, Injected, Requests, Stats};
