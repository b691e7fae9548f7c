//! The test bed's Cloud Storage, in a process of its own that counts for nobody.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::{Value, json};
use testbed::oracle::Http;

use crate::setting::Setting;

/// The bucket of all contestants.
pub const BUCKET: &str = "bench";

/// The server. It ends when this is dropped.
pub struct Server {
    child: Child,
    http: Http,
    plain: String,
    tls: String,
    authority: PathBuf,
}

/// An object that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its length.
    pub bytes: u64,
    /// The CRC32C of what has arrived.
    pub crc32c: u32,
}

impl Server {
    /// Starts it. Who signs for it is written into `dir`.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(setting: &Setting, dir: &Path) -> anyhow::Result<Self> {
        let authority = dir.join("authority.pem");
        let mut command = Command::new(&setting.testbed);
        command.args(["gcs", "--bucket", BUCKET, "--discard", "--until-stdin-closes", "--tls-authority"]);
        let mut child = command
            .arg(&authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", setting.testbed.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it is piped")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).context("the server does not tell where it is")?;
        let place = |name: &str| told[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {line}"));
        Ok(Self { plain: place("endpoint")?, tls: place("tls_endpoint")?, child, http: Http::new()?, authority })
    }

    /// Where it is.
    pub fn endpoint(&self, tls: bool) -> &str {
        if tls { &self.tls } else { &self.plain }
    }

    /// The certificate that whoever comes by TLS has to trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Has each upload take so long from the arrival of its last byte.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn latency(&self, ms: u64) -> anyhow::Result<()> {
        let knobs = json!({ "latency_ms": ms }).to_string();
        let (status, body) =
            self.http.send(Method::PUT, &format!("{}/_testbed/knobs", self.plain), None, Some(knobs))?;
        ensure!(status.is_success(), "the server refuses its knobs: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// What is there under a prefix, in the order of its names.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn objects(&self, prefix: &str) -> anyhow::Result<Vec<Object>> {
        let (mut objects, mut page) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/storage/v1/b/{BUCKET}/o?prefix={prefix}%2F&pageToken={page}", self.plain);
            let url = if page.is_empty() { url.trim_end_matches("&pageToken=").to_owned() } else { url };
            let list: Value = serde_json::from_slice(&self.http.get(&url, None)?)?;
            for item in list["items"].as_array().into_iter().flatten() {
                objects.push(Object::read(item).with_context(|| format!("no object: {item}"))?);
            }
            match list["nextPageToken"].as_str() {
                None => return Ok(objects),
                Some(next) => {
                    page = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC).to_string()
                }
            }
        }
    }
}

impl Object {
    fn read(item: &Value) -> Option<Self> {
        let crc32c = BASE64_STANDARD.decode(item["crc32c"].as_str()?).ok()?;
        Some(Self { bytes: item["size"].as_str()?.parse().ok()?, crc32c: u32::from_be_bytes(crc32c.try_into().ok()?) })
    }

    /// The checksum as Cloud Storage and our lists write it.
    pub fn crc32c_text(self) -> String {
        BASE64_STANDARD.encode(self.crc32c.to_be_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
