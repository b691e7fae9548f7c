//! Takes secrets out of what a child says.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};

/// What stands where a secret stood.
const MASK: &str = "[secret]";

/// Everything but RFC 3986's unreserved characters, so that a password can stand in a URL's user information.
pub const USERINFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Knows every form in which a password may appear in a line of text.
///
/// Media libraries print whole URLs when opening fails. Two nets: the forms of this password, and whatever stands
/// between `://` and `@`.
#[derive(Clone)]
pub struct Scrubber {
    forms: Vec<SecretString>,
}

impl Scrubber {
    /// A scrubber for who logs in somewhere.
    pub fn new(user: Option<&str>, password: Option<&SecretString>) -> Self {
        let Some(password) = password.map(|p| p.expose_secret()) else {
            return Self { forms: Vec::new() };
        };
        let user = user.unwrap_or_default();
        let encoded = utf8_percent_encode(password, USERINFO).to_string();
        // The escapes alone: the password's own letters keep their case.
        let lower = utf8_percent_encode(password, USERINFO)
            .map(|piece| if piece.starts_with('%') { piece.to_lowercase() } else { piece.to_owned() });
        let mut forms = vec![
            lower.collect(),
            BASE64_STANDARD.encode(format!("{user}:{password}")),
            BASE64_STANDARD.encode(password),
            encoded,
            password.to_owned(),
        ];
        // The longest first, so that a form that contains another is taken out whole.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms: forms.into_iter().map(SecretString::from).collect() }
    }

    /// The line without secrets.
    pub fn scrub(&self, line: &str) -> String {
        let mut clean = without_userinfo(line);
        for form in &self.forms {
            if clean.contains(form.expose_secret()) {
                clean = clean.replace(form.expose_secret(), MASK);
            }
        }
        clean
    }
}

/// Masks what stands between `://` and the last `@` before the next blank or quote.
fn without_userinfo(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        clean.push_str(head);
        let end = tail.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')')).unwrap_or(tail.len());
        rest = match tail[..end].rfind('@') {
            Some(at) => {
                clean.push_str(MASK);
                &tail[at..]
            }
            None => tail,
        };
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_the_password_survives() {
        let scrubber = Scrubber::new(Some("u"), Some(&"p%40:/#w".into()));
        for line in [
            "can't open rtsp://u:p%2540%3A%2F%23w@h/a",
            "can't open rtsp://u:p%40:/#w@h/a here",
            "password p%40:/#w",
            "p%2540%3a%2f%23w",
            "Authorization: Basic dTpwJTQwOi8jdw==",
        ] {
            let clean = scrubber.scrub(line);
            for form in ["p%40", "p%2540", "dTpwJTQw"] {
                assert!(!clean.contains(form), "{clean}");
            }
            assert!(clean.contains(MASK), "{clean}");
        }
        assert_eq!(scrubber.scrub("connect to tcp://h:554 refused"), "connect to tcp://h:554 refused");
    }

    #[test]
    fn a_password_keeps_the_case_of_its_letters_when_its_escapes_do_not() {
        let scrubber = Scrubber::new(Some("u"), Some(&"Pa/Ss".into()));
        for line in ["Pa%2fSs", "Pa%2FSs", "Pa/Ss"] {
            assert_eq!(scrubber.scrub(line), MASK);
        }
    }
}
