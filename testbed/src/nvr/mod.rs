//! A recorder that speaks ISAPI, as a server in this process, with quirks and faults on demand.
//!
//! It describes itself, searches and sends recordings as Hikvision's recorders do, to those who log in by digest. Its
//! recordings are real: program streams behind an `IMKH` head, or MP4, with a [mark](crate::mark) in every picture, and
//! pictures. Absent on purpose: sound but for the tone in a program stream, analog inputs, and every call that changes a
//! setting.
//!
//! From the socket inwards: [`NvrServer`] owns a thread and accepts connections; `service` turns a request into an
//! answer, with `call` reading its first line and `login` judging who sends it; `pages` describe the recorder, `search`
//! and `download` do what clients come for. `library` knows what was recorded, `media` its bytes, and `program_stream`
//! makes them, with `sound` if wanted; `session` counts who is being sent what, `flow` sends it. `uri` says which recordings a playback URI
//! means, to `download` and to `rtsp`, which plays them, and channels live, on the same port in the packets of `rtp`. `xml` and `clock` are
//! how recorders write and tell the time, `refusal` how they say no. [`Knobs`] are the quirks and faults, for which
//! `dice` are thrown, [`Stats`] the counts; both can be reached at run time under `/_testbed/`.

mod call;
mod clock;
mod command;
mod dice;
mod download;
mod flow;
mod knobs;
mod library;
mod login;
mod media;
mod pages;
mod program_stream;
mod refusal;
mod rtp;
mod rtsp;
mod search;
mod server;
mod service;
mod session;
mod sound;
mod stats;
mod uri;
mod xml;

pub use command::{Args, run};
pub use knobs::{Challenge, ClockMode, Expiry, Knobs, Length, ListTag, Method};
pub use library::Channel;
pub use media::Container;
pub use server::{NvrServer, Options, RecordingInfo};
pub use service::Exchange;
pub use sound::Law;
pub use stats::{Calls, Downloads, Injected, Logins, Playbacks, Stats};
