//! Any order of events, against a model that looks through all it has at each step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Add {
        recorder: u8,
        user: u8,
        secret: u32,
        sessions: u32,
        job: u64,
    },
    Take,
    /// The lease by its place among all that were given.
    Beat {
        lease: prop::sample::Index,
        /// Whether something was found.
        found: bool,
    },
    Complete(prop::sample::Index),
    Fail {
        lease: prop::sample::Index,
        kind: &'static str,
        retry: bool,
        after: Option<u8>,
    },
    Pass(u8),
    Cancel(u64),
    /// The queue is made anew of what was made durable.
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let any_lease = any::<prop::sample::Index>;
    let event = prop_oneof![
        3 => (0..4_u8, 0..2_u8, 0..2_u32, 1..6_u32, 1..4_u64)
            .prop_map(|(recorder, user, secret, sessions, job)| Event::Add { recorder, user, secret, sessions, job }),
        4 => Just(Event::Take),
        3 => (any_lease(), any::<bool>()).prop_map(|(lease, found)| Event::Beat { lease, found }),
        2 => any_lease().prop_map(Event::Complete),
        2 => (any_lease(), prop::sample::select(&["busy", "busy", "busy", "auth", "lockout"][..]), any::<bool>(),
                prop::option::of(0..30_u8))
            .prop_map(|(lease, kind, retry, after)| Event::Fail { lease, kind, retry, after }),
        3 => (0..15_u8).prop_map(Event::Pass),
        1 => (1..4_u64).prop_map(Event::Cancel),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..120)
}

/// A task as it was made durable, and as the model has it.
struct Known {
    job: u64,
    recorder: String,
    user: String,
    secret: u32,
    sessions: u32,
    standing: Standing,
    /// When it may be taken, by the clock of leases.
    ready: Instant,
    ends: u32,
}

struct Given {
    task: TaskNo,
    id: String,
    expires: Instant,
    word: Option<LastWord>,
    stop: bool,
}

/// What is known of a login.
#[derive(Default)]
struct Login {
    refused: u32,
    since: LeaseNo,
    locked: Option<Instant>,
}

/// What is known of one of its passwords.
#[derive(Default)]
struct Password {
    good: bool,
    was_good: bool,
    refused: u32,
    since: LeaseNo,
}

struct Model {
    stage: Stage,
    logins: BTreeMap<LoginName, Login>,
    passwords: BTreeMap<PasswordName, Password>,
    tasks: BTreeMap<TaskNo, Known>,
    leases: BTreeMap<LeaseNo, Given>,
}

type LoginName = (String, String);
type PasswordName = (LoginName, u64, u32);

impl Known {
    fn login(&self) -> LoginName {
        (self.recorder.clone(), self.user.clone())
    }

    fn password(&self) -> PasswordName {
        (self.login(), self.job, self.secret)
    }
}

/// When a task that stands so may be taken, but for what is known of its login.
fn ready(standing: &Standing, now: Now) -> Instant {
    now.at + standing.ready_at.map_or(Duration::ZERO, |at| at.since(now.wall))
}

impl Model {
    /// Takes what the queue says has changed for durable.
    fn durable(&mut self, change: &crate::model::TaskChange) {
        let task = self.tasks.get_mut(&change.task).unwrap();
        assert_eq!((change.before, change.job), (task.standing.state, task.job));
        assert!(!change.before.is_over(), "{change:?}");
        task.ends += u32::from(change.standing.state.is_over());
        task.standing = change.standing.clone();
        task.ready = ready(&task.standing, self.stage.now);
        let name = task.login();
        if self.members(&name, None).is_empty() {
            self.logins.remove(&name);
        }
        let password = self.tasks[&change.task].password();
        if !self.tasks.values().any(|task| task.password() == password && !task.standing.state.is_over()) {
            self.passwords.remove(&password);
        }
        let locked = self.logins.get(&name).and_then(|login| login.locked);
        let task = self.tasks.get_mut(&change.task).unwrap();
        task.ready = task.ready.max(locked.unwrap_or(task.ready));
    }

    /// The tasks of a login of which something may still become, but for one.
    fn members(&self, name: &LoginName, but: Option<TaskNo>) -> Vec<TaskNo> {
        let is_open = |task: &Known| task.login() == *name && !task.standing.state.is_over();
        self.tasks.iter().filter(|(no, task)| is_open(task) && Some(**no) != but).map(|(no, _)| *no).collect()
    }

    /// Somebody got in under this lease.
    fn prove(&mut self, number: LeaseNo) {
        let given = &self.leases[&number];
        let task = &self.tasks[&given.task];
        let login = self.logins.entry(task.login()).or_default();
        let password = self.passwords.entry(task.password()).or_default();
        if !given.stop && number >= login.since && number >= password.since && !password.good {
            login.refused -= password.refused;
            login.locked = None;
            (password.good, password.refused) = (true, 0);
        }
    }

    fn complete(&mut self, number: LeaseNo) {
        let (lives, given) = (self.lives(number), &self.leases[&number]);
        let again = given.word == Some(LastWord::Complete);
        let done = self.stage.queue.complete(&given.id, number, None, self.stage.now);
        assert_eq!(done.is_ok(), lives || again);
        assert_eq!(matches!(done, Ok(Some(_))), lives);
        if let Ok(Some(change)) = done {
            assert_eq!(change.standing.state, TaskState::Done);
            self.leases.get_mut(&number).unwrap().word = Some(LastWord::Complete);
            self.prove(number);
            self.durable(&change);
        }
    }

    /// A login was refused: which others that is the end of.
    fn refuse(&mut self, task: TaskNo, number: LeaseNo) -> Vec<TaskNo> {
        let (name, of) = (self.tasks[&task].login(), self.tasks[&task].password());
        let (next, others) = (self.leases.len() as LeaseNo + 1, self.members(&name, Some(task)));
        let login = self.logins.entry(name).or_default();
        let password = self.passwords.entry(of.clone()).or_default();
        if password.was_good && number < password.since {
            return Vec::new();
        }
        login.refused += 1;
        password.refused += 1;
        let none = password.good;
        let all = !none && login.refused >= 2;
        (password.was_good, password.good, password.since) = (none, false, next);
        let is_ended = |no: &TaskNo| {
            let other = self.tasks[no].password();
            let is_good = self.passwords.get(&other).is_some_and(|password| password.good);
            !none && if all { !is_good } else { other == of }
        };
        let ended = others.into_iter().filter(is_ended);
        let (held, free): (Vec<_>, Vec<_>) = ended.partition(|no| self.tasks[no].standing.hold.is_some());
        let held: Vec<LeaseNo> = held.into_iter().filter_map(|no| self.holder(&self.tasks[&no])).collect();
        for number in held {
            self.leases.get_mut(&number).unwrap().stop = true;
        }
        free
    }

    /// A login is locked: which others wait longer than before.
    fn lock(&mut self, task: TaskNo, wait: Duration) -> Vec<TaskNo> {
        let (name, until) = (self.tasks[&task].login(), self.stage.now.at + wait);
        let (next, others) = (self.leases.len() as LeaseNo + 1, self.members(&name, Some(task)));
        let Some(login) = self.logins.get_mut(&name) else { return Vec::new() };
        (login.since, login.locked) = (next, login.locked.max(Some(until)));
        for (_, password) in self.passwords.iter_mut().filter(|((of, ..), password)| *of == name && password.good) {
            (password.was_good, password.good, password.since) = (true, false, next);
        }
        let waits = |no: &TaskNo| self.tasks[no].standing.hold.is_none() && self.tasks[no].ready < until;
        others.into_iter().filter(waits).collect()
    }

    /// The lease that a task is in the hands of.
    fn holder(&self, task: &Known) -> Option<LeaseNo> {
        task.standing.hold.as_ref().map(|hold| hold.number)
    }

    fn held(&self, recorder: &str) -> usize {
        self.tasks.values().filter(|task| task.recorder == recorder && task.standing.hold.is_some()).count()
    }

    /// Which task is next.
    fn next(&self) -> Option<TaskNo> {
        let waits = |task: &Known| {
            let name = task.login();
            let is_good = |task: &Known| self.passwords.get(&task.password()).is_some_and(|password| password.good);
            let is_tried = |other: &Known| other.login() == name && other.standing.hold.is_some() && !is_good(other);
            let may_be_tried = is_good(task) || !self.tasks.values().any(is_tried);
            task.standing.state == TaskState::Queued && task.ready <= self.stage.now.at && may_be_tried
        };
        let firsts = self.tasks.iter().filter(|(_, task)| waits(task)).filter(|(no, task)| {
            let mut older = self.tasks.range(..**no).filter(|(_, other)| other.recorder == task.recorder);
            !older.any(|(_, other)| waits(other)) && self.held(&task.recorder) < task.sessions as usize
        });
        firsts.map(|(no, _)| *no).next()
    }

    /// Whether a word on this lease is to be heard.
    fn lives(&self, number: LeaseNo) -> bool {
        let given = &self.leases[&number];
        given.word.is_none()
            && given.expires > self.stage.now.at
            && self.holder(&self.tasks[&given.task]) == Some(number)
    }

    fn step(&mut self, event: Event) {
        let numbers: Vec<LeaseNo> = self.leases.keys().copied().collect();
        let pick = |index: prop::sample::Index| (!numbers.is_empty()).then(|| numbers[index.index(numbers.len())]);
        match event {
            Event::Add { recorder, user, secret, sessions, job } => {
                let (no, recorder, user) = (self.tasks.len() as TaskNo + 1, recorder.to_string(), user.to_string());
                let task = self.stage.task(no, job, &recorder, sessions);
                let task = OpenTask { user: user.as_str().into(), secret: Some(secret), ..task };
                self.stage.queue.add(task, self.stage.now);
                let (standing, ready) = (Standing::queued(), self.stage.now.at);
                let locked = self.logins.entry((recorder.clone(), user.clone())).or_default().locked;
                let ready = ready.max(locked.unwrap_or(ready));
                self.tasks.insert(no, Known { job, recorder, user, secret, sessions, standing, ready, ends: 0 });
            }
            Event::Take => {
                let expected = self.next();
                let id = format!("lease-{}", self.leases.len());
                let taken = self.stage.queue.take("w".into(), id.clone(), false, self.stage.now);
                assert_eq!(taken.as_ref().map(|taken| taken.change.task), expected);
                let Some(Taken { number, lives, change }) = taken else { return };
                assert!(numbers.last().is_none_or(|last| *last < number), "a number that is not new");
                assert_eq!(change.standing.attempts, self.tasks[&change.task].standing.attempts + 1);
                self.durable(&change);
                let expires = self.stage.now.at + lives;
                self.leases.insert(number, Given { task: change.task, id, expires, word: None, stop: false });
            }
            Event::Beat { lease, found } => {
                let Some(number) = pick(lease) else { return };
                let (lives, id) = (self.lives(number), self.leases[&number].id.clone());
                let progress = found.then(|| TaskProgress { of: Some(1), ..TaskProgress::default() });
                let beat = self.stage.queue.heartbeat(&id, number, progress, self.stage.now);
                assert_eq!(beat.is_ok(), lives);
                let Ok(beat) = beat else { return };
                beat.change.iter().for_each(|change| self.durable(change));
                let given = self.leases.get_mut(&number).unwrap();
                given.expires = self.stage.now.at + beat.lives;
                let standing = &self.tasks[&given.task].standing;
                assert_eq!((standing.state, standing.cancelling || given.stop), (TaskState::Running, beat.cancel));
                assert_eq!(beat.refused, given.stop && !standing.cancelling);
                if found {
                    self.prove(number);
                }
            }
            Event::Complete(lease) => {
                let Some(number) = pick(lease) else { return };
                self.complete(number);
            }
            Event::Fail { lease, kind, retry, after } => {
                let Some(number) = pick(lease) else { return };
                let (lives, given) = (self.lives(number), &self.leases[&number]);
                let (again, no) = (given.word == Some(LastWord::Fail), given.task);
                let fault = TaskFault { kind: kind.to_owned(), message: "so".to_owned() };
                let after = after.map(|seconds| u32::from(seconds) * SECOND);
                let failure = Failure { fault, retry, after, result: None };
                let failed = self.stage.queue.fail(&given.id, number, failure, self.stage.now);
                assert_eq!(failed.is_ok(), lives || again);
                let Ok(changes) = failed else { return };
                assert_eq!(changes.is_empty(), !lives);
                let Some((own, others)) = changes.split_first() else { return };
                let before = &self.tasks[&no].standing;
                let expected = match () {
                    () if before.cancelling => TaskState::Cancelled,
                    () if kind == "auth" || given.stop => TaskState::Failed,
                    () if retry && before.attempts < rules().attempts => TaskState::Queued,
                    () => TaskState::Failed,
                };
                assert_eq!((own.task, own.standing.state), (no, expected));
                self.leases.get_mut(&number).unwrap().word = Some(LastWord::Fail);
                let refused = if kind == "auth" { self.refuse(no, number) } else { Vec::new() };
                self.durable(own);
                let expected = match kind {
                    "auth" => refused,
                    "lockout" => self.lock(no, after.unwrap_or(rules().wait_max).max(SECOND)),
                    _ => Vec::new(),
                };
                assert_eq!(others.iter().map(|change| change.task).collect::<Vec<_>>(), expected);
                let state = if kind == "auth" { TaskState::Failed } else { TaskState::Queued };
                assert!(others.iter().all(|change| change.standing.state == state), "{others:?}");
                others.iter().for_each(|change| self.durable(change));
            }
            Event::Pass(seconds) => {
                let changes = self.stage.pass(u32::from(seconds) * SECOND);
                changes.iter().for_each(|change| self.durable(change));
                for task in self.tasks.values() {
                    let over =
                        self.holder(task).is_some_and(|number| self.leases[&number].expires <= self.stage.now.at);
                    assert!(!over, "a lease that is over is still held");
                }
            }
            Event::Cancel(job) => {
                let changes = self.stage.queue.cancel(job, self.stage.now);
                changes.iter().for_each(|change| self.durable(change));
                let of_job = self.tasks.values().filter(|task| task.job == job && !task.standing.state.is_over());
                assert!(of_job.into_iter().all(|task| task.standing.cancelling && task.standing.hold.is_some()));
            }
            Event::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        let next = self.leases.keys().last().map_or(1, |last| last + 1);
        self.stage.queue = Queue::new(rules(), next);
        self.logins.clear();
        self.passwords.clear();
        let (now, mut left) = (self.stage.now, Vec::new());
        for (no, task) in self.tasks.iter_mut().filter(|(_, task)| !task.standing.state.is_over()) {
            let standing = task.standing.clone();
            task.ready = ready(&standing, now);
            let login = self.logins.entry(task.login()).or_default();
            if standing.fault.as_ref().is_some_and(|fault| fault.kind == "lockout") && task.ready > now.at {
                login.locked = login.locked.max(Some(task.ready));
            }
            let known = self.stage.task(*no, task.job, &task.recorder, task.sessions);
            let secret = Some(task.secret);
            left.push(OpenTask { user: task.user.as_str().into(), secret, standing, ..known });
        }
        for task in self.tasks.values_mut() {
            let locked = self.logins.get(&task.login()).and_then(|login| login.locked);
            task.ready = task.ready.max(locked.unwrap_or(task.ready));
        }
        self.stage.queue.restore(left, now);
        for (number, given) in &mut self.leases {
            (given.expires, given.stop) = (self.stage.now.at + LIVES, false);
            if let Some(word) = given.word {
                self.stage.queue.remember(*number, given.id.clone(), word);
            }
        }
    }

    /// Lets workers that never fail do what is left.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.step(Event::Take);
            let Some((number, _)) = self.leases.last_key_value() else { break };
            let number = *number;
            if self.lives(number) {
                self.complete(number);
            }
            if self.stage.queue.is_empty() {
                break;
            }
            self.step(Event::Pass(5));
        }
        assert!(self.stage.queue.is_empty(), "something is left that nobody gets");
        assert!(self.stage.queue.next_wake().is_none() && !self.stage.queue.is_ready());
        for (no, task) in &self.tasks {
            assert!(task.standing.state.is_over() && task.ends == 1, "task {no} has come to {} ends", task.ends);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_task_is_in_one_hand_and_comes_to_one_end(events in events()) {
        let (logins, passwords) = (BTreeMap::new(), BTreeMap::new());
        let (tasks, leases) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Model { stage: Stage::new(), logins, passwords, tasks, leases };
        for event in events {
            model.step(event);
            assert_eq!(model.stage.queue.is_ready(), model.next().is_some());
        }
        model.drain();
    }
}
