//! How often cameras and recorders may be asked to accept a user and a password. Pure: the clock is passed in.
//!
//! Cameras and recorders lock out whoever is wrong a handful of times, and a recorder's sixteen channels are one host
//! with one user: the limit is theirs together, and it is kept over restarts. While it is not known whether credentials
//! are good, one camera tries them and the others wait for what it finds.

use std::collections::HashMap;
use std::time::Duration;

use super::{FORGET_REFUSAL_AFTER, Login, Refusal, UnixMicros};

/// After the first refusal: somebody may be about to mend it, or the camera was only busy.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// After the first refusal of credentials that were good a moment ago.
const FIRST_WAIT_BUSY: Duration = Duration::from_secs(30);
/// After each further one. Together with the first wait this is at most three refusals in any ten minutes.
const NEXT_WAIT: Duration = Duration::from_secs(301);
/// Refusals there may be in any [`WINDOW`], beside those of new passwords.
const MOST: usize = 3;
/// The span in which refusals are counted together.
const WINDOW: Duration = Duration::from_secs(600);
/// How long after a stream has opened the same credentials need no trial.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// A refusal this soon after a session of the same credentials says that the camera is busy, not that the password is
/// wrong: cameras at their limit of connections answer 401 as well.
const SOON: Duration = Duration::from_secs(60);
/// How long a trial may go without a word before another camera may try: longer than any stream may take to open.
pub const TRIAL: Duration = Duration::from_secs(180);

/// Whether a camera may try now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// It may.
    Go,
    /// Another camera is trying the same credentials: ask again when that is known.
    AfterTrial,
    /// Not before this time.
    NotBefore(UnixMicros),
}

/// What is known of one login, whatever the password.
#[derive(Debug, Default)]
struct Known {
    /// Refusals whose credentials were not accepted since, oldest first.
    refused: Vec<(UnixMicros, String)>,
    /// What was accepted, by the credentials' fingerprint.
    accepted: HashMap<String, Accepted>,
    /// Who is trying, and since when.
    trial: Option<(String, UnixMicros)>,
}

/// Credentials that were accepted.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    /// When a stream opened with them last.
    opened_at: UnixMicros,
    /// When a stream was last seen to run with them.
    seen_at: UnixMicros,
}

impl Known {
    /// Whether nobody needs to find out first. A stream that merely goes on proves little: recorders keep those that
    /// run when the password is changed.
    fn is_good(&self, credentials: &str, now: UnixMicros) -> bool {
        let refused = self.refused.iter().any(|(_, of)| of == credentials);
        !refused && self.accepted.get(credentials).is_some_and(|accepted| now < accepted.opened_at.after(GOOD_FOR))
    }

    /// When these credentials may be tried. Those that were never refused may at once, up to [`MOST`] of them in
    /// [`WINDOW`]; for all others every refusal of this login counts, since the camera counts them all.
    fn next_try(&self, credentials: &str, now: UnixMicros) -> Option<UnixMicros> {
        let (last, _) = self.refused.last()?;
        let lately = self.refused.iter().enumerate().filter(|(_, (at, _))| now < at.after(WINDOW));
        let new_ones = lately.filter(|(place, (_, of))| !self.refused[..*place].iter().any(|(_, before)| before == of));
        let is_new = !self.refused.iter().any(|(_, of)| of == credentials);
        if is_new && new_ones.count() < MOST {
            return None;
        }
        let wait = match self.refused.len() {
            1 if self.accepted.contains_key(credentials) => FIRST_WAIT_BUSY,
            1 => FIRST_WAIT,
            _ => NEXT_WAIT,
        };
        let most_ago = self.refused.len().checked_sub(MOST).map(|place| self.refused[place].0.after(WINDOW));
        Some(last.after(wait)).max(most_ago)
    }
}

/// All logins.
#[derive(Debug, Default)]
pub struct Logins {
    known: HashMap<Login, Known>,
}

impl Logins {
    /// What is left of the last run of the daemon.
    pub fn new(refusals: impl IntoIterator<Item = Refusal>) -> Self {
        let mut logins = Self::default();
        for refusal in refusals {
            logins.known.entry(refusal.login).or_default().refused.push((refusal.at, refusal.credentials));
        }
        logins
    }

    /// Asks for `camera`, or a probe under a name that no camera has, to log in. A `Go` has to be followed by
    /// [`accepted`](Self::accepted), [`refused`](Self::refused) or [`ended`](Self::ended).
    pub fn ask(&mut self, login: &Login, credentials: &str, camera: &str, now: UnixMicros) -> Permit {
        let known = self.known.entry(login.clone()).or_default();
        // A clock that was set back must not stretch the wait.
        for (at, _) in &mut known.refused {
            *at = (*at).min(now);
        }
        known.refused.retain(|(at, _)| now < at.after(FORGET_REFUSAL_AFTER));
        if known.is_good(credentials, now) {
            return Permit::Go;
        }
        if let Some((who, since)) = &known.trial
            && who != camera
            && now < since.after(TRIAL)
        {
            return Permit::AfterTrial;
        }
        if let Some(at) = known.next_try(credentials, now).filter(|at| *at > now) {
            return Permit::NotBefore(at);
        }
        known.trial = Some((camera.to_owned(), now));
        Permit::Go
    }

    /// The stream opened: whoever waited may go. Answers whether there are refusals to be forgotten.
    pub fn accepted(&mut self, login: &Login, credentials: &str, now: UnixMicros) -> bool {
        let known = self.known.entry(login.clone()).or_default();
        let before = known.refused.len();
        known.refused.retain(|(_, of)| of != credentials);
        known.trial = None;
        known.accepted.insert(credentials.to_owned(), Accepted { opened_at: now, seen_at: now });
        known.refused.len() < before
    }

    /// The camera refused. Answers whether it is probably only busy.
    pub fn refused(&mut self, login: &Login, credentials: &str, now: UnixMicros) -> bool {
        let known = self.known.entry(login.clone()).or_default();
        known.trial = None;
        let first = !known.refused.iter().any(|(_, of)| of == credentials);
        known.refused.push((now, credentials.to_owned()));
        let busy = first && known.accepted.get(credentials).is_some_and(|accepted| now < accepted.seen_at.after(SOON));
        if !busy {
            known.accepted.remove(credentials);
        }
        // What nobody has used for long need not be known.
        self.known.retain(|_, known| {
            known.refused.retain(|(at, _)| now < at.after(FORGET_REFUSAL_AFTER));
            !known.refused.is_empty() || !known.accepted.is_empty() || known.trial.is_some()
        });
        busy
    }

    /// A stream that had opened goes on until now.
    pub fn streaming(&mut self, login: &Login, credentials: &str, now: UnixMicros) {
        if let Some(known) = self.known.get_mut(login)
            && let Some(accepted) = known.accepted.get_mut(credentials)
        {
            accepted.seen_at = now;
        }
    }

    /// An attempt of this camera's ended without a word on the credentials; `may_hide_a_refusal` says whether the
    /// camera may have refused them all the same. Answers whether it counts as refused: where the login was refused
    /// lately, what was not heard is taken for the worse.
    pub fn ended(
        &mut self,
        login: &Login,
        credentials: &str,
        camera: &str,
        may_hide_a_refusal: bool,
        now: UnixMicros,
    ) -> bool {
        let Some(known) = self.known.get_mut(login) else { return false };
        if known.trial.as_ref().is_none_or(|(who, _)| who != camera) {
            return false;
        }
        known.trial = None;
        let counts = may_hide_a_refusal && !known.refused.is_empty();
        if counts {
            self.refused(login, credentials, now);
        }
        counts
    }

    /// Forgets a login that no camera uses any more, unless it was refused lately.
    pub fn forget(&mut self, login: &Login) {
        if self.known.get(login).is_some_and(|known| known.refused.is_empty()) {
            self.known.remove(login);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { host: "10.0.0.9".into(), port: 554, user: "u".into() }
    }

    fn at(seconds: u64) -> UnixMicros {
        UnixMicros(0).after(Duration::from_secs(seconds))
    }

    fn camera(number: usize) -> String {
        format!("ch{number}")
    }

    /// Sixteen cameras that ask every second; what they may do fails. Answers when an attempt was made.
    fn attempts(logins: &mut Logins, credentials: &str, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut made = Vec::new();
        for second in seconds {
            for number in 0..16 {
                if logins.ask(&login(), credentials, &camera(number), at(second)) == Permit::Go {
                    made.push(second);
                    logins.refused(&login(), credentials, at(second));
                }
            }
        }
        made
    }

    #[test]
    fn sixteen_cameras_of_one_host_try_three_times_in_ten_minutes_and_then_every_five() {
        let mut logins = Logins::default();
        let made = attempts(&mut logins, "wrong", 0..7_200);
        for window in 0..6_600 {
            let count = made.iter().filter(|second| (window..window + 600).contains(*second)).count();
            assert!(count <= 3, "{count} from second {window} on: {made:?}");
        }
        assert!(made.len() > 20, "{made:?}");
        assert!(made.windows(2).skip(1).all(|pair| (300..=310).contains(&(pair[1] - pair[0]))), "{made:?}");
    }

    #[test]
    fn new_credentials_are_tried_at_once() {
        let mut logins = Logins::default();
        assert_eq!(attempts(&mut logins, "wrong", 0..50), [0]);
        assert_eq!(attempts(&mut logins, "other", 50..51), [50]);
        // Two passwords that take turns have no more attempts than one.
        let mut made = vec![0, 50];
        for second in 51..3_000 {
            made.extend(attempts(&mut logins, "wrong", second..second + 1));
            made.extend(attempts(&mut logins, "other", second..second + 1));
        }
        for window in 60..2_400 {
            let count = made.iter().filter(|second| (window..window + 600).contains(*second)).count();
            assert!(count <= 3, "{count} from second {window} on: {made:?}");
        }
    }

    #[test]
    fn a_restart_forgets_no_refusal() {
        let refusal = |second| Refusal { login: login(), credentials: "wrong".into(), at: at(second) };
        let mut logins = Logins::new([refusal(0), refusal(60)]);
        assert_eq!(logins.ask(&login(), "wrong", &camera(0), at(100)), Permit::NotBefore(at(361)));
        assert_eq!(logins.ask(&login(), "right", &camera(0), at(100)), Permit::Go);
    }

    #[test]
    fn all_wait_for_the_first_and_go_together_when_it_is_accepted() {
        let mut logins = Logins::default();
        assert_eq!(logins.ask(&login(), "right", &camera(0), at(0)), Permit::Go);
        assert_eq!(logins.ask(&login(), "right", &camera(1), at(1)), Permit::AfterTrial);
        // One that died without a word does not hold the others up for ever.
        assert_eq!(logins.ask(&login(), "right", &camera(1), at(181)), Permit::Go);
        assert!(!logins.ended(&login(), "right", &camera(1), true, at(182)));
        assert_eq!(logins.ask(&login(), "right", &camera(2), at(182)), Permit::Go);
        logins.accepted(&login(), "right", at(183));
        for number in 0..16 {
            assert_eq!(logins.ask(&login(), "right", &camera(number), at(183)), Permit::Go);
        }
        // Later one finds out again for all whether the password still holds, streams or no streams.
        logins.streaming(&login(), "right", at(300));
        assert_eq!(logins.ask(&login(), "right", &camera(3), at(300)), Permit::Go);
        assert_eq!(logins.ask(&login(), "right", &camera(4), at(300)), Permit::AfterTrial);
        logins.accepted(&login(), "right", at(301));
        assert_eq!(logins.ask(&login(), "right", &camera(4), at(301)), Permit::Go);
    }

    #[test]
    fn sixteen_passwords_are_hardly_more_attempts_than_one() {
        let mut logins = Logins::default();
        let mut made = Vec::new();
        for second in 0..3_000 {
            for number in 0..16 {
                made.extend(attempts(&mut logins, &format!("guess {number}"), second..second + 1));
            }
        }
        for window in 0..2_400 {
            let count = made.iter().filter(|second| (window..window + 600).contains(*second)).count();
            // One that was refused before, and three that were not.
            assert!(count <= MOST + 1, "{count} from second {window} on: {made:?}");
        }
    }

    #[test]
    fn a_mended_password_is_tried_at_once_whatever_the_wrong_one_has_used_up() {
        let mut logins = Logins::default();
        assert_eq!(attempts(&mut logins, "wrong", 0..400), [0, 60, 361]);
        assert_eq!(attempts(&mut logins, "mended", 400..401), [400]);
    }

    #[test]
    fn an_attempt_that_was_cut_short_counts_where_the_login_was_refused_before() {
        let mut logins = Logins::default();
        assert_eq!(attempts(&mut logins, "wrong", 0..60), [0]);
        assert_eq!(logins.ask(&login(), "wrong", &camera(1), at(60)), Permit::Go);
        assert!(logins.ended(&login(), "wrong", &camera(1), true, at(68)));
        assert_eq!(logins.ask(&login(), "wrong", &camera(2), at(69)), Permit::NotBefore(at(369)));
        // Where nobody listened, nobody refused; and who was not trying has nothing to say.
        assert_eq!(logins.ask(&login(), "wrong", &camera(2), at(369)), Permit::Go);
        assert!(!logins.ended(&login(), "wrong", &camera(1), true, at(370)));
        assert!(!logins.ended(&login(), "wrong", &camera(2), false, at(370)));
        assert_eq!(logins.ask(&login(), "wrong", &camera(3), at(371)), Permit::Go);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stretch_the_wait() {
        let mut logins = Logins::default();
        logins.ask(&login(), "wrong", &camera(0), at(100_000));
        logins.refused(&login(), "wrong", at(100_000));
        assert_eq!(logins.ask(&login(), "wrong", &camera(0), at(10)), Permit::NotBefore(at(70)));
        assert_eq!(logins.ask(&login(), "wrong", &camera(0), at(70)), Permit::Go);
    }

    #[test]
    fn a_refusal_soon_after_a_good_session_is_a_busy_camera() {
        let mut logins = Logins::default();
        logins.ask(&login(), "right", &camera(0), at(0));
        logins.accepted(&login(), "right", at(0));
        logins.streaming(&login(), "right", at(1_000));
        assert!(logins.refused(&login(), "right", at(1_010)));
        assert_eq!(logins.ask(&login(), "right", &camera(0), at(1_011)), Permit::NotBefore(at(1_040)));
        assert_eq!(logins.ask(&login(), "right", &camera(0), at(1_040)), Permit::Go);
        // Twice is no accident.
        assert!(!logins.refused(&login(), "right", at(1_040)));
        assert_eq!(logins.ask(&login(), "right", &camera(0), at(1_200)), Permit::NotBefore(at(1_341)));
    }
}
