//! The capture program that makes up its pictures, as the daemon would start it.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::synthetic::{CAPTURES, Synthetic};

const FRAME: u8 = 2;
const OVERRUN: u8 = 3;
const STATS: u8 = 4;
const ENDED: u8 = 5;
const CORRUPT: u8 = 6;

/// Three times what a scenario may rely on.
const FIRST_FRAME_WITHIN: Duration = Duration::from_millis(300);

/// A capture process. It ends with its standard input.
struct Capture {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Capture {
    fn start(name: &str, camera: &Synthetic) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(name);
        symlink(env!("CARGO_BIN_EXE_testbed"), &program).unwrap();
        let mut child = Command::new(&program)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test bed's binary starts");
        let settings = serde_json::json!({ "kind": "rtsp", "location": camera.url(), "user": null });
        writeln!(child.stdin.as_mut().unwrap(), "{settings}").unwrap();
        Self { child, _dir: dir }
    }

    /// The next message: its tag and its body.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let out = self.child.stdout.as_mut().unwrap();
        let mut length = [0; 4];
        out.read_exact(&mut length).expect("a message");
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        out.read_exact(&mut body).expect("a whole message");
        (body.remove(0), body)
    }

    /// The tags of all messages up to the n-th frame, but for the counters.
    fn until_frame(&mut self, n: usize) -> Vec<u8> {
        let mut tags = Vec::new();
        while tags.iter().filter(|tag| **tag == FRAME).count() < n {
            let (tag, _) = self.next();
            if tag != STATS {
                tags.push(tag);
            }
        }
        tags
    }
}

#[test]
fn the_first_frame_comes_at_once_and_the_others_in_time() {
    let begun = Instant::now();
    let mut capture = Capture::start(CAPTURES[1], &Synthetic::new("a").fps(50.0).bytes(20_000));
    capture.until_frame(1);
    assert!(begun.elapsed() < FIRST_FRAME_WITHIN, "{:?}", begun.elapsed());
    let begun = Instant::now();
    capture.until_frame(50);
    // A machine that is busy may make it late, nothing makes it early.
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());

    let stdin = capture.child.stdin.as_mut().unwrap();
    stdin.write_all(b"stop\n").unwrap();
    while capture.next().0 != ENDED {}
    drop(capture.child.stdin.take());
    assert!(capture.child.wait().unwrap().success());
}

#[test]
fn it_gives_no_more_than_it_has_and_says_what_it_missed() {
    let mut capture = Capture::start(CAPTURES[0], &Synthetic::new("a").fps(0.0).bytes(1_000).frames(6).missing(2, 3));
    // The numbers of its messages: one missed after two and four frames, two after three.
    let expected = [1, FRAME, FRAME, OVERRUN, FRAME, CORRUPT, FRAME, OVERRUN, FRAME, FRAME];
    assert_eq!(capture.until_frame(6), expected);
    // A stream whose pictures are counted on is one that does not stand still.
    let grabbed = |body: &[u8]| u64::from_le_bytes(body[..8].try_into().unwrap());
    let (first, second) = (capture.next(), capture.next());
    assert_eq!((first.0, second.0), (STATS, STATS));
    assert!(grabbed(&second.1) > grabbed(&first.1));
    drop(capture.child.stdin.take());
    assert!(capture.child.wait().unwrap().success());
}
