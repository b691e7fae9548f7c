//! One place for work: takes a task, does it, says how it ended, and takes the next one.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::hold::{Hold, Over, Said};
use super::lease::{Counts, Far, Lease, Order};
use super::news::{Current, Ending, News, Task};
use super::outcome::{self, Failed, Word};
use super::server::{Server, ServerError, Taken};
use super::work::{self, Tools, Worked, grace, said};
use crate::delivery::Backoff;
use crate::export::{Current as Coming, Progress};

/// How long the server is asked to wait for a task: not for longer than a worker may take to end, because a question that
/// is broken off may be answered all the same, and then nobody has the task.
const WAIT: Duration = Duration::from_secs(4);
/// The same where we end when no task is left: what ends meanwhile is to be noticed.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// Between two questions that were answered at once, at most.
const BETWEEN: Duration = Duration::from_millis(500);
/// Waits while the server is away.
const AWAY: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(15) };

/// A place for work.
pub(super) struct Slot {
    pub server: Arc<Server>,
    /// What the server knows it by.
    pub name: String,
    /// Whether it ends when no task is left.
    pub once: bool,
    pub tools: Arc<Tools>,
    pub tell: mpsc::UnboundedSender<News>,
    pub show: watch::Sender<Current>,
    /// Whether the worker was told to end.
    pub stopped: watch::Receiver<bool>,
    /// Whether the server has refused the token to any slot: then none takes another task.
    pub refused: watch::Sender<bool>,
}

impl Slot {
    /// Works until there is nothing left to do, it is told to end, or the server refuses the token.
    ///
    /// # Errors
    ///
    /// When the server refuses the token. Any other answer is waited out: it may be a gateway's, while the server is away.
    pub(super) async fn run(mut self) -> Result<(), ServerError> {
        let (mut rng, mut failures) = (fastrand::Rng::new(), 0_u32);
        let mut refused = self.refused.subscribe();
        while !self.is_stopped() && !*refused.borrow() {
            let asked = Instant::now();
            let wait = if self.once { SHORT_WAIT } else { WAIT };
            let taken = tokio::select! {
                taken = self.server.take(&self.name, wait) => taken,
                () = grace(&mut self.stopped) => break,
            };
            let pause = match taken {
                Ok(taken) => {
                    failures = 0;
                    if self.server.is_news(false) {
                        self.tell(News::Back);
                    }
                    match taken {
                        Taken::Lease(lease) => {
                            self.work(&lease, asked).await;
                            Duration::ZERO
                        }
                        Taken::Nothing { left: false } if self.once => break,
                        Taken::Nothing { .. } => {
                            self.show(Current::Idle);
                            // A server that does not wait is not asked without end.
                            BETWEEN.mul_f64(0.5 + 0.5 * rng.f64()).saturating_sub(asked.elapsed())
                        }
                    }
                }
                Err(error @ ServerError::Forbidden(_)) => {
                    // The others end what they have, and then see this.
                    self.refused.send_replace(true);
                    self.show(Current::Over);
                    return Err(error);
                }
                Err(error) => {
                    failures += 1;
                    self.show(Current::Away);
                    if self.server.is_news(true) {
                        self.tell(News::Away { why: error.to_string() });
                    }
                    let after = if let ServerError::Away { after, .. } = error { after } else { None };
                    AWAY.delay(failures, after, &mut rng)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = said(&mut self.stopped) => break,
                () = said(&mut refused) => break,
            }
        }
        self.show(Current::Over);
        Ok(())
    }

    /// Does one task, which was asked for then.
    async fn work(&self, lease: &Lease, asked: Instant) {
        let Order { id, attempt, .. } = &lease.task;
        let task = Task { id: id.clone(), name: lease.task.shown(), attempt: *attempt };
        self.tell(News::Taken(task.clone()));
        let mut hold = Hold::new(&self.server, lease, asked);
        let (word, over) = if self.is_stopped() {
            (Word::Failed(Failed::given_back(Counts::default())), None)
        } else {
            let (far, progress) = watch::channel(Progress { searching: true, ..Progress::default() });
            let since = Instant::now().into_std();
            self.show(Current::Working { task: task.clone(), since, progress: progress.clone() });
            match self.held(lease, &mut hold, far, &progress).await {
                Worked::Ended(word) => (word, None),
                Worked::Over(over) => {
                    (Word::Failed(Failed::given_back(outcome::counts(&progress.borrow()))), Some(over))
                }
            }
        };
        let counts = word.counts();
        let ending = match over {
            Some(Over::Lost(why)) => Ending::Lost(why),
            Some(Over::Cancelled) => {
                stopped(&mut hold, "cancelled", "somebody has cancelled it", counts).await;
                Ending::Cancelled
            }
            Some(Over::Refused) => {
                let message = "the recorder has refused its login to another task: nothing more is tried with it";
                // It is no refusal of its own: said as one it would be counted as one more.
                stopped(&mut hold, "not_tried", message, counts).await;
                Ending::Failed { kind: "auth", message: message.to_owned(), retry: false }
            }
            None => match hold.say(&word).await {
                Said::Heard => word.ending(),
                Said::Late(why) => Ending::Lost(why),
            },
        };
        self.tell(News::Ended { task, ending, counts });
        self.show(Current::Asking);
    }

    /// Works for as long as the lease is held.
    async fn held(
        &self,
        lease: &Lease,
        hold: &mut Hold<'_>,
        far: watch::Sender<Progress>,
        progress: &watch::Receiver<Progress>,
    ) -> Worked<Over> {
        let mut stopped = self.stopped.clone();
        let confirmed = tokio::select! {
            biased;
            confirmed = hold.confirm() => confirmed,
            () = grace(&mut stopped) => {
                return Worked::Ended(Word::Failed(Failed::given_back(Counts::default())));
            }
        };
        if let Err(over) = confirmed {
            return Worked::Over(over);
        }
        let over = hold.keep(|| how_far(&progress.borrow()), in_at_the_recorder(progress.clone()));
        work::follow(&lease.task, &self.tools, far, &self.stopped, over).await
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn tell(&self, news: News) {
        // Nobody may listen.
        let _ = self.tell.send(news);
    }

    fn show(&self, current: Current) {
        let _ = self.show.send(current);
    }
}

/// Says that a task was stopped, as the server has asked for. Unheard, the server ends it by itself.
async fn stopped(hold: &mut Hold<'_>, kind: &'static str, message: &str, counts: Counts) {
    let failed = Failed { counts, ..Failed::for_good(kind, message) };
    let _: Said = hold.say(&Word::Failed(failed)).await;
}

/// Comes back when the recorder has told of something: somebody has got in with this password, and until the server knows
/// that, nobody else is given a task of it.
async fn in_at_the_recorder(mut progress: watch::Receiver<Progress>) {
    if progress.wait_for(|progress| progress.found > 0).await.is_err() {
        // The work is over.
        pending::<()>().await;
    }
}

fn how_far(progress: &Progress) -> Far {
    let Progress { found, found_bytes, stored, there, failed, settled_bytes, now, .. } = progress;
    let coming: u64 = now.iter().map(Coming::came).sum();
    Far { files: stored + there + failed, of: *found, bytes: settled_bytes + coming, of_bytes: *found_bytes }
}
