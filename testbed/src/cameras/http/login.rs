//! Who may see an HTTP camera: basic authentication (RFC 7617) and digest with MD5 (RFC 7616).

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use md5::{Digest as _, Md5};

use super::super::Challenge;

const REALM: &str = "testbed camera";

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No login came.
    Missing,
    /// It answers a challenge of an earlier server: right or wrong, it must be computed again.
    Stale,
    /// It is wrong.
    Wrong,
}

/// One camera's login.
#[derive(Debug)]
pub(super) struct Gate {
    challenge: Challenge,
    user: String,
    password: String,
    nonce: String,
}

impl Gate {
    pub(super) fn new(challenge: Challenge, user: &str, password: &str) -> Self {
        let nonce = format!("{:032x}", fastrand::u128(..));
        Self { challenge, user: user.to_owned(), password: password.to_owned(), nonce }
    }

    /// What a refusal asks for.
    pub(super) fn challenge(&self, refused: Refused) -> HeaderValue {
        let text = match self.challenge {
            Challenge::Basic => format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""),
            Challenge::Digest => {
                let stale = if refused == Refused::Stale { ", stale=true" } else { "" };
                format!("Digest realm=\"{REALM}\", qop=\"auth\", algorithm=MD5, nonce=\"{}\"{stale}", self.nonce)
            }
        };
        HeaderValue::from_str(&text).expect("printable ASCII")
    }

    /// Judges a request's `Authorization`.
    pub(super) fn check(&self, login: &[u8], method: &str, target: &str) -> Result<(), Refused> {
        let login = str::from_utf8(login).map_err(|_| Refused::Wrong)?;
        let (scheme, rest) = login.split_once(' ').ok_or(Refused::Wrong)?;
        let right = match self.challenge {
            Challenge::Basic if scheme.eq_ignore_ascii_case("basic") => self.basic(rest.trim()),
            Challenge::Digest if scheme.eq_ignore_ascii_case("digest") => return self.digest(rest, method, target),
            _ => false,
        };
        if right { Ok(()) } else { Err(Refused::Wrong) }
    }

    fn basic(&self, encoded: &str) -> bool {
        let expected = format!("{}:{}", self.user, self.password);
        BASE64_STANDARD.decode(encoded).is_ok_and(|login| login == expected.as_bytes())
    }

    fn digest(&self, text: &str, method: &str, target: &str) -> Result<(), Refused> {
        let fields = fields(text).ok_or(Refused::Wrong)?;
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        if field("nonce") != self.nonce {
            return Err(Refused::Stale);
        }
        let (user, password) = (&self.user, &self.password);
        let whose = md5(&format!("{user}:{REALM}:{password}"));
        let what = md5(&format!("{method}:{target}"));
        let (nonce, count, client) = (field("nonce"), field("nc"), field("cnonce"));
        let expected = md5(&format!("{whose}:{nonce}:{count}:{client}:auth:{what}"));
        let right = field("username") == user
            && field("realm") == REALM
            && field("uri") == target
            && field("qop") == "auth"
            && field("response").eq_ignore_ascii_case(&expected);
        if right { Ok(()) } else { Err(Refused::Wrong) }
    }
}

fn md5(text: &str) -> String {
    let hash: [u8; 16] = Md5::digest(text.as_bytes()).into();
    format!("{:032x}", u128::from_be_bytes(hash))
}

/// Reads `name=token, other="quoted \"text\""`, names in small letters.
fn fields(text: &str) -> Option<HashMap<String, String>> {
    let mut fields = HashMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        fields.insert(name.trim().to_ascii_lowercase(), value);
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(fields)
}

/// A quoted text up to its closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (place, character) in text.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &text[place + 1..])),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616, section 3.9.1, with its realm and its nonce.
    #[test]
    fn the_standards_own_example_gives_its_response() {
        let whose = md5("Mufasa:http-auth@example.org:Circle of Life");
        let what = md5("GET:/dir/index.html");
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let client = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let response = md5(&format!("{whose}:{nonce}:00000001:{client}:auth:{what}"));
        assert_eq!(response, "8ca523f5e9506fed4657c9700eebdbec");
    }

    #[test]
    fn fields_are_read_with_their_quotes() {
        let read = fields(r#"Username="a \"b\", c", qop=auth,nc=00000001 , uri="/x?y=z""#).unwrap();
        let expected = [("username", "a \"b\", c"), ("qop", "auth"), ("nc", "00000001"), ("uri", "/x?y=z")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for wrong in ["username", "username=\"open", "a=\"b\" c=d"] {
            assert_eq!(fields(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_digest_is_bound_to_its_nonce_its_target_and_its_password() {
        let gate = Gate::new(Challenge::Digest, "hall", "p:a");
        let answer = |password: &str, nonce: &str, target: &str| {
            let what = md5(&format!("GET:{target}"));
            let whose = md5(&format!("hall:{REALM}:{password}"));
            let response = md5(&format!("{whose}:{nonce}:00000001:c:auth:{what}"));
            format!(
                "Digest username=\"hall\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{target}\", qop=auth, \
                 nc=00000001, cnonce=\"c\", response=\"{response}\""
            )
        };
        let check = |login: &str| gate.check(login.as_bytes(), "GET", "/cam");
        assert_eq!(check(&answer("p:a", &gate.nonce, "/cam")), Ok(()));
        assert_eq!(check(&answer("p:b", &gate.nonce, "/cam")), Err(Refused::Wrong));
        assert_eq!(check(&answer("p:a", &gate.nonce, "/other")), Err(Refused::Wrong));
        assert_eq!(check(&answer("p:a", "earlier", "/cam")), Err(Refused::Stale));
        assert_eq!(check("Basic aGFsbDpwOmE="), Err(Refused::Wrong));
    }

    #[test]
    fn a_basic_login_is_compared_whole() {
        let gate = Gate::new(Challenge::Basic, "hall", "p:a");
        let check = |login: &str| gate.check(login.as_bytes(), "GET", "/cam");
        assert_eq!(check("basic aGFsbDpwOmE="), Ok(()));
        for wrong in ["Basic aGFsbDpwOmI=", "Basic !", "Basic", "Digest username=\"hall\""] {
            assert_eq!(check(wrong), Err(Refused::Wrong), "{wrong}");
        }
    }
}
