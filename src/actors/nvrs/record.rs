//! A recorder's id as the Supervisor knows it: what is asked, what was found, what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Addr;
use tokio::sync::Semaphore;

use super::actor::NvrActor;
use super::messages::{NvrError, NvrNews, NvrState, Seen};
use crate::journal::KnownNvr;
use crate::model::{NvrSpec, Presence, UnixMicros};
use crate::nvr::{Recorder, RecorderError, RecorderErrorKind};

/// Searches of one recorder at a time. It does one of them; the others wait for their turn.
const MOST_SEARCHES: usize = 4;

/// What the log has of a recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// It is away.
    Away,
    /// It lets nobody in.
    Refused,
    /// It is there, and does not answer all that it is asked.
    Partly,
    /// It is there.
    Well,
}

/// One recorder's id.
pub(in crate::actors) struct NvrRecord {
    /// What is asked of it; `None` for a deleted one, and for one that cannot be used.
    pub spec: Option<NvrSpec>,
    /// Why what the catalog has cannot be used.
    pub unusable: Option<String>,
    pub revision: u64,
    pub generation: u64,
    pub running: Option<Addr<NvrActor>>,
    pub presence: Presence,
    pub state: NvrState,
    pub since: UnixMicros,
    /// What the last look that was answered has seen, and when.
    pub seen: Option<(Arc<Seen>, UnixMicros)>,
    /// The client that has seen it.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Why the last look failed, if it did.
    pub not_seen: Option<NvrError>,
    /// Why the last knock was not answered, if nothing was heard since.
    pub not_heard: Option<NvrError>,
    /// What the log was told last.
    told: Option<Told>,
    /// The channels that cannot be cameras, because others have their ids, and why.
    pub taken: BTreeMap<u32, String>,
    pub searches: Arc<Semaphore>,
}

impl NvrRecord {
    /// An id without a spec.
    pub fn new() -> Self {
        Self {
            spec: None,
            unusable: None,
            revision: 0,
            generation: 0,
            running: None,
            presence: Presence::Unknown,
            state: NvrState::Connecting,
            since: UnixMicros::now(),
            seen: None,
            recorder: None,
            not_seen: None,
            not_heard: None,
            told: None,
            taken: BTreeMap::new(),
            searches: Arc::new(Semaphore::new(MOST_SEARCHES)),
        }
    }

    /// A recorder as the journal knew it.
    pub fn known(nvr: KnownNvr) -> Self {
        let unusable = nvr.unusable.map(|why| format!("what is asked of it cannot be used by this version: {why}"));
        let mut record = Self { spec: nvr.spec, unusable, revision: nvr.revision, ..Self::new() };
        record.settle(false);
        record
    }

    /// Whether the catalog has it.
    pub fn exists(&self) -> bool {
        self.spec.is_some() || self.unusable.is_some()
    }

    /// Forgets all that was found out, because another recorder may be asked from now on.
    pub fn begin_anew(&mut self) {
        (self.presence, self.seen, self.recorder) = (Presence::Unknown, None, None);
        (self.not_seen, self.not_heard, self.told) = (None, None, None);
        self.settle(false);
    }

    /// What the log is to be told now, if that is something new.
    pub(super) fn tell(&mut self) -> Option<Told> {
        let now = match self.presence {
            // The next errand knows more.
            Presence::Unknown | Presence::Doubtful => return None,
            Presence::Away => Told::Away,
            Presence::Refused => Told::Refused,
            Presence::There if self.not_seen.is_some() => Told::Partly,
            Presence::There => Told::Well,
        };
        (self.told.replace(now) != Some(now)).then_some(now)
    }

    /// Takes note of what an errand has come to.
    pub fn hear(&mut self, presence: Presence, news: NvrNews) {
        let was = std::mem::replace(&mut self.presence, presence);
        let now = UnixMicros::now();
        match news {
            NvrNews::Looked(seen, recorder) => {
                self.seen = Some((Arc::from(seen), now));
                self.recorder = Some(recorder);
                self.not_seen = None;
            }
            NvrNews::Failed(error) => put_error(&mut self.not_seen, NvrError::of(&error, now)),
            NvrNews::Knocked(Ok(())) => {
                self.not_heard = None;
                // What it did not answer while it was away is asked again at once.
                if was == Presence::Away {
                    self.not_seen = None;
                }
            }
            NvrNews::Knocked(Err(message)) => {
                let kind = "unreachable";
                put_error(&mut self.not_heard, NvrError { at: now, kind, message, locked_until: None });
            }
        }
        if matches!(presence, Presence::There | Presence::Refused) {
            // It was heard since, whoever has heard it.
            self.not_heard = None;
        }
        self.settle(false);
    }

    /// What is wrong with it.
    pub fn error(&self) -> Option<NvrError> {
        let unusable = self.unusable.as_ref().map(|message| NvrError {
            at: self.since,
            kind: "unusable",
            message: message.clone(),
            locked_until: None,
        });
        unusable.or_else(|| self.not_heard.clone()).or_else(|| self.not_seen.clone())
    }

    /// Brings the state to what is known.
    pub fn settle(&mut self, stopping: bool) {
        let state = match (self.presence, &self.not_seen) {
            _ if self.unusable.is_some() => NvrState::Failed,
            _ if stopping => NvrState::Stopped,
            (Presence::Unknown, _) => NvrState::Connecting,
            (Presence::Away, _) => NvrState::Unreachable,
            (Presence::Refused, Some(error)) if error.locked_until.is_some() => NvrState::Locked,
            (Presence::Refused, _) => NvrState::AuthFailed,
            (Presence::There | Presence::Doubtful, Some(_)) => NvrState::Degraded,
            (Presence::There | Presence::Doubtful, None) => NvrState::Online,
        };
        if self.state != state {
            (self.state, self.since) = (state, UnixMicros::now());
        }
    }
}

/// The same error again keeps the time of the first one.
fn put_error(place: &mut Option<NvrError>, error: NvrError) {
    let at = place.as_ref().filter(|before| before.kind == error.kind).map_or(error.at, |before| before.at);
    *place = Some(NvrError { at, ..error });
}

impl NvrError {
    /// A recorder's own error.
    fn of(error: &RecorderError, at: UnixMicros) -> Self {
        let locked_until = if let RecorderErrorKind::Locked { until } = error.kind { Some(until) } else { None };
        Self { at, kind: error.kind.as_str(), message: error.message.clone(), locked_until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: RecorderErrorKind) -> NvrNews {
        NvrNews::Failed(RecorderError::new(kind, "no"))
    }

    #[test]
    fn each_fault_is_told_once() {
        let mut record = NvrRecord::new();
        let knocked = |answered: bool| NvrNews::Knocked(if answered { Ok(()) } else { Err("no".into()) });
        let mut told = Vec::new();
        for (presence, news) in [
            (Presence::Doubtful, failed(RecorderErrorKind::Io)),
            (Presence::Away, knocked(false)),
            (Presence::Away, knocked(false)),
            // Its questions are answered, and its streams are not.
            (Presence::Doubtful, failed(RecorderErrorKind::Protocol)),
            (Presence::Away, knocked(false)),
            (Presence::There, knocked(true)),
            (Presence::There, failed(RecorderErrorKind::Protocol)),
            (Presence::Refused, failed(RecorderErrorKind::Auth)),
            (Presence::Refused, failed(RecorderErrorKind::Auth)),
        ] {
            record.hear(presence, news);
            told.extend(record.tell());
        }
        assert_eq!(told, [Told::Away, Told::Well, Told::Partly, Told::Refused]);
        record.not_seen = None;
        record.hear(Presence::There, knocked(true));
        assert_eq!((record.tell(), record.tell()), (Some(Told::Well), None));
    }

    #[test]
    fn nothing_streams_is_not_told_of_one_that_was_heard_since() {
        let mut record = NvrRecord::new();
        record.hear(Presence::Away, NvrNews::Knocked(Err("nothing streams".into())));
        // It has a voice, and refuses us: nobody knocks any more.
        record.hear(Presence::Refused, failed(RecorderErrorKind::Auth));
        assert_eq!((record.state, record.error().unwrap().kind), (NvrState::AuthFailed, "auth"));
        record.hear(Presence::There, failed(RecorderErrorKind::Protocol));
        assert_eq!((record.state, record.error().unwrap().kind), (NvrState::Degraded, "protocol"));
    }

    #[test]
    fn a_state_says_what_is_wrong_and_since_when() {
        let mut record = NvrRecord::new();
        assert_eq!(record.state, NvrState::Connecting);
        record.hear(Presence::Doubtful, failed(RecorderErrorKind::Io));
        record.hear(Presence::Away, NvrNews::Knocked(Err("nobody".into())));
        assert_eq!((record.state, record.error().unwrap().kind), (NvrState::Unreachable, "unreachable"));
        let since = record.error().unwrap().at;
        record.hear(Presence::Away, NvrNews::Knocked(Err("still nobody".into())));
        assert_eq!((record.error().unwrap().at, record.error().unwrap().message.as_str()), (since, "still nobody"));
        record.hear(Presence::There, NvrNews::Knocked(Ok(())));
        assert_eq!((record.state, record.error()), (NvrState::Online, None));
        // It streams, and does not answer.
        record.hear(Presence::Doubtful, failed(RecorderErrorKind::Io));
        record.hear(Presence::There, NvrNews::Knocked(Ok(())));
        assert_eq!((record.state, record.error().unwrap().kind), (NvrState::Degraded, "io"));
        record.hear(Presence::Refused, failed(RecorderErrorKind::Auth));
        assert_eq!(record.state, NvrState::AuthFailed);
        let until = UnixMicros(7);
        record.hear(Presence::Refused, failed(RecorderErrorKind::Locked { until }));
        assert_eq!((record.state, record.error().unwrap().locked_until), (NvrState::Locked, Some(until)));
        record.settle(true);
        assert_eq!(record.state, NvrState::Stopped);
    }
}
