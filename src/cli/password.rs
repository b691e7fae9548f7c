//! Passwords from files: on a command line every user of the machine could see them.

use std::path::Path;

use secrecy::SecretString;

use super::failure::{Failure, Kind};

/// Reads the password in a file.
pub fn of_file(file: &Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(Kind::Config, format!("cannot read password file {}: {error}", file.display()))
    })?;
    of_text(text)
}

/// A password as it was written into a file or a pipe.
pub fn of_text(mut text: String) -> Result<SecretString, Failure> {
    // What an editor or `echo` adds is not part of it.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(Failure::new(Kind::Usage, "the password is empty: leave the option out for none"));
    }
    Ok(text.into())
}
