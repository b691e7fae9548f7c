//! Cameras that cannot stream.

use std::io::Write as _;
use std::net::TcpListener;

use serde_json::{Value, json};
use testbed::daemon::{Status, Storage};
use testbed::oracle::Entry;

use super::responder::{Responder, read_request, sdp};
use super::vocabulary::{PATIENCE, USER, assert_sound, cameras, get, leave, stage, until_streaming};

#[test]
fn cameras_that_cannot_stream_say_why_and_disturb_nobody() -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras("right")?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let audio = Responder::rtsp(|_| sdp("m=audio 0 RTP/AVP 0\r\na=control:track1\r\n"))?;
    let empty = Responder::rtsp(|_| sdp(""))?;
    let foreign = Responder::start(|stream| {
        read_request(stream)?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    })?;
    let rude = Responder::start(|stream| read_request(stream).map(drop))?;
    // What a camera says is not always text, and not always short.
    let babbling = Responder::rtsp(|_| [b"404 \xff\xfe".as_slice(), &[b'x'; 3_000], b"\r\n\r\n"].concat())?;
    let silent_url = format!("rtsp://127.0.0.1:{}/main", silent.local_addr()?.port());
    let no_path = server.url("shut").replace("/shut", "/nowhere");

    // Id, body, kind, state, words of the message: the cause and the way out.
    let hopeless = [
        (
            "refused",
            json!({ "url": "rtsp://127.0.0.1:1/main" }),
            "refused",
            "backing_off",
            ["nobody listens", "host and port in `url`"],
        ),
        (
            "silent",
            json!({ "url": silent_url }),
            "timeout",
            "backing_off",
            ["does not answer", "host and port in `url`"],
        ),
        (
            "password",
            json!({ "url": server.url("shut"), "user": USER, "password": "wrong" }),
            "auth",
            "auth_failed",
            ["does not accept", "check `user` and `password`"],
        ),
        (
            "anonymous",
            json!({ "url": server.url("shut") }),
            "auth",
            "auth_failed",
            ["does not accept", "check `user` and `password`"],
        ),
        (
            "path",
            json!({ "url": no_path, "user": USER, "password": "right" }),
            "not_found",
            "failed",
            ["no stream at this path", "check the path in `url`"],
        ),
        (
            "babbling",
            json!({ "url": babbling.url() }),
            "not_found",
            "failed",
            ["no stream at this path", "check the path in `url`"],
        ),
        (
            "audio",
            json!({ "url": audio.url() }),
            "no_video",
            "backing_off",
            ["there is no video", "host, port and path in `url`"],
        ),
        (
            "empty",
            json!({ "url": empty.url() }),
            "no_video",
            "backing_off",
            ["there is no video", "host, port and path in `url`"],
        ),
        (
            "host",
            json!({ "url": "rtsp://no.such.host.invalid/main" }),
            "unknown_host",
            "backing_off",
            ["name is not known", "check the host in `url`"],
        ),
        // OpenCV and FFmpeg say nothing of these two, which therefore look like a camera without video.
        (
            "foreign",
            json!({ "url": foreign.url() }),
            "no_video",
            "backing_off",
            ["there is no video", "check host, port and path in `url`"],
        ),
        (
            "rude",
            json!({ "url": rude.url() }),
            "no_video",
            "backing_off",
            ["there is no video", "check host, port and path in `url`"],
        ),
    ];
    let daemon = stage.daemon(&Storage::Directory, "[capture]\nopen_timeout = \"2s\"")?;
    daemon.put_camera("good", &json!({ "url": server.url("open") }))?;
    let before = until_streaming(&daemon, "good")?;
    for (id, body, ..) in &hopeless {
        daemon.put_camera(id, body)?;
    }
    let mut wrong = Vec::new();
    for (id, _, kind, state, words) in &hopeless {
        let resting = |status: &Status| {
            status.last_error.is_some() && matches!(&*status.state, "backing_off" | "failed" | "auth_failed")
        };
        let status = daemon.wait_for(id, PATIENCE, resting)?;
        let error = status.last_error.clone().unwrap_or_default();
        let message = error["message"].as_str().unwrap_or_default();
        let right = error["kind"] == *kind
            && error["source"] == "capture"
            && status.state == *state
            && status.next_try_at.is_some()
            && words.iter().all(|word| message.contains(word));
        if !right {
            wrong.push(format!("{id}: not {kind}, {state}, {words:?}: {status:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(get(&daemon, "/livez")?.status, 200);
    assert_eq!(get(&daemon, "/readyz")?.status, 200);
    let log = daemon.log_text();
    for (id, _, kind, ..) in &hopeless {
        assert!(log.lines().any(|line| line.contains(&format!("camera={id}")) && line.contains(kind)), "{id}:\n{log}");
    }

    // The way out that the message names is one.
    daemon.put_camera("password", &json!({ "url": server.url("shut"), "user": USER, "password": "right" }))?;
    let mended = until_streaming(&daemon, "password")?;
    assert_eq!(mended.last_error, None);

    let after = daemon.status("good")?;
    assert_eq!((&*after.state, after.generation, after.totals.lost), ("streaming", before.generation, 0));
    assert!(after.totals.captured > before.totals.captured);
    // The largest cursor is beyond the end, not before the beginning.
    let page: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/good/frames?after={}", u64::MAX))?)?;
    assert_eq!(page["entries"], json!([]), "{page}");
    daemon.quiesce(PATIENCE)?;
    let entries = assert_sound(&daemon, "good", None)?;
    assert_eq!(entries.iter().filter(|entry| matches!(entry, Entry::Session { .. })).count(), 1);
    assert!(!entries.iter().any(|entry| matches!(entry, Entry::Tombstone { .. })));
    leave(daemon)
}

/// What a camera says must not lead its capture process to a file or to another protocol, and no playlist is followed.
#[test]
fn no_answer_leads_to_a_file_or_another_protocol() -> anyhow::Result<()> {
    let stage = stage()?;
    let trap = TcpListener::bind("127.0.0.1:0")?;
    trap.set_nonblocking(true)?;
    let elsewhere = trap.local_addr()?;
    let daemon = stage.daemon(&Storage::Directory, "[capture]\nopen_timeout = \"2s\"")?;
    let answer = |kind: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{elsewhere}/a.ts\n#EXT-X-ENDLIST\n");
    let mut cases = vec![
        ("playlist".to_owned(), answer("application/vnd.apple.mpegurl", &playlist), None),
        ("hidden".to_owned(), answer("image/jpeg", &playlist), None),
        (
            "list".to_owned(),
            answer("text/plain", &format!("ffconcat version 1.0\nfile http://{elsewhere}/a.ts\n")),
            None,
        ),
        (
            "part".to_owned(),
            answer(
                "multipart/x-mixed-replace; boundary=b",
                &format!("--b\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n{playlist}\r\n--b\r\n"),
            ),
            None,
        ),
    ];
    for (place, location) in [
        "file:///etc/passwd",
        "file://A/a",
        "tcp://A/a",
        "gopher://A/a",
        "ftp://A/a",
        "https://A/a",
        "concat:http://A/a",
    ]
    .map(|location| location.replace('A', &elsewhere.to_string()))
    .into_iter()
    .enumerate()
    {
        let head = format!("302 Found\r\nLocation: {location}\r\n");
        let http = format!("HTTP/1.1 {head}Content-Length: 0\r\nConnection: close\r\n\r\n");
        cases.push((format!("moved-{place}"), http, Some(format!("{head}\r\n"))));
    }
    for (id, http, rtsp) in cases {
        let moved = Responder::start(move |stream| {
            read_request(stream)?;
            stream.write_all(http.as_bytes())
        })?;
        let mut urls = vec![moved.http_url("a")];
        let described = rtsp.map(|answer| Responder::rtsp(move |_| answer.clone().into_bytes())).transpose()?;
        urls.extend(described.iter().map(Responder::url));
        for url in urls {
            daemon.put_camera(&id, &json!({ "url": url }))?;
            let status = daemon.wait_for(&id, PATIENCE, |status| status.last_error.is_some())?;
            assert_eq!(status.totals.captured, 0, "{id}, {url}: {status:?}");
            daemon.delete_camera(&id)?;
            assert!(trap.accept().is_err(), "{id}, {url}: its capture process went elsewhere");
        }
    }
    leave(daemon)
}
