//! The HTTP client under the buckets whose requests we send ourselves.

use reqwest::redirect::Policy;

/// Follows no redirect. Followed, a put that a gateway leads to its login page becomes a GET, and the page's 200 would
/// be taken for the store's; a signature or a token would go to hosts that nobody has configured, the former in
/// `Referer` as well. Deadlines are the caller's. What is compressed is left so: sizes are compared.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#section-15.4.4>
pub(super) fn client(allow_http: bool) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("framehaul/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .http1_only()
        .https_only(!allow_http)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
}
