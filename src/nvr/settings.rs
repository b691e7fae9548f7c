//! Where a recorder is, who we are there, and how its clock is read.

use std::time::Duration;

use secrecy::SecretString;

use super::Zone;
use crate::model::{ClockMode, Tls};

/// What it takes to talk to one recorder.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// The host: a name or an address, one of version 6 without its brackets.
    pub host: String,
    /// The port; that of the scheme where it is `None`.
    pub port: Option<u16>,
    /// How it is reached.
    pub scheme: Scheme,
    /// The user to log in as.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Whether the password may be sent as it is to a recorder that asks for nothing better.
    pub basic: bool,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Which time stands before a `Z` in what it says.
    pub clock: ClockMode,
    /// The zone of its wall clock; the one that it tells of itself where it is `None`.
    pub zone: Option<Zone>,
}

impl RecorderSettings {
    /// A recorder that is reached over HTTP on its usual port; the rest is the default.
    pub fn new(host: impl Into<String>, user: impl Into<String>, password: SecretString) -> Self {
        Self {
            host: host.into(),
            port: None,
            scheme: Scheme::Http,
            user: user.into(),
            password,
            basic: false,
            timeouts: Timeouts::default(),
            clock: ClockMode::default(),
            zone: None,
        }
    }

    /// The port, told or usual.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https { .. } => 443,
        })
    }
}

/// How a recorder is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Without encryption: passwords go as digests, pictures as they are.
    Http,
    /// With encryption.
    Https {
        /// What is asked of its certificate. Without a word it is verified.
        tls: Option<Tls>,
    },
}

/// How long a recorder may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// To accept a connection, the handshake of TLS within it.
    pub connect: Duration,
    /// To answer a request: to the end of the answer where it is XML, to its head where it is media.
    pub answer: Duration,
    /// The span over which media are watched: with less than [`stall_bytes`](Self::stall_bytes) in it they have stalled.
    /// There is no limit to the whole: recorders are slow, and files are large.
    pub stall: Duration,
    /// The bytes that have to come within [`stall`](Self::stall), at least 1.
    pub stall_bytes: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            stall_bytes: 16 << 10,
        }
    }
}
