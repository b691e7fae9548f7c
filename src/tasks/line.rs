//! A task as the line of text that the original's clients read: `USER PASSWORD ADDRESS CHANNEL`.

use secrecy::{ExposeSecret as _, SecretString};

use super::Lease;

/// The line; `None` where one cannot say the task.
pub fn line(lease: &Lease) -> Option<String> {
    let password = lease.password.as_ref().filter(|password| is_word(password))?;
    let address = lease.form.recorder.strip_prefix("http://").unwrap_or(&lease.form.recorder);
    let address = address.strip_suffix(":80").unwrap_or(address);
    let parts = [&*lease.form.user, password.expose_secret(), address, &lease.form.channel];
    Some(parts.join(" "))
}

/// Whether this can stand in a line whose parts have blanks between them.
pub(super) fn is_word(password: &SecretString) -> bool {
    let text = password.expose_secret();
    !text.is_empty() && !text.contains(char::is_whitespace)
}
