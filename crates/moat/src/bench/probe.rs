//! What is checked before anything is measured: both sides do the work they are measured for.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::{CipherSuite, HandshakeKind, NamedGroup};

use super::fresh::teller;
use super::site::{DOCUMENT, Site, TARGET};
use crate::demo::client::{Reply, get};

/// Longest check of one side.
const WAIT: Duration = Duration::from_secs(20);
/// The fields that are masked.
const MASKED: [&str; 6] =
    ["/owner/name", "/owner/id_card", "/owner/mobile", "/owner/email", "/owner/address", "/card"];
/// Calls that the check of a side makes.
pub(crate) const CALLS: u64 = 1;

/// What a caller and a side came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shaken {
    suite: CipherSuite,
    pub(crate) group: NamedGroup,
}

impl core::fmt::Display for Shaken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}, {:?}", self.suite, self.group)
    }
}

/// Fails unless nginx passes the document on as it is and does a full handshake every time.
/// Gives what was negotiated with a caller that offers this group alone, or all of Moat's.
pub(crate) fn proxy(site: &Site, group: Option<NamedGroup>) -> Result<Shaken> {
    let (reply, negotiated) = ask(site, site.proxy, group).context("nginx")?;
    ensure!(reply.body == DOCUMENT.as_bytes(), "nginx changes the document");
    Ok(negotiated)
}

/// Fails unless Moat masks six fields, names the record and does a full handshake every time.
/// Gives what was negotiated, as [`proxy`].
pub(crate) fn gateway(site: &Site, group: Option<NamedGroup>) -> Result<Shaken> {
    let (reply, negotiated) = ask(site, site.gateway, group).context("moat")?;
    let body = reply.json();
    let is_masked = |pointer: &str| {
        body.pointer(pointer).and_then(|value| value.as_str()).is_some_and(|s| s.contains('*'))
    };
    ensure!(MASKED.iter().all(|pointer| is_masked(pointer)), "Moat does not mask what it should");
    ensure!(reply.record().is_some(), "Moat's answer names no record");
    Ok(negotiated)
}

/// One call, then a second connection of the same caller, which would resume if it could.
fn ask(site: &Site, port: u16, group: Option<NamedGroup>) -> Result<(Reply, Shaken)> {
    let client = teller(site.dir(), port, group)?;
    wait(async {
        let reply = client.keep().await?.call(get(TARGET)?).await?;
        ensure!(reply.status == 200, "a call was answered {}", reply.status);
        let stream = client.connect(moat_tls::ALPN_HTTP1).await?;
        let (_, tls) = stream.get_ref();
        let is_full = tls.handshake_kind().is_some_and(|kind| kind != HandshakeKind::Resumed);
        ensure!(is_full, "a session was resumed");
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = tls.negotiated_key_exchange_group().map(|group| group.name());
        let (suite, group) = suite.zip(group).context("nothing was negotiated")?;
        Ok((reply, Shaken { suite, group }))
    })
}

fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(WAIT, work).await? })
}
