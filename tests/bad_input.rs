//! Bad input from every side: cameras that cannot stream, hostile requests, a bucket that refuses, a wrong configuration.
//! Each gets an error that names cause and way out, nothing else suffers from it, and a camera's password shows nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::daemon::{Daemon, Status, Storage, wait};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::oracle::{Entry, Fetcher, Pattern, judge};
use testbed::scenario::Stage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

/// How long anything may take that is waited for here; most takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

const USER: &str = "viewer";
/// Made to break whoever takes it for a URL, for percent-encoded, or for a path.
const CANARY: &str = "p%40:/#w";

// ---- vocabulary ----

/// A stage for one test. Orphans of our processes become our children from here on, so that [`leave`] can see them.
fn stage() -> anyhow::Result<Stage> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("cannot become a subreaper")?;
    Stage::new(Path::new(PROGRAM))
}

/// Ends a daemon in good order, and asserts that nothing of it is left.
fn leave(mut daemon: Daemon) -> anyhow::Result<()> {
    let (pid, captures) = (daemon.pid(), children_of(daemon.pid())?);
    let status = daemon.stop()?;
    ensure!(status.success(), "framehaul ended with {status}");
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "framehaul is still there");
    // Tests run side by side: a child of a daemon that a failed test has killed takes a moment to go.
    wait(Duration::from_secs(3), || {
        let left = captures.iter().any(|pid| is_alive(*pid));
        let orphans = children_of(std::process::id())?.into_iter().any(|pid| command_line(pid).contains("capture-"));
        Ok((!left && !orphans).then_some(()))
    })
    .with_context(|| format!("a capture process outlived framehaul; it had {captures:?}"))
}

/// The living processes whose parent is `parent`.
fn children_of(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        if stat(pid).is_some_and(|(state, of)| of == parent && state != 'Z') {
            children.push(pid);
        }
    }
    Ok(children)
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// A process's state and its parent; none if it is gone.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// A server with two small cameras: `open` for anybody, `shut` for [`USER`] with `password`.
fn cameras(password: &str) -> anyhow::Result<CameraServer> {
    // One after the other, so that each clip is made once.
    static MAKING_CLIPS: Mutex<()> = Mutex::new(());
    let _alone = MAKING_CLIPS.lock().unwrap_or_else(PoisonError::into_inner);
    let small = |name| CameraSpec::new(name).size(320, 240).rate(10, 10);
    CameraServer::start(&[small("open"), small("shut").login(USER, password)], 0, default_cache_dir())
}

/// What the daemon answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    /// Its body, which must be a problem as RFC 9457 has it.
    #[track_caller]
    fn problem(&self) -> Value {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).expect("a problem is JSON");
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        problem
    }

    /// Asserts that it is a problem with this status.
    #[track_caller]
    fn refuses_with(&self, status: u16, what: &str) -> Value {
        assert_eq!(self.status, status, "{what}: {self:?}");
        self.problem()
    }
}

/// A request, written byte by byte: no client library corrects what is wrong with it.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Vec<u8>,
}

impl<'a> Request<'a> {
    fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, headers: Vec::new(), body: Vec::new() }
    }

    fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Sends it with the daemon's token.
    fn send(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let token = format!("Bearer {}", daemon.token());
        self.header("Authorization", token).send_bare(daemon)
    }

    fn send_bare(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let what = format!("{} {}", self.method, &self.path[..self.path.len().min(80)]);
        self.talk(daemon).with_context(|| what)
    }

    fn talk(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let address = daemon.address().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        stream.write_all(request.as_bytes())?;
        // A body that is too long may be refused before it is read.
        let _ = stream.write_all(&self.body);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            ensure!(!answer.is_empty(), "no answer: {error}");
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?.parse()?;
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        let content_type = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map(|(_, value)| value.to_owned()).unwrap_or_default();
        Ok(Answer { status, content_type, body: body.to_owned() })
    }
}

fn get(daemon: &Daemon, path: &str) -> anyhow::Result<Answer> {
    Request::new("GET", path).send(daemon)
}

fn put(daemon: &Daemon, id: &str, body: &Value) -> anyhow::Result<Answer> {
    Request::new("PUT", &format!("/api/v1/cameras/{id}")).body("application/json", body.to_string()).send(daemon)
}

/// Waits until a camera streams; asserts that nothing was ever wrong with its list.
fn until_streaming(daemon: &Daemon, id: &str) -> anyhow::Result<Status> {
    daemon.wait_for(id, PATIENCE, |status| status.state == "streaming" && status.totals.captured > 0)
}

/// Asserts that a camera's whole list is in order and complete by the pixels of its objects, `lost` aside.
fn assert_sound(daemon: &Daemon, id: &str, endpoint: Option<&str>) -> anyhow::Result<Vec<Entry>> {
    let entries = daemon.list(id, 1_000)?.entries;
    let fetcher = Fetcher::new(daemon.http(), endpoint);
    let verdict = judge(id, &entries, |url| fetcher.fetch(url), Pattern::Every(1));
    assert!(verdict.is_sound(), "camera {id}: {verdict:?}");
    let totals = daemon.status(id)?.totals;
    assert_eq!((verdict.frames, verdict.tombstoned), (totals.stored, totals.lost), "camera {id}");
    assert!(totals.add_up(), "camera {id}: {totals:?}");
    Ok(entries)
}

// ---- cameras that cannot stream ----

/// A server on 127.0.0.1 that answers as a test says. Dropping it ends it.
struct Responder {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Responder {
    /// `talk` gets each connection in turn, one at a time.
    fn start(talk: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Relaxed) {
                    return;
                }
                // The client hangs up when it has what it came for.
                let _ = stream.and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                    talk(&mut stream)
                });
            }
        });
        Ok(Self { port, over, thread: Some(thread) })
    }

    /// An RTSP server. `describe` gets the request and writes the answer to DESCRIBE from its status on; whoever gets as far
    /// as PLAY hears G.711 silence.
    fn rtsp(describe: impl Fn(&str) -> Vec<u8> + Send + 'static) -> anyhow::Result<Self> {
        Self::start(move |stream| {
            while let Some(request) = read_request(stream)? {
                let method = request.split(' ').next().unwrap_or_default();
                let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
                let answer = match method {
                    "DESCRIBE" => describe(&request),
                    "SETUP" => {
                        b"200 OK\r\nSession: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".to_vec()
                    }
                    "PLAY" => b"200 OK\r\nSession: 1\r\n\r\n".to_vec(),
                    _ => b"200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_vec(),
                };
                let (status, rest) = answer.split_at(answer.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1));
                stream.write_all(b"RTSP/1.0 ")?;
                stream.write_all(status)?;
                stream.write_all(format!("CSeq: {cseq}\r\n").as_bytes())?;
                stream.write_all(rest)?;
                if method == "PLAY" {
                    return play_silence(stream);
                }
            }
            Ok(())
        })
    }

    fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/stream", self.port)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        request.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&request).into_owned()))
}

/// RTP packets of 20 ms each (RFC 3551, payload type 0), interleaved in the connection, until the client hangs up.
fn play_silence(stream: &mut TcpStream) -> std::io::Result<()> {
    for seq in 0..500_u16 {
        let mut packet = vec![b'$', 0, 0, 172, 0x80, 0];
        packet.extend(seq.to_be_bytes());
        packet.extend((u32::from(seq) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend([0xff; 160]);
        stream.write_all(&packet)?;
        // The camera's own clock: nothing waits for this.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn sdp(media: &str) -> Vec<u8> {
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{media}");
    format!("200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len()).into_bytes()
}

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
            "failed",
            ["does not accept", "check `user` and `password`"],
        ),
        (
            "anonymous",
            json!({ "url": server.url("shut") }),
            "auth",
            "failed",
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
        ("audio", json!({ "url": audio.url() }), "no_video", "failed", ["no video", "check the path in `url`"]),
        ("empty", json!({ "url": empty.url() }), "no_video", "failed", ["no video", "check the path in `url`"]),
        (
            "host",
            json!({ "url": "rtsp://no.such.host.invalid/main" }),
            "unknown_host",
            "backing_off",
            ["name is not known", "check the host in `url`"],
        ),
        (
            "foreign",
            json!({ "url": foreign.url() }),
            "protocol",
            "backing_off",
            ["does not speak RTSP", "host, port and path in `url`"],
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
        let resting =
            |status: &Status| status.last_error.is_some() && matches!(&*status.state, "backing_off" | "failed");
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

// ---- requests ----

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
        "https://127.0.0.1/",
        "ftp://127.0.0.1/x",
        "rtmp://127.0.0.1/live",
        "rtsps://127.0.0.1/main",
        "udp://239.0.0.1:5000",
        "tcp://127.0.0.1:22",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "v4l2:///dev/video0",
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

/// Every route, with a method it takes.
const ROUTES: [(&str, &str); 9] = [
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/cameras"),
    ("GET", "/api/v1/cameras/gate"),
    ("PUT", "/api/v1/cameras/gate"),
    ("DELETE", "/api/v1/cameras/gate"),
    ("GET", "/api/v1/cameras/gate/frames"),
    ("POST", "/api/v1/debug/panic?actor=supervisor"),
    ("GET", "/no/such/route"),
];

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
    for (method, path) in ROUTES {
        let what = format!("{method} {path}");
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
    Ok(())
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
        ("POST", "/api/v1/cameras"),
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
        format!("{}{}", r#"{"url":"#.repeat(10_000), "}"),
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
    ] {
        let problem = send("application/json", body.into())?.refuses_with(400, body);
        assert!(problem.to_string().contains(field), "{body}: {problem}");
    }
    // Right types, impossible values: all of them at once.
    let body = r#"{"url":"http://h/","user":"","password":"","sampling":{"fps":0},"jpeg_quality":0,"max_width":1}"#;
    let problem = send("application/json", body.into())?.refuses_with(422, body);
    let fields: Vec<&str> =
        problem["errors"].as_array().into_iter().flatten().filter_map(|e| e["field"].as_str()).collect();
    assert_eq!(fields, ["url", "user", "password", "sampling.fps", "jpeg_quality", "max_width"]);

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

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

// ---- a bucket that refuses ----

const BUCKET: &str = "frames";
const QUICK_RETRIES: &str = "[upload]\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n";

fn bucket(refuse_status: Option<u16>) -> anyhow::Result<(GcsServer, Storage)> {
    let knobs = Knobs { refuse_status, ..Knobs::default() };
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], knobs, ..Options::default() })?;
    let storage = Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned() };
    Ok((gcs, storage))
}

fn refuse(gcs: &GcsServer, status: Option<u16>) -> anyhow::Result<()> {
    gcs.change_knobs(|knobs| knobs.refuse_status = status)
}

#[test]
fn nothing_is_lost_while_a_bucket_refuses_for_a_while() -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras("right")?;
    let (gcs, storage) = bucket(None)?;
    let daemon = stage.daemon(&storage, QUICK_RETRIES)?;
    daemon.put_camera("gate", &json!({ "url": server.url("open") }))?;
    daemon.wait_for("gate", PATIENCE, |status| status.totals.stored > 0)?;

    for (status, kind, way_out) in [
        (403, "auth", "storage.objects.create"),
        (401, "auth", "storage.credentials"),
        (404, "not_found", "storage.url"),
    ] {
        refuse(&gcs, Some(status))?;
        let told = |seen: &Status| {
            seen.last_error.as_ref().is_some_and(|error| error.to_string().contains(&status.to_string()))
        };
        let seen = daemon.wait_for("gate", PATIENCE, told)?;
        let error = seen.last_error.unwrap_or_default();
        assert_eq!((&error["source"], &error["kind"]), (&json!("upload"), &json!(kind)), "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("gs://frames") && message.contains(way_out), "{message}");
        // Two more seconds of frames, none of which can go anywhere.
        let stored = seen.totals.stored;
        let later = daemon.wait_for("gate", PATIENCE, |later| later.totals.captured >= seen.totals.captured + 20)?;
        assert_eq!((&*later.state, later.totals.lost, later.totals.stored), ("streaming", 0, stored), "{later:?}");
        assert!(later.totals.in_flight >= 20 && later.totals.add_up(), "{later:?}");
        assert_eq!(get(&daemon, "/readyz")?.status, 200);
    }
    assert!(gcs.stats().injected.refused > 0);

    refuse(&gcs, None)?;
    daemon.wait_for("gate", PATIENCE, |status| status.last_error.is_none() && status.totals.in_flight <= 2)?;
    daemon.quiesce(PATIENCE)?;
    let totals = daemon.status("gate")?.totals;
    assert_eq!((totals.stored, totals.lost), (totals.captured, 0));
    assert_sound(&daemon, "gate", Some(&gcs.endpoint()))?;
    leave(daemon)
}

#[test]
fn what_memory_cannot_hold_is_dropped_oldest_first_and_listed() -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras("right")?;
    let (gcs, storage) = bucket(Some(403))?;
    let daemon = stage.daemon(&storage, &format!("{QUICK_RETRIES}[memory]\nframes = 32"))?;
    daemon.put_camera("gate", &json!({ "url": server.url("open") }))?;
    let mut looks = 0;
    let full = daemon.wait_for("gate", PATIENCE, |status| {
        assert!(status.totals.add_up() && status.totals.in_flight <= 33, "{status:?}");
        looks += 1;
        status.totals.lost >= 20
    })?;
    assert!(looks > 10, "{looks}");
    assert_eq!((&*full.state, full.generation, full.totals.stored), ("streaming", 1, 0));

    refuse(&gcs, None)?;
    daemon.wait_for("gate", PATIENCE, |status| {
        assert!(status.totals.add_up(), "{status:?}");
        status.last_error.is_none() && status.totals.in_flight <= 2
    })?;
    daemon.quiesce(PATIENCE)?;
    let entries = assert_sound(&daemon, "gate", Some(&gcs.endpoint()))?;
    let lost: Vec<(u64, u64)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Tombstone { seq, last, reason, maybe_stored, .. } => {
                assert_eq!((reason.as_str(), *maybe_stored), ("memory_full", false), "{entry:?}");
                Some((*seq, *last))
            }
            _ => None,
        })
        .collect();
    // Oldest first: all that was dropped lies before all that was kept, from the first frame on.
    let count: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();
    assert!(count >= 20);
    assert_eq!((lost.first().map(|(first, _)| *first), lost.last().map(|(_, last)| *last)), (Some(1), Some(count)));
    leave(daemon)
}

// ---- the canary ----

/// How the canary would look in a text, whatever has encoded it. The short forms are in all percent-encodings of it.
fn canary_forms() -> Vec<String> {
    let unpadded = |text: &str| BASE64_STANDARD.encode(text).trim_end_matches('=').to_owned();
    let mut forms = vec![
        CANARY.to_owned(),
        "p%40".to_owned(),
        "p@:/#w".to_owned(),
        "p%2540".to_owned(),
        "p%2540%3A%2F%23w".to_owned(),
        "p%2540%3a%2f%23w".to_owned(),
    ];
    // The last character of unpadded base64 depends on what follows.
    for text in [CANARY.to_owned(), format!("{USER}:{CANARY}")] {
        let mut encoded = unpadded(&text);
        encoded.pop();
        forms.push(encoded);
    }
    forms
}

/// The first form of the canary in these bytes.
fn find_canary(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    canary_forms().into_iter().find(|form| text.contains(form))
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    if let Some(form) = find_canary(bytes) {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| line.contains(&form)).unwrap_or_default();
        panic!("{what} holds the password as `{form}`: {line}");
    }
}

#[test]
fn a_password_shows_nowhere_with_everything_logged() -> anyhow::Result<()> {
    plant_the_canary("debug")
}

#[test]
fn a_password_shows_nowhere_with_our_own_traces() -> anyhow::Result<()> {
    plant_the_canary("info,framehaul=trace")
}

fn plant_the_canary(filter: &str) -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras(CANARY)?;
    // A camera that asks for the password in the clear and says it again, in every way it knows.
    let echo =
        Responder::rtsp(|request| match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
            None => b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec(),
            Some(login) => format!("404 {login} {CANARY} rtsp://{USER}:p%2540%3a%2f%23w@h/\r\n\r\n").into_bytes(),
        })?;
    let more = format!("[capture]\nopen_timeout = \"2s\"\n[log]\nfilter = \"{filter}\"");
    let daemon = stage.daemon(&Storage::Directory, &more)?;
    let login = |url: &str| json!({ "url": url, "user": USER, "password": CANARY });
    for (id, url) in [
        ("good", server.url("shut")),
        ("closed", "rtsp://127.0.0.1:1/main".to_owned()),
        ("nowhere", server.url("shut").replace("/shut", "/nowhere")),
        ("unknown", "rtsp://no.such.host.invalid/main".to_owned()),
        ("echo", echo.url()),
    ] {
        let answer = put(&daemon, id, &login(&url))?;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_clean("the answer to PUT", answer.body.as_bytes());
        assert!(answer.body.contains("\"password_set\":true"), "{answer:?}");
    }
    until_streaming(&daemon, "good")?;
    for id in ["closed", "nowhere", "unknown", "echo"] {
        daemon.wait_for(id, PATIENCE, |status| status.last_error.is_some())?;
    }

    // What is asked for wrongly is not said again either.
    let url = server.url("shut");
    for body in [
        json!({ "url": url, "password": CANARY }),
        json!({ "url": url, "user": "", "password": CANARY }),
        json!({ "url": url, "user": USER, "password": [CANARY] }),
        json!({ "url": url, "user": USER, "password": { "text": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY.repeat(100) }),
        json!({ "url": url, "user": USER, "password": format!("{CANARY}\n") }),
        json!({ "url": url, "user": USER, "Password": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "transport": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "sampling": { "fps": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY, "jpeg_quality": CANARY }),
        json!({ "url": url, "user": [CANARY], "password": CANARY }),
        json!({ "url": CANARY, "user": USER, "password": CANARY }),
        json!({ "url": format!("rtsp://{USER}:{CANARY}@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w%40127.0.0.1/main") }),
        json!({ "url": format!("http://{USER}:p%2540%3a%2f%23w@127.0.0.1/main"), "password": CANARY }),
        json!({ CANARY: url }),
        json!([url, USER, CANARY, 7]),
        json!(CANARY),
    ] {
        let answer = put(&daemon, "wrong", &body)?;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert_clean(&format!("the answer to {body}"), answer.body.as_bytes());
        answer.problem();
    }
    let cut_off = format!("{{\"url\":\"{url}\",\"user\":\"{USER}\",\"password\":\"{CANARY}");
    let answer = Request::new("PUT", "/api/v1/cameras/wrong").body("application/json", cut_off).send(&daemon)?;
    answer.refuses_with(400, "a body that is cut off");
    assert_clean("the answer to a body that is cut off", answer.body.as_bytes());

    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/cameras",
        "/api/v1/cameras?deleted=true",
        "/api/v1/cameras/good",
        "/api/v1/cameras/closed",
        "/api/v1/cameras/nowhere",
        "/api/v1/cameras/unknown",
        "/api/v1/cameras/echo",
        "/api/v1/cameras/good/frames?limit=1000",
    ] {
        let answer = get(&daemon, path)?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_clean(path, answer.body.as_bytes());
    }

    let captures = children_of(daemon.pid())?;
    assert!(captures.contains(&daemon.status("good")?.pid.context("no capture process")?), "{captures:?}");
    assert!(!fs::read(format!("/proc/{}/environ", daemon.pid()))?.is_empty());
    for pid in captures.iter().chain([&daemon.pid()]) {
        for file in ["cmdline", "environ"] {
            // A camera that backs off has no process any more.
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert_clean(&format!("{file} of process {pid}"), &bytes);
        }
    }

    let secrets = stage.dir().join("state/secrets.json");
    assert_eq!(find_canary(&fs::read(&secrets)?).as_deref(), Some(CANARY), "the search finds nothing at all");
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    assert_eq!(mode(&stage.dir().join("state"))?, 0o700);
    for name in ["secrets.json", "admin.token", "journal.sqlite"] {
        assert_eq!(mode(&stage.dir().join("state").join(name))?, 0o600, "{name}");
    }
    let log = daemon.log_text();
    if filter == "debug" {
        assert!(log.contains("[secret]"), "no camera has made its capture process say the password:\n{log}");
    }

    daemon.quiesce(PATIENCE)?;
    assert_sound(&daemon, "good", None)?;
    leave(daemon)?;
    let files = files_below(stage.dir())?;
    assert!(files.iter().any(|path| path.ends_with("framehaul.log")) && files.contains(&secrets), "{files:?}");
    // The cameras are gone, and their passwords with them: from here on the file is no exception.
    for path in files {
        assert_clean(&path.display().to_string(), &fs::read(&path)?);
    }
    Ok(())
}

// ---- the command line ----

fn framehaul(arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(PROGRAM).args(arguments).output().context("cannot start framehaul")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_line_names_every_mistake() -> anyhow::Result<()> {
    let stage = stage()?;
    let config = stage.dir().join("mistakes.toml");
    let path = config.to_str().context("the path is no text")?;
    // An unknown section, an unknown key, a wrong type, an impossible value, a value that contradicts another.
    let text = "[uplaod]\nworkers = 3\n[http]\nport = 8080\n[debug]\nfault_injection = 3\n[state]\ndir = \"here\"\n\
                [upload]\nretry_min = \"30s\"\nretry_max = \"1s\"\n";
    fs::write(&config, text)?;
    for command in ["check", "serve"] {
        let output = framehaul(&[command, "--config", path])?;
        assert_eq!(output.status.code(), Some(78), "{command}: {output:?}");
        let lines = said(&output);
        for key in ["uplaod", "http.port", "debug.fault_injection", "state.dir", "upload.retry_min"] {
            assert!(
                lines.lines().any(|line| line.starts_with(&format!("error: {key}: "))),
                "{command}, {key}: {lines}"
            );
        }
        assert_eq!(lines.lines().count(), 5, "{command}: {lines}");
        assert!(output.stdout.is_empty(), "{command}: {output:?}");
    }

    fs::write(&config, "[upload\nworkers = ")?;
    let output = framehaul(&["check", "--config", path])?;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(said(&output).contains("TOML"), "{output:?}");

    let good = format!("[state]\ndir = \"{0}/state\"\n[storage]\nurl = \"file://{0}/frames\"\n", stage.dir().display());
    fs::write(&config, good)?;
    let output = framehaul(&["check", "--config", path])?;
    assert_eq!((output.status.code(), &*said(&output)), (Some(0), ""), "{output:?}");
    assert!(!stage.dir().join("state").exists(), "checking is not starting");

    // What the environment holds that is not ours need not be text.
    use std::os::unix::ffi::OsStrExt as _;
    let foreign = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let output = Command::new(PROGRAM).args(["check", "--config", path]).env("FOREIGN", foreign).output()?;
    assert_eq!((output.status.code(), &*said(&output)), (Some(0), ""), "{output:?}");

    for (unreadable, cause) in
        [("/no/such/file.toml", "No such file"), (stage.dir().to_str().unwrap_or_default(), "directory")]
    {
        for command in ["check", "serve"] {
            let output = framehaul(&[command, "--config", unreadable])?;
            assert_eq!(output.status.code(), Some(78), "{output:?}");
            assert!(said(&output).contains(unreadable) && said(&output).contains(cause), "{output:?}");
        }
    }

    let output = framehaul(&["--help"])?;
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && help.contains("Examples:") && help.contains("framehaul serve --config"),
        "{help}"
    );
    let output = framehaul(&["haul"])?;
    assert!(output.status.code() == Some(2) && said(&output).contains("haul"), "{output:?}");
    Ok(())
}

#[test]
fn a_state_directory_in_use_names_its_user() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let config = stage.dir().join("framehaul.toml");
    let output = framehaul(&["serve", "--config", config.to_str().context("the path is no text")?])?;
    let lines = said(&output);
    assert!(!output.status.success(), "{output:?}");
    let state = stage.dir().join("state").display().to_string();
    for word in [&state, &daemon.pid().to_string(), "state.dir"] {
        assert!(lines.contains(word), "{word}: {lines}");
    }
    // The first one is none the worse for it: its address and its token are still there.
    assert_eq!(get(&daemon, "/readyz")?.status, 200);
    assert!(stage.dir().join("state/http.addr").exists());
    leave(daemon)
}
