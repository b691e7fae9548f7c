//! The configuration that a daemon under test gets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;
use url::Url;

/// Where a daemon under test puts its frames.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Under `frames` in its own directory.
    Directory,
    /// In a bucket of an emulator.
    Gcs {
        /// The emulator, `http://host:port`.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// Who the daemon says it is.
        credentials: Credentials,
    },
}

/// Who a daemon under test says it is to the emulator.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// The service account of this key file.
    KeyFile(PathBuf),
    /// Whom the metadata server at this `host:port` says that it is, as on a virtual machine.
    Metadata(String),
}

impl Storage {
    /// What the daemon finds in its environment.
    pub(super) fn environment(&self, dir: &Path) -> Vec<(&'static str, OsString)> {
        match self {
            Storage::Gcs { credentials: Credentials::Metadata(host), .. } => {
                // In the home directory there may be a developer's own credentials, which would be preferred.
                vec![("GCE_METADATA_HOST", host.into()), ("HOME", dir.into())]
            }
            Storage::Directory | Storage::Gcs { .. } => Vec::new(),
        }
    }
}

/// All defaults but its places, a free port, and `more`.
pub(super) fn configuration(dir: &Path, storage: &Storage, more: &str) -> anyhow::Result<String> {
    let state = dir.join("state");
    let state = state.to_str().with_context(|| format!("the path {} is not UTF-8", dir.display()))?;
    // A JSON text is a TOML text.
    let storage = match storage {
        Storage::Directory => {
            let Ok(frames) = Url::from_file_path(dir.join("frames")) else {
                bail!("no file:// URL for {}: it must be an absolute path", dir.display())
            };
            format!("url = {}", json!(frames.as_str()))
        }
        Storage::Gcs { endpoint, bucket, credentials } => {
            let credentials = match credentials {
                Credentials::Anonymous => "credentials = \"anonymous\"".to_owned(),
                Credentials::KeyFile(path) => {
                    let path = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
                    format!("credentials = \"key_file\"\nkey_file = {}", json!(path))
                }
                Credentials::Metadata(_) => "credentials = \"default\"".to_owned(),
            };
            let url = json!(format!("gs://{bucket}"));
            format!("url = {url}\nendpoint = {}\n{credentials}", json!(endpoint))
        }
    };
    let state = json!(state);
    Ok(format!("[state]\ndir = {state}\n[http]\nlisten = \"127.0.0.1:0\"\n[storage]\n{storage}\n{more}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_kept() {
        let text = configuration(Path::new("/tmp/a \"b\""), &Storage::Directory, "").unwrap();
        assert!(text.contains(r#"dir = "/tmp/a \"b\"/state""#), "{text}");
        assert!(text.contains(r#"url = "file:///tmp/a%20%22b%22/frames""#), "{text}");
        assert!(configuration(Path::new("here"), &Storage::Directory, "").is_err());
    }
}
