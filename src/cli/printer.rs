//! Standard output on a thread of its own: who reads it may be slow, or gone, and uploads and signals go on.

use tokio::sync::{mpsc, oneshot};

use clap::ValueEnum;

use super::failure::{Failure, Kind};
use super::progress::Line;

/// Entries that may wait to be printed.
const WAITING: usize = 64;

/// For whom a list is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON array.
    Json,
    /// Comma-separated values with a head (RFC 4180).
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// A list that is printed entry by entry.
pub trait List: Send + 'static {
    /// What it is made of.
    type Entry: Send + 'static;

    /// Prints an entry.
    fn entry(&mut self, entry: &Self::Entry) -> Result<(), Failure>;

    /// Ends it, also where it is empty.
    fn end(&self) -> Result<(), Failure>;
}

/// A field of comma-separated values.
pub fn quoted(field: &str) -> String {
    let special = field.contains(['"', ',', '\r', '\n']);
    if special { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// What is to be printed.
enum Print<E> {
    Entry(Box<E>),
    Progress(String),
}

/// The thread that prints the list, and how far it is.
pub struct Printer<L: List> {
    orders: mpsc::Sender<Print<L::Entry>>,
    /// For the next entry.
    room: Option<mpsc::OwnedPermit<Print<L::Entry>>>,
    done: oneshot::Receiver<Result<(), Failure>>,
}

impl<L: List> Printer<L> {
    pub fn start(list: L) -> Result<Self, Failure> {
        let (orders, waiting) = mpsc::channel(WAITING);
        let (told, done) = oneshot::channel();
        let print = move || {
            // Nobody waits for it after a second signal.
            let _ = told.send(print(list, waiting));
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
    pub fn entry(&mut self, entry: L::Entry) {
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
fn print<L: List>(mut list: L, mut orders: mpsc::Receiver<Print<L::Entry>>) -> Result<(), Failure> {
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
