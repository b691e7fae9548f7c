//! Objects: uploads in one request, conditions, reads, lists.

use serde_json::{Value, json};
use testbed::gcs::Options;

use crate::client::{Client, MULTIPART, OBJECTS, UPLOAD, crc, multipart, names, server, server_with};

#[test]
fn an_upload_in_two_parts_is_stored_if_its_checksum_fits() {
    let server = server();
    let mut client = Client::of(&server);
    let media: Vec<u8> = (0..150_000).map(|i| (i % 251) as u8).collect();
    let metadata = json!({"contentType": "image/jpeg", "crc32c": crc(&media), "metadata": {"camera": "gate-3"}});
    let object = client.upload("name=a/b.jpg", &metadata, &media, None).ok();
    for (key, expected) in [
        ("kind", "storage#object"),
        ("bucket", "frames"),
        ("name", "a/b.jpg"),
        ("size", "150000"),
        ("metageneration", "1"),
        ("contentType", "image/jpeg"),
        ("crc32c", &crc(&media)),
    ] {
        assert_eq!(object[key], expected, "{key}");
    }
    assert_eq!(object["metadata"]["camera"], "gate-3");
    assert_eq!(object["md5Hash"], Value::Null, "nobody asked for it");
    assert_eq!(server.read("frames", "a/b.jpg").unwrap(), media);

    // One bit on the way.
    let mut broken = media.clone();
    broken[77_777] ^= 4;
    assert_eq!(client.upload("name=broken", &metadata, &broken, None).error(400), "invalid");
    assert_eq!(client.upload("name=broken", &json!({"crc32c": "AAA"}), &media, None).error(400), "invalid");
    let stored: Vec<_> = server.objects("frames").into_iter().map(|object| object.name).collect();
    assert_eq!(stored, ["a/b.jpg"]);
    let stats = client.stats();
    assert_eq!((stats.puts_stored, stats.bytes_stored, stats.checksum_failures), (1, 150_000, 1));
    assert_eq!(stats, server.stats());
}

#[test]
fn an_upload_in_three_parts_brings_its_checksum_behind_the_media() {
    let server = server();
    let mut client = Client::of(&server);
    let media = vec![7; 100_000];
    let right = json!({"crc32c": crc(&media)});
    let object = client.upload("name=x", &json!({}), &media, Some(&right)).ok();
    assert_eq!(object["size"], "100000");
    assert_eq!(object["crc32c"], right["crc32c"]);
    let wrong = json!({"crc32c": crc(b"something else")});
    assert_eq!(client.upload("name=y", &json!({}), &media, Some(&wrong)).error(400), "invalid");
    assert_eq!(server.objects("frames").len(), 1);
    assert_eq!(client.stats().checksum_failures, 1);
}

#[test]
fn a_body_of_unknown_length_may_come_in_chunks_cut_anywhere() {
    let server = server();
    let mut client = Client::of(&server);
    let media: Vec<u8> = (0..10_000).map(|i| (i % 241) as u8).collect();
    let body = multipart(&json!({}), &media, Some(&json!({"crc32c": crc(&media)})));
    for size in [1, 97, 4096, 20_000] {
        let mut chunked = Vec::new();
        for chunk in body.chunks(size) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let (first, rest) = chunked.split_at(chunked.len() / 2);
        let path = format!("{UPLOAD}?uploadType=multipart&name={size}");
        client.send("POST", &path, &[MULTIPART, ("transfer-encoding", "chunked")], &[first, rest]).ok();
        assert_eq!(server.read("frames", &size.to_string()).unwrap(), media, "chunks of {size}");
    }
}

#[test]
fn hashes_in_headers_are_checked_too() {
    let server = server();
    let mut client = Client::of(&server);
    let md5 = "XrY7u+Ae7tCTyyK7j1rNww=="; // of "hello world"
    let mut put = |hash: &str| {
        let path = format!("{UPLOAD}?uploadType=media&name=x");
        client.call("POST", &path, &[("x-goog-hash", hash)], b"hello world")
    };
    assert_eq!(put(&format!("crc32c=yZRlqg==,md5={md5}")).ok()["md5Hash"], md5);
    assert_eq!(put("crc32c=yZRlqg==").ok()["md5Hash"], Value::Null);
    assert_eq!(put("crc32c=AAAAAA==").error(400), "invalid");
    assert_eq!(put("crc32c=yZRlqg==,md5=AAAAAAAAAAAAAAAAAAAAAA==").error(400), "invalid");
    assert_eq!(put("sha1=AAAA").error(400), "invalid");
    server.change_knobs(|knobs| knobs.md5 = true).unwrap();
    assert_eq!(put("crc32c=yZRlqg==").ok()["md5Hash"], md5);
    assert_eq!(server.stats().checksum_failures, 2);
}

#[test]
fn a_create_only_upload_never_replaces_anything() {
    let server = server();
    let mut client = Client::of(&server);
    let create = "name=x&ifGenerationMatch=0";
    let first = client.put(create, b"one").ok();
    for other in [&b"one"[..], b"two"] {
        let reply = client.put(create, other);
        assert_eq!(reply.error(412), "conditionNotMet");
        assert_eq!(reply.json()["error"]["errors"][0]["location"], "If-Match");
    }
    assert_eq!(client.get(&format!("{OBJECTS}/x")).ok(), first);
    let stats = client.stats();
    assert_eq!((stats.puts_stored, stats.precondition_failures), (1, 2));
    assert_eq!(stats.duplicates_refused, 1, "the other one met somebody else's bytes");
}

#[test]
fn generations_rise_and_guard_writes_reads_and_deletes() {
    let server = server();
    let mut client = Client::of(&server);
    let first = client.put("name=x", b"one").ok()["generation"].as_str().unwrap().to_owned();
    let second = client.put(&format!("name=x&ifGenerationMatch={first}"), b"two").ok()["generation"].clone();
    let second = second.as_str().unwrap();
    assert!(second.parse::<i64>().unwrap() > first.parse().unwrap());
    assert_eq!(client.put(&format!("name=x&ifGenerationMatch={first}"), b"3").error(412), "conditionNotMet");
    assert_eq!(client.put(&format!("name=x&ifGenerationNotMatch={second}"), b"3").error(412), "conditionNotMet");
    assert_eq!(client.put("name=x&ifGenerationMatch=soon", b"3").error(400), "invalid");

    let x = format!("{OBJECTS}/x");
    assert_eq!(client.get(&format!("{x}?generation={second}")).ok()["size"], "3");
    assert_eq!(client.get(&format!("{x}?generation={first}")).error(404), "notFound");
    assert_eq!(client.get(&format!("{x}?ifGenerationMatch={first}")).error(412), "conditionNotMet");
    assert_eq!(client.get(&format!("{x}?ifGenerationNotMatch={second}")).status, 304);
    assert_eq!(client.get(&format!("{x}?ifGenerationNotMatch={first}")).status, 200);
    assert_eq!(client.get(&format!("{x}?ifMetagenerationMatch=2")).error(412), "conditionNotMet");

    let delete = format!("{x}?ifGenerationMatch={first}");
    assert_eq!(client.call("DELETE", &delete, &[], b"").error(412), "conditionNotMet");
    assert_eq!(client.call("DELETE", &x, &[], b"").status, 204);
    assert_eq!(client.call("DELETE", &x, &[], b"").error(404), "notFound");
    assert_eq!(client.get(&x).error(404), "notFound");
    client.put("name=x&ifGenerationMatch=0", b"four").ok();
}

#[test]
fn bytes_come_back_whole_and_in_ranges() {
    let server = server();
    let mut client = Client::of(&server);
    let metadata = json!({"contentType": "image/jpeg", "metadata": {"camera": "gate-3"}, "cacheControl": "no-store"});
    let object = client.upload("name=x", &metadata, b"0123456789", None).ok();
    for path in [format!("{OBJECTS}/x?alt=media"), "/download/storage/v1/b/frames/o/x?alt=media".into()] {
        let reply = client.get(&path);
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"0123456789"[..]));
        for (name, expected) in [
            ("x-goog-hash", format!("crc32c={}", crc(b"0123456789")).as_str()),
            ("x-goog-generation", object["generation"].as_str().unwrap()),
            ("x-goog-metageneration", "1"),
            ("x-goog-stored-content-length", "10"),
            ("x-goog-stored-content-encoding", "identity"),
            ("x-goog-storage-class", "STANDARD"),
            ("x-goog-meta-camera", "gate-3"),
            ("cache-control", "no-store"),
            ("content-type", "image/jpeg"),
            ("etag", object["etag"].as_str().unwrap()),
        ] {
            assert_eq!(reply.headers.get(name).map(String::as_str), Some(expected), "{name}");
        }
        for (range, body, content_range) in [
            ("bytes=0-0", &b"0"[..], "bytes 0-0/10"),
            ("bytes=3-5", b"345", "bytes 3-5/10"),
            ("bytes=8-", b"89", "bytes 8-9/10"),
            ("bytes=-4", b"6789", "bytes 6-9/10"),
        ] {
            let reply = client.call("GET", &path, &[("range", range)], b"");
            assert_eq!((reply.status, reply.body.as_slice()), (206, body), "{range}");
            assert_eq!(reply.headers["content-range"], content_range);
            assert_eq!(reply.headers["x-goog-stored-content-length"], "10");
        }
        assert_eq!(client.call("GET", &path, &[("range", "bytes=10-")], b"").status, 416);
    }
    assert_eq!(client.stats().bytes_read, 2 * (10 + 1 + 3 + 2 + 4));
    // As the service does: no JSON where bytes were asked for.
    let missing = client.get(&format!("{OBJECTS}/y?alt=media"));
    assert_eq!((missing.status, missing.body.as_slice()), (404, &b"No such object: frames/y"[..]));
}

#[test]
fn lists_come_in_pages_by_prefix_and_by_folder() {
    let server = server();
    let mut client = Client::of(&server);
    assert_eq!(client.get(OBJECTS).ok(), json!({"kind": "storage#objects"}));
    for i in 0..25 {
        client.put(&format!("name=cam/{}/{i:03}", i % 2), b"x").ok();
    }
    client.put("name=readme", b"x").ok();

    let mut seen = Vec::new();
    let mut pages = 0;
    let mut token = String::new();
    loop {
        let page = client.get(&format!("{OBJECTS}?prefix=cam/&maxResults=10&pageToken={token}")).ok();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        pages += 1;
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let mut expected: Vec<_> = (0..25).map(|i| format!("cam/{}/{i:03}", i % 2)).collect();
    expected.sort();
    assert_eq!((seen, pages), (expected, 3));

    let top = client.get(&format!("{OBJECTS}?delimiter=/")).ok();
    assert_eq!((names(&top), &top["prefixes"]), (vec!["readme"], &json!(["cam/"])));
    let below = client.get(&format!("{OBJECTS}?delimiter=/&prefix=cam/")).ok();
    assert_eq!((names(&below), &below["prefixes"]), (vec![], &json!(["cam/0/", "cam/1/"])));
    assert_eq!(client.get(&format!("{OBJECTS}?pageToken=nonsense!")).error(400), "invalid");
    assert_eq!(client.get(&format!("{OBJECTS}?maxResults=0")).error(400), "invalid");
}

#[test]
fn names_with_slashes_and_foreign_letters_are_one_name_everywhere() {
    let server = server();
    let mut client = Client::of(&server);
    for (name, in_query, in_path) in [
        ("a/b/c.jpg", "a/b/c.jpg", "a%2Fb%2Fc.jpg"),
        (
            "größe/東京 1+1=100%.jpg",
            "gr%C3%B6%C3%9Fe%2F%E6%9D%B1%E4%BA%AC+1%2B1%3D100%25.jpg",
            "gr%C3%B6%C3%9Fe%2F%E6%9D%B1%E4%BA%AC%201+1=100%25.jpg",
        ),
        ("../x?#[]", "..%2Fx%3F%23%5B%5D", "..%2Fx%3F%23%5B%5D"),
    ] {
        assert_eq!(client.put(&format!("name={in_query}"), name.as_bytes()).ok()["name"], name);
        assert_eq!(client.get(&format!("{OBJECTS}/{in_path}")).ok()["name"], name);
        assert_eq!(client.get(&format!("{OBJECTS}/{in_path}?alt=media")).body, name.as_bytes());
        let link = client.get(&format!("{OBJECTS}/{in_path}")).ok()["mediaLink"].as_str().unwrap().to_owned();
        assert_eq!(client.get(link.strip_prefix(&server.endpoint()).unwrap()).body, name.as_bytes());
        let list = client.get(&format!("{OBJECTS}?prefix={in_query}")).ok();
        assert_eq!(names(&list), [name]);
        assert_eq!(client.call("DELETE", &format!("{OBJECTS}/{in_path}"), &[], b"").status, 204);
    }
    // 1024 bytes are allowed, and the limit counts bytes: 512 letters of two bytes each.
    let longest = "%C3%BC".repeat(512);
    client.put(&format!("name={longest}"), b"").ok();
    assert_eq!(client.put(&format!("name={longest}x"), b"").error(400), "invalid");
    assert_eq!(client.put("", b"").error(400), "required");
    assert_eq!(client.put("name=..", b"").error(400), "invalid");
    // The name may also stand in the metadata, and the one in the query counts more.
    let metadata = json!({"name": "inner"});
    assert_eq!(client.upload("", &metadata, b"", None).ok()["name"], "inner");
    assert_eq!(client.upload("name=outer", &metadata, b"", None).ok()["name"], "outer");
}

#[test]
fn an_unknown_bucket_is_not_found_unless_any_will_do() {
    let server = server();
    let mut client = Client::of(&server);
    assert_eq!(client.get("/storage/v1/b/frames").ok()["name"], "frames");
    let upload = "/upload/storage/v1/b/other/o?uploadType=media&name=x";
    for (method, path) in [
        ("POST", upload),
        ("GET", "/storage/v1/b/other"),
        ("GET", "/storage/v1/b/other/o"),
        ("GET", "/storage/v1/b/other/o/x"),
        ("DELETE", "/storage/v1/b/other/o/x"),
    ] {
        assert_eq!(client.call(method, path, &[], b"").error(404), "notFound", "{method} {path}");
    }
    let any = server_with(Options { any_bucket: true, ..Options::default() });
    let mut client = Client::of(&any);
    client.call("POST", upload, &[], b"x").ok();
    assert_eq!(any.objects("other").len(), 1);
}

#[test]
fn what_is_absent_says_so() {
    let server = server();
    let mut client = Client::of(&server);
    assert_eq!(client.call("PATCH", &format!("{OBJECTS}/x"), &[], b"{}").error(501), "notImplemented");
    assert_eq!(client.call("POST", &format!("{UPLOAD}?name=x"), &[], b"").error(400), "invalid");
    assert_eq!(client.stats().requests.unsupported, 2);
}
