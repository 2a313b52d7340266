//! A small latency table: what a caller sees, and how much of it was the service.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::client::{get, post};
use super::say::Say;
use super::setup::Setup;

/// Calls of each kind.
const CALLS: usize = 300;

pub(crate) async fn table(setup: &Setup, say: &mut Say) -> Result<()> {
    say.note("                          p50        p99");
    let client = setup.client(Some("teller"))?;
    let mut kept = client.keep().await?;
    let mut reads = Vec::new();
    for _ in 0..CALLS {
        let begun = Instant::now();
        let reply = kept.call(get("/v1/accounts/1001")?).await?;
        reads.push(begun.elapsed().as_micros());
        ensure!(reply.status == 200, "a read was answered {}", reply.status);
    }
    row(say, "read, kept connection", &mut reads)?;
    let mut transfers = Vec::new();
    for _ in 0..CALLS {
        let body = r#"{"amount":"0.01","to":{"account":"1002"},"note":"latency"}"#;
        let begun = Instant::now();
        let reply = kept.call(post("/v1/accounts/1001/transfer", body)?).await?;
        transfers.push(begun.elapsed().as_micros());
        ensure!(reply.status == 200, "a transfer was answered {}", reply.status);
    }
    row(say, "transfer, two records", &mut transfers)?;
    let mut connections = Vec::new();
    for _ in 0..CALLS / 3 {
        let begun = Instant::now();
        client.call(get("/v1/accounts/1001")?).await?;
        connections.push(begun.elapsed().as_micros());
    }
    row(say, "read, new connection", &mut connections)
}

fn row(say: &Say, name: &str, microseconds: &mut [u128]) -> Result<()> {
    microseconds.sort_unstable();
    let at = |share: usize| microseconds.get((microseconds.len() - 1) * share / 100).copied();
    let (p50, p99) = at(50).zip(at(99)).context("nothing was measured")?;
    say.note(&format!("{name:<22} {:>7} µs {:>7} µs", p50, p99));
    Ok(())
}
