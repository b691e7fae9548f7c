//! A destination as it is written: the keys that say where a bucket is and who we are there.

use std::path::{Path, PathBuf};

use url::Url;

use super::settings::{Credentials, Destination, Problem};

/// Bytes of a prefix, at most: a name in a bucket has 1,024, and some of them are the key's.
const MAX_PREFIX: usize = 512;

const URLS: &str = "use gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory";

const NAMES: &str = "use letters, digits and . _ = - in names that are neither empty nor only dots";

/// The keys of a destination, in whatever section they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct DestinationKeys<'a> {
    pub url: &'a str,
    pub endpoint: &'a str,
    pub region: &'a str,
    pub credentials: &'a str,
    pub key_file: &'a str,
}

impl DestinationKeys<'_> {
    /// Reads the keys. Problems name them as keys of `section`: `storage`, `destinations.cold`.
    ///
    /// # Errors
    ///
    /// All problems found, not only the first.
    pub(super) fn read(self, section: &str) -> Result<Destination, Vec<Problem>> {
        let mut reader = Reader { section, problems: Vec::new() };
        let destination = reader.destination(self);
        destination.filter(|_| reader.problems.is_empty()).ok_or(reader.problems)
    }
}

impl Destination {
    /// The place that a URL names, with the credentials that the machine has.
    ///
    /// # Errors
    ///
    /// When it names none.
    pub fn at(url: &str) -> Result<Self, Vec<Problem>> {
        DestinationKeys { url, endpoint: "", region: "", credentials: "default", key_file: "" }.read("storage")
    }
}

/// Collects problems while keys are read.
struct Reader<'a> {
    section: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn destination(&mut self, raw: DestinationKeys<'_>) -> Option<Destination> {
        let url = self.that("url", raw.url, |text| Url::parse(text).map_err(|_| URLS.to_owned()))?;
        let is_bare = is_bare(&url) && url.port().is_none();
        if url.scheme() == "file" {
            let dir = url.to_file_path().ok().filter(|_| is_bare && url.host_str().is_none_or(str::is_empty));
            let dir = self.that("url", raw.url, |_| dir.ok_or_else(|| URLS.to_owned()))?;
            return Some(Destination::File { dir });
        }
        let known = matches!(url.scheme(), "gs" | "s3" | "az");
        let bucket = self.that("url", raw.url, |_| match url.host_str() {
            Some(host) if known && is_bare => Ok(host.to_owned()),
            _ => Err(URLS.to_owned()),
        });
        let prefix = bucket.as_ref().and_then(|_| {
            // What would be read as something else than is written, as `..` and blanks are, is not read.
            let prefix = prefix(url.path()).filter(|_| url.as_str() == raw.url);
            self.that("url", raw.url, |_| prefix.ok_or_else(|| format!("{NAMES}, {MAX_PREFIX} bytes at most")))
        });
        let endpoint = self.endpoint(raw.endpoint);
        let credentials = self.credentials(raw);
        let region = self.region(raw.region);
        let (bucket, prefix, endpoint, credentials) = (bucket?, prefix?, endpoint?, credentials?);
        Some(match url.scheme() {
            "gs" => Destination::Gcs { bucket, prefix, endpoint, credentials },
            "s3" => Destination::S3 { bucket, prefix, endpoint, region: region?, credentials },
            _ => Destination::Azure { container: bucket, prefix, endpoint, credentials },
        })
    }

    fn endpoint(&mut self, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return Some(None);
        }
        let endpoint = self.that("endpoint", text, |text| match Url::parse(text) {
            // A name and password would go into requests and messages.
            Ok(url) if matches!(url.scheme(), "http" | "https") && is_bare(&url) => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err("use http://host:port, or leave it empty for the cloud's own".to_owned()),
        });
        endpoint.map(Some)
    }

    /// A region's name becomes part of a host's.
    fn region(&mut self, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return Some(None);
        }
        let region = self.that("region", text, |text| {
            let fits = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if fits { Ok(text.to_owned()) } else { Err("use a region's name, for example eu-central-1".to_owned()) }
        });
        region.map(Some)
    }

    fn credentials(&mut self, raw: DestinationKeys<'_>) -> Option<Credentials> {
        match raw.credentials {
            "key_file" => self.that("key_file", raw.key_file, |text| match Path::new(text) {
                path if path.is_absolute() => Ok(Credentials::KeyFile(PathBuf::from(path))),
                _ => Err("use an absolute path".to_owned()),
            }),
            text => self.that("credentials", text, |text| match text {
                "default" => Ok(Credentials::Default),
                "anonymous" => Ok(Credentials::Anonymous),
                _ => Err("use default, key_file or anonymous".to_owned()),
            }),
        }
    }

    fn that<T>(&mut self, key: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let section = self.section;
        read(text)
            .map_err(|hint| {
                let detail = match may_be_repeated(text) {
                    true if key != "key_file" => format!("is `{text}`: {hint}"),
                    _ => format!("cannot be used: {hint}"),
                };
                self.problems.push(Problem { key: format!("{section}.{key}"), detail });
            })
            .ok()
    }
}

/// Whether a URL is a place and nothing else: no login, no query, no fragment.
fn is_bare(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
}

/// What stands before every key, from a URL's path; `None` where that cannot begin a name.
fn prefix(path: &str) -> Option<String> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if inside.is_empty() {
        return Some(String::new());
    }
    let is_plain = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b)) && !name.bytes().all(|b| b == b'.')
    };
    (inside.len() < MAX_PREFIX && inside.split('/').all(is_plain)).then(|| format!("{inside}/"))
}

/// Whether a message may repeat a value that cannot be read: one that is out of place may be a password.
fn may_be_repeated(text: &str) -> bool {
    text.len() <= 32 && !text.contains(|c: char| c.is_whitespace() || "=@?;".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: DestinationKeys<'_> =
        DestinationKeys { url: "s3://b/some/where/", endpoint: "", region: "", credentials: "default", key_file: "" };

    fn problems(raw: DestinationKeys<'_>) -> Vec<String> {
        raw.read("destinations.cold").unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_of_url_is_a_kind_of_destination() {
        let (bucket, prefix) = ("b".to_owned(), "some/where/".to_owned());
        let (endpoint, credentials) = (None, Credentials::Default);
        let of = |url| DestinationKeys { url, ..PLAIN }.read("storage").unwrap();
        assert_eq!(
            of("gs://b/some/where"),
            Destination::Gcs {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: endpoint.clone(),
                credentials: credentials.clone()
            }
        );
        assert_eq!(
            of("az://b/some/where/"),
            Destination::Azure {
                container: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: endpoint.clone(),
                credentials: credentials.clone()
            }
        );
        assert_eq!(of("s3://b/some/where/"), Destination::S3 { bucket, prefix, endpoint, region: None, credentials });
        let Destination::S3 { prefix, .. } = of("s3://b") else { panic!() };
        assert_eq!(prefix, "");
    }

    #[test]
    fn an_endpoint_a_region_and_a_key_file_are_taken_as_they_are() {
        let raw = DestinationKeys {
            endpoint: "http://127.0.0.1:9000/",
            region: "eu-central-1",
            credentials: "key_file",
            key_file: "/etc/framehaul/key",
            ..PLAIN
        };
        assert_eq!(
            raw.read("storage").unwrap(),
            Destination::S3 {
                bucket: "b".to_owned(),
                prefix: "some/where/".to_owned(),
                endpoint: Some("http://127.0.0.1:9000".to_owned()),
                region: Some("eu-central-1".to_owned()),
                credentials: Credentials::KeyFile("/etc/framehaul/key".into()),
            }
        );
    }

    #[test]
    fn all_problems_are_told_at_once_under_their_section() {
        let wrong = DestinationKeys {
            url: "ftp://b",
            endpoint: "ftp://b",
            region: "EU/1",
            credentials: "key_file",
            key_file: "key",
        };
        assert_eq!(
            problems(wrong),
            [
                format!("destinations.cold.url: is `ftp://b`: {URLS}"),
                "destinations.cold.endpoint: is `ftp://b`: use http://host:port, or leave it empty for the cloud's own"
                    .to_owned(),
                "destinations.cold.key_file: cannot be used: use an absolute path".to_owned(),
                "destinations.cold.region: is `EU/1`: use a region's name, for example eu-central-1".to_owned(),
            ]
        );
        let long = format!("gs://b/{}", "a".repeat(MAX_PREFIX));
        for url in [
            "gs:///x",
            "s3:///x",
            "http://h/b",
            "file://host/x",
            "file:///x?y",
            "file:///x#y",
            "nonsense",
            "s3://key:secret@b",
            "s3://:secret@b",
            "s3://b:9000/x",
            "az://b?sig=x",
            "gs://b/x#y",
            "gs://b/a//b",
            "gs://b//a",
            "gs://b/a/../c",
            "gs://b/a/.../c",
            "gs://b/mein Ordner",
            "gs://b/Büro",
            "gs://b/a%20b",
            " gs://b",
            &long,
        ] {
            assert_eq!(problems(DestinationKeys { url, ..PLAIN }).len(), 1, "{url}");
        }
        for endpoint in
            ["http://key:secret@host", "http://:secret@host", "host:80", "http://host/?sig=x", "http://host/#x"]
        {
            assert_eq!(problems(DestinationKeys { endpoint, ..PLAIN }).len(), 1, "{endpoint}");
        }
        assert_eq!(problems(DestinationKeys { credentials: "mine", ..PLAIN }).len(), 1);
    }

    #[test]
    fn what_may_be_a_password_out_of_place_is_not_repeated() {
        for canary in [
            "AccountName=acc;AccountKey=canary",
            "http://key:canary@host",
            "az://c?sig=canary",
            "canary/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXA",
            "a canary",
        ] {
            let wrong =
                DestinationKeys { url: canary, endpoint: canary, region: canary, credentials: canary, key_file: "" };
            for raw in [wrong, DestinationKeys { url: "s3://b", ..wrong }] {
                let told = problems(raw).join("\n");
                assert!(told.contains("cannot be used: ") && !told.contains("canary"), "{told}");
            }
            let told = problems(DestinationKeys { credentials: "key_file", key_file: canary, ..PLAIN }).join("\n");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
