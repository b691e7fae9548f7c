//! Frames on disk between their capture and their outcome.
//!
//! Append-only segments, one stream of them for each destination, written by one plain thread. A frame counts once the
//! group commit that covers it is on disk: until then nothing of it is shown and nothing of it leaves. From then on it
//! is here until the journal has its outcome.

mod clean;
mod disk;
mod extent;
mod footer;
mod format;
mod handle;
mod index;
pub mod inspect;
mod lock;
mod mend;
mod quarantine;
mod ranges;
mod read;
mod record;
mod recovery;
mod scan;
mod segment;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::{Disk, DiskFile, RealDisk};
pub use handle::{Inbox, Sink, Spool, SpoolStatus, channel};
pub use lock::{OpenError, Stream, open, open_all};
pub use quarantine::Quarantine;
pub use record::{Place, ReadError, Record, Spooled};
pub use store::{AppendError, Found, Store, StoreSettings};
pub use writer::start;
