//! Who logs in to which camera, and how such a login was refused.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::Host;

use super::{CameraSpec, UnixMicros};

/// Refusals older than this no longer count: well beyond the longest wait between two logins.
pub const FORGET_REFUSAL_AFTER: Duration = Duration::from_secs(3_600);

/// Who logs in where.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Login {
    /// The host as the URL names it, in lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user; empty where none is named.
    pub user: String,
}

impl Login {
    /// The login that a camera's capture makes; `None` for what is not reached over a network.
    pub fn of(spec: &CameraSpec) -> Option<Self> {
        Some(Self::at(spec.url.host()?, spec.url.port(), spec.user.as_deref().unwrap_or_default()))
    }

    /// The login of this user at this host.
    pub fn at(host: Host<String>, port: u16, user: &str) -> Self {
        // One spelling for each name and each address. A host that goes by two names has two limits: names are not
        // resolved here.
        let host = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => {
                address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string())
            }
        };
        Self { host, port, user: user.to_owned() }
    }
}

/// Tells credentials apart without keeping them: the first 8 bytes of SHA-256 over a salt of this state directory's
/// own, the login and the password.
pub fn fingerprint(salt: &str, login: &Login, password: Option<&SecretString>) -> String {
    let mut hash = Sha256::new();
    for part in [salt, &login.host, &login.user, password.map_or("", |p| p.expose_secret())] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A login that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which.
    pub login: Login,
    /// The credentials' fingerprint.
    pub credentials: String,
    /// When.
    pub at: UnixMicros,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawCameraSpec;

    #[test]
    fn credentials_are_told_apart_and_not_kept() {
        let spec = |json: &str| serde_json::from_str::<RawCameraSpec>(json).unwrap().validate(None).unwrap();
        let a = spec(r#"{"url":"rtsp://h/a","user":"u","password":"s3cret"}"#);
        let b = spec(r#"{"url":"rtsp://h/b","user":"u","password":"other"}"#);
        let login = Login::of(&a).unwrap();
        assert_eq!(Login::of(&b), Some(login.clone()));
        for other in ["rtsp://H./c", "rtsp://h:554/d"] {
            let spelled = spec(&format!(r#"{{"url":"{other}","user":"u","password":"x"}}"#));
            assert_eq!(Login::of(&spelled), Some(login.clone()), "{other}");
        }
        let fingerprint = |salt, of: &CameraSpec| fingerprint(salt, &login, of.password.as_ref());
        assert_ne!(fingerprint("salt", &a), fingerprint("salt", &b));
        assert_ne!(fingerprint("salt", &a), fingerprint("pepper", &a));
        assert_eq!(fingerprint("salt", &a).len(), 16);
    }
}
