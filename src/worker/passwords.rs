//! Passwords that lie in files of this machine, whose names others have written into a sheet.
//!
//! Such a file may be anything: a pipe that nobody writes into, a device, or one on a mount whose server is gone. So it is
//! opened without waiting for anybody, must be a plain file, and is read on a thread of its own, under a deadline. What
//! hangs for ever hangs alone: such threads are counted, there are few, and no file has more than one of them.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use secrecy::SecretString;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of such a file, at most.
const MOST_BYTES: u64 = 4 << 10;
/// How long reading one may take: far longer than a disk that has to wake up.
const WITHIN: Duration = Duration::from_secs(10);
/// Files that are read at a time. One that hangs keeps its place, as its thread cannot be ended.
const AT_ONCE: usize = 8;

/// Reads passwords from files.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Arc<Semaphore>,
    reads: Arc<Reads>,
    within: Duration,
    read: fn(PathBuf) -> Result<SecretString, String>,
}

impl Default for Passwords {
    fn default() -> Self {
        let (places, reads) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
        Self { places, reads, within: WITHIN, read: first_line }
    }
}

/// Why there is no password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoPassword {
    /// The file has none, or does not answer.
    Unread(String),
    /// It was not looked at: files that do not answer take up all places of this machine.
    NoPlace(String),
}

/// The files that are being read, and since when.
#[derive(Debug, Default)]
struct Reads {
    since: Mutex<HashMap<PathBuf, Instant>>,
    over: Notify,
}

impl Reads {
    fn since(&self) -> MutexGuard<'_, HashMap<PathBuf, Instant>> {
        // Each holder leaves it as it should be.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long a file has been read, if it is.
    fn lasts(&self, file: &Path) -> Option<Duration> {
        self.since().get(file).map(Instant::elapsed)
    }
}

/// The right to read a file, until that is over.
struct Turn {
    reads: Arc<Reads>,
    file: PathBuf,
    _place: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.reads.since().remove(&self.file);
        self.reads.over.notify_waiters();
    }
}

impl Passwords {
    /// The password in a file: its first line.
    ///
    /// # Errors
    ///
    /// When there is none, or it does not come in time: a sentence that names the file and nothing of what is in it.
    pub(super) async fn of_file(&self, file: &Path) -> Result<SecretString, NoPassword> {
        let wrong = |why: &str| format!("password_file {} on this machine {why}", file.display());
        let hangs = || Err(NoPassword::Unread(wrong("does not answer: is its file system away?")));
        // Asked once more it would hang once more, and take another's place.
        if self.reads.lasts(file).is_some_and(|time| time >= self.within) {
            return hangs();
        }
        let turn = match timeout(self.within, self.turn(file)).await {
            Ok(turn) => turn,
            Err(_) if self.reads.lasts(file).is_some() => return hangs(),
            Err(_) => {
                let why = wrong(&format!("was not read: {AT_ONCE} others do not answer, and are waited for"));
                return Err(NoPassword::NoPlace(why));
            }
        };
        let read = self.read;
        let reading = tokio::task::spawn_blocking(move || {
            let turn = turn;
            read(turn.file.clone())
        });
        match timeout(self.within, reading).await {
            Ok(Ok(read)) => read.map_err(|why| NoPassword::Unread(wrong(&why))),
            Ok(Err(error)) => Err(NoPassword::Unread(wrong(&error.to_string()))),
            Err(_) => hangs(),
        }
    }

    /// Waits until a file may be read: for a place, and until nobody else reads it.
    async fn turn(&self, file: &Path) -> Turn {
        loop {
            let mut over = std::pin::pin!(self.reads.over.notified());
            // Before the look, or an end right after it would go unheard.
            over.as_mut().enable();
            if self.reads.lasts(file).is_none() {
                let place = self.places.clone().acquire_owned().await.expect("it is never closed");
                let mut since = self.reads.since();
                if !since.contains_key(file) {
                    since.insert(file.to_owned(), Instant::now());
                    return Turn { reads: self.reads.clone(), file: file.to_owned(), _place: place };
                }
            }
            over.await;
        }
    }
}

fn first_line(path: PathBuf) -> Result<SecretString, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe is opened at once that way, and refused below.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() {
        return Err("is no plain file".to_owned());
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
    match text.lines().next().unwrap_or_default() {
        _ if text.len() as u64 > MOST_BYTES => Err(format!("has more than {MOST_BYTES} bytes")),
        "" => Err("begins with an empty line".to_owned()),
        line => Ok(line.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use secrecy::ExposeSecret as _;

    use super::*;

    async fn told(path: &Path) -> Result<String, String> {
        match Passwords::default().of_file(path).await {
            Ok(password) => Ok(password.expose_secret().to_owned()),
            Err(NoPassword::Unread(why)) => Err(why),
            Err(NoPassword::NoPlace(why)) => panic!("{why}"),
        }
    }

    /// One that waits for whoever opens a pipe for writing, as a read from a mount waits whose server is gone.
    fn patient(path: PathBuf) -> Result<SecretString, String> {
        std::fs::read_to_string(path).map(Into::into).map_err(|error| error.to_string())
    }

    fn pipe(dir: &Path, name: &str) -> PathBuf {
        let pipe = dir.join(name);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        pipe
    }

    #[tokio::test]
    async fn a_password_may_lie_in_a_file_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "pass word\nnotes\n").unwrap();
        assert_eq!(told(&path).await.unwrap(), "pass word");
        for (content, word) in
            [("\n", "empty line"), ("", "empty line"), (&"canary ".repeat(1_000)[..], "more than 4096 bytes")]
        {
            std::fs::write(&path, content).unwrap();
            let why = told(&path).await.unwrap_err();
            assert!(why.contains(word) && !why.contains("canary"), "{why}");
        }
        assert!(told(Path::new("/nowhere/file")).await.unwrap_err().contains("/nowhere/file on this machine"));
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_writes_into_a_device_and_a_directory_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = pipe(dir.path(), "pipe");
        let begun = Instant::now();
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            assert!(told(path).await.unwrap_err().contains("is no plain file"), "{}", path.display());
        }
        assert!(begun.elapsed() < WITHIN / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_file_that_hangs_takes_one_place_and_is_refused_at_once_until_it_answers() {
        let within = Duration::from_millis(50);
        let passwords = Passwords { within, read: patient, ..Passwords::default() };
        let (dir, hung) = (tempfile::tempdir().unwrap(), |why: NoPassword| match why {
            NoPassword::Unread(why) => assert!(why.contains("does not answer"), "{why}"),
            NoPassword::NoPlace(why) => panic!("{why}"),
        });
        let (pipe, file) = (pipe(dir.path(), "pipe"), dir.path().join("file"));
        std::fs::write(&file, "password").unwrap();
        // As many as there are places ask at the same time, and one after the other.
        let asked = (0..AT_ONCE).map(|_| passwords.of_file(&pipe));
        futures_util::future::join_all(asked).await.into_iter().for_each(|told| hung(told.unwrap_err()));
        for _ in 0..AT_ONCE {
            let mut asked = std::pin::pin!(passwords.of_file(&pipe));
            let std::task::Poll::Ready(told) = futures_util::poll!(&mut asked) else { panic!("it is waited for") };
            hung(told.unwrap_err());
        }
        assert_eq!(passwords.places.available_permits(), AT_ONCE - 1);
        assert_eq!(passwords.of_file(&file).await.unwrap().expose_secret(), "password");
        // The pipe answers, and is a file as any other from then on.
        let mut over = std::pin::pin!(passwords.reads.over.notified());
        over.as_mut().enable();
        std::fs::write(&pipe, "late").unwrap();
        over.await;
        std::fs::rename(&file, &pipe).unwrap();
        assert_eq!(passwords.of_file(&pipe).await.unwrap().expose_secret(), "password");
        assert_eq!(passwords.places.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn where_others_take_up_all_places_nothing_is_said_against_a_file() {
        let within = Duration::from_millis(50);
        let passwords = Passwords { within, read: patient, ..Passwords::default() };
        let dir = tempfile::tempdir().unwrap();
        let pipes: Vec<PathBuf> = (0..AT_ONCE).map(|number| pipe(dir.path(), &number.to_string())).collect();
        let asked = pipes.iter().map(|pipe| passwords.of_file(pipe));
        let told = futures_util::future::join_all(asked).await;
        assert!(told.iter().all(|told| matches!(told, Err(NoPassword::Unread(_)))), "{told:?}");
        let file = dir.path().join("file");
        std::fs::write(&file, "password").unwrap();
        let why = passwords.of_file(&file).await.unwrap_err();
        assert!(matches!(&why, NoPassword::NoPlace(why) if why.contains("8 others do not answer")), "{why:?}");
        // One place is enough.
        std::fs::write(&pipes[0], "late").unwrap();
        let passwords = Passwords { within: WITHIN, ..passwords };
        assert_eq!(passwords.of_file(&file).await.unwrap().expose_secret(), "password");
        pipes[1..].iter().for_each(|pipe| std::fs::write(pipe, "late").unwrap());
    }
}
