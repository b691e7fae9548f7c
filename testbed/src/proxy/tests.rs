//! Each fault by the bytes that real sockets send and get.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::daemon::wait;
use crate::oracle::Http;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that sends everything back, and so many connections it takes.
fn echo(connections: usize) -> (u16, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let each = (0..connections).map(|_| {
            let (mut socket, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let (mut all, mut buffer) = (Vec::new(), [0; 4_096]);
                while let Ok(count @ 1..) = socket.read(&mut buffer) {
                    all.extend(&buffer[..count]);
                    if socket.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                all
            })
        });
        let each: Vec<_> = each.collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    (port, serving)
}

fn proxy(target: u16, script: Script) -> Proxy {
    Proxy::start(Options { port: 0, target: format!("127.0.0.1:{target}"), script }).unwrap()
}

fn client(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends bytes and reads as many back.
fn round_trip(socket: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    socket.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    socket.read_exact(&mut back).unwrap();
    back
}

/// What there is to read until the connection's end, and whether that was in order.
fn rest(socket: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    let error = socket.read_to_end(&mut all).err().map(|error| error.kind());
    (all, error)
}

/// Whether nothing comes for a while.
fn is_silent(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silent = socket.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    silent
}

fn until(proxy: &Proxy, condition: impl Fn(&Stats) -> bool) -> Stats {
    wait(PATIENCE, || Ok(Some(proxy.stats()).filter(&condition))).unwrap_or_else(|_| panic!("{:?}", proxy.stats()))
}

#[test]
fn without_rules_everything_passes_both_ways() {
    let (target, server) = echo(1);
    let proxy = proxy(target, Script::default());
    let mut socket = client(&proxy);
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let (mut sending, sent) = (socket.try_clone().unwrap(), bytes.clone());
    let writer = thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        // The end is passed on as well: the answer ends when the question has.
        sending.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(rest(&mut socket), (bytes.clone(), None));
    writer.join().unwrap();
    assert_eq!(server.join().unwrap(), [bytes]);
    let stats = until(&proxy, |stats| stats.open == 0);
    assert_eq!((stats.connections, stats.bytes_to_server, stats.bytes_to_client), (1, 300_000, 300_000));
    assert_eq!((stats.injected.total(), stats.unanswered, stats.unreachable), (0, 0, 0));
}

#[test]
fn a_target_that_is_not_there_closes_the_connection() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let proxy = proxy(nobody, Script::default());
    assert_eq!(rest(&mut client(&proxy)).0, b"");
    assert_eq!(until(&proxy, |stats| stats.open == 0).unreachable, 1);
}

#[test]
fn a_latency_comes_once_each_way() {
    let (target, _server) = echo(1);
    let proxy = proxy(target, Script::all(Fault::Latency { ms: 150, jitter_ms: 0 }));
    let mut socket = client(&proxy);
    let begun = Instant::now();
    assert_eq!(round_trip(&mut socket, b"hello"), b"hello");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(proxy.stats().injected.latencies, 2);
    proxy.set_script(Script::default()).unwrap();
    assert_eq!(round_trip(&mut socket, b"quick"), b"quick");
    assert_eq!(proxy.stats().injected.latencies, 2);
}

#[test]
fn a_bandwidth_holds_in_its_direction_alone() {
    for way in [Way::ToServer, Way::ToClient] {
        let (target, _server) = echo(1);
        let proxy = proxy(target, Script::all(Fault::Bandwidth { way, bytes_per_s: 20_000 }));
        let mut socket = client(&proxy);
        let begun = Instant::now();
        socket.write_all(&[7; 10_000]).unwrap();
        let sent = until(&proxy, |stats| stats.bytes_to_server == 10_000);
        if way == Way::ToClient {
            assert!(sent.bytes_to_client < 8_000, "{sent:?}");
        }
        socket.read_exact(&mut [0; 10_000]).unwrap();
        // The wait after the last slice is not seen.
        assert!(begun.elapsed() >= Duration::from_millis(400), "{way:?}: {:?}", begun.elapsed());
        assert_eq!(proxy.stats().injected.slowed, 1);
    }
}

#[test]
fn a_client_that_gives_up_on_a_slow_line_is_seen_to_go() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let slow = Fault::Bandwidth { way: Way::ToServer, bytes_per_s: 1 };
    let proxy = proxy(listener.local_addr().unwrap().port(), Script::all(slow));
    let mut socket = client(&proxy);
    let begun = Instant::now();
    socket.write_all(&[7; 10_000]).unwrap();
    let _mute = listener.accept().unwrap();
    until(&proxy, |stats| stats.bytes_to_server == 2);
    assert_eq!(proxy.stats().unanswered, 0);
    drop(socket);
    let passed = until(&proxy, |stats| stats.unanswered == 1).bytes_to_server;
    // What it had sent goes on, and asks for nothing.
    let stats = until(&proxy, |stats| stats.bytes_to_server >= passed + 2);
    assert_eq!((stats.unanswered, stats.open), (1, 1));
    let waited = proxy.unanswered()[0].waited;
    assert!((Duration::from_millis(900)..begun.elapsed()).contains(&waited), "{waited:?}");
}

#[test]
fn a_client_that_gives_up_on_a_slow_answer_is_seen_to_go() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap().port();
    let proxy = proxy(target, Script::default());
    let mut socket = client(&proxy);
    let mut server = listener.accept().unwrap().0;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let mut ask = |socket: &mut TcpStream, answer: &[u8]| {
        socket.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        server.write_all(answer).unwrap();
    };
    ask(&mut socket, answer);
    socket.read_exact(&mut [0; 43]).unwrap();
    proxy.set_script(Script::all(Fault::Bandwidth { way: Way::ToClient, bytes_per_s: 40 })).unwrap();
    // One that comes to its end is an answer, however slow.
    let begun = Instant::now();
    ask(&mut socket, answer);
    socket.read_exact(&mut [0; 43]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    let begun = Instant::now();
    ask(&mut socket, answer);
    socket.read_exact(&mut [0; 30]).unwrap();
    assert_eq!(proxy.stats().unanswered, 0);
    drop(socket);
    until(&proxy, |stats| stats.unanswered == 1);
    let waited = proxy.unanswered()[0].waited;
    assert!((Duration::from_millis(600)..=begun.elapsed()).contains(&waited), "{waited:?}");
}

#[test]
fn a_cut_comes_after_its_bytes_and_in_order() {
    for (way, at) in [(Way::ToServer, 1_000), (Way::ToClient, 700), (Way::ToServer, 0)] {
        let (target, server) = echo(1);
        let proxy = proxy(target, Script::all(Fault::Cut { way, at: [at, at] }));
        let mut socket = client(&proxy);
        // It may be cut before all is sent.
        let _ = socket.write_all(&[7; 5_000]);
        let back = rest(&mut socket).0;
        let stats = until(&proxy, |stats| stats.open == 0);
        let passed = if way == Way::ToServer { stats.bytes_to_server } else { stats.bytes_to_client };
        assert_eq!((passed, stats.injected.cuts), (at, 1), "{way:?}");
        assert!(back.len() as u64 <= at);
        if way == Way::ToServer {
            assert_eq!(server.join().unwrap(), [vec![7; at as usize]]);
        }
    }
}

#[test]
fn a_reset_is_one_to_the_client() {
    let (target, _server) = echo(1);
    let proxy = proxy(target, Script::all(Fault::Reset { way: Way::ToServer, at: [100, 100] }));
    let mut socket = client(&proxy);
    assert_eq!(round_trip(&mut socket, &[7; 99]), [7; 99]);
    socket.write_all(b"x").unwrap();
    assert_eq!(rest(&mut socket).1, Some(ErrorKind::ConnectionReset));
    assert_eq!(until(&proxy, |stats| stats.open == 0).injected.resets, 1);
}

#[test]
fn a_half_closed_connection_still_takes_bytes() {
    let (target, server) = echo(1);
    let proxy = proxy(target, Script::all(Fault::HalfClose { way: Way::ToClient, at: [3, 3] }));
    let mut socket = client(&proxy);
    socket.write_all(b"hello").unwrap();
    assert_eq!(rest(&mut socket), (b"hel".to_vec(), None));
    socket.write_all(b" world").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.join().unwrap(), [b"hello world"]);
    assert_eq!(until(&proxy, |stats| stats.open == 0).injected.half_closes, 1);
}

#[test]
fn a_blackhole_swallows_new_connections_and_those_that_stand() {
    let (target, server) = echo(2);
    let proxy = proxy(target, Script::default());
    let (mut standing, mut untouched) = (client(&proxy), client(&proxy));
    assert_eq!(round_trip(&mut standing, b"hello"), b"hello");
    assert_eq!(round_trip(&mut untouched, b"there"), b"there");
    proxy.set_script(Script::all(Fault::Blackhole)).unwrap();
    let mut new = client(&proxy);
    new.write_all(b"anybody").unwrap();
    standing.write_all(b"gone").unwrap();
    assert!(is_silent(&mut standing) && is_silent(&mut new));
    // One that has lost bytes stays as it is; one that has not goes on.
    proxy.set_script(Script::default()).unwrap();
    assert_eq!(round_trip(&mut untouched, b"again"), b"again");
    standing.write_all(b"more").unwrap();
    assert!(is_silent(&mut standing) && is_silent(&mut new));
    drop((standing, new, untouched));
    let stats = until(&proxy, |stats| stats.open == 0);
    assert_eq!((stats.injected.blackholed, stats.unanswered, stats.connections), (2, 2, 3));
    let waited: Vec<Duration> = proxy.unanswered().iter().map(|one| one.waited).collect();
    assert!(waited.iter().all(|waited| (Duration::from_millis(600)..PATIENCE).contains(waited)), "{waited:?}");
    let mut seen = server.join().unwrap();
    seen.sort();
    assert_eq!(seen, [b"hello".to_vec(), b"thereagain".to_vec()]);
}

#[test]
fn a_blackhole_can_be_for_those_that_stand_alone() {
    let (target, _server) = echo(2);
    let proxy = proxy(target, Script::default());
    let mut standing = client(&proxy);
    assert_eq!(round_trip(&mut standing, b"hello"), b"hello");
    proxy.set_script(Script::all(Fault::BlackholeStanding)).unwrap();
    assert_eq!(round_trip(&mut client(&proxy), b"new"), b"new");
    standing.write_all(b"old").unwrap();
    assert!(is_silent(&mut standing));
    assert_eq!(proxy.stats().injected.blackholed, 1);
}

#[test]
fn a_client_hello_is_not_answered_and_other_bytes_are() {
    let (target, _server) = echo(1);
    let proxy = proxy(target, Script::all(Fault::TlsStall));
    let (mut plain, mut tls) = (client(&proxy), client(&proxy));
    tls.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    assert!(is_silent(&mut tls));
    assert_eq!(round_trip(&mut plain, b"hello"), b"hello");
    drop(tls);
    let stats = until(&proxy, |stats| stats.unanswered == 1);
    assert_eq!((stats.injected.tls_stalls, stats.injected.total()), (1, 1));
}

#[test]
fn a_flip_changes_one_bit_of_a_body_and_nothing_else() {
    for way in [Way::ToServer, Way::ToClient] {
        let (target, _server) = echo(1);
        let proxy = proxy(target, Script { seed: 5, ..Script::all(Fault::Flip { way, within: 1_000 }) });
        let mut socket = client(&proxy);
        let head = b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n";
        let message = [&head[..], &[0; 1_000]].concat();
        let mut places = Vec::new();
        for _ in 0..20 {
            let back = round_trip(&mut socket, &message);
            assert_eq!(&back[..head.len()], head);
            let changed: Vec<usize> = (0..1_000).filter(|at| back[head.len() + at] != 0).collect();
            assert_eq!(changed.len(), 1, "{changed:?}");
            assert_eq!(back[head.len() + changed[0]].count_ones(), 1);
            places.extend(changed);
        }
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 10, "{places:?}");
        assert_eq!(proxy.stats().injected.flips, 20);
    }
}

#[test]
fn a_share_of_connections_is_met_and_the_seed_says_which() {
    let met = |seed: u64| {
        let (target, _server) = echo(40);
        let cut = Fault::Cut { way: Way::ToServer, at: [0, 0] };
        let proxy = proxy(target, Script { seed, ..Script::some(0.5, cut) });
        let met: Vec<bool> = (0..40)
            .map(|_| {
                let mut socket = client(&proxy);
                let sent = socket.write_all(b"x");
                !sent.and_then(|()| socket.read(&mut [0])).is_ok_and(|count| count == 1)
            })
            .collect();
        assert_eq!(proxy.stats().injected.cuts, met.iter().filter(|met| **met).count() as u64);
        met
    };
    let first = met(1);
    assert_eq!(first, met(1));
    assert_ne!(first, met(2));
    assert!((5..=35).contains(&first.iter().filter(|met| **met).count()), "{first:?}");
}

#[test]
fn its_script_and_counts_are_to_be_had_while_it_runs() {
    let (target, _server) = echo(1);
    let proxy = proxy(target, Script { seed: 9, rules: Vec::new() });
    let http = Http::new().unwrap();
    let call = |method: hyper::Method, path: &str, body: Option<&Value>| {
        let url = format!("{}/_testbed/{path}", proxy.control());
        let (status, answer) = http.send(method, &url, None, body.map(Value::to_string)).unwrap();
        (status.as_u16(), serde_json::from_slice::<Value>(&answer).unwrap())
    };
    assert_eq!(call(hyper::Method::GET, "script", None), (200, json!({ "seed": 9, "rules": [] })));
    let script = json!({ "seed": 1, "rules": [{ "share": 1.0, "fault": "blackhole" }] });
    assert_eq!(call(hyper::Method::PUT, "script", Some(&script)), (200, script.clone()));
    let (status, refused) = call(hyper::Method::PUT, "script", Some(&json!({ "rules": [{ "fault": "explode" }] })));
    assert!(status == 400 && refused["error"]["message"].as_str().unwrap().contains("explode"), "{refused}");
    assert_eq!(json!(proxy.script()), script, "a refused change changes nothing");
    let mut socket = client(&proxy);
    socket.write_all(b"x").unwrap();
    until(&proxy, |stats| stats.injected.blackholed == 1);
    let (_, stats) = call(hyper::Method::GET, "stats", None);
    assert_eq!((&stats["connections"], &stats["injected"]["blackholed"]), (&json!(1), &json!(1)));
    assert_eq!(call(hyper::Method::GET, "other", None).0, 404);
}
