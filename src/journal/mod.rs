//! What the daemon knows for good: the catalog of cameras and recorders, every seq ever reserved, how each frame ended.
//!
//! One SQLite database, written by one plain thread behind a channel (`writer`), read through a small read-only pool
//! (`Reader`). A commit is durable when its effects show anywhere: `synchronous=FULL`. Each camera's running accounts
//! are mirrored in memory (`Ledger`), which the writer updates right after the commit.

mod audit;
mod batches;
mod catalog;
mod group;
mod handle;
mod ledger;
mod ledgers;
mod manifests;
mod nvrs;
mod outcome;
mod ranges;
mod reader;
mod recovery;
mod reserve;
mod retention;
mod schema;
mod secrets;
mod state_dir;
mod task_secrets;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use audit::{Bounds, ManifestRow, Mark};
pub use catalog::CatalogChange;
pub use handle::{Journal, NewSession, SessionEnd};
pub use ledger::{Accounts, Ledger, LostBy, Past, Totals};
pub use ledgers::Ledgers;
pub use manifests::{EndedSession, Manifested, Part, PendingManifest, StoredManifest};
pub use nvrs::KnownNvr;
pub(crate) use ranges::minus;
pub use reader::{Commits, Entry, Page, ReadError, Reader};
pub use recovery::{KnownCamera, Opened};
pub use retention::retain;
pub use secrets::write_private;
pub use state_dir::StateDir;
pub use task_secrets::TaskSecrets;
pub use tasks::{KnownTasks, ListedTask, TaskOrder};

/// What can go wrong with the journal. The daemon cannot keep its promises without it: only for room on the disk it
/// waits.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite refused.
    #[error("journal: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A file beside the database could not be read or written.
    #[error("{what} {path}: {error}")]
    File {
        /// What was tried: "cannot write".
        what: &'static str,
        /// On which file.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The database holds something that this program never wrote.
    #[error("journal {path}: {detail}: restore the state directory, or start with a new one")]
    Corrupt {
        /// The database.
        path: std::path::PathBuf,
        /// What is wrong in it.
        detail: String,
    },
    /// The database is of a version that the daemon would convert.
    #[error("journal {path} has format {found}, this program reads format {}: start the daemon once", schema::VERSION)]
    Older {
        /// The database.
        path: std::path::PathBuf,
        /// Its version.
        found: i64,
    },
    /// A file of secrets can be read by others.
    #[error("{path} {detail}")]
    Unsafe {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong, and the way out.
        detail: String,
    },
    /// Another daemon works on the same state directory.
    #[error("state directory {path} is in use by process {pid}: stop that one, or choose another `state.dir`")]
    InUse {
        /// The state directory.
        path: std::path::PathBuf,
        /// The other daemon, as far as it left word.
        pid: String,
    },
    /// The writer has ended.
    #[error("the journal is closed")]
    Closed,
}
