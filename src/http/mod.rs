//! The API: JSON over HTTP. It talks to the Supervisor and reads the journal, nothing else.

mod audit;
mod auth;
mod batches;
mod cameras;
mod condition;
mod debug;
mod destinations;
mod dto;
mod export_dto;
mod exports;
mod frames;
mod handed;
mod health;
mod host;
mod leases;
mod listen;
mod measure;
mod nvr_dto;
mod nvrs;
mod probe;
mod problem;
mod routes;
mod snapshot;
mod spec;
mod stream;
mod token;
pub mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, middleware, web};
use anyhow::Context as _;

pub use auth::Door;
pub use exports::Sheets;
pub use routes::{Access, Endpoint, ROUTES, Takes};
pub use stream::Streams;
pub use token::Token;

use crate::actors::{Hubs, Supervisor};
use crate::journal::{Journal, Ledgers, Reader};
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::tasks::Desk;

/// The longest body of a request, bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Threads that serve requests.
pub const WORKERS: usize = 2;
/// Time that requests get to end when the server stops.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the API answers from.
#[derive(Clone)]
pub struct Api {
    /// The actors.
    pub supervisor: Addr<Supervisor>,
    /// Never written to.
    pub journal: Journal,
    /// Whether every part makes progress.
    pub pulse: Pulse,
    /// The lists.
    pub reader: Reader,
    /// Who follows them.
    pub streams: Streams,
    /// Export jobs and their tasks.
    pub desk: Desk,
    /// Who reads or writes sheets of them.
    pub sheets: Sheets,
    /// The accounts.
    pub ledgers: Ledgers,
    /// The destinations: asked how they stand.
    pub hubs: Hubs,
    /// What stands before the keys of objects of which the journal does not say where they are: they are older than
    /// destinations with names.
    pub base_url: Arc<str>,
    /// This state directory's origin.
    pub origin: crate::model::Origin,
    /// The daemon's metrics.
    pub metrics: Metrics,
    /// Whom it answers.
    pub door: Arc<Door>,
    /// Whether requests may make actors panic.
    pub fault_injection: bool,
}

/// Starts the server and returns it with its handle and the address it listens on.
///
/// # Errors
///
/// When the address cannot be listened on.
pub fn start(api: Api, listen: SocketAddr) -> anyhow::Result<(Server, ServerHandle, SocketAddr)> {
    let listener =
        listen::listen(listen).with_context(|| format!("cannot listen on {listen}: choose another `http.listen`"))?;
    let server = HttpServer::new(move || {
        let api = api.clone();
        api.pulse.beat_here();
        App::new()
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .app_data(web::QueryConfig::default().error_handler(problem::bad_query))
            .app_data(web::PathConfig::default().error_handler(problem::bad_path))
            .app_data(web::Data::new(api.clone()))
            .wrap(middleware::from_fn(auth::check_host))
            .wrap(
                middleware::DefaultHeaders::new()
                    .add(("x-content-type-options", "nosniff"))
                    .add(("cache-control", "no-store")),
            )
            .wrap(middleware::from_fn(measure::measure))
            .configure(routes::configure)
    })
    // Signals belong to the daemon, and the server is stopped last.
    .disable_signals()
    .workers(WORKERS)
    .max_connections(1_024)
    .shutdown_timeout(SHUTDOWN_TIMEOUT.as_secs())
    // An answer with a task is written in two pieces: the second must not wait until the client has acknowledged the first,
    // for which it takes 40 ms.
    .tcp_nodelay(true)
    // For each connection, of an answer that is longer: most that follow a list and do not read hold just this.
    .h1_write_buffer_size(8 * 1_024)
    // Who has closed its half does not wait for the rest of a stream: its place is free at once.
    .h1_allow_half_closed(false)
    .listen(listener)
    .context("cannot listen")?;
    let address = *server.addrs().first().context("the server listens nowhere")?;
    let server = server.run();
    let handle = server.handle();
    Ok((server, handle, address))
}
