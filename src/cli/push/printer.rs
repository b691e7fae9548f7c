//! Standard output on a thread of its own: who reads it may be slow, or gone, and uploads and signals go on.

use tokio::sync::{mpsc, oneshot};

use super::list::{List, ListFormat};
use crate::cli::failure::{Failure, Kind};
use crate::cli::progress::Line;
use crate::push::Entry;

/// Entries that may wait to be printed.
const WAITING: usize = 64;

/// What is to be printed.
enum Print {
    Entry(Box<Entry>),
    Progress(String),
}

/// The thread that prints the list, and how far it is.
pub struct Printer {
    orders: mpsc::Sender<Print>,
    /// For the next entry.
    room: Option<mpsc::OwnedPermit<Print>>,
    done: oneshot::Receiver<Result<(), Failure>>,
}

impl Printer {
    pub fn start(format: ListFormat) -> Result<Self, Failure> {
        let (orders, waiting) = mpsc::channel(WAITING);
        let (told, done) = oneshot::channel();
        let print = move || {
            // Nobody waits for it after a second signal.
            let _ = told.send(print(List::new(format), waiting));
        };
        let failed = |error| Failure::new(Kind::Other, format!("cannot start a thread: {error}"));
        std::thread::Builder::new().name("list".to_owned()).spawn(print).map_err(failed)?;
        Ok(Self { orders, room: None, done })
    }

    /// Waits until an entry can be taken.
    pub async fn room(&mut self) {
        if self.room.is_none() {
            // An error means that the thread is gone, and nothing is printed any more.
            self.room = self.orders.clone().reserve_owned().await.ok();
        }
    }

    /// Prints an entry, for which there is [room](Self::room).
    pub fn entry(&mut self, entry: Entry) {
        if let Some(room) = self.room.take() {
            room.send(Print::Entry(Box::new(entry)));
        }
    }

    /// Shows how far it is, unless there is enough to print.
    pub fn progress(&mut self, text: impl FnOnce() -> String) {
        if Line::is_shown()
            && let Ok(room) = self.orders.try_reserve()
        {
            room.send(Print::Progress(text()));
        }
    }

    /// Waits until all is printed.
    pub async fn end(self) -> Result<(), Failure> {
        let Self { orders, room, done } = self;
        drop((orders, room));
        match done.await {
            Ok(Err(Failure::Unread)) | Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(Kind::Other, "printing the list broke off")),
        }
    }
}

/// Prints until there is no more. Where that fails, what comes after it is taken and dropped.
fn print(mut list: List, mut orders: mpsc::Receiver<Print>) -> Result<(), Failure> {
    let (mut line, mut told) = (Line::new(), Ok(()));
    while let Some(order) = orders.blocking_recv() {
        match order {
            Print::Entry(entry) if told.is_ok() => {
                line.clear();
                told = list.entry(&entry);
            }
            Print::Entry(_) => {}
            Print::Progress(text) => line.show(|| text),
        }
    }
    line.clear();
    told.and_then(|()| list.end())
}
