//! `framehaul worker`: tasks of a real daemon, recordings of simulated recorders, and the two clients that are not ours.

mod answers;
mod clients;
mod drained;
mod ended;
mod gateway;
mod stage;
mod taken_again;
