//! Requests from whoever has found the address.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use framehaul::http::{Access, ROUTES};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage};
use testbed::scenario;

use super::vocabulary::{PROGRAM, Request, files_below, get, leave, new_token, put, stage};

/// URLs that must never be opened.
fn hostile_urls() -> Vec<String> {
    let mut urls: Vec<String> = [
        "",
        " ",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "/etc/passwd",
        "../../etc/passwd",
        "exec:ls",
        "concat:/etc/passwd|/etc/shadow",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "http://169.254.169.254/computeMetadata/v1/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "https://0.0.0.0/",
        "ftp://127.0.0.1/x",
        "rtmp://127.0.0.1/live",
        "udp://239.0.0.1:5000",
        "tcp://127.0.0.1:22",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "v4l2:/etc/passwd",
        "v4l2:///dev/video0/../../etc/passwd",
        "v4l2:/dev/video",
        "javascript:alert(1)",
        "RTSP",
        "rtsp:",
        "rtsp://",
        "rtsp:///main",
        "rtsp:/main",
        "rtsp://:554/main",
        "rtsp://camera:0/main",
        "rtsp://camera:65536/main",
        "rtsp://camera:-1/main",
        "rtsp://[::1/main",
        "rtsp://a b/main",
        "rtsp://camera/a b",
        "rtsp://camera/\0",
        "rtsp://camera/a\r\nSetup: evil",
        "rtsp://camera/\u{202e}4pm.niam",
        "rtsp://\u{202e}aremac/main",
        "rtsp://camera/\u{1b}[2J",
        "rtsp://camera/|file:/etc/passwd",
        "rtsp://camera/\"><script>",
        "rtsp://camera\\@evil/main",
        "rtsp://user:secret@camera/main",
        "rtsp://user@camera/main",
    ]
    .map(str::to_owned)
    .into();
    urls.push(format!("rtsp://camera/{}", "x".repeat(3 * 1024)));
    urls.push(format!("rtsp://{}/main", "x".repeat(3 * 1024)));
    urls
}

/// What is nowhere, whoever asks.
const NOWHERE: [(&str, &str); 3] =
    [("GET", "/no/such/route"), ("GET", "/api/v1/no/such/route"), ("PATCH", "/api/v1/cameras/gate")];

/// A path of the table of routes, as a request has it.
fn example(path: &str) -> String {
    path.replace("{id}", "gate").replace("{name}", "default")
}

#[test]
fn hostile_requests_are_refused_by_name() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "")?;

    only_the_token_opens(&daemon)?;
    bad_urls_are_named(&daemon)?;
    bad_ids_and_routes_are_no_server_errors(&daemon)?;
    bad_bodies_are_explained(&daemon)?;
    bad_pages_are_explained(&daemon)?;

    assert_eq!(get(&daemon, "/livez")?.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&daemon.get("/api/v1/cameras")?)?, json!({ "cameras": [] }));
    assert_eq!(files_below(&stage.dir().join("frames"))?, Vec::<PathBuf>::new());
    let own: BTreeSet<String> = names_in(stage.dir())?;
    let expected = ["frames", "framehaul.log", "framehaul.toml", "state"];
    assert_eq!(own, expected.map(str::to_owned).into());
    for above in [stage.dir(), Path::new("/tmp"), Path::new("/"), Path::new(".")] {
        assert!(!names_in(above)?.iter().any(|name| name.contains("framehaul-escape")), "in {}", above.display());
    }
    assert!(!daemon.log_text().contains("panicked"), "{}", daemon.log_text());
    leave(daemon)
}

#[test]
fn hostile_urls_and_names_reach_nothing() -> anyhow::Result<()> {
    let outcome = scenario::hostile(&stage()?, Path::new(PROGRAM))?;
    assert!(outcome.pass, "{}\nfigure: {}\n{}", outcome.bound, outcome.figure, outcome.problems.join("\n"));
    Ok(())
}

fn only_the_token_opens(daemon: &Daemon) -> anyhow::Result<()> {
    let token = daemon.token();
    let (last, longer) = (&token[..token.len() - 1], format!("Bearer {token}0"));
    let other = format!("Bearer {last}{}", if token.ends_with('0') { '1' } else { '0' });
    let nearly = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer {last}"),
        format!("Bearer {}", &token[1..]),
        format!("Bearer {}", token.to_uppercase()),
        format!("Bearer {token},{token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {}", "x".repeat(token.len())),
        longer,
        other,
    ];
    let declared = ROUTES.iter().filter(|endpoint| endpoint.access != Access::Open);
    let declared = declared.map(|endpoint| (endpoint.method.as_str(), example(endpoint.path)));
    for (method, path) in declared.chain(NOWHERE.map(|(method, path)| (method, path.to_owned()))) {
        let what = format!("{method} {path}");
        let path = path.as_str();
        let answer = Request::new(method, path).send_bare(daemon)?;
        let detail = answer.refuses_with(401, &what)["detail"].to_string();
        assert!(detail.contains("Authorization: Bearer") && detail.contains("http.token_file"), "{what}: {detail}");
        for wrong in &nearly {
            let answer = Request::new(method, path).header("Authorization", wrong).send_bare(daemon)?;
            answer.refuses_with(401, &format!("{what} with `{wrong}`"));
            assert!(!answer.body.contains(last), "{what} repeats a token: {answer:?}");
        }
        // Where the request comes from opens nothing either.
        let local =
            Request::new(method, path).header("X-Forwarded-For", "127.0.0.1").header("Forwarded", "for=127.0.0.1");
        local.send_bare(daemon)?.refuses_with(401, &what);
    }
    assert_eq!(Request::new("GET", "/livez").send_bare(daemon)?.status, 200);
    let lower = Request::new("GET", "/readyz").header("Authorization", format!("bearer {token}"));
    assert_eq!(lower.send_bare(daemon)?.status, 200, "a scheme's name has no case");
    Ok(())
}

/// Asks for each line of the table of routes.
#[test]
fn every_route_answers_as_it_is_declared() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "[debug]\nfault_injection = true")?;
    let (looks, works) = (new_token(&stage, "looks", "read")?, new_token(&stage, "works", "operate")?);
    let ask = |method: &str, path: &str, token: &str| {
        Request::new(method, path).header("Authorization", format!("Bearer {token}")).status(&daemon)
    };
    for endpoint in ROUTES {
        let (method, path) = (endpoint.method.as_str(), example(endpoint.path));
        let what = format!("{method} {path}");
        let bare = Request::new(method, &path).status(&daemon)?;
        assert_eq!(bare == 401, endpoint.access != Access::Open, "{what} without a token: {bare}");
        let is_work = matches!(endpoint.access, Access::Work | Access::Beat);
        let reader = ask(method, &path, &looks)?;
        assert_eq!(reader == 403, is_work || endpoint.access == Access::Operate, "{what} as reader: {reader}");
        assert!(!matches!(reader, 401 | 405 | 421), "{what} as reader: {reader}");
        for token in [&works, daemon.token()] {
            let operator = ask(method, &path, token)?;
            assert_eq!(operator == 403, is_work, "{what} as operator: {operator}");
            assert!(!matches!(operator, 401 | 405 | 421), "{what} as operator: {operator}");
        }
        // Nothing else answers here.
        for other in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            if !ROUTES.iter().any(|e| e.path == endpoint.path && e.method.as_str() == other) {
                assert_eq!(Request::new(other, &path).status(&daemon)?, 401, "{other} {path} without a token");
                assert_eq!(ask(other, &path, &looks)?, 405, "{other} {path}");
            }
        }
    }
    leave(daemon)
}

fn bad_urls_are_named(daemon: &Daemon) -> anyhow::Result<()> {
    for url in hostile_urls() {
        let shown = url.escape_debug().to_string();
        let problem = put(daemon, "gate", &json!({ "url": url }))?.refuses_with(422, &shown);
        let error = &problem["errors"][0];
        assert_eq!(error["field"], "url", "{shown}: {problem}");
        assert!(error["detail"].as_str().is_some_and(|way_out| way_out.len() > 10), "{shown}: {problem}");
        if url.contains('@') {
            assert!(!problem.to_string().contains("secret"), "{shown}: {problem}");
        } else {
            let value = error["value"].as_str().with_context(|| format!("{shown}: no value in {problem}"))?;
            assert!(value.len() <= 1_300 && shown.starts_with(&value[..value.len().min(40)]), "{shown}: {problem}");
            assert!(value.chars().all(|c| c.is_ascii() && !c.is_control()), "{shown}: {problem}");
        }
    }
    Ok(())
}

fn bad_ids_and_routes_are_no_server_errors(daemon: &Daemon) -> anyhow::Result<()> {
    let long = "a".repeat(2_048);
    let ids = [
        "%2e%2e%2f%2e%2e%2fframehaul-escape",
        "..%2f..%2fframehaul-escape",
        "%252e%252e%252fframehaul-escape",
        "%2ftmp%2fframehaul-escape",
        "..",
        "%00",
        "gate%00",
        "GATE",
        "-gate",
        "_gate",
        "gate%20",
        "gate%0d%0aX-Evil:%201",
        "%e2%80%aeetag",
        "%ff%fe",
        "%c3%28",
        "%",
        "%zz",
        "gate;drop",
        "'%20or%201=1",
        "constructor%5b%5d",
        &long,
    ];
    let body = json!({ "url": "rtsp://127.0.0.1:1/main" }).to_string();
    for id in ids {
        for (method, path) in [
            ("GET", format!("/api/v1/cameras/{id}")),
            ("PUT", format!("/api/v1/cameras/{id}")),
            ("DELETE", format!("/api/v1/cameras/{id}")),
            ("GET", format!("/api/v1/cameras/{id}/frames")),
        ] {
            let answer = Request::new(method, &path).body("application/json", body.as_str()).send(daemon)?;
            let what = format!("{method} {}", &path[..path.len().min(60)]);
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
            answer.problem();
            assert!(answer.body.len() < 1_000, "{what}: {answer:?}");
        }
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/cameras/",
        "/api/v1/cameras/gate/nothing",
        "/etc/passwd",
        "/../../etc/passwd",
        "/api/v1/../../../etc/passwd",
        "/livez/",
        "//livez",
    ] {
        get(daemon, path)?.refuses_with(404, path);
    }
    for path in ["/api/v1/cameras/gate", "/api/v1/cameras/gate/frames"] {
        let problem = get(daemon, path)?.refuses_with(404, path);
        assert!(problem["detail"].to_string().contains("`gate`"), "{problem}");
    }
    Request::new("DELETE", "/api/v1/cameras/gate").send(daemon)?.refuses_with(404, "DELETE");
    for (method, path) in [
        ("POST", "/livez"),
        ("POST", "/readyz"),
        ("DELETE", "/metrics"),
        ("DELETE", "/api/v1/cameras"),
        ("POST", "/api/v1/cameras/gate"),
        ("PATCH", "/api/v1/cameras/gate"),
        ("PUT", "/api/v1/cameras/gate/frames"),
        ("GET", "/api/v1/debug/panic"),
        ("BREW", "/api/v1/cameras/gate"),
    ] {
        Request::new(method, path).send(daemon)?.refuses_with(405, &format!("{method} {path}"));
    }
    Request::new("POST", "/api/v1/debug/panic?actor=supervisor").send(daemon)?.refuses_with(403, "fault injection");
    Ok(())
}

fn bad_bodies_are_explained(daemon: &Daemon) -> anyhow::Result<()> {
    let send = |content_type: &str, body: Vec<u8>| {
        Request::new("PUT", "/api/v1/cameras/gate").body(content_type, body).send(daemon)
    };
    let good = r#"{"url":"rtsp://127.0.0.1:1/main"}"#;
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""]
    {
        let problem = send(kind, good.into())?.refuses_with(415, kind);
        assert!(problem["detail"].to_string().contains("application/json"), "{problem}");
    }
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    for body in [
        String::new(),
        "url".to_owned(),
        "{".to_owned(),
        "{}}".to_owned(),
        r#"{"url":"rtsp://h/a",}"#.to_owned(),
        "{\"url\":\"rtsp://h/\u{0}\"}".to_owned(),
        nested(10_000),
        format!(r#"{{"url":{}}}"#, nested(10_000)),
        format!("{}7{}", r#"{"url":"#.repeat(5_000), "}".repeat(5_000)),
    ] {
        let problem = send("application/json", body.clone().into())?.refuses_with(400, &body[..body.len().min(40)]);
        assert!(problem["detail"].to_string().contains("not JSON"), "{problem}");
    }
    assert_eq!(send("application/json", b"{\"url\":\"\xff\"}".to_vec())?.status, 400);

    // The right JSON of the wrong shape: the field is named, and what it takes.
    for (body, field) in [
        ("null", "JSON object"),
        ("[]", "JSON object"),
        (r#"["rtsp://h/a","u"]"#, "JSON object"),
        (r#""rtsp://h/a""#, "JSON object"),
        ("{}", "url"),
        (r#"{"url":7}"#, "url"),
        (r#"{"url":null}"#, "url"),
        (r#"{"url":["rtsp://h/a"]}"#, "url"),
        (r#"{"url":"rtsp://h/a","uri":"x"}"#, "uri"),
        (r#"{"url":"rtsp://h/a","user":{}}"#, "user"),
        (r#"{"url":"rtsp://h/a","user":"u","password":7}"#, "password"),
        (r#"{"url":"rtsp://h/a","transport":"sctp"}"#, "transport"),
        (r#"{"url":"rtsp://h/a","sampling":"some"}"#, "sampling"),
        (r#"{"url":"rtsp://h/a","sampling":{"every":0}}"#, "sampling"),
        (r#"{"url":"rtsp://h/a","sampling":{"fps":"fast"}}"#, "sampling"),
        (r#"{"url":"rtsp://h/a","jpeg_quality":256}"#, "jpeg_quality"),
        (r#"{"url":"rtsp://h/a","jpeg_quality":-1}"#, "jpeg_quality"),
        (r#"{"url":"rtsp://h/a","jpeg_quality":"best"}"#, "jpeg_quality"),
        (r#"{"url":"rtsp://h/a","max_width":1e99}"#, "max_width"),
        (r#"{"url":"rtsp://h/a","destination":7}"#, "destination"),
    ] {
        let problem = send("application/json", body.into())?.refuses_with(400, body);
        assert!(problem.to_string().contains(field), "{body}: {problem}");
    }
    // Right types, impossible values: all of them at once.
    let body = r#"{"url":"ftp://h/","user":"","password":"","sampling":{"fps":0},"jpeg_quality":0,"max_width":1,"destination":"-"}"#;
    let problem = send("application/json", body.into())?.refuses_with(422, body);
    let fields: Vec<&str> =
        problem["errors"].as_array().into_iter().flatten().filter_map(|e| e["field"].as_str()).collect();
    assert_eq!(fields, ["url", "user", "password", "sampling.fps", "jpeg_quality", "max_width", "destination"]);

    let padded = |bytes: usize| format!("{good}{}", " ".repeat(bytes - good.len())).into_bytes();
    let problem = send("application/json", padded(64 * 1024 + 1))?.refuses_with(413, "64 KiB + 1");
    assert!(problem["detail"].to_string().contains("65536"), "{problem}");
    // The limit itself is no mistake, and neither are parameters of the content type.
    assert_eq!(send("application/json; charset=utf-8", padded(64 * 1024))?.status, 201);
    daemon.delete_camera("gate")
}

fn bad_pages_are_explained(daemon: &Daemon) -> anyhow::Result<()> {
    daemon.put_camera("gate", &json!({ "url": "rtsp://127.0.0.1:1/main" }))?;
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=", "limit"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=99999999999999999999", "after"),
        ("after=1&after=2", "after"),
        ("before=1", "before"),
    ] {
        let problem = get(daemon, &format!("/api/v1/cameras/gate/frames?{query}"))?.refuses_with(400, query);
        assert!(problem["detail"].to_string().contains(named), "{query}: {problem}");
    }
    for query in ["", "limit=1", "limit=1000", "after=0", "after=18446744073709551615&limit=7"] {
        let answer = get(daemon, &format!("/api/v1/cameras/gate/frames?{query}"))?;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
    }
    for query in ["deleted=perhaps", "delete=true", "deleted"] {
        get(daemon, &format!("/api/v1/cameras?{query}"))?.refuses_with(400, query);
    }
    daemon.delete_camera("gate")
}

fn names_in(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}
