//! Who may log in where, now: what keeps us from being locked out, and leaves a recorder that has done so alone.
//!
//! Whatever a process does with a recorder asks here before each request. While nobody knows whether a password is good
//! one request finds out and the others wait; [`Logins`] decides how soon a refused one may be tried again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{RecorderError, RecorderErrorKind};
use crate::model::{Login, Logins, Permit, Refusal, UnixMicros};

/// Those who wait for another's trial look again after this, should it have died without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Requests of one login on their way at a time, until they are let in. A password that was good a moment ago may be another
/// one by now, and each of them is an attempt.
const AT_ONCE: usize = 2;
/// The longest lock that is believed: a slip in the recorder's answer must not end it for ever.
const LONGEST_LOCK: Duration = Duration::from_secs(86_400);

/// All logins of a process.
///
/// Whatever is waited for within a process is counted by a clock that nobody sets: one that was set back must not stretch a
/// lock, and one that was set forward must not end it.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    clock: Clock,
    state: Mutex<State>,
    /// Each request's number, to tell whose trial it is.
    next: AtomicU64,
    changed: Notify,
    memory: Memory,
}

/// The wall clock as it went on from the start of the process, whoever has set it since.
#[derive(Debug)]
struct Clock {
    wall: UnixMicros,
    read: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { wall: UnixMicros::now(), read: Instant::now() }
    }
}

impl Clock {
    fn now(&self) -> UnixMicros {
        self.wall.after(self.read.elapsed())
    }
}

/// What has become of a login that was refused, for who keeps it over restarts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginNews {
    /// It was refused.
    Refused(Refusal),
    /// It was accepted after all: who logs in where, and the credentials' fingerprint.
    Accepted(Login, String),
}

/// Who is told of refused logins.
#[derive(Default)]
struct Memory(Option<Box<dyn Fn(LoginNews) + Send + Sync>>);

impl Memory {
    fn tell(&self, news: LoginNews) {
        if let Some(tell) = &self.0 {
            tell(news);
        }
    }

    fn refused(&self, of: &Credentials, at: UnixMicros) {
        let (login, credentials) = (of.login.clone(), of.fingerprint.clone());
        self.tell(LoginNews::Refused(Refusal { login, credentials, at }));
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

#[derive(Debug, Default)]
struct State {
    logins: Logins,
    /// Recorders lock out addresses, so all users of a host together. Until when, by the clock of this process.
    locked: HashMap<(String, u16), UnixMicros>,
    /// How each login was refused last.
    refused: HashMap<Login, RecorderErrorKind>,
    /// Requests of each login that nobody has let in so far.
    on_their_way: HashMap<Login, usize>,
}

/// A login with the fingerprint of its password.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// Who logs in where.
    pub(super) login: Login,
    /// Tells passwords apart without keeping them.
    pub(super) fingerprint: String,
}

/// Leave to make one request. Dropped without a word it counts as an attempt of which nothing was heard.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    lockout: &'a Lockout,
    of: &'a Credentials,
    who: String,
    /// Whether a password is on its way.
    tried: bool,
    ended: bool,
}

impl Lockout {
    /// What is left of the last run; `tell` is told of what is to be left to the next one.
    pub(super) fn new(
        refusals: impl IntoIterator<Item = Refusal>,
        tell: impl Fn(LoginNews) + Send + Sync + 'static,
    ) -> Self {
        let state = State { logins: Logins::new(refusals), ..State::default() };
        Self { state: Mutex::new(state), memory: Memory(Some(Box::new(tell))), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder leaves the state as it should be at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may be made.
    ///
    /// # Errors
    ///
    /// When it may not for a while: locked out, refused, or busy.
    pub(super) async fn enter<'a>(&'a self, of: &'a Credentials) -> Result<Entry<'a>, RecorderError> {
        let who = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look, or a change right after it would go unheard.
            changed.as_mut().enable();
            if self.may_enter(of, &who)? {
                return Ok(Entry { lockout: self, of, who, tried: false, ended: false });
            }
            // Elapsed or not, the next look tells.
            let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// Whether it may enter, or has to wait for another's trial.
    fn may_enter(&self, of: &Credentials, who: &str) -> Result<bool, RecorderError> {
        let now = self.clock.now();
        let mut state = self.state();
        state.locked.retain(|_, until| *until > now);
        if let Some(until) = state.locked.get(&place(&of.login)) {
            return Err(locked(&of.login, until.since(now)));
        }
        if state.on_their_way.get(&of.login).is_some_and(|count| *count >= AT_ONCE) {
            return Ok(false);
        }
        match state.logins.ask(&of.login, &of.fingerprint, who, now) {
            Permit::Go => {
                *state.on_their_way.entry(of.login.clone()).or_default() += 1;
                Ok(true)
            }
            Permit::AfterTrial => Ok(false),
            Permit::NotBefore(at) => {
                let wait = at.since(now);
                Err(match state.refused.get(&of.login) {
                    Some(busy @ RecorderErrorKind::Busy { .. }) => refused(&of.login, *busy, wait),
                    _ => too_soon(&of.login, wait),
                })
            }
        }
    }

    /// What was begun with these credentials still goes on.
    pub(super) fn goes_on(&self, of: &Credentials) {
        let now = self.clock.now();
        self.state().logins.streaming(&of.login, &of.fingerprint, now);
    }
}

/// Leave for another program to log in once with a recorder's user and password, as a player does over RTSP. Dropped
/// before a word of it was heard it counts as an attempt of which nothing was heard.
#[derive(Debug)]
pub struct Admission<'a> {
    lockout: &'a Lockout,
    of: &'a Credentials,
    /// Until it was let in.
    entry: Option<Entry<'a>>,
}

impl<'a> Admission<'a> {
    /// Waits until it may be made.
    pub(super) async fn of(lockout: &'a Lockout, of: &'a Credentials) -> Result<Self, RecorderError> {
        let mut entry = lockout.enter(of).await?;
        entry.tries();
        Ok(Self { lockout, of, entry: Some(entry) })
    }

    /// It was let in, and what it has begun goes on: to be said again as long as it does.
    pub fn goes_on(&mut self) {
        match self.entry.take() {
            Some(entry) => entry.accepted(),
            None => self.lockout.goes_on(self.of),
        }
    }

    /// User and password were refused: the error that says so.
    pub fn refused(self) -> RecorderError {
        match self.entry {
            Some(entry) => entry.refused(None),
            // Let in before, it is not the password.
            None => refused(&self.of.login, RecorderErrorKind::Busy { retry_after: None }, Duration::ZERO),
        }
    }
}

impl Entry<'_> {
    /// The password is on its way from here on.
    pub(super) fn tries(&mut self) {
        self.tried = true;
    }

    /// Only the challenge was too old, by the recorder's own word: of the password nothing was heard, not even that it is
    /// wrong. How often that is believed is the caller's to say.
    pub(super) fn set_aside(mut self) {
        self.tried = false;
    }

    /// It was let in.
    pub(super) fn accepted(mut self) {
        self.ended = true;
        let now = self.lockout.clock.now();
        let mut state = self.lockout.state();
        let forgives = state.logins.accepted(&self.of.login, &self.of.fingerprint, now);
        state.refused.remove(&self.of.login);
        drop(state);
        if forgives {
            let news = LoginNews::Accepted(self.of.login.clone(), self.of.fingerprint.clone());
            self.lockout.memory.tell(news);
        }
    }

    /// It was refused: the error that says so. `left` is how many more attempts the recorder says that there are.
    pub(super) fn refused(mut self, left: Option<u32>) -> RecorderError {
        self.ended = true;
        let now = self.lockout.clock.now();
        let mut state = self.lockout.state();
        let busy = state.logins.refused(&self.of.login, &self.of.fingerprint, now);
        let kind = if busy { RecorderErrorKind::Busy { retry_after: None } } else { RecorderErrorKind::Auth };
        state.refused.insert(self.of.login.clone(), kind);
        // Asked in order to be told when; nothing is waited for.
        let wait = match state.logins.ask(&self.of.login, &self.of.fingerprint, &self.who, now) {
            Permit::NotBefore(at) => at.since(now),
            Permit::Go | Permit::AfterTrial => Duration::ZERO,
        };
        drop(state);
        self.lockout.memory.refused(self.of, UnixMicros::now());
        let mut error = refused(&self.of.login, kind, wait);
        if let Some(left) = left {
            error.message += &format!("; the recorder allows {left} more attempts before it locks us out");
        }
        error
    }

    /// The recorder has locked us out for so long: the error that says so.
    pub(super) fn locked(mut self, wait: Duration) -> RecorderError {
        self.ended = true;
        let now = self.lockout.clock.now();
        let wait = wait.min(LONGEST_LOCK);
        let mut state = self.lockout.state();
        state.locked.insert(place(&self.of.login), now.after(wait));
        if self.tried {
            state.logins.refused(&self.of.login, &self.of.fingerprint, now);
            state.refused.insert(self.of.login.clone(), RecorderErrorKind::Auth);
        } else {
            state.logins.ended(&self.of.login, &self.of.fingerprint, &self.who, false, now);
        }
        drop(state);
        if self.tried {
            self.lockout.memory.refused(self.of, UnixMicros::now());
        }
        locked(&self.of.login, wait)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut state = self.lockout.state();
        if let Some(count) = state.on_their_way.get_mut(&self.of.login) {
            *count -= 1;
            if *count == 0 {
                state.on_their_way.remove(&self.of.login);
            }
        }
        let now = self.lockout.clock.now();
        let counts =
            !self.ended && state.logins.ended(&self.of.login, &self.of.fingerprint, &self.who, self.tried, now);
        drop(state);
        if counts {
            self.lockout.memory.refused(self.of, UnixMicros::now());
        }
        self.lockout.changed.notify_waiters();
    }
}

fn place(login: &Login) -> (String, u16) {
    (login.host.clone(), login.port)
}

fn locked(login: &Login, wait: Duration) -> RecorderError {
    // Told by the wall clock of the moment, which is what people and other programs see.
    let until = UnixMicros::now().after(wait);
    let message = format!(
        "{}:{} has locked us out until {until}: wrong passwords came from this machine; nothing is sent to it until then",
        login.host, login.port
    );
    RecorderError::new(RecorderErrorKind::Locked { until }, message)
}

fn too_soon(login: &Login, wait: Duration) -> RecorderError {
    let Login { host, port, user } = login;
    RecorderError::new(
        // As with a lock, people and other programs see the wall clock.
        RecorderErrorKind::TooSoon { until: UnixMicros::now().after(wait) },
        format!(
            "{host}:{port} has refused user `{user}`: check user and password; so as not to be locked out nothing is sent for \
             {} s",
            wait.as_secs()
        ),
    )
}

fn refused(login: &Login, kind: RecorderErrorKind, wait: Duration) -> RecorderError {
    let (host, port, user, seconds) = (&login.host, login.port, &login.user, wait.as_secs());
    match kind {
        RecorderErrorKind::Busy { .. } => RecorderError::new(
            RecorderErrorKind::Busy { retry_after: Some(wait) },
            format!(
                "{host}:{port} refuses user `{user}`, whom it let in a moment ago: it has no room for another session, \
                 as a rule; it is asked again in {seconds} s"
            ),
        ),
        _ => RecorderError::new(
            RecorderErrorKind::Auth,
            format!(
                "{host}:{port} refuses user `{user}` with this password: check both; so as not to be locked out the same \
                 password is not tried again for {seconds} s"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, fingerprint: &str) -> Credentials {
        let login = Login { host: "192.0.2.5".into(), port: 80, user: user.into() };
        Credentials { login, fingerprint: fingerprint.into() }
    }

    fn is_too_soon(error: &RecorderError) -> bool {
        matches!(error.kind, RecorderErrorKind::TooSoon { .. })
    }

    #[tokio::test]
    async fn one_finds_out_for_all() {
        let (lockout, of) = (Lockout::default(), credentials("u", "right"));
        let first = lockout.enter(&of).await.unwrap();
        let mut second = std::pin::pin!(lockout.enter(&of));
        assert!(futures_util::poll!(&mut second).is_pending());
        first.accepted();
        second.await.unwrap().accepted();
    }

    #[tokio::test]
    async fn a_refused_password_is_sent_once_and_another_one_may_be() {
        let (lockout, wrong) = (Lockout::default(), credentials("u", "wrong"));
        let mut first = lockout.enter(&wrong).await.unwrap();
        first.tries();
        let waiting = credentials("u", "wrong");
        let mut second = std::pin::pin!(lockout.enter(&waiting));
        assert!(futures_util::poll!(&mut second).is_pending());
        let error = first.refused(Some(4));
        assert_eq!(error.kind, RecorderErrorKind::Auth);
        assert!(error.message.contains("`u`") && error.message.contains("4 more attempts"), "{error}");
        // Nothing of it was sent, and that is not told as a refusal.
        let error = second.await.unwrap_err();
        let RecorderErrorKind::TooSoon { until } = error.kind else { panic!("{error}") };
        let left = until.since(UnixMicros::now()).as_secs();
        assert!((50..=60).contains(&left) && error.message.contains("`u`"), "{left} s: {error}");
        lockout.enter(&credentials("u", "right")).await.unwrap().accepted();
    }

    #[tokio::test]
    async fn refusals_are_left_to_the_next_run_until_the_password_is_good() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let lockout = Lockout::new([], move |news| hears.lock().unwrap().push(news));
        let wrong = credentials("u", "wrong");
        let mut entry = lockout.enter(&wrong).await.unwrap();
        entry.tries();
        entry.refused(None);
        let LoginNews::Refused(refusal) = told.lock().unwrap().remove(0) else { panic!("not refused") };
        assert_eq!((&refusal.login, refusal.credentials.as_str()), (&wrong.login, "wrong"));
        // The next run knows it, and sends nothing.
        let next = Lockout::new([refusal], |_| ());
        assert!(is_too_soon(&next.enter(&wrong).await.unwrap_err()));
        // What is accepted is forgotten by who keeps it, once.
        let long_ago = UnixMicros::now().before(Duration::from_secs(600));
        let of = credentials("u", "right");
        let refusal = Refusal { login: of.login.clone(), credentials: "right".into(), at: long_ago };
        let hears = told.clone();
        let lockout = Lockout::new([refusal], move |news| hears.lock().unwrap().push(news));
        for _ in 0..2 {
            lockout.enter(&of).await.unwrap().accepted();
        }
        assert_eq!(*told.lock().unwrap(), [LoginNews::Accepted(of.login, "right".into())]);
    }

    #[tokio::test]
    async fn a_challenge_that_was_too_old_is_no_refusal() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let of = credentials("u", "right");
        // Refused before, so that what ends without a word counts for the worse.
        let at = UnixMicros::now().before(Duration::from_secs(600));
        let refusal = Refusal { login: of.login.clone(), credentials: "right".into(), at };
        let lockout = Lockout::new([refusal], move |news| hears.lock().unwrap().push(news));
        for _ in 0..3 {
            let mut entry = lockout.enter(&of).await.unwrap();
            entry.tries();
            entry.set_aside();
        }
        assert_eq!(*told.lock().unwrap(), []);
        let mut entry = lockout.enter(&of).await.unwrap();
        entry.tries();
        drop(entry);
        assert!(matches!(told.lock().unwrap()[..], [LoginNews::Refused(_)]));
    }

    #[tokio::test]
    async fn a_password_that_was_good_a_moment_ago_is_refused_for_want_of_room() {
        let (lockout, of) = (Lockout::default(), credentials("u", "right"));
        lockout.enter(&of).await.unwrap().accepted();
        let mut entry = lockout.enter(&of).await.unwrap();
        entry.tries();
        let busy = |error: RecorderError| matches!(error.kind, RecorderErrorKind::Busy { retry_after: Some(_) });
        assert!(busy(entry.refused(None)));
        assert!(busy(lockout.enter(&of).await.unwrap_err()));
    }

    #[tokio::test]
    async fn two_at_a_time_find_out_that_a_good_password_is_another_by_now() {
        let (lockout, of) = (Lockout::default(), credentials("u", "right"));
        lockout.enter(&of).await.unwrap().accepted();
        let [mut first, mut second] = [lockout.enter(&of).await.unwrap(), lockout.enter(&of).await.unwrap()];
        let mut third = std::pin::pin!(lockout.enter(&of));
        assert!(futures_util::poll!(&mut third).is_pending());
        // Another user's request is another matter.
        let other = credentials("other", "right");
        lockout.enter(&other).await.unwrap().accepted();
        first.tries();
        second.tries();
        first.refused(None);
        assert_eq!(second.refused(None).kind, RecorderErrorKind::Auth);
        assert!(is_too_soon(&third.await.unwrap_err()));
        assert!(lockout.state().on_their_way.is_empty());
    }

    #[tokio::test]
    async fn a_lock_holds_for_all_users_of_the_recorder_and_for_no_other() {
        let (lockout, of) = (Lockout::default(), credentials("u", "right"));
        let error = lockout.enter(&of).await.unwrap().locked(Duration::from_secs(1_509));
        assert!(matches!(error.kind, RecorderErrorKind::Locked { until } if until > UnixMicros::now()), "{error}");
        let other = credentials("other", "right");
        assert!(matches!(lockout.enter(&other).await.unwrap_err().kind, RecorderErrorKind::Locked { .. }));
        let mut elsewhere = credentials("u", "right");
        elsewhere.login.port = 8_001;
        lockout.enter(&elsewhere).await.unwrap().accepted();
        // A lock that is over leaves no trace, and one for ever is none.
        let entry = lockout.enter(&elsewhere).await.unwrap();
        entry.locked(Duration::ZERO);
        let entry = lockout.enter(&elsewhere).await.unwrap();
        let RecorderErrorKind::Locked { until } = entry.locked(Duration::MAX).kind else { panic!("not locked") };
        assert!(until <= UnixMicros::now().after(LONGEST_LOCK));
    }

    #[tokio::test]
    async fn a_wall_clock_that_is_set_back_or_forward_neither_stretches_a_lock_nor_ends_it() {
        let hour = Duration::from_secs(3_600);
        for wall in [UnixMicros::now().after(hour), UnixMicros::now().before(hour)] {
            // Since the process has begun, somebody has set the wall clock by an hour.
            let lockout = Lockout { clock: Clock { wall, read: Instant::now() }, ..Lockout::default() };
            let of = credentials("u", "right");
            lockout.enter(&of).await.unwrap().locked(Duration::from_secs(60));
            let RecorderErrorKind::Locked { until } = lockout.enter(&of).await.unwrap_err().kind else {
                panic!("the lock has ended")
            };
            let left = until.since(UnixMicros::now());
            assert!((50..=60).contains(&left.as_secs()), "{left:?}");
        }
    }
}
