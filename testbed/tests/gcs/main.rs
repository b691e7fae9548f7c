//! The Cloud Storage server as its clients see it: raw HTTP over a socket.

mod access;
mod client;
mod faults;
mod objects;
mod program;
mod resumable;
