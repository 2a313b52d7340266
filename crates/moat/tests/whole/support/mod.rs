//! The harness: certificates, the gateway's process, the service behind it, callers before it.

mod client;
mod envoy;
mod gateway;
mod pki;
mod service;

pub(crate) use client::{Answer, Client, Raw, SendBody, request, statuses, tls};
pub(crate) use envoy::{Envoy, program as envoy_program};
pub(crate) use gateway::{Gateway, Options, free_address, is_root, moat, proc_status};
pub(crate) use pki::{Lists, Pki, now_s};
pub(crate) use service::{Mode, Pipe, Service};

use std::io::Write;
use std::time::{Duration, Instant};

/// Says something that a passing test is allowed to say: libtest keeps back what macros print.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Waits until `done` gives something; fails the test with `what` after `wait`.
pub(crate) async fn eventually<T>(
    what: &str,
    wait: Duration,
    mut done: impl FnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + wait;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Calls on one connection that are masked and recorded; the number of the last one's record.
pub(crate) async fn calls(pki: &Pki, gateway: &Gateway, count: usize) -> u64 {
    let identity = pki.identity("teller");
    let mut client = Client::connect(pki, gateway.address, &identity, false).await.unwrap();
    let mut last = 0;
    for _ in 0..count {
        let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        last = answer.header("x-moat-record").parse().unwrap();
    }
    last
}
