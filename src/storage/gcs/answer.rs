//! Answers to the requests that are our own, and why there was none.

use http::{HeaderMap, StatusCode};
use reqwest::{RequestBuilder, Response};

/// Why there is no answer that can be used.
pub(super) enum Unanswered {
    /// The server said so.
    Refused(StatusCode, HeaderMap),
    /// No answer, or no whole one.
    Broken {
        /// The innermost cause.
        cause: String,
        /// No connection came about.
        connect: bool,
    },
}

/// Sends a request and reads the body of the answer that says yes, `most` bytes at most.
pub(super) async fn answer(request: RequestBuilder, most: usize) -> Result<Vec<u8>, Unanswered> {
    let answer = request.send().await.map_err(broken)?;
    if !answer.status().is_success() {
        return Err(Unanswered::Refused(answer.status(), answer.headers().clone()));
    }
    body(answer, most).await
}

/// Reads the body of an answer, `most` bytes at most.
pub(super) async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>, Unanswered> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        text.extend_from_slice(&chunk);
        if text.len() > most {
            return Err(Unanswered::Broken { cause: "the answer is too long".to_owned(), connect: false });
        }
    }
    Ok(text)
}

/// No answer came. The address is not shown: that of an upload is as good as a password.
pub(super) fn broken(error: reqwest::Error) -> Unanswered {
    let connect = error.is_connect();
    Unanswered::Broken { cause: super::deepest(&error.without_url()), connect }
}
