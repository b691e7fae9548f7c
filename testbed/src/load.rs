//! What a bucket can take: uploads by a plain client, so many at a time, as the measure for one that does more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Uploads objects of `bytes` each for a while with so many connections, and returns how many came to be in a second.
///
/// # Errors
///
/// When an upload is not answered with 200.
pub fn uploads_per_s(
    endpoint: &str,
    bucket: &str,
    bytes: usize,
    connections: usize,
    lasts: Duration,
) -> anyhow::Result<f64> {
    // As many threads as the daemon has for its uploads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the load generator's runtime")?;
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body = Bytes::from(vec![7; bytes]);
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let prefix = format!("{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=load-{connections}");
    runtime.block_on(async {
        let uploads = (0..connections).map(|connection| {
            let (client, body, done, prefix) = (client.clone(), body.clone(), done.clone(), prefix.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if begun.elapsed() >= lasts {
                        break;
                    }
                    let uri = format!("{prefix}-{connection}-{number}&ifGenerationMatch=0");
                    let request = Request::builder().method(Method::POST).uri(uri).body(Full::from(body.clone()))?;
                    let answer = client.request(request).await.context("an upload has no answer")?;
                    ensure!(answer.status() == StatusCode::OK, "an upload was answered with {}", answer.status());
                    answer.into_body().collect().await.context("an upload's answer breaks off")?;
                    // What comes after the end is not counted: the time is not either.
                    if begun.elapsed() < lasts {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::Ok(())
            })
        });
        for upload in uploads.collect::<Vec<_>>() {
            upload.await.context("the load generator panicked")??;
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(done.load(Ordering::Relaxed) as f64 / lasts.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcs::{GcsServer, Knobs, Options};

    #[test]
    fn the_rate_is_the_servers() {
        let knobs = Knobs { uploads_per_s: Some(50), latency_ms: 100, ..Knobs::default() };
        let gcs =
            GcsServer::start(Options { buckets: vec!["load".into()], discard: true, knobs, ..Options::default() })
                .unwrap();
        let rate =
            |connections| uploads_per_s(&gcs.endpoint(), "load", 1_000, connections, Duration::from_secs(2)).unwrap();
        // Two connections wait for the latency, twenty for their turns.
        let (few, many) = (rate(2), rate(20));
        assert!((10.0..=20.0).contains(&few), "{few}");
        assert!((30.0..=51.0).contains(&many), "{many}");
        assert_eq!(gcs.stats().requests.upload_media, gcs.stats().puts_stored);
    }
}
