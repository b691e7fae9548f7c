//! Jobs with recordings, each in a process of its own: what comes out is judged by the counters in the pixels, as ffmpeg
//! decodes them. The recordings are the simulated recorder's.
#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use framehaul::media::{
    Container, Cut, Frames, Job, Launcher, Limits, MediaError, MediaErrorKind, Outcome, Record, Remux, Sound, Span,
};
use tempfile::TempDir;
use testbed::clip::Codec;
use testbed::mark::Mark;
use testbed::nvr::{self, Channel, Law, NvrServer, Options};
use testbed::oracle::decode;
use testbed::scenario::media_libraries;
use tokio::time::Instant;

const FPS: u32 = 5;
const PICTURES: u16 = 20;
/// Of each recording.
const SECONDS: u64 = PICTURES as u64 / FPS as u64;
const WIDTH: usize = 320;
const HEIGHT: usize = 240;

fn launcher() -> Launcher {
    let daemon = Path::new(env!("CARGO_BIN_EXE_framehaul"));
    Launcher { engines: daemon.parent().unwrap().to_owned(), limits: Limits::default() }
}

fn recorder(channel: Channel) -> NvrServer {
    let channel = Channel { recordings: 3, pictures: PICTURES, fps: FPS, ..channel };
    NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap()
}

/// A directory with a recorder's recordings, in their order.
struct Shelf {
    dir: TempDir,
    files: Vec<PathBuf>,
}

impl Shelf {
    fn of(channel: Channel) -> Self {
        let server = recorder(channel);
        let dir = tempfile::tempdir().unwrap();
        let files = server.recordings().into_iter().map(|recording| {
            let path = dir.path().join(&recording.name);
            fs::write(&path, server.read(recording.track, &recording.name).unwrap()).unwrap();
            path
        });
        let files = files.collect();
        Self { dir, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn remux(&self, inputs: &[&Path], container: Container, cut: Cut) -> Remux {
        let output = self.path("output").with_extension(container.extension());
        // Each job may use the name of the one before.
        let _ = fs::remove_file(&output);
        Remux { inputs: inputs.iter().map(|path| (*path).to_owned()).collect(), output, container, cut }
    }

    async fn run(&self, inputs: &[&Path], container: Container, cut: Cut) -> Result<Outcome, MediaError> {
        let job = self.remux(inputs, container, cut);
        let outcome = launcher().run(&Job::Remux(job), |_| ()).await;
        self.assert_tidy();
        outcome
    }

    fn assert_tidy(&self) {
        let left = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let parts: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
        assert!(parts.is_empty(), "{parts:?}");
    }
}

/// The counters of all pictures that ffmpeg decodes.
fn counters(path: &Path) -> Vec<u32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", path.display());
    let pictures = output.stdout.chunks(WIDTH * HEIGHT);
    // ffmpeg has made full range of video's: white stays white and black is black.
    pictures.map(|luma| Mark::read(luma, WIDTH, HEIGHT).unwrap().counter).collect()
}

/// What ffprobe says of a file, without a word of complaint.
fn probe(path: &Path, what: &[&str]) -> Vec<String> {
    let output =
        Command::new("ffprobe").args(["-v", "warning", "-of", "csv=p=0"]).args(what).arg(path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", path.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The times at which pictures are shown, seconds.
fn shown(path: &Path) -> Vec<f64> {
    let told = probe(path, &["-select_streams", "v", "-show_entries", "packet=pts_time"]);
    let mut times: Vec<f64> = told.iter().map(|time| time.parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Whether pictures come one by one at their distance, from the begin on.
fn assert_even(path: &Path, count: usize) {
    let times = shown(path);
    assert_eq!(times.len(), count, "{}", path.display());
    for (nth, time) in times.iter().enumerate() {
        let expected = nth as f64 / f64::from(FPS);
        assert!((time - times[0] - expected).abs() < 0.0015, "{nth}: {time} is not {expected}");
    }
}

fn seconds(span: Span) -> (f64, f64) {
    (span.from.as_secs_f64(), span.until.as_secs_f64())
}

#[tokio::test]
async fn every_picture_is_in_the_output_in_its_order_and_at_its_time() {
    for codec in [Codec::H264, Codec::H265] {
        for from in [nvr::Container::Ps, nvr::Container::Mp4] {
            let shelf = Shelf::of(Channel { codec, container: from, ..Channel::default() });
            let second = u32::from(PICTURES)..2 * u32::from(PICTURES);
            for to in [Container::Mp4, Container::Mkv] {
                let outcome = shelf.run(&[&shelf.files[1]], to, Cut::default()).await.unwrap();
                let of = format!("{codec} from {from:?} to {to:?}: {outcome:?}");
                assert!(outcome.is_complete(), "{of}");
                assert_eq!((outcome.pictures.read, outcome.pictures.written), (20, 20), "{of}");
                assert_eq!((&outcome.sound, outcome.jumps), (&Sound::None, 0), "{of}");
                assert_eq!(seconds(outcome.kept), (0.0, SECONDS as f64), "{of}");
                let path = &outcome.files[0];
                assert_eq!(outcome.bytes, path.metadata().unwrap().len());
                assert_eq!(counters(path), second.clone().collect::<Vec<_>>(), "{of}");
                assert_even(path, 20);
                let told = probe(path, &["-show_entries", "stream=codec_name,codec_tag_string"]);
                let expected = match (codec, to) {
                    (Codec::H265, Container::Mp4) if from == nvr::Container::Ps => "hevc,hvc1",
                    (Codec::H265, Container::Mp4) => "hevc,hev1",
                    (_, Container::Mp4) => "h264,avc1",
                    (Codec::H265, Container::Mkv) => "hevc,[0][0][0][0]",
                    (_, Container::Mkv) => "h264,[0][0][0][0]",
                };
                assert_eq!(told, [expected], "{of}");
            }
        }
    }
}

#[test]
fn media_libraries_are_the_media_programs_alone() {
    let daemon = Path::new(env!("CARGO_BIN_EXE_framehaul"));
    assert_eq!(media_libraries(daemon).unwrap().0, Vec::<String>::new());
    let media = media_libraries(&daemon.with_file_name("framehaul-media")).unwrap().0;
    assert!(media.iter().any(|line| line.contains("avformat")), "{media:?}");
}

#[tokio::test]
async fn several_files_become_one_without_a_seam() {
    for container in [nvr::Container::Ps, nvr::Container::Mp4] {
        let shelf = Shelf::of(Channel { container, ..Channel::default() });
        let inputs: Vec<&Path> = shelf.files.iter().map(PathBuf::as_path).collect();
        let outcome = shelf.run(&inputs, Container::Mp4, Cut::default()).await.unwrap();
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!(seconds(outcome.kept), (0.0, 3.0 * SECONDS as f64));
        assert_eq!(counters(&outcome.files[0]), (0..60).collect::<Vec<_>>());
        assert_even(&outcome.files[0], 60);
    }
}

#[tokio::test]
async fn what_cannot_be_joined_is_not() {
    let (small, other) = (
        Shelf::of(Channel::default()),
        Shelf::of(Channel { codec: Codec::H265, container: nvr::Container::Mp4, ..Channel::default() }),
    );
    let error = small.run(&[&small.files[0], &other.files[0]], Container::Mp4, Cut::default()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Differ, "{error}");
    assert!(!small.path("output.mp4").exists());
}

#[tokio::test]
async fn a_part_begins_with_a_key_frame_and_says_where() {
    let shelf = Shelf::of(Channel::default());
    let inputs: Vec<&Path> = shelf.files.iter().map(PathBuf::as_path).collect();
    let cut =
        |skip: f64, most: f64| Cut { skip: Duration::from_secs_f64(skip), most: Some(Duration::from_secs_f64(most)) };
    // A key frame each second. From one file into the next.
    for (skip, most, from, until) in
        [(0.0, 2.0, 0.0, 2.0), (1.5, 3.5, 1.0, 5.0), (4.0, 1.0, 4.0, 5.0), (11.9, 9.0, 11.0, 12.0)]
    {
        let outcome = shelf.run(&inputs, Container::Mkv, cut(skip, most)).await.unwrap();
        assert_eq!(seconds(outcome.kept), (from, until), "{skip} {most}");
        assert!(outcome.is_complete(), "{outcome:?}");
        let [from, until] = [from, until].map(|second| (second * f64::from(FPS)) as u32);
        assert_eq!(counters(&outcome.files[0]), (from..until).collect::<Vec<_>>());
        assert_even(&outcome.files[0], (until - from) as usize);
    }
    let error = shelf.run(&inputs, Container::Mkv, cut(12.0, 1.0)).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Input, "{error}");
}

#[tokio::test]
async fn sound_is_kept_as_the_container_can_hold_it() {
    for (law, name) in [(Law::A, "pcm_alaw"), (Law::Mu, "pcm_mulaw")] {
        let shelf = Shelf::of(Channel { sound: Some(law), ..Channel::default() });
        let inputs: Vec<&Path> = shelf.files.iter().map(PathBuf::as_path).collect();
        for (container, sound, codec) in
            [(Container::Mp4, Sound::Encoded { from: name.to_owned() }, "aac"), (Container::Mkv, Sound::Copied, name)]
        {
            let outcome = shelf.run(&inputs, container, Cut::default()).await.unwrap();
            assert!(outcome.is_complete(), "{outcome:?}");
            assert_eq!(outcome.sound, sound);
            assert_eq!(outcome.packets_of_sound.read, outcome.packets_of_sound.written);
            let path = &outcome.files[0];
            assert_eq!(counters(path), (0..60).collect::<Vec<_>>());
            assert_eq!(probe(path, &["-select_streams", "a", "-show_entries", "stream=codec_name"]), [codec]);
            assert_tone(path);
        }
    }
}

/// Whether twelve seconds of the recorder's tone are heard, without holes.
fn assert_tone(path: &Path) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-f", "s16le", "-ar", "8000", "-ac", "1", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let samples: Vec<f64> =
        output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]).into()).collect();
    let length = samples.len() as f64 / 8_000.0;
    assert!((11.9..12.3).contains(&length), "{length}");
    // The share of the tone in each tenth of a second, but for the seams' and the ends': AAC begins softly.
    for (nth, tenth) in samples.chunks_exact(800).take(118).enumerate().skip(2) {
        let turn = |number: usize| 440.0 * std::f64::consts::TAU * number as f64 / 8_000.0;
        let (mut re, mut im) = (0.0, 0.0);
        for (number, sample) in tenth.iter().enumerate() {
            re += sample * turn(number).cos();
            im += sample * turn(number).sin();
        }
        let level = 2.0 * f64::hypot(re, im) / 800.0;
        assert!((6_000.0..9_500.0).contains(&level), "{level} at {nth}");
    }
}

#[tokio::test]
async fn a_stream_whose_clock_begins_anew_goes_on() {
    // The same pictures again and again, each time from zero.
    let shelf = Shelf::of(Channel { least_bytes: 200_000, ..Channel::default() });
    let outcome = shelf.run(&[&shelf.files[0]], Container::Mp4, Cut::default()).await.unwrap();
    assert!(outcome.jumps > 0 && outcome.is_complete(), "{outcome:?}");
    let found = counters(&outcome.files[0]);
    assert!(found.len() > 20 && found.len() as u64 == outcome.pictures.written, "{outcome:?}");
    assert!(found.iter().enumerate().all(|(nth, counter)| nth as u32 % 20 == *counter), "{found:?}");
    assert_even(&outcome.files[0], found.len());
}

/// A program stream whose times are all so many ticks later, in the 33 bits that they have.
fn later(stream: &[u8], ticks: u64) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    let mut at = 40;
    while at + 14 <= bytes.len() {
        assert_eq!(bytes[at..at + 3], [0, 0, 1], "{at}");
        if bytes[at + 3] == 0xba {
            at += 14;
            continue;
        }
        let length = 6 + usize::from(u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]));
        if matches!(bytes[at + 3], 0xc0 | 0xe0) && bytes[at + 7] & 0x80 != 0 {
            let pts = &mut bytes[at + 9..at + 14];
            let bits = |byte: u8| u64::from(byte);
            let time = (bits(pts[0]) >> 1 & 7) << 30
                | bits(pts[1]) << 22
                | (bits(pts[2]) >> 1) << 15
                | bits(pts[3]) << 7
                | bits(pts[4]) >> 1;
            let time = (time + ticks) & ((1 << 33) - 1);
            pts[0] = 0x21 | (time >> 29 & 0xe) as u8;
            pts[1..3].copy_from_slice(&((time >> 14 & 0xfffe | 1) as u16).to_be_bytes());
            pts[3..5].copy_from_slice(&((time << 1 & 0xfffe | 1) as u16).to_be_bytes());
        }
        at += length;
    }
    bytes
}

#[tokio::test]
async fn times_begin_anywhere_and_their_33_bits_are_not_enough() {
    let shelf = Shelf::of(Channel { sound: Some(Law::Mu), ..Channel::default() });
    let path = shelf.path("later");
    let whole = fs::read(&shelf.files[0]).unwrap();
    for ticks in [90_000 * 3_600, (1 << 33) - 2 * 90_000, (1 << 33) - 90_000 / 5] {
        fs::write(&path, later(&whole, ticks)).unwrap();
        let outcome = shelf.run(&[&path, &shelf.files[1]], Container::Mp4, Cut::default()).await.unwrap();
        assert!(outcome.is_complete(), "{ticks}: {outcome:?}");
        assert_eq!(seconds(outcome.kept), (0.0, 2.0 * SECONDS as f64), "{ticks}");
        assert_eq!(counters(&outcome.files[0]), (0..40).collect::<Vec<_>>(), "{ticks}");
        assert_even(&outcome.files[0], 40);
    }
}

/// Makes a file of another with ffmpeg.
fn ffmpeg(input: &Path, options: &[&str], output: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(input).args(options).arg(output);
    assert!(command.status().unwrap().success());
}

#[tokio::test]
async fn pictures_that_are_shown_in_another_order_keep_both() {
    let shelf = Shelf::of(Channel { container: nvr::Container::Mp4, ..Channel::default() });
    let files: Vec<PathBuf> = shelf.files.iter().map(|file| file.with_extension("mkv")).collect();
    for (from, to) in shelf.files.iter().zip(&files) {
        let encoder = ["-c:v", "libx264", "-bf", "3", "-b_strategy", "0", "-g", "10", "-x264-params", "scenecut=0"];
        ffmpeg(from, &encoder, to);
        assert!(probe(to, &["-show_entries", "stream=has_b_frames"])[0] != "0");
    }
    let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    for container in [Container::Mp4, Container::Mkv] {
        let outcome = shelf.run(&inputs, container, Cut::default()).await.unwrap();
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!(counters(&outcome.files[0]), (0..60).collect::<Vec<_>>());
        assert_even(&outcome.files[0], 60);
    }
}

#[tokio::test]
async fn sound_that_nobody_can_keep_is_left_out_and_told() {
    let shelf = Shelf::of(Channel { sound: Some(Law::Mu), ..Channel::default() });
    let path = shelf.path("six.mkv");
    ffmpeg(&shelf.files[0], &["-c:v", "copy", "-c:a", "pcm_s16le", "-ac", "6"], &path);
    let outcome = shelf.run(&[&path], Container::Mp4, Cut::default()).await.unwrap();
    assert!(matches!(&outcome.sound, Sound::Dropped { reason } if reason.contains("pcm_s16le")), "{outcome:?}");
    assert_eq!(counters(&outcome.files[0]), (0..20).collect::<Vec<_>>());
    assert_eq!(outcome.packets_of_sound.read, 0);

    let other = Shelf::of(Channel { sound: Some(Law::A), ..Channel::default() });
    let outcome = shelf.run(&[&shelf.files[0], &other.files[1]], Container::Mkv, Cut::default()).await.unwrap();
    assert!(matches!(&outcome.sound, Sound::Dropped { reason } if reason.contains("another kind")), "{outcome:?}");
    assert_eq!(counters(&outcome.files[0]), (0..40).collect::<Vec<_>>());

    // Only the second has any; and only the first.
    let silent = Shelf::of(Channel::default());
    let outcome = shelf.run(&[&silent.files[0], &shelf.files[1]], Container::Mkv, Cut::default()).await.unwrap();
    assert!(matches!(&outcome.sound, Sound::Dropped { .. }), "{outcome:?}");
    let outcome = shelf.run(&[&shelf.files[0], &silent.files[1]], Container::Mp4, Cut::default()).await.unwrap();
    assert!(matches!(&outcome.sound, Sound::Encoded { .. }), "{outcome:?}");
    assert_even(&outcome.files[0], 40);
}

#[tokio::test]
async fn what_is_very_large_is_written_in_fragments() {
    let shelf = Shelf::of(Channel { container: nvr::Container::Mp4, ..Channel::default() });
    // A box of nothing, ten gigabytes of it, that takes no room on the disk.
    let large = 10 << 30_u64;
    let mut file = fs::File::options().append(true).open(&shelf.files[0]).unwrap();
    file.write_all(&[0, 0, 0, 1, b'f', b'r', b'e', b'e']).unwrap();
    file.write_all(&u64::to_be_bytes(large)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length + large - 16).unwrap();
    let outcome = shelf.run(&[&shelf.files[0]], Container::Mp4, Cut::default()).await.unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    let written = fs::read(&outcome.files[0]).unwrap();
    assert!(written.windows(4).any(|bytes| bytes == b"moof"));
    assert_eq!(counters(&outcome.files[0]), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn memory_does_not_grow_with_the_recording() {
    let shelf = Shelf::of(Channel { least_bytes: 150_000_000, ..Channel::default() });
    let job = Job::Remux(shelf.remux(&[&shelf.files[0]], Container::Mp4, Cut::default()));
    let launcher = launcher();
    let work = launcher.run(&job, |_| ());
    tokio::pin!(work);
    let mut most_kib = 0;
    let mut moments = tokio::time::interval(Duration::from_millis(20));
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome.unwrap(),
            _ = moments.tick() => most_kib = most_kib.max(children().into_iter().map(peak_kib).max().unwrap_or(0)),
        }
    };
    assert!(outcome.is_complete() && outcome.bytes > 100_000_000, "{outcome:?}");
    // All that run at the moment, those of other tests among them.
    assert!((5_000..120_000).contains(&most_kib), "{most_kib} KiB");
}

/// The most that a process has held at once.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn broken_files_are_not_called_complete() {
    for container in [nvr::Container::Ps, nvr::Container::Mp4] {
        let shelf = Shelf::of(Channel { container, ..Channel::default() });
        let whole = fs::read(&shelf.files[0]).unwrap();
        let path = shelf.path("broken");
        let judge = |outcome: Result<Outcome, MediaError>, what: &str| match outcome {
            Ok(outcome) => {
                assert!(!outcome.is_complete(), "{what}: {outcome:?}");
                assert_eq!(outcome.pictures.read, outcome.pictures.written);
            }
            Err(error) => {
                assert_eq!(error.kind, MediaErrorKind::Input, "{what}: {error}");
                assert!(!shelf.path("output.mp4").exists());
            }
        };
        for share in [1, 3, 5, 9] {
            fs::write(&path, &whole[..whole.len() * share / 10 + 1]).unwrap();
            let outcome = shelf.run(&[&path], Container::Mp4, Cut::default()).await;
            assert!(container == nvr::Container::Mp4 || outcome.is_ok(), "{outcome:?}");
            judge(outcome, &format!("{share}0 % of {container:?}"));
        }
        // A hole in the middle, and something else there.
        let (begin, end) = (whole.len() / 3, whole.len() / 3 + 3_000);
        fs::write(&path, [&whole[..begin], &whole[end..]].concat()).unwrap();
        judge(shelf.run(&[&path], Container::Mp4, Cut::default()).await, "a hole");
        // Among others it says which one.
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let outcome = shelf.run(&[&shelf.files[0], &path, &shelf.files[1]], Container::Mkv, Cut::default()).await;
        if let Ok(outcome) = outcome {
            let reason = outcome.incomplete.clone().unwrap_or_default();
            assert!(reason.starts_with("broken: "), "{outcome:?}");
            assert!(outcome.pictures.written > 40, "{outcome:?}");
        }
    }
    let shelf = Shelf::of(Channel::default());
    let path = shelf.path("broken");
    for garbage in [Vec::new(), b"<html>no</html>".repeat(1_000), vec![0; 100_000], b"IMKH".repeat(10_000)] {
        fs::write(&path, garbage).unwrap();
        let error = shelf.run(&[&path], Container::Mp4, Cut::default()).await.unwrap_err();
        assert_eq!(error.kind, MediaErrorKind::Input, "{error}");
    }
    let error = shelf.run(&[&shelf.path("nothing")], Container::Mp4, Cut::default()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Input, "{error}");
}

#[tokio::test]
async fn a_part_of_a_file_with_a_hole_in_it_is_not_called_complete() {
    let shelf = Shelf::of(Channel::default());
    let whole = fs::read(&shelf.files[0]).unwrap();
    let path = shelf.path("broken");
    // A part that ends within the file, behind the hole and before it.
    for (place, most, complete) in [(whole.len() / 4, 3, false), (whole.len() * 4 / 5, 1, true)] {
        fs::write(&path, [&whole[..place], &whole[place + 3_000..]].concat()).unwrap();
        let cut = Cut { skip: Duration::ZERO, most: Some(Duration::from_secs(most)) };
        let outcome = shelf.run(&[&path, &shelf.files[1]], Container::Mkv, cut).await.unwrap();
        assert_eq!(outcome.is_complete(), complete, "{outcome:?}");
    }
}

#[tokio::test]
async fn no_flipped_bytes_do_harm() {
    let mut rng = fastrand::Rng::with_seed(8);
    for container in [nvr::Container::Ps, nvr::Container::Mp4] {
        let shelf = Shelf::of(Channel { container, sound: Some(Law::Mu), ..Channel::default() });
        let whole = fs::read(&shelf.files[0]).unwrap();
        let path = shelf.path("broken");
        for round in 0..30 {
            let mut bytes = whole.clone();
            for _ in 0..1 << (round % 10) {
                let place = rng.usize(0..bytes.len());
                bytes[place] = rng.u8(..);
            }
            fs::write(&path, bytes).unwrap();
            match shelf.run(&[&path], Container::Mp4, Cut::default()).await {
                Ok(outcome) => assert_eq!(outcome.pictures.read, outcome.pictures.written, "{outcome:?}"),
                // Never a crash, and never one that hangs.
                Err(error) => assert!(
                    matches!(error.kind, MediaErrorKind::Input | MediaErrorKind::Container | MediaErrorKind::Check),
                    "{error:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn pictures_are_made_of_files_at_their_distance() {
    let shelf = Shelf::of(Channel::default());
    let directory = shelf.path("pictures");
    fs::create_dir(&directory).unwrap();
    let job = Frames {
        inputs: shelf.files.clone(),
        directory: directory.clone(),
        every: Duration::from_millis(1_500),
        quality: 85,
        max_width: None,
        cut: Cut { skip: Duration::from_millis(1_000), most: Some(Duration::from_secs(8)) },
    };
    let outcome = launcher().run(&Job::Frames(job), |_| ()).await.unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    // From 1 s on: 1, 2.5, 4, 5.5, 7, 8.5; the next picture at or after each, five a second.
    let names: Vec<_> = (0..6).map(|number| directory.join(format!("{number:06}.jpg"))).collect();
    assert_eq!(outcome.files, names);
    let found: Vec<u32> = names
        .iter()
        .map(|path| {
            let (luma, width, height) = decode(&fs::read(path).unwrap()).unwrap();
            Mark::read(&luma, width, height).unwrap().counter
        })
        .collect();
    assert_eq!(found, [5, 13, 20, 28, 35, 43]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 6);
}

#[tokio::test]
async fn pictures_of_broken_files_are_not_called_complete() {
    for container in [nvr::Container::Ps, nvr::Container::Mp4] {
        let shelf = Shelf::of(Channel { container, ..Channel::default() });
        let whole = fs::read(&shelf.files[0]).unwrap();
        let path = shelf.path("broken");
        let third = whole.len() / 3;
        let broken = [whole[..whole.len() / 2].to_vec(), [&whole[..third], &whole[third + 3_000..]].concat()];
        for (nth, bytes) in broken.into_iter().enumerate() {
            fs::write(&path, bytes).unwrap();
            let directory = shelf.path(&format!("pictures{nth}"));
            fs::create_dir(&directory).unwrap();
            let job = Frames {
                inputs: vec![path.clone()],
                directory,
                every: Duration::from_secs(1),
                quality: 85,
                max_width: None,
                cut: Cut::default(),
            };
            match launcher().run(&Job::Frames(job), |_| ()).await {
                Ok(outcome) => {
                    let reason = outcome.incomplete.clone().unwrap_or_default();
                    // Where the index still fits, it is the pictures that tell.
                    let told = reason.contains("broken: ") || reason.contains("pictures are damaged");
                    assert!(told, "{container:?} {nth}: {outcome:?}");
                }
                Err(error) => {
                    assert_eq!((error.kind, container), (MediaErrorKind::Input, nvr::Container::Mp4), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_hangs_is_killed_in_time() {
    let shelf = Shelf::of(Channel::default());
    let pipe = shelf.path("pipe");
    // Nobody ever writes into it, so whoever opens it waits.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let job = Job::Remux(shelf.remux(&[&pipe], Container::Mp4, Cut::default()));
    for limits in [
        Limits { stall: Duration::from_millis(1_500), whole: None },
        Limits { stall: Duration::from_secs(60), whole: Some(Duration::from_millis(1_500)) },
    ] {
        let begun = Instant::now();
        let error = Launcher { limits, ..launcher() }.run(&job, |_| ()).await.unwrap_err();
        assert_eq!(error.kind, MediaErrorKind::Hung, "{error}");
        assert!((1_400..8_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
    // Nor does anybody wait who has lost interest.
    let launcher = launcher();
    let cancelled = tokio::time::timeout(Duration::from_millis(500), launcher.run(&job, |_| ())).await;
    assert!(cancelled.is_err());
    shelf.assert_tidy();
    // It was killed, and is gone a moment later. Those of other tests come and go.
    let left: Vec<u32> = children();
    let begun = Instant::now();
    while left.iter().any(|pid| children().contains(pid)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "a media process is still there");
        tokio::task::yield_now().await;
    }
}

/// The media processes that are children of ours and at work.
fn children() -> Vec<u32> {
    let ours = std::process::id().to_string();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else { return false };
        let mut fields = tail.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        head.ends_with("(framehaul-media") && parent == Some(&ours) && state != Some("Z")
    };
    pids.filter(is_child).collect()
}

#[tokio::test]
async fn no_program_and_no_place_to_write_are_told_apart() {
    let shelf = Shelf::of(Channel::default());
    let job = Job::Remux(shelf.remux(&[&shelf.files[0]], Container::Mp4, Cut::default()));
    let nowhere = Launcher { engines: shelf.path("nowhere"), limits: Limits::default() };
    assert_eq!(nowhere.run(&job, |_| ()).await.unwrap_err().kind, MediaErrorKind::Missing);
    let mut elsewhere = shelf.remux(&[&shelf.files[0]], Container::Mp4, Cut::default());
    elsewhere.output = shelf.path("no/such/directory.mp4");
    let error = launcher().run(&Job::Remux(elsewhere), |_| ()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Output, "{error}");
    // What is there already stays.
    fs::write(shelf.path("output.mp4"), "mine").unwrap();
    assert_eq!(launcher().run(&job, |_| ()).await.unwrap_err().kind, MediaErrorKind::Output);
    assert_eq!(fs::read(shelf.path("output.mp4")).unwrap(), b"mine");
    shelf.assert_tidy();
}

/// A directory in which another program has the media program's name.
fn engines(program: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(program, dir.path().join("framehaul-media")).unwrap();
    dir
}

/// A job whose inputs' names have so many bytes.
fn long_job(shelf: &Shelf, bytes: usize) -> Job {
    let name = shelf.path(&"x".repeat(200));
    let inputs = vec![&*name; bytes / 200];
    Job::Remux(shelf.remux(&inputs, Container::Mp4, Cut::default()))
}

#[tokio::test]
async fn a_process_that_ends_before_it_has_its_job_is_no_missing_program() {
    let shelf = Shelf::of(Channel::default());
    let engines = engines("/bin/false");
    let launcher = Launcher { engines: engines.path().to_owned(), limits: Limits::default() };
    let error = launcher.run(&long_job(&shelf, 1 << 20), |_| ()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Crash, "{error}");
    let forbidden = tempfile::tempdir().unwrap();
    fs::write(forbidden.path().join("framehaul-media"), "").unwrap();
    let launcher = Launcher { engines: forbidden.path().to_owned(), limits: Limits::default() };
    let error = launcher.run(&long_job(&shelf, 200), |_| ()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Missing, "{error}");
}

#[tokio::test]
async fn a_process_that_does_not_take_its_job_is_killed_in_time() {
    let shelf = Shelf::of(Channel::default());
    // It writes what it reads, and nobody takes that before it has read all.
    let engines = engines("/bin/cat");
    let limits = Limits { stall: Duration::from_secs(1), whole: None };
    let launcher = Launcher { engines: engines.path().to_owned(), limits };
    let run = tokio::time::timeout(Duration::from_secs(30), launcher.run(&long_job(&shelf, 1 << 20), |_| ())).await;
    let error = run.expect("it ends").unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Hung, "{error}");
    // One that is too long for it is not even begun.
    let error = launcher.run(&long_job(&shelf, 5 << 20), |_| ()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Input, "{error}");
}

/// The playback of a recorder's first recording.
fn playback(server: &NvrServer, dir: &TempDir, container: Container, most: Duration) -> Record {
    let recording = &server.recordings()[0];
    let url = format!(
        "rtsp://{}/Streaming/tracks/101/?starttime=20261119T000000Z&endtime=20261119T001000Z&name={}&size={}",
        server.host(),
        recording.name,
        recording.size
    );
    Record {
        url,
        user: Some("admin".to_owned()),
        password: Some("Passw0rd1".to_owned().into()),
        output: dir.path().join("played").with_extension(container.extension()),
        container,
        most,
        patience: Duration::from_secs(3),
    }
}

#[tokio::test]
async fn a_playback_is_recorded_and_ended() {
    for codec in [Codec::H264, Codec::H265] {
        let server = recorder(Channel { codec, ..Channel::default() });
        for (container, most, no_bye) in [
            (Container::Mp4, SECONDS, false),
            // It does not say that it is over.
            (Container::Mkv, SECONDS, true),
            // It goes on, and we do not.
            (Container::Mp4, 2, false),
        ] {
            server.change_knobs(|knobs| knobs.no_bye = no_bye).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let job = Job::Record(playback(&server, &dir, container, Duration::from_secs(most)));
            let mut read = 0;
            let outcome = launcher().run(&job, |progress| read = progress.read).await.unwrap();
            let of = format!("{codec} {container:?} {most}: {outcome:?}");
            assert!(outcome.is_complete(), "{of}");
            assert!(read > 1_000, "{of}");
            assert_eq!(counters(&outcome.files[0]), (0..most as u32 * FPS).collect::<Vec<_>>(), "{of}");
        }
        // No session stays behind.
        server.change_knobs(|knobs| knobs.sessions = Some(1)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let job = Job::Record(playback(&server, &dir, Container::Mp4, Duration::from_secs(1)));
        launcher().run(&job, |_| ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_playback_that_is_refused_says_why() {
    let server = recorder(Channel::default());
    let dir = tempfile::tempdir().unwrap();
    let playback = || playback(&server, &dir, Container::Mp4, Duration::from_secs(SECONDS));
    let run = async |job: Record| launcher().run(&Job::Record(job), |_| ()).await;
    let wrong = Record { password: Some("hunter2!".to_owned().into()), ..playback() };
    assert!(!format!("{wrong:?}").contains("hunter2"));
    let error = run(wrong).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Auth, "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let gone = Record { url: playback().url.replace("ch01", "ch09"), ..playback() };
    assert_eq!(run(gone).await.unwrap_err().kind, MediaErrorKind::NotFound);
    let nobody = Record { url: playback().url.replace(server.host(), "127.0.0.1:1"), ..playback() };
    assert_eq!(run(nobody).await.unwrap_err().kind, MediaErrorKind::Unreachable);
    for url in ["file:///etc/passwd", "rtsp://admin:secret@127.0.0.1/", "http://127.0.0.1/"] {
        let other = Record { url: url.to_owned(), ..playback() };
        let error = run(other).await.unwrap_err();
        assert!(error.kind == MediaErrorKind::Input && !error.message.contains("secret"), "{error}");
    }

    // Longer than there is: what came is kept, and not called complete.
    let long = Record { most: Duration::from_secs(60), ..playback() };
    let outcome = run(long).await.unwrap();
    assert!(outcome.incomplete.as_ref().is_some_and(|reason| reason.contains("over after")), "{outcome:?}");
    fs::remove_file(&outcome.files[0]).unwrap();

    server.change_knobs(|knobs| knobs.sessions = Some(1)).unwrap();
    let holder = tokio::spawn({
        let (dir, job) = (tempfile::tempdir().unwrap(), playback());
        async move {
            let job = Record { output: dir.path().join("held.mp4"), ..job };
            launcher().run(&Job::Record(job), |_| ()).await.map(|outcome| outcome.is_complete())
        }
    });
    while server.stats().playbacks.begun < 2 {
        tokio::task::yield_now().await;
    }
    let error = run(playback()).await.unwrap_err();
    assert_eq!(error.kind, MediaErrorKind::Busy, "{error}");
    assert!(holder.await.unwrap().unwrap());
}
