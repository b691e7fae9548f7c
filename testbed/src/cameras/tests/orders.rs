//! What can be asked of a running server.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// A bare RTSP client with its stream inside the connection.
struct Client {
    stream: TcpStream,
    url: String,
    requests: u32,
}

/// What came from the server.
enum Word {
    /// The head of an answer.
    Answer(String),
    /// A packet; RTP comes on channel 0, RTCP on 1.
    Packet { channel: u8 },
}

impl Client {
    /// Connects and starts the stream.
    fn play(server: &CameraServer, name: &str) -> Self {
        let mut client = Self { stream: connect(server), url: server.url(name), requests: 0 };
        client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.ask("DESCRIBE", "", "");
        let answer = client.ask("SETUP", "/stream=0", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n");
        let session = answer.lines().find_map(|line| line.strip_prefix("Session: ")).unwrap();
        let session = session.split(';').next().unwrap().to_owned();
        client.ask("PLAY", "", &format!("Session: {session}\r\n"));
        client
    }

    /// Sends a request and waits for its answer; packets that come meanwhile are dropped.
    fn ask(&mut self, method: &str, below: &str, more: &str) -> String {
        self.requests += 1;
        let request = format!("{method} {}{below} RTSP/1.0\r\nCSeq: {}\r\n{more}\r\n", self.url, self.requests);
        self.stream.write_all(request.as_bytes()).unwrap();
        loop {
            if let Word::Answer(answer) = self.hear().unwrap() {
                assert!(answer.starts_with("RTSP/1.0 200"), "{method}: {answer}");
                return answer;
            }
        }
    }

    fn hear(&mut self) -> std::io::Result<Word> {
        let mut first = [0; 4];
        self.stream.read_exact(&mut first)?;
        if let [b'$', channel, high, low] = first {
            self.stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([high, low]))])?;
            return Ok(Word::Packet { channel });
        }
        let answer = String::from_utf8_lossy(&first).into_owned() + &hear(&mut self.stream)?;
        let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        self.stream.read_exact(&mut vec![0; length.map_or(0, |length| length.parse().unwrap())])?;
        Ok(Word::Answer(answer))
    }
}

/// Everything ffmpeg gets until the stream ends, which `then` must see to; it is called after a second of pictures.
fn watch_while<T>(url: &str, then: impl FnOnce() -> T) -> (Vec<Mark>, T) {
    let dir = tempfile::tempdir().unwrap();
    let input = ["-timeout", "20000000", "-rtsp_transport", "tcp", "-i", url];
    let done = thread::scope(|scope| {
        let watching = scope.spawn(|| ffmpeg_to_jpegs(&input, 4, dir.path()));
        while fs::read_dir(dir.path()).unwrap().count() < FPS as usize {
            assert!(!watching.is_finished());
            thread::sleep(Duration::from_millis(10));
        }
        let done = then();
        assert!(watching.join().unwrap().status.success());
        done
    });
    (marks(&["-i", dir.path().join("%06d.jpg").to_str().unwrap()]), done)
}

#[test]
fn a_login_is_counted_once_in_a_request() {
    let server = server();
    let with = |name, login: &str| server.url(name).replace("rtsp://", &format!("rtsp://{login}@"));
    refusal(&server.url("shut"));
    assert_eq!(watch(&server.url("open"), "tcp", 1).len(), 1);
    // Neither a request without a login nor one to a camera that asks for none counts.
    assert_eq!(server.logins().unwrap(), Logins::default());
    for (count, url) in [
        with("shut", "hall:wrong"),
        with("shut", "nobody:p%3Aa%2Fs%40s"),
        // Right as it is, but another camera's.
        with("shut", "yard:q"),
        with("other", "yard:wrong"),
    ]
    .into_iter()
    .enumerate()
    {
        refusal(&url);
        assert_eq!(server.logins().unwrap(), Logins { accepted: 0, refused: count as u64 + 1 }, "{url}");
    }
    watch(&with("shut", "hall:p%3Aa%2Fs%40s"), "tcp", 1);
    let Logins { accepted, refused } = server.logins().unwrap();
    assert!(accepted >= 1 && refused == 4, "{accepted} {refused}");
}

#[test]
fn a_silent_stream_keeps_its_connection_and_its_keep_alives() {
    let specs = ["open", "other"].map(|name| CameraSpec::new(name).size(320, 240).rate(FPS, GOP));
    let server = CameraServer::start(&specs, 0, cache_dir()).unwrap();
    let mut client = Client::play(&server, "open");
    let mut other = Client::play(&server, "other");
    while !matches!(client.hear().unwrap(), Word::Packet { channel: 0 }) {}
    assert_eq!(server.silence("open").unwrap(), 1);
    // What was on its way comes, and then nothing but RTCP.
    client.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while client.hear().is_ok() {}
    client.ask("OPTIONS", "", "");
    assert!(!matches!(client.hear(), Ok(Word::Packet { channel: 0 })));
    // Nobody else notices, and whoever comes anew gets pictures.
    other.ask("OPTIONS", "", "");
    while !matches!(other.hear().unwrap(), Word::Packet { channel: 0 }) {}
    assert_eq!(watch(&server.url("open"), "tcp", 1).len(), 1);
}

#[test]
fn an_ended_stream_brings_its_last_picture() {
    let server = server();
    let url = server.url("open");
    let (marks, last) = watch_while(&url, || server.end("open").unwrap());
    let first = marks[0].counter;
    for (index, mark) in marks.iter().enumerate() {
        assert_eq!(mark.counter, (first + index as u32) % CLIP as u32);
    }
    assert_eq!(last, [marks.last().map(|mark| mark.counter)]);
    assert!(marks.len() >= FPS as usize, "{}", marks.len());
    assert_eq!(watch(&url, "tcp", 1).len(), 1);
}

#[test]
fn a_replaced_camera_is_found_by_those_who_come_back() {
    let mut server = server();
    let url = server.url("open");
    let spec = specs()[0].clone().size(480, 360).codec(Codec::Mjpeg);
    let (marks, last) = watch_while(&url, || server.replace(spec.clone()).unwrap());
    assert_eq!(last, [marks.last().map(|mark| mark.counter)]);
    let described = || {
        let probe = ["-v", "error", "-rtsp_transport", "tcp", "-of", "csv=p=0", "-show_entries"];
        let output =
            Command::new("ffprobe").args(probe).args(["stream=codec_name,width,height", &url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(described(), "mjpeg,480,360");
    assert_eq!(watch(&url, "tcp", 1)[0].camera, spec.number);
    // It stays so when the server is started again.
    server.restart().unwrap();
    assert_eq!(described(), "mjpeg,480,360");
    assert!(server.replace(spec.login("hall", "x")).unwrap_err().to_string().contains("cannot be changed"));
    assert!(server.replace(CameraSpec::new("nobody")).unwrap_err().to_string().contains("no camera `nobody`"));
}

#[test]
fn a_picture_may_change_its_size_in_mid_stream() {
    let mut server = server();
    let url = server.url("open");
    let mut watching = Command::new("ffmpeg")
        .args(["-nostdin", "-rtsp_transport", "tcp", "-i", &url, "-vf", "showinfo", "-f", "null", "-"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sizes = vec![];
    for line in BufReader::new(watching.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let Some(size) = line.split(' ').find_map(|word| word.strip_prefix("s:")) else { continue };
        if sizes.last().is_none_or(|last| last != size) {
            sizes.push(size.to_owned());
            match sizes.len() {
                1 => assert_eq!(server.resize("open", 480, 360).unwrap(), 1),
                _ => drop(server.end("open").unwrap()),
            }
        }
    }
    assert!(watching.wait().unwrap().success());
    assert_eq!(sizes, ["320x240", "480x360"]);
}

#[test]
fn an_order_that_cannot_be_carried_out_is_an_error() {
    let mut server = server();
    let error = format!("{:#}", server.end("nowhere").unwrap_err());
    assert!(error.contains("nowhere"), "{error}");
    // The server goes on.
    assert_eq!(server.end("open").unwrap(), []);
    server.kill();
    assert!(server.end("open").is_err());
}
