//! What whoever means harm would write.

use super::Clips;

/// URLs that no camera may have; `port` is where somebody of this machine listens.
pub(super) fn urls(port: u16, clips: Option<&Clips>) -> Vec<String> {
    let mut urls: Vec<String> = [
        // This machine, in every spelling.
        "rtsp://127.0.0.1:P/a",
        "http://127.0.0.1:P/a",
        "https://127.0.0.1:P/a",
        "rtsp://127.9.9.9:P/a",
        "rtsp://127.1:P/a",
        "http://127.0.1:P/a",
        "http://2130706433:P/a",
        "rtsp://2130706433:P/a",
        "http://0x7f000001:P/a",
        "rtsp://0x7f.1:P/a",
        "http://017700000001:P/a",
        "rtsp://0177.0.0.1:P/a",
        "rtsp://127%2e0%2e0%2e1:P/a",
        "http://127.0.0.1.:P/a",
        "http://localhost:P/a",
        "rtsp://LOCALHOST.:P/a",
        "rtsp://local%c2%adhost:P/a",
        "http://sub.localhost:P/a",
        "rtsp://0.0.0.0:P/a",
        "http://0:P/a",
        "http://[::1]:P/a",
        "rtsp://[0:0:0:0:0:0:0:1]:P/a",
        "rtsp://[::]:P/a",
        "rtsp://[::ffff:127.0.0.1]:P/a",
        "http://[::ffff:7f00:1]:P/a",
        "rtsp://[::127.0.0.1]:P/a",
        "rtsp://[64:ff9b::7f00:1]:P/a",
        "rtsp://[64:ff9b:1::7f00:1]:P/a",
        "rtsp://[2002:7f00:1::1]:P/a",
        // Servers that hand out credentials.
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/meta-data/",
        "http://0xa9fea9fe/latest/meta-data/",
        "http://0251.0376.0251.0376/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[64:ff9b:1::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://METADATA.Google.Internal./computeMetadata/v1/",
        "http://metadata.goog/computeMetadata/v1/",
        "http://metadata/computeMetadata/v1/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://[fd20:ce::254]/computeMetadata/v1/",
        "http://100.100.100.200/latest/meta-data/",
        "http://168.63.129.16/machine",
        "http://192.0.0.192/latest/",
        // Nobody's in particular.
        "rtsp://169.254.1.1/a",
        "rtsp://[fe80::1]/a",
        "rtsp://[fe80::1%25eth0]/a",
        "rtsp://224.0.0.1/a",
        "rtsp://239.255.255.250:1900/a",
        "rtsp://[ff02::1]/a",
        "rtsp://255.255.255.255/a",
        "rtsp://0.1.2.3/a",
        // What FFmpeg would open.
        "file:///etc/passwd",
        "file:/etc/passwd",
        "file:etc/passwd",
        "file://localhost/etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "FILE:///etc/passwd",
        "/etc/passwd",
        "../../etc/passwd",
        "exec:touch /tmp/framehaul-escape",
        "exec:touch%20/tmp/framehaul-escape",
        "concat:/etc/passwd|/etc/hosts",
        "concatf:/etc/passwd",
        "pipe:0",
        "pipe:1",
        "fd:0",
        "data:video/mp4;base64,AAAA",
        "gopher://127.0.0.1:P/_FLUSHALL",
        "ftp://127.0.0.1:P/a",
        "sftp://127.0.0.1:P/a",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "subfile:/etc/passwd",
        "crypto+file:///etc/passwd",
        "crypto:/etc/passwd",
        "hls+http://127.0.0.1:P/a.m3u8",
        "async:file:///etc/passwd",
        "cache:http://127.0.0.1:P/a",
        "unix:/run/framehaul.sock",
        "srtp://127.0.0.1:P",
        "rtp://127.0.0.1:P",
        "udp://127.0.0.1:P",
        "tcp://127.0.0.1:P",
        "tls://127.0.0.1:P",
        "rtmp://127.0.0.1:P/live",
        "tee:/tmp/framehaul-escape|/tmp/framehaul-escape-2",
        "md5:/tmp/framehaul-escape",
        "icecast://127.0.0.1:P/a",
        "ipfs://a",
        "v4l2:/dev/null",
        "v4l2:/dev/sda",
        "v4l2:/dev/video0/../null",
        "v4l2:///dev/video0/../../etc/passwd",
        "v4l2:/dev/video%30",
        "v4l2:/etc/passwd",
        "javascript:alert(1)",
        // What looks like something else.
        "",
        " ",
        "rtsp:",
        "rtsp://",
        "rtsp:///a",
        "rtsp://camera:0/a",
        "rtsp://camera:65536/a",
        "rtsp://camera/\0",
        "rtsp://camera/%00\0",
        "rtsp://camera/a\r\nSETUP rtsp://127.0.0.1:P/a RTSP/1.0",
        "rtsp://camera/\u{1b}[2J",
        "rtsp://camera/\u{7f}",
        "rtsp://camera/\u{202e}4pm.niam",
        "rtsp://\u{202e}aremac/a",
        "rtsp://camera/\u{1f4f7}",
        "rtsp://\u{ff11}\u{ff12}\u{ff17}.0.0.1:P/a",
        "rtsp://camera\\@127.0.0.1:P/a",
        "rtsp://camera@127.0.0.1:P/a",
        "rtsp://camera#@127.0.0.1:P/a",
        "rtsp://camera/|file:/etc/passwd",
        " rtsp://127.0.0.1:P/a",
        "rtsp://camera/a b",
    ]
    .map(|url| url.replace(":P", &format!(":{port}")))
    .into();
    urls.push(format!("rtsp://camera/{}", "a".repeat(2_048)));
    urls.push(format!("http://{}/a", "a".repeat(2_048)));
    urls.push(format!("rtsp://{}camera/a", "a.".repeat(1_024)));
    if let Some(clips) = clips {
        let dir = clips.dir.display();
        for path in [
            "/../outside.mp4",
            "/%2e%2e/outside.mp4",
            "/..%2foutside.mp4",
            "/a/..%2f..%2foutside.mp4",
            "/clip.mp4%00.jpg",
            "/clip.mp4?a",
            "/clip.mp4#a",
            "-not/clip.mp4",
        ] {
            urls.push(format!("file://{dir}{path}"));
        }
        urls.push(format!("file://{}", clips.outside.display()));
        urls.extend(clips.links.iter().cloned());
    }
    urls
}

/// Ids that no camera may have. The `bool` says whether it may not be what people call a camera either.
pub(super) fn names() -> Vec<(String, bool)> {
    let mut names: Vec<(String, bool)> = [
        ("", true),
        (" ", true),
        ("..", false),
        ("../framehaul-escape", false),
        ("../../../../tmp/framehaul-escape", false),
        ("..%2f..%2fframehaul-escape", false),
        ("/tmp/framehaul-escape", false),
        ("gate/../../framehaul-escape", false),
        ("gate\0", true),
        ("\0", true),
        ("gate\n[evil]", true),
        ("gate\r\nX-Evil: 1", true),
        ("gate\u{1b}[2J", true),
        ("gate\u{7f}", true),
        ("gate\u{85}", true),
        ("\u{202e}etag", true),
        ("gate\u{2066}\u{2069}", true),
        ("gate\u{200f}", true),
        ("gate\u{61c}", true),
        ("gate\u{2028}", true),
        ("gate\u{feff}", true),
        ("\u{1f4f7}", false),
        ("\u{433}ate", false),
        ("GATE", false),
        ("-gate", false),
        ("_gate", false),
        ("gate ", false),
        ("gate.3", false),
        ("$(touch framehaul-escape)", false),
        ("'; drop table cameras; --", false),
        ("{camera}", false),
        ("<script>alert(1)</script>", false),
    ]
    .map(|(name, unprintable)| (name.to_owned(), unprintable))
    .into();
    names.push(("a".repeat(2_048), true));
    names.push(("\u{1f4f7}".repeat(512), true));
    names
}
