//! What the queue of export tasks promises: every task once, whatever dies or stands still; sheets of every program; and
//! passwords with nobody but who needs them.

mod broken;
mod canary;
mod chaos;
mod crew;
mod falls;
mod latecomer;
mod place;
mod programs;
mod search;
mod sheets;

pub use canary::recorder_canary;
pub use chaos::{QueueChaos, queue_chaos};
pub use sheets::{Sheets, sheets};
