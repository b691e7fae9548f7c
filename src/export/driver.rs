//! What carries an export: one task that owns what is to be done, and a task for each recording that is on its way.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::attempt::{self, Context, Done, Ended, Got, Part, Step};
use super::away::{Away, Side};
use super::blocking::remove;
use super::fault::{Fault, Next, Whose};
use super::make::{self, Local};
use super::plan::{self, Group, Item};
use super::sessions::Sessions;
use super::tries::{Failed, Tries};
use super::waiting::Waiting;
use super::{Current, Entry, ExportError, Fate, Progress, Reason, present};
use crate::delivery::Backoff;
use crate::storage;

/// The first wait between two attempts.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(500);
/// How often something is tried again that rarely gets better: the bytes are there, and wrong.
const RARELY_BETTER: u32 = 2;
/// Media jobs at a time.
const MAKING: usize = 2;
/// Objects whose recordings are all on this machine and that are to be made of them, with which nothing more is fetched.
/// With what is on its way then no more than this and the sessions are there.
const WHOLE: usize = 2 * MAKING;

/// All that was done.
pub(super) struct All {
    pub entries: Vec<Entry>,
    pub progress: Progress,
    /// Whether it was told to end.
    pub stopped: bool,
    /// What kept it from going on.
    pub ended: Option<ExportError>,
}

/// Waits until it is told to end. Whoever may do that and is gone has not done so.
pub(super) async fn asked(stopped: &mut oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// So much later, or as good as never.
fn later(wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(NEVER)
}

/// One task's: what is next, and what has come.
pub(super) struct Driver {
    context: Arc<Context>,
    items: Vec<Item>,
    groups: Vec<Group>,
    /// The group of each item.
    group_of: Vec<usize>,
    fates: Vec<Option<Fate>>,
    tries: Tries,
    /// What has come of groups that are not made yet.
    locals: HashMap<usize, BTreeMap<usize, Local>>,
    /// What playbacks have brought that are not whole, each until it has been played again: so no more than go on at a time.
    parts: HashMap<usize, Part>,
    /// Those that have not come to rest yet.
    growing: HashSet<usize>,
    /// What may be asked of the recorder, in order.
    ready: VecDeque<Step>,
    /// Groups of which all has come.
    to_make: VecDeque<usize>,
    waiting: Waiting,
    attempts: JoinSet<Ended>,
    asking: usize,
    making: usize,
    current: BTreeMap<usize, Current>,
    sessions: Sessions,
    away: Away,
    /// Until when recordings that grow are waited for.
    growing_until: Instant,
    /// Until when the bucket is left alone, because it asked for that.
    bucket_until: Option<Instant>,
    progress: Progress,
    ended: Option<(ExportError, Reason)>,
    out: mpsc::UnboundedSender<Entry>,
    shown: watch::Sender<Progress>,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        items: Vec<Item>,
        groups: Vec<Group>,
        out: mpsc::UnboundedSender<Entry>,
        shown: watch::Sender<Progress>,
    ) -> Self {
        let mut group_of = vec![0; items.len()];
        for (number, group) in groups.iter().enumerate() {
            for place in &group.items {
                group_of[*place] = number;
            }
        }
        let export = &context.export;
        let progress = Progress {
            found: items.len() as u64,
            found_bytes: items.iter().filter_map(|item| item.segment.size).sum(),
            ..Progress::default()
        };
        Self {
            fates: vec![None; items.len()],
            tries: Tries::default(),
            locals: HashMap::new(),
            parts: HashMap::new(),
            growing: HashSet::new(),
            ready: VecDeque::new(),
            to_make: VecDeque::new(),
            waiting: Waiting::new(Backoff { min: RETRY_MIN, max: export.retry_max }),
            attempts: JoinSet::new(),
            asking: 0,
            making: 0,
            current: BTreeMap::new(),
            sessions: Sessions::new(export.sessions),
            away: Away::default(),
            growing_until: later(export.wait),
            bucket_until: None,
            progress,
            ended: None,
            context,
            items,
            groups,
            group_of,
            out,
            shown,
        }
    }

    /// Carries it to its end.
    pub(super) async fn drive(mut self, stopped: &mut oneshot::Receiver<()>) -> Result<All, ExportError> {
        let mut stop = tokio::select! {
            looked = self.look() => looked.map(|()| false)?,
            () = asked(stopped) => true,
        };
        loop {
            let wake = match &self.ended {
                None if !stop => self.begin(),
                // What has come is not thrown away, and needs no recorder any more.
                None | Some((ExportError::Away { bucket: None, .. }, _)) => {
                    self.keep_parts();
                    self.begin_making();
                    None
                }
                Some((error, _)) => {
                    tracing::debug!(%error, "the export ends");
                    self.attempts.abort_all();
                    None
                }
            };
            self.show(wake.is_some());
            let idle = self.attempts.is_empty();
            if idle && (stop || self.ended.is_some() || self.is_done()) {
                break;
            }
            tokio::select! {
                biased;
                Some(ended) = self.attempts.join_next() => match ended {
                    Ok(ended) => self.ended(ended),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(ExportError::Broken(error.to_string())),
                },
                () = asked(stopped), if !stop => stop = true,
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
            }
            self.may_come_back(Instant::now());
        }
        let (reason, error) = match &self.ended {
            Some((error, reason)) => (*reason, error.to_string()),
            None => (Reason::Interrupted, "the export was told to end before its turn".to_owned()),
        };
        for place in 0..self.items.len() {
            if self.fates[place].is_none() {
                self.settle(place, Fate::Failed { reason, error: error.clone() });
            }
        }
        self.show(false);
        let entries = self.items.iter().zip(self.fates).map(|(item, fate)| Entry {
            number: item.number,
            recording: item.recording(),
            fate: fate.expect("each has one by now"),
        });
        let entries = entries.collect();
        Ok(All { entries, progress: self.progress, stopped: stop, ended: self.ended.map(|(error, _)| error) })
    }

    /// Whether nothing is left to do.
    fn is_done(&self) -> bool {
        self.ready.is_empty() && self.to_make.is_empty() && self.waiting.is_empty()
    }

    /// Looks what is in the bucket already, and puts the rest into its queues.
    async fn look(&mut self) -> Result<(), ExportError> {
        let context = self.context.clone();
        let keys = self.groups.iter().flat_map(|group| present::keys(&context.export, group, &self.items)).collect();
        let there = present::of(&context.export, &*context.bucket, keys).await.map_err(ExportError::Bucket)?;
        for number in 0..self.groups.len() {
            let group = &self.groups[number];
            let places = group.items.clone();
            let fates = present::fates(&context, group, &self.items, &there);
            let is_needed = fates.iter().any(Option::is_none);
            for (place, fate) in places.into_iter().zip(fates) {
                if let Some(fate) = fate {
                    self.settle(place, fate);
                }
            }
            if is_needed {
                self.enqueue(number);
            }
        }
        Ok(())
    }

    /// Whether a recording may not be at its end.
    fn is_growing(&self, place: usize) -> bool {
        self.items[place].segment.open || !self.rests_in(place).is_zero()
    }

    /// How long it is until a recording has ended long enough ago.
    fn rests_in(&self, place: usize) -> Duration {
        let Context { clock, export, .. } = &*self.context;
        self.items[place].segment.end.utc.after(export.settle).since(clock.now().utc)
    }

    /// Puts the recordings of a group where their turn will come: none is fetched before all of them have come to rest.
    fn enqueue(&mut self, group: usize) {
        let mut places = self.groups[group].items.clone();
        places.retain(|place| self.fates[*place].is_none());
        let growing: Vec<usize> = places.iter().copied().filter(|place| self.is_growing(*place)).collect();
        if growing.is_empty() {
            return self.ready.extend(places.into_iter().map(Step::Fetch));
        }
        self.growing.extend(&growing);
        for place in growing {
            self.wait_for(place);
        }
    }

    /// Has a recording looked at again when it may have come to rest, or gives it up where that takes too long.
    fn wait_for(&mut self, place: usize) {
        if self.fates[place].is_some() {
            return;
        }
        // One that is being recorded is looked at again even where it need not rest.
        let at = later(self.rests_in(place).max(Duration::from_secs(1)));
        if at > self.growing_until {
            let waited = self.context.export.wait;
            let error = format!(
                "it is still being recorded, or was until just now, and --wait ({:.0} s) is over: the same command fetches \
                 it later",
                waited.as_secs_f64()
            );
            self.settle(place, Fate::Failed { reason: Reason::Growing, error });
            let (group, number) = (self.group_of[place], self.items[place].number);
            return self.give_up_group(group, number, Reason::Growing);
        }
        self.waiting.add(at, Step::Check(place));
    }

    /// A recording has come to rest, and so its group may have.
    fn at_rest(&mut self, place: usize) {
        self.growing.remove(&place);
        // Its end is another one by now, which may be a part of the name.
        let (context, group) = (self.context.clone(), self.group_of[place]);
        let Context { export, span, .. } = &*context;
        self.items[place].name(&export.names, &export.server());
        let places = self.groups[group].items.clone();
        self.groups[group] = plan::group(&self.items, places.clone(), &export.form, *span);
        if !places.iter().any(|place| self.growing.contains(place)) {
            for place in places.into_iter().rev() {
                self.ready.push_front(Step::Fetch(place));
            }
        }
    }

    /// Begins what may go, and returns when there may be more, unless something ends before.
    fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(step) = self.waiting.due(now) {
            match step {
                Step::Make(group) => self.to_make.push_front(group),
                step => self.again(step),
            }
        }
        let next = self.waiting.next();
        self.progress.waiting = None;
        if let Some(at) = self.bucket_until.filter(|until| *until > now) {
            // What was fetched now would find no place, and have to be fetched again.
            self.progress.waiting = Some("for the bucket");
            return Some(next.map_or(at, |next| next.min(at)));
        }
        self.begin_making();
        let whole = self.whole();
        let is_asked = self.asking > 0 || whole < WHOLE && (!self.ready.is_empty() || self.waiting.any(Step::is_asked));
        if !is_asked {
            // Of whom nothing is wanted it is not known whether it is away.
            self.away.is_there(Side::Recorder);
        }
        let opens = self.opens(now);
        if let Some(at) = opens {
            self.away.excuse(Side::Recorder, now, at);
            // What is made meanwhile goes into the bucket.
            if whole == 0 {
                self.away.excuse(Side::Bucket, now, at);
            }
        }
        if whole >= WHOLE || self.ready.is_empty() {
            return next;
        }
        let pause = self.waiting.paused_until(now);
        if let Some(at) = pause.max(opens) {
            self.progress.waiting = Some(if opens.is_some() { "for its hours" } else { "for the recorder" });
            return Some(next.map_or(at, |next| next.min(at)));
        }
        while self.asking < self.sessions.limit()
            && let Some(step) = self.ready.pop_front()
        {
            self.ask(step);
        }
        next
    }

    /// Puts a step that has failed, or is looked at once more, where its turn will come: behind one that was not tried yet.
    /// Those that always fail must not keep others from being asked for, and what was tried soon succeeds, as a rule.
    fn again(&mut self, step: Step) {
        match self.ready.iter().position(|other| self.tries.times(*other) == 0) {
            Some(place) => {
                let other = self.ready.remove(place);
                self.ready.push_front(step);
                other.into_iter().for_each(|other| self.ready.push_front(other));
            }
            None => self.ready.push_back(step),
        }
    }

    /// When the hours begin, where it is outside them.
    fn opens(&self, now: Instant) -> Option<Instant> {
        let Context { clock, export, .. } = &*self.context;
        let wait = export.hours?.wait(clock.zone().wall(clock.now().utc));
        (!wait.is_zero()).then(|| now + wait)
    }

    /// Objects of which all recordings are on this machine, whether they are being made, or wait for their turn or for
    /// another try.
    fn whole(&self) -> usize {
        self.locals.iter().filter(|(group, came)| came.len() == self.groups[**group].items.len()).count()
    }

    fn begin_making(&mut self) {
        while self.making < MAKING
            && let Some(group) = self.to_make.pop_front()
        {
            self.make(group);
        }
    }

    fn ask(&mut self, step: Step) {
        let (Step::Fetch(place) | Step::Check(place)) = step else { return };
        if self.fates[place].is_some() {
            return;
        }
        let (context, item) = (self.context.clone(), self.items[place].clone());
        self.asking += 1;
        let turn = self.tries.times(step);
        let came = Arc::new(AtomicU64::new(0));
        if let Step::Fetch(_) = step {
            let current = Current {
                number: item.number,
                name: item.stem.clone(),
                of: item.segment.size,
                making: false,
                came: came.clone(),
            };
            self.current.insert(place, current);
        }
        self.attempts.spawn(async move {
            let done = match step {
                Step::Check(_) => Done::Checked(attempt::check(&context, &item).await),
                _ => Done::Fetched(attempt::fetch(&context, &item, (place, turn), came).await),
            };
            Ended { step, done }
        });
    }

    fn make(&mut self, group: usize) {
        let Some(locals) = self.locals.get(&group) else { return };
        let (context, what) = (self.context.clone(), self.groups[group].clone());
        let items: Vec<Item> = what.items.iter().map(|place| self.items[*place].clone()).collect();
        let locals: Vec<Local> = locals.values().cloned().collect();
        self.making += 1;
        let current = Current {
            number: items[0].number,
            name: what.stem.clone(),
            of: None,
            making: true,
            came: Arc::new(AtomicU64::new(0)),
        };
        self.current.insert(what.items[0], current);
        self.attempts.spawn(async move {
            let done = Done::Made(make::make(&context, &what, &items, &locals).await);
            Ended { step: Step::Make(group), done }
        });
    }

    fn ended(&mut self, Ended { step, done }: Ended) {
        match (step, done) {
            (Step::Fetch(place), Done::Fetched(got)) => {
                self.asking -= 1;
                self.current.remove(&place);
                match got {
                    Ok(got) => self.got(place, got),
                    Err(fault) => self.failed(step, place, fault),
                }
            }
            (Step::Check(place), Done::Checked(checked)) => {
                self.asking -= 1;
                match checked {
                    Ok(Some(segment)) => {
                        self.answered();
                        let before = std::mem::replace(&mut self.items[place].segment, segment);
                        let now = &self.items[place].segment;
                        // It need not look ended: what has not grown for so long does not grow.
                        let came_to_rest = now.end.utc == before.end.utc && now.size == before.size;
                        match !self.is_growing(place) || came_to_rest && self.rests_in(place).is_zero() {
                            true => self.at_rest(place),
                            false => self.wait_for(place),
                        }
                    }
                    Ok(None) => {
                        let gone = "the recorder does not list it any more: written over, as a rule";
                        self.failed(step, place, Fault::new(Reason::Gone, Next::GiveUp, gone));
                    }
                    Err(fault) => self.failed(step, place, fault),
                }
            }
            (Step::Make(group), Done::Made(made)) => {
                self.making -= 1;
                self.current.remove(&self.groups[group].items[0]);
                match made {
                    Ok(fates) => {
                        for side in [Side::Bucket, Side::Machine] {
                            self.away.is_there(side);
                            self.tries.done(side);
                        }
                        for (place, fate) in self.groups[group].items.clone().into_iter().zip(fates) {
                            self.settle(place, fate);
                        }
                        self.forget(group);
                    }
                    Err(fault) => self.not_made(group, fault),
                }
            }
            _ => unreachable!("a step ends as what it was"),
        }
    }

    /// The recorder does what it is asked for.
    fn answered(&mut self) {
        self.away.is_there(Side::Recorder);
        self.waiting.go_on();
    }

    fn got(&mut self, place: usize, got: Got) {
        self.answered();
        self.sessions.done();
        self.tries.done(Side::Recorder);
        match got {
            Got::Stored { object, there: false } => {
                self.away.is_there(Side::Bucket);
                self.tries.done(Side::Bucket);
                self.progress.bytes += object.bytes;
                self.settle(place, Fate::Stored { object, note: None });
            }
            Got::Stored { object, there: true } => {
                self.settle(place, Fate::There { key: object.key, url: object.url, bytes: object.bytes });
            }
            Got::Local(local) => {
                if let Some(part) = self.parts.remove(&place) {
                    remove(part.local.path);
                }
                self.is_here(place, local);
            }
            Got::Part(part) => self.got_part(place, part),
        }
    }

    /// A recording was played, and something of it is missing. It is played again while that brings more of it: at once,
    /// because what there is of it is on this machine until then.
    fn got_part(&mut self, place: usize, part: Part) {
        let step = Step::Fetch(place);
        let own = self.tried(step, Whose::Its).own;
        let (best, other, is_better) = match self.parts.remove(&place) {
            Some(before) if part.pictures <= before.pictures => (before, Some(part), false),
            before => (part, before, true),
        };
        if let Some(other) = other {
            remove(other.local.path);
        }
        if is_better && own <= self.context.export.retries {
            self.progress.retries += 1;
            self.parts.insert(place, best);
            return self.ready.push_front(step);
        }
        self.is_here(place, best.local);
    }

    /// What playbacks have brought is all that will come of those that are not being played once more.
    fn keep_parts(&mut self) {
        let places: Vec<usize> = self.parts.keys().copied().filter(|place| !self.current.contains_key(place)).collect();
        for place in places {
            let part = self.parts.remove(&place).expect("it is one of them");
            self.is_here(place, part.local);
        }
    }

    /// A recording is on this machine, and its group may be made.
    fn is_here(&mut self, place: usize, local: Local) {
        self.away.is_there(Side::Machine);
        self.tries.done(Side::Machine);
        self.progress.bytes += local.info.bytes;
        let group = self.group_of[place];
        let locals = self.locals.entry(group).or_default();
        locals.insert(place, local);
        let items = &self.groups[group].items;
        if locals.len() == items.len() {
            self.to_make.push_back(group);
        } else if let Some(other) = items.iter().find(|other| matches!(self.fates[**other], Some(Fate::Failed { .. })))
        {
            let number = self.items[*other].number;
            self.give_up_group(group, number, Reason::Incomplete);
        }
    }

    /// Something has failed: how often by now.
    fn tried(&mut self, step: Step, whose: Whose) -> Failed {
        let taken = self.context.moved.count(Side::Bucket);
        self.tries.failed(step, whose, taken)
    }

    /// A recording could not be fetched, or looked at, this time.
    fn failed(&mut self, step: Step, place: usize, fault: Fault) {
        let now = Instant::now();
        // A recorder that says no to each of those that are left is not away, and waiting for it is what tries are for.
        let refuses_all = fault.reason == Reason::Busy && self.all_have_failed();
        let failed = self.tried(step, if refuses_all { Whose::Its } else { fault.whose });
        let mut at = self.waiting.after(now, failed.times, &fault);
        match fault.whose {
            Whose::Recorders => {
                if fault.reason == Reason::Busy {
                    self.sessions.busy(self.asking);
                }
                // It is not only this one that it has no time for.
                at = self.waiting.pause(now, &fault);
                self.away.failed(Side::Recorder, now, &self.context.moved, fault.clone());
            }
            Whose::Buckets(_) => self.bucket_failed(now, &fault),
            Whose::Machines => {
                self.answered();
                self.away.failed(Side::Machine, now, &self.context.moved, fault.clone());
            }
            Whose::Its => self.answered(),
        }
        let rarely = matches!(fault.reason, Reason::NotMedia | Reason::WrongSize | Reason::Media);
        let most = if rarely { self.context.export.retries.min(RARELY_BETTER) } else { self.context.export.retries };
        match fault.next {
            Next::EndAll => self.end(fault),
            Next::Again if failed.own <= most => {
                self.progress.retries += 1;
                let number = self.items[place].number;
                tracing::info!(number, reason = fault.reason.as_str(), "tried again: {}", fault.message);
                self.waiting.add(at, step);
            }
            Next::Again | Next::GiveUp => {
                if let Some(part) = self.parts.remove(&place) {
                    return self.is_here(place, part.local);
                }
                let number = self.items[place].number;
                self.settle(place, Fate::Failed { reason: fault.reason, error: fault.message });
                let group = self.group_of[place];
                self.give_up_group(group, number, Reason::Incomplete);
            }
        }
    }

    /// Whether each of those that the recorder is still to be asked for has failed before.
    fn all_have_failed(&self) -> bool {
        let has_failed = |step: &Step| !step.is_asked() || self.tries.times(*step) > 0;
        let going_on = self.current.iter().filter(|(_, current)| !current.making);
        self.ready.iter().all(has_failed)
            && !self.waiting.any(|step| !has_failed(step))
            && going_on.map(|(place, _)| Step::Fetch(*place)).all(|step| has_failed(&step))
    }

    /// The bucket has not taken something. It is left alone for as long as it asks.
    fn bucket_failed(&mut self, now: Instant, fault: &Fault) {
        self.bucket_until = self.bucket_until.max(fault.retry_after.map(|asked| now + asked));
        self.away.failed(Side::Bucket, now, &self.context.moved, fault.clone());
    }

    /// Recordings that have come could not be made into what is asked for this time.
    fn not_made(&mut self, group: usize, fault: Fault) {
        let now = Instant::now();
        let failed = self.tried(Step::Make(group), fault.whose);
        let at = self.waiting.after(now, failed.times, &fault);
        match fault.whose {
            Whose::Buckets(_) => self.bucket_failed(now, &fault),
            Whose::Machines => self.away.failed(Side::Machine, now, &self.context.moved, fault.clone()),
            Whose::Recorders | Whose::Its => {}
        }
        match fault.next {
            Next::EndAll => self.end(fault),
            Next::Again if failed.own <= self.context.export.retries => {
                self.progress.retries += 1;
                self.waiting.add(at, Step::Make(group));
            }
            Next::Again | Next::GiveUp => {
                for place in self.groups[group].items.clone() {
                    self.settle(place, Fate::Failed { reason: fault.reason, error: fault.message.clone() });
                }
                self.forget(group);
            }
        }
    }

    /// One of a group is missing, or grows, so there is no object of the others.
    fn give_up_group(&mut self, group: usize, missing: u64, reason: Reason) {
        for place in self.groups[group].items.clone() {
            if self.fates[place].is_none() {
                let is = if reason == Reason::Growing { "still being recorded" } else { "missing" };
                let error = format!("number {missing} of its track is {is}, so they are not joined");
                self.settle(place, Fate::Failed { reason, error });
            }
        }
        let fates = &self.fates;
        self.waiting.keep(|step| match step {
            Step::Check(place) | Step::Fetch(place) => fates[*place].is_none(),
            Step::Make(_) => true,
        });
        self.forget(group);
    }

    /// Takes away what has come of a group.
    fn forget(&mut self, group: usize) {
        let parts = self.groups[group].items.iter().filter_map(|place| self.parts.remove(place)).map(|part| part.local);
        for local in self.locals.remove(&group).into_iter().flat_map(BTreeMap::into_values).chain(parts) {
            remove(local.path);
        }
    }

    /// Nothing else will succeed.
    fn end(&mut self, fault: Fault) {
        let error = match fault.whose {
            Whose::Buckets(kind) => ExportError::Bucket(storage::BucketError {
                kind,
                maybe_stored: false,
                retry_after: None,
                message: fault.message,
            }),
            _ if fault.reason == Reason::Machine => ExportError::Machine(fault.message),
            _ => ExportError::Refused { reason: fault.reason, error: fault.message },
        };
        self.ended.get_or_insert((error, fault.reason));
    }

    /// Whether recorder and bucket may still come back.
    fn may_come_back(&mut self, now: Instant) {
        let patience = self.context.export.patience;
        if let Some(fault) = self.away.over(now, &self.context.moved, patience) {
            let error = match fault.whose {
                Whose::Machines => ExportError::Machine(fault.message),
                Whose::Buckets(kind) => ExportError::Away { patience, error: fault.message, bucket: Some(kind) },
                Whose::Recorders | Whose::Its => ExportError::Away { patience, error: fault.message, bucket: None },
            };
            self.ended.get_or_insert((error, fault.reason));
        }
    }

    /// Writes down what became of a recording, once.
    fn settle(&mut self, place: usize, fate: Fate) {
        if self.fates[place].is_some() {
            return;
        }
        let item = &self.items[place];
        match &fate {
            Fate::Stored { note, .. } => {
                self.progress.stored += 1;
                self.progress.noted += u64::from(note.is_some());
            }
            Fate::Joined { .. } => self.progress.stored += 1,
            Fate::There { .. } => self.progress.there += 1,
            Fate::Part { .. } | Fate::Failed { .. } => self.progress.failed += 1,
            Fate::Found { .. } => {}
        }
        self.progress.settled_bytes += item.segment.size.unwrap_or(0);
        let entry = Entry { number: item.number, recording: item.recording(), fate: fate.clone() };
        self.fates[place] = Some(fate);
        // Nobody may read the list.
        let _ = self.out.send(entry);
    }

    fn show(&mut self, waits: bool) {
        self.progress.now = self.current.values().cloned().collect();
        if waits && self.progress.now.is_empty() && self.ready.is_empty() && !self.waiting.is_empty() {
            self.progress.waiting = Some("for recordings that grow, or for another try");
        }
        let _ = self.shown.send(self.progress.clone());
    }
}

#[cfg(test)]
mod tests;
