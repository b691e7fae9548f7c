//! A service account: its key pair, its key file, and the JWTs that are signed with it.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

/// The account's name.
pub(super) const EMAIL: &str = "hauler@testbed.iam.gserviceaccount.com";
/// The project it belongs to.
pub(super) const PROJECT: &str = "testbed";

/// The longest life a JWT may claim, in seconds: an hour, and what clients allow for clocks that differ.
const MAX_LIFE: i64 = 3600 + 60;
/// How far ahead a client's clock may be, in seconds.
const MAX_AHEAD: i64 = 60;
/// Whom assertions are for. Some clients write this one whatever the key file's `token_uri` says.
const GOOGLE_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Scopes with which objects may be written.
const SCOPES: [&str; 3] = [
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/devstorage.full_control",
    "https://www.googleapis.com/auth/devstorage.read_write",
];

/// A service account with a key pair of its own.
#[derive(Debug)]
pub(super) struct Account {
    key: KeyPair,
    key_id: String,
    endpoint: String,
}

/// What is wrong with a JWT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It was good until then.
    Expired,
    /// It never was, for this reason.
    Invalid(String),
}

/// What a JWT is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// As it is, in place of an access token.
    Access,
    /// To be exchanged for one.
    Assertion,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: Option<String>,
    aud: Option<String>,
    scope: Option<String>,
    iat: i64,
    exp: i64,
}

impl Account {
    /// Makes an account. `endpoint` is where the server listens.
    pub(super) fn generate(endpoint: &str) -> Account {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key can be made wherever there is memory");
        Account { key, key_id: format!("{:032x}", fastrand::u128(..)), endpoint: endpoint.to_owned() }
    }

    /// The key file, as Cloud Storage's clients want it.
    pub(super) fn key_file(&self) -> Value {
        let der: Pkcs8V1Der<'_> = self.key.as_der().expect("a key that was made here can be written");
        let base64 = BASE64_STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in base64.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self.key_id,
            "private_key": pem,
            "client_email": EMAIL,
            "client_id": "100000000000000000001",
            "token_uri": self.token_uri(),
            "universe_domain": "googleapis.com",
        })
    }

    fn token_uri(&self) -> String {
        format!("{}/token", self.endpoint)
    }

    /// Checks a JWT for a use at a time, in seconds since 1970; returns the seconds it has still to live.
    pub(super) fn verify(&self, jwt: &str, purpose: Use, now: i64) -> Result<i64, Wrong> {
        let invalid = |why: &str| Wrong::Invalid(why.to_owned());
        let (signed, signature) = jwt.rsplit_once('.').ok_or_else(|| invalid("it has no signature"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| invalid("it has no claims"))?;
        let header: Header = part(header).ok_or_else(|| invalid("its header cannot be read"))?;
        let claims: Claims = part(claims).ok_or_else(|| invalid("its claims cannot be read"))?;
        if header.alg != "RS256" {
            return Err(invalid("it is not signed with RS256"));
        }
        if header.kid.is_some_and(|kid| kid != self.key_id) {
            return Err(invalid("it is signed with another key"));
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid("its signature is not base64"))?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| invalid("its signature is wrong"))?;
        if claims.iss != EMAIL || claims.sub.is_some_and(|sub| sub != EMAIL) {
            return Err(invalid("it is another account's"));
        }
        if claims.iat > now + MAX_AHEAD || claims.exp - claims.iat > MAX_LIFE {
            return Err(invalid("it was issued in the future, or for more than an hour"));
        }
        if claims.exp <= now {
            return Err(Wrong::Expired);
        }
        let has_scope = claims.scope.iter().any(|scopes| scopes.split(' ').any(|scope| SCOPES.contains(&scope)));
        let aud = claims.aud.as_deref().map(|aud| aud.trim_end_matches('/'));
        let good = match purpose {
            Use::Access => match aud {
                Some(aud) => aud == "https://storage.googleapis.com" || aud == self.endpoint,
                None => has_scope,
            },
            Use::Assertion => {
                aud.is_some_and(|aud| aud == GOOGLE_TOKEN_URI || aud == self.token_uri().as_str()) && has_scope
            }
        };
        if good { Ok(claims.exp - now) } else { Err(invalid("neither its audience nor its scope is ours")) }
    }
}

/// A part of a JWT.
fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::RSA_PKCS1_SHA256;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn jwt(account: &Account, header: &Value, claims: &Value) -> String {
        let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; account.key.public_modulus_len()];
        account.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_jwt_is_good_only_with_its_signature_and_all_its_claims() {
        let account = Account::generate("http://127.0.0.1:1");
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": account.key_id});
        let claims = json!({
            "iss": EMAIL, "sub": EMAIL, "iat": NOW - 10, "exp": NOW + 3610,
            "scope": format!("openid {}", SCOPES[0]),
        });
        let with = |key: &str, value: Value| {
            let mut claims = claims.clone();
            claims[key] = value;
            jwt(&account, &header, &claims)
        };
        let verify = |jwt: &str| account.verify(jwt, Use::Access, NOW);
        assert_eq!(verify(&jwt(&account, &header, &claims)), Ok(3610));
        assert_eq!(verify(&with("exp", json!(NOW))), Err(Wrong::Expired));
        for (what, bad) in [
            ("another issuer", with("iss", json!("x"))),
            ("another subject", with("sub", json!("x"))),
            ("from the future", with("iat", json!(NOW + 61))),
            ("for too long", with("exp", json!(NOW + 7200))),
            ("another scope", with("scope", json!("https://www.googleapis.com/auth/pubsub"))),
            ("no scope", with("scope", Value::Null)),
            ("no algorithm", jwt(&account, &json!({"alg": "none"}), &claims)),
            ("another key's id", jwt(&account, &json!({"alg": "RS256", "kid": "x"}), &claims)),
            ("another key", jwt(&Account::generate("http://127.0.0.1:1"), &json!({"alg": "RS256"}), &claims)),
            ("two parts", "a.b".to_owned()),
            ("one part", "a".to_owned()),
        ] {
            assert!(matches!(verify(&bad), Err(Wrong::Invalid(_))), "{what}: {:?}", verify(&bad));
        }
        let mut other = jwt(&account, &header, &claims);
        let at = other.find('.').unwrap() + 20;
        other.replace_range(at..=at, if &other[at..=at] == "A" { "B" } else { "A" });
        assert!(matches!(verify(&other), Err(Wrong::Invalid(_))), "one letter of the claims changed");
    }

    #[test]
    fn an_audience_serves_its_own_use_only() {
        let account = Account::generate("http://127.0.0.1:1");
        let claims = |aud: &str, scope: Option<&str>| {
            let claims = json!({"iss": EMAIL, "iat": NOW, "exp": NOW + 60, "aud": aud, "scope": scope});
            jwt(&account, &json!({"alg": "RS256"}), &claims)
        };
        let good = |jwt: &str, purpose| account.verify(jwt, purpose, NOW).is_ok();
        for aud in ["https://storage.googleapis.com/", "http://127.0.0.1:1"] {
            assert!(good(&claims(aud, None), Use::Access), "{aud}");
            assert!(!good(&claims(aud, Some(SCOPES[2])), Use::Assertion), "{aud}");
        }
        let token_uri = "http://127.0.0.1:1/token";
        assert!(good(&claims(token_uri, Some(SCOPES[2])), Use::Assertion));
        assert!(good(&claims(GOOGLE_TOKEN_URI, Some(SCOPES[2])), Use::Assertion));
        assert!(!good(&claims(token_uri, None), Use::Assertion));
        assert!(!good(&claims(token_uri, Some(SCOPES[2])), Use::Access));
    }

    #[test]
    fn the_key_file_holds_the_private_key_in_pem() {
        let account = Account::generate("http://127.0.0.1:1");
        let file = account.key_file();
        let pem = file["private_key"].as_str().unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
        let read = KeyPair::from_pkcs8(&BASE64_STANDARD.decode(base64).unwrap()).unwrap();
        assert_eq!(read.public_key().as_ref(), account.key.public_key().as_ref());
        assert_eq!(file["token_uri"], "http://127.0.0.1:1/token");
    }
}
