//! Playback over RTSP, on the port of everything else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::clip::Codec;
use testbed::mark::Mark;
use testbed::nvr::{Channel, Knobs, NvrServer, Options};
use testbed::oracle::decode;

use crate::client::{Client, uris};

fn recorder(codec: Codec) -> NvrServer {
    let channel = Channel { recordings: 2, pictures: 20, fps: 10, codec, ..Channel::default() };
    NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap()
}

/// A connection that speaks RTSP, with a login for each request.
struct Player {
    socket: BufReader<TcpStream>,
    client: Client,
    sequence: u32,
}

impl Player {
    fn of(server: &NvrServer) -> Player {
        let socket = TcpStream::connect(server.host()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Player { socket: BufReader::new(socket), client: Client::of(server), sequence: 0 }
    }

    /// The head of the answer, and its body.
    fn once(&mut self, method: &str, uri: &str, headers: &str) -> (String, String) {
        self.sequence += 1;
        let text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.sequence);
        self.socket.get_mut().write_all(text.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.socket.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.contains(&format!("\r\nCSeq: {}\r\n", self.sequence)), "{head}");
        let length =
            head.split("Content-Length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The status, and all that is said with it.
    fn call(&mut self, method: &str, uri: &str, headers: &str) -> (u16, String) {
        let (refused, _) = self.once(method, uri, "");
        assert!(refused.starts_with("RTSP/1.0 401 "), "{refused}");
        assert!(!refused.contains("qop"), "{refused}");
        let login = self.client.sign(&refused, method, uri);
        let (head, body) = self.once(method, uri, &format!("Authorization: {login}\r\n{headers}"));
        (head[9..12].parse().unwrap(), head + &body)
    }
}

const INTERLEAVED: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

#[test]
fn ffmpeg_plays_every_picture_at_the_pace_of_life() {
    for codec in [Codec::H264, Codec::H265] {
        let server = recorder(codec);
        let uri = uris(&server, 101).remove(1).replace("rtsp://", "rtsp://admin:Passw0rd1@");
        // Some clients put this before the path.
        let uri = uri.replace("/Streaming", "/ISAPI/Streaming");
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", &uri])
            // Its clock begins late, and a second picture at the same time would be refused.
            .args([
                "-vf",
                "setpts=N/TB",
                "-fps_mode",
                "passthrough",
                "-c:v",
                "mjpeg",
                "-q:v",
                "4",
                "-pix_fmt",
                "yuvj420p",
            ])
            .arg(dir.path().join("%06d.jpg"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(begun.elapsed() >= Duration::from_millis(1800), "{:?}", begun.elapsed());
        let mut paths: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let counters: Vec<u32> = paths
            .iter()
            .map(|path| {
                let (luma, width, height) = decode(&std::fs::read(path).unwrap()).unwrap();
                Mark::read(&luma, width, height).unwrap().counter
            })
            .collect();
        assert_eq!(counters, (20..40).collect::<Vec<_>>(), "{codec}");
        let playbacks = server.stats().playbacks;
        assert_eq!((playbacks.begun, playbacks.pictures, playbacks.complete), (1, 20, 1));
    }
}

#[test]
fn a_playback_is_described_and_its_place_is_limited() {
    let server = recorder(Codec::H264);
    server.change_knobs(|knobs| knobs.sessions = Some(1)).unwrap();
    let uri = uris(&server, 101).remove(0);
    let mut player = Player::of(&server);
    assert!(player.once("OPTIONS", &uri, "").0.contains("Public: OPTIONS, DESCRIBE, SETUP, PLAY"));
    let (status, told) = player.call("DESCRIBE", &uri, "");
    assert_eq!(status, 200, "{told}");
    for line in [
        "Content-Type: application/sdp",
        "a=range:clock=20261119T000000Z-20261119T001000Z",
        "a=rtpmap:96 H264/90000",
        "a=control:trackID=video",
        "a=Media_header:MEDIAINFO=494D4B48",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    // By time it is both of them.
    let both = uri.split("&name=").next().unwrap().replace("T001000Z", "T001500Z");
    assert!(player.call("DESCRIBE", &both, "").1.contains("20261119T000000Z-20261119T002000Z"));
    for (uri, status) in [(uri.replace("ch01", "ch09"), 404), (uri.replace("/101/", "/201/"), 404), (uri.clone(), 200)]
    {
        assert_eq!(player.call("DESCRIBE", &uri, "").0, status, "{uri}");
    }
    let track = format!("{uri}/trackID=video");
    assert_eq!(player.call("SETUP", &track, "Transport: RTP/AVP;unicast;client_port=5000-5001\r\n").0, 461);
    assert_eq!(player.call("PLAY", &uri, "").0, 454);
    assert_eq!(player.call("SETUP", &track, INTERLEAVED).0, 200);

    // It holds the only place, for downloads as well, until it is torn down.
    let mut other = Player::of(&server);
    assert_eq!(other.call("SETUP", &track, INTERLEAVED).0, 453);
    assert_eq!(Client::fetch(&server, "GET", &uri).refusal(), (503, "deviceBusy".into()));
    assert_eq!(player.call("TEARDOWN", &uri, "").0, 200);
    assert_eq!(player.socket.read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert_eq!(other.call("SETUP", &track, INTERLEAVED).0, 200);
    let stats = server.stats();
    assert_eq!((stats.playbacks.begun, stats.downloads.refused_busy, stats.downloads.most_sessions), (2, 2, 1));

    let knobs = Knobs { vanished: Some("ch01".into()), lock_after: Some(1), ..Knobs::default() };
    server.change_knobs(|now| *now = knobs).unwrap();
    assert_eq!(other.call("DESCRIBE", &uri, "").0, 404);
    // One door for all: a wrong password here locks the other protocol as well.
    other.client.password = "x".into();
    assert_eq!(other.call("DESCRIBE", &uri, "").0, 401);
    let checked = Client::of(&server).get("/ISAPI/Security/userCheck");
    assert_eq!((checked.status, checked.all("lockStatus")), (401, vec!["lock".into()]));
}

#[test]
fn some_playbacks_do_not_say_when_they_are_over() {
    let server = recorder(Codec::H264);
    let uri = uris(&server, 101).remove(0);
    for no_bye in [false, true] {
        server.change_knobs(|knobs| knobs.no_bye = no_bye).unwrap();
        let complete = server.stats().playbacks.complete;
        let mut player = Player::of(&server);
        assert_eq!(player.call("SETUP", &format!("{uri}/trackID=video"), INTERLEAVED).0, 200);
        assert_eq!(player.call("PLAY", &uri, "").0, 200);
        let (mut marks, mut byes) = (0, 0);
        player.socket.get_ref().set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
        let mut head = [0; 4];
        while byes == 0 && player.socket.read_exact(&mut head).is_ok() {
            let mut packet = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
            player.socket.read_exact(&mut packet).unwrap();
            match head[1] {
                0 => marks += packet[1] >> 7,
                _ => byes += 1,
            }
        }
        assert_eq!((marks, byes), (20, u8::from(!no_bye)));
        assert_eq!(server.stats().playbacks.complete, complete + 1);
    }
}
