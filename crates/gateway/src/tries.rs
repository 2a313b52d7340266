//! The tries of one call: to which endpoints it went, which one is under way, and when another one
//! may be made.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, StatusCode};
use moat_config::Retry;
use moat_model::code::upstream as codes;
use moat_model::{Code, Refusal};
use moat_net::adaptive::Sample;
use moat_net::body::Incoming;
use moat_net::service::{Entry, Flight, Verdict};

use crate::body::OutBody;
use crate::call::Call;
use crate::generation::RouteRules;
use crate::headers;
use crate::record;
use crate::worker;

/// Most tries of one call beside the first.
pub(crate) const RETRIES_MAX: usize = 2;
/// Bounds of the pause before the same endpoint is tried again, in milliseconds.
const PAUSE_MS_MIN: u64 = 10;
const PAUSE_MS_MAX: u64 = 200;

/// See the module.
#[derive(Default)]
pub(crate) struct Tries {
    /// The try under way, and what its answer's head says of the service.
    flight: RefCell<Option<(Flight, Verdict)>>,
    /// Endpoints in the order of the tries, each with the code of what went wrong.
    made: RefCell<Vec<(SocketAddr, &'static str)>>,
    /// Its place among the calls that the service carries.
    entry: RefCell<Option<Entry>>,
    head_us: Cell<u64>,
    /// After what time the caller may try again, in milliseconds; 0 is unknown.
    pub(crate) retry_ms: Cell<u64>,
}

impl Tries {
    /// The call takes its place among those that the service carries.
    pub(crate) fn enter(&self, entry: Option<Entry>) {
        *self.entry.borrow_mut() = entry;
    }

    /// Gives the place back.
    fn leave(&self, sample: Option<Sample>) {
        let entry = self.entry.borrow_mut().take();
        if let Some(entry) = entry {
            entry.leave(sample);
        }
    }

    /// A try begins.
    pub(crate) fn board(&self, flight: Flight) {
        self.made.borrow_mut().push((flight.address(), ""));
        *self.flight.borrow_mut() = Some((flight, Verdict::Failed));
    }

    /// The request is about to be sent.
    pub(crate) fn depart(&self) {
        if let Some((flight, _)) = self.flight.borrow_mut().as_mut() {
            flight.depart();
        }
    }

    /// The answer's head has come.
    pub(crate) fn head(&self, response: &http::Response<Incoming>, is_grpc: bool) {
        if let Some((flight, verdict)) = self.flight.borrow_mut().as_mut() {
            let took = flight.head();
            self.head_us.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            let has_failed = is_failure(response.status(), response.headers(), is_grpc);
            *verdict = if has_failed { Verdict::Failed } else { Verdict::Answered };
        }
    }

    /// Notes what went wrong with the last try.
    fn blame(&self, code: &'static Code) {
        if let Some((_, blamed)) = self.made.borrow_mut().last_mut() {
            *blamed = code.id;
        }
    }

    /// Endpoints that were tried.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.made.borrow().iter().map(|(address, _)| *address).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.made.borrow().len()
    }

    /// For the record: each try with what went wrong; nothing for a single one to `only`.
    pub(crate) fn note(&self, is_only_endpoint: impl FnOnce() -> bool) -> String {
        let made = self.made.borrow();
        if made.len() <= 1 && is_only_endpoint() {
            return String::new();
        }
        let tries = made.iter().map(|(address, code)| match *code {
            "" => address.to_string(),
            code => format!("{address} {code}"),
        });
        tries.collect::<Vec<_>>().join(", ")
    }
}

/// An answer that says nothing of the request but that the service, or one behind it, is away. 500
/// is not among them: a request that breaks the service must not break it for all others.
fn is_failure(status: StatusCode, headers: &HeaderMap, is_grpc: bool) -> bool {
    let grpc = || headers.get("grpc-status").is_some_and(|status| status == "14");
    matches!(status.as_u16(), 502..=504) || (is_grpc && grpc())
}

/// Ends the try under way; what that changes about the endpoint is recorded. Without a verdict that
/// of the answer's head holds.
pub(crate) fn land(call: &Call, verdict: Option<Verdict>) {
    let landed = call.tries.flight.borrow_mut().take();
    let Some((flight, of_head)) = landed else { return };
    let address = flight.address();
    let events = flight.land(verdict.unwrap_or(of_head));
    let Some(rules) = call.rules() else { return };
    let upstream = call.generation.shared.upstreams.get(rules.route.upstream);
    let name = upstream.map_or("", |u| u.name.as_str());
    for event in events.into_iter().flatten() {
        let number = call.generation.shared.number;
        tracing::warn!(upstream = name, %address, %event, "an endpoint");
        worker::note(&call.session.worker, record::endpoint(number, name, address, &event));
    }
}

/// Ends the try under way for a reason, and says what that reason says of the endpoint.
pub(crate) fn land_refused(call: &Call, refusal: &Refusal) {
    if call.tries.flight.borrow().is_none() {
        return;
    }
    call.tries.blame(refusal.code);
    let is_ours = *refusal.code == codes::BUSY || refusal.stage != moat_model::Stage::Forward;
    let is_answer = *refusal.code == codes::ANSWER_TOO_LONG;
    land(
        call,
        Some(match (is_ours, is_answer) {
            (true, _) => Verdict::Neutral,
            (_, true) => Verdict::Answered,
            _ => Verdict::Failed,
        }),
    );
}

/// Ends the call's stay at the service after a whole answer, or one that broke off (`Some`).
pub(crate) fn finish(call: &Call, verdict: Option<Verdict>) {
    land(call, verdict);
    let head_us = call.tries.head_us.get();
    let sample = match verdict {
        None | Some(Verdict::Answered) => (head_us > 0).then_some(Sample::Done(head_us)),
        Some(Verdict::Failed) => Some(Sample::Failed),
        Some(Verdict::Neutral) => None,
    };
    call.tries.leave(sample);
}

/// The same after a refusal.
pub(crate) fn finish_refused(call: &Call, refusal: &Refusal) {
    land_refused(call, refusal);
    let is_late = *refusal.code == codes::TIMEOUT;
    let is_of_service = refusal.stage == moat_model::Stage::Forward && refusal.code.status != 503;
    call.tries.leave(match (is_late, is_of_service) {
        (true, _) => Some(Sample::Late),
        (_, true) => Some(Sample::Failed),
        _ => None,
    });
}

/// Whether a request may be sent again that may have reached the service.
pub(crate) fn may_repeat(rules: &RouteRules, headers: &HeaderMap) -> bool {
    match rules.route.retry {
        Retry::Unsent => false,
        Retry::Idempotent => true,
        Retry::Keyed => headers.get_all("idempotency-key").iter().count() == 1,
    }
}

/// A copy to send again. None of a body that streams: it is gone once it was sent.
pub(crate) fn copy(request: &http::Request<OutBody>) -> Option<http::Request<OutBody>> {
    let OutBody::Full(bytes) = request.body() else { return None };
    let mut copy = http::Request::new(OutBody::Full(bytes.clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// How long to wait before an endpoint is tried again: full jitter.
pub(crate) fn pause(chance: u64) -> Duration {
    let span = PAUSE_MS_MAX - PAUSE_MS_MIN + 1;
    Duration::from_millis(PAUSE_MS_MIN + chance.checked_rem(span).unwrap_or(0))
}

/// The time that a caller gives its call: the smaller of `grpc-timeout` (gRPC over HTTP/2) and
/// `X-Request-Deadline-Ms`. What cannot be read is no bound.
pub(crate) fn asked_time(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let grpc = text("grpc-timeout").and_then(grpc_timeout);
    let own = text("x-request-deadline-ms").and_then(digits).map(Duration::from_millis);
    grpc.into_iter().chain(own).min()
}

/// At most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = digits(number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn digits(text: &str) -> Option<u64> {
    let fine = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| text.parse().ok()).flatten()
}

/// Says how much time is left, anew for every try. An answer to gRPC may go on after its head, for
/// as long as its caller asked for; the route's own bound is only for the head.
pub(crate) fn state_time(headers: &mut HeaderMap, call: &Call) {
    let left_ms = |until: std::time::Instant| {
        let left = until.saturating_duration_since(std::time::Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX).clamp(1, 99_999_999)
    };
    headers.remove("grpc-timeout");
    match call.asked_until() {
        Some(until) if call.is_grpc => {
            headers.remove("x-request-deadline-ms");
            headers::put(headers, "grpc-timeout", &format!("{}m", left_ms(until)));
        }
        None if call.is_grpc => drop(headers.remove("x-request-deadline-ms")),
        _ => {
            let name = HeaderName::from_static("x-request-deadline-ms");
            headers.insert(name, left_ms(call.deadline()).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_grpc_writes_them() {
        let of = |text: &str| grpc_timeout(text).map(|d| d.as_micros());
        assert_eq!(of("1H"), Some(3_600_000_000));
        assert_eq!(of("250m"), Some(250_000));
        assert_eq!(of("99999999n"), Some(99_999));
        for bad in ["", "m", "1", "123456789m", "-1m", "+1m", "1x", "1 m", "1é"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_smaller_time_counts_and_nonsense_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked_time(&headers), None);
        headers.insert("grpc-timeout", "2S".parse().unwrap());
        headers.insert("x-request-deadline-ms", "300".parse().unwrap());
        assert_eq!(asked_time(&headers), Some(Duration::from_millis(300)));
        headers.insert("x-request-deadline-ms", "soon".parse().unwrap());
        assert_eq!(asked_time(&headers), Some(Duration::from_secs(2)));
    }

    #[test]
    fn only_what_says_that_the_service_is_away_counts_against_it() {
        let mut headers = HeaderMap::new();
        for (status, expected) in
            [(200, false), (404, false), (500, false), (502, true), (504, true)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_failure(status, &headers, true), expected, "{status}");
        }
        headers.insert("grpc-status", "14".parse().unwrap());
        assert!(is_failure(StatusCode::OK, &headers, true));
        assert!(!is_failure(StatusCode::OK, &headers, false));
    }

    #[test]
    fn pauses_are_bounded() {
        assert!((0..1_000).all(|n| (10..=200).contains(&pause(n).as_millis())));
    }
}
