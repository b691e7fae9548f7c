//! Export jobs, tasks and leases at a real daemon: sheets in and back, workers that take, say and fall silent, a daemon
//! that is killed.

mod alone;
mod canary;
mod client;
mod kills;
mod large;
mod leases;
mod scopes;
mod sheets;
mod takes;
mod text;
