//! A TCP proxy that spoils connections by a script: what lies between a client and its server when the network is bad.
//!
//! It listens on 127.0.0.1 and passes on what comes to one target. A [`Script`] says which share of the connections
//! meets which [`Fault`], and can be changed while it runs; what it says about connection number 7 depends on its seed
//! and on nothing else. `server` accepts, `connection` carries one connection's bytes both ways, `bodies` finds the
//! bodies of HTTP messages among them, `control` is the script and the counts over HTTP.
//!
//! It cannot leave a SYN without an answer, as a host behind a broken route does: the kernel accepts connections for
//! every port that is listened on. That needs a network namespace of its own.

mod bodies;
mod command;
mod connection;
mod control;
mod script;
mod server;
mod stats;
#[cfg(test)]
mod tests;

pub use command::{Args, run};
pub use script::{Fault, Rule, Script, Way};
pub(crate) use server::next;
pub use server::{Options, Proxy};
pub use stats::{Injected, Stats, Unanswered};
