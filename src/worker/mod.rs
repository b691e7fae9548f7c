//! A worker: takes export tasks from a server, on any machine, and stores the recordings that they ask for.
//!
//! A task is held by a lease, which lives for some seconds from one heartbeat to the next. Whoever does not know that the
//! lease is still its own stops, and says nothing more of the task: somebody else may have it by then. What was stored
//! until then is stored, and found by whoever does the task again, because a recording always has the same key and nothing
//! is ever overwritten.
//!
//! `lease` is what the two say to each other, `server` says it, `order` makes an export of a task, `hold` keeps a lease,
//! `slot` does one task after the other by what is in `work`, `outcome` finds the last word for each, `passwords` reads those
//! that lie in files, and `news` is what the worker itself has to tell. `single` is a task whose lease somebody else holds.

mod hold;
mod lease;
mod news;
mod order;
mod outcome;
mod passwords;
mod server;
mod single;
mod slot;
mod work;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};

pub use lease::Counts;
pub use news::{Current, Ending, News, Task};
pub use server::{Server, ServerError};
pub use single::{LastWord, Single};

use self::slot::Slot;
use self::work::Tools;
use crate::config::Destination;
use crate::media;

/// Makes a destination of its URL, with the credentials that this machine has.
pub type Destinations = Box<dyn Fn(&str) -> Result<Destination, String> + Send + Sync>;

/// A worker: whom it asks, and what it has for its work.
#[derive(Debug)]
pub struct Worker {
    /// Who hands out tasks.
    pub server: Server,
    /// What it is called; each slot has a number behind it.
    pub name: String,
    /// Tasks at a time.
    pub parallel: usize,
    /// Whether it ends when no task is left.
    pub once: bool,
    /// What it has for its work.
    pub equipment: Equipment,
}

/// What a worker has for its work.
pub struct Equipment {
    /// Where the results of tasks go that do not say where: a URL.
    pub to: Option<String>,
    /// Makes a destination of such a URL.
    pub destinations: Destinations,
    /// Works on recordings that are wanted in another form.
    pub media: Option<media::Launcher>,
    /// Where files lie while they are worked on.
    pub workshop: PathBuf,
    /// How long a recorder or a bucket may fail until a task is given back.
    pub patience: Duration,
}

impl fmt::Debug for Equipment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Equipment").field("to", &self.to).finish_non_exhaustive()
    }
}

/// A worker that works.
#[derive(Debug)]
pub struct Working {
    /// What it tells, as it happens.
    pub news: mpsc::UnboundedReceiver<News>,
    /// What each slot does.
    pub slots: Vec<watch::Receiver<Current>>,
    stop: watch::Sender<bool>,
}

impl Working {
    /// Has it give back what it holds, and end.
    pub fn stop(&self) {
        // An error means that it has ended.
        let _ = self.stop.send(true);
    }
}

impl Worker {
    /// Begins. The future is the work: it ends when no task is left, if that was asked for, or when it is told to.
    ///
    /// # Errors
    ///
    /// The future's: the server refuses the token. What was in hand by then has come to its end, or to that of its lease.
    pub fn start(self) -> (Working, impl Future<Output = Result<(), ServerError>>) {
        let (tell, news) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (refused, _) = watch::channel(false);
        let Self { server, name, parallel, once, equipment } = self;
        let (server, tools) = (Arc::new(server), Arc::new(Tools::new(equipment)));
        let (mut slots, mut shown) = (Vec::new(), Vec::new());
        for number in 1..=parallel.max(1) {
            let (show, current) = watch::channel(Current::Asking);
            shown.push(current);
            slots.push(Slot {
                server: server.clone(),
                name: format!("{name}-{number}"),
                once,
                tools: tools.clone(),
                tell: tell.clone(),
                show,
                stopped: stopped.clone(),
                refused: refused.clone(),
            });
        }
        let ends = async move { join_all(slots.into_iter().map(Slot::run)).await.into_iter().collect() };
        (Working { news, slots: shown, stop }, ends)
    }
}
