//! A queue of tasks under workers that are killed or stand still, of a server that is killed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::crew::Member;
use super::falls::Falls;
use super::latecomer::Latecomer;
use super::place::{Place, Task};
use crate::contest::round;
use crate::gcs::GcsServer;
use crate::nvr::{Channel, Knobs, NvrServer, Options, RecordingInfo};
use crate::scenario::recorder::place::{PASSWORD, Sum, channels, sum_of};
use crate::scenario::stage::{BUCKET, bucket};
use crate::scenario::{Outcome, Problems, Stage};

/// Recordings of each task, and minutes of each recording.
const EACH: u32 = 2;
const MINUTES: u32 = 10;
/// Downloads from a recorder at a time.
const SESSIONS: u32 = 16;
/// The least size of a recording, bytes.
const LEAST_BYTES: u64 = 60_000;
/// How often everything is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// How long it may take if nothing goes on at all.
const PATIENCE: Duration = Duration::from_secs(1_500);
/// What docs/worker.sh says that it is called.
const SCRIPT: &str = "worker.sh";

/// A queue and what befalls it.
#[derive(Debug, Clone)]
pub struct QueueChaos {
    /// Recorders, each with so many channels, each with so many tasks.
    pub recorders: u32,
    /// Channels of each recorder.
    pub channels: u32,
    /// Tasks of each channel.
    pub tasks: u32,
    /// Workers of ours; a script is one more.
    pub workers: usize,
    /// How often one of them is killed.
    pub kills: usize,
    /// How often one of them stands still for longer than its lease.
    pub pauses: usize,
    /// How often the script does.
    pub script_pauses: usize,
    /// How often a client keeps a task for longer than its lease, without a word, and says then that it is done.
    pub late: usize,
    /// How often the server is killed.
    pub server_kills: usize,
    /// How long a lease lives.
    pub lease: Duration,
    /// How soon the task of one that fell has to be taken again.
    pub again: Duration,
    /// How fast a recording comes, so that they fall within one, bytes per second.
    pub bytes_per_s: u64,
    /// What the choice of who falls when begins with.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer, or nothing goes on any more.
pub fn queue_chaos(stage: &Stage, plan: &QueueChaos) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (gcs, _) = bucket(stage, crate::gcs::Knobs::default())?;
    let servers: Vec<NvrServer> = (0..plan.recorders).map(|_| recorder(plan)).collect::<anyhow::Result<_>>()?;
    let more = format!("[tasks]\nlease = \"{}s\"\n[log]\nformat = \"json\"\n", plan.lease.as_secs());
    let place = Place::new(stage, "server", &more)?;
    let rows: Vec<Value> = servers.iter().flat_map(|server| rows(server, plan)).collect();
    let job = place.job(&rows)?;
    let to = format!("gs://{BUCKET}");
    let latecomer = Latecomer::new(&place)?;
    let begun = Instant::now();
    let mut chaos = Chaos {
        place,
        plan,
        to: &to,
        endpoint: gcs.endpoint(),
        job: &job,
        all: rows.len(),
        crew: Vec::new(),
        script: None,
        script_held: Vec::new(),
        latecomer,
        falls: Falls::default(),
        started: 0,
        done: Done::default(),
    };
    chaos.run()?;
    let seconds = begun.elapsed().as_secs_f64();
    chaos.end(&mut problems)?;
    let Chaos { mut place, latecomer, falls, done, .. } = chaos;

    let state = place.state(&job)?;
    let tasks = place.tasks(&job)?;
    let words = Words::read(&place.daemon.log_text())?;
    place.daemon.stop()?;
    judge_tasks(&state, &tasks, &words, rows.len(), &mut problems);
    judge_falls(&falls, &done, plan, &mut problems);
    let late = latecomer.times;
    problems.check(latecomer.wrong.is_empty(), || latecomer.wrong.join("; "));
    problems.check(words.late_completions >= late && late == plan.late, || {
        format!(
            "{} completions were refused as late, of {late} that came late and {} planned",
            words.late_completions, plan.late
        )
    });
    let objects = judge_objects(&gcs, &servers, &mut problems)?;
    let again: u64 = servers.iter().map(|server| server.stats().downloads.again).sum();

    let faults = done.kills + done.pauses + done.script_pauses + late + done.server_kills;
    let longest = |times: &[Duration]| times.iter().max().map(|time| round(time.as_secs_f64()));
    let bound = format!(
        "{} workers and {} tasks; workers killed {} times and standing still beyond their leases {} times, at random, the \
         server killed {} times, {} completions said too late: each task done once, late completions refused, taken again \
         within {:?}, nothing lost, no object there twice or written over, all byte-identical",
        plan.workers,
        rows.len(),
        plan.kills,
        plan.pauses + plan.script_pauses,
        plan.server_kills,
        plan.late,
        plan.again
    );
    let figure = json!({
        "tasks": rows.len(),
        "done": state["counts"]["done"],
        "done_once_by_lease": words.completed.len(),
        "seconds": round(seconds),
        "workers_killed": done.kills,
        "workers_paused": done.pauses,
        "script_paused": done.script_pauses,
        "server_killed": done.server_kills,
        "completions_said_too_late": late,
        "done_by_the_script": by(&tasks, |task| task.worker.clone()).get(SCRIPT),
        "tasks_by_attempts": by(&tasks, |task| Some(task.attempts.to_string())),
        "failed_attempts": by(&tasks, |task| Some(task.error.as_ref()?["kind"].as_str()?.to_owned())),
        "late_completions_refused": words.late_completions,
        "late_words_refused": words.refused,
        "tasks_that_fell": falls.taken.len() + falls.taken_after_restart.len() + falls.ended,
        "taken_again_within_s": longest(&falls.taken),
        "taken_again_within_s_of_a_restart": longest(&falls.taken_after_restart),
        "recordings": objects,
        "recordings_fetched_twice": again,
    });
    Ok(problems.outcome(bound, figure, faults as u64))
}

fn recorder(plan: &QueueChaos) -> anyhow::Result<NvrServer> {
    let like = Channel { least_bytes: LEAST_BYTES, each_s: MINUTES * 60, ..Channel::default() };
    let channels = channels(&vec![plan.tasks * EACH; plan.channels as usize], &like);
    let knobs = Knobs { bytes_per_s: Some(plan.bytes_per_s), ..Knobs::default() };
    NvrServer::start(Options { channels, knobs, ..Options::default() })
}

/// A row for each task of a recorder.
fn rows(server: &NvrServer, plan: &QueueChaos) -> Vec<Value> {
    let at = |minutes: u32| format!("2026-11-19 {:02}:{:02}", minutes / 60, minutes % 60);
    let of_channel = |channel: u32| {
        (0..plan.tasks).map(move |nth| {
            json!({
                "host": server.host(), "user": "admin", "password": PASSWORD, "channels": channel.to_string(),
                "start": at(nth * EACH * MINUTES), "end": at((nth + 1) * EACH * MINUTES), "sessions": SESSIONS,
            })
        })
    };
    (1..=plan.channels).flat_map(of_channel).collect()
}

/// What was injected.
#[derive(Debug, Default)]
struct Done {
    kills: usize,
    pauses: usize,
    script_pauses: usize,
    server_kills: usize,
}

/// What befalls a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Paused,
}

struct Chaos<'a> {
    place: Place,
    plan: &'a QueueChaos,
    to: &'a str,
    endpoint: String,
    job: &'a str,
    all: usize,
    crew: Vec<Member>,
    script: Option<Member>,
    /// What the script held when it last fell.
    script_held: Vec<String>,
    latecomer: Latecomer,
    falls: Falls,
    started: usize,
    done: Done,
}

impl Chaos<'_> {
    /// Lets them work until all tasks are over, and has them fall meanwhile.
    fn run(&mut self) -> anyhow::Result<()> {
        let mut rng = fastrand::Rng::with_seed(self.plan.seed);
        for _ in 0..self.plan.workers {
            let member = self.worker()?;
            self.crew.push(member);
        }
        let mut script = self.place.script(self.to, &self.endpoint)?;
        self.script = Some(Member::start(SCRIPT.to_owned(), &mut script, self.place.dir())?);
        let mut fates = [vec![Fate::Killed; self.plan.kills], vec![Fate::Paused; self.plan.pauses]].concat();
        rng.shuffle(&mut fates);
        // One in each part of the whole, so that all of them come before its end.
        let parts = |count: usize, rng: &mut fastrand::Rng| -> Vec<usize> {
            let part = self.all / (count + 1);
            (0..count).map(|nth| nth * part + rng.usize(part / 2..part.max(part / 2 + 1))).collect()
        };
        let falls_at = parts(fates.len(), &mut rng);
        let script_at = parts(self.plan.script_pauses, &mut rng);
        let late_at = parts(self.plan.late, &mut rng);
        let server_at = parts(self.plan.server_kills, &mut rng);
        let begun = Instant::now();
        let mut next = 0;
        loop {
            ensure!(begun.elapsed() < PATIENCE, "the queue does not come to its end: {}", self.place.state(self.job)?);
            let tasks = self.place.tasks(self.job)?;
            self.falls.look(&tasks, self.plan.lease);
            self.wake(&tasks)?;
            self.latecomer.look(&self.place, &self.falls)?;
            let over =
                tasks.iter().filter(|task| matches!(task.state.as_str(), "done" | "failed" | "cancelled")).count();
            let still =
                self.script.as_ref().is_some_and(|script| script.until.is_some()) || self.latecomer.has_a_task();
            if over == self.all && !still {
                return Ok(());
            }
            if server_at.get(self.done.server_kills).is_some_and(|at| over >= *at) {
                self.place.daemon.kill()?;
                self.place.daemon.run()?;
                self.falls.restarted();
                self.done.server_kills += 1;
            }
            if !self.latecomer.has_a_task() && late_at.get(self.latecomer.times).is_some_and(|at| over >= *at) {
                self.latecomer.take(&self.place, self.job, &mut self.falls)?;
            }
            if script_at.get(self.done.script_pauses).is_some_and(|at| over >= *at) {
                self.pause_script(&tasks, &mut rng)?;
            }
            if falls_at.get(next).is_some_and(|at| over >= *at) && self.befall(fates[next], &mut rng)? {
                next += 1;
            }
            std::thread::sleep(EVERY);
        }
    }

    fn worker(&mut self) -> anyhow::Result<Member> {
        self.started += 1;
        Member::worker(&self.place, format!("worker-{}", self.started), self.to, &self.endpoint)
    }

    /// For how long one stands still: longer than its lease.
    fn still_until(&self, rng: &mut fastrand::Rng) -> Instant {
        Instant::now() + self.plan.lease + Duration::from_millis(rng.u64(2_000..8_000))
    }

    /// Has those go on whose time it is.
    fn wake(&mut self, tasks: &[Task]) -> anyhow::Result<()> {
        let now = Instant::now();
        for member in self.crew.iter_mut().filter(|member| member.until.is_some_and(|until| until <= now)) {
            member.go_on()?;
        }
        // The script has to be late: somebody else has its task by then, or is through with it.
        let is_over = |id: &String| tasks.iter().any(|task| task.id == *id && task.state == "done");
        if let Some(script) = &mut self.script
            && script.until.is_some_and(|until| until <= now)
            && (!self.falls.waits(&self.script_held) || self.script_held.iter().all(is_over))
        {
            script.go_on()?;
        }
        Ok(())
    }

    /// Has a worker fall, whoever it is; not yet where too few would be left.
    fn befall(&mut self, fate: Fate, rng: &mut fastrand::Rng) -> anyhow::Result<bool> {
        let awake: Vec<usize> = (0..self.crew.len()).filter(|place| self.crew[*place].until.is_none()).collect();
        if awake.len() + 2 <= self.crew.len() {
            return Ok(false);
        }
        let place = *rng.choice(&awake).context("all of them stand still")?;
        let name = self.crew[place].name.clone();
        match fate {
            Fate::Killed => {
                self.crew[place].kill();
                self.done.kills += 1;
            }
            Fate::Paused => {
                let until = self.still_until(rng);
                self.crew[place].stop(until)?;
                self.done.pauses += 1;
            }
        }
        self.falls.note(&name, &self.place.tasks(self.job)?);
        if fate == Fate::Killed {
            self.crew[place] = self.worker()?;
        }
        Ok(true)
    }

    /// Has the script stand still while it has a task, if it has one now.
    fn pause_script(&mut self, tasks: &[Task], rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let until = self.still_until(rng);
        let Some(script) = &mut self.script else { return Ok(()) };
        if script.until.is_some() || script.has_ended()? || !tasks.iter().any(|task| task.is_held_by(SCRIPT)) {
            return Ok(());
        }
        script.stop(until)?;
        let tasks = self.place.tasks(self.job)?;
        if self.falls.note(SCRIPT, &tasks) == 0 {
            // It was through with it just then.
            return script.go_on();
        }
        self.script_held = tasks.iter().filter(|task| task.is_held_by(SCRIPT)).map(|task| task.id.clone()).collect();
        self.done.script_pauses += 1;
        Ok(())
    }

    /// Waits until the script is through, and ends all workers.
    fn end(&mut self, problems: &mut Problems) -> anyhow::Result<()> {
        for member in &mut self.crew {
            if member.until.is_some() {
                member.go_on()?;
            }
            let is_good = member.end()?;
            problems.check(is_good, || format!("{} did not end in good order", member.name));
        }
        if let Some(script) = &self.script {
            // It ends when no task is left; what it has to say comes late before that.
            crate::daemon::wait(self.plan.lease * 3, || Ok(script.has_ended()?.then_some(())))
                .context("docs/worker.sh does not end")?;
        }
        Ok(())
    }
}

/// What workers said at the end of tasks, as the server's log has it.
#[derive(Debug, Default)]
struct Words {
    /// Leases whose completion was accepted.
    completed: BTreeSet<String>,
    late_completions: usize,
    /// All words that were refused because their lease was over.
    refused: BTreeMap<String, usize>,
}

impl Words {
    fn read(log: &str) -> anyhow::Result<Self> {
        let mut words = Self::default();
        for line in log.lines().filter(|line| line.contains("framehaul::audit")) {
            let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON in the log: {line}"))?;
            let fields = &line["fields"];
            let route = fields["route"].as_str().unwrap_or_default();
            let Some((lease, word)) = route.strip_prefix("/api/v1/leases/").and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            match (word, fields["status"].as_u64()) {
                ("complete", Some(200)) => drop(words.completed.insert(lease.to_owned())),
                (_, Some(409)) => {
                    words.late_completions += usize::from(word == "complete");
                    *words.refused.entry(word.to_owned()).or_default() += 1;
                }
                _ => {}
            }
        }
        Ok(words)
    }
}

fn judge_tasks(state: &Value, tasks: &[Task], words: &Words, all: usize, problems: &mut Problems) {
    problems.check(state["state"] == "done" && state["counts"]["done"] == all, || format!("the export is {state}"));
    // The script tells nothing of what it did.
    let by_workers: Vec<&Task> = tasks.iter().filter(|task| task.worker.as_deref() != Some(SCRIPT)).collect();
    let told = by_workers.len();
    let all_of_it = |task: &&&Task| {
        let [found, downloaded, there, failed] =
            ["found", "downloaded", "there", "failed"].map(|field| task.told(field).unwrap_or_default());
        found == u64::from(EACH) && downloaded + there == found && failed == 0
    };
    let right = by_workers.iter().filter(all_of_it).count();
    problems.check(told == right && told * 2 > all, || {
        format!("workers told of {told} tasks what became of them, and of {right} that all is there")
    });
    let not_done = tasks.iter().filter(|task| task.state != "done").count();
    problems.check(tasks.len() == all && not_done == 0, || format!("{not_done} of {} tasks are not done", tasks.len()));
    // As many leases were completed as there are tasks, and all tasks are done: none was completed by two.
    problems.check(words.completed.len() == all, || format!("{} completions were accepted", words.completed.len()));
}

fn judge_falls(falls: &Falls, done: &Done, plan: &QueueChaos, problems: &mut Problems) {
    let injected = [done.kills, done.pauses, done.script_pauses, done.server_kills];
    let planned = [plan.kills, plan.pauses, plan.script_pauses, plan.server_kills];
    problems.check(injected == planned, || format!("{injected:?} faults came of {planned:?}"));
    // Most of those who fall have a task: some were between two.
    let fell = falls.taken.len() + falls.taken_after_restart.len() + falls.ended;
    problems.check(fell > planned.iter().take(3).sum::<usize>() / 2, || format!("{fell} tasks fell"));
    problems.check(!falls.is_waiting(), || "tasks of those who fell wait still".to_owned());
    for times in [&falls.taken, &falls.taken_after_restart] {
        let late = times.iter().filter(|time| **time > plan.again).count();
        problems
            .check(late == 0, || format!("{late} tasks were taken again after more than {:?}: {times:?}", plan.again));
    }
    problems.check(falls.wrong.is_empty(), || falls.wrong.join("; "));
}

/// How many tasks have each of something.
fn by(tasks: &[Task], of: impl Fn(&Task) -> Option<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    tasks.iter().filter_map(of).for_each(|each| *counts.entry(each).or_default() += 1);
    counts
}

/// Compares the bucket with the recorders: how many recordings there are, and how they came there.
fn judge_objects(gcs: &GcsServer, servers: &[NvrServer], problems: &mut Problems) -> anyhow::Result<Value> {
    let mut wanted: BTreeMap<String, Sum> = BTreeMap::new();
    for server in servers {
        let host = server.host().replace(':', "_");
        for recording in server.recordings() {
            let RecordingInfo { begin, track, .. } = &recording;
            let begin: String = begin.chars().filter(char::is_ascii_digit).collect();
            wanted.insert(format!("{host}/{begin}-{track}.mp4"), sum_of(server, &recording)?);
        }
    }
    let all = gcs.objects(BUCKET);
    let (lists, found): (Vec<_>, Vec<_>) = all.into_iter().partition(|object| object.name.contains("/_export/"));
    let lists = lists.len() as u64;
    let found: BTreeMap<String, Sum> =
        found.into_iter().map(|object| (object.name, (object.size, object.crc32c))).collect();
    let lost = wanted.keys().filter(|name| !found.contains_key(*name)).count();
    let other = found.keys().filter(|name| !wanted.contains_key(*name)).count();
    let same = wanted.iter().filter(|(name, sum)| found.get(*name) == Some(sum)).count();
    problems.check(lost == 0, || format!("{lost} recordings are lost"));
    problems.check(other == 0, || format!("{other} objects are no recordings, or there under other names"));
    problems.check(same == wanted.len(), || format!("{same} of {} recordings are byte-identical", wanted.len()));
    // Each put that was stored made an object that is there: none was written over.
    let stats = gcs.stats();
    let over = stats.puts_stored.saturating_sub(found.len() as u64 + lists);
    problems.check(over == 0 && stats.requests.delete == 0, || {
        format!("{over} objects were written over, and {} calls deleted", stats.requests.delete)
    });
    Ok(json!({
        "wanted": wanted.len(),
        "byte_identical": same,
        "lost": lost,
        "duplicate_objects": other,
        "written_over": over,
        "refused_as_there": stats.precondition_failures,
    }))
}
