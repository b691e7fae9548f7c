//! The proxy's parts without a network, and a real camera through it.

use super::faults::Faults;
use super::ledger::Stats;
use super::messages::{Item, Message, Splitter, interleave};
use super::packet::Header;
use super::script::{Script, Spoil};
use super::transport::{port, with_ports};
use super::{RtpProxy, mutation};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::Codec;
use crate::fixtures::ffmpeg_to_jpegs;

/// Packet `number` of a stream of pictures with `per_picture` packets each.
fn packet(number: u32, per_picture: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend((number as u16).to_be_bytes());
    packet.extend((number / per_picture * 3_600).to_be_bytes());
    packet.extend([1, 2, 3, 4]);
    packet.extend([0x41; 200]);
    packet
}

fn lossy(share: f64, burst: f64) -> Faults {
    Faults::new(Script { seed: 7, whole: 0, spoil: Spoil::Lose { share, burst } }, 0)
}

/// For each of `count` packets whether it passed.
fn passed(faults: &mut Faults, count: u32, stats: &mut Stats) -> Vec<bool> {
    (0..count).map(|number| !faults.spoil(&packet(number, 5), stats).is_empty()).collect()
}

#[test]
fn losses_are_as_many_and_as_long_as_asked_for() {
    for (share, burst) in [(0.01, 1.0), (0.05, 1.0), (0.2, 1.0), (0.01, 10.0), (0.05, 4.0), (0.2, 10.0)] {
        let mut stats = Stats::default();
        let passed = passed(&mut lossy(share, burst), 60_000, &mut stats);
        let lost = passed.iter().filter(|passed| !**passed).count();
        assert_eq!((stats.lost, stats.packets, stats.missing), (lost as u64, 60_000, 0));
        let rows = passed.windows(2).filter(|pair| pair[0] && !pair[1]).count();
        let (found, length) = (lost as f64 / 60_000.0, lost as f64 / rows as f64);
        assert!((found / share - 1.0).abs() < 0.25, "{share} {burst}: {found}");
        // Losses that are each by themselves meet by chance.
        let expected = if burst > 1.0 { burst } else { 1.0 / (1.0 - share) };
        assert!((length / expected - 1.0).abs() < 0.25, "{share} {burst}: rows of {length}");
    }
}

#[test]
fn the_same_seed_meets_the_same_packets() {
    let run = |seed, connection| {
        let script = Script { seed, whole: 0, spoil: Spoil::Lose { share: 0.1, burst: 3.0 } };
        passed(&mut Faults::new(script, connection), 2_000, &mut Stats::default())
    };
    assert_eq!(run(1, 0), run(1, 0));
    assert_ne!(run(1, 0), run(2, 0));
    assert_ne!(run(1, 0), run(1, 1));
    let mutate = || {
        let script = Script { seed: 3, whole: 0, spoil: Spoil::Mutate { codec: Codec::H264, share: 0.2 } };
        let mut faults = Faults::new(script, 0);
        (0..2_000).map(|number| faults.spoil(&packet(number, 5), &mut Stats::default())).collect::<Vec<_>>()
    };
    assert_eq!(mutate(), mutate());
}

#[test]
fn the_ledger_knows_which_picture_lost_what() {
    let script = Script { seed: 7, whole: 4, spoil: Spoil::Lose { share: 0.5, burst: 1.0 } };
    let (mut faults, mut stats) = (Faults::new(script, 0), Stats::default());
    let passed = passed(&mut faults, 100, &mut stats);
    let pictures = faults.ledger.pictures();
    assert_eq!(pictures.len(), 20);
    for (index, (picture, packets)) in pictures.iter().zip(passed.chunks(5)).enumerate() {
        let lost = packets.iter().filter(|passed| !**passed).count() as u32;
        assert_eq!((picture.timestamp, picture.packets, picture.spoiled), (index as u32 * 3_600, 5, lost));
        assert!(index >= 4 || lost == 0, "the first ones pass whole");
    }
    assert!(stats.lost > 20, "{stats:?}");
}

#[test]
fn what_did_not_come_from_the_server_is_noted_with_the_pictures_beside_it() {
    let (mut faults, mut stats) = (Faults::new(Script::default(), 0), Stats::default());
    // Numbers 5 to 9, all of the second picture, are missing; and the numbers come round.
    for number in (0..5).chain(10..15) {
        let mut packet = packet(number, 5);
        packet[2..4].copy_from_slice(&(number as u16).wrapping_sub(3).to_be_bytes());
        faults.spoil(&packet, &mut stats);
    }
    let spoiled: Vec<u32> = faults.ledger.pictures().iter().map(|picture| picture.spoiled).collect();
    assert_eq!((spoiled, stats.missing), (vec![1, 1], 5));
}

#[test]
fn bytes_are_cut_from_inside_a_packet_with_its_length_left() {
    let script = Script { seed: 1, whole: 0, spoil: Spoil::Cut { share: 0.3, most: 50 } };
    let (mut faults, mut stats) = (Faults::new(script, 0), Stats::default());
    let mut cut = 0;
    for number in 0..1_000 {
        let packet = packet(number, 5);
        let whole = interleave(0, &packet);
        let bytes = faults.spoil_interleaved(0, &packet, &mut stats);
        assert_eq!(bytes[..4], whole[..4]);
        let missing = whole.len() - bytes.len();
        assert!(missing <= 50);
        cut += u64::from(missing > 0);
    }
    assert_eq!(stats.cut, cut);
    assert!((250..350).contains(&cut), "{cut}");
}

#[test]
fn every_mutation_comes_and_nothing_breaks_on_packets_of_any_length() {
    for codec in Codec::ALL {
        let script = Script { seed: 5, whole: 0, spoil: Spoil::Mutate { codec, share: 0.5 } };
        let (mut faults, mut stats) = (Faults::new(script, 0), Stats::default());
        let (mut bytes, mut came) = (0, 0);
        for number in 0..40_000 {
            let mut packet = packet(number, 5);
            packet.truncate(12 + number as usize % 100);
            for packet in faults.spoil(&packet, &mut stats) {
                bytes += packet.len();
                came += 1;
            }
        }
        let kinds: Vec<&str> = stats.mutations.keys().copied().collect();
        let all = ["absurd", "bits", "bytes", "cut", "doubled", "endless", "header", "swapped", "type"];
        assert_eq!(kinds, all, "{codec}");
        assert!(came < 2 * 40_000 && bytes < 40_000 * 250, "{codec}: {came} packets, {bytes} bytes");
    }
}

#[test]
fn a_description_promises_what_nobody_should_believe() {
    let h264 = "m=video 0 RTP/AVP 96\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0,aM4=\r\na=x:1\r\n";
    let changed = mutation::description(Codec::H264, h264);
    assert!(changed.starts_with("m=video 0 RTP/AVP 96\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0"));
    assert!(changed.ends_with(",aM4=\r\na=x:1\r\n") && changed.len() > h264.len(), "{changed}");
    let changed = mutation::description(Codec::H265, "a=fmtp:96 sprop-sps=QQ==;sprop-pps=Rg==\r\n");
    assert!(changed.ends_with(";sprop-pps=Rg==\r\n") && !changed.contains("QQ=="), "{changed}");
    assert_eq!(mutation::description(Codec::H264, "v=0\r\n"), "v=0\r\n");
}

#[test]
fn headers_are_read_with_all_that_may_follow_them() {
    assert_eq!(Header::read(&[0x80; 11]), None);
    assert_eq!(Header::read(&[0; 40]), None, "another version");
    let mut packet = packet(3, 1);
    packet[1] |= 0x80;
    let header = Header::read(&packet).unwrap();
    assert!(header.marker);
    assert_eq!((header.sequence, header.timestamp, header.payload()), (3, 10_800, 12..212));
    // Two sources, an extension of one word, three bytes of padding.
    packet[0] = 0x80 | 0x20 | 0x10 | 2;
    packet[20..24].copy_from_slice(&[0, 0, 0, 1]);
    packet[211] = 3;
    assert_eq!(Header::read(&packet).unwrap().payload(), 28..209);
    packet[211] = 250;
    assert_eq!(Header::read(&packet), None, "nothing but padding");
}

#[test]
fn messages_and_packets_are_told_apart_wherever_they_are_cut() {
    let answer = "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-length: 5\r\n\r\nv=0\r\n";
    let stream = [answer.as_bytes(), &interleave(1, b"abc"), b"RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n"].concat();
    for step in [1, 2, 7, 1_000] {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        for bytes in stream.chunks(step) {
            splitter.take(bytes);
            while let Some(item) = splitter.next().unwrap() {
                found.push(item);
            }
        }
        let [Item::Message(first), Item::Packet { channel: 1, packet }, Item::Message(last)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((first.header("cseq"), &first.body[..], &packet[..]), (Some("2"), &b"v=0\r\n"[..], &b"abc"[..]));
        assert_eq!(last.header("CSeq"), Some("3"));
    }
    let mut splitter = Splitter::default();
    splitter.take(b"RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n");
    assert!(splitter.next().is_err());
}

#[test]
fn headers_of_messages_are_rewritten() {
    let head = "SETUP rtsp://h/a RTSP/1.0\r\nCSeq: 4\r\nTransport: RTP/AVP/UDP;unicast;client_port=5000-5001\r\n\r\n";
    let mut message = Message { head: head.to_owned(), body: Vec::new() };
    assert!(message.is_request("SETUP") && !message.is_request("SET") && !message.is_answer());
    let value = message.header("Transport").unwrap().to_owned();
    assert_eq!((port(&value, "client_port"), port(&value, "server_port")), (Some(5_000), None));
    message.set_header("Transport", &with_ports(&value, "client_port", 7_000));
    assert_eq!(message.head, head.replace("5000-5001", "7000-7001"));
    message.set_body(b"abc".to_vec());
    assert_eq!(message.bytes(), [message.head.as_bytes(), b"abc"].concat());
}

#[test]
fn a_script_that_means_nothing_is_refused() {
    for (spoil, word) in [
        (Spoil::Lose { share: 1.0, burst: 1.0 }, "a share of 1"),
        (Spoil::Lose { share: 0.1, burst: 0.5 }, "a burst of 0.5"),
        (Spoil::Cut { share: 0.1, most: 0 }, "at least 1"),
        (Spoil::Mutate { codec: Codec::H264, share: -0.1 }, "a share of -0.1"),
    ] {
        let error = RtpProxy::start(1, Script { spoil, ..Script::default() }).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_camera_passes_whole_over_either_way() {
    const FRAMES: usize = 40;
    let spec = CameraSpec::new("through").size(320, 240).rate(20, 10);
    let server = CameraServer::start(std::slice::from_ref(&spec), 0, default_cache_dir()).unwrap();
    for transport in ["tcp", "udp"] {
        let proxy = RtpProxy::start(server.port(), Script::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = proxy.url("through");
        let frames = FRAMES.to_string();
        let input = ["-rtsp_transport", transport, "-i", &url, "-frames:v", &frames];
        let output = ffmpeg_to_jpegs(&input, 5, dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{transport}: {said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), FRAMES);
        let stats = proxy.stats();
        assert_eq!((stats.connections, stats.plays, stats.missing, stats.faults()), (1, 1, 0, 0), "{transport}");
        let sent = proxy.sent();
        assert!(sent[0].len() >= FRAMES && sent[0].iter().all(|picture| picture.spoiled == 0), "{transport}");
        // Pictures are 1/20 s apart, in ticks of 1/90,000 s.
        assert!(sent[0].windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 4_500));
    }
}
