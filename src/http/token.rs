//! The API's bearer token.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::journal::write_private;

/// 256 random bits, as 64 hexadecimal digits.
#[derive(Debug)]
pub struct Token(SecretString);

impl Token {
    /// Reads the token from its file; where there is none, makes one and writes it, mode 0600. Says which it was.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, can be read by others, or holds something too short to be safe.
    pub fn open(path: &Path) -> anyhow::Result<(Self, bool)> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    bail!("token file {} has mode {mode:03o}: others can read it; chmod 600 it", path.display());
                }
                let text = text.trim();
                if text.len() < 32 {
                    bail!(
                        "token file {} holds fewer than 32 characters: remove it, and a new one is made",
                        path.display()
                    );
                }
                Ok((Self(text.into()), false))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).context("the system has no random bytes")?;
                let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write_private(path, text.as_bytes())?;
                Ok((Self(text.into()), true))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read token file {}", path.display())),
        }
    }

    /// Whether this is the token, in a time that does not depend on where it differs.
    pub fn matches(&self, given: &str) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(given.as_bytes()).into()
    }
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
        assert_eq!(text.len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(token.matches(&text));
        for wrong in ["", &text[..63], &format!("{text}0"), &text.replace(&text[..1], "x")] {
            assert!(!token.matches(wrong));
        }
        let (again, made) = Token::open(&path).unwrap();
        assert!(!made && again.matches(&text));
        assert!(!format!("{again:?}").contains(&text));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::open(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
