//! Every route there is, each declared once: method, path, who may take it, what answers.
//!
//! A test walks this table and asks the running daemon for each of its lines. Entries of one path stand together.

use Access::{Open, Operate, Read};
use actix_web::http::Method;
use actix_web::{Route, web};

use super::auth::guard;
use super::{cameras, debug, destinations, frames, health, probe, problem, snapshot, stream};

/// What a route asks of whoever takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// A token, of either scope. Such a route changes nothing.
    Read,
    /// A token of scope `operate`. Each call is recorded.
    Operate,
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
    get("/api/v1/destinations", Read, || web::to(destinations::list)),
    get("/api/v1/destinations/{name}", Read, || web::to(destinations::get)),
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
    handler: fn() -> Route,
}

const fn get(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access, handler }
}

const fn put(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::PUT, path, access, handler }
}

const fn post(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::POST, path, access, handler }
}

const fn delete(path: &'static str, access: Access, handler: fn() -> Route) -> Endpoint {
    Endpoint { method: Method::DELETE, path, access, handler }
}

/// Registers the table. What is not in it is answered as well: whoever has no token does not learn what is there.
pub fn configure(config: &mut web::ServiceConfig) {
    for endpoints in ROUTES.chunk_by(|one, next| one.path == next.path) {
        let mut resource = web::resource(endpoints[0].path);
        for endpoint in endpoints {
            let route = (endpoint.handler)().method(endpoint.method.clone());
            resource = resource.route(guard(route, endpoint.access));
        }
        let allow: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.method.as_str()).collect();
        config.service(resource.default_service(guard(problem::no_such_method(allow.join(", ")), Read)));
    }
    config.default_service(guard(problem::no_such_route(), Read));
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
            let reads = endpoint.method == Method::GET;
            assert_eq!(endpoint.access != Operate, reads, "{endpoint:?}");
        }
        let open: Vec<&str> = ROUTES.iter().filter(|e| e.access == Open).map(|e| e.path).collect();
        assert_eq!(open, ["/livez"]);
    }
}
