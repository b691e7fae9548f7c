//! Google Cloud Storage: the only user of its crate, which gives the credentials and reads objects. Puts and lists are
//! requests of our own.

mod answer;
mod credentials;
mod list;
mod put;
mod resumable;

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider as _};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;
use google_cloud_storage::model::ObjectChecksums;
use google_cloud_storage::read_object::ReadObjectResponse;
use google_cloud_storage::read_resume_policy::NeverResume;
use http::{Extensions, HeaderMap};
use url::Url;

use self::answer::Unanswered;
use self::credentials::Renewable;
use super::bucket::{retry_after, too_large};
use super::client::client;
use super::pieces::{PIECE, Pieces};
use super::tries::put_whole;
use super::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Incoming, ObjectInfo, Page, StreamError,
    Streamed,
};
use crate::config::Credentials;

/// A bucket of Cloud Storage, or of an emulator that speaks its JSON API.
///
/// The crate is asked for one attempt at a time: it sets no deadline on an attempt and its throttler never forgets an
/// outage, so deadlines and retries are ours. So is the recovery from tokens that are refused before their time.
#[derive(Clone, Debug)]
pub struct GcsBucket {
    storage: Storage,
    credentials: Renewable,
    /// `projects/_/buckets/NAME`, the name the crate's API wants.
    resource: String,
    bucket: String,
    prefix: String,
    /// Another server than Cloud Storage's own.
    endpoint: Option<String>,
    /// For what the crate has no call for, or a costly one.
    http: reqwest::Client,
    /// Where puts go, as far as it is known before one is made.
    puts: Option<Url>,
    /// What parts the bodies of puts.
    boundary: put::Boundary,
    base_url: String,
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
        let mut builder = Storage::builder()
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry)
            .with_read_resume_policy(NeverResume);
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
            endpoint: endpoint.map(str::to_owned),
            http: client(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
                .map_err(|error| unauthorized(&label, &format!("cannot make a client: {error}")))?,
            // One that is none is told with the first put.
            puts: endpoint.and_then(|endpoint| put::address(endpoint, bucket).ok()),
            boundary: put::Boundary::new(),
            base_url: format!("gs://{bucket}/{prefix}"),
            label,
        })
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Makes an attempt, and a second one at once where the first was refused for its token and there are new
    /// credentials now. At once, because nothing is wrong with the frame or the line: parked like after a failure,
    /// every frame that is in the air when a token ends would be seconds late.
    async fn attempt<T, F>(&self, attempt: impl Fn() -> F + Send + Sync) -> Result<Result<T, Failure>, BucketError>
    where
        T: Send,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut used = self.credentials.number();
        let mut result = attempt().await;
        if result.as_ref().is_err_and(Failure::is_about_credentials) {
            if !self.credentials.renew(used).map_err(|why| unauthorized(&self.label, &why))? {
                return Ok(result);
            }
            used = self.credentials.number();
            result = attempt().await;
        }
        // Any answer of the store's own tells that it knew us.
        let known = match &result {
            Ok(_) => true,
            Err(failure) => failure.status.is_some_and(|status| status != 401 && status < 500),
        };
        if known {
            self.credentials.accepted(used);
        }
        Ok(result)
    }

    fn error(&self, failure: Failure, permission: &str) -> BucketError {
        map_error(&self.label, self.credentials.remedy(), permission, failure)
    }

    fn untold(&self, what: &str) -> BucketError {
        BucketError {
            kind: BucketErrorKind::Transient,
            maybe_stored: true,
            retry_after: None,
            message: format!("{}: {what}", self.label),
        }
    }

    async fn open_object(&self, key: &str) -> Result<Option<ReadObjectResponse>, BucketError> {
        // The crate's JSON client has no call for metadata alone; the answer's headers hold them, and its body may be
        // left.
        let open = || async move {
            let opened = self.storage.read_object(&self.resource, self.name(key)).send().await;
            opened.map_err(|error| Failure::of(&error))
        };
        match self.attempt(open).await? {
            Ok(response) => Ok(Some(response)),
            Err(failure) if failure.status == Some(404) => Ok(None),
            Err(failure) => Err(self.error(failure, "storage.objects.get")),
        }
    }

    /// The token, as a request's headers.
    async fn headers(&self) -> Result<HeaderMap, Failure> {
        match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            // Only who names a token that it has is told so.
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => {
                let passing = error.is_transient();
                Err(Failure { authentication: true, passing, cause: deepest(&error), ..Failure::default() })
            }
        }
    }

    /// Where requests go that are our own.
    async fn endpoint(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => match self.credentials.universe_domain().await {
                Some(domain) => format!("https://storage.{domain}"),
                None => "https://storage.googleapis.com".to_owned(),
            },
        }
    }

    /// One attempt at a page.
    async fn page(&self, prefix: &str, after: Option<&After>) -> Result<Page, Failure> {
        let headers = self.headers().await?;
        let endpoint = self.endpoint().await;
        let url = list::address(&endpoint, &self.bucket, &self.prefix, prefix, after);
        Ok(list::page(&self.http, url, headers, &self.prefix, after).await?)
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
        let name = self.name(key);
        let put = || async {
            let headers = self.headers().await?;
            let url = match &self.puts {
                Some(url) => Ok(url.clone()),
                None => put::address(&self.endpoint().await, &self.bucket),
            };
            let url = url.map(|url| put::named(url, &name));
            let body = self.boundary.body(content.clone(), crc32c, content_type);
            Ok(put::put(&self.http, url, headers, body).await?)
        };
        let ours = ObjectInfo { bytes: content.len() as u64, crc32c };
        match self.attempt(put).await? {
            Ok(stored) if stored == Some(ours) => Ok(Created::New),
            // A gateway's 200 has a JSON object in it as well. If it is there all the same, the next attempt finds it.
            Ok(_) => Err(self.untold("the answer does not say what is stored")),
            Err(failure) if failure.status == Some(412) => Ok(Created::Exists),
            Err(failure) => Err(self.error(failure, "storage.objects.create")),
        }
    }

    /// The server is told the CRC32C of the whole with the last piece, and refuses the object where it finds another one;
    /// what it says that it has stored must have this one, too.
    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
        let Incoming { content_type, size_hint: _, body, patience } = incoming;
        let mut pieces = Pieces::of(body, PIECE);
        let first = pieces.next().await.map_err(StreamError::Body)?;
        if first.last {
            return Ok(put_whole(self, key, first, content_type, patience).await?);
        }
        resumable::put(self, key, content_type, first, pieces, patience).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let Some(response) = self.open_object(key).await? else { return Ok(None) };
        // Where a server tells no size, the crate reads none.
        let object = response.object();
        let told = info(object.size, object.checksums.as_ref()).filter(|info| info.bytes > 0 || info.crc32c == 0);
        told.map(Some).ok_or_else(|| self.untold("the server does not tell size and checksum of an object"))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let Some(mut response) = self.open_object(key).await? else { return Ok(None) };
        let mut content = Vec::new();
        while let Some(part) = response.next().await {
            let part = part.map_err(|error| self.error(Failure::of(&error), "storage.objects.get"))?;
            content.extend_from_slice(&part);
            if content.len() as u64 > limit {
                return Err(too_large(&self.url(key), limit));
            }
        }
        Ok(Some(content.into()))
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let page = self.attempt(|| self.page(prefix, after)).await?;
        page.map_err(|failure| self.error(failure, "storage.objects.list"))
    }

    fn base_url(&self) -> &str {
        &self.base_url
    }

    fn label(&self) -> &str {
        &self.label
    }
}

/// What the store says of an object that is read; `None` where it does not say enough.
fn info(size: i64, checksums: Option<&ObjectChecksums>) -> Option<ObjectInfo> {
    Some(ObjectInfo { bytes: size.try_into().ok()?, crc32c: checksums?.crc32c? })
}

fn unauthorized(label: &str, what: &str) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Auth,
        maybe_stored: false,
        retry_after: None,
        message: format!("{label}: {what}"),
    }
}

/// An attempt that failed.
#[derive(Debug, Default)]
struct Failure {
    status: Option<u16>,
    retry_after: Option<Duration>,
    /// No connection came about.
    connect: bool,
    /// There was no token.
    authentication: bool,
    /// Whoever gives them could not be asked, or has failed: that passes by itself.
    passing: bool,
    /// The innermost cause, which counts where there was no answer.
    cause: String,
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Refused(status, headers) => {
                Self { status: Some(status.as_u16()), retry_after: retry_after(&headers), ..Self::default() }
            }
            Unanswered::Broken { cause, connect } => Self { connect, cause, ..Self::default() },
        }
    }
}

impl Failure {
    fn of(error: &GaxError) -> Self {
        Self {
            status: error.http_status_code(),
            retry_after: error.http_headers().and_then(retry_after),
            connect: error.is_connect(),
            authentication: error.is_authentication(),
            passing: error
                .source()
                .and_then(|error| error.downcast_ref::<CredentialsError>())
                .is_some_and(CredentialsError::is_transient),
            cause: deepest(error),
        }
    }

    /// Whether it was for want of a token that the server takes. Nothing is stored then.
    fn is_about_credentials(&self) -> bool {
        self.status == Some(401) || self.authentication
    }
}

/// Maps failures to our errors. The retryable statuses are those of Cloud Storage's retry strategy.
fn map_error(label: &str, remedy: &str, permission: &str, failure: Failure) -> BucketError {
    use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};
    let Failure { status, retry_after, connect, authentication, passing, cause } = failure;
    let (kind, way_out) = match status {
        Some(401) => (Auth, remedy.to_owned()),
        Some(403) => (Auth, format!("grant the account {permission} on the bucket")),
        Some(404) => (NotFound, "there is no such bucket: check `storage.url`".to_owned()),
        // 308 is a word of resumable uploads.
        Some(300..=307) => {
            (NotFound, "it sends requests elsewhere, where none is sent: check the destination's `endpoint`".to_owned())
        }
        Some(429 | 503) => (Throttled, String::new()),
        Some(408 | 500..=599) => (Transient, String::new()),
        // 400 as well: it is said of a key or a frame that will never be taken. Bytes that were damaged on the way are
        // answered with it too; so whoever uploads does not believe the first refusal.
        Some(_) => (Permanent, String::new()),
        None if authentication && !passing => (Auth, remedy.to_owned()),
        None => (Transient, String::new()),
    };
    // A status is the server's word that it stored nothing, save 5xx, after which Cloud Storage promises nothing.
    let refused = status.is_some_and(|s| s < 500) || connect || authentication;
    let cause = match status {
        Some(status) => format!("the server answered {status}"),
        None if authentication => format!("no access token: {cause}"),
        None => cause,
    };
    let way_out = if way_out.is_empty() { String::new() } else { format!(": {way_out}") };
    BucketError { kind, maybe_stored: !refused, retry_after, message: format!("{label}: {cause}{way_out}") }
}

/// The innermost cause: "Connection refused" rather than "error sending request".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_had_for_a_moment_is_no_refusal() {
        for (passing, kind) in [(true, BucketErrorKind::Transient), (false, BucketErrorKind::Auth)] {
            let failure = Failure::of(&GaxError::authentication(CredentialsError::from_msg(passing, "no answer")));
            assert!(failure.is_about_credentials(), "others are made all the same");
            let error = map_error("gs://frames", "check it", "storage.objects.create", failure);
            assert_eq!((error.kind, error.maybe_stored), (kind, false), "{error}");
            assert!(error.message.starts_with("gs://frames: no access token: no answer"), "{error}");
        }
    }
}
