//! How a command ends when it cannot do what it is for.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What went wrong, as an exit code that a script can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something that has no code of its own.
    Other,
    /// The command cannot be understood.
    Usage,
    /// The daemon understood and will not: the request is wrong.
    Refused,
    /// What the request supposes is not so.
    Precondition,
    /// Something is not as it was written.
    Damaged,
    /// There is nothing of this name.
    NotFound,
    /// Nobody answers.
    Unreachable,
    /// The daemon failed.
    Broken,
    /// The daemon cannot do it now.
    NotNow,
    /// The token does not open this.
    Forbidden,
    /// The configuration, or a file that it names, cannot be used.
    Config,
}

/// The codes, for help texts. After `sysexits.h`.
pub const EXIT_CODES: &str = "Exit codes:
  0 done   1 failed   2 wrong usage   65 refused   66 not found   69 unreachable   70 the daemon failed
  75 not now, try again   77 token refused   78 configuration";

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Refused | Self::Precondition | Self::Damaged => 65,
            Self::NotFound => 66,
            Self::Unreachable => 69,
            Self::Broken => 70,
            Self::NotNow => 75,
            Self::Forbidden => 77,
            Self::Config => super::EXIT_CONFIG,
        }
    }
}

/// Why a command did not do what it is for.
#[derive(Debug)]
pub enum Failure {
    /// It could not.
    Failed(Kind, String),
    /// That has been told already.
    Told(Kind),
    /// Whoever read its output has enough. That is no failure.
    Unread,
}

impl Failure {
    /// A failure with its cause and the way out.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self::Failed(kind, message.into())
    }

    /// Its kind; none where it is no failure.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Failed(kind, _) | Self::Told(kind) => Some(*kind),
            Self::Unread => None,
        }
    }

    /// Tells it on standard error, unless that was done.
    pub fn tell(self) -> Self {
        if let Self::Failed(kind, message) = self {
            note(format_args!("error: {message}"));
            return Self::Told(kind);
        }
        self
    }
}

/// Writes a line to standard error. Where that is closed there is nobody to tell.
pub fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Ends a command.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result.map_err(Failure::tell) {
        Ok(()) | Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Failed(kind, _) | Failure::Told(kind)) => ExitCode::from(kind.code()),
    }
}

/// Writes to standard output.
///
/// # Errors
///
/// When nobody reads it any more, or it cannot be written.
pub fn print(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::new(Kind::Other, format!("cannot write to standard output: {error}")),
    })
}
