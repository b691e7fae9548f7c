//! From a request line to the call it means.

use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;
use super::stats::Requests;
use super::store::{ListQuery, Mark, Preconditions};

/// Entries in a page of a list when the client names no smaller number. Cloud Storage allows no more either.
const LIST_PAGE: i64 = 1000;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    GetKnobs,
    ChangeKnobs,
    GetStats,
    /// The service account's key file.
    GetKey,
    ExpireTokens,
    ExpireUploads,
    /// A signed assertion, to be exchanged for an access token.
    Token,
    /// A question to the metadata server: its path.
    Metadata(String),
    UploadMultipart {
        bucket: String,
    },
    UploadMedia {
        bucket: String,
    },
    UploadStart {
        bucket: String,
    },
    UploadPiece {
        id: String,
    },
    UploadCancel {
        id: String,
    },
    GetMetadata {
        bucket: String,
        name: String,
    },
    GetMedia {
        bucket: String,
        name: String,
    },
    List {
        bucket: String,
    },
    Delete {
        bucket: String,
        name: String,
    },
    GetBucket {
        bucket: String,
    },
    /// A part of the API that is not here, and what to say about it.
    Unsupported(String),
}

impl Call {
    /// Reads the request line.
    pub(super) fn of(method: &Method, uri: &Uri, query: &Query) -> Result<Call, Refusal> {
        // Object names hold slashes, which a client must encode: so the path is cut before it is decoded.
        let path: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let media = query.get("alt") == Some("media");
        Ok(match (method.as_str(), path.as_slice()) {
            ("GET", ["_testbed", "knobs"]) => Call::GetKnobs,
            ("PUT", ["_testbed", "knobs"]) => Call::ChangeKnobs,
            ("GET", ["_testbed", "stats"]) => Call::GetStats,
            ("GET", ["_testbed", "key"]) => Call::GetKey,
            ("POST", ["_testbed", "expire-tokens"]) => Call::ExpireTokens,
            ("POST", ["_testbed", "expire-uploads"]) => Call::ExpireUploads,
            ("POST", ["token"]) => Call::Token,
            ("GET", [""] | ["computeMetadata", ..]) => Call::Metadata(uri.path().to_owned()),
            ("POST", ["upload", "storage", "v1", "b", bucket, "o"]) => {
                let bucket = decode(bucket)?;
                match query.get("uploadType") {
                    Some("multipart") => Call::UploadMultipart { bucket },
                    Some("media") => Call::UploadMedia { bucket },
                    Some("resumable") => Call::UploadStart { bucket },
                    other => {
                        return Err(Refusal::invalid(format!(
                            "uploadType is {other:?}: it must be `multipart`, `media` or `resumable`"
                        )));
                    }
                }
            }
            (method @ ("PUT" | "DELETE"), ["upload", "storage", "v1", "b", _, "o"]) => {
                let id = query.get("upload_id").map(str::to_owned);
                let id = id.ok_or_else(|| Refusal::invalid("Required parameter: upload_id"))?;
                if method == "PUT" { Call::UploadPiece { id } } else { Call::UploadCancel { id } }
            }
            ("GET", ["storage", "v1", "b", bucket]) => Call::GetBucket { bucket: decode(bucket)? },
            ("GET", ["storage", "v1", "b", bucket, "o"]) => Call::List { bucket: decode(bucket)? },
            ("GET", ["storage", "v1", "b", bucket, "o", name]) if !media => {
                Call::GetMetadata { bucket: decode(bucket)?, name: decode(name)? }
            }
            (
                "GET",
                ["storage", "v1", "b", bucket, "o", name] | ["download", "storage", "v1", "b", bucket, "o", name],
            ) => Call::GetMedia { bucket: decode(bucket)?, name: decode(name)? },
            ("DELETE", ["storage", "v1", "b", bucket, "o", name]) => {
                Call::Delete { bucket: decode(bucket)?, name: decode(name)? }
            }
            (method, _) => Call::Unsupported(format!("{method} {} is not part of this testbed", uri.path())),
        })
    }

    /// The object that its path names; an upload's is in its query, or in its body.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Call::GetMetadata { name, .. } | Call::GetMedia { name, .. } | Call::Delete { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether this is about the server itself and no fault applies to it.
    pub(super) fn is_control(&self) -> bool {
        use Call::{ChangeKnobs, ExpireTokens, ExpireUploads, GetKey, GetKnobs, GetStats};
        matches!(self, GetKnobs | ChangeKnobs | GetStats | GetKey | ExpireTokens | ExpireUploads)
    }

    /// Whether it is about tokens: the storage's faults do not apply, and no token is needed to ask for one.
    pub(super) fn is_about_tokens(&self) -> bool {
        matches!(self, Call::Token | Call::Metadata(_))
    }

    /// Whether the latency knobs apply.
    pub(super) fn has_latency(&self) -> bool {
        matches!(
            self,
            Call::UploadMultipart { .. }
                | Call::UploadMedia { .. }
                | Call::UploadPiece { .. }
                | Call::GetMetadata { .. }
                | Call::GetMedia { .. }
        )
    }

    /// Whether it stores an object, or a piece of one.
    pub(super) fn is_upload(&self) -> bool {
        matches!(self, Call::UploadMultipart { .. } | Call::UploadMedia { .. } | Call::UploadPiece { .. })
    }

    /// Whether the answer is an object's bytes.
    pub(super) fn is_media(&self) -> bool {
        matches!(self, Call::GetMedia { .. })
    }

    /// Adds the call to its count.
    pub(super) fn count(&self, requests: &mut Requests) {
        let count = match self {
            Call::GetKnobs | Call::ChangeKnobs | Call::GetStats => return,
            Call::GetKey | Call::ExpireTokens | Call::ExpireUploads => return,
            Call::Token => &mut requests.token_exchange,
            Call::Metadata(_) => &mut requests.metadata,
            Call::UploadStart { .. } => &mut requests.upload_start,
            Call::UploadPiece { .. } => &mut requests.upload_piece,
            Call::UploadCancel { .. } => &mut requests.upload_cancel,
            Call::UploadMultipart { .. } => &mut requests.upload_multipart,
            Call::UploadMedia { .. } => &mut requests.upload_media,
            Call::GetMetadata { .. } => &mut requests.get_metadata,
            Call::GetMedia { .. } => &mut requests.get_media,
            Call::List { .. } => &mut requests.list,
            Call::Delete { .. } => &mut requests.delete,
            Call::GetBucket { .. } => &mut requests.get_bucket,
            Call::Unsupported(_) => &mut requests.unsupported,
        };
        *count += 1;
    }
}

fn decode(segment: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| Refusal::invalid(format!("`{segment}` in the path is not percent-encoded UTF-8")))?;
    if text.is_empty() {
        return Err(Refusal::invalid("an empty name in the path"));
    }
    Ok(text.into_owned())
}

/// The parameters behind the `?`. Those that this server does not know are ignored.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Query {
        let query = uri.query().unwrap_or_default();
        Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, Refusal> {
        self.get(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    Refusal::invalid(format!("Invalid value for parameter `{key}`: `{text}` is not a number"))
                })
            })
            .transpose()
    }

    pub(super) fn preconditions(&self) -> Result<Preconditions, Refusal> {
        Ok(Preconditions {
            generation: self.number("ifGenerationMatch")?,
            generation_not: self.number("ifGenerationNotMatch")?,
            metageneration: self.number("ifMetagenerationMatch")?,
            metageneration_not: self.number("ifMetagenerationNotMatch")?,
        })
    }

    pub(super) fn list(&self) -> Result<ListQuery, Refusal> {
        let after = match self.get("pageToken").filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => Some(
                Mark::from_token(token)
                    .ok_or_else(|| Refusal::invalid(format!("pageToken `{token}` does not come from this server")))?,
            ),
        };
        let max = self.number("maxResults")?.unwrap_or(LIST_PAGE);
        if max < 1 {
            return Err(Refusal::invalid(format!("maxResults is {max}: it must be at least 1")));
        }
        Ok(ListQuery {
            prefix: self.get("prefix").unwrap_or_default().to_owned(),
            delimiter: self.get("delimiter").filter(|delimiter| !delimiter.is_empty()).map(str::to_owned),
            after,
            max: max.min(LIST_PAGE) as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, uri: &str) -> Call {
        let uri: Uri = uri.parse().unwrap();
        Call::of(&method.parse().unwrap(), &uri, &Query::of(&uri)).unwrap()
    }

    #[test]
    fn request_lines_become_calls() {
        let bucket = || "b".to_owned();
        let name = || "a/ü +%".to_owned();
        for (method, uri, expected) in [
            (
                "POST",
                "/upload/storage/v1/b/b/o?uploadType=multipart&name=x",
                Call::UploadMultipart { bucket: bucket() },
            ),
            ("POST", "/upload/storage/v1/b/b/o?uploadType=resumable", Call::UploadStart { bucket: bucket() }),
            ("PUT", "/upload/storage/v1/b/b/o?upload_id=7", Call::UploadPiece { id: "7".into() }),
            ("DELETE", "/upload/storage/v1/b/b/o?upload_id=7", Call::UploadCancel { id: "7".into() }),
            ("GET", "/computeMetadata/v1/instance/x", Call::Metadata("/computeMetadata/v1/instance/x".into())),
            ("GET", "/storage/v1/b/b/o/a%2F%C3%BC%20+%25", Call::GetMetadata { bucket: bucket(), name: name() }),
            ("GET", "/storage/v1/b/b/o/a%2F%C3%BC%20+%25?alt=media", Call::GetMedia { bucket: bucket(), name: name() }),
            ("GET", "/download/storage/v1/b/b/o/a%2F%C3%BC%20+%25", Call::GetMedia { bucket: bucket(), name: name() }),
            ("GET", "/storage/v1/b/b/o?prefix=x", Call::List { bucket: bucket() }),
            ("DELETE", "/storage/v1/b/b/o/a%2F%C3%BC%20+%25", Call::Delete { bucket: bucket(), name: name() }),
            ("GET", "/storage/v1/b/b", Call::GetBucket { bucket: bucket() }),
        ] {
            assert_eq!(call(method, uri), expected, "{method} {uri}");
        }
        for (method, uri) in [
            ("PATCH", "/storage/v1/b/b/o/x"),
            // A slash that should have been encoded is not forgiven.
            ("GET", "/storage/v1/b/b/o/x/y"),
            ("GET", "/storage/v1/b/b/o/x/b/b/o/y?alt=media"),
            ("GET", "/nowhere"),
        ] {
            assert!(matches!(call(method, uri), Call::Unsupported(_)), "{method} {uri}");
        }
    }
}
