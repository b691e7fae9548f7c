//! Who may do what: a worker works and sees nothing else, and nobody else gets what workers get.

use framehaul::http::{Access, ROUTES};
use serde_json::json;

use super::client::{Client, new_token, row, set_up};

#[test]
fn a_worker_sees_nothing_else_and_nobody_else_gets_a_task() -> anyhow::Result<()> {
    let (stage, daemon, token) = set_up("")?;
    let mut operator = Client::operator(&daemon);
    let id = operator.export(&json!([row("10.0.0.5", "1", "p%40:/#w")]))?;
    let reader = new_token(&stage, "looks", "read")?;
    let (mut works, mut looks) = (Client::new(&daemon, &token), Client::new(&daemon, &reader));
    let (mut for_workers, mut for_others) = (0, 0);
    for endpoint in ROUTES {
        let path = endpoint.path.replace("{id}", &id).replace("{name}", "default");
        let method = endpoint.method.as_str();
        let what = format!("{method} {path}");
        let is_work = matches!(endpoint.access, Access::Work | Access::Beat);
        if is_work {
            for_workers += 1;
            for client in [&mut operator, &mut looks] {
                let refused = client.send(method, &path, "application/json", b"{}")?.with(403);
                let detail = refused["detail"].to_string();
                assert!(detail.contains("scope `worker`"), "{what}: {detail}");
            }
        } else if endpoint.access != Access::Open {
            for_others += 1;
            let refused = works.send(method, &path, "application/json", b"{}")?.with(403);
            assert!(refused["detail"].to_string().contains("nothing else"), "{what}: {refused}");
        }
    }
    assert_eq!(for_workers, 5);
    assert!(for_others > 20, "{for_others}");
    // What is nowhere is told to no worker either, and no body counts that a page could send.
    works.get("/api/v1/nothing")?.with(403);
    works.send("POST", "/api/v1/leases", "text/plain", br#"{"worker":"w"}"#)?.with(415);
    for kind in ["text/plain", "multipart/form-data; boundary=x", ""] {
        operator.send("POST", "/api/v1/exports", kind, b"host,user,password\na,b,c\n")?.with(415);
    }
    // All of that has taken nothing.
    assert!(works.take("0s")?.is_some_and(|lease| lease.number() == 1));
    let log = daemon.log_text();
    let audited = |line: &str| log.lines().any(|of| of.contains("framehaul::audit") && of.contains(line));
    assert!(audited("route=/api/v1/exports"), "{log}");
    assert!(audited("token=worker") && audited("route=/api/v1/leases"), "{log}");
    Ok(())
}

#[test]
fn wrong_words_are_explained() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let mut worker = Client::new(&daemon, &token);
    for (path, body, told) in [
        ("", json!({}), "send {"),
        ("", json!({ "worker": "" }), "`worker`"),
        ("", json!({ "worker": "a\nb" }), "`worker`"),
        ("", json!({ "worker": "w", "wait": "2h" }), "`wait`"),
        ("", json!({ "worker": "w", "patience": 1 }), "send {"),
        ("/x/heartbeat", json!({ "number": -1 }), "send {"),
        ("/x/heartbeat", json!({ "number": 1, "progress": { "files": "many" } }), "send {"),
        ("/x/complete", json!({ "result": {} }), "send {"),
        ("/x/fail", json!({ "number": 1 }), "send {"),
        ("/x/fail", json!({ "number": 1, "kind": "Two words", "message": "x" }), "`kind`"),
        ("/x/fail", json!({ "number": 1, "kind": "io", "message": "x", "after": "soon" }), "`after`"),
    ] {
        let refused = worker.post(&format!("/api/v1/leases{path}"), &body)?.with(400);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(told)), "{path} {body}: {refused}");
    }
    let refused = worker.send("POST", "/api/v1/leases", "application/json", b"{\"worker\":")?.with(400);
    assert!(refused["detail"].to_string().contains("not JSON"), "{refused}");
    let mut operator = Client::operator(&daemon);
    for query in ["exports?limit=0", "exports?limit=1001", "exports?befor=1", "exports/x?y"] {
        let status = operator.get(&format!("/api/v1/{query}"))?.status;
        assert!(matches!(status, 400 | 404), "{query}: {status}");
    }
    Ok(())
}
