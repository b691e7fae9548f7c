//! How a password gets into a child: by its pipe, and into a URL only in the child's own memory.

use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize as _, Serializer};

use super::scrub::USERINFO;

/// Writes a password, for a pipe to a process of ours and nothing else.
///
/// # Errors
///
/// The serializer's.
pub fn expose<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|s| s.expose_secret()).serialize(serializer)
}

/// A URL with user and password in it: media libraries know them only as part of one.
pub fn with_credentials(url: &str, user: Option<&str>, password: Option<&SecretString>) -> String {
    let Some(user) = user else { return url.to_owned() };
    let mut userinfo = utf8_percent_encode(user, USERINFO).to_string();
    if let Some(password) = password {
        userinfo.push(':');
        userinfo.extend(utf8_percent_encode(password.expose_secret(), USERINFO));
    }
    url.replacen("://", &format!("://{userinfo}@"), 1)
}
