//! Objects by their URL.

use anyhow::{Context, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::Http;

/// What a URL's path segment takes as it is; everything else, the slash included, is escaped in an object's name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Reads `file://` URLs, and `gs://` ones through a Cloud Storage server at a plain-HTTP address.
#[derive(Debug)]
pub struct Fetcher<'a> {
    http: &'a Http,
    gcs_endpoint: Option<String>,
}

impl<'a> Fetcher<'a> {
    /// `gcs_endpoint` is `http://host:port`, without a path.
    pub fn new(http: &'a Http, gcs_endpoint: Option<&str>) -> Self {
        Self { http, gcs_endpoint: gcs_endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()) }
    }

    /// The object's bytes.
    pub fn fetch(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        if let Some(object) = url.strip_prefix("gs://") {
            let endpoint = self.gcs_endpoint.as_ref().context("a gs:// object needs --gcs-endpoint")?;
            let (bucket, name) = object.split_once('/').with_context(|| format!("no object name in `{url}`"))?;
            let (bucket, name) = (utf8_percent_encode(bucket, ESCAPED), utf8_percent_encode(name, ESCAPED));
            return Ok(self.http.get(&format!("{endpoint}/storage/v1/b/{bucket}/o/{name}?alt=media"), None)?.to_vec());
        }
        let parsed = Url::parse(url).with_context(|| format!("object URL `{url}` is none"))?;
        let Ok(path) = parsed.to_file_path() else { bail!("object URL `{url}` is neither file:// nor gs://") };
        std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
    }
}
