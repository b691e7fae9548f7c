//! `multipart/related` uploads: metadata, media, and sometimes checksums behind the media.

use std::ops::Range;

use super::pieces::Pieces;

/// The metadata part and the headers of the media part must end within so many bytes of the body's start.
/// Cloud Storage allows 8 KiB of custom metadata.
const HEAD: usize = 16 * 1024;

/// What follows the media must fit in so many bytes: a checksums part of about 200 bytes, and the end boundary.
const TAIL: usize = 2 * 1024;

/// An upload taken apart.
#[derive(Debug)]
pub(super) struct Parts {
    /// The JSON of the first part.
    pub(super) metadata: Vec<u8>,
    /// The media part's own `Content-Type`, when it has one.
    pub(super) media_type: Option<String>,
    /// The object's bytes.
    pub(super) media: Pieces,
    /// The JSON of a third part: checksums that the sender computed while it sent the media.
    pub(super) trailer: Option<Vec<u8>>,
}

/// Takes the boundary out of a `Content-Type`, or says what is wrong with it.
pub(super) fn boundary(content_type: &str) -> Result<&str, String> {
    let mut fields = content_type.split(';').map(str::trim);
    let kind = fields.next().unwrap_or_default();
    if !kind.eq_ignore_ascii_case("multipart/related") {
        return Err(format!("a multipart upload needs the content type multipart/related, got `{kind}`"));
    }
    fields
        .find_map(|field| {
            let (key, value) = field.split_once('=')?;
            let value = value.trim_matches('"');
            (key.eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
        })
        .ok_or_else(|| format!("no boundary in the content type `{content_type}`"))
}

/// Takes `body` apart, or says what is wrong with it.
///
/// The media is not searched. Its start is found from the head of the body and its end from the tail, so that the
/// cost does not grow with its size; a boundary inside the media, which no sender may produce, goes unnoticed.
pub(super) fn parse(body: &Pieces, boundary: &str) -> Result<Parts, String> {
    let between = format!("\r\n--{boundary}");
    let between = between.as_bytes();

    let head = body.slice(0..body.len().min(HEAD)).to_bytes();
    let first = if head.starts_with(&between[2..]) {
        between.len() - 2
    } else {
        find(&head, between, 0).ok_or("the body does not begin with its boundary")? + between.len()
    };
    let (_, metadata) = part(&head, first).ok_or("no end of the first part's headers")?;
    let metadata_end = find(&head, between, metadata)
        .ok_or_else(|| format!("no second part within {HEAD} bytes: an upload is metadata, then media"))?;
    let (headers, media) = part(&head, metadata_end + between.len())
        .ok_or_else(|| format!("no end of the second part's headers within {HEAD} bytes"))?;

    let tail_start = body.len().saturating_sub(TAIL).max(media);
    let tail = body.slice(tail_start..body.len()).to_bytes();
    let end_boundary = [between, b"--"].concat();
    let end = rfind(&tail, &end_boundary).ok_or_else(|| format!("no end boundary within the last {TAIL} bytes"))?;
    let next_boundary = [between, b"\r\n"].concat();
    let (media_end, trailer) = match rfind(&tail[..end], &next_boundary) {
        None => (end, None),
        Some(third) => {
            // The headers may be absent, and then the blank line is the boundary's own line end: so look from there.
            let (_, text) = part(&tail[..end], third + between.len()).ok_or("no end of the third part's headers")?;
            (third, Some(tail[text..end].to_vec()))
        }
    };

    Ok(Parts {
        metadata: head[metadata..metadata_end].to_vec(),
        media_type: content_type(&head[headers]),
        media: body.slice(media..tail_start + media_end),
        trailer,
    })
}

/// The headers of a part whose boundary ends at `at`, and where its content starts.
fn part(text: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let blank = find(text, b"\r\n\r\n", at)?;
    Some((at..blank, blank + 4))
}

fn content_type(headers: &[u8]) -> Option<String> {
    std::str::from_utf8(headers).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
    })
}

fn find(text: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| from + at)
}

fn rfind(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The body in slices of `step` bytes, as a slow sender would deliver it.
    fn cut(body: &[u8], step: usize) -> Pieces {
        let mut pieces = Pieces::default();
        for slice in body.chunks(step) {
            pieces.push(Bytes::copy_from_slice(slice));
        }
        pieces
    }

    fn body(media: &[u8], trailer: Option<&str>) -> Vec<u8> {
        let mut body = b"--B-1\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n\
            --B-1\r\ncontent-disposition: form-data; name=\"media\"\r\nCONTENT-TYPE: image/jpeg\r\n\r\n"
            .to_vec();
        body.extend_from_slice(media);
        if let Some(trailer) = trailer {
            body.extend_from_slice(b"\r\n--B-1\r\nContent-Type: application/json\r\n\r\n");
            body.extend_from_slice(trailer.as_bytes());
        }
        body.extend_from_slice(b"\r\n--B-1--\r\n");
        body
    }

    #[test]
    fn two_and_three_parts_come_apart_wherever_the_slices_are_cut() {
        let long: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        for media in [&b""[..], b"x", b"\r\n--B-", b"\r\n\r\n--\r\n", &long] {
            for trailer in [None, Some("{\"crc32c\":\"AAAAAA==\"}")] {
                let body = body(media, trailer);
                for step in [1, 7, 4096, body.len()] {
                    let parts = parse(&cut(&body, step), "B-1").unwrap();
                    assert_eq!(parts.metadata, b"{\"a\":1}");
                    assert_eq!(parts.media_type.as_deref(), Some("image/jpeg"));
                    assert_eq!(parts.media.to_bytes(), media, "step {step}");
                    assert_eq!(parts.trailer.as_deref(), trailer.map(str::as_bytes));
                }
            }
        }
    }

    #[test]
    fn parts_need_no_headers_and_a_preamble_is_skipped() {
        let body = b"preamble\r\n--B\r\n\r\n{}\r\n--B\r\n\r\nmedia\r\n--B--";
        let parts = parse(&cut(body, 5), "B").unwrap();
        assert_eq!(parts.metadata, b"{}");
        assert_eq!(parts.media_type, None);
        assert_eq!(parts.media.to_bytes(), "media");
    }

    #[test]
    fn a_torn_body_is_refused() {
        let body = body(b"media", None);
        for len in 0..body.len() - 2 {
            assert!(parse(&cut(&body[..len], 4096), "B-1").is_err(), "{len}");
        }
    }

    #[test]
    fn boundaries_are_read_from_the_content_type() {
        for (given, found) in [
            ("multipart/related; boundary=abc", Some("abc")),
            ("Multipart/Related; charset=x; Boundary=\"a b\"", Some("a b")),
            ("multipart/related", None),
            ("multipart/related; boundary=", None),
            ("multipart/form-data; boundary=abc", None),
        ] {
            assert_eq!(boundary(given).ok(), found, "{given}");
        }
    }
}
