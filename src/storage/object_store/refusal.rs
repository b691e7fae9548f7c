//! From what the server said to what to do about it.

use std::error::Error;

use ::object_store::client::HttpError;

use crate::storage::{BucketError, BucketErrorKind};

use super::notes::Heard;

/// What is told of a cause at most.
const MAX_CAUSE: usize = 200;

/// An attempt that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) heard: Heard,
    /// The innermost cause, as the crate tells it. Not shown of a refusal, whose text it repeats.
    pub(super) cause: String,
    /// Whether there was no answer. Where nothing was sent to the store, that was whoever gives tokens.
    pub(super) line: bool,
}

impl Failure {
    fn answer(&self) -> Option<(u16, &str)> {
        match &self.heard {
            Heard::Answer { status, code, .. } => Some((*status, code)),
            Heard::Nothing | Heard::Silence { .. } => None,
        }
    }

    /// Whether a put was refused because there is an object. Azure answers 409; 412 is said of any condition; 403 to
    /// whoever may create blobs and not write them.
    pub(super) fn is_an_object(&self) -> bool {
        matches!(
            self.answer(),
            Some(
                (304 | 412, _)
                    | (409, "BlobAlreadyExists" | "BlobImmutableDueToPolicy" | "InvalidBlobType")
                    | (403, "UnauthorizedBlobOverwrite")
            )
        )
    }

    /// Whether there is no such upload in parts, or not any more.
    pub(super) fn is_no_upload(&self) -> bool {
        matches!(self.answer(), Some((404, "NoSuchUpload") | (400, "InvalidBlockList")))
    }

    /// Whether a read was refused because there is no object, though there is a bucket.
    pub(super) fn is_no_object(&self) -> bool {
        matches!(self.answer(), Some((404, code)) if !is_bucket_missing(code))
    }

    /// Whether others may help. What says nothing more counts: servers differ in their words.
    pub(super) fn is_about_credentials(&self) -> bool {
        match self.answer() {
            Some((401, _) | (403, "" | "AuthorizationFailure")) => true,
            Some((_, code)) => is_credential_code(code),
            None => self.heard == Heard::Nothing,
        }
    }

    /// Whether the answer shows that the credentials are good.
    pub(super) fn tells_that_we_are_known(&self) -> bool {
        self.answer().is_some_and(|(status, _)| status < 500) && !self.is_about_credentials()
    }
}

fn is_credential_code(code: &str) -> bool {
    matches!(
        code,
        "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidSecurity"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation"
    )
}

fn is_bucket_missing(code: &str) -> bool {
    matches!(code, "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "ResourceNotFound")
}

/// Whether Amazon says that the bucket is elsewhere. An answer to HEAD has no room for a code.
fn is_another_region(status: u16, code: &str, region: Option<&str>) -> bool {
    match code {
        "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => true,
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" => (300..400).contains(&status),
        _ => (300..400).contains(&status) && region.is_some(),
    }
}

/// Maps the crate's errors to ours, by status and the store's own code.
pub(super) fn map_error(label: &str, remedy: &str, permission: &str, failure: &Failure) -> BucketError {
    use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};
    let error = |kind, maybe_stored, retry_after, cause: &str, way_out: &str| {
        let message =
            if way_out.is_empty() { format!("{label}: {cause}") } else { format!("{label}: {cause}: {way_out}") };
        BucketError { kind, maybe_stored, retry_after, message }
    };
    let (status, code, retry_after, region) = match &failure.heard {
        // As in an outage of the network: it passes, and nobody has refused anything.
        Heard::Nothing if failure.line => {
            return error(Transient, false, None, &format!("no credentials could be had: {}", failure.cause), "");
        }
        Heard::Nothing => {
            return error(Auth, false, None, &format!("no credentials could be had: {}", failure.cause), remedy);
        }
        Heard::Silence { cause, connected } => return error(Transient, *connected, None, cause, ""),
        Heard::Answer { status, code, retry_after, region } => {
            (*status, code.as_str(), *retry_after, region.as_deref())
        }
    };
    let (kind, way_out) = match (status, code) {
        (200..=299, _) => (Transient, String::new()),
        (429 | 503, _) | (_, "SlowDown" | "ServerBusy") => (Throttled, String::new()),
        (501, _) => (Permanent, "the server must know `If-None-Match: *`".to_owned()),
        (408 | 500.., _) => (Transient, String::new()),
        // Bytes were damaged on the way, or came too slowly.
        (
            400,
            "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "Md5Mismatch"
            | "Crc64Mismatch"
            | "IncompleteBody"
            | "RequestTimeout",
        ) => (Transient, String::new()),
        (_, "RequestTimeTooSkewed") => (Auth, "set this machine's clock".to_owned()),
        _ if is_another_region(status, code, region) => {
            let there = region.map_or_else(|| "another".to_owned(), |region| format!("the {region}"));
            (NotFound, format!("the bucket is in {there} region: set the destination's `region`"))
        }
        // A gateway's, on the way to a login page for example.
        (300..=399, _) => {
            (NotFound, "it sends requests elsewhere, where none is sent: check the destination's `endpoint`".to_owned())
        }
        (401, _) | (403, "" | "AuthorizationFailure") => (Auth, format!("{remedy}, or grant {permission}")),
        (_, code) if is_credential_code(code) => (Auth, remedy.to_owned()),
        (403, _) => (Auth, format!("grant {permission}")),
        (_, code) if status == 404 || is_bucket_missing(code) => {
            (NotFound, "there is no such bucket: check the destination's `url`".to_owned())
        }
        // Somebody else is just about to write under this name (ConditionalRequestConflict), and may yet fail.
        (409, _) => (Transient, String::new()),
        _ => (Permanent, String::new()),
    };
    let cause = match (status, code) {
        (200..=299, _) => format!("the answer cannot be read: {}", failure.cause),
        (_, "") => format!("the server answered {status}"),
        (_, code) => format!("the server answered {status} ({code})"),
    };
    // A status is the server's word that it stored nothing, save 5xx, after which no store promises anything.
    let maybe_stored = !(300..500).contains(&status);
    error(kind, maybe_stored, retry_after, &cause, &way_out)
}

/// The innermost cause, its first line: "Connection refused" rather than "error sending request".
pub(super) fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().chars().take(MAX_CAUSE).collect()
}

/// Whether a request of the crate's got no answer.
pub(super) fn is_of_the_line(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<HttpError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use ::object_store::client::HttpErrorKind;

    use super::*;

    #[test]
    fn a_token_that_cannot_be_had_for_a_moment_is_no_refusal() {
        let generic = |source| ::object_store::Error::Generic { store: "S3", source };
        let silent = generic(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other("no answer")).into());
        let refused = generic("the token server answered 403".into());
        for (error, kind) in [(silent, BucketErrorKind::Transient), (refused, BucketErrorKind::Auth)] {
            let failure = Failure { heard: Heard::Nothing, cause: deepest(&error), line: is_of_the_line(&error) };
            assert!(failure.is_about_credentials(), "others are made all the same");
            let error = map_error("s3://frames", "check it", "s3:PutObject", &failure);
            assert_eq!((error.kind, error.maybe_stored), (kind, false), "{error}");
        }
    }
}
