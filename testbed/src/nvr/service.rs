//! From a request to its answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, header};
use serde::Serialize;

use super::call::Call;
use super::dice::Dice;
use super::flow::Flow;
use super::knobs::Knobs;
use super::library::Library;
use super::login::{Door, Signed, Verdict};
use super::pages::About;
use super::refusal::{Refusal, answer, keep_out, xml};
use super::search::Search;
use super::stats::Stats;

/// The longest request body, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// All connections' common part.
#[derive(Debug)]
pub(super) struct App {
    /// Where we listen: `127.0.0.1:PORT`.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) library: Library,
    pub(super) state: Mutex<State>,
}

/// What changes. Its lock is never held across an await.
#[derive(Debug)]
pub(super) struct State {
    pub(super) knobs: Knobs,
    pub(super) dice: Dice,
    pub(super) stats: Stats,
    pub(super) door: Door,
    /// How often each recording was sent completely, by its place in the library.
    pub(super) fetched: HashMap<usize, u64>,
    /// When connections came that were hung up on.
    pub(super) hung_up: Vec<Instant>,
    /// Searches that go on.
    searches: u32,
    /// What came and how it was answered, since somebody wants to know.
    pub(super) log: Option<Vec<Exchange>>,
}

/// A request, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// `GET` or `POST`, mostly.
    pub method: String,
    /// The path and what follows it.
    pub target: String,
    /// Whether it came with a login.
    pub login: bool,
    /// Its body.
    pub body: Bytes,
    /// The status of the answer.
    pub status: u16,
}

impl State {
    pub(super) fn new(knobs: Knobs, door: Door) -> State {
        let dice = Dice::new(knobs.seed);
        State {
            knobs,
            dice,
            stats: Stats::default(),
            door,
            fetched: HashMap::new(),
            hung_up: Vec::new(),
            searches: 0,
            log: None,
        }
    }

    /// Puts new knobs in place, once they are known to be valid.
    pub(super) fn set_knobs(&mut self, knobs: Knobs) {
        if knobs.seed != self.knobs.seed {
            self.dice = Dice::new(knobs.seed);
        }
        self.knobs = knobs;
    }

    /// Judges a login, and counts it.
    pub(super) fn judge(&mut self, request: Signed<'_>, knobs: &Knobs) -> Verdict {
        let mut verdict = self.door.judge(request, knobs);
        if verdict == Verdict::In && self.knobs.expire_next > 0 {
            self.knobs.expire_next -= 1;
            verdict = Verdict::Expired;
        }
        let logins = &mut self.stats.logins;
        let count = match verdict {
            Verdict::In => &mut logins.accepted,
            Verdict::Without => &mut logins.challenged,
            Verdict::Expired => &mut logins.expired,
            Verdict::Wrong { .. } => &mut logins.wrong,
            Verdict::Locked { .. } => &mut logins.locked,
        };
        *count += 1;
        verdict
    }

    /// Whether the next search or download, for which the dice say this, is refused as busy.
    fn is_busy(&mut self, thrown: bool) -> bool {
        let counted = self.knobs.busy_next > 0;
        self.knobs.busy_next = self.knobs.busy_next.saturating_sub(1);
        self.stats.injected.busy += u64::from(thrown || counted);
        thrown || counted
    }
}

impl App {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each holder leaves the state as it should be at every step, so a panic in one spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. Its body is read to its end first, whoever sends it: the next one comes on the same
    /// connection.
    pub(super) async fn serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Flow>, Box<dyn std::error::Error + Send + Sync>> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await?.to_bytes();
        let call = Call::of(&head.method, head.uri.path());
        if call.is_control() {
            return Ok(self.control(call, &body));
        }
        if self.state().knobs.off {
            return Err("it is off".into());
        }
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let login = head.headers.get(header::AUTHORIZATION).and_then(|login| login.to_str().ok());
        self.state().stats.requests += 1;
        let answer = match self.keep_out(Signed { peer, method: head.method.as_str(), target, login }, &body) {
            Some(refusal) => refusal,
            None => {
                call.count(&mut self.state().stats.calls);
                let done = self.perform(call, &head, &body).await;
                done.unwrap_or_else(|refusal| refusal.answer(target, &self.state().knobs))
            }
        };
        if let Some(log) = &mut self.state().log {
            let (method, target, status) = (head.method.to_string(), target.to_owned(), answer.status().as_u16());
            log.push(Exchange { method, target, login: login.is_some(), body, status });
        }
        Ok(answer)
    }

    /// Takes note of a connection that came then and is hung up on.
    pub(super) fn hang_up(&self, came: Instant) {
        let mut state = self.state();
        state.stats.hung_up += 1;
        state.hung_up.push(came);
    }

    /// Looks at who asks: what one who is not let in is told.
    fn keep_out(&self, request: Signed<'_>, body: &[u8]) -> Option<Response<Flow>> {
        let mut state = self.state();
        let knobs = state.knobs.clone();
        if knobs.body_before_login && request.method == "POST" && body.is_empty() {
            return Some(Refusal::BAD_CONTENT.answer(request.target, &knobs));
        }
        let verdict = state.judge(request, &knobs);
        if verdict == Verdict::In {
            return None;
        }
        let challenges = state.door.challenges(verdict, &knobs);
        Some(keep_out(verdict, challenges, &knobs))
    }

    async fn perform(self: &Arc<Self>, call: Call, head: &Parts, body: &[u8]) -> Result<Response<Flow>, Refusal> {
        let is_in = |parts: &[String]| parts.iter().any(|part| head.uri.path().contains(part.as_str()));
        let (forbidden, missing) = {
            let knobs = &self.state().knobs;
            (is_in(&knobs.forbidden), is_in(&knobs.missing))
        };
        if forbidden || missing {
            return Err(if forbidden { Refusal::FORBIDDEN } else { Refusal::UNKNOWN });
        }
        let about = |knobs| About { knobs, library: &self.library, port: self.port };
        match call {
            Call::Page(page) => Ok(xml(200, about(&self.state().knobs).page(page)?)),
            Call::Days(track) => Ok(xml(200, about(&self.state().knobs).days(track, body)?)),
            Call::Search => self.search(head.uri.query().unwrap_or_default(), body).await,
            Call::Download => {
                self.refuse_if_busy(Dice::busy)?;
                self.download(&head.method, body)
            }
            Call::Picture => {
                self.refuse_if_busy(Dice::busy)?;
                self.picture(head.uri.path_and_query().map_or("/", |target| target.as_str()))
            }
            Call::Method => Err(Refusal::METHOD),
            Call::Unknown | Call::GetKnobs | Call::ChangeKnobs | Call::GetStats => Err(Refusal::UNKNOWN),
        }
    }

    async fn search(self: &Arc<Self>, query: &str, body: &[u8]) -> Result<Response<Flow>, Refusal> {
        self.refuse_if_busy(Dice::search_busy)?;
        let _place = Searching::begin(self)?;
        let wait = Duration::from_millis(self.state().knobs.search_ms);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let knobs = self.state().knobs.clone();
        let search = Search::read(body, query, &knobs, &self.library)?;
        let host = knobs.uri_host.as_deref().unwrap_or(&self.host);
        Ok(xml(200, search.answer(&knobs, &self.library, host)))
    }

    fn refuse_if_busy(&self, throw: fn(&mut Dice, &Knobs) -> bool) -> Result<(), Refusal> {
        let mut state = self.state();
        let State { dice, knobs, .. } = &mut *state;
        let thrown = throw(dice, knobs);
        if state.is_busy(thrown) { Err(Refusal::busy(state.knobs.busy_status)) } else { Ok(()) }
    }

    fn control(&self, call: Call, body: &[u8]) -> Response<Flow> {
        let mut state = self.state();
        match call {
            Call::GetStats => json(200, &state.stats),
            Call::ChangeKnobs => match state.knobs.patched(body) {
                Ok(knobs) => {
                    state.set_knobs(knobs);
                    json(200, &state.knobs)
                }
                Err(error) => json(400, &serde_json::json!({ "error": format!("{error:#}") })),
            },
            _ => json(200, &state.knobs),
        }
    }
}

/// A search that goes on.
#[derive(Debug)]
struct Searching<'a>(&'a App);

impl Searching<'_> {
    fn begin(app: &App) -> Result<Searching<'_>, Refusal> {
        let mut state = app.state();
        if state.knobs.searches_at_once.is_some_and(|most| state.searches >= most) {
            state.stats.injected.searches_busy += 1;
            return Err(Refusal::busy(state.knobs.busy_status));
        }
        state.searches += 1;
        Ok(Searching(app))
    }
}

impl Drop for Searching<'_> {
    fn drop(&mut self) {
        self.0.state().searches -= 1;
    }
}

fn json(status: u16, value: &impl Serialize) -> Response<Flow> {
    let body = serde_json::to_vec(value).expect("maps with text keys always become JSON");
    answer(status, "application/json; charset=UTF-8", body.into())
}
