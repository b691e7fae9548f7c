//! Google Cloud Storage: the only user of its crate.

mod credentials;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;

use self::credentials::Renewable;
use super::{Bucket, BucketError, BucketErrorKind, ContentType, Created, ObjectInfo};
use crate::config::Credentials;

/// The longest wait a server may ask for: a slip of its clock must not park a frame for days.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A bucket of Cloud Storage, or of an emulator that speaks its JSON API.
///
/// The crate is asked for one attempt at a time: it sets no deadline on an attempt and its throttler never forgets an
/// outage, so deadlines and retries are ours. So is the recovery from tokens that are refused before their time.
#[derive(Debug)]
pub struct GcsBucket {
    storage: Storage,
    credentials: Renewable,
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
        let label = format!("gs://{bucket}");
        let credentials = Renewable::new(credentials, &label).map_err(|why| unauthorized(&label, &why))?;
        let mut builder = Storage::builder().with_credentials(credentials.clone()).with_retry_policy(NeverRetry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let storage =
            builder.build().await.map_err(|error| unauthorized(&label, &format!("cannot make a client: {error}")))?;
        Ok(Self {
            storage,
            credentials,
            resource: format!("projects/_/buckets/{bucket}"),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            label,
        })
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Makes an attempt, and a second one at once where the first was refused for its token and there are new
    /// credentials now. At once, because nothing is wrong with the frame or the line: parked like after a failure,
    /// every frame that is in the air when a token ends would be seconds late.
    async fn attempt<T, F>(&self, attempt: impl Fn() -> F + Send + Sync) -> Result<Result<T, GaxError>, BucketError>
    where
        T: Send,
        F: Future<Output = Result<T, GaxError>> + Send,
    {
        let mut used = self.credentials.number();
        let mut result = attempt().await;
        if result.as_ref().is_err_and(is_about_credentials) {
            if !self.credentials.renew(used).map_err(|why| unauthorized(&self.label, &why))? {
                return Ok(result);
            }
            used = self.credentials.number();
            result = attempt().await;
        }
        // Any answer of the store's own tells that it knew us.
        let known = match &result {
            Ok(_) => true,
            Err(error) => error.http_status_code().is_some_and(|status| status != 401 && status < 500),
        };
        if known {
            self.credentials.accepted(used);
        }
        Ok(result)
    }

    fn error(&self, error: &GaxError, permission: &str) -> BucketError {
        map_error(&self.label, self.credentials.remedy(), permission, error)
    }
}

#[async_trait]
impl Bucket for GcsBucket {
    async fn create(
        &self,
        key: &str,
        content: Bytes,
        crc32c: u32,
        content_type: ContentType,
    ) -> Result<Created, BucketError> {
        let put = || {
            self.storage
                .write_object(&self.resource, self.name(key), content.clone())
                .set_if_generation_match(0_i64)
                .set_content_type(content_type.as_str())
                .with_known_crc32c(crc32c)
                .send_buffered()
        };
        match self.attempt(put).await? {
            Ok(_) => Ok(Created::New),
            Err(error) if error.http_status_code() == Some(412) => Ok(Created::Exists),
            Err(error) => Err(self.error(&error, "storage.objects.create")),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        // The crate's JSON client has no call for metadata alone; the answer's headers hold them, and its body is left.
        let open = || self.storage.read_object(&self.resource, self.name(key)).send();
        match self.attempt(open).await? {
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
            Err(error) => Err(self.error(&error, "storage.objects.get")),
        }
    }

    fn url(&self, key: &str) -> String {
        format!("gs://{}/{}{key}", self.bucket, self.prefix)
    }

    fn label(&self) -> &str {
        &self.label
    }
}

/// Whether an attempt failed for want of a token that the server takes. Nothing is stored then.
fn is_about_credentials(error: &GaxError) -> bool {
    error.http_status_code() == Some(401) || error.is_authentication()
}

fn unauthorized(label: &str, what: &str) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Auth,
        maybe_stored: false,
        retry_after: None,
        message: format!("{label}: {what}"),
    }
}

/// Maps the crate's errors to ours. The retryable statuses are those of Cloud Storage's retry strategy.
fn map_error(label: &str, remedy: &str, permission: &str, error: &GaxError) -> BucketError {
    use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};
    let status = error.http_status_code();
    let (kind, way_out) = match status {
        Some(401) => (Auth, remedy.to_owned()),
        Some(403) => (Auth, format!("grant the account {permission} on the bucket")),
        Some(404) => (NotFound, "there is no such bucket: check `storage.url`".to_owned()),
        Some(429 | 503) => (Throttled, String::new()),
        Some(408 | 500..=599) => (Transient, String::new()),
        // 400 as well: it is said of a key or a frame that will never be taken. Bytes that were damaged on the way are
        // answered with it too; so whoever uploads does not believe the first refusal.
        Some(_) => (Permanent, String::new()),
        None if error.is_authentication() => (Auth, remedy.to_owned()),
        None => (Transient, String::new()),
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
        None if error.is_authentication() => format!("no access token: {}", deepest(error)),
        None => deepest(error),
    };
    let way_out = if way_out.is_empty() { String::new() } else { format!(": {way_out}") };
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
