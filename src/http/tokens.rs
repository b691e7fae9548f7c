//! Named tokens: `tokens.json` in the state directory, mode 0600, which holds no token but the SHA-256 of each.
//!
//! `framehaul token` writes it, whether the daemon runs or not; the daemon looks at each request whether it has
//! changed.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::{error, info};

use super::token::{Digest, Token};
use crate::journal::write_private;
use crate::model::UnixMicros;

/// The name of the token that is made at the first start; it lies in a file of its own.
const FIRST: &str = "admin";

/// What a token's owner may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Work on export tasks, and nothing else.
    Worker,
    /// Look.
    Read,
    /// Look, and change.
    Operate,
}

impl Scope {
    /// The scope as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "worker" => Ok(Self::Worker),
            "read" => Ok(Self::Read),
            "operate" => Ok(Self::Operate),
            _ => Err("use `read`, `operate` (which includes read) or `worker` (export tasks alone)"),
        }
    }
}

/// The name of a token: `[a-z0-9][a-z0-9_-]{0,62}`, and not `admin`. It stands in logs and tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenName(Arc<str>);

impl FromStr for TokenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == FIRST {
            return Err("is the name of the token that is made at the first start: choose another".to_owned());
        }
        match text.parse::<crate::model::CameraId>() {
            Ok(name) => Ok(Self(name.as_str().into())),
            Err(_) => Err("use 1 to 63 characters of a-z, 0-9, `_` and `-`, the first a letter or a digit".to_owned()),
        }
    }
}

impl Serialize for TokenName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TokenName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedToken {
    /// What its owner is called.
    pub name: TokenName,
    /// What its owner may do.
    pub scope: Scope,
    sha256: Digest,
    /// When it was made, RFC 3339.
    pub created: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    tokens: Vec<NamedToken>,
}

fn file_in(state_dir: &Path) -> PathBuf {
    state_dir.join("tokens.json")
}

/// All named tokens.
///
/// # Errors
///
/// When the file cannot be read, can be read by others, or holds something else.
pub fn list(state_dir: &Path) -> anyhow::Result<Vec<NamedToken>> {
    Ok(load(&file_in(state_dir))?.1)
}

/// Makes a token and keeps what is to be kept of it.
///
/// # Errors
///
/// When the name is taken, or the file cannot be read or written.
pub fn make(state_dir: &Path, name: TokenName, scope: Scope) -> anyhow::Result<Token> {
    let token = Token::random()?;
    change(state_dir, |tokens| {
        ensure!(
            tokens.iter().all(|known| known.name != name),
            "there is a token `{name}` already: remove it first, or choose another name"
        );
        let created = UnixMicros::now().to_string();
        tokens.push(NamedToken { name, scope, sha256: token.digest(), created });
        Ok(())
    })?;
    Ok(token)
}

/// Forgets a token: the next request that carries it is turned away. Says whether there was one.
///
/// # Errors
///
/// When the file cannot be read or written.
pub fn remove(state_dir: &Path, name: &TokenName) -> anyhow::Result<bool> {
    change(state_dir, |tokens| {
        let before = tokens.len();
        tokens.retain(|known| known.name != *name);
        Ok(tokens.len() < before)
    })
}

fn change<T>(state_dir: &Path, edit: impl FnOnce(&mut Vec<NamedToken>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let there = std::fs::metadata(state_dir).with_context(|| {
        format!("cannot use state directory {}: start the daemon once, or correct `state.dir`", state_dir.display())
    })?;
    // The daemon could not read a file that belongs to somebody else.
    let own = rustix::process::geteuid().as_raw();
    if own != there.uid() {
        bail!(
            "state directory {} belongs to user {}, and this is user {own}: run the command as that user",
            state_dir.display(),
            there.uid()
        );
    }
    // A lock of its own: the file itself is replaced.
    let lock = state_dir.join("tokens.lock");
    let held = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock);
    let held = held.with_context(|| format!("cannot open {}", lock.display()))?;
    flock(&held, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", lock.display()))?;
    let path = file_in(state_dir);
    let (_, mut tokens) = load(&path)?;
    let result = edit(&mut tokens)?;
    tokens.sort_by(|one, other| one.name.0.cmp(&other.name.0));
    let json = serde_json::to_vec_pretty(&Content { tokens }).expect("names and times are always valid JSON");
    write_private(&path, &json)?;
    Ok(result)
}

/// What tells one state of a file from another; `None` where there is no file.
type Stamp = Option<[i64; 7]>;

fn stamp(metadata: &Metadata) -> Stamp {
    let (dev, ino, size) = (metadata.dev() as i64, metadata.ino() as i64, metadata.size() as i64);
    Some([dev, ino, size, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()])
}

fn load(path: &Path) -> anyhow::Result<(Stamp, Vec<NamedToken>)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let metadata = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} has mode {mode:03o}: others can read it; chmod 600 it", path.display());
    let content: Content = serde_json::from_reader(std::io::BufReader::new(file)).map_err(|error| {
        if error.is_io() {
            return anyhow::Error::new(std::io::Error::from(error)).context(format!("cannot read {}", path.display()));
        }
        // What the file holds is not repeated.
        let place = format!("line {} column {}", error.line(), error.column());
        anyhow::anyhow!(
            "{} is no list of tokens, at {place}: restore it, or remove it and make them anew",
            path.display()
        )
    })?;
    Ok((stamp(&metadata), content.tokens))
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The name of the caller's token.
    pub name: Arc<str>,
    /// What the caller may do.
    pub scope: Scope,
    /// What the caller's token is known by.
    pub digest: Digest,
}

/// Every token that opens something: the first one, and the named ones as they are on disk at each look.
#[derive(Debug)]
pub struct Tokens {
    first: Digest,
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    tokens: Vec<NamedToken>,
}

impl Tokens {
    /// The named tokens of a state directory, which are read at the first look. A file that cannot be used refuses them
    /// and says so in the log; the first token is good all the same, and so are the cameras.
    pub fn new(first: &Token, state_dir: &Path) -> Self {
        let known = Known { stamp: None, tokens: Vec::new() };
        Self { first: first.digest(), path: file_in(state_dir), known: Mutex::new(known) }
    }

    /// Whose token this is. Every token is compared, and each whole.
    pub fn find(&self, given: &str) -> Option<Caller> {
        self.find_digest(&Digest::of(given))
    }

    /// Whether this caller's token has not been removed.
    pub fn still_know(&self, caller: &Caller) -> bool {
        self.find_digest(&caller.digest).is_some()
    }

    fn find_digest(&self, given: &Digest) -> Option<Caller> {
        let mut found = None;
        let caller = |name: Arc<str>, scope| Some(Caller { name, scope, digest: given.clone() });
        if self.first.matches(given) {
            found = caller(FIRST.into(), Scope::Operate);
        }
        // Nothing that is done under the lock leaves a half-done change behind.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut known);
        for token in &known.tokens {
            if token.sha256.matches(given) {
                found = caller(token.name.0.clone(), token.scope);
            }
        }
        found
    }

    /// Looks whether the file is another one: so a removed token opens nothing from the next request on. One call of
    /// `stat` costs less than the digest of what was given. A file that cannot be read opens nothing.
    fn refresh(&self, known: &mut Known) {
        let there = match std::fs::metadata(&self.path) {
            Ok(metadata) => stamp(&metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                if !known.tokens.is_empty() {
                    error!(file = %self.path.display(), %error, "named tokens are refused");
                }
                *known = Known { stamp: None, tokens: Vec::new() };
                return;
            }
        };
        if there == known.stamp {
            return;
        }
        match load(&self.path) {
            Ok((stamp, tokens)) => {
                info!(tokens = tokens.len(), "named tokens have changed");
                *known = Known { stamp, tokens };
            }
            Err(error) => {
                // What stands in the file does not mend itself; what the system said may be over at the next look.
                let passing =
                    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() != ErrorKind::InvalidData);
                if !passing || !known.tokens.is_empty() {
                    error!(error = format!("{error:#}"), "named tokens are refused");
                }
                *known = Known { stamp: if passing { None } else { there }, tokens: Vec::new() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, Token) {
        (tempfile::tempdir().unwrap(), Token::random().unwrap())
    }

    fn name(text: &str) -> TokenName {
        text.parse().unwrap()
    }

    #[test]
    fn tokens_are_made_found_and_removed_at_once() {
        let (dir, first) = state();
        let tokens = Tokens::new(&first, dir.path());
        let found = |token: &Token| tokens.find(token.expose()).map(|caller| (caller.name.to_string(), caller.scope));
        let looks = make(dir.path(), name("grafana"), Scope::Read).unwrap();
        let works = make(dir.path(), name("deploy"), Scope::Operate).unwrap();
        assert_eq!(found(&first), Some(("admin".to_owned(), Scope::Operate)));
        assert_eq!(found(&looks), Some(("grafana".to_owned(), Scope::Read)));
        assert_eq!(found(&works), Some(("deploy".to_owned(), Scope::Operate)));
        let again = make(dir.path(), name("deploy"), Scope::Read).unwrap_err().to_string();
        assert!(again.contains("`deploy`"), "{again}");

        assert!(remove(dir.path(), &name("grafana")).unwrap());
        assert!(!remove(dir.path(), &name("grafana")).unwrap());
        assert_eq!((found(&looks), found(&works).is_some()), (None, true));
        std::fs::remove_file(dir.path().join("tokens.json")).unwrap();
        assert_eq!((found(&works), found(&first).is_some()), (None, true));
    }

    #[test]
    fn the_file_is_private_and_holds_no_token() {
        let (dir, first) = state();
        let token = make(dir.path(), name("a"), Scope::Read).unwrap();
        let path = dir.path().join("tokens.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token.expose()[3..]) && text.contains("sha256"), "{text}");

        // What is kept of a token opens nothing.
        let tokens = Tokens::new(&first, dir.path());
        let kept = text.split('"').find(|word| word.len() == 64).unwrap();
        let wrong = ["", "a", "admin", "tokens", "constructor", "__proto__", "fh_", kept, &token.expose()[3..]];
        for wrong in wrong.map(str::to_owned).into_iter().chain([format!("fh_{kept}"), format!("{} ", token.expose())])
        {
            assert_eq!(tokens.find(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_trusted_opens_nothing() {
        let (dir, first) = state();
        let token = make(dir.path(), name("a"), Scope::Operate).unwrap();
        let tokens = Tokens::new(&first, dir.path());
        let path = dir.path().join("tokens.json");
        let sound = std::fs::read(&path).unwrap();
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(tokens.find(token.expose()).is_some());
        set(0o644);
        assert!(tokens.find(token.expose()).is_none() && tokens.find(first.expose()).is_some());
        assert!(list(dir.path()).unwrap_err().to_string().contains("chmod 600"));
        set(0o600);
        assert!(tokens.find(token.expose()).is_some());

        for damaged in ["", "{", "[]", r#"{"tokens":[{"name":"../x"}]}"#, r#"{"tokens":[],"more":1}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert!(tokens.find(token.expose()).is_none(), "{damaged}");
            assert!(list(dir.path()).is_err(), "{damaged}");
        }
        std::fs::write(&path, sound).unwrap();
        assert!(tokens.find(token.expose()).is_some());
    }

    #[test]
    fn two_writers_lose_nothing() {
        let (dir, _) = state();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = dir.path();
                scope.spawn(move || {
                    for n in 0..5 {
                        make(dir, name(&format!("w{writer}-{n}")), Scope::Read).unwrap();
                    }
                });
            }
        });
        assert_eq!(list(dir.path()).unwrap().len(), 20);
    }

    #[test]
    fn names_are_plain() {
        for bad in ["", "admin", "A", "a b", "-a", "../a", "a\n", "\u{202e}", &"x".repeat(64)] {
            assert!(bad.parse::<TokenName>().is_err(), "{bad:?}");
        }
        let dir = Path::new("/no/such/state");
        let error = format!("{:#}", make(dir, name("a"), Scope::Read).unwrap_err());
        assert!(error.contains("/no/such/state") && error.contains("state.dir"), "{error}");
    }
}
