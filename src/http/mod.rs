//! The API: JSON over HTTP. It talks to the Supervisor and reads the journal, nothing else.

mod auth;
mod cameras;
mod debug;
mod dto;
mod frames;
mod health;
mod listen;
mod problem;
mod spec;
mod stream;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use actix::Addr;
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, middleware, web};
use anyhow::Context as _;

pub use stream::Streams;
pub use token::Token;

use crate::actors::{Hub, Supervisor};
use crate::journal::{Journal, Ledgers, Reader};
use crate::metrics::Metrics;
use crate::storage::Bucket;

/// The longest body of a request, bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the API answers from.
#[derive(Clone)]
pub struct Api {
    /// The actors.
    pub supervisor: Addr<Supervisor>,
    /// Asked whether it makes progress, never written to.
    pub journal: Journal,
    /// The lists.
    pub reader: Reader,
    /// Who follows them.
    pub streams: Streams,
    /// The accounts.
    pub ledgers: Ledgers,
    /// Asked how full it is.
    pub hub: Hub,
    /// Knows the objects' URLs.
    pub bucket: Arc<dyn Bucket>,
    /// This state directory's origin.
    pub origin: crate::model::Origin,
    /// The daemon's metrics.
    pub metrics: Metrics,
    /// What a request must carry.
    pub token: Arc<Token>,
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
        App::new()
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .app_data(web::QueryConfig::default().error_handler(problem::bad_query))
            .app_data(web::PathConfig::default().error_handler(problem::bad_path))
            .app_data(web::Data::new(api.clone()))
            .wrap(
                middleware::DefaultHeaders::new()
                    .add(("x-content-type-options", "nosniff"))
                    .add(("cache-control", "no-store")),
            )
            // Scopes that have no answer of their own ask this one, not the scope around them.
            .default_service(problem::no_such_route())
            .service(web::resource("/livez").get(health::livez).default_service(problem::no_such_method()))
            .service(
                web::scope("")
                    .wrap(middleware::from_fn(auth::require_token))
                    .service(web::resource("/readyz").get(health::readyz).default_service(problem::no_such_method()))
                    .service(web::resource("/metrics").get(health::metrics).default_service(problem::no_such_method()))
                    .service(
                        web::scope("/api/v1")
                            .service(
                                web::resource("/cameras").get(cameras::list).default_service(problem::no_such_method()),
                            )
                            .service(
                                web::resource("/cameras/{id}")
                                    .put(cameras::put)
                                    .get(cameras::get)
                                    .delete(cameras::delete)
                                    .default_service(problem::no_such_method()),
                            )
                            .service(
                                web::resource("/cameras/{id}/frames")
                                    .get(frames::page)
                                    .default_service(problem::no_such_method()),
                            )
                            .service(
                                web::resource("/cameras/{id}/frames/stream")
                                    .get(stream::camera)
                                    .default_service(problem::no_such_method()),
                            )
                            .service(
                                web::resource("/frames/stream")
                                    .get(stream::all)
                                    .default_service(problem::no_such_method()),
                            )
                            .service(
                                web::resource("/debug/panic")
                                    .post(debug::panic)
                                    .default_service(problem::no_such_method()),
                            ),
                    )
                    .default_service(problem::no_such_route()),
            )
    })
    // Signals belong to the daemon, and the server is stopped last.
    .disable_signals()
    .workers(2)
    .max_connections(1_024)
    .shutdown_timeout(2)
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
