//! Who is let in: digest logins, how long a nonce is good, and who is locked out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

use super::knobs::{Challenge, Expiry, Knobs};

/// The most nonces that are remembered: those of before are none of ours then, as after a restart.
const NONCES: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(digest(&SHA256, text.as_bytes()).as_ref()),
        }
    }
}

/// What is found of a request's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    In,
    /// It has none, or none that is asked for.
    Without,
    /// The password is right, the nonce is not good any more.
    Expired,
    /// So many more tries are left, if they are counted; with the last one its address is locked out for so long.
    Wrong {
        left: Option<u32>,
        locked: Option<Duration>,
    },
    /// Its address was locked out before, for so long from now on. Nobody has looked at its login.
    Locked(Duration),
}

/// A request, as far as a login signs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) peer: IpAddr,
    pub(super) method: &'a str,
    /// The path and what follows it.
    pub(super) target: &'a str,
    /// The header `Authorization`.
    pub(super) login: Option<&'a str>,
}

#[derive(Debug)]
struct Nonce {
    algorithm: Algorithm,
    uses: u32,
}

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    locked_until: Option<Instant>,
}

/// The door, with its one key.
#[derive(Debug)]
pub(super) struct Door {
    user: String,
    password: String,
    realm: String,
    nonces: HashMap<String, Nonce>,
    failures: HashMap<IpAddr, Failures>,
    random: fastrand::Rng,
}

impl Door {
    pub(super) fn new(user: &str, password: &str) -> Door {
        let mut random = fastrand::Rng::new();
        let realm = format!("{:024x}", random.u128(..1 << 96));
        let (user, password) = (user.to_owned(), password.to_owned());
        Door { user, password, realm, nonces: HashMap::new(), failures: HashMap::new(), random }
    }

    /// Another password from now on, as after somebody has changed it.
    pub(super) fn change_password(&mut self, password: &str) {
        password.clone_into(&mut self.password);
    }

    /// Judges a request's login, and counts the wrong ones.
    pub(super) fn judge(&mut self, request: Signed<'_>, knobs: &Knobs) -> Verdict {
        let now = Instant::now();
        let failures = self.failures.entry(request.peer).or_default();
        match failures.locked_until {
            Some(until) if until > now => return Verdict::Locked(until - now),
            Some(_) => *failures = Failures::default(),
            None => {}
        }
        let found = self.check(request, knobs);
        let failures = self.failures.entry(request.peer).or_default();
        match found {
            Some(Verdict::In) => failures.count = 0,
            Some(Verdict::Wrong { .. }) => {
                failures.count += 1;
                let left = knobs.lock_after.map(|most| most.saturating_sub(failures.count));
                let locked = (left == Some(0)).then(|| Duration::from_secs_f64(knobs.lock_s));
                failures.locked_until = locked.map(|locked| now + locked);
                return Verdict::Wrong { left, locked };
            }
            _ => {}
        }
        found.unwrap_or(Verdict::Without)
    }

    fn check(&mut self, request: Signed<'_>, knobs: &Knobs) -> Option<Verdict> {
        let (scheme, rest) = request.login?.split_once(' ')?;
        let wrong = Some(Verdict::Wrong { left: None, locked: None });
        if scheme.eq_ignore_ascii_case("basic") {
            if !matches!(knobs.challenge, Challenge::DigestBasic | Challenge::Basic) {
                return None;
            }
            let right = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
            return if rest.trim() == right { Some(Verdict::In) } else { wrong };
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let fields = fields(rest);
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let algorithm = match field("algorithm") {
            "" | "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            _ => return wrong,
        };
        let hash = |text: &str| algorithm.hash(text);
        let secret = hash(&format!("{}:{}:{}", self.user, self.realm, self.password));
        let call = hash(&format!("{}:{}", request.method, request.target));
        let nonce = field("nonce");
        let expected = match field("qop") {
            "" => hash(&format!("{secret}:{nonce}:{call}")),
            qop => hash(&format!("{secret}:{nonce}:{}:{}:{qop}:{call}", field("nc"), field("cnonce"))),
        };
        let right = (field("username"), field("realm"), field("uri"), field("response"))
            == (self.user.as_str(), self.realm.as_str(), request.target, expected.as_str());
        if !right || !asked(knobs.challenge).contains(&algorithm) {
            return wrong;
        }
        let Some(nonce) = self.nonces.get_mut(nonce) else { return Some(Verdict::Expired) };
        // One that was given out for another algorithm.
        if nonce.algorithm != algorithm {
            return wrong;
        }
        nonce.uses += 1;
        let expired = knobs.nonce_uses.is_some_and(|uses| nonce.uses > uses);
        Some(if expired { Verdict::Expired } else { Verdict::In })
    }

    /// The headers `WWW-Authenticate` of a refusal.
    pub(super) fn challenges(&mut self, verdict: Verdict, knobs: &Knobs) -> Vec<String> {
        let expired = verdict == Verdict::Expired;
        if expired && knobs.expiry == Expiry::NoChallenge {
            return Vec::new();
        }
        if self.nonces.len() >= NONCES {
            self.nonces.clear();
        }
        let stale = if expired && knobs.expiry == Expiry::Stale { "TRUE" } else { "FALSE" };
        let mut headers: Vec<String> = asked(knobs.challenge)
            .iter()
            .map(|&algorithm| {
                let nonce = format!("{:032x}:{}", self.random.u128(..), self.random.u32(..));
                let qop = if knobs.no_qop { "" } else { "qop=\"auth\", " };
                let named = match knobs.challenge {
                    Challenge::Unnamed => String::new(),
                    _ => format!("algorithm=\"{}\", ", algorithm.name()),
                };
                let realm = &self.realm;
                let header = format!(
                    "Digest realm=\"{realm}\", domain=\"::\", {qop}nonce=\"{nonce}\", opaque=\"\", {named}\
                     stale=\"{stale}\""
                );
                self.nonces.insert(nonce, Nonce { algorithm, uses: 0 });
                header
            })
            .collect();
        if matches!(knobs.challenge, Challenge::DigestBasic | Challenge::Basic) {
            headers.push(format!("Basic realm=\"{}\"", self.realm));
        }
        headers
    }
}

/// The algorithms that are asked for, in their order.
fn asked(challenge: Challenge) -> &'static [Algorithm] {
    match challenge {
        Challenge::Md5 | Challenge::Unnamed | Challenge::DigestBasic => &[Algorithm::Md5],
        Challenge::Sha256 => &[Algorithm::Sha256],
        Challenge::Basic => &[],
        Challenge::Md5Sha256 => &[Algorithm::Md5, Algorithm::Sha256],
        Challenge::Sha256Md5 => &[Algorithm::Sha256, Algorithm::Md5],
    }
}

/// Reads `a="b, c", d=e`.
fn fields(mut text: &str) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        fields.insert(name, value.trim().to_owned());
        text = rest;
    }
    fields
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_example_is_right() {
        // RFC 7616, 3.9.1.
        let mut door = Door::new("Mufasa", "Circle of Life");
        door.realm = "http-auth@example.org".into();
        for (algorithm, response) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
            door.nonces.insert(nonce.into(), Nonce { algorithm, uses: 0 });
            let login = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                 algorithm={}, nonce=\"{nonce}\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", \
                 qop=auth, response=\"{response}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
                algorithm.name()
            );
            let knobs = Knobs { challenge: Challenge::Md5Sha256, ..Knobs::default() };
            let peer = [127, 0, 0, 1].into();
            let request = Signed { peer, method: "GET", target: "/dir/index.html", login: Some(&login) };
            assert_eq!(door.judge(request, &knobs), Verdict::In);
            let wrong = Verdict::Wrong { left: None, locked: None };
            assert_eq!(door.judge(Signed { method: "POST", ..request }, &knobs), wrong);
            assert_eq!(door.judge(Signed { target: "/dir/index.html?x", ..request }, &knobs), wrong);
            let other = Knobs { challenge: Challenge::Md5, ..Knobs::default() };
            let verdict = if algorithm == Algorithm::Md5 { Verdict::In } else { wrong };
            assert_eq!(door.judge(request, &other), verdict);
        }
    }

    #[test]
    fn nonces_are_not_remembered_for_ever() {
        let mut door = Door::new("admin", "x");
        for _ in 0..=NONCES {
            door.challenges(Verdict::Without, &Knobs::default());
        }
        assert_eq!(door.nonces.len(), 1);
    }

    #[test]
    fn fields_are_read_with_quotes_and_without() {
        let read = fields(r#"username="a, b", qop=auth,nc=00000001, opaque="", uri="/x?a=1&b=2""#);
        for (name, value) in
            [("username", "a, b"), ("qop", "auth"), ("nc", "00000001"), ("opaque", ""), ("uri", "/x?a=1&b=2")]
        {
            assert_eq!(read[name], value);
        }
    }
}
