//! Every route there is, each declared once: method, path, who may take it, what answers.
//!
//! A test walks this table and asks the running daemon for each of its lines. Entries of one path stand together.

use Access::{Beat, Open, Operate, Read, Work};
use actix_web::http::Method;
use actix_web::{Route, web};

use super::auth::guard;
use super::{
    batches, cameras, debug, destinations, exports, frames, health, leases, nvrs, probe, problem, snapshot, stream,
};

/// What a route asks of whoever takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// A token of scope `read` or `operate`. Such a route changes nothing.
    Read,
    /// A token of scope `operate`. Each call is recorded.
    Operate,
    /// A token of scope `worker`. Each call is recorded that something comes of.
    Work,
    /// The same for a heartbeat, which is recorded where it is refused.
    Beat,
}

/// What the body of a route's requests may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// JSON.
    Json,
    /// JSON, CSV or an Excel workbook.
    Sheet,
}

/// Every route.
pub static ROUTES: &[Endpoint] = &[
    get("/livez", Open, || web::to(health::livez)),
    get("/readyz", Read, || web::to(health::readyz)),
    get("/metrics", Read, || web::to(health::metrics)),
    get("/api/v1/cameras", Read, || web::to(cameras::list)),
    post("/api/v1/cameras", Operate, || web::to(cameras::post)),
    put("/api/v1/cameras", Operate, || web::to(cameras::put_all)),
    post("/api/v1/cameras:probe", Operate, || web::to(probe::probe)),
    get("/api/v1/cameras/{id}", Read, || web::to(cameras::get)),
    put("/api/v1/cameras/{id}", Operate, || web::to(cameras::put)),
    delete("/api/v1/cameras/{id}", Operate, || web::to(cameras::delete)),
    post("/api/v1/cameras/{id}/pause", Operate, || web::to(cameras::pause)),
    post("/api/v1/cameras/{id}/resume", Operate, || web::to(cameras::resume)),
    post("/api/v1/cameras/{id}/restart", Operate, || web::to(cameras::restart)),
    get("/api/v1/cameras/{id}/snapshot.jpg", Read, || web::to(snapshot::snapshot)),
    get("/api/v1/cameras/{id}/frames", Read, || web::to(frames::page)),
    get("/api/v1/cameras/{id}/frames/stream", Read, || web::to(stream::camera)),
    get("/api/v1/batches", Read, || web::to(batches::list)),
    post("/api/v1/batches", Operate, || web::to(batches::post)),
    get("/api/v1/batches/{id}", Read, || web::to(batches::get)),
    delete("/api/v1/batches/{id}", Operate, || web::to(batches::delete)),
    post("/api/v1/batches/{id}/cancel", Operate, || web::to(batches::cancel)),
    get("/api/v1/exports", Read, || web::to(exports::list)),
    post_sheet("/api/v1/exports", Operate, || web::to(exports::post)),
    get("/api/v1/exports/{id}", Read, || web::to(exports::get)),
    delete("/api/v1/exports/{id}", Operate, || web::to(exports::delete)),
    get("/api/v1/exports/{id}/tasks", Read, || web::to(exports::tasks)),
    post("/api/v1/exports/{id}/cancel", Operate, || web::to(exports::cancel)),
    post("/api/v1/exports/{id}/retry", Operate, || web::to(exports::retry)),
    post("/api/v1/leases", Work, || web::to(leases::take)),
    post("/api/v1/leases/{id}/heartbeat", Beat, || web::to(leases::heartbeat)),
    post("/api/v1/leases/{id}/complete", Work, || web::to(leases::complete)),
    post("/api/v1/leases/{id}/fail", Work, || web::to(leases::fail)),
    get("/api/v1/tasks/next", Work, || web::to(leases::next_as_text)),
    get("/api/v1/destinations", Read, || web::to(destinations::list)),
    get("/api/v1/destinations/{name}", Read, || web::to(destinations::get)),
    get("/api/v1/nvrs", Read, || web::to(nvrs::list)),
    get("/api/v1/nvrs/{id}", Read, || web::to(nvrs::get)),
    put("/api/v1/nvrs/{id}", Operate, || web::to(nvrs::put)),
    delete("/api/v1/nvrs/{id}", Operate, || web::to(nvrs::delete)),
    get("/api/v1/nvrs/{id}/status", Read, || web::to(nvrs::status)),
    get("/api/v1/nvrs/{id}/channels", Read, || web::to(nvrs::channels)),
    get("/api/v1/nvrs/{id}/recordings", Read, || web::to(nvrs::recordings)),
    get("/api/v1/frames/stream", Read, || web::to(stream::all)),
    post("/api/v1/debug/panic", Operate, || web::to(debug::panic)),
    post("/api/v1/debug/hang", Operate, || web::to(debug::hang)),
];

/// One line of the table.
#[derive(Debug)]
pub struct Endpoint {
    /// The method it answers.
    pub method: Method,
    /// Its path, with `{id}` for whatever may stand there.
    pub path: &'static str,
    /// Who may take it.
    pub access: Access,
    /// What is sent to it.
    pub takes: Takes,
    handler: fn() -> Route,
}

const fn get(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access, takes: Takes::Json, handler }
}

const fn put(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::PUT, path, access, takes: Takes::Json, handler }
}

const fn post(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::POST, path, access, takes: Takes::Json, handler }
}

const fn post_sheet(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::POST, path, access, takes: Takes::Sheet, handler }
}

const fn delete(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::DELETE, path, access, takes: Takes::Json, handler }
}

/// Registers the table. What is not in it is answered as well: whoever has no token does not learn what is there.
pub fn configure(config: &mut web::ServiceConfig) {
    for endpoints in ROUTES.chunk_by(|one, next| one.path == next.path) {
        let mut resource = web::resource(endpoints[0].path);
        for endpoint in endpoints {
            let route = (endpoint.handler)().method(endpoint.method.clone());
            resource = resource.route(guard(route, endpoint.access, endpoint.takes));
        }
        let allow: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.method.as_str()).collect();
        config.service(resource.default_service(guard(problem::no_such_method(allow.join(", ")), Read, Takes::Json)));
    }
    config.default_service(guard(problem::no_such_route(), Read, Takes::Json));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_route_is_declared_once_and_can_be_reached() {
        let lines: BTreeSet<(&str, &str)> = ROUTES.iter().map(|e| (e.path, e.method.as_str())).collect();
        assert_eq!(lines.len(), ROUTES.len());
        // A second resource of the same path would never be asked.
        let paths: BTreeSet<&str> = ROUTES.iter().map(|e| e.path).collect();
        assert_eq!(ROUTES.chunk_by(|one, next| one.path == next.path).count(), paths.len());
    }

    #[test]
    fn what_changes_something_is_for_operators() {
        for endpoint in ROUTES {
            let reads = matches!(endpoint.access, Open | Read);
            // A line of text is asked for as the original's clients do.
            let gets = endpoint.method == Method::GET && endpoint.path != "/api/v1/tasks/next";
            assert_eq!(reads, gets, "{endpoint:?}");
        }
        let open: Vec<&str> = ROUTES.iter().filter(|e| e.access == Open).map(|e| e.path).collect();
        assert_eq!(open, ["/livez"]);
    }
}
