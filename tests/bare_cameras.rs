//! Cameras whose session descriptions say nothing of parameter sets: they come with the pictures, and whoever joins in
//! the midst of one has to wait for them. Of their sound nobody asks. The packets here are made by hand: RFC 6184, 5.6
//! and 5.8; RFC 7798, 4.4.1 and 4.4.3.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::cameras::default_cache_dir;
use testbed::clip::{ClipSpec, Codec};
use testbed::daemon::Storage;
use testbed::scenario::testing;

const PATIENCE: Duration = Duration::from_secs(60);
const FPS: u32 = 25;
/// Longest payload: most pictures take several packets.
const MOST: usize = 400;
/// The first packet that is sent: in the midst of a picture in the midst of a group of pictures.
const JOINED_AT: (usize, usize) = (3, 2);

/// Payloads of a clip's pictures.
fn payloads(codec: Codec, stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let starts: Vec<usize> = stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at).collect();
    let mut pictures = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(stream.len());
        let mut unit = &stream[start + 3..end];
        while let [rest @ .., 0] = unit {
            unit = rest;
        }
        let is_delimiter = match codec {
            Codec::H264 => unit[0] & 0x1f == 9,
            _ => unit[0] >> 1 & 0x3f == 35,
        };
        if is_delimiter {
            // Few cameras send it: what follows has to be told apart without.
            pictures.push(Vec::new());
            continue;
        }
        let picture = pictures.last_mut().expect("a clip begins with a delimiter");
        if unit.len() <= MOST {
            picture.push(unit.to_vec());
            continue;
        }
        let header = if codec == Codec::H264 { 1 } else { 2 };
        let pieces = unit[header..].chunks(MOST);
        let last = pieces.len() - 1;
        for (number, piece) in pieces.enumerate() {
            let ends = u8::from(number == 0) << 7 | u8::from(number == last) << 6;
            let mut payload = match codec {
                Codec::H264 => vec![unit[0] & 0xe0 | 28, ends | unit[0] & 0x1f],
                _ => vec![unit[0] & 0x81 | 49 << 1, unit[1], ends | unit[0] >> 1 & 0x3f],
            };
            payload.extend_from_slice(piece);
            picture.push(payload);
        }
    }
    pictures
}

/// An RTSP server that tells of no parameter sets. Dropping it ends it.
struct Bare {
    port: u16,
    over: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

/// What clients have asked for.
#[derive(Default)]
struct Counts {
    /// A description of what there is.
    asked: AtomicU32,
    /// One of the streams: there are pictures and sound.
    set_up: AtomicU32,
}

impl Bare {
    fn start(codec: Codec) -> anyhow::Result<Self> {
        let clip = ClipSpec { camera: 1, width: 320, height: 240, fps: FPS, gop: 25, codec, seconds: 4 };
        let pictures = Arc::new(payloads(codec, &fs::read(clip.cached(&default_cache_dir())?)?));
        ensure!(pictures[JOINED_AT.0].len() > JOINED_AT.1 + 1, "a picture is too small to be joined in its midst");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (over, counts) = <(Arc<AtomicBool>, Arc<Counts>)>::default();
        let (told, counter) = (over.clone(), counts.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Relaxed) {
                    return;
                }
                let (pictures, told, counter) = (pictures.clone(), told.clone(), counter.clone());
                // The client hangs up when it has what it came for.
                thread::spawn(move || serve(stream, codec, &pictures, &told, &counter));
            }
        });
        Ok(Self { port, over, counts })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    mut stream: TcpStream,
    codec: Codec,
    pictures: &[Vec<Vec<u8>>],
    over: &AtomicBool,
    counts: &Counts,
) -> anyhow::Result<()> {
    let mut requests = BufReader::new(stream.try_clone()?);
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            ensure!(requests.read_line(&mut line)? > 0, "the client is gone");
            request.push_str(&line);
        }
        let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
        let method = request.split(' ').next().unwrap_or_default();
        let rest = match method {
            "DESCRIBE" => {
                counts.asked.fetch_add(1, Relaxed);
                let (name, more) = match codec {
                    Codec::H264 => ("H264", "a=fmtp:96 packetization-mode=1\r\n"),
                    _ => ("H265", ""),
                };
                let sdp = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                     a=rtpmap:96 {name}/90000\r\n{more}a=control:track1\r\nm=audio 0 RTP/AVP 0\r\na=control:track2\r\n"
                );
                format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
            }
            "SETUP" => {
                counts.set_up.fetch_add(1, Relaxed);
                "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".to_owned()
            }
            "PLAY" => "Session: 1\r\n\r\n".to_owned(),
            _ => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_owned(),
        };
        stream.write_all(format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{rest}").as_bytes())?;
        if method == "PLAY" {
            return play(&mut stream, pictures, over);
        }
    }
}

/// Sends the pictures round and round, at their rate.
fn play(stream: &mut TcpStream, pictures: &[Vec<Vec<u8>>], over: &AtomicBool) -> anyhow::Result<()> {
    let (mut seq, mut time) = (60_000_u16, 7_u32);
    let mut skipped = JOINED_AT.1;
    for picture in pictures.iter().cycle().skip(JOINED_AT.0) {
        if over.load(Relaxed) {
            break;
        }
        let skip = std::mem::take(&mut skipped);
        for (number, payload) in picture.iter().enumerate().skip(skip) {
            let length = u16::try_from(12 + payload.len())?;
            let marker = u8::from(number + 1 == picture.len()) << 7;
            let mut packet = [&[b'$', 0], &length.to_be_bytes()[..], &[0x80, marker | 96]].concat();
            packet.extend(seq.to_be_bytes());
            packet.extend(time.to_be_bytes());
            packet.extend([0, 0, 0, 1]);
            packet.extend(payload);
            stream.write_all(&packet)?;
            seq = seq.wrapping_add(1);
        }
        time = time.wrapping_add(90_000 / FPS);
        // The camera's own clock: nothing waits for this.
        thread::sleep(Duration::from_secs(1) / FPS);
    }
    Ok(())
}

fn delivers(codec: Codec, engine: &str) -> anyhow::Result<()> {
    let camera = Bare::start(codec)?;
    let stage = testing::stage(env!("CARGO_BIN_EXE_framehaul"));
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let url = format!("rtsp://127.0.0.1:{}/main", camera.port);
    // OpenCV cannot mark.
    let damaged = if engine == "ffmpeg" { "mark" } else { "drop" };
    daemon.put_camera("bare", &json!({ "url": url, "engine": engine, "damaged": damaged }))?;
    let streams = daemon.wait_for("bare", PATIENCE, |status| status.totals.stored > 60);
    let status = streams.map_err(|error| daemon.explain(error))?;
    assert_eq!(status.generation, 1, "{codec}: {:?}", status.last_error);
    assert_eq!(camera.counts.asked.load(Relaxed), 1, "{codec}: one login is enough");
    assert_eq!(camera.counts.set_up.load(Relaxed), 1, "{codec}: of its sound nothing is wanted");
    let page: Value = serde_json::from_str(&daemon.get("/api/v1/cameras/bare/frames?limit=60")?)?;
    let entries = page["entries"].as_array().context("no entries")?;
    let frames: Vec<&Value> = entries.iter().filter(|entry| entry["type"] == "frame").collect();
    ensure!(frames.len() > 50, "few frames: {page}");
    let damaged: Vec<&Value> = frames.into_iter().filter(|frame| !frame["damaged"].is_null()).collect();
    ensure!(damaged.is_empty(), "nothing was lost: {damaged:?}");
    daemon.stop()?;
    Ok(())
}

#[test]
fn h264_without_parameter_sets_in_its_description_is_delivered() -> anyhow::Result<()> {
    delivers(Codec::H264, "ffmpeg")
}

#[test]
fn h265_without_parameter_sets_in_its_description_is_delivered() -> anyhow::Result<()> {
    delivers(Codec::H265, "ffmpeg")
}

#[test]
fn opencv_asks_for_the_pictures_alone_too() -> anyhow::Result<()> {
    delivers(Codec::H264, "opencv")
}
