//! Digest logins (RFC 7616 and, for recorders that name no `qop`, RFC 2069): which challenges there are, and what
//! answers one.
//!
//! A module of our own, because the crates for it bring a second copy of each hash.

use std::str::FromStr;

use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// What a recorder's answer of 401 asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Offer {
    /// The best digest that we can compute.
    pub(super) digest: Option<Challenge>,
    /// Whether the password as it is would do.
    pub(super) basic: bool,
    /// Whether it asks for anything at all.
    pub(super) any: bool,
}

impl Offer {
    /// Reads all challenges, in however many headers they stand.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut offer = Self::default();
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for (scheme, fields) in texts.flat_map(challenges) {
            offer.any = true;
            if scheme.eq_ignore_ascii_case("basic") {
                offer.basic = true;
            } else if scheme.eq_ignore_ascii_case("digest")
                && let Some(challenge) = Challenge::of(&fields)
                && offer.digest.as_ref().is_none_or(|best| best.algorithm < challenge.algorithm)
            {
                offer.digest = Some(challenge);
            }
        }
        offer
    }
}

/// A digest challenge. The nonce stays with the algorithm that it came with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Challenge {
    realm: String,
    nonce: String,
    opaque: String,
    algorithm: Algorithm,
    /// The algorithm in the recorder's own spelling; `None` where it names none.
    named: Option<String>,
    /// Whether the hash of user and password is mixed with the nonce once more.
    session: bool,
    /// Whether our nonce goes in as well.
    qop: bool,
    /// Whether it says itself that only the nonce of the answer before was too old.
    pub(super) stale: bool,
}

/// The better one is the greater one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

impl Challenge {
    fn of(fields: &[(String, String)]) -> Option<Self> {
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let named = field("algorithm").filter(|named| !named.is_empty());
        let plain = named.unwrap_or("MD5").to_ascii_uppercase();
        let (hash, session) = plain.strip_suffix("-SESS").map_or((plain.as_str(), false), |hash| (hash, true));
        let algorithm = match hash {
            "MD5" => Algorithm::Md5,
            "SHA-256" | "SHA256" => Algorithm::Sha256,
            _ => return None,
        };
        let qop = field("qop").filter(|qop| !qop.is_empty());
        // Whoever wants the body in the hash and nothing else is not understood.
        if qop.is_some_and(|qop| !qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth"))) {
            return None;
        }
        Some(Self {
            realm: field("realm").unwrap_or_default().to_owned(),
            nonce: field("nonce")?.to_owned(),
            opaque: field("opaque").unwrap_or_default().to_owned(),
            algorithm,
            named: named.map(ToOwned::to_owned),
            session,
            qop: qop.is_some(),
            stale: field("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The header that answers it, for the first request under its nonce. `target` is the path and what follows it, just
    /// as it stands in the request; `own` is our nonce.
    pub(super) fn answer(
        &self,
        user: &str,
        password: &str,
        verb: &str,
        target: &str,
        own: &str,
    ) -> Option<HeaderValue> {
        let hash = |text: String| self.algorithm.hash(&text);
        let Self { realm, nonce, .. } = self;
        let mut secret = hash(format!("{user}:{realm}:{password}"));
        if self.session {
            secret = hash(format!("{secret}:{nonce}:{own}"));
        }
        let request = hash(format!("{verb}:{target}"));
        let response = match self.qop {
            true => hash(format!("{secret}:{nonce}:00000001:{own}:auth:{request}")),
            false => hash(format!("{secret}:{nonce}:{request}")),
        };
        let (user, realm, nonce) = (quoted(user), quoted(realm), quoted(nonce));
        let mut text =
            format!("Digest username={user}, realm={realm}, nonce={nonce}, uri=\"{target}\", response=\"{response}\"");
        if self.qop {
            text += ", qop=auth, nc=00000001";
        }
        if self.qop || self.session {
            text += &format!(", cnonce={}", quoted(own));
        }
        if let Some(named) = self.named.as_deref().filter(|named| named.bytes().all(is_token)) {
            text += &format!(", algorithm={named}");
        }
        // Sent back empty it has broken clients.
        if !self.opaque.is_empty() {
            text += &format!(", opaque={}", quoted(&self.opaque));
        }
        let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The challenges of one header, each with its fields, their names in lower case.
fn challenges(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for part in parts(text) {
        let (word, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let field = if word.contains('=') || rest.trim_start().starts_with('=') {
            part
        } else {
            // What is no field begins a challenge, with its first field behind it.
            all.push((word.to_owned(), Vec::new()));
            rest
        };
        let (Some((_, fields)), Some((name, value))) = (all.last_mut(), field.split_once('=')) else { continue };
        fields.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
    }
    all
}

/// What stands between commas, other than those within quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut within, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b',' if !within => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn unquoted(text: &str) -> String {
    let Some(within) = text.strip_prefix('"') else { return text.to_owned() };
    let within = within.strip_suffix('"').unwrap_or(within);
    let mut escaped = false;
    within
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One header's text, as it stands in an answer.
impl FromStr for Offer {
    type Err = http::header::InvalidHeaderValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(text)?)]);
        Ok(Self::read(&headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Challenge {
        text.parse::<Offer>().unwrap().digest.unwrap()
    }

    #[track_caller]
    fn assert_answers(challenge: &str, [user, password, target, own]: [&str; 4], response: &str) {
        let answer = digest(challenge).answer(user, password, "GET", target, own).unwrap();
        assert!(answer.is_sensitive());
        let text = answer.to_str().unwrap();
        assert!(text.contains(&format!("response=\"{response}\"")), "{text}");
    }

    #[test]
    fn the_standards_own_examples_are_answered_as_they_say() {
        // RFC 7616, 3.9.1.
        let fields = r#"realm="http-auth@example.org", qop="auth, auth-int", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v""#;
        let own = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let of = ["Mufasa", "Circle of Life", "/dir/index.html", own];
        let md5 = format!("Digest {fields}, algorithm=MD5");
        assert_answers(&md5, of, "8ca523f5e9506fed4657c9700eebdbec");
        let sha = format!("Digest {fields}, algorithm=SHA-256");
        assert_answers(&sha, of, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
        // RFC 2617, 3.5.
        let fields = r#"realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#;
        let old = format!(r#"Digest {fields}, qop="auth,auth-int", opaque="5ccc069c403ebaf9f0171e9517f40e41""#);
        let of = ["Mufasa", "Circle Of Life", "/dir/index.html", "0a4f113b"];
        assert_answers(&old, of, "6629fae49393a05397450978507c4ef1");
        // RFC 2069, 2.4, as its errata have it.
        let oldest = format!("Digest {fields}");
        let of = ["Mufasa", "CircleOfLife", "/dir/index.html", "unused"];
        assert_answers(&oldest, of, "1949323746fe6a43ef61f9606e7febea");
    }

    #[test]
    fn recorders_challenges_are_read_as_they_come() {
        let of = |text: &str| {
            let Challenge { realm, nonce, algorithm, qop, stale, .. } = digest(text);
            (realm, nonce, algorithm, qop, stale)
        };
        let recorder = r#"Digest realm="0123456789abcdef01234567", domain="::", qop="auth", nonce="8f2:1700", opaque="", algorithm="MD5", stale="FALSE""#;
        assert_eq!(of(recorder), ("0123456789abcdef01234567".into(), "8f2:1700".into(), Algorithm::Md5, true, false));
        let camera = r#"Digest qop="auth", realm="IP Camera(C2183)", nonce="YWJj=, x", stale="TRUE""#;
        assert_eq!(of(camera), ("IP Camera(C2183)".into(), "YWJj=, x".into(), Algorithm::Md5, true, true));
        let bare = "digest realm=\"a\\\"b\" ,nonce=abc==,  stale = true";
        assert_eq!(of(bare), ("a\"b".into(), "abc==".into(), Algorithm::Md5, false, true));
        let answer = digest(recorder).answer("admin", "x", "GET", "/a?b=c", "own").unwrap();
        let text = answer.to_str().unwrap();
        assert!(
            text.contains("uri=\"/a?b=c\"") && text.contains("algorithm=MD5") && !text.contains("opaque"),
            "{text}"
        );
        let answer = digest(camera).answer("admin", "x", "GET", "/", "own").unwrap();
        assert!(!answer.to_str().unwrap().contains("algorithm"), "{answer:?}");
    }

    #[test]
    fn the_better_algorithm_is_taken_with_its_own_nonce() {
        let two = |first: &str, second: &str| {
            let of = |name: &str| format!("Digest realm=r, nonce=\"of {name}\", qop=auth, algorithm={name}");
            let mut headers = HeaderMap::new();
            for name in [first, second] {
                headers.append(WWW_AUTHENTICATE, of(name).parse().unwrap());
            }
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"r\""));
            let one = format!("{}, {}, Basic realm=r", of(first), of(second)).parse::<Offer>().unwrap();
            assert_eq!(Offer::read(&headers), one);
            assert!(one.basic && one.any);
            one.digest.unwrap().nonce
        };
        assert_eq!(two("MD5", "SHA-256"), "of SHA-256");
        assert_eq!(two("SHA-256", "MD5"), "of SHA-256");
        assert_eq!(two("SHA-512-256", "MD5"), "of MD5");
    }

    #[test]
    fn what_cannot_be_answered_is_no_offer() {
        for text in [
            "Basic realm=\"x\"",
            "Digest realm=\"x\"",
            "Digest realm=x, nonce=y, qop=\"auth-int\"",
            "Digest realm=x, nonce=y, algorithm=SHA-512",
            "Digest",
            "=,=,\"",
            ", ,",
        ] {
            assert_eq!(text.parse::<Offer>().unwrap().digest, None, "{text}");
        }
        assert_eq!(Offer::read(&HeaderMap::new()), Offer::default());
    }
}
