//! Pages of other sites in an operator's browser: under a name that was bound anew to our address, or as a form.

use std::fs;
use std::path::Path;

use framehaul::http::{Access, ROUTES};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage};

use super::vocabulary::{PROGRAM, Request, leave, put, stage};

/// What such a page's request may look like, and what it gets.
fn attempts(port: &str) -> Vec<(Vec<(&'static str, String)>, u16)> {
    let mut attempts = Vec::new();
    for host in [
        format!("evil.example:{port}"),
        "evil.example".to_owned(),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("framehaul.example.org.evil.example:{port}"),
        format!("127.1:{port}"),
        "2130706433".to_owned(),
        format!("evil.example@127.0.0.1:{port}"),
        String::new(),
    ] {
        // Its own origin is then ours, as far as the browser can see.
        let origin = format!("http://{host}");
        attempts.push((vec![("Host", host.clone())], 421));
        attempts.push((vec![("Host", host), ("Origin", origin)], 421));
    }
    for origin in [
        "http://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        "null".to_owned(),
        "http://127.0.0.1".to_owned(),
        "http://127.0.0.1:1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}.evil.example"),
        format!("http://127.0.0.1:{port}@evil.example"),
        "file://".to_owned(),
        String::new(),
    ] {
        attempts.push((vec![("Origin", origin)], 403));
    }
    attempts
}

fn cameras(daemon: &Daemon) -> anyhow::Result<Value> {
    let all: Value = serde_json::from_str(&daemon.get("/api/v1/cameras?deleted=true")?)?;
    let specs = all["cameras"].as_array().into_iter().flatten();
    Ok(specs.map(|camera| json!([camera["id"], camera["spec"]])).collect())
}

#[test]
fn a_page_of_another_site_changes_nothing() -> anyhow::Result<()> {
    let stage = stage()?;
    let mut daemon =
        Daemon::prepare(Path::new(PROGRAM), stage.dir(), &Storage::Directory, "[debug]\nfault_injection = true")?;
    let config = stage.dir().join("framehaul.toml");
    let hosts = "[http]\nhosts = \"Framehaul.example.org, other.example\"\n";
    fs::write(&config, fs::read_to_string(&config)?.replace("[http]\n", hosts))?;
    daemon.run()?;
    assert_eq!(put(&daemon, "gate", &json!({ "url": "rtsp://127.0.0.1:1/main" }))?.status, 201);
    let before = cameras(&daemon)?;
    let port = daemon.address().rsplit(':').next().unwrap_or_default().to_owned();
    let body = json!({ "url": "rtsp://127.0.0.1:2/evil" }).to_string();
    let token = format!("Bearer {}", daemon.token());

    // Even with the token, which no such page has.
    let (mut hosts, mut origins) = (0, 0);
    for (headers, refused) in attempts(&port) {
        let tried = if refused == 421 { &mut hosts } else { &mut origins };
        *tried += 1;
        // Every route turns away the first of each kind; what tells one attempt from the next does not know the route.
        let routes = ROUTES.iter().filter(|endpoint| *tried == 1 || endpoint.path == "/api/v1/cameras/{id}");
        for endpoint in routes {
            let path = endpoint.path.replace("{id}", "gate");
            let mut request = Request::new(endpoint.method.as_str(), &path).header("Authorization", token.clone());
            for (name, value) in &headers {
                request = request.header(name, value.clone());
            }
            let answer = request.body("application/json", body.as_str()).send_bare(&daemon)?;
            let what = format!("{} {path} with {headers:?}", endpoint.method);
            let problem = answer.refuses_with(refused, &what);
            assert!(refused != 421 || problem["detail"].to_string().contains("`http.hosts`"), "{what}: {problem}");
            assert!(!answer.head.to_lowercase().contains("access-control"), "{what}: {}", answer.head);
        }
    }
    // A form sends a body of one of these types and asks nobody first.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        for endpoint in ROUTES.iter().filter(|endpoint| ["PUT", "POST"].contains(&endpoint.method.as_str())) {
            let path = endpoint.path.replace("{id}", "gate");
            let answer = Request::new(endpoint.method.as_str(), &path).body(kind, body.as_str()).send(&daemon)?;
            // What is for workers is closed to everybody else, whatever they send.
            let refused = if matches!(endpoint.access, Access::Work | Access::Beat) { 403 } else { 415 };
            answer.refuses_with(refused, &format!("{} {path} as `{kind}`", endpoint.method));
        }
    }
    // What is not a form asks first, and is told nothing that would let it go on.
    let own = format!("http://127.0.0.1:{port}");
    for origin in ["http://evil.example", &own] {
        let asks = Request::new("OPTIONS", "/api/v1/cameras/gate").header("Origin", origin);
        let answer = asks.header("Access-Control-Request-Method", "PUT").send_bare(&daemon)?;
        assert!(matches!(answer.status, 401 | 403), "{answer:?}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    }
    assert_eq!(cameras(&daemon)?, before);

    // Pages of our own, and programs, under every name that is ours.
    for host in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "LOCALHOST".to_owned(),
        "framehaul.example.org".to_owned(),
    ] {
        let origin = format!("http://{}", host.to_lowercase());
        let request = Request::new("GET", "/api/v1/cameras").header("Host", host.clone()).header("Origin", origin);
        let answer = request.send(&daemon)?;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    }
    let twice = Request::new("GET", "/livez").header("Host", "127.0.0.1").header("Host", "evil.example");
    assert_eq!(twice.status(&daemon)?, 400);
    leave(daemon)
}
