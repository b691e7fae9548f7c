//! The recorder as its clients see it: raw HTTP over a socket.

mod client;
mod clocks;
mod downloads;
mod logins;
mod playbacks;
mod program;
mod searches;
