//! The script and the counts over HTTP, on a port of their own: all bytes of the other one belong to the target.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::script::Script;
use super::server::{Shared, next};

/// The longest script, bytes.
const MAX_SCRIPT: usize = 1 << 20;

/// Serves requests for ever.
pub(super) async fn accept(listener: &tokio::net::TcpListener, shared: &Arc<Shared>) {
    loop {
        let socket = next(listener).await;
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            // A connection that breaks is the client's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let (status, value) = match (head.method.as_str(), head.uri.path()) {
        ("GET", "/_testbed/script") => (StatusCode::OK, json!(*shared.script.borrow().clone())),
        ("GET", "/_testbed/stats") => (StatusCode::OK, json!(shared.stats(|stats| stats.clone()))),
        ("PUT", "/_testbed/script") => match change(body, shared).await {
            Ok(script) => (StatusCode::OK, json!(script)),
            Err(error) => (StatusCode::BAD_REQUEST, wrong(&format!("{error:#}"))),
        },
        (method, path) => {
            let known = "GET and PUT /_testbed/script, and GET /_testbed/stats, are";
            (StatusCode::NOT_FOUND, wrong(&format!("{method} {path} is not known: {known}")))
        }
    };
    let mut answer = Response::new(Full::from(value.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(answer)
}

async fn change(body: Incoming, shared: &Shared) -> anyhow::Result<Script> {
    let text = Limited::new(body, MAX_SCRIPT).collect().await.map_err(|error| anyhow::anyhow!("no script: {error}"))?;
    let script = Script::read(&text.to_bytes())?;
    shared.set_script(script.clone())?;
    Ok(script)
}

fn wrong(message: &str) -> Value {
    json!({ "error": { "message": message } })
}
