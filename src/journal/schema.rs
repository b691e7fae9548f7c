//! The tables, and how a connection is set up.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{JournalError, batches, manifests, nvrs, tasks};
use crate::model::Origin;

/// Raised whenever the tables change; an older program refuses a newer journal.
pub(super) const VERSION: i64 = 6;

/// `reserved_until` is the first seq not yet reserved: seqs start at 1. `spec` is NULL for a deleted camera, whose row
/// stays so that the same id goes on where it stopped. `watermark` is a hint for recovery: below it nothing is open.
/// `pruned_to` is the last seq whose row retention has removed.
///
/// `commit_no` counts outcomes over all cameras in the order of their commits, from 1. `stored_at` of lost frames is
/// when that was recorded: retention goes by it.
///
/// `lost` parts `camera.lost` by reason, for good: retention removes the rows of `frame` that could tell.
///
/// `destination` has a row for each place that frames ever went to, so that a list shows where they are whatever the
/// configuration says by now. `frame.destination` is NULL for what was stored before that was written down.
///
/// `login` holds the camera logins that were refused and not accepted since, so that a restart does not forget them.
const TABLES: &str = "
CREATE TABLE meta (
    key     TEXT PRIMARY KEY,
    value   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE camera (
    num             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    spec            TEXT,
    revision        INTEGER NOT NULL DEFAULT 0,
    reserved_until  INTEGER NOT NULL DEFAULT 1,
    next_session    INTEGER NOT NULL DEFAULT 1,
    watermark       INTEGER NOT NULL DEFAULT 0,
    stored          INTEGER NOT NULL DEFAULT 0,
    lost            INTEGER NOT NULL DEFAULT 0,
    managed_by      TEXT NOT NULL DEFAULT 'api',
    paused          INTEGER NOT NULL DEFAULT 0,
    pruned_to       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE lost (
    camera          INTEGER NOT NULL,
    reason          TEXT NOT NULL,
    frames          INTEGER NOT NULL,
    PRIMARY KEY (camera, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
    camera      INTEGER NOT NULL,
    session     INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    opened      INTEGER NOT NULL,
    closed      INTEGER,
    why         TEXT,
    codec       TEXT,
    width       INTEGER,
    height      INTEGER,
    time_source TEXT,
    PRIMARY KEY (camera, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE frame (
    camera          INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    last            INTEGER NOT NULL,
    session         INTEGER,
    lost            TEXT,
    maybe_stored    INTEGER NOT NULL DEFAULT 0,
    key             TEXT,
    captured_at     INTEGER,
    stored_at       INTEGER,
    bytes           INTEGER,
    crc32c          INTEGER,
    width           INTEGER,
    height          INTEGER,
    commit_no       INTEGER,
    destination     INTEGER,
    damaged         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (camera, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX frame_by_commit ON frame (commit_no);
CREATE TABLE login (
    host            TEXT NOT NULL,
    port            INTEGER NOT NULL,
    user            TEXT NOT NULL,
    credentials     TEXT NOT NULL,
    refused_at      INTEGER NOT NULL
) STRICT;
CREATE TABLE destination (
    num             INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    UNIQUE (name, url)
) STRICT;
";

/// What version 1 lacks. Frames of that time are numbered in the order in which they were stored. When lost ones were
/// recorded is not known: they count as recorded now, so that retention takes nothing too early.
const FROM_1: &str = "
ALTER TABLE camera ADD COLUMN managed_by TEXT NOT NULL DEFAULT 'api';
ALTER TABLE camera ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE camera ADD COLUMN pruned_to INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN codec TEXT;
ALTER TABLE session ADD COLUMN width INTEGER;
ALTER TABLE session ADD COLUMN height INTEGER;
ALTER TABLE frame ADD COLUMN commit_no INTEGER;
UPDATE frame SET commit_no = numbered.number FROM (
    SELECT camera, seq, row_number() OVER (ORDER BY coalesce(stored_at, 0), camera, seq) AS number FROM frame
) AS numbered WHERE numbered.camera = frame.camera AND numbered.seq = frame.seq;
UPDATE frame SET stored_at = unixepoch() * 1000000 WHERE lost IS NOT NULL;
CREATE UNIQUE INDEX frame_by_commit ON frame (commit_no);
CREATE TABLE lost (
    camera          INTEGER NOT NULL,
    reason          TEXT NOT NULL,
    frames          INTEGER NOT NULL,
    PRIMARY KEY (camera, reason)
) STRICT, WITHOUT ROWID;
INSERT INTO lost SELECT camera, lost, sum(last - seq + 1) FROM frame WHERE lost IS NOT NULL GROUP BY camera, lost;
CREATE TABLE login (
    host            TEXT NOT NULL,
    port            INTEGER NOT NULL,
    user            TEXT NOT NULL,
    credentials     TEXT NOT NULL,
    refused_at      INTEGER NOT NULL
) STRICT;
";

/// What version 2 lacks.
const FROM_2: &str = "
ALTER TABLE frame ADD COLUMN destination INTEGER;
CREATE TABLE destination (
    num             INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    UNIQUE (name, url)
) STRICT;
";

/// What version 3 lacks. No frame of that time was kept that was known to be damaged, and all were dated by their
/// arrival, which `session.time_source` leaves out.
const FROM_3: &str = "
ALTER TABLE frame ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN time_source TEXT;
";

/// Opens the writing connection, making the tables where there are none.
pub fn open_writer(path: &Path) -> Result<Connection, JournalError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit is on disk when it returns. Everything that framehaul promises rests on this line.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Without it SQLite looks at what is bound to a statement to plan it, and plans it anew whenever something else is:
    // for each outcome, which takes longer than all that is done with it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let version = version(&connection)?;
    let convert = |steps: &[&str]| {
        connection.execute_batch(&format!("BEGIN; {} PRAGMA user_version = {VERSION}; COMMIT;", steps.concat()))
    };
    match version {
        0 => convert(&[TABLES, manifests::TABLES, batches::TABLES, tasks::TABLES, nvrs::TABLES])?,
        1 => convert(&[FROM_1, FROM_2, manifests::TABLES, FROM_3, batches::TABLES, tasks::TABLES, nvrs::TABLES])?,
        2 => convert(&[FROM_2, manifests::TABLES, FROM_3, batches::TABLES, tasks::TABLES, nvrs::TABLES])?,
        3 => convert(&[FROM_3, batches::TABLES, tasks::TABLES, nvrs::TABLES])?,
        4 => convert(&[batches::TABLES, tasks::TABLES, nvrs::TABLES])?,
        5 => convert(&[tasks::TABLES, nvrs::TABLES])?,
        VERSION => {}
        other => return Err(newer(other, path)),
    }
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn newer(found: i64, path: &Path) -> JournalError {
    let detail = format!("has format {found}, this program knows {VERSION}");
    JournalError::Corrupt { path: path.to_owned(), detail }
}

/// Refuses a database that is of another version, for who cannot convert it.
pub fn expect_version(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    match version(connection)? {
        VERSION => Ok(()),
        found if found < VERSION => Err(JournalError::Older { path: path.to_owned(), found }),
        found => Err(newer(found, path)),
    }
}

/// Opens a connection that cannot write.
pub fn open_reader(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// The origin that the database has.
pub fn read_origin(connection: &Connection, path: &Path) -> Result<Option<Origin>, JournalError> {
    let found: Option<String> =
        connection.query_row("SELECT value FROM meta WHERE key = 'origin'", [], |row| row.get(0)).optional()?;
    let corrupt = || JournalError::Corrupt { path: path.to_owned(), detail: "has an impossible origin".to_owned() };
    found.map(|text| Origin::parse(&text).ok_or_else(corrupt)).transpose()
}
