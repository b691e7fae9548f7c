//! Recorders' passwords of export jobs: a file for each job, mode 0600, and nowhere else.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use tracing::error;

use super::JournalError;
use super::secrets::write_private;
use crate::model::JobNo;

/// The directory of these files, in the state directory.
const DIRECTORY: &str = "export-secrets";

/// The passwords of all jobs, each with the number that its tasks name. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct TaskSecrets {
    dir: PathBuf,
    jobs: Arc<Mutex<HashMap<JobNo, Arc<[SecretString]>>>>,
}

impl TaskSecrets {
    /// Reads the passwords of these jobs, and removes the files of all others: a crash may have left them.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, or a file cannot be read, can be read by others, or is no list of texts; no
    /// message repeats what it holds.
    pub fn open(state_dir: &Path, jobs: impl Iterator<Item = JobNo>) -> Result<Self, JournalError> {
        let dir = state_dir.join(DIRECTORY);
        let failed = |what| {
            let path = dir.clone();
            move |error| JournalError::File { what, path, error }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("cannot make"))?;
        let mut known = HashMap::new();
        for job in jobs {
            let path = dir.join(name(job));
            if let Some(passwords) = read(&path)? {
                known.insert(job, passwords);
            }
        }
        let names: HashSet<OsString> = known.keys().map(|job| name(*job).into()).collect();
        for entry in std::fs::read_dir(&dir).map_err(failed("cannot read"))? {
            let path = entry.map_err(failed("cannot read"))?.path();
            let is_known = path.file_name().is_some_and(|found| names.contains(found));
            if !is_known {
                std::fs::remove_file(&path).map_err(failed("cannot clear"))?;
            }
        }
        Ok(Self { dir, jobs: Arc::new(Mutex::new(known)) })
    }

    /// Keeps the passwords of a job; on return they are on disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn add(&self, job: JobNo, passwords: Vec<SecretString>) -> Result<(), JournalError> {
        if passwords.is_empty() {
            return Ok(());
        }
        let bare: Vec<&str> = passwords.iter().map(ExposeSecret::expose_secret).collect();
        let json = serde_json::to_vec(&bare).expect("texts are always valid JSON");
        write_private(&self.dir.join(name(job)), &json)?;
        self.lock().insert(job, passwords.into());
        Ok(())
    }

    /// A password of a job.
    pub fn get(&self, job: JobNo, secret: u32) -> Option<SecretString> {
        self.lock().get(&job)?.get(secret as usize).cloned()
    }

    /// Forgets the passwords of a job. What cannot be removed now is at the next start.
    pub fn forget(&self, job: JobNo) {
        let path = self.dir.join(name(job));
        if self.lock().remove(&job).is_some()
            && let Err(error) = std::fs::remove_file(&path)
        {
            error!(path = %path.display(), %error, "passwords that are no longer used are still in their file");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobNo, Arc<[SecretString]>>> {
        // A panic leaves no half-done change behind.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(job: JobNo) -> String {
    format!("{job}.json")
}

fn read(path: &Path) -> Result<Option<Arc<[SecretString]>>, JournalError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let mode = metadata.permissions().mode() & 0o777;
            let detail = format!("has mode {mode:03o}: others can read it; chmod 600 it");
            return Err(JournalError::Unsafe { path: path.to_owned(), detail });
        }
        _ => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Vec<SecretString>>(&bytes) {
            Ok(passwords) => Ok(Some(passwords.into())),
            Err(_) => {
                let detail = "is not a JSON list of passwords".to_owned();
                Err(JournalError::Corrupt { path: path.to_owned(), detail })
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::File { what: "cannot read", path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_lie_in_private_files_as_long_as_their_jobs_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = TaskSecrets::open(dir.path(), std::iter::empty()).unwrap();
        let passwords = |texts: &[&str]| texts.iter().map(|text| SecretString::from(*text)).collect();
        secrets.add(1, passwords(&["p%40:/#w", "x"])).unwrap();
        secrets.add(2, passwords(&["y"])).unwrap();
        secrets.add(3, vec![]).unwrap();
        let path = dir.path().join(DIRECTORY).join("1.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{secrets:?}").contains("p%40"));
        // Of the second nothing is known any more.
        let again = TaskSecrets::open(dir.path(), [1, 3].into_iter()).unwrap();
        let shown = |job, secret| again.get(job, secret).map(|password| password.expose_secret().to_owned());
        assert_eq!((shown(1, 0).as_deref(), shown(1, 1).as_deref()), (Some("p%40:/#w"), Some("x")));
        assert_eq!((shown(1, 2), shown(2, 0), shown(3, 0)), (None, None, None));
        assert!(!dir.path().join(DIRECTORY).join("2.json").exists());
        again.forget(1);
        assert!(!path.exists() && again.get(1, 0).is_none());

        std::fs::write(&path, "p%40:/#w").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = TaskSecrets::open(dir.path(), [1].into_iter()).unwrap_err().to_string();
        assert!(error.contains("1.json") && !error.contains("p%40"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(TaskSecrets::open(dir.path(), [1].into_iter()).unwrap_err().to_string().contains("chmod 600"));
    }
}
