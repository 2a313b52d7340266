//! The two small HTTP services: probes on a loopback port, the API on a Unix socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use moat_model::code::system::NOT_RUNNING;
use tokio::sync::oneshot;

use crate::messages::{FromAdmin, Row, State};
use crate::metrics;

/// Longest wait for a reload.
const RELOAD: Duration = Duration::from_secs(30);
/// Most rows of figures that are kept.
const ROWS_MAX: usize = 100_000;
/// Most reloads asked for at once.
const RELOADS_MAX: usize = 16;

type Reloaded = Result<serde_json::Value, String>;

/// What both services share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: RefCell<State>,
    rows: RefCell<Vec<Row>>,
    /// Parts of the rows to come.
    fresh: RefCell<Vec<Row>>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Reloaded>>>,
    next_id: Cell<u64>,
}

impl Shared {
    /// Takes a part of the rows; what has begun anew replaces what was not finished.
    pub(crate) fn take_rows(&self, part: usize, of: usize, rows: Vec<Row>) {
        let mut fresh = self.fresh.borrow_mut();
        if part == 0 {
            fresh.clear();
        }
        if fresh.len().saturating_add(rows.len()) <= ROWS_MAX {
            fresh.extend(rows);
        }
        if part + 1 == of {
            *self.rows.borrow_mut() = core::mem::take(&mut *fresh);
        }
    }

    pub(crate) fn reloaded(&self, id: u64, result: Reloaded) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
            // Whoever asked may have given up.
            let _ = waiting.send(result);
        }
    }
}

/// Sends a message to the supervisor.
pub(crate) type Ask = Rc<dyn Fn(&FromAdmin) -> std::io::Result<()>>;

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}

fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.into())
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => answer(status, "application/json", text),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// `/livez`, `/readyz` and `/startupz`, each with `?verbose`; and `/metrics`.
pub(crate) fn probe(shared: &Shared, request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    let state = shared.state.borrow();
    let good = match request.uri().path() {
        "/metrics" => return metrics(&state, &shared.rows.borrow()),
        "/livez" => state.is_alive(),
        "/readyz" => state.is_ready(),
        "/startupz" => state.generation > 0,
        _ => return text(StatusCode::NOT_FOUND, "try /livez, /readyz, /startupz or /metrics\n"),
    };
    let mut body = String::new();
    if request.uri().query() == Some("verbose") {
        for condition in &state.conditions {
            let mark = if condition.holds { "[+]" } else { "[-]" };
            let _ = writeln!(body, "{mark} {}", condition.name);
        }
    }
    body.push_str(if good { "ok\n" } else { "not ready\n" });
    text(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn metrics(state: &State, rows: &[Row]) -> Answer {
    match metrics::text(state, rows) {
        Ok(text) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// What the API answers.
const PATHS: &str = "GET /v1/status, GET /v1/rows, GET /v1/diff, POST /v1/reload, \
                     POST /v1/rollback, POST /v1/upgrade\n";

/// See [`PATHS`].
///
/// `uid` is the user at the other end.
pub(crate) async fn api(
    shared: Rc<Shared>,
    ask: Ask,
    uid: Option<u32>,
    request: Request<Incoming>,
) -> Answer {
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/v1/status") => json(StatusCode::OK, &*shared.state.borrow()),
        ("GET", "/v1/diff") => reload(&shared, &ask, |id| FromAdmin::Diff { id }).await,
        ("GET", "/v1/rows") => json(StatusCode::OK, &*shared.rows.borrow()),
        ("POST", "/v1/reload") => reload(&shared, &ask, |id| FromAdmin::Reload { id, uid }).await,
        ("POST", "/v1/rollback") => {
            reload(&shared, &ask, |id| FromAdmin::Rollback { id, uid }).await
        }
        ("POST", "/v1/upgrade") => reload(&shared, &ask, |id| FromAdmin::Upgrade { id, uid }).await,
        (
            _,
            "/v1/status" | "/v1/rows" | "/v1/diff" | "/v1/reload" | "/v1/rollback" | "/v1/upgrade",
        ) => text(StatusCode::METHOD_NOT_ALLOWED, PATHS),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

async fn reload(shared: &Shared, ask: &Ask, message: impl Fn(u64) -> FromAdmin) -> Answer {
    if shared.waiting.borrow().len() >= RELOADS_MAX {
        return text(StatusCode::TOO_MANY_REQUESTS, "too many reloads at once\n");
    }
    let id = shared.next_id.replace(shared.next_id.get() + 1);
    let (sender, receiver) = oneshot::channel();
    shared.waiting.borrow_mut().insert(id, sender);
    if ask(&message(id)).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, NOT_RUNNING.en.title);
    }
    let result = tokio::time::timeout(RELOAD, receiver).await;
    shared.waiting.borrow_mut().remove(&id);
    match result {
        Ok(Ok(Ok(done))) => json(StatusCode::OK, &done),
        Ok(Ok(Err(problems))) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            json(status, &serde_json::json!({ "refused": problems }))
        }
        _ => text(StatusCode::GATEWAY_TIMEOUT, "the reload did not end in time\n"),
    }
}
