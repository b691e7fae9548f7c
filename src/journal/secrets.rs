//! Camera passwords: one file beside the catalog, mode 0600, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::JournalError;
use crate::model::CameraId;

/// The file of passwords, held in memory and written anew as a whole on each change.
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

    /// A camera's password.
    pub fn get(&self, camera: &CameraId) -> Option<&SecretString> {
        self.passwords.get(camera.as_str())
    }

    /// Forgets the passwords of all cameras but these: what a crash between file and catalog has left.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep_only(&mut self, cameras: &BTreeSet<String>) -> Result<(), JournalError> {
        let kept = self.passwords.iter().filter(|(camera, _)| cameras.contains(*camera));
        let kept: BTreeMap<String, SecretString> =
            kept.map(|(camera, secret)| (camera.clone(), secret.clone())).collect();
        if kept.len() < self.passwords.len() {
            self.replace(kept)?;
        }
        Ok(())
    }

    /// Sets or removes a camera's password; on return it is on disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; then nothing has changed.
    pub fn set(&mut self, camera: &CameraId, password: Option<&SecretString>) -> Result<(), JournalError> {
        let mut changed = self.passwords.clone();
        match password {
            Some(password) => changed.insert(camera.as_str().to_owned(), password.clone()),
            None => changed.remove(camera.as_str()),
        };
        self.replace(changed)
    }

    fn replace(&mut self, changed: BTreeMap<String, SecretString>) -> Result<(), JournalError> {
        let bare: BTreeMap<&str, &str> =
            changed.iter().map(|(camera, password)| (camera.as_str(), password.expose_secret())).collect();
        let json = serde_json::to_vec(&bare).expect("texts are always valid JSON");
        write_private(&self.path, &json)?;
        self.passwords = changed;
        Ok(())
    }
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
        let (a, b): (CameraId, CameraId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut file = SecretsFile::open(path.clone()).unwrap();
        file.set(&a, Some(&"p%40:/#w".into())).unwrap();
        file.set(&b, Some(&"x".into())).unwrap();
        file.set(&b, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SecretsFile::open(path.clone()).unwrap();
        assert_eq!(again.get(&a).unwrap().expose_secret(), "p%40:/#w");
        assert!(again.get(&b).is_none());
        assert!(!format!("{again:?}").contains("p%40"));
        std::fs::write(&path, "p%40:/#w").unwrap();
        assert!(!SecretsFile::open(path).unwrap_err().to_string().contains("p%40"));
    }
}
