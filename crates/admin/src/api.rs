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
use moat_model::clock::{Clock, System};
use moat_model::code::system::NOT_RUNNING;
use tokio::sync::oneshot;

use crate::messages::{FromAdmin, Heap, Row, State};
use crate::{metrics, pprof};

/// Longest wait for a reload.
const RELOAD: Duration = Duration::from_secs(30);
/// Most rows of figures that are kept.
const ROWS_MAX: usize = 100_000;
/// Longest report of calls' time that is kept, in bytes.
const LATENCY_BYTES_MAX: usize = 512 * 1024;
/// Longest profile, in bytes.
const HEAP_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for one, and how many may wait.
const HEAP: Duration = Duration::from_secs(5);
const HEAPS_MAX: usize = 16;
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
    /// Where calls' time goes, as the kernel role says it; and parts of what comes next.
    latency: RefCell<String>,
    fresh_latency: RefCell<String>,
    fresh_heap: RefCell<String>,
    /// Who asked who holds the gateway's memory.
    heap_waiting: RefCell<Vec<oneshot::Sender<String>>>,
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

    /// Takes a part of a report in the same way.
    pub(crate) fn take_latency(&self, part: usize, of: usize, text: &str) {
        let mut fresh = self.fresh_latency.borrow_mut();
        if part == 0 {
            fresh.clear();
        }
        if fresh.len().saturating_add(text.len()) <= LATENCY_BYTES_MAX {
            fresh.push_str(text);
        }
        if part + 1 == of {
            *self.latency.borrow_mut() = core::mem::take(&mut *fresh);
        }
    }

    /// The same of a profile, for those who asked for it.
    pub(crate) fn take_heap(&self, part: usize, of: usize, text: &str) {
        let mut fresh = self.fresh_heap.borrow_mut();
        if part == 0 {
            fresh.clear();
        }
        if fresh.len().saturating_add(text.len()) <= HEAP_BYTES_MAX {
            fresh.push_str(text);
        }
        if part + 1 == of {
            for waiting in self.heap_waiting.borrow_mut().drain(..) {
                // Whoever asked may have given up.
                let _ = waiting.send(fresh.clone());
            }
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
        "/metrics" => return metrics(&state, &shared.rows.borrow(), &shared.latency.borrow()),
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

fn metrics(state: &State, rows: &[Row], latency: &str) -> Answer {
    match metrics::text(state, rows, latency) {
        Ok(text) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// What the API answers.
const PATHS: &str = "GET /v1/status, GET /v1/rows, GET /v1/diff, GET /v1/latency, GET /v1/heap, \
                     GET /debug/pprof/heap, POST /v1/reload, POST /v1/rollback, POST /v1/upgrade\n";

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
        ("GET", "/v1/latency") => latency(&shared.latency.borrow()),
        ("GET", "/v1/heap") => heap(&shared, &ask).await.map_or_else(|no| no, json_text),
        ("GET", "/debug/pprof/heap") => {
            heap(&shared, &ask).await.map_or_else(|no| no, |report| pprof_of(&report))
        }
        ("POST", "/v1/reload") => reload(&shared, &ask, |id| FromAdmin::Reload { id, uid }).await,
        ("POST", "/v1/rollback") => {
            reload(&shared, &ask, |id| FromAdmin::Rollback { id, uid }).await
        }
        ("POST", "/v1/upgrade") => reload(&shared, &ask, |id| FromAdmin::Upgrade { id, uid }).await,
        (
            _,
            "/v1/status" | "/v1/rows" | "/v1/diff" | "/v1/latency" | "/v1/heap" | "/v1/reload"
            | "/v1/rollback" | "/v1/upgrade",
        ) => text(StatusCode::METHOD_NOT_ALLOWED, PATHS),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

/// Asks the gateway who holds its memory.
async fn heap(shared: &Shared, ask: &Ask) -> Result<String, Answer> {
    let (sender, receiver) = oneshot::channel();
    {
        let mut waiting = shared.heap_waiting.borrow_mut();
        waiting.retain(|waiting| !waiting.is_closed());
        if waiting.len() >= HEAPS_MAX {
            return Err(text(StatusCode::TOO_MANY_REQUESTS, "too many ask at once\n"));
        }
        waiting.push(sender);
    }
    if ask(&FromAdmin::Heap {}).is_err() {
        return Err(text(StatusCode::SERVICE_UNAVAILABLE, NOT_RUNNING.en.title));
    }
    match tokio::time::timeout(HEAP, receiver).await {
        Ok(Ok(heap)) => Ok(heap),
        _ => Err(text(StatusCode::GATEWAY_TIMEOUT, "the gateway did not answer in time\n")),
    }
}

fn json_text(report: String) -> Answer {
    answer(StatusCode::OK, "application/json", report)
}

fn pprof_of(report: &str) -> Answer {
    let Ok(Heap { code, profile }) = serde_json::from_str(report) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the gateway's answer is no profile\n");
    };
    let file = pprof::encode(&profile, code, System::new().wall_ns());
    let mut response = Response::new(Full::new(Bytes::from(file)));
    let value = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}

fn latency(report: &str) -> Answer {
    if report.is_empty() {
        return text(StatusCode::NOT_FOUND, "nobody looks at calls' time, or not yet\n");
    }
    answer(StatusCode::OK, "application/json", report.to_owned())
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
