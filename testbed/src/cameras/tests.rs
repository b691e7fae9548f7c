//! The servers seen from outside: by ffmpeg, and by bare RTSP requests.

mod http;
mod orders;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::*;
use crate::clip::Codec;
use crate::fixtures::{ffmpeg_to_jpegs, jpegs_of};
use crate::mark::Mark;
use crate::oracle::decode;

const FPS: u32 = 20;
const GOP: u32 = 10;
/// Frames of the tests' clips: 64 s.
const CLIP: i64 = 1280;

fn cache_dir() -> PathBuf {
    default_cache_dir()
}

/// Small cameras: `open` for anybody, `shut` with a login that an URL must escape, `other` with another one.
fn specs() -> [CameraSpec; 3] {
    let small = |name| CameraSpec::new(name).size(320, 240).rate(FPS, GOP);
    [small("open"), small("shut").login("hall", "p:a/s@s"), small("other").login("yard", "q")]
}

fn server() -> CameraServer {
    CameraServer::start(&specs(), 0, cache_dir()).unwrap()
}

/// The first `count` pictures a client gets.
fn watch(url: &str, transport: &str, count: u32) -> Vec<Mark> {
    marks(&["-timeout", "10000000", "-rtsp_transport", transport, "-i", url, "-frames:v", &count.to_string()])
}

/// The marks of what ffmpeg gets from an input.
fn marks(input: &[&str]) -> Vec<Mark> {
    let read = |jpeg: &Vec<u8>| {
        let (luma, width, height) = decode(jpeg).unwrap();
        Mark::read(&luma, width, height).unwrap()
    };
    jpegs_of(input, 4).iter().map(read).collect()
}

/// What ffmpeg says when it cannot play.
fn refusal(url: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = ffmpeg_to_jpegs(&["-rtsp_transport", "tcp", "-i", url, "-frames:v", "1"], 4, dir.path());
    assert!(!output.status.success(), "{url} plays");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The frame that the wall clock says is now.
fn frame_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_nanos() * u128::from(FPS) / 1_000_000_000) as i64 % CLIP
}

/// Sends a request and returns the answer, or the error it failed with.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"OPTIONS rtsp://127.0.0.1/open RTSP/1.0\r\nCSeq: 1\r\n\r\n")?;
    hear(stream)
}

/// The next answer; those to OPTIONS have no body.
fn hear(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut answer, mut byte) = (vec![], [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(server: &CameraServer) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream
}

#[test]
fn plays_every_frame_over_tcp_and_udp_from_the_newest_key_frame() {
    let server = server();
    for transport in ["tcp", "udp"] {
        let (before, started) = (frame_now(), Instant::now());
        let marks = watch(&server.url("open"), transport, 3 * GOP);
        let elapsed = started.elapsed();
        let first = i64::from(marks[0].counter);
        for (index, mark) in marks.iter().enumerate() {
            let counter = ((first + index as i64) % CLIP) as u32;
            assert_eq!(*mark, Mark { camera: specs()[0].number, counter, clip_frames: CLIP as u16 }, "{transport}");
        }
        assert_eq!(first % i64::from(GOP), 0);
        // Not older than the GOP that was running when the client started, and no newer than the clock.
        let since = (first - before + i64::from(GOP)).rem_euclid(CLIP);
        let until = (frame_now() - before + i64::from(GOP)).rem_euclid(CLIP);
        assert!((1..=until).contains(&since), "{transport}: {first} after {before}");
        // At the camera's pace: the last picture is 29 frames after the first, less what a client may get ahead of
        // time.
        assert!(elapsed >= Duration::from_secs(1), "{transport}: {elapsed:?}");
    }
}

#[test]
fn plays_h265_and_jpegs_over_tcp_and_udp() {
    let specs = [Codec::H265, Codec::Mjpeg]
        .map(|codec| CameraSpec::new(codec.name()).codec(codec).size(320, 240).rate(FPS, GOP));
    let server = CameraServer::start(&specs, 0, cache_dir()).unwrap();
    for CameraSpec { name, number, .. } in &specs {
        for transport in ["tcp", "udp"] {
            let before = frame_now();
            let marks = watch(&server.url(name), transport, 2 * GOP);
            let first = i64::from(marks[0].counter);
            for (index, mark) in marks.iter().enumerate() {
                let counter = ((first + index as i64) % CLIP) as u32;
                assert_eq!(*mark, Mark { camera: *number, counter, clip_frames: CLIP as u16 }, "{name} {transport}");
            }
            let age = (before - first).rem_euclid(CLIP);
            // A JPEG needs no other to be understood: the newest is the first. Connecting takes a while.
            let newest = name == "mjpeg";
            assert!(if newest { age == 0 || age > CLIP / 2 } else { first % i64::from(GOP) == 0 }, "{name} {age}");
        }
    }
}

#[test]
fn asks_for_the_login_where_there_is_one() {
    let server = server();
    let with = |name, login: &str| server.url(name).replace("rtsp://", &format!("rtsp://{login}@"));
    assert_eq!(watch(&with("shut", "hall:p%3Aa%2Fs%40s"), "tcp", 1).len(), 1);
    for url in [server.url("shut"), with("shut", "hall:wrong"), with("shut", "yard:p%3Aa%2Fs%40s"), server.url("other")]
    {
        let message = refusal(&url);
        assert!(message.contains("401 Unauthorized"), "{url}: {message}");
    }
    // Another camera's login, right as it is, does not open this one.
    refusal(&with("shut", "yard:q"));
    let missing = refusal(&server.url("open").replace("open", "nowhere"));
    assert!(missing.contains("404 Not Found"), "{missing}");
}

#[test]
fn comes_back_on_its_port_with_time_gone_on() {
    let mut server = server();
    let (url, port, pid) = (server.url("open"), server.port(), server.pid());
    let mut connected = connect(&server);
    assert!(ask(&mut connected).unwrap().starts_with("RTSP/1.0 200"));
    let before = frame_now();
    let first = watch(&url, "tcp", 2 * GOP + 5)[0];
    server.kill();
    // Cut off: the end of the stream or a reset, but no silence.
    let error = ask(&mut connected).unwrap_err();
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(server.freeze().is_err());

    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    let again = watch(&url, "tcp", 1)[0];
    let passed = (i64::from(again.counter) - i64::from(first.counter)).rem_euclid(CLIP);
    let by_clock = (frame_now() - before).rem_euclid(CLIP);
    // Watching alone took a second, which is two GOPs; the connection may begin up to one GOP ago.
    assert!((i64::from(GOP)..=by_clock + i64::from(GOP)).contains(&passed), "{passed} frames, {by_clock} by the clock");
}

#[test]
fn a_frozen_server_is_silent_and_a_thawed_one_answers() {
    let server = server();
    let mut stream = connect(&server);
    assert!(ask(&mut stream).unwrap().starts_with("RTSP/1.0 200"));
    server.freeze().unwrap();
    let silence = ask(&mut stream).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    server.thaw().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(hear(&mut stream).unwrap().starts_with("RTSP/1.0 200"));
}

#[test]
fn a_taken_port_is_an_error() {
    let server = server();
    let error = format!("{:#}", CameraServer::start(&specs(), server.port(), cache_dir()).unwrap_err());
    assert!(error.contains("did not start"), "{error}");
}

#[test]
fn the_server_leaves_when_its_standard_input_closes() {
    // It is closed in another server's place.
    let (mut server, mut other) = (server(), self::server());
    std::mem::swap(&mut server.orders, &mut other.orders);
    drop(other);
    // Hangs if it does not.
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn the_servers_end_is_noticed() {
    let mut server = server();
    signals::send(server.pid(), Signal::KILL).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = runtime.block_on(server.wait()).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn the_password_is_in_no_command_line_and_no_environment() {
    let server = server();
    let of = |what| String::from_utf8_lossy(&fs::read(format!("/proc/{}/{what}", server.pid())).unwrap()).into_owned();
    let (line, environment) = (of("cmdline"), of("environ"));
    assert!(line.contains("An RTSP server") && !line.contains("p:a/s@s"), "{line}");
    assert!(environment.contains("PATH=") && !environment.contains("p:a/s@s"), "{environment}");
}

#[test]
fn settings_are_read() {
    let full: CameraSpec =
        "name=a,codec=h265,size=1920x1080,fps=15,gop=30,user=u,password=p=q,auth=basic,number=7,seconds=10"
            .parse()
            .unwrap();
    let expected = CameraSpec { number: 7, clip_seconds: 10, ..CameraSpec::new("a") };
    assert_eq!(full, expected.codec(Codec::H265).size(1920, 1080).rate(15, 30).basic_login("u", "p=q"));
    assert_eq!("name=b,fps=5".parse::<CameraSpec>().unwrap(), CameraSpec::new("b").rate(5, 5));
    for (wrong, word) in [
        ("name", "not key=value"),
        ("name=a,size=640", "not WIDTHxHEIGHT"),
        ("name=a,fps=many", "`fps=many` is not a number"),
        ("name=a,colour=red", "unknown camera setting `colour`"),
        ("name=a,codec=vp9", "unknown codec `vp9`: known are h264, h265, mjpeg"),
        ("name=a,auth=none", "neither digest nor basic"),
        ("name=a,user=u", "only one of user and password"),
        ("name=a,number=65536", "not 0 to 65535"),
    ] {
        let message = wrong.parse::<CameraSpec>().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn cameras_that_cannot_be_told_apart_are_refused() {
    let a = || CameraSpec::new("a").size(320, 240);
    let b = || CameraSpec::new("b").size(320, 240);
    for (specs, word) in [
        (vec![], "no camera given"),
        (vec![CameraSpec::new("a b")], "camera name `a b`"),
        (vec![a(), a()], "two cameras are named `a`"),
        (vec![a(), CameraSpec { number: a().number, ..b() }], "same number"),
        (vec![a().login("u", "p"), b().login("u", "q")], "user `u` has two passwords"),
        (vec![a().size(321, 240)], "camera `a`"),
        (vec![a().codec(Codec::Mjpeg).size(324, 240)], "camera `a`"),
        (vec![a().basic_login("u", "p")], "camera `a` asks for a basic login"),
    ] {
        let message = CameraServer::start(&specs, 0, cache_dir()).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}
