//! Playback and live pictures over RTSP, on the port of everything else, as a recorder plays: at the pace of life, within
//! the connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::clock;
use super::library::{Channel, Recording};
use super::login::{Signed, Verdict};
use super::program_stream;
use super::rtp::{Packets, TYPE};
use super::service::App;
use super::session::Session;
use super::uri::{self, Meant, Part};
use crate::clip::Codec;

/// The longest head of a request, in bytes.
const HEAD_LIMIT: usize = 16 << 10;
const OK: &str = "RTSP/1.0 200 OK";
const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN";

/// Whether a connection that begins with this letter speaks RTSP: no method that we know of HTTP does.
pub(super) fn is_rtsp(first: u8) -> bool {
    matches!(first, b'O' | b'D' | b'S')
}

/// One connection.
#[derive(Debug)]
struct Connection {
    app: Arc<App>,
    socket: TcpStream,
    peer: IpAddr,
    read: BytesMut,
    player: Option<Player>,
}

/// What is being played, or is to be.
#[derive(Debug)]
struct Player {
    pictures: Vec<Bytes>,
    /// The channel whose pictures come again and again, if they do; and which of them was the first.
    live: Option<(u32, usize)>,
    next: usize,
    packets: Packets,
    fps: u32,
    /// When the first picture was sent.
    since: Option<Instant>,
    id: u32,
    _session: Session,
}

/// A request without its body, which none needs.
#[derive(Debug)]
struct Request {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }
}

/// A status, and the headers that go with it.
type Refusal = (&'static str, String);

fn refuse(status: &'static str) -> Refusal {
    (status, String::new())
}

/// Serves a connection until one of both ends it.
pub(super) async fn serve(app: Arc<App>, socket: TcpStream, peer: IpAddr) {
    let mut connection = Connection { app, socket, peer, read: BytesMut::new(), player: None };
    // A connection that breaks is the client's business.
    let _ = connection.run().await;
}

impl Connection {
    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            while let Some(request) = self.request()? {
                let answer = self.answer(&request);
                self.socket.write_all(answer.as_bytes()).await?;
                if request.method == "TEARDOWN" && answer.starts_with(OK) {
                    return Ok(());
                }
            }
            let due = self.player.as_ref().and_then(Player::due);
            tokio::select! {
                read = self.socket.read_buf(&mut self.read) => ensure!(read? > 0, "the client is gone"),
                () = async { sleep_until(due.expect("checked before")).await }, if due.is_some() => {
                    let player = self.player.as_mut().context("something is played")?;
                    let over = player.is_over();
                    let bytes = player.turn();
                    let silent = {
                        let mut state = self.app.state();
                        ensure!(!state.knobs.off, "the recorder is off");
                        let is_there = player.live.is_none_or(|(channel, _)| state.knobs.has_channel(channel));
                        ensure!(is_there, "the channel is gone");
                        // Whoever has read it finds it counted.
                        state.stats.playbacks.pictures += u64::from(!over);
                        state.stats.playbacks.complete += u64::from(over);
                        over && state.knobs.no_bye
                    };
                    if !silent {
                        self.socket.write_all(&bytes).await?;
                    }
                }
            }
        }
    }

    /// The next request, once all of it has come.
    fn request(&mut self) -> anyhow::Result<Option<Request>> {
        // What a player reports of its reception.
        while self.read.first() == Some(&b'$') {
            let Some(&[high, low]) = self.read.get(2..4) else { return Ok(None) };
            let length = 4 + usize::from(u16::from_be_bytes([high, low]));
            if self.read.len() < length {
                return Ok(None);
            }
            self.read.advance(length);
        }
        let Some(end) = self.read.windows(4).position(|at| at == b"\r\n\r\n") else {
            ensure!(self.read.len() < HEAD_LIMIT, "a head without an end");
            return Ok(None);
        };
        let head = std::str::from_utf8(&self.read[..end])?;
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(uri), Some("RTSP/1.0")) = (first.next(), first.next(), first.next()) else {
            bail!("this is no RTSP");
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        let request = Request { method: method.to_owned(), uri: uri.to_owned(), headers };
        let body: usize = request.header("content-length").map_or(Ok(0), str::parse)?;
        ensure!(body < HEAD_LIMIT, "a body that nobody needs");
        if self.read.len() < end + 4 + body {
            return Ok(None);
        }
        self.read.advance(end + 4 + body);
        Ok(Some(request))
    }

    fn answer(&mut self, request: &Request) -> String {
        let outcome = if request.method == "OPTIONS" {
            Ok(format!("Public: {METHODS}\r\n\r\n"))
        } else {
            self.let_in(request).and_then(|()| match request.method.as_str() {
                "DESCRIBE" => self.describe(request),
                "SETUP" => self.setup(request),
                "PLAY" => self.play(),
                "GET_PARAMETER" | "TEARDOWN" => Ok("\r\n".into()),
                _ => Err(refuse("501 Not Implemented")),
            })
        };
        let sequence = request.header("cseq").unwrap_or("0");
        match outcome {
            Ok(rest) => format!("{OK}\r\nCSeq: {sequence}\r\n{rest}"),
            Err((status, headers)) => format!("RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}\r\n"),
        }
    }

    fn let_in(&self, request: &Request) -> Result<(), Refusal> {
        let mut state = self.app.state();
        let login = request.header("authorization");
        let signed = Signed { peer: self.peer, method: &request.method, target: &request.uri, login };
        let mut knobs = state.knobs.clone();
        // Over RTSP recorders are older.
        knobs.no_qop = true;
        let verdict = state.judge(signed, &knobs);
        if verdict == Verdict::In {
            return Ok(());
        }
        let challenges = state.door.challenges(verdict, &knobs);
        let headers = challenges.iter().map(|challenge| format!("WWW-Authenticate: {challenge}\r\n"));
        Err(("401 Unauthorized", headers.collect()))
    }

    /// What of which recordings a request means; players put the name of a stream behind.
    fn recordings(&self, request: &Request) -> Result<Vec<(&Recording, &[Bytes])>, Refusal> {
        let uri = request.uri.split("/trackID=").next().unwrap_or_default();
        let knobs = self.app.state().knobs.clone();
        let library = &self.app.library;
        let parts = match uri::read(uri, &knobs, library).map_err(|_| refuse("404 Not Found"))? {
            Meant::File(place) => vec![Part { place, pictures: 0..library.recordings[place].pictures.len() }],
            Meant::Span(parts) => parts,
        };
        let cut = |Part { place, pictures }: Part| {
            let file = &library.recordings[place];
            (file, &file.pictures[pictures])
        };
        let files: Vec<(&Recording, &[Bytes])> = parts.into_iter().map(cut).collect();
        let has_vanished = files.iter().any(|(file, _)| knobs.has_vanished(&file.name));
        if has_vanished { Err(refuse("404 Not Found")) } else { Ok(files) }
    }

    /// The channel that a request wants to see live, if it does; players put the name of a stream behind.
    fn live(&self, request: &Request) -> Result<Option<u32>, Refusal> {
        let uri = request.uri.split("/trackID=").next().unwrap_or_default();
        let Some((_, stream)) = uri.trim_end_matches('/').rsplit_once("/Streaming/Channels/") else { return Ok(None) };
        let stream = stream.parse().ok().filter(|stream: &u32| (1..=2).contains(&(stream % 100)));
        let channel = stream.map_or(0, |stream| stream / 100);
        let shown = (channel as usize).checked_sub(1).and_then(|index| self.app.library.live.get(index));
        let is_there =
            shown.is_some_and(|pictures| !pictures.is_empty()) && self.app.state().knobs.has_channel(channel);
        if is_there { Ok(Some(channel)) } else { Err(refuse("404 Not Found")) }
    }

    fn describe(&self, request: &Request) -> Result<String, Refusal> {
        let (codec, range) = match self.live(request)? {
            Some(channel) => (self.app.library.channel(channel * 100 + 1).codec, "npt=now-".to_owned()),
            None => {
                let files = self.recordings(request)?;
                let (first, last) = (files[0].0, files[files.len() - 1].0);
                let zone = self.app.state().knobs.zone();
                let [begin, end] = [first.begin, last.end].map(|moment| clock::show_compact(zone.wall(moment)));
                (self.app.library.channel(first.track).codec, format!("clock={begin}-{end}"))
            }
        };
        let head = program_stream::head(codec, 0);
        let head: String = head.iter().map(|byte| format!("{byte:02X}")).collect();
        let encoding = if codec == Codec::H265 { "H265" } else { "H264" };
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Media Presentation\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
             a=control:*\r\na=range:{range}\r\nm=video 0 RTP/AVP {TYPE}\r\na=control:trackID=video\r\n\
             a=rtpmap:{TYPE} {encoding}/90000\r\na=Media_header:MEDIAINFO={head};\r\n"
        );
        let length = body.len();
        Ok(format!("Content-Type: application/sdp\r\nAccept-Ranges: UTC\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    fn setup(&mut self, request: &Request) -> Result<String, Refusal> {
        let transport = request.header("transport").unwrap_or_default();
        if !transport.contains("RTP/AVP/TCP") {
            return Err(refuse("461 Unsupported Transport"));
        }
        let live = self.live(request)?;
        let (track, pictures): (u32, Vec<Bytes>) = match live {
            Some(channel) => (channel * 100 + 1, self.app.library.live[channel as usize - 1].clone()),
            None => {
                let files = self.recordings(request)?;
                (files[0].0.track, files.iter().flat_map(|(_, pictures)| pictures.iter().cloned()).collect())
            }
        };
        let Channel { codec, fps, .. } = *self.app.library.channel(track);
        // All that look at a channel see the same, from the last key frame on.
        let live = live.map(|channel| (channel, key_frame_now(fps, pictures.len())));
        // A second stream of the same playback, which there is none of, would be no second session.
        self.player = None;
        let session = Session::begin(&self.app, None).ok_or(refuse("453 Not Enough Bandwidth"))?;
        {
            let playbacks = &mut self.app.state().stats.playbacks;
            *(if live.is_some() { &mut playbacks.live } else { &mut playbacks.begun }) += 1;
        }
        let id = fastrand::u32(1_000_000_000..2_000_000_000);
        self.player = Some(Player {
            packets: Packets::new(codec, fps, id),
            pictures,
            live,
            next: 0,
            fps,
            since: None,
            id,
            _session: session,
        });
        Ok(format!("Session: {id};timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc={id:08x}\r\n\r\n"))
    }

    fn play(&mut self) -> Result<String, Refusal> {
        let player = self.player.as_mut().ok_or(refuse("454 Session Not Found"))?;
        player.since.get_or_insert_with(Instant::now);
        Ok(format!("Session: {}\r\nRTP-Info: url=trackID=video;seq=0;rtptime=0\r\n\r\n", player.id))
    }
}

impl Player {
    /// When the next picture, or the word that there is none, is to be sent.
    fn due(&self) -> Option<Instant> {
        let at = self.since? + Duration::from_secs(self.next as u64) / self.fps;
        (self.live.is_some() || self.next <= self.pictures.len()).then_some(at)
    }

    /// Whether there is nothing more but to say so.
    fn is_over(&self) -> bool {
        self.live.is_none() && self.next == self.pictures.len()
    }

    /// What is to be sent now.
    fn turn(&mut self) -> Bytes {
        let place = match self.live {
            Some((_, first)) => (first + self.next) % self.pictures.len(),
            None => self.next,
        };
        let picture = self.pictures.get(place).cloned();
        self.next += 1;
        match picture {
            Some(picture) => self.packets.picture(&picture),
            None => self.packets.bye(),
        }
    }
}

/// The place of the key frame that a stream of so many pictures shows now, which begins again with each of its rounds.
fn key_frame_now(fps: u32, pictures: usize) -> usize {
    let seconds = time::OffsetDateTime::now_utc().unix_timestamp();
    // There is one each second.
    (seconds.unsigned_abs() as usize * fps as usize) % pictures / fps as usize * fps as usize
}
