//! How a task ended, in the words in which the server is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::lease::Counts;
use super::news::Ending;
use crate::export::{ExportError, Progress, Reason, Summary, Survey};
use crate::model::UnixMicros;
use crate::nvr::{RecorderError, RecorderErrorKind};
use crate::storage::BucketErrorKind;

/// Characters of a reason, at most.
const MAX_MESSAGE: usize = 2_000;
/// What is given back is no attempt.
const INTERRUPTED: &str = "interrupted";
/// When a task comes back that cannot be begun on this machine for now.
const NOT_HERE: Duration = Duration::from_secs(30);

/// The last word of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// All that there is of it is stored.
    Done(Counts),
    /// Something is not.
    Failed(Failed),
}

impl Word {
    /// As the server takes it, for the lease of that number.
    pub(super) fn json(&self, number: u64) -> Value {
        match self {
            Self::Done(counts) => json!({ "number": number, "result": counts }),
            Self::Failed(failed) => failed.json(number),
        }
    }

    /// What is stored.
    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Done(counts) => *counts,
            Self::Failed(failed) => failed.counts,
        }
    }

    /// The same for people.
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::Done(_) => Ending::Done,
            Self::Failed(failed) if failed.is_given_back() => Ending::GivenBack,
            Self::Failed(Failed { kind, message, retry, .. }) => Ending::Failed { kind, message, retry },
        }
    }
}

/// Why a task is not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failed {
    /// Why, in a word.
    pub kind: &'static str,
    /// Why, and what to do; without secrets.
    pub message: String,
    /// Whether it may go better another time.
    pub retry: bool,
    /// Not before so much time.
    pub after: Option<Duration>,
    /// What is stored all the same.
    pub counts: Counts,
}

impl Failed {
    /// A failure that a person has to mend.
    pub(super) fn for_good(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry: false, after: None, counts: Counts::default() }
    }

    /// What cannot be begun here now, through no fault of its own: that is no attempt. Not at once, or it might come back
    /// without end.
    pub(super) fn left_to_others(message: String) -> Self {
        Self { retry: true, after: Some(NOT_HERE), ..Self::for_good(INTERRUPTED, message) }
    }

    /// What was begun, and is for somebody else to go on with at once.
    pub(super) fn given_back(counts: Counts) -> Self {
        let message = "the worker was told to end".to_owned();
        Self { kind: INTERRUPTED, message, retry: true, after: Some(Duration::ZERO), counts }
    }

    /// Whether the task was given back because the worker was told to end.
    fn is_given_back(&self) -> bool {
        self.kind == INTERRUPTED && self.after == Some(Duration::ZERO)
    }

    fn json(&self, number: u64) -> Value {
        let message: String = self.message.chars().take(MAX_MESSAGE).collect();
        let mut words = json!({
            "number": number, "kind": self.kind, "message": message, "retry": self.retry, "result": self.counts,
        });
        if let Some(after) = self.after {
            words["after"] = humantime::format_duration(after).to_string().into();
        }
        words
    }
}

/// What has come of an export, in numbers.
pub(super) fn counts(progress: &Progress) -> Counts {
    let Progress { found, stored, there, failed, bytes, .. } = *progress;
    Counts { found, downloaded: stored, there, failed, bytes }
}

/// The last word for an export that has ended, with how many of its recordings failed for which reasons.
pub(super) fn word(ended: Result<Summary, ExportError>, reasons: &BTreeMap<Reason, u64>, now: UnixMicros) -> Word {
    let summary = match ended {
        Ok(summary) => summary,
        Err(error) => return Word::Failed(of_error(&error, now)),
    };
    let counts = counts(&summary.progress);
    if let Some(error) = &summary.ended {
        return Word::Failed(Failed { counts, ..of_error(error, now) });
    }
    let unsearched = summary.survey.as_ref().map(|survey| &survey.failed[..]).unwrap_or_default();
    if let Some((track, error)) = unsearched.first() {
        let message =
            format!("{} tracks could not be searched, {} first: {}", unsearched.len(), track.id, error.message);
        let failed = of_error(&ExportError::Recorder(error.clone()), now);
        return Word::Failed(Failed { message, counts, ..failed });
    }
    if counts.failed > 0 {
        return Word::Failed(of_reasons(reasons, counts, summary.stopped));
    }
    if let Some(message) = summary.survey.as_ref().filter(|_| counts.found == 0).and_then(missing) {
        return Word::Failed(Failed::for_good("not_found", message));
    }
    // One that was stopped with nothing left to do has done all.
    let is_left = summary.survey.is_none() || counts.found > counts.downloaded + counts.there;
    if summary.stopped && is_left { Word::Failed(Failed::given_back(counts)) } else { Word::Done(counts) }
}

/// That nothing was found where there is nothing to look into.
fn missing(survey: &Survey) -> Option<String> {
    let known: Vec<&str> = survey.known.iter().map(|track| track.id.as_str()).collect();
    let is_none = !known.is_empty() && survey.tracks.iter().all(|track| !known.contains(&track.id.as_str()));
    let wanted: Vec<&str> = survey.tracks.iter().map(|track| track.id.as_str()).collect();
    is_none.then(|| format!("the recorder has no track {}: it has {}", wanted.join(", "), known.join(", ")))
}

/// Why some of the recordings are not stored.
fn of_reasons(reasons: &BTreeMap<Reason, u64>, counts: Counts, stopped: bool) -> Failed {
    // Those that were never begun tell nothing of why the others failed.
    let told = reasons.iter().filter(|(reason, _)| **reason != Reason::Interrupted);
    let Some((main, _)) = told.clone().max_by_key(|(_, count)| **count) else {
        return Failed::given_back(counts);
    };
    let listed: Vec<String> = told.clone().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
    let message = format!("{} of {} are not stored: {}", counts.failed, counts.found, listed.join(", "));
    let retry = stopped || told.clone().any(|(reason, _)| may_pass(*reason));
    Failed { kind: main.as_str(), message, retry, after: None, counts }
}

/// Whether a recording may be had another time.
fn may_pass(reason: Reason) -> bool {
    match reason {
        Reason::Auth | Reason::Forbidden | Reason::Unsupported | Reason::NotFound => false,
        Reason::Conflict | Reason::Media => false,
        // What is not listed any more is not asked for any more.
        Reason::Gone | Reason::Growing | Reason::Interrupted | Reason::Incomplete => true,
        Reason::NotMedia | Reason::Cut | Reason::WrongSize | Reason::Silent | Reason::Busy => true,
        Reason::Locked | Reason::Tls | Reason::Recorder | Reason::Bucket | Reason::Machine => true,
    }
}

/// Why an export did not begin, or did not go on.
fn of_error(error: &ExportError, now: UnixMicros) -> Failed {
    let message = error.to_string();
    let again = |kind, after| Failed { retry: true, after, ..Failed::for_good(kind, message.clone()) };
    let for_good = |kind| Failed::for_good(kind, message.clone());
    match error {
        ExportError::Recorder(RecorderError { kind, .. }) => match kind {
            // Another try with the same password costs one of the few that the recorder allows.
            RecorderErrorKind::Auth => for_good("auth"),
            // Said as a refusal, the server would count one that the recorder never made.
            RecorderErrorKind::TooSoon { until } => again("busy", Some(until.since(now) + Duration::from_secs(1))),
            RecorderErrorKind::Locked { until } => again("lockout", Some(until.since(now) + Duration::from_secs(1))),
            RecorderErrorKind::Forbidden => for_good("forbidden"),
            RecorderErrorKind::Unsupported | RecorderErrorKind::Dialect => for_good("unsupported"),
            RecorderErrorKind::NotFound | RecorderErrorKind::Gone => for_good("not_found"),
            RecorderErrorKind::Busy { retry_after } => again("busy", *retry_after),
            RecorderErrorKind::Timeout | RecorderErrorKind::Device | RecorderErrorKind::Io => {
                again("unreachable", None)
            }
            RecorderErrorKind::Tls => again("tls", None),
            RecorderErrorKind::Protocol => again("protocol", None),
        },
        ExportError::Refused { reason, .. } => match reason {
            Reason::Auth => for_good("auth"),
            Reason::Locked => again("lockout", None),
            reason if may_pass(*reason) => again(reason.as_str(), None),
            reason => for_good(reason.as_str()),
        },
        ExportError::Bucket(error) => of_bucket(error.kind, message),
        ExportError::Away { bucket: Some(kind), .. } => of_bucket(*kind, message),
        ExportError::Away { bucket: None, .. } => again("unreachable", None),
        ExportError::Usage(_) => for_good("unusable"),
        // Another machine may have what this one lacks.
        ExportError::Machine(_) => again("machine", None),
        ExportError::Broken(_) => again("broken", None),
    }
}

/// What is wrong with a bucket for this worker may be right for another one.
fn of_bucket(kind: BucketErrorKind, message: String) -> Failed {
    let kind = match kind {
        BucketErrorKind::Auth => "bucket_auth",
        BucketErrorKind::NotFound => "bucket_missing",
        BucketErrorKind::Transient | BucketErrorKind::Throttled | BucketErrorKind::Permanent => "bucket",
    };
    Failed { retry: true, ..Failed::for_good(kind, message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvr::RecorderErrorKind as Kind;

    const NOW: UnixMicros = UnixMicros(1_000_000_000);

    fn recorder(kind: Kind) -> Failed {
        let ended = Err(ExportError::Recorder(RecorderError::new(kind, "no")));
        match word(ended, &BTreeMap::new(), NOW) {
            Word::Failed(failed) => failed,
            Word::Done(_) => panic!("nothing was done"),
        }
    }

    #[test]
    fn a_wrong_password_is_not_tried_again_and_a_locked_recorder_when_it_opens() {
        let told = |kind| {
            let Failed { kind, retry, after, .. } = recorder(kind);
            (kind, retry, after)
        };
        assert_eq!(told(Kind::Auth), ("auth", false, None));
        let until = NOW.after(Duration::from_secs(60));
        assert_eq!(told(Kind::Locked { until }), ("lockout", true, Some(Duration::from_secs(61))));
        assert_eq!(told(Kind::TooSoon { until }), ("busy", true, Some(Duration::from_secs(61))));
        assert_eq!(told(Kind::Io), ("unreachable", true, None));
        assert_eq!(told(Kind::Forbidden), ("forbidden", false, None));
        let wait = Some(Duration::from_secs(7));
        assert_eq!(told(Kind::Busy { retry_after: wait }), ("busy", true, wait));
    }

    #[test]
    fn what_fails_for_good_is_told_from_what_may_pass() {
        let counts = Counts { found: 9, downloaded: 5, failed: 4, ..Counts::default() };
        let reasons = |list: &[(Reason, u64)]| list.iter().copied().collect::<BTreeMap<_, _>>();
        let failed = of_reasons(&reasons(&[(Reason::Cut, 1), (Reason::Conflict, 3)]), counts, false);
        assert_eq!((failed.kind, failed.retry), ("conflict", true));
        assert_eq!(failed.message, "4 of 9 are not stored: 1 cut, 3 conflict");
        assert!(!of_reasons(&reasons(&[(Reason::Conflict, 4)]), counts, false).retry);
        let interrupted = of_reasons(&reasons(&[(Reason::Interrupted, 4)]), counts, true);
        assert_eq!(interrupted, Failed::given_back(counts));
    }

    #[test]
    fn one_that_was_stopped_with_all_of_it_stored_is_done_and_any_other_given_back() {
        let summary = |found, stored| Summary {
            progress: Progress { found, stored, ..Progress::default() },
            survey: None,
            stopped: true,
            ended: None,
            manifest: None,
            beside: Vec::new(),
        };
        let counts = Counts { found: 2, downloaded: 1, ..Counts::default() };
        let back = Word::Failed(Failed::given_back(counts));
        assert_eq!(word(Ok(summary(2, 1)), &BTreeMap::new(), NOW), back);
        // Before anything was searched for, nothing is known to be done.
        let none = Word::Failed(Failed::given_back(Counts::default()));
        assert_eq!(word(Ok(summary(0, 0)), &BTreeMap::new(), NOW), none);
    }

    #[test]
    fn what_this_machine_cannot_begin_for_now_is_no_attempt_and_waits() {
        let failed = Failed::left_to_others("no place".to_owned());
        assert!(Failed::given_back(Counts::default()).is_given_back() && !failed.is_given_back());
        let words = failed.json(17);
        assert_eq!((&words["kind"], &words["retry"]), (&json!("interrupted"), &json!(true)));
        assert_eq!(words["after"], json!("30s"));
    }

    #[test]
    fn words_are_those_of_the_server() {
        let failed = Failed::given_back(Counts { found: 3, ..Counts::default() });
        let expected = json!({
            "number": 17, "kind": "interrupted", "message": "the worker was told to end", "retry": true, "after": "0s",
            "result": { "found": 3, "downloaded": 0, "there": 0, "failed": 0, "bytes": 0 },
        });
        assert_eq!(Word::Failed(failed).json(17), expected);
        let done = Word::Done(Counts { found: 2, downloaded: 1, there: 1, ..Counts::default() });
        let expected = json!({
            "number": 17, "result": { "found": 2, "downloaded": 1, "there": 1, "failed": 0, "bytes": 0 },
        });
        assert_eq!(done.json(17), expected);
    }
}
