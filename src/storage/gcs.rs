//! Google Cloud Storage: the only user of its crate.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_auth::credentials::{self, Credentials as GoogleCredentials};
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;

use super::{Bucket, BucketError, BucketErrorKind, Created, ObjectInfo};
use crate::config::Credentials;

/// The longest wait a server may ask for: a slip of its clock must not park a frame for days.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A bucket of Cloud Storage, or of an emulator that speaks its JSON API.
///
/// The crate is asked for one attempt at a time: it sets no deadline on an attempt and its throttler never forgets an
/// outage, so deadlines and retries are ours.
#[derive(Debug)]
pub struct GcsBucket {
    storage: Storage,
    /// `projects/_/buckets/NAME`, the name the crate's API wants.
    resource: String,
    bucket: String,
    prefix: String,
    label: String,
}

impl GcsBucket {
    /// Makes a client. Nothing is sent before the first object.
    ///
    /// # Errors
    ///
    /// [`BucketErrorKind::Auth`] when the credentials cannot be found or read.
    pub async fn open(
        bucket: &str,
        prefix: &str,
        endpoint: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Self, BucketError> {
        let auth = |what: String| BucketError {
            kind: BucketErrorKind::Auth,
            maybe_stored: false,
            retry_after: None,
            message: format!("gs://{bucket}: {what}"),
        };
        let credentials = match credentials {
            Credentials::Anonymous => credentials::anonymous::Builder::new().build(),
            Credentials::Default => credentials::Builder::default().build().map_err(|error| {
                auth(format!("no application default credentials: {error}: set `storage.credentials`"))
            })?,
            Credentials::KeyFile(path) => read_key(path).map_err(|why| {
                auth(format!("cannot use key file {}: {why}: check `storage.key_file`", path.display()))
            })?,
        };
        let mut builder = Storage::builder().with_credentials(credentials).with_retry_policy(NeverRetry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let storage = builder.build().await.map_err(|error| auth(format!("cannot make a client: {error}")))?;
        Ok(Self {
            storage,
            resource: format!("projects/_/buckets/{bucket}"),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            label: format!("gs://{bucket}"),
        })
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// Neither error's text is shown in full where it could repeat what the file holds.
fn read_key(path: &std::path::Path) -> Result<GoogleCredentials, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| "it is not JSON".to_owned())?;
    credentials::service_account::Builder::new(json).build().map_err(|_| "it is not a service account's key".to_owned())
}

#[async_trait]
impl Bucket for GcsBucket {
    async fn create(&self, key: &str, content: Bytes, crc32c: u32) -> Result<Created, BucketError> {
        let put = self
            .storage
            .write_object(&self.resource, self.name(key), content)
            .set_if_generation_match(0_i64)
            .set_content_type("image/jpeg")
            .with_known_crc32c(crc32c)
            .send_buffered()
            .await;
        match put {
            Ok(_) => Ok(Created::New),
            Err(error) if error.http_status_code() == Some(412) => Ok(Created::Exists),
            Err(error) => Err(map_error(&self.label, &error)),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        // The crate's JSON client has no call for metadata alone; the answer's headers hold them, and its body is left.
        let opened = self.storage.read_object(&self.resource, self.name(key)).send().await;
        match opened {
            Ok(response) => {
                let object = response.object();
                let crc32c = object.checksums.as_ref().and_then(|checksums| checksums.crc32c);
                let bytes = u64::try_from(object.size).unwrap_or_default();
                match crc32c {
                    Some(crc32c) => Ok(Some(ObjectInfo { bytes, crc32c })),
                    None => Err(BucketError {
                        kind: BucketErrorKind::Transient,
                        maybe_stored: true,
                        retry_after: None,
                        message: format!("{}: the server tells no checksum of an object", self.label),
                    }),
                }
            }
            Err(error) if error.http_status_code() == Some(404) => Ok(None),
            Err(error) => Err(map_error(&self.label, &error)),
        }
    }

    fn url(&self, key: &str) -> String {
        format!("gs://{}/{}{key}", self.bucket, self.prefix)
    }

    fn label(&self) -> &str {
        &self.label
    }
}

/// Maps the crate's errors to ours. The retryable statuses are those of Cloud Storage's retry strategy.
fn map_error(label: &str, error: &GaxError) -> BucketError {
    use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};
    let status = error.http_status_code();
    let (kind, way_out) = match status {
        Some(401) => (Auth, ": check `storage.credentials`"),
        Some(403) => (Auth, ": grant the account storage.objects.create on the bucket"),
        Some(404) => (NotFound, ": there is no such bucket: check `storage.url`"),
        Some(429) => (Throttled, ""),
        // 400 is what a wrong checksum is answered with: the bytes were damaged on the way and can be sent again.
        Some(400 | 408 | 500..=599) => (Transient, ""),
        Some(_) => (Permanent, ""),
        None if error.is_authentication() => (Auth, ": check `storage.credentials`"),
        None => (Transient, ""),
    };
    // A status is the server's word that it stored nothing, save 5xx, after which Cloud Storage promises nothing.
    let refused = status.is_some_and(|s| s < 500) || error.is_connect() || error.is_authentication();
    let retry_after = error
        .http_headers()
        .and_then(|headers| headers.get("retry-after"))
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    let cause = match status {
        Some(status) => format!("the server answered {status}"),
        None => deepest(error),
    };
    BucketError { kind, maybe_stored: !refused, retry_after, message: format!("{label}: {cause}{way_out}") }
}

/// The innermost cause: "Connection refused" rather than "error sending request".
fn deepest(error: &GaxError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
