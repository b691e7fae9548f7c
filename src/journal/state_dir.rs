//! A state directory that is taken: its lock, its database, its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use rustix::fs::{FlockOperation, flock};

use super::outcome::Destinations;
use super::reserve::Reserve;
use super::{JournalError, Reader, schema};
use crate::model::{CameraId, DestinationName, KeyTemplate, Origin, Seq, SeqRange, SpooledCamera};

/// The database's file.
pub(super) const DATABASE: &str = "journal.sqlite";

/// A state directory whose cameras are not settled yet: first the spool is asked what it holds, for which it needs the
/// origin.
#[derive(Debug)]
pub struct StateDir {
    pub(super) paths: Paths,
    pub(super) lock: File,
    pub(super) reserve: Reserve,
    pub(super) connection: Connection,
    pub(super) origin: Origin,
    pub(super) destinations: Destinations,
}

/// Where the journal's files lie in a state directory.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub dir: PathBuf,
    pub database: PathBuf,
    pub secrets: PathBuf,
    pub lock: PathBuf,
}

impl StateDir {
    /// Takes a state directory, making it where there is none.
    ///
    /// # Errors
    ///
    /// When another daemon holds it, a file cannot be read or written, or the database is not one of ours.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| JournalError::File {
            what: "cannot make state directory",
            path: dir.to_owned(),
            error,
        })?;
        let paths = Paths {
            dir: dir.to_owned(),
            database: dir.join(DATABASE),
            secrets: dir.join("secrets.json"),
            lock: dir.join("lock"),
        };
        let lock = take_lock(dir, &paths.lock)?;
        let reserve = Reserve::open(dir);
        leave_pid(&lock, &paths.lock)?;
        // SQLite takes the database's mode for its side files as well.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&paths.database)
            .map_err(|error| JournalError::File { what: "cannot open", path: paths.database.clone(), error })?;
        let connection = schema::open_writer(&paths.database)?;
        let origin = own_origin(&connection, &paths.database)?;
        Ok(Self { paths, lock, reserve, connection, origin, destinations: Destinations::new() })
    }

    /// Its origin.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The identity of the spool that belongs to it, and where that was; `None` where there was none yet.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn spool(&self) -> Result<Option<(String, PathBuf)>, JournalError> {
        let read = |key: &str| {
            let query = "SELECT value FROM meta WHERE key = ?1";
            self.connection.query_row(query, [key], |row| row.get::<_, String>(0)).optional()
        };
        Ok(read("spool")?.zip(read("spool_dir")?).map(|(id, dir)| (id, dir.into())))
    }

    /// Writes down which spool belongs to it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn set_spool(&self, id: &str, dir: &Path) -> Result<(), JournalError> {
        let transaction = self.connection.unchecked_transaction()?;
        for (key, value) in [("spool", id), ("spool_dir", &dir.to_string_lossy())] {
            let upsert = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
            transaction.execute(upsert, [key, value])?;
        }
        Ok(transaction.commit()?)
    }

    /// Whether [`set_opened`](Self::set_opened) was ever told of the bucket with this URL.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn was_opened(&self, url: &str) -> Result<bool, JournalError> {
        let query = "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'opened ' || ?1)";
        Ok(self.connection.query_row(query, [url], |row| row.get(0))?)
    }

    /// Writes down that the buckets with these URLs are there.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn set_opened<'a>(&self, urls: impl IntoIterator<Item = &'a str>) -> Result<(), JournalError> {
        let transaction = self.connection.unchecked_transaction()?;
        for url in urls {
            let insert = "INSERT INTO meta (key, value) VALUES ('opened ' || ?1, '') ON CONFLICT (key) DO NOTHING";
            transaction.execute(insert, [url])?;
        }
        Ok(transaction.commit()?)
    }

    /// Writes down where the destinations are that frames go to from now on, by the URL that stands before every key.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn register(&mut self, destinations: &BTreeMap<DestinationName, String>) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        for (name, url) in destinations {
            let insert = "INSERT INTO destination (name, url) VALUES (?1, ?2) ON CONFLICT (name, url) DO NOTHING";
            transaction.execute(insert, [name.as_str(), url])?;
            let query = "SELECT num FROM destination WHERE name = ?1 AND url = ?2";
            let num = transaction.query_row(query, [name.as_str(), url], |row| row.get(0))?;
            self.destinations.insert(name.clone(), num);
        }
        Ok(transaction.commit()?)
    }

    /// Writes down by which template keys are made from now on. Those that were used before stay: there are objects, and
    /// records in the spool, whose keys they made.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn register_template(&self, template: &KeyTemplate) -> Result<(), JournalError> {
        let insert = "INSERT INTO meta (key, value) VALUES ('template ' || ?1, ?1) ON CONFLICT (key) DO NOTHING";
        self.connection.execute(insert, [template.as_str()])?;
        Ok(())
    }

    /// The names of all destinations that frames ever went to, as far as they are written down.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn destinations(&self) -> Result<BTreeSet<DestinationName>, JournalError> {
        let mut statement = self.connection.prepare("SELECT DISTINCT name FROM destination")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        // What is no name of ours was never the name of a directory in the spool.
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// How many of these frames have no outcome, of those whose seqs the journal knows of.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn waiting(&self, spooled: &BTreeMap<CameraId, SpooledCamera>) -> Result<u64, JournalError> {
        let reader = Reader::open(&self.paths.database)?;
        let mut waiting = 0;
        for (camera, found) in spooled {
            let query = "SELECT reserved_until FROM camera WHERE id = ?1";
            let known = self.connection.query_row(query, [camera.as_str()], |row| row.get::<_, i64>(0)).optional()?;
            let last = known.map_or(0, |until| until as Seq - 1);
            let known = found.seqs.iter().filter(|seqs| seqs.first <= last);
            let known: Vec<_> = known.map(|seqs| SeqRange { last: seqs.last.min(last), ..*seqs }).collect();
            waiting += reader.unresolved(camera, &known)?.iter().map(SeqRange::len).sum::<u64>();
        }
        Ok(waiting)
    }

    /// Frames whose seqs were given and that have no outcome, as far as the journal knows of them without the spool.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn open_frames(&self) -> Result<u64, JournalError> {
        let query = "SELECT coalesce(sum(max(0, reserved_until - 1 - stored - lost)), 0) FROM camera";
        Ok(self.connection.query_row(query, [], |row| row.get::<_, i64>(0))? as u64)
    }
}

fn take_lock(dir: &Path, path: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::File { what: "cannot lock", path: path.to_owned(), error };
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
        return Err(JournalError::InUse { path: dir.to_owned(), pid });
    }
    Ok(file)
}

/// Leaves word of who holds the lock.
fn leave_pid(mut lock: &File, path: &Path) -> Result<(), JournalError> {
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(|error| JournalError::File {
        what: "cannot write",
        path: path.to_owned(),
        error,
    })
}

/// The origin that the database has, made now where it has none.
fn own_origin(connection: &Connection, database: &Path) -> Result<Origin, JournalError> {
    if let Some(origin) = schema::read_origin(connection, database)? {
        return Ok(origin);
    }
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    let origin = Origin::from_random(bytes);
    connection.execute("INSERT INTO meta (key, value) VALUES ('origin', ?1)", [origin.as_str()])?;
    Ok(origin)
}
