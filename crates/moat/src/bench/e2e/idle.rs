//! What an idle connection costs each side in memory.

use std::time::Duration;

use anyhow::{Context, Result};
use moat_auditor::bench::{Goal, Row};
use tokio::task::LocalSet;

use super::super::fresh::teller;
use super::super::process::Interrupt;
use super::sides::{E2e, Kind, Side};

/// Most of an idle connection with TLS, in KiB.
const IDLE_KIB_MAX: f64 = 20.0;
/// Connections that are opened one after the other before others are waited for.
const AT_ONCE: usize = 32;
/// How long memory is left to come to rest.
const REST: Duration = Duration::from_millis(700);

/// Rows for `count` idle connections of each side; none for none.
pub(super) fn rows(
    site: &E2e,
    sides: &[Side],
    count: usize,
    interrupt: &Interrupt,
) -> Result<Vec<Row>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for side in sides.iter().filter(|side| side.kind != Kind::EnvoyAsking) {
        let kib = each_kib(site, side, count, interrupt).with_context(|| side.name.clone())?;
        eprintln!("idle       {:<22} {kib:>7.1} KiB each of {count}", side.name);
        found.push((side.kind, side.name.clone(), kib));
    }
    let ours = found.iter().find(|(kind, ..)| *kind == Kind::Moat).map(|(.., kib)| *kib);
    let ours = ours.context("nothing was measured")?;
    let figure = "memory of an idle connection";
    let mut rows = vec![Row::new(figure, ours, "KiB").should_be(Goal::AtMost(IDLE_KIB_MAX))];
    // Few connections may fit into what a peer had already.
    let peers = found.iter().filter(|(kind, _, kib)| *kind != Kind::Moat && *kib > 0.0);
    for (_, name, kib) in peers {
        rows.push(Row::new(figure, ours, "KiB").beside(name, *kib));
    }
    Ok(rows)
}

fn each_kib(site: &E2e, side: &Side, count: usize, interrupt: &Interrupt) -> Result<f64> {
    let client = teller(site.dir(), side.port, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        // What the first ones make a side set up is not theirs.
        let mut open = Vec::new();
        for _ in 0..AT_ONCE {
            open.push(client.connect(moat_tls::ALPN_HTTP1).await?);
        }
        tokio::time::sleep(REST).await;
        let before = side.memory_mb()?;
        for _ in 0..count {
            open.push(client.connect(moat_tls::ALPN_HTTP1).await?);
            interrupt.pause(Duration::ZERO)?;
        }
        tokio::time::sleep(REST).await;
        let grown = side.memory_mb()? - before;
        drop(open);
        Ok(grown * 1e6 / 1024.0 / count as f64)
    })
}
