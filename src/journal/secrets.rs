//! Passwords of cameras and recorders: one file beside the catalog, mode 0600, and nowhere else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::JournalError;

/// The file of passwords, held in memory and written anew as a whole on each change.
///
/// A password belongs to one revision of its camera (`gate-3@7`) or recorder (`nvr/hall@2`), so that file and catalog, which cannot be written at
/// once, never make a pair that nobody asked for. Files of an older form name the camera alone.
#[derive(Debug)]
pub struct SecretsFile {
    path: PathBuf,
    passwords: BTreeMap<String, SecretString>,
}

impl SecretsFile {
    /// Reads the file; a missing one is an empty one.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read or is no JSON object of texts; the message never repeats its content.
    pub fn open(path: PathBuf) -> Result<Self, JournalError> {
        if let Ok(metadata) = std::fs::metadata(&path)
            && metadata.permissions().mode() & 0o077 != 0
        {
            let detail =
                format!("has mode {:03o}: others can read it; chmod 600 it", metadata.permissions().mode() & 0o777);
            return Err(JournalError::Unsafe { path, detail });
        }
        let passwords = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| JournalError::Corrupt {
                path: path.clone(),
                detail: "is not a JSON object of passwords".to_owned(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(JournalError::File { what: "cannot read", path, error }),
        };
        Ok(Self { path, passwords })
    }

    /// The password of a camera or recorder at a revision.
    pub fn get(&self, owner: &str, revision: u64) -> Option<&SecretString> {
        self.passwords.get(&key(owner, revision)).or_else(|| self.passwords.get(owner))
    }

    /// Forgets the passwords of all owners but these at these revisions: what a crash between file and catalog has
    /// left.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep_only(&mut self, owners: &[(String, u64)]) -> Result<(), JournalError> {
        let kept: BTreeMap<String, SecretString> = owners
            .iter()
            .filter_map(|(owner, revision)| Some((key(owner, *revision), self.get(owner, *revision)?.clone())))
            .collect();
        if kept.keys().ne(self.passwords.keys()) { self.replace(kept) } else { Ok(()) }
    }

    /// Adds passwords of revisions that are about to come; on return they are on disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; then nothing has changed.
    pub fn add(&mut self, passwords: &[(String, u64, &SecretString)]) -> Result<(), JournalError> {
        if passwords.is_empty() {
            return Ok(());
        }
        let mut changed = self.passwords.clone();
        changed
            .extend(passwords.iter().map(|(owner, revision, password)| (key(owner, *revision), (*password).clone())));
        self.replace(changed)
    }

    /// Forgets these owners' passwords of all other revisions than these.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; then nothing has changed.
    pub fn forget_all_but(&mut self, owners: &[(String, u64)]) -> Result<(), JournalError> {
        let settled: BTreeMap<&str, u64> = owners.iter().map(|(owner, revision)| (owner.as_str(), *revision)).collect();
        let stays = |name: &str| {
            let (owner, revision) = name.split_once('@').unwrap_or((name, ""));
            settled.get(owner).is_none_or(|settled| revision.parse() == Ok(*settled))
        };
        let kept: BTreeMap<String, SecretString> =
            self.passwords.iter().filter(|(name, _)| stays(name)).map(|(name, p)| (name.clone(), p.clone())).collect();
        if kept.len() < self.passwords.len() { self.replace(kept) } else { Ok(()) }
    }

    fn replace(&mut self, changed: BTreeMap<String, SecretString>) -> Result<(), JournalError> {
        let bare: BTreeMap<&str, &str> =
            changed.iter().map(|(name, password)| (name.as_str(), password.expose_secret())).collect();
        let json = serde_json::to_vec(&bare).expect("texts are always valid JSON");
        write_private(&self.path, &json)?;
        self.passwords = changed;
        Ok(())
    }
}

fn key(owner: &str, revision: u64) -> String {
    format!("{owner}@{revision}")
}

/// Replaces a file with one that only its owner can read; on return it is on disk.
///
/// # Errors
///
/// When any step fails; the file that was there is then untouched.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), JournalError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let dir = path.parent().expect("a file we write has a directory");
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| JournalError::File { what: "cannot write", path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.json");
        let (a, b) = ("a", "b");
        let mut file = SecretsFile::open(path.clone()).unwrap();
        let password = |text: &str| SecretString::from(text);
        file.add(&[(a.into(), 1, &password("p%40:/#w")), (b.into(), 1, &password("x"))]).unwrap();
        file.add(&[(b.into(), 2, &password("y"))]).unwrap();
        // Until the catalog has the new revision, both are there.
        assert_eq!(file.get(b, 1).unwrap().expose_secret(), "x");
        assert_eq!(file.get(b, 2).unwrap().expose_secret(), "y");
        file.forget_all_but(&[(b.into(), 3)]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SecretsFile::open(path.clone()).unwrap();
        assert_eq!(again.get(a, 1).unwrap().expose_secret(), "p%40:/#w");
        assert!(again.get(b, 1).is_none() && again.get(b, 2).is_none());
        assert!(!format!("{again:?}").contains("p%40"));
        std::fs::write(&path, r#"{"a":"old","b":"gone"}"#).unwrap();
        let mut old = SecretsFile::open(path.clone()).unwrap();
        old.keep_only(&[(a.into(), 7)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"a@7":"old"}"#);
        std::fs::write(&path, "p%40:/#w").unwrap();
        assert!(!SecretsFile::open(path).unwrap_err().to_string().contains("p%40"));
    }
}
