//! Where cameras may be. A request must not make the daemon read any file or talk to any service of this machine or its
//! neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Host;

use super::{Diagnosis, ErrorKind};
use crate::model::{SourceKind, SourceUrl, Tls};

/// Names under which clouds hand credentials to whoever asks from within.
const METADATA_NAMES: [&str; 6] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
];
/// Their addresses that are not link-local: Alibaba's, Azure's wire server, Oracle's older one.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Amazon's network of its own services, by IPv6.
const AMAZON_V6: [u16; 2] = [0xfd00, 0xec2];
/// Google's and Oracle's.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)];

/// What the configuration allows.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Directory below which files may be played; none where it is not set.
    pub files: Option<PathBuf>,
    /// Whether cameras may be on this machine.
    pub loopback: bool,
}

impl Reach {
    /// Whether a camera may be where this URL says, as far as that can be told without asking anybody: names are not
    /// resolved, links are followed. [`locate`](Self::locate) looks again.
    ///
    /// # Errors
    ///
    /// Why not, and the way out.
    pub fn check(&self, url: &SourceUrl) -> Result<(), String> {
        self.check_spelling(url)?;
        if url.kind() == SourceKind::File
            && let (Some(path), Some(dir)) = (url.path(), &self.files)
            && !resolved(&path).starts_with(resolved(dir))
        {
            return Err(
                "leads by a link out of the directory that `capture.files` in the configuration names".to_owned()
            );
        }
        Ok(())
    }

    /// The same by the URL alone.
    fn check_spelling(&self, url: &SourceUrl) -> Result<(), String> {
        match (url.kind(), url.host()) {
            (SourceKind::V4l2, _) => Ok(()),
            (SourceKind::File, _) => {
                let path = url.path().unwrap_or_default();
                self.check_below(&path, self.files.as_deref())
            }
            (_, Some(Host::Ipv4(address))) => self.check_address(address.into()),
            (_, Some(Host::Ipv6(address))) => self.check_address(address.into()),
            (_, Some(Host::Domain(name))) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                if METADATA_NAMES.contains(&name.as_str()) {
                    return Err("is a cloud's metadata server, and no camera".to_owned());
                }
                if name == "localhost" || name.ends_with(".localhost") {
                    return self.check_address(Ipv4Addr::LOCALHOST.into());
                }
                Ok(())
            }
            (_, None) => Err("names no host".to_owned()),
        }
    }

    fn check_below(&self, path: &Path, dir: Option<&Path>) -> Result<(), String> {
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("holds `..`: write the path without".to_owned());
        }
        match dir {
            None => {
                Err("is a file, and the configuration allows none: set `capture.files` to their directory".to_owned())
            }
            Some(dir) if path.starts_with(dir) => Ok(()),
            Some(_) => {
                Err("is a file outside of the directory that `capture.files` in the configuration names".to_owned())
            }
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), String> {
        let address = embedded(address);
        if address.is_loopback() || address.is_unspecified() {
            return if self.loopback && address.is_loopback() {
                Ok(())
            } else {
                Err("is on this machine, which `capture.loopback` in the configuration has to allow".to_owned())
            };
        }
        let forbidden = match address {
            IpAddr::V4(v4) => {
                v4.is_link_local()
                    || v4.is_broadcast()
                    || v4.octets()[0] == 0
                    || v4.octets()[0] >= 224
                    || METADATA_V4.contains(&v4)
            }
            IpAddr::V6(v6) => {
                v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || v6.segments().starts_with(&AMAZON_V6)
                    || METADATA_V6.contains(&v6)
            }
        };
        if forbidden {
            Err("is an address at which no camera can be: link-local, multicast or a cloud's own".to_owned())
        } else {
            Ok(())
        }
    }

    /// Where a capture process finds the source: a URL by address, so that a name cannot come to mean another host
    /// between the check and the connection, or a path. Only an `https://` whose certificate is verified keeps its
    /// name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], or why it cannot be found.
    pub async fn locate(&self, url: &SourceUrl, tls: Option<Tls>, patience: Duration) -> Result<String, Diagnosis> {
        let forbidden = |why: String| Diagnosis { kind: ErrorKind::Forbidden, message: format!("`url` {why}").into() };
        self.check_spelling(url).map_err(forbidden)?;
        if let Some(path) = url.path() {
            return self.locate_file(url.kind(), path).await;
        }
        let Some(Host::Domain(name)) = url.host() else { return Ok(url.as_str().to_owned()) };
        let unknown = |message: &'static str| Diagnosis { kind: ErrorKind::UnknownHost, message: message.into() };
        let found = match timeout(patience, lookup_host((name.as_str(), url.port()))).await {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect::<Vec<_>>(),
            Ok(Err(_)) => return Err(unknown("the host's name is not known: check the host in `url`")),
            Err(_) => return Err(unknown("the name server does not answer: check the network")),
        };
        for address in &found {
            self.check_address(*address).map_err(forbidden)?;
        }
        // One address is tried, and cameras that have both kinds are more often reached by the older one.
        let chosen = found.iter().find(|address| address.is_ipv4()).or(found.first());
        let chosen = chosen.ok_or_else(|| unknown("the host's name has no address: check the host in `url`"))?;
        if url.kind() == SourceKind::Https && tls.is_none() {
            Ok(url.as_str().to_owned())
        } else {
            Ok(url.at_address(*chosen))
        }
    }

    /// Follows links before the directory is compared, so that none leads out of it.
    async fn locate_file(&self, kind: SourceKind, path: PathBuf) -> Result<String, Diagnosis> {
        let missing = Diagnosis {
            kind: ErrorKind::NotFound,
            message: "there is no such file or device: check the path in `url`".into(),
        };
        let dir = self.files.clone();
        let resolved =
            tokio::task::spawn_blocking(move || (path.canonicalize(), dir.map(|dir| dir.canonicalize()), path));
        let Ok((Ok(resolved), dir, path)) = resolved.await else { return Err(missing) };
        let path = if kind == SourceKind::File {
            let dir = dir.and_then(Result::ok);
            self.check_below(&resolved, dir.as_deref())
                .map_err(|why| Diagnosis { kind: ErrorKind::Forbidden, message: format!("`url` {why}").into() })?;
            resolved
        } else {
            path
        };
        path.into_os_string().into_string().map_err(|_| missing)
    }
}

/// A path without links, as far as it exists; what does not may come later.
fn resolved(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|there| Some(there.canonicalize().ok()?.join(path.strip_prefix(there).ok()?)))
        .unwrap_or_else(|| path.to_owned())
}

/// The IPv4 address that an IPv6 address carries within, if it is one of those that lead there.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if v6.is_loopback() || v6.is_unspecified() {
        return address;
    }
    let s = v6.segments();
    let low = || Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        // Mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), translated (RFC 2765), and NAT64's prefixes (RFC 6052, RFC
        // 8215).
        [0, 0, 0, 0, 0, 0xffff | 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0 | 1, ..] => low().into(),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into(),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SourceUrl {
        SourceUrl::parse(text).unwrap()
    }

    const HERE: [&str; 12] = [
        "rtsp://127.0.0.1/",
        "rtsp://127.9.9.9:8554/",
        "rtsp://2130706433/",
        "rtsp://0x7f000001/",
        "rtsp://127.1/",
        "rtsp://localhost/",
        "http://LOCALHOST./",
        "rtsp://a.localhost/",
        "rtsp://[::1]/",
        "rtsp://[::ffff:127.0.0.1]/",
        "http://[::127.0.0.1]/",
        "rtsp://[64:ff9b::7f00:1]/",
    ];

    #[test]
    fn this_machine_is_out_of_reach_unless_the_configuration_says_otherwise() {
        let (closed, open) = (Reach::default(), Reach { files: None, loopback: true });
        for text in HERE {
            assert!(closed.check(&url(text)).unwrap_err().contains("capture.loopback"), "{text}");
            assert_eq!(open.check(&url(text)), Ok(()), "{text}");
        }
        for text in ["rtsp://0.0.0.0/", "rtsp://[::]/", "rtsp://0/"] {
            assert!(open.check(&url(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn no_camera_is_a_metadata_server() {
        let open = Reach { files: None, loopback: true };
        for text in [
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "rtsp://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://metadata.goog/",
            "rtsp://[64:ff9b:1::a9fe:a9fe]/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://Metadata.Google.Internal./",
            "http://100.100.100.200/",
            "http://168.63.129.16/",
            "rtsp://[fe80::1]/",
            "rtsp://224.0.0.1/",
            "rtsp://255.255.255.255/",
            "rtsp://[ff02::1]/",
            "rtsp://[2002:a9fe:a9fe::1]/",
            "rtsp://[64:ff9b:1::a9fe:a9fe]/",
            "rtsp://[::ffff:0:169.254.169.254]/",
        ] {
            assert!(open.check(&url(text)).is_err(), "{text}");
        }
        for text in ["rtsp://10.0.0.9/", "rtsp://192.168.1.9/", "rtsp://[2001:db8::9]/", "http://cam.example/"] {
            assert_eq!(open.check(&url(text)), Ok(()), "{text}");
        }
    }

    #[tokio::test]
    async fn files_stay_below_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("clips"), dir.path().join("secret"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&outside, "x").unwrap();
        std::fs::write(inside.join("a.mp4"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link.mp4")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        std::os::unix::fs::symlink(&inside, dir.path().join("other-name")).unwrap();
        let reach = Reach { files: Some(inside.clone()), loopback: false };
        let file = |path: &Path| url(&format!("file://{}", path.display()));
        let patience = Duration::from_secs(1);
        assert!(reach.locate(&file(&inside.join("a.mp4")), None, patience).await.is_ok());
        assert!(reach.check(&file(&outside)).is_err());
        assert!(reach.check(&file(&inside.join("../secret"))).is_err());
        for path in ["link.mp4", "up/secret", "up/none.mp4", "up/none/none.mp4"] {
            assert!(reach.check(&file(&inside.join(path))).unwrap_err().contains("by a link"), "{path}");
        }
        for path in ["a.mp4", "none.mp4", "none/none.mp4", "up/clips/a.mp4", "a.mp4/none"] {
            assert_eq!(reach.check(&file(&inside.join(path))), Ok(()), "{path}");
        }
        // Neither the directory's own name nor whether it is there is a camera's fault.
        let other = Reach { files: Some(dir.path().join("other-name")), loopback: false };
        assert_eq!(other.check(&file(&dir.path().join("other-name/a.mp4"))), Ok(()));
        let later = Reach { files: Some(dir.path().join("later")), loopback: false };
        assert_eq!(later.check(&file(&dir.path().join("later/a.mp4"))), Ok(()));
        assert!(Reach::default().check(&file(&inside.join("a.mp4"))).unwrap_err().contains("capture.files"));
        let kind = |located: Result<String, Diagnosis>| located.unwrap_err().kind;
        assert_eq!(kind(reach.locate(&file(&inside.join("link.mp4")), None, patience).await), ErrorKind::Forbidden);
        assert_eq!(kind(reach.locate(&file(&inside.join("none.mp4")), None, patience).await), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_name_is_pinned_to_its_address_and_checked_again() {
        let open = Reach { files: None, loopback: true };
        let located = open.locate(&url("rtsp://localhost:8554/a"), None, Duration::from_secs(5)).await.unwrap();
        assert!(located == "rtsp://127.0.0.1:8554/a" || located == "rtsp://[::1]:8554/a", "{located}");
        let kind = |located: Result<String, Diagnosis>| located.unwrap_err().kind;
        let unknown = open.locate(&url("rtsp://no.such.host.invalid/"), None, Duration::from_secs(5)).await;
        assert_eq!(kind(unknown), ErrorKind::UnknownHost);
    }
}
