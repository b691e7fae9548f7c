//! Recordings of a recorder into a bucket: all that were asked for, each of them once, whole and verified.
//!
//! [`Export`] says which, where to and how. A [survey](Survey) tells what the recorder has of it; an export that was
//! [started](Export::start) gives what became of each recording, [entry](Entry) by entry, and at its end writes the list
//! into the bucket.
//!
//! The bucket is all that an export knows of earlier ones. A recording's key depends on nothing but the recorder's own
//! facts about it, objects are never overwritten, and one shows only when all of it was verified: so what has its key was
//! exported, and an export that was cut off, by a signal, a power cut or a recorder that went away, is done once more and
//! fetches what is missing.
//!
//! `survey` searches, `explain` says why it finds nothing, `plan` names what was found, `present` looks what is there, and `neighbours`
//! who else was; `run` is all of an export, `driver` decides what is next and `waiting` when; `attempt` and `fetch` do it once, `make`
//! brings it into another form, `fault` judges what went wrong, `tries` how often that may be, `away` for how long.
//! `sessions`, `bandwidth` and `hours` spare the recorder.

mod attempt;
mod away;
mod bandwidth;
mod blocking;
mod claimed;
mod driver;
mod entry;
mod explain;
mod fault;
mod fetch;
#[cfg(test)]
mod fixtures;
mod handle;
pub mod hikload;
mod hours;
mod make;
mod manifest;
mod names;
mod neighbours;
mod options;
mod plan;
mod present;
mod run;
mod sessions;
mod survey;
mod tries;
mod waiting;
mod wanted;

pub use entry::{Entry, Fate, Reason, Recording, Stored};
pub use handle::{Current, Progress, Running, Summary};
pub use hours::{Hours, InvalidHours};
pub use names::{Layout, Names, Template};
pub use options::{Export, ExportError, Form, Stream, Tracks, Transport};
pub use survey::Survey;
pub use wanted::{InvalidMoment, Moment, Wanted};
