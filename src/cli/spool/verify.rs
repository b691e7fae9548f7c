//! `framehaul spool verify`

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use super::super::Format;
use super::super::failure::{Failure, print};
use super::{failed, judge, show};
use crate::spool::inspect;

pub fn run(dir: &Path, format: Format) -> Result<(), Failure> {
    let progress = Progress { terminal: io::stderr().is_terminal() };
    let verified = inspect::verify(dir, |read, all| progress.show(read, all)).map_err(|error| failed(dir, error))?;
    drop(progress);
    print(show::verified(dir, &verified, format))?;
    judge(verified.iter().map(|verified| &verified.segment))
}

/// A line on the terminal that says how far it is; none where standard error goes elsewhere.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn show(&self, read: u64, all: u64) {
        if self.terminal {
            let _ = write!(io::stderr(), "\rread {} of {}\x1b[K", show::size(read), show::size(all));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
