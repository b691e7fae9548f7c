//! An export as a row of a sheet asks for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::cell::Cell;
use super::channels::{channels, tracks};
use super::column::Column;
use super::field::{at_most, bytes, choice, duration, truth, whole, word};
use super::host::address;
use super::row::Row;
use super::span::wanted;
use crate::config::Destination;
use crate::export::{Form, Hours, Layout, Names, Stream, Template, Tracks, Transport, Wanted};
use crate::media::{Container, Cut};
use crate::model::Tls;
use crate::nvr::{ClockMode, Scheme, Zone};

/// Bytes of a note, at most.
const MAX_NOTE: usize = 1 << 10;
/// Bytes of a path or a place, at most: systems take no longer ones.
const MAX_PATH: usize = 4 << 10;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An export as a row of a sheet asks for it. `None` stands for what the sheet leaves to whoever runs it.
#[derive(Clone, Debug)]
pub struct Task {
    /// The row that it stands in.
    pub row: u32,
    /// What it is called.
    pub id: Option<String>,
    /// Whether it is to be run.
    pub enabled: bool,
    /// The recorder: a name or an address, one of version 6 without its brackets.
    pub host: String,
    /// Its port; that of the scheme where it is `None`.
    pub port: Option<u16>,
    /// How it is reached.
    pub scheme: Scheme,
    /// Who to log in as.
    pub user: String,
    /// The password; there is this or a file.
    pub password: Option<SecretString>,
    /// A file with the password in its first line, on the machine that runs the task.
    pub password_file: Option<PathBuf>,
    /// Which tracks.
    pub tracks: Tracks,
    /// From when to when.
    pub wanted: Wanted,
    /// Which time stands before a `Z` in what the recorder says.
    pub clock: ClockMode,
    /// The zone of its wall clock.
    pub zone: Option<Zone>,
    /// The recorder's word for why they were recorded; `None` for whatever reason.
    pub event: Option<String>,
    /// How recordings come from the recorder.
    pub transport: Transport,
    /// What they are stored as.
    pub form: Form,
    /// What they are called.
    pub names: Names,
    /// Where they go: a URL, with the column `prefix` in it.
    pub bucket: Option<String>,
    /// What stands before every key there, for a row that names no bucket.
    pub prefix: Option<String>,
    /// Downloads at a time.
    pub sessions: Option<usize>,
    /// Bytes a second, at most.
    pub bandwidth: Option<u64>,
    /// When downloads may begin.
    pub hours: Option<Hours>,
    /// How long before the recorder's now a recording must have ended.
    pub settle: Option<Duration>,
    /// Attempts for each recording after the first.
    pub retries: Option<u32>,
    /// How long the recorder may take to answer.
    pub timeout: Option<Duration>,
    /// Whether it only searches.
    pub dry_run: bool,
    /// What whoever wrote the sheet says of it.
    pub notes: Option<String>,
    /// What whoever wrote the sheet should know of how it was read, in sentences.
    pub remarks: Vec<String>,
}

impl Task {
    /// Reads a row; what is wrong goes there, and then what comes back is worth nothing.
    pub(super) fn read(number: u32, row: &mut Row<'_>) -> Option<Self> {
        let (host, port, scheme) = place(row);
        let (user, password, password_file) = login(row);
        let stream = stream(row);
        let (bucket, prefix) = bucket(row);
        let wanted = wanted(row);
        let (tracks, form) = (which(row, stream), form(row, stream));
        let second_to_hour = SECOND..=3_600 * SECOND;
        Some(Self {
            row: number,
            id: row.read(Column::Id, id),
            enabled: row.read(Column::Enabled, truth).unwrap_or(true),
            wanted,
            clock: row.read(Column::TimeBasis, |text| choice(text, &CLOCKS)).unwrap_or_default(),
            zone: row.read(Column::Zone, |text| {
                text.parse().map_err(|_| "is no time zone: use a name such as Europe/Berlin")
            }),
            event: row.read(Column::Event, event).flatten(),
            transport: row.read(Column::Transport, |text| choice(text, &TRANSPORTS)).unwrap_or_default(),
            form,
            names: names(row),
            sessions: row.read(Column::Sessions, |text| whole(text, 1..=16)).and_then(|n| usize::try_from(n).ok()),
            bandwidth: row.read(Column::Bandwidth, bytes),
            hours: row.read(Column::Hours, |text| {
                text.replace('–', "-").parse::<Hours>().map_err(|_| "is no span of a day: write 22:00-06:00")
            }),
            settle: row.read(Column::Settle, |text| duration(text, Duration::ZERO..=DAY)),
            retries: row.read(Column::Retries, |text| whole(text, 0..=1_000)).and_then(|n| u32::try_from(n).ok()),
            timeout: row.read(Column::Timeout, |text| duration(text, second_to_hour)),
            dry_run: row.read(Column::DryRun, truth).unwrap_or(false),
            // Whatever stands there, as long as it can be read.
            notes: row.read(Column::Notes, |text| at_most(text, MAX_NOTE).map(str::to_owned)),
            remarks: Vec::new(),
            host: host?,
            port,
            scheme,
            user: user?,
            password,
            password_file,
            tracks: tracks?,
            bucket,
            prefix,
        })
    }

    /// What tells it from all that ask for something else: everything but its row, its names, and the password.
    pub(super) fn asks_for(&self) -> [u8; 16] {
        let Self {
            row: _,
            id: _,
            enabled: _,
            password: _,
            password_file: _,
            notes: _,
            remarks: _,
            host,
            port,
            scheme,
            user,
            tracks,
            wanted,
            clock,
            zone,
            event,
            transport,
            form,
            names,
            bucket,
            prefix,
            sessions,
            bandwidth,
            hours,
            settle,
            retries,
            timeout,
            dry_run,
        } = self;
        let whole = format!(
            "{:?}{:?}{:?}{:?}",
            (host, port, scheme, user, tracks, wanted),
            (clock, zone, event, transport, form, names),
            (bucket, prefix, sessions, bandwidth, hours),
            (settle, retries, timeout, dry_run),
        );
        Sha256::digest(whole)[..16].try_into().expect("a digest is longer")
    }
}

const CLOCKS: [(&str, ClockMode); 3] =
    [("auto", ClockMode::Auto), ("device_local", ClockMode::DeviceLocal), ("utc", ClockMode::Utc)];

const TRANSPORTS: [(&str, Transport); 5] = [
    ("auto", Transport::Auto),
    ("files", Transport::Files),
    ("rtsp", Transport::Rtsp),
    // As lists of columns elsewhere call them.
    ("file", Transport::Files),
    ("http_file", Transport::Files),
];

const STREAMS: [(&str, Stream); 3] = [("main", Stream::Main), ("sub", Stream::Sub), ("photo", Stream::Photo)];

const LAYOUTS: [(&str, Layout); 9] = [
    ("flat", Layout::Flat),
    ("camera", Layout::Camera),
    ("year", Layout::Year),
    ("month", Layout::Month),
    ("day", Layout::Day),
    // hikload's words.
    ("onepercamera", Layout::Camera),
    ("oneperyear", Layout::Year),
    ("onepermonth", Layout::Month),
    ("oneperday", Layout::Day),
];

fn id(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.');
    let id = word(text, 64)?;
    if id.chars().all(fits) { Ok(id) } else { Err("has characters beside letters, digits, blanks and _-.".to_owned()) }
}

fn event(text: &str) -> Result<Option<String>, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text {
        text if text.eq_ignore_ascii_case("all") => Ok(None),
        text if text.len() <= 32 && text.chars().all(fits) => Ok(Some(text.to_owned())),
        _ => Err("is no recorder's word for one reason, as MOTION"),
    }
}

/// The recorder: host, port and scheme, of which the first may say all.
fn place(row: &mut Row<'_>) -> (Option<String>, Option<u16>, Scheme) {
    if !row.has(Column::Host) {
        row.fault(Column::Host, "is missing: write the recorder's name or address");
    }
    let address = row.read(Column::Host, address);
    let port = row.read(Column::Port, |text| whole(text, 1..=65_535)).and_then(|port| u16::try_from(port).ok());
    let told = row.read(Column::Scheme, |text| choice(text, &[("http", false), ("https", true)]));
    let tls = row.read(Column::Tls, |text| match text.to_ascii_lowercase().as_str() {
        "verified" | "verify" => Ok(None),
        "unverified" => Ok(Some(Tls::Unverified)),
        text => truth(text)
            .map(|verified| (!verified).then_some(Tls::Unverified))
            .map_err(|_| "is neither verified nor unverified"),
    });
    let (host, in_host, is_https) = address.map_or((None, None, None), |a| (Some(a.host), a.port, a.is_https));
    if port.zip(in_host).is_some_and(|(port, in_host)| port != in_host) {
        row.fault(Column::Port, "is another one than behind the host");
    }
    if told.zip(is_https).is_some_and(|(told, is_https)| told != is_https) {
        row.fault(Column::Scheme, "is another one than before the host");
    }
    let scheme = if told.or(is_https).unwrap_or(false) {
        Scheme::Https { tls: tls.flatten() }
    } else {
        if tls == Some(Some(Tls::Unverified)) {
            row.fault(Column::Tls, "has a meaning with https only: write https for the scheme, or leave it out");
        }
        Scheme::Http
    };
    (host, port.or(in_host), scheme)
}

fn login(row: &mut Row<'_>) -> (Option<String>, Option<SecretString>, Option<PathBuf>) {
    if !row.has(Column::User) {
        row.fault(Column::User, "is missing: write who to log in as");
    }
    let user = row.read(Column::User, |text| word(text, 128));
    match (row.has(Column::Password), row.has(Column::PasswordFile)) {
        (false, false) => row.fault(Column::Password, "is missing: write it, or a password_file"),
        (true, true) => row.fault(Column::PasswordFile, "stands beside a password: write one or the other"),
        _ => {}
    }
    let password = row.text(Column::Password).map(SecretString::from);
    if let Some(Err(why)) = password.as_ref().map(|password| word(password.expose_secret(), 128)) {
        row.fault(Column::Password, &why);
    }
    let file = row.read(Column::PasswordFile, |text| {
        let text = at_most(text, MAX_PATH)?;
        if Path::new(text).is_absolute() { Ok(PathBuf::from(text)) } else { Err("is no absolute path".to_owned()) }
    });
    (user, password, file)
}

/// The stream, which `content` may say too.
fn stream(row: &mut Row<'_>) -> Stream {
    let stream = row.read(Column::Stream, |text| choice(text, &STREAMS));
    let is_photo = row.read(Column::Content, |text| choice(text, &[("video", false), ("photo", true)]));
    match (stream, is_photo) {
        (Some(Stream::Photo), Some(false)) | (Some(Stream::Main | Stream::Sub), Some(true)) => {
            row.fault(Column::Content, "does not go with the stream: photos are the stream `photo`");
            Stream::Main
        }
        (None, Some(true)) => Stream::Photo,
        (stream, _) => stream.unwrap_or_default(),
    }
}

/// The tracks, by either column.
fn which(row: &mut Row<'_>, stream: Stream) -> Option<Tracks> {
    if row.has(Column::Channels) && row.has(Column::Tracks) {
        row.fault(Column::Tracks, "stands beside channels: write one or the other");
    }
    let before = |row: &mut Row<'_>, column| match row.take(column) {
        Cell::Empty => Ok(None),
        Cell::List(list) => Ok(Some(list)),
        // What people meant when they typed it cannot be known any more.
        Cell::Date(_) => {
            Err("is a date: a program took 1-16 for one; format the cell as text and write it anew".to_owned())
        }
        Cell::Number(number) if number >= 100_000.0 => {
            Err("is a number of six digits: a program took 101,201 for one; format the cell as text and write it anew"
                .to_owned())
        }
        cell => cell.into_text().map(Some),
    };
    let mut read = |column, read: fn(&str, Stream) -> Result<Tracks, String>| {
        let tracks = before(row, column).and_then(|text| text.map(|text| read(&text, stream)).transpose());
        tracks.map_err(|why| row.fault(column, &why)).ok()
    };
    let (channels, tracks) = (read(Column::Channels, channels)?, read(Column::Tracks, tracks)?);
    Some(channels.or(tracks).unwrap_or(Tracks::Every(stream)))
}

/// What recordings are stored as, which six columns say together.
fn form(row: &mut Row<'_>, stream: Stream) -> Form {
    let containers = [("original", None), ("mp4", Some(Container::Mp4)), ("mkv", Some(Container::Mkv))];
    let container = row.read(Column::Container, |text| choice(text, &containers));
    let (has_skip, has_max) = (row.has(Column::SkipSeconds), row.has(Column::MaxSeconds));
    let (concat, trim) = (row.read(Column::Concat, truth) == Some(true), row.read(Column::Trim, truth) == Some(true));
    let has_every = row.has(Column::FrameEvery);
    let skip = row.read(Column::SkipSeconds, |text| duration(text, Duration::ZERO..=366 * DAY));
    let most = row.read(Column::MaxSeconds, |text| duration(text, SECOND / 1_000..=366 * DAY));
    let every = row.read(Column::FrameEvery, |text| duration(text, SECOND / 1_000..=DAY));
    let cut = Cut { skip: skip.unwrap_or_default(), most };
    let is_packed = matches!(container, Some(Some(_)));
    let changes = [
        (Column::Container, is_packed),
        (Column::Concat, concat),
        (Column::Trim, trim),
        (Column::SkipSeconds, has_skip),
        (Column::MaxSeconds, has_max),
        (Column::FrameEvery, has_every),
    ];
    if stream == Stream::Photo {
        for (column, _) in changes.into_iter().filter(|(_, is_told)| *is_told) {
            row.fault(column, "has a meaning for video only: photos stay as they are");
        }
        return Form::Original;
    }
    if has_every {
        for (column, _) in changes.into_iter().take(3).filter(|(_, is_told)| *is_told) {
            row.fault(column, "does not go with frame_every, which makes JPEGs");
        }
        return every.map_or(Form::Original, |every| Form::Pictures { every, cut });
    }
    if trim && !concat {
        row.fault(Column::Trim, "has a meaning with concat only");
    }
    let has_cut = has_skip || has_max;
    if container == Some(None) && (concat || has_cut) {
        row.fault(Column::Container, "cannot be original with concat, skip_seconds or max_seconds: use mp4 or mkv");
    }
    match container.flatten() {
        container if concat => Form::Joined { container: container.unwrap_or(Container::Mp4), cut, trim },
        Some(container) => Form::Packed { container, cut },
        None if has_cut => Form::Packed { container: Container::Mp4, cut },
        None => Form::Original,
    }
}

fn names(row: &mut Row<'_>) -> Names {
    let (has_layout, has_prefix) = (row.has(Column::Layout), row.has(Column::NamePrefix));
    let template = row.read(Column::NameTemplate, |text| Template::parse(text).map_err(|_| TEMPLATE));
    let layout = row.read(Column::Layout, |text| choice(text, &LAYOUTS));
    let prefix = row.read(Column::NamePrefix, |text| word(text, 64));
    if let Some(template) = template {
        for (column, _) in
            [(Column::Layout, has_layout), (Column::NamePrefix, has_prefix)].into_iter().filter(|(_, has)| *has)
        {
            row.fault(column, "stands beside a name_template, which says all");
        }
        return Names::Template(template);
    }
    Names::Layout { layout: layout.unwrap_or_default(), prefix: prefix.unwrap_or_default() }
}

const TEMPLATE: &str = "is no pattern for names: write for example {camera}/{yyyy}-{mm}-{dd}/{start}-{track}; {track}, and \
                        {start} or {start_utc}, have to be in it";

/// Where recordings go: a URL with the prefix in it, or a prefix alone.
fn bucket(row: &mut Row<'_>) -> (Option<String>, Option<String>) {
    let prefix = row.read(Column::Prefix, |text| {
        let prefix = text.trim_matches('/');
        if prefix.len() > MAX_NOTE {
            return Err("is longer than keys may be");
        }
        // A place for it shows whether it can stand in one.
        match Destination::at(&format!("gs://bucket/{prefix}")) {
            Ok(_) if !prefix.is_empty() => Ok(prefix.to_owned()),
            _ => Err("is no prefix: use letters, digits and ._=-, with / between names that are not only dots"),
        }
    });
    let bucket = row.read(Column::Bucket, |text| {
        if text.len() > MAX_PATH {
            return Err("is longer than a place may be");
        }
        Destination::at(text).map(|_| text.trim_end_matches('/').to_owned()).map_err(
            |_| "is no place: use gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory",
        )
    });
    match (bucket, prefix) {
        (Some(bucket), Some(prefix)) => (Some(format!("{bucket}/{prefix}")), None),
        (bucket, prefix) => (bucket, prefix),
    }
}
