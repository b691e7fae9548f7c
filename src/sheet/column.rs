//! The columns that a sheet may have, by whichever names.

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "`COLUMNS` describes each, for people too")]
pub enum Column {
    Id,
    Enabled,
    Host,
    Port,
    Scheme,
    Tls,
    User,
    Password,
    PasswordFile,
    Channels,
    Tracks,
    Stream,
    Content,
    Range,
    Start,
    End,
    Days,
    TimeBasis,
    Zone,
    Event,
    Transport,
    Container,
    Concat,
    Trim,
    SkipSeconds,
    MaxSeconds,
    FrameEvery,
    NameTemplate,
    NamePrefix,
    Layout,
    Bucket,
    Prefix,
    Sessions,
    Bandwidth,
    Hours,
    Settle,
    Retries,
    Timeout,
    DryRun,
    Args,
    Notes,
}

/// What there is to know of a column.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Which.
    pub column: Column,
    /// Its name.
    pub name: &'static str,
    /// Other names that mean the same.
    pub synonyms: &'static [&'static str],
    /// What may stand there, and what holds where nothing does.
    pub takes: &'static str,
    /// What the template shows; empty for nothing.
    pub example: &'static str,
    /// All that may stand there, where that is a short list.
    pub choices: &'static [&'static str],
}

const YES_NO: &[&str] = &["yes", "no"];

const fn column(
    column: Column,
    name: &'static str,
    synonyms: &'static [&'static str],
    takes: &'static str,
    example: &'static str,
    choices: &'static [&'static str],
) -> Description {
    Description { column, name, synonyms, takes, example, choices }
}

/// All columns, in the order of [`Column`] and of the template.
#[rustfmt::skip]
pub const COLUMNS: [Description; 41] = [
    column(Column::Id, "id", &["task_id", "task", "номер", "编号"],
        "a name of the task: letters and digits of any language, blanks and _-. ; none", "shop-north-1", &[]),
    column(Column::Enabled, "enabled", &["active", "run"],
        "yes or no: whether it is run; yes", "no", YES_NO),
    column(Column::Host, "host", &["address", "server", "ip", "ip_address", "recorder", "nvr", "dvr", "device", "device_id", "adresse", "адрес", "сервер", "地址", "主机", "ip地址"],
        "the recorder: a name or an address, with :port and http:// or https:// if need be; has to be there", "192.0.2.10", &[]),
    column(Column::Port, "port", &["http_port", "порт", "端口"],
        "1 to 65535; 80, or 443 for https", "", &[]),
    column(Column::Scheme, "scheme", &["protocol", "протокол", "协议"],
        "http or https; http", "http", &["http", "https"]),
    column(Column::Tls, "tls", &["tls_verify", "verify_tls"],
        "verified or unverified: whether the certificate of https has to be a good one; verified", "", &["verified", "unverified"]),
    column(Column::User, "user", &["username", "user_name", "login", "benutzer", "пользователь", "логин", "имя_пользователя", "用户", "用户名"],
        "who to log in as; has to be there", "export", &[]),
    column(Column::Password, "password", &["pass", "pwd", "passwd", "passwort", "kennwort", "пароль", "密码"],
        "the password, or nothing and a password_file", "", &[]),
    column(Column::PasswordFile, "password_file", &["passwordfile"],
        "an absolute path on the machine that runs the task: a file with the password in its first line; 4 KiB at most", "/etc/framehaul/recorder.password", &[]),
    column(Column::Channels, "channels", &["channel", "camera", "cameras", "ch", "kanal", "kanäle", "kamera", "канал", "каналы", "камера", "камеры", "通道", "频道", "摄像机"],
        "channels 1 to 99 as 1-16 or 1,3,5, or track ids as 101,201, or all; all", "1-4", &[]),
    column(Column::Tracks, "tracks", &["track", "track_ids", "track_id"],
        "track ids as 101,201 or 10001, in place of channels", "", &[]),
    column(Column::Stream, "stream", &["stream_type", "поток", "码流"],
        "main, sub or photo; main", "main", &["main", "sub", "photo"]),
    column(Column::Content, "content", &["content_type"],
        "video or photo: photo is the stream photo; video", "", &["video", "photo"]),
    column(Column::Range, "range", &["range_kind", "period", "период"],
        "today, yesterday, days (with the column days), absolute (with start and end) or all; what start, end and days say, else today", "absolute", &["absolute", "today", "yesterday", "days", "all"]),
    column(Column::Start, "start", &["starttime", "start_time", "from", "begin", "beginn", "von", "начало", "开始", "开始时间"],
        "a date of the sheet, or 2026-11-19 08:00[:00] by the recorder's clock, or with Z or +01:00 behind it", "2026-11-19 08:00", &[]),
    column(Column::End, "end", &["endtime", "end_time", "to", "until", "ende", "bis", "конец", "结束", "结束时间"],
        "as start; a day without a time is its first moment; the end of today", "2026-11-19 18:00", &[]),
    column(Column::Days, "days", &["last_days", "дни", "天数"],
        "so many days, today among them: 1 to 3660", "", &[]),
    column(Column::TimeBasis, "time_basis", &["clock", "clock_mode"],
        "device_local, utc or auto: what a time with Z means when the recorder says it; auto", "", &["auto", "device_local", "utc"]),
    column(Column::Zone, "zone", &["device_tz", "timezone", "time_zone", "tz", "часовой_пояс", "时区"],
        "the recorder's time zone, as Europe/Berlin; the one that it tells of itself", "", &[]),
    column(Column::Event, "event", &["event_types", "event_type", "событие"],
        "why it was recorded, in the recorder's word, as MOTION; whatever reason", "", &[]),
    column(Column::Transport, "transport", &["via"],
        "auto, files or rtsp; auto", "", &["auto", "files", "rtsp"]),
    column(Column::Container, "container", &["videoformat", "video_format", "format", "формат", "格式"],
        "original, mp4 or mkv; original, or mp4 where concat, skip_seconds or max_seconds need one", "", &["original", "mp4", "mkv"]),
    column(Column::Concat, "concat", &["join"],
        "yes or no: whether the recordings of a track become one; no", "", YES_NO),
    column(Column::Trim, "trim", &[],
        "yes or no: with concat, whether what lies outside start and end is cut off; no", "", YES_NO),
    column(Column::SkipSeconds, "skip_seconds", &["skip", "skipseconds"],
        "seconds, or 1m30s: so much of each is left out; 0", "", &[]),
    column(Column::MaxSeconds, "max_seconds", &["seconds", "max"],
        "seconds, or 1m30s: so much of each is kept; all", "", &[]),
    column(Column::FrameEvery, "frame_every", &["frames", "every"],
        "seconds, or 1m30s: a JPEG for every so much time, in place of video; none", "", &[]),
    column(Column::NameTemplate, "name_template", &["template"],
        "a pattern as {camera}/{yyyy}-{mm}-{dd}/{start}-{track}, in place of layout and name_prefix", "", &[]),
    column(Column::NamePrefix, "name_prefix", &["videoname", "video_name"],
        "what stands before each name; nothing", "", &[]),
    column(Column::Layout, "layout", &["folders", "папки"],
        "flat, camera, year, month or day: a directory for each; flat", "", &["flat", "camera", "year", "month", "day"]),
    column(Column::Bucket, "bucket", &["destination", "dest", "dest_dir", "store", "downloads", "bucket_url"],
        "gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory; where the one who runs it says", "gs://recordings/shop-north", &[]),
    column(Column::Prefix, "prefix", &["key_prefix"],
        "goes behind bucket: letters, digits and ._=-/ ; nothing", "", &[]),
    column(Column::Sessions, "sessions", &["max_parallel_per_device", "parallel"],
        "downloads from the recorder at a time: 1 to 16; 1", "", &[]),
    column(Column::Bandwidth, "bandwidth", &["rate_limit", "rate"],
        "bytes a second at most, as 2MiB; no limit", "", &[]),
    column(Column::Hours, "hours", &["window", "часы"],
        "when downloads may begin by the recorder's clock, as 22:00-06:00; always", "", &[]),
    column(Column::Settle, "settle", &["settle_seconds"],
        "seconds, or 3m: how long ago a recording must have ended; 180", "", &[]),
    column(Column::Retries, "retries", &["attempts"],
        "attempts for each recording after the first: 0 to 1000; 10", "", &[]),
    column(Column::Timeout, "timeout", &["http_timeout_s", "http_timeout", "httptimeout"],
        "seconds, or 1m: how long the recorder may take to answer; 30", "", &[]),
    column(Column::DryRun, "dry_run", &["skipdownload", "skip_download"],
        "yes or no: whether it only searches; no", "", YES_NO),
    column(Column::Args, "args", &["arguments", "hikload", "command", "command_line"],
        "a command line of hikload, in place of the columns that it names", "", &[]),
    column(Column::Notes, "notes", &["note", "comment", "remarks", "bemerkung", "заметки", "примечание", "备注"],
        "whatever you like, 1 KiB at most; nothing reads it", "An example: change it, and write yes for enabled", &[]),
];

/// What a sheet that was written back holds of an earlier run: known, and passed over.
const RESULTS: [&str; 10] =
    ["last_run", "status", "found", "downloaded", "skipped", "failed", "bytes", "last_error", "exit_code", "next_run"];

/// The columns of a sheet without names for them, in their order.
pub(super) const BARE: [Column; 4] = [Column::User, Column::Password, Column::Host, Column::Channels];

/// What a name at the head of a column means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    Column(Column),
    Result,
}

impl Column {
    /// Its name.
    pub fn name(self) -> &'static str {
        COLUMNS[self as usize].name
    }

    /// The column of that name, or with that synonym, however it is spelled.
    pub(super) fn named(text: &str) -> Option<Named> {
        let name = normal(text);
        if RESULTS.contains(&name.as_str()) {
            return Some(Named::Result);
        }
        let has = |described: &&Description| described.name == name || described.synonyms.contains(&name.as_str());
        COLUMNS.iter().find(has).map(|described| Named::Column(described.column))
    }
}

/// A name without what people write differently: `Start time*` is `start_time`.
fn normal(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().trim_end_matches(['*', ':']).chars().flat_map(char::to_lowercase).take(64) {
        match c {
            '\u{feff}' | '\u{200b}' => {}
            c if c.is_alphanumeric() => name.push(c),
            _ if name.ends_with('_') || name.is_empty() => {}
            _ => name.push('_'),
        }
    }
    name.truncate(name.trim_end_matches('_').len());
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_column_has_its_place_and_each_name_one_meaning() {
        let mut names = HashSet::from(RESULTS.map(str::to_owned));
        for (place, described) in COLUMNS.iter().enumerate() {
            assert_eq!(described.column as usize, place, "{}", described.name);
            for name in described.synonyms.iter().chain([&described.name]) {
                assert_eq!(normal(name), *name);
                assert!(names.insert((*name).to_owned()), "{name} means two things");
                assert_eq!(Column::named(name), Some(Named::Column(described.column)));
            }
        }
    }

    #[test]
    fn names_may_be_spelled_otherwise() {
        for (text, column) in [
            (" Start Time* ", Column::Start),
            ("End-Time:", Column::End),
            ("ПАРОЛЬ", Column::Password),
            ("Имя пользователя", Column::User),
            ("IP地址", Column::Host),
            ("password_file", Column::PasswordFile),
        ] {
            assert_eq!(Column::named(text), Some(Named::Column(column)), "{text}");
        }
        assert_eq!(Column::named("Last run"), Some(Named::Result));
        assert_eq!(Column::named("strat"), None);
        assert_eq!(Column::named(""), None);
    }
}
