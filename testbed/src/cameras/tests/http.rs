//! HTTP cameras.

use super::*;

/// `open` for anybody, `basic` and `digest` with a login each.
fn http_specs() -> [CameraSpec; 3] {
    let small = |name| CameraSpec::new(name).codec(Codec::Mjpeg).size(320, 240).rate(FPS, GOP);
    [small("open"), small("basic").basic_login("hall", "p:a/s@s"), small("digest").login("yard", "q \"r\"")]
}

fn http_server() -> HttpCameraServer {
    HttpCameraServer::start(&http_specs(), 0, cache_dir()).unwrap()
}

/// The first `count` pictures a client gets.
fn watch(url: &str, count: u32) -> Vec<Mark> {
    marks(&["-rw_timeout", "10000000", "-i", url, "-frames:v", &count.to_string()])
}

/// What ffmpeg says when it cannot play.
fn refusal(url: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = ffmpeg_to_jpegs(&["-i", url, "-frames:v", "1"], 4, dir.path());
    assert!(!output.status.success(), "{url} plays");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn plays_every_picture_at_its_time() {
    let server = http_server();
    let (before, started) = (frame_now(), Instant::now());
    let marks = watch(&server.url("open"), 2 * FPS);
    let elapsed = started.elapsed();
    let first = i64::from(marks[0].counter);
    for (index, mark) in marks.iter().enumerate() {
        let counter = ((first + index as i64) % CLIP) as u32;
        assert_eq!(*mark, Mark { camera: http_specs()[0].number, counter, clip_frames: CLIP as u16 });
    }
    let since = (first - before).rem_euclid(CLIP);
    assert!((0..=(frame_now() - before).rem_euclid(CLIP)).contains(&since), "{first} after {before}");
    // The last picture comes 39 after the first.
    assert!(elapsed >= Duration::from_millis(1_900), "{elapsed:?}");
    // The stream is let go of when its client has left.
    while server.counts().streams > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.counts(), HttpCounts { requests: 1, ..HttpCounts::default() });
}

#[test]
fn asks_for_the_login_and_counts_who_fails() {
    let server = http_server();
    let with = |name, login: &str| server.url(name).replace("http://", &format!("http://{login}@"));
    for url in [with("basic", "hall:p%3Aa%2Fs%40s"), with("digest", "yard:q%20%22r%22")] {
        assert_eq!(watch(&url, 1).len(), 1, "{url}");
    }
    let counts = server.counts();
    assert_eq!((counts.accepted_logins, counts.refused_logins), (2, 0));
    for url in [server.url("basic"), server.url("digest")] {
        let message = refusal(&url);
        assert!(message.contains("401 Unauthorized"), "{url}: {message}");
    }
    assert_eq!(server.refused_logins(), 0);
    for (count, url) in [with("basic", "hall:wrong"), with("digest", "yard:wrong"), with("digest", "hall:q%20%22r%22")]
        .iter()
        .enumerate()
    {
        let message = refusal(url);
        assert!(message.contains("401 Unauthorized"), "{url}: {message}");
        assert_eq!(server.refused_logins(), count as u64 + 1, "{url}");
    }
    let missing = refusal(&server.url("open").replace("open", "nowhere"));
    assert!(missing.contains("404 Not Found"), "{missing}");
}

#[test]
fn shows_only_jpegs() {
    let message = HttpCameraServer::start(&[CameraSpec::new("a")], 0, cache_dir()).unwrap_err().to_string();
    assert!(message.contains("camera `a` shows h264: an HTTP camera shows mjpeg"), "{message}");
}
