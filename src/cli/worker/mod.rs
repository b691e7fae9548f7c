//! `framehaul worker`: runs export tasks that a server hands out.

mod totals;
mod view;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use self::totals::Totals;
use super::failure::{Failure, Kind, finish, note, print};
use super::interrupt::until_interrupted_twice;
use super::progress::Line;
use super::table::plain;
use super::{ConfigArgs, Format};
use crate::config::{self, Settings};
use crate::http::Token;
use crate::model::DestinationName;
use crate::worker::{Destinations, Ending, Equipment, LastWord, News, Server, Single, Worker, Working};
use crate::{daemon, media};

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct WorkerArgs {
    /// The server that hands out tasks: a framehaul daemon's API, https://HOST[:PORT].
    #[arg(long, value_name = "URL", required_unless_present = "lease")]
    server: Option<String>,
    /// File with a token of the scope `worker`, which nobody else may read: mode 0600.
    #[arg(long, value_name = "FILE", required_unless_present = "lease")]
    token_file: Option<PathBuf>,
    /// Do one task, that of a lease which somebody else has taken and holds: a file with the server's answer. Written is what
    /// is to be said at its end: the body of /complete where the exit code is 0, of /fail otherwise.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token_file", "parallel", "name", "once", "insecure", "format"])]
    lease: Option<PathBuf>,
    /// Tasks at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// What the server knows this worker by; the machine's name and a number without it.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Where the results of tasks go that do not say where: gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or
    /// file:///directory. Endpoint and credentials, of all places, are those of [storage] in the configuration or in
    /// FRAMEHAUL__STORAGE__ENDPOINT and so on.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// End when no task is left.
    #[arg(long)]
    once: bool,
    /// Send token and passwords over HTTP to another machine.
    #[arg(long)]
    insecure: bool,
    /// How long a recorder, or the bucket, may fail without anything that succeeds in between, until its task is given back.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2m")]
    patience: Duration,
    /// Where files lie while they are brought into another form; the system's directory for such files without it.
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,
    /// Tell each task that is taken, and that is done.
    #[arg(long)]
    verbose: bool,
    /// The form of the summary at the end.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul worker --server https://tasks.example --token-file worker.token --to gs://bucket/recordings
  framehaul worker --server http://127.0.0.1:8080 --token-file worker.token --once --format json | jq .done
  framehaul worker --server https://tasks.example --token-file worker.token --parallel 4 --name rack-7
  framehaul worker --lease lease.json --to gs://bucket/recordings > last-word.json

On as many machines as you like: each task is handed to one worker at a time, and to another one when that one is gone for 20 s.
Results lie below the place that the task names, or --to, in a directory for each recorder. What is stored is never fetched or
written again, whoever stored it. SIGTERM and SIGINT give back what is held: what is on its way has 5 s to come to its end; a
second one does not wait. A server that is away is waited for.";

const EXIT_CODES: &str = "Exit codes:
  0 told to end, or with --once all that was taken is done   1 failed   2 wrong usage
  65 with --once: some tasks failed, and were not done by this worker since; with --lease: the task failed
  75 with --once: told to end before that, or some tasks were left to others; with --lease: told to end before that
  77 token refused   78 configuration";

/// How often the terminal is told how far it is.
const TICK: Duration = Duration::from_millis(200);
/// What is said of the first signal.
const GIVES_BACK: &str = "interrupted: what is held is given back; once more to end at once";

/// A name that can stand in tables and paths.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = (1..=48).contains(&text.len()) && text.chars().all(fits);
    if is_name { Ok(text.to_owned()) } else { Err("use 1 to 48 characters of a-z, A-Z, 0-9 and . _ -".to_owned()) }
}

/// The machine's name, and what tells its workers apart.
fn own_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let machine: String = machine.chars().filter(fits).take(32).collect();
    format!("{}.{}", if machine.is_empty() { "worker" } else { &machine }, std::process::id())
}

pub fn run(args: WorkerArgs) -> ExitCode {
    // Without its problems nobody would know what is wrong with the configuration.
    let settings = match super::load(&args.config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    finish(match &args.lease {
        Some(lease) => single(lease, &args, &settings),
        None => worker(&args, &settings),
    })
}

/// Takes tasks of a server and does them.
fn worker(args: &WorkerArgs, settings: &Settings) -> Result<(), Failure> {
    let (Some(server), Some(token_file)) = (&args.server, &args.token_file) else {
        return Err(Failure::new(Kind::Usage, "--server and --token-file, or --lease, are missing"));
    };
    let token = Token::read_private(token_file).map_err(|error| Failure::new(Kind::Config, format!("{error:#}")))?;
    let server = Server::new(server, token, args.insecure).map_err(|why| Failure::new(Kind::Usage, why))?;
    let worker = Worker {
        server,
        name: args.name.clone().unwrap_or_else(own_name),
        parallel: args.parallel.into(),
        once: args.once,
        equipment: equipment(args, settings)?,
    };
    until_over(async |stop| work(worker, args, stop).await)
}

/// Does the one task whose lease lies in a file.
fn single(file: &Path, args: &WorkerArgs, settings: &Settings) -> Result<(), Failure> {
    let refused = |why: &str| Failure::new(Kind::Config, format!("--lease: {} {why}", file.display()));
    let text = fs::read(file).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    let single = Single::read(&text).map_err(|why| refused(&why))?;
    let equipment = equipment(args, settings)?;
    until_over(async |stop| {
        let (working, done) = single.start(equipment);
        let (LastWord { ending, json }, _) = followed(working, done, "one task", args, stop.notified()).await;
        print(format_args!("{json}\n"))?;
        // Why has been told.
        match ending {
            Ending::Done => Ok(()),
            Ending::GivenBack => Err(Failure::Told(Kind::NotNow)),
            _ => Err(Failure::Told(Kind::Damaged)),
        }
    })
}

fn equipment(args: &WorkerArgs, settings: &Settings) -> Result<Equipment, Failure> {
    let destinations = destinations(args.config.config.clone());
    if let Some(to) = &args.to {
        destinations(to).map_err(|why| Failure::new(Kind::Usage, format!("--to: {why}")))?;
    }
    let engines = daemon::engines(settings).map_err(|error| Failure::new(Kind::Config, format!("{error:#}")))?;
    Ok(Equipment {
        to: args.to.clone(),
        destinations,
        media: Some(media::Launcher { engines, limits: media::Limits::default() }),
        workshop: args.temp.clone().unwrap_or_else(std::env::temp_dir),
        patience: args.patience,
    })
}

/// One place says where a destination is and who we are there, and each task may name another URL.
fn destinations(file: Option<PathBuf>) -> Destinations {
    Box::new(move |url| {
        let environment =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let key = "FRAMEHAUL__STORAGE__URL";
        let environment = environment.filter(|(other, _)| !other.eq_ignore_ascii_case(key));
        let environment: Vec<_> = environment.chain([(key.to_owned(), url.to_owned())]).collect();
        let settings = config::load(file.as_deref(), environment).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            problems.join("; ")
        })?;
        Ok(settings.destinations.get(&DestinationName::default()).expect("it is always there").clone())
    })
}

/// Lets it work until it has ended, or a second signal comes.
fn until_over(work: impl AsyncFnOnce(&Notify) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Other, format!("cannot start a runtime: {error}")))?;
    let stop = Notify::new();
    let done = runtime.block_on(until_interrupted_twice(&stop, GIVES_BACK, work(&stop)));
    // A disk that does not answer must not keep us.
    runtime.shutdown_background();
    done
}

async fn work(worker: Worker, args: &WorkerArgs, stop: &Notify) -> Result<(), Failure> {
    let (server, name) = (worker.server.address().to_owned(), worker.name.clone());
    if args.verbose {
        note(format_args!("{name}: takes tasks of {server}, {} at a time", args.parallel));
    }
    let mut is_stopped = false;
    let (working, ends) = worker.start();
    let (ended, totals) = followed(working, ends, &name, args, async {
        stop.notified().await;
        is_stopped = true;
    })
    .await;
    match args.format {
        Format::Json => print(format_args!("{}\n", totals.json(&name)))?,
        Format::Table => note(totals.sentence()),
    }
    ended.map_err(|error| Failure::new(Kind::Forbidden, plain(&error.to_string())))?;
    match (args.once, is_stopped) {
        (true, false) if totals.failed > 0 => {
            Err(Failure::new(Kind::Damaged, format!("{} tasks failed", totals.failed)))
        }
        (true, true) => Err(Failure::new(Kind::NotNow, "told to end before no task was left")),
        // They are over; what became of them is the others' to say.
        (true, false) if totals.lost > 0 => {
            Err(Failure::new(Kind::NotNow, format!("{} tasks were left to others", totals.lost)))
        }
        _ => Ok(()),
    }
}

/// Tells how far the work is until it has ended: what it comes to, and all of it in numbers.
async fn followed<T>(
    mut working: Working,
    ends: impl Future<Output = T>,
    name: &str,
    args: &WorkerArgs,
    stop: impl Future<Output = ()>,
) -> (T, Totals) {
    let (mut totals, mut line) = (Totals::default(), Line::new());
    let (mut tick, mut is_stopped) = (interval(TICK), false);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ends, mut stop) = (pin!(ends), pin!(stop));
    let ended = loop {
        tokio::select! {
            ended = &mut ends => break ended,
            Some(news) = working.news.recv() => told(&news, &mut totals, &mut line, args),
            _ = tick.tick(), if Line::is_shown() => line.show(|| view::show(name, &totals, &working.slots)),
            () = &mut stop, if !is_stopped => {
                is_stopped = true;
                working.stop();
            }
        }
    };
    // What was told last.
    while let Ok(news) = working.news.try_recv() {
        told(&news, &mut totals, &mut line, args);
    }
    line.clear();
    (ended, totals)
}

/// Counts what happened, and says what people should know.
fn told(news: &News, totals: &mut Totals, line: &mut Line, args: &WorkerArgs) {
    let text = match news {
        News::Away { why } => Some(format!("the server is away, and waited for: {}", plain(why))),
        News::Back => Some("the server is back".to_owned()),
        News::Taken(task) => args.verbose.then(|| format!("{}: taken", view::task(task))),
        News::Ended { task, ending, counts } => {
            totals.count(&task.id, ending, *counts);
            let task = view::task(task);
            match ending {
                Ending::Done => args.verbose.then(|| format!("{task}: done, {}", view::counts(*counts))),
                Ending::Failed { kind, message, retry } => {
                    let again = if *retry { "it may be handed out again" } else { "for good" };
                    Some(format!("{task}: failed ({kind}, {again}): {}", plain(message)))
                }
                Ending::GivenBack => args.verbose.then(|| format!("{task}: given back")),
                Ending::Cancelled => Some(format!("{task}: cancelled")),
                Ending::Lost(why) => Some(format!("{task}: left to others: {}", plain(why))),
            }
        }
    };
    if let Some(text) = text {
        line.clear();
        note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_anywhere() {
        assert!(name(&own_name()).is_ok());
        for wrong in ["", "a b", "a/b", "ä", &"x".repeat(49)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_task_may_name_any_place_and_not_what_is_none() {
        let destinations = destinations(None);
        assert!(matches!(destinations("file:///srv/x"), Ok(config::Destination::File { .. })));
        assert!(matches!(destinations("gs://bucket/x"), Ok(config::Destination::Gcs { .. })));
        let told = destinations("ftp://host/x").unwrap_err();
        assert!(told.contains("gs://"), "{told}");
    }
}
