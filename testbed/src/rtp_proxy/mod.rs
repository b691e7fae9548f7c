//! A proxy between an RTSP client and its server that knows what it carries: it loses, cuts or mutates RTP packets by a
//! script, and remembers for each picture what became of its packets.
//!
//! The control connection passes through it. Over UDP it writes ports of its own into the Transport headers of SETUP
//! (RFC 2326, section 12.39), so that the datagrams pass as well; over TCP it takes the interleaved stream apart
//! (section 10.12). RTCP passes untouched. With the same [`Script`], the packet of the same number in the connection of
//! the same number meets the same fault.
//!
//! `server` accepts, `connection` carries one client, `messages` finds the messages of RTSP and the packets between
//! them, `transport` rewrites headers, `datagrams` is the way by UDP, `packet` reads RTP's header (RFC 3550, section
//! 5.1), `faults` draws what happens, `mutation` and `parameter_sets` make streams hostile, and `ledger` keeps account.

mod connection;
mod datagrams;
mod faults;
mod ledger;
mod messages;
mod mutation;
mod packet;
mod parameter_sets;
mod script;
mod server;
#[cfg(test)]
mod tests;
mod transport;

pub use ledger::{Sent, Stats};
pub use script::{Script, Spoil};
pub use server::RtpProxy;
