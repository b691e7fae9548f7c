//! What can be said to `framehaul export`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::{EXAMPLES, EXIT_CODES};
use crate::cli::ConfigArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::password;
use crate::cli::printer::ListFormat;
use crate::config::Settings;
use crate::export::{Export, Form, Hours, Layout, Moment, Names, Stream, Template, Tracks, Transport, Wanted};
use crate::model::{DestinationName, Tls, UnixMicros};
use crate::nvr::{ClockMode, RecorderSettings, Scheme, Zone};
use crate::{daemon, media};

#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct ExportArgs {
    /// The recorder: HOST or HOST:PORT.
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present_any = HIKLOAD)]
    server: Option<String>,
    /// The user to log in as.
    #[arg(long, required_unless_present_any = HIKLOAD)]
    username: Option<String>,
    /// File with the user's password. A password on the command line could be seen by every user of the machine.
    #[arg(long, value_name = "FILE", required_unless_present = "hikload_args_file")]
    pub password_file: Option<PathBuf>,
    /// Where to: gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory. Endpoint and credentials
    /// are those of [storage] in the configuration or in FRAMEHAUL__STORAGE__ENDPOINT and so on.
    #[arg(long, value_name = "URL", required_unless_present_any = HIKLOAD)]
    pub to: Option<String>,
    /// Talk to the recorder over HTTPS.
    #[arg(long)]
    https: bool,
    /// `unverified` accepts any certificate of the recorder.
    #[arg(long, value_parser = ["unverified"], requires = "https")]
    tls: Option<String>,

    /// From then on: 2026-11-19T08:00:00 by the recorder's clock, or with Z or an offset behind it.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["days", "yesterday", "all"])]
    start: Option<Moment>,
    /// Until then.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["days", "yesterday", "all"])]
    end: Option<Moment>,
    /// The last days, today among them. Without any of these it is today.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["yesterday", "all"])]
    days: Option<u32>,
    /// The day before today.
    #[arg(long, conflicts_with = "all")]
    yesterday: bool,
    /// All that there is.
    #[arg(long)]
    all: bool,
    /// The moment whose day is today for --days, --yesterday and their like, such as 2026-11-19T08:00:00Z: when this was asked
    /// for, where it is done later. Without it, now.
    #[arg(long, value_name = "TIME", value_parser = instant, hide_short_help = true)]
    asked_at: Option<UnixMicros>,

    /// These channels; without them all.
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "tracks")]
    channels: Vec<u32>,
    /// These tracks, as the recorder calls them: 101 is the main stream of channel 1 on most.
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    tracks: Vec<String>,
    /// Which stream of each channel.
    #[arg(long, value_enum, default_value_t)]
    stream: StreamArg,
    /// Only what was recorded because of this, in the recorder's word: MOTION, ALARM.
    #[arg(long, value_name = "WORD")]
    event: Option<String>,

    /// What recordings become: `original` is what the recorder sends, byte for byte; the others hold the same pictures.
    #[arg(long, value_enum, default_value_t)]
    container: ContainerArg,
    /// One file for each track.
    #[arg(long)]
    concat: bool,
    /// With --concat: cut off what lies before the begin and behind the end.
    #[arg(long, requires = "concat")]
    trim: bool,
    /// Leave out so much at the begin of each file.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    skip_seconds: Option<Duration>,
    /// Keep so much of each file.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_seconds: Option<Duration>,
    /// JPEGs in place of films, one for every so much time.
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with = "concat")]
    frame_every: Option<Duration>,
    /// How recordings come: as files, or played over RTSP. `auto` plays what the recorder does not send.
    #[arg(long, value_enum, default_value_t)]
    transport: TransportArg,

    /// Directories, as hikload has them.
    #[arg(long, value_enum, default_value_t)]
    layout: LayoutArg,
    /// What stands before each name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    name_prefix: String,
    /// Names of your own, such as {camera}/{yyyy}-{mm}-{dd}/{start}-{track}; what they end in is added.
    #[arg(long, value_name = "TEMPLATE", value_parser = Template::parse, conflicts_with_all = ["layout", "name_prefix"])]
    name_template: Option<Template>,

    /// Downloads at a time, at most; fewer while the recorder is busy.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sessions: usize,
    /// Bytes a second, at most: 4MB, 500KiB.
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<ByteSize>,
    /// Begin downloads only between these times of the recorder's day.
    #[arg(long, value_name = "HH:MM-HH:MM")]
    hours: Option<Hours>,
    /// How long before the recorder's now a recording must have ended to be taken for whole.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "3m")]
    settle: Duration,
    /// How long to wait for recordings that still grow.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "10m")]
    wait: Duration,
    /// How often each recording is tried again.
    #[arg(long, value_name = "R", default_value_t = 10)]
    retries: u32,
    /// The longest wait between two attempts.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "60s")]
    retry_max: Duration,
    /// How long the recorder, or the bucket, may fail without anything that succeeds in between.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "10m")]
    patience: Duration,
    /// How long the recorder may take to answer, and be silent within a download.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "30s")]
    timeout: Duration,
    /// Take what comes whole although the recorder's list tells another size.
    #[arg(long)]
    any_size: bool,
    /// Which time the recorder writes: its wall clock's, or UTC. `auto` finds out.
    #[arg(long, value_enum, default_value_t)]
    clock: ClockArg,
    /// The recorder's time zone, such as Europe/Berlin; without it the one that it tells.
    #[arg(long)]
    zone: Option<Zone>,
    /// Where files lie while they are brought into another form; the system's directory for such files without it.
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,

    /// Search only, and say why where nothing is found.
    #[arg(long)]
    pub dry_run: bool,
    /// Tell each attempt that fails.
    #[arg(long)]
    pub verbose: bool,
    /// The form of the list.
    #[arg(long, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Options of hikload, as they stand on its command line; those beside it stand above them. docs/hikload.md says what
    /// becomes of each.
    #[arg(long, value_name = "LINE", conflicts_with = "hikload_args_file", allow_hyphen_values = true)]
    pub hikload_args: Option<String>,
    /// File with such a line, which may hold the password.
    #[arg(long, value_name = "FILE")]
    pub hikload_args_file: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Where a server, a user and a place may stand as well.
const HIKLOAD: [&str; 2] = ["hikload_args", "hikload_args_file"];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum StreamArg {
    /// What recorders keep.
    #[default]
    Main,
    /// The smaller one.
    Sub,
    /// Pictures.
    Photo,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum ContainerArg {
    /// What the recorder sends.
    #[default]
    Original,
    /// MP4.
    Mp4,
    /// Matroska.
    Mkv,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum TransportArg {
    /// Files, and played where the recorder sends none.
    #[default]
    Auto,
    /// Files.
    Files,
    /// Played.
    Rtsp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum LayoutArg {
    /// 20261119000000-101.mp4
    #[default]
    Flat,
    /// Gate/20261119000000.mp4
    Camera,
    /// Gate/2026/11/19/20261119000000.mp4
    Day,
    /// Gate/2026/11/20261119000000.mp4
    Month,
    /// Gate/2026/20261119000000.mp4
    Year,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum ClockArg {
    /// Found out.
    #[default]
    Auto,
    /// Its wall clock's.
    Local,
    /// UTC.
    Utc,
}

/// A time with its unit, or a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// A moment wherever a clock hangs.
fn instant(text: &str) -> Result<UnixMicros, String> {
    match text.parse() {
        Ok(Moment::Instant(at)) => Ok(at),
        Ok(Moment::Wall(_)) | Err(_) => {
            Err("write 2026-11-19T08:00:00Z, or an offset such as +01:00 behind it".to_owned())
        }
    }
}

impl ExportArgs {
    /// The export that is asked for, once all of it is written in options of ours.
    pub fn export(&self, settings: &Settings, password: secrecy::SecretString) -> Result<Export, Failure> {
        let usage = |detail: String| Failure::new(Kind::Usage, detail);
        let server = self.server.as_deref().ok_or_else(|| usage("--server is missing".to_owned()))?;
        let (host, port) = host(server).map_err(usage)?;
        let user = self.username.clone().ok_or_else(|| usage("--username is missing".to_owned()))?;
        let mut recorder = RecorderSettings::new(host, user, password);
        recorder.port = port;
        if self.https {
            recorder.scheme = Scheme::Https { tls: self.tls.as_ref().map(|_| Tls::Unverified) };
        }
        recorder.timeouts.answer = self.timeout;
        recorder.timeouts.stall = self.timeout;
        recorder.timeouts.connect = recorder.timeouts.connect.min(self.timeout);
        recorder.clock = match self.clock {
            ClockArg::Auto => ClockMode::Auto,
            ClockArg::Local => ClockMode::DeviceLocal,
            ClockArg::Utc => ClockMode::Utc,
        };
        recorder.zone = self.zone.clone();
        let destination = settings.destinations.get(&DestinationName::default()).expect("it is always there");
        let mut export = Export::new(recorder, destination.clone());
        (export.wanted, export.asked_at) = (self.wanted(), self.asked_at);
        export.tracks = self.tracks();
        export.event = self.event.clone();
        export.form = self.form().map_err(usage)?;
        export.transport = match self.transport {
            TransportArg::Auto => Transport::Auto,
            TransportArg::Files => Transport::Files,
            TransportArg::Rtsp => Transport::Rtsp,
        };
        export.names = match &self.name_template {
            Some(template) => Names::Template(template.clone()),
            None => Names::Layout { layout: self.layout(), prefix: self.name_prefix.clone() },
        };
        export.sessions = self.sessions;
        export.bandwidth = self.bandwidth.map(|size| size.as_u64()).filter(|per_s| *per_s > 0);
        export.hours = self.hours;
        (export.settle, export.wait) = (self.settle, self.wait);
        (export.retries, export.retry_max, export.patience) = (self.retries, self.retry_max, self.patience);
        export.any_size = self.any_size;
        if let Some(dir) = &self.temp {
            export.workshop.clone_from(dir);
        }
        let engines = daemon::engines(settings).map_err(|error| Failure::new(Kind::Config, format!("{error:#}")))?;
        export.media = Some(media::Launcher { engines, limits: media::Limits::default() });
        Ok(export)
    }

    fn wanted(&self) -> Wanted {
        match (self.days, self.start, self.end) {
            _ if self.all => Wanted::All,
            _ if self.yesterday => Wanted::Yesterday,
            (Some(days), ..) => Wanted::Days(days),
            (None, None, None) => Wanted::Today,
            (None, start, end) => Wanted::Between(start, end),
        }
    }

    fn tracks(&self) -> Tracks {
        let stream = match self.stream {
            StreamArg::Main => Stream::Main,
            StreamArg::Sub => Stream::Sub,
            StreamArg::Photo => Stream::Photo,
        };
        match () {
            () if !self.tracks.is_empty() => Tracks::Ids(self.tracks.clone(), stream),
            () if !self.channels.is_empty() => Tracks::Channels(self.channels.clone(), stream),
            () => Tracks::Every(stream),
        }
    }

    fn form(&self) -> Result<Form, String> {
        let cut = media::Cut { skip: self.skip_seconds.unwrap_or_default(), most: self.max_seconds };
        let container = match self.container {
            ContainerArg::Original if self.concat || cut != media::Cut::default() => Some(media::Container::Mp4),
            ContainerArg::Original => None,
            ContainerArg::Mp4 => Some(media::Container::Mp4),
            ContainerArg::Mkv => Some(media::Container::Mkv),
        };
        if self.stream == StreamArg::Photo && (container.is_some() || self.frame_every.is_some()) {
            return Err("pictures stay as they are: leave --container, --concat and their like out".to_owned());
        }
        if self.max_seconds.is_some_and(|most| most.is_zero()) || self.frame_every.is_some_and(|every| every.is_zero())
        {
            return Err("--max-seconds and --frame-every take more than nothing".to_owned());
        }
        Ok(match (self.frame_every, container) {
            (Some(every), _) => Form::Pictures { every, cut },
            (None, None) => Form::Original,
            (None, Some(container)) if self.concat => Form::Joined { container, cut, trim: self.trim },
            (None, Some(container)) => Form::Packed { container, cut },
        })
    }

    fn layout(&self) -> Layout {
        match self.layout {
            LayoutArg::Flat => Layout::Flat,
            LayoutArg::Camera => Layout::Camera,
            LayoutArg::Day => Layout::Day,
            LayoutArg::Month => Layout::Month,
            LayoutArg::Year => Layout::Year,
        }
    }
}

/// A host and a port.
fn host(text: &str) -> Result<(String, Option<u16>), String> {
    const HOW: &str = "--server takes HOST or HOST:PORT, with --https for HTTPS, and no user or password";
    if text.is_empty() || text.contains(['/', '@', '?', '#', ' ']) {
        return Err(HOW.to_owned());
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(HOW)?)),
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(HOW)).transpose()?;
    Ok((host.to_owned(), port))
}

/// The password, of its file or of a line for hikload.
pub fn password(
    args: &ExportArgs,
    of_hikload: Option<secrecy::SecretString>,
) -> Result<secrecy::SecretString, Failure> {
    match (&args.password_file, of_hikload) {
        (Some(file), _) => password::of_file(file),
        (None, Some(password)) => Ok(password),
        (None, None) => Err(Failure::new(Kind::Usage, "--password-file is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        for (text, expected) in [
            ("10.0.0.5", ("10.0.0.5", None)),
            ("nvr.lan:8080", ("nvr.lan", Some(8080))),
            ("[2001:db8::1]:8443", ("2001:db8::1", Some(8443))),
            ("[2001:db8::1]", ("2001:db8::1", None)),
            ("2001:db8::1", ("2001:db8::1", None)),
        ] {
            assert_eq!(host(text), Ok((expected.0.to_owned(), expected.1)), "{text}");
        }
        for text in ["", "http://nvr", "admin:canary@nvr", "nvr:0", "nvr:http", "nvr:70000", "[::1]x"] {
            let told = host(text).unwrap_err();
            assert!(told.contains("HOST:PORT") && !told.contains("canary"), "{text}: {told}");
        }
    }

    #[test]
    fn what_was_asked_for_then_names_a_moment_and_no_clock() {
        assert_eq!(instant("2026-11-19T08:00:00.000001Z"), Ok(UnixMicros(1_795_075_200_000_001)));
        assert_eq!(instant("2026-11-19T09:00:00+01:00"), instant("2026-11-19T08:00:00Z"));
        assert!(instant("2026-11-19T08:00:00").is_err() && instant("soon").is_err());
    }

    #[test]
    fn seconds_may_have_a_unit() {
        assert_eq!(seconds("90"), Ok(Duration::from_secs(90)));
        assert_eq!(seconds("1m30s"), Ok(Duration::from_secs(90)));
        assert!(seconds("soon").is_err());
    }
}
