//! A bearer token, and what is kept of it.

use std::fmt;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::journal::write_private;

/// By this beginning, programs that look for leaked secrets know ours.
const PREFIX: &str = "fh_";

/// 256 random bits as 64 hexadecimal digits, after `fh_`.
#[derive(Debug)]
pub struct Token(SecretString);

impl Token {
    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("the system has no random bytes")?;
        Ok(Self(format!("{PREFIX}{}", hex(&bytes)).into()))
    }

    /// Reads the token from its file; where there is none, makes one and writes it, mode 0600. Says which it was.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, can be read by others, or holds something too short to be safe.
    pub fn open(path: &Path) -> anyhow::Result<(Self, bool)> {
        match std::fs::metadata(path) {
            Ok(metadata) => {
                check_private(path, &metadata)?;
                let token = Self::read(path)?;
                if token.expose().len() < 32 {
                    bail!(
                        "token file {} holds fewer than 32 characters: remove it, and a new one is made",
                        path.display()
                    );
                }
                Ok((token, false))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = Self::random()?;
                write_private(path, token.expose().as_bytes())?;
                Ok((token, true))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read token file {}", path.display())),
        }
    }

    /// Reads a token from a file that nobody else may read.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); and when others can read it, or it is no plain file.
    pub fn read_private(path: &Path) -> anyhow::Result<Self> {
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot read token file {}", path.display()))?;
        ensure!(metadata.is_file(), "token file {} is no plain file", path.display());
        check_private(path, &metadata)?;
        Self::read(path)
    }

    /// Reads a token from the file of somebody who has one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds something that cannot be sent; the message never repeats it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read token file {}", path.display()))?;
        let text = text.trim();
        let sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(sendable, "token file {} holds no token: one line of plain characters", path.display());
        Ok(Self(text.into()))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.expose())
    }
}

/// Refuses a file that others can read.
fn check_private(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "token file {} has mode {mode:03o}: others can read it; chmod 600 it", path.display());
    Ok(())
}

/// The SHA-256 of a token. That is enough for 256 random bits; a password would need a slow hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of what somebody calls their token.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether both are of the same token, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Whoever prints a token's record prints nothing of the token.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("is no SHA-256 of 64 hexadecimal digits"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_private_and_compared_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let (token, made) = Token::open(&path).unwrap();
        assert!(made);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("fh_") && text.len() == 67);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(token.digest().matches(&Digest::of(&text)));
        for wrong in ["", &text[..66], &format!("{text}0"), &text[3..], &text.to_uppercase()] {
            assert!(!token.digest().matches(&Digest::of(wrong)));
        }
        let (again, made) = Token::open(&path).unwrap();
        assert!(!made && again.expose() == text);
        let shown = format!("{again:?} {:?}", again.digest());
        assert!(!shown.contains(&text[3..]) && !shown.contains(&hex(&again.digest().0)), "{shown}");
        assert_ne!(Token::random().unwrap().expose(), Token::random().unwrap().expose());

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::open(&path).unwrap_err().to_string().contains("chmod 600"));
        let told = Token::read_private(&path).unwrap_err().to_string();
        assert!(told.contains("chmod 600") && !told.contains(&text[3..]), "{told}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(Token::read_private(&path).unwrap().expose(), text);
        assert!(Token::read_private(dir.path()).unwrap_err().to_string().contains("no plain file"));
    }

    #[test]
    fn what_cannot_be_sent_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "  \n", "two words", "fh_1\nfh_2", "fh_\u{e9}"] {
            std::fs::write(file.path(), text).unwrap();
            let error = Token::read(file.path()).unwrap_err().to_string();
            assert!(error.contains("holds no token") && !error.contains("fh_"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest::of("fh_x");
        let text = serde_json::to_string(&digest).unwrap();
        assert!(serde_json::from_str::<Digest>(&text).unwrap().matches(&digest));
        for wrong in ["\"\"".to_owned(), text.replace('"', ""), text.replacen('"', "\"0", 1), "\"+f\"".to_owned()] {
            assert!(serde_json::from_str::<Digest>(&wrong).is_err(), "{wrong}");
        }
    }
}
