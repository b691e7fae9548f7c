use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use super::*;

/// A picture with something in it.
fn image() -> Image<Vec<u8>> {
    Image::mandelbrot(97, 61, PixelFormat::RGB)
}

/// As libjpeg-turbo makes it.
fn encoded(set: impl Fn(&mut Compressor) -> turbojpeg::Result<()>) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    set(&mut compressor).unwrap();
    compressor.compress_to_vec(image().as_deref()).unwrap()
}

fn baseline() -> Vec<u8> {
    encoded(|_| Ok(()))
}

/// Begin and end of each segment before the first scan's data: marker, length, parameters.
fn segments(jpeg: &[u8]) -> Vec<(u8, usize, usize)> {
    let (mut at, mut found) = (2, Vec::<(u8, usize, usize)>::new());
    while found.last().is_none_or(|(code, ..)| *code != 0xda) {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        found.push((jpeg[at + 1], at, at + 2 + length));
        at += 2 + length;
    }
    found
}

/// Without its segments of this marker.
fn without(jpeg: &[u8], code: u8) -> Vec<u8> {
    let mut left = jpeg.to_vec();
    for (_, begin, end) in segments(jpeg).into_iter().rev().filter(|(found, ..)| *found == code) {
        left.drain(begin..end);
    }
    left
}

/// A gray picture of flat blocks with a restart marker behind each `interval` of them. Every block is 6 bits: no
/// difference (00), end of block (1010), by the standard tables.
fn with_restarts(width: u16, height: u16, interval: u16) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    jpeg.extend([16; 64]);
    jpeg.extend([0xff, 0xc0, 0, 11, 8]);
    jpeg.extend([height, width].into_iter().flat_map(u16::to_be_bytes));
    jpeg.extend([1, 1, 0x11, 0]);
    jpeg.extend(STANDARD_TABLES);
    jpeg.extend([0xff, 0xdd, 0, 4]);
    jpeg.extend(interval.to_be_bytes());
    jpeg.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    for nth in 0..blocks.div_ceil(interval.into()) {
        if nth > 0 {
            jpeg.extend([0xff, 0xd0 + (nth as u8 - 1) % 8]);
        }
        let blocks = usize::from(interval).min(blocks - nth * usize::from(interval));
        let mut bits: Vec<u8> = [0, 0, 1, 0, 1, 0].repeat(blocks);
        bits.resize(bits.len().next_multiple_of(8), 1);
        jpeg.extend(bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)));
    }
    jpeg.extend([0xff, 0xd9]);
    jpeg
}

fn is_damaged(bytes: &[u8]) -> bool {
    matches!(check(bytes), Err(Damaged(_)))
}

fn is_unusual(bytes: &[u8]) -> bool {
    matches!(check(bytes), Err(Unusual(_)))
}

#[test]
fn a_whole_jpeg_is_passed_on_byte_for_byte() {
    let kinds = [
        baseline(),
        encoded(|compressor| compressor.set_optimize(true)),
        encoded(|compressor| compressor.set_progressive(true)),
        encoded(|compressor| compressor.set_subsamp(Subsamp::Sub2x1)),
        encoded(|compressor| compressor.set_subsamp(Subsamp::None)),
        encoded(|compressor| compressor.set_subsamp(Subsamp::Gray)),
        encoded(|compressor| compressor.set_quality(1)),
        encoded(|compressor| compressor.set_quality(100)),
        with_restarts(97, 61, 13),
    ];
    for (nth, jpeg) in kinds.iter().enumerate() {
        let checked = check(jpeg).unwrap();
        assert_eq!((checked.width, checked.height), (97, 61), "{nth}");
        assert!(matches!(checked.repaired(), Cow::Borrowed(bytes) if bytes == jpeg), "{nth}");
        turbojpeg::decompress(jpeg, PixelFormat::RGB).unwrap();
    }
}

#[test]
fn what_fills_up_behind_the_end_is_cut_off_and_nothing_else() {
    let jpeg = baseline();
    for padding in [&b"\0"[..], b"\r\n", &[0xff; 5], &[0; 4096], b"\r\n\0\xff", &END_OF_IMAGE] {
        assert_eq!(check(&[&jpeg, padding].concat()).unwrap().repaired(), jpeg);
    }
    for other in [&b"x"[..], &[0, 1], &[0xd9], &jpeg] {
        assert!(is_unusual(&[&jpeg, other].concat()));
    }
}

#[test]
fn missing_huffman_tables_are_the_standard_ones() {
    let jpeg = baseline();
    // Its own, in the order and the segments of libjpeg.
    let own = segments(&jpeg).into_iter().filter(|(code, ..)| *code == 0xc4);
    let own: Vec<u8> = own.flat_map(|(_, begin, end)| jpeg[begin + 4..end].to_vec()).collect();
    assert_eq!(STANDARD_TABLES[4..], own);
    let bare = without(&jpeg, 0xc4);
    let checked = check(&bare).unwrap();
    let repaired = checked.repaired();
    assert_eq!((checked.width, checked.height), (97, 61));
    assert_eq!(repaired.len(), bare.len() + STANDARD_TABLES.len());
    let pixels = |jpeg: &[u8]| turbojpeg::decompress(jpeg, PixelFormat::RGB).unwrap().pixels;
    assert_eq!(pixels(&repaired), pixels(&jpeg));
    assert_eq!(check(&repaired).unwrap().repaired(), repaired);
}

#[test]
fn tables_that_cannot_be_known_are_not_made_up() {
    let progressive = encoded(|compressor| compressor.set_progressive(true));
    assert!(is_unusual(&without(&progressive, 0xc4)));
    assert!(is_unusual(&without(&baseline(), 0xdb)));
    // One of four is missing.
    let jpeg = baseline();
    let (_, begin, end) = segments(&jpeg).into_iter().find(|(code, ..)| *code == 0xc4).unwrap();
    assert!(is_unusual(&[&jpeg[..begin], &jpeg[end..]].concat()));
}

#[test]
fn kinds_that_not_every_reader_knows_are_named() {
    for jpeg in [
        encoded(|compressor| compressor.set_arithmetic(true)),
        encoded(|compressor| compressor.set_lossless(true)),
        with_sof(|sof| sof[1] = 0xc5),
        with_sof(|sof| sof[4] = 12),
        with_sof(|sof| sof[5..7].fill(0)),
        with_sof(|sof| sof[5..9].fill(0xff)),
    ] {
        assert!(is_unusual(&jpeg), "{:?}", check(&jpeg));
    }
}

#[test]
fn scans_without_end_are_not_passed_on() {
    let jpeg = encoded(|compressor| compressor.set_progressive(true));
    let last = jpeg.windows(2).rposition(|marker| marker == [0xff, 0xda]).unwrap();
    let (scan, end) = jpeg[last..].split_at(jpeg.len() - 2 - last);
    let with = |more: usize| [&jpeg[..last], &scan.repeat(1 + more), end].concat();
    assert!(check(&with(80)).is_ok());
    assert!(is_unusual(&with(100)));
}

/// Another frame header.
fn with_sof(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut jpeg = baseline();
    let (_, begin, end) = segments(&jpeg).into_iter().find(|(code, ..)| *code == 0xc0).unwrap();
    change(&mut jpeg[begin..end]);
    jpeg
}

#[test]
fn a_frame_header_that_cannot_be_is_refused() {
    let changes: [fn(&mut [u8]); 8] = [
        |sof| sof[3] += 1,
        |sof| sof[9] = 2,
        |sof| sof[7..9].fill(0),
        |sof| sof[11] = 0x02,
        |sof| sof[11] = 0x51,
        |sof| sof[11] = 0x44,
        |sof| sof[12] = 4,
        |sof| sof[13] = sof[10],
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        assert!(is_damaged(&with_sof(change)), "{nth}");
    }
    // More blocks than the coded data have bits for.
    assert!(is_damaged(&with_sof(|sof| sof[5..9].copy_from_slice(&[0x40, 0, 0x40, 0]))));
    let jpeg = baseline();
    let (_, begin, end) = segments(&jpeg).into_iter().find(|(code, ..)| *code == 0xc0).unwrap();
    assert!(is_damaged(&[&jpeg[..end], &jpeg[begin..]].concat()), "twice");
    assert!(is_damaged(&without(&jpeg, 0xc0)), "never");
}

#[test]
fn a_jpeg_cut_anywhere_is_damaged() {
    for jpeg in [baseline(), encoded(|compressor| compressor.set_progressive(true)), with_restarts(97, 61, 5)] {
        for length in 0..jpeg.len() {
            assert!(is_damaged(&jpeg[..length]), "{length} of {}", jpeg.len());
        }
        // As a receiver may end what did not come to an end: seen while headers or whole scans are missing.
        let scan = segments(&jpeg).last().unwrap().2;
        for length in 2..scan {
            assert!(check(&[&jpeg[..length], &[0xff, 0xd9]].concat()).is_err(), "{length} and an end");
        }
    }
}

#[test]
fn coded_data_that_lack_a_restart_marker_are_damaged() {
    let jpeg = with_restarts(640, 480, 80);
    let markers: Vec<usize> = (segments(&jpeg).last().unwrap().2..jpeg.len() - 2)
        .filter(|at| jpeg[*at] == 0xff && (0xd0..=0xd7).contains(&jpeg[at + 1]))
        .collect();
    assert_eq!(markers.len(), 59);
    for (first, begin) in markers.iter().enumerate() {
        // From one to all of those that follow: 8, 16 and so on are missed only by their number.
        for last in &markers[first..] {
            assert!(is_damaged(&[&jpeg[..begin - 3], &jpeg[last + 5..]].concat()), "{begin} to {last}");
        }
    }
    let one_more = [&jpeg[..jpeg.len() - 2], &[0xff, 0xd3, 0xff, 0xd9]].concat();
    assert_eq!(check(&one_more).unwrap().repaired(), one_more);
    assert!(is_damaged(&[&jpeg[..jpeg.len() - 2], &[0xff, 0xd3, 0xff, 0xd4, 0xff, 0xd9]].concat()));
    // As many as there have to be, of which one is another's.
    let mut other = jpeg.clone();
    other[markers[20] + 1] ^= 1;
    assert!(is_damaged(&other));
    // Without the interval there is no reason for any.
    assert!(is_damaged(&without(&jpeg, 0xdd)));
}

#[test]
fn coded_data_with_a_marker_that_no_encoder_writes_are_damaged() {
    let jpeg = baseline();
    let scan = segments(&jpeg).last().unwrap().2;
    for code in (0x01..=0xbf).chain([0xd0, 0xd8, 0xd9]) {
        let mut hit = jpeg.clone();
        hit[scan + 20..scan + 22].copy_from_slice(&[0xff, code]);
        // An end in the midst: the rest is no filling.
        assert!(check(&hit).is_err(), "{code:#04x}");
    }
    let mut scans = jpeg[..jpeg.len() - 2].to_vec();
    scans.extend(&jpeg[segments(&jpeg).last().unwrap().1..]);
    assert!(is_damaged(&scans), "each component twice");
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let jpeg = baseline();
    let segment = |wanted: u8| segments(&jpeg).into_iter().find(|(code, ..)| *code == wanted).unwrap();
    let with = |at: usize, byte: u8| {
        let mut jpeg = jpeg.clone();
        jpeg[at] = byte;
        is_damaged(&jpeg)
    };
    let (_, quantiser, _) = segment(0xdb);
    assert!(with(quantiser + 4, 0x04) && with(quantiser + 4, 0x20) && with(quantiser + 4, 0x10));
    let (_, huffman, _) = segment(0xc4);
    assert!(with(huffman + 4, 0x04) && with(huffman + 4, 0x20), "class or number");
    // As many symbols as before, six of them with codes of two bits.
    let mut crowded = jpeg.clone();
    crowded[huffman + 6..huffman + 8].copy_from_slice(&[6, 0]);
    assert!(is_damaged(&crowded));
    assert!(with(huffman + 20, 200), "more codes than symbols");
    let (_, scan, _) = segment(0xda);
    assert!(with(scan + 5, 77), "no such component");
    assert!(with(scan + 4, 2) && with(scan + 4, 0) && with(scan + 4, 255), "count");
    let mut swapped = jpeg.clone();
    swapped[scan + 5..scan + 9].rotate_left(2);
    assert!(is_damaged(&swapped), "order");
    assert!(with(scan + 6, 0x40) && with(scan + 11, 1) && with(scan + 12, 62) && with(scan + 13, 1));
}

/// Deletes, doubles, turns over and overwrites what chance picks.
fn mutate(jpeg: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        let begin = rng.usize(..jpeg.len());
        let end = (begin + rng.usize(1..=40)).min(jpeg.len());
        match rng.u8(..6) {
            0 => drop(jpeg.drain(begin..end)),
            1 => jpeg.extend_from_within(begin..end),
            2 => jpeg[begin] ^= 1 << rng.u8(..8),
            3 => jpeg[begin] = rng.u8(..),
            4 => jpeg.truncate(end),
            _ => {
                let copied = jpeg[begin..end].to_vec();
                let at = rng.usize(..=jpeg.len());
                jpeg.splice(at..at, copied);
            }
        }
        if jpeg.is_empty() {
            return;
        }
    }
}

#[test]
fn whatever_is_passed_on_has_the_size_that_decoders_read() {
    let mut rng = fastrand::Rng::with_seed(6);
    let whole = [
        baseline(),
        encoded(|compressor| compressor.set_progressive(true)),
        encoded(|compressor| compressor.set_optimize(true)),
        without(&baseline(), 0xc4),
        with_restarts(97, 61, 7),
    ];
    let (mut passed, mut refused, mut warned) = (0, 0, 0);
    for nth in 0..60_000 {
        let mut jpeg = whole[nth % whole.len()].clone();
        mutate(&mut jpeg, &mut rng);
        let Ok(checked) = check(&jpeg) else {
            refused += 1;
            continue;
        };
        passed += 1;
        let repaired = checked.repaired();
        match turbojpeg::read_header(&repaired) {
            Ok(header) => {
                assert_eq!((header.width, header.height), (checked.width as usize, checked.height as usize));
            }
            // Of a JFIF version that there is not, say. It would go on.
            Err(turbojpeg::Error::TurboJpegError(told)) if told.starts_with("Warning: ") => warned += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(check(&repaired).map(|again| again.repaired()), Ok(repaired.clone()));
        assert!(!is_unusual(&repaired));
    }
    println!("{passed} passed, {warned} of them with a warning; {refused} refused");
    assert!(passed > 1_000 && refused > 1_000 && warned < passed / 4);
    for length in 0..4096 {
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        let begun_well = [&[0xff, 0xd8], &noise[..]].concat();
        assert!(is_damaged(&noise) && check(&begun_well).is_err());
    }
}

#[test]
#[ignore = "a measurement"]
fn the_time_of_a_1080p_check() {
    let image = Image::mandelbrot(1920, 1080, PixelFormat::RGB);
    let jpeg = turbojpeg::compress(image.as_deref(), 98, Subsamp::Sub2x2).unwrap();
    let times = (0..50).map(|_| {
        let begun = std::time::Instant::now();
        std::hint::black_box(check(&jpeg)).unwrap();
        begun.elapsed().as_secs_f64() * 1e6
    });
    println!("check of {} kB: least {:.0} us", jpeg.len() / 1000, times.fold(f64::MAX, f64::min));
}
