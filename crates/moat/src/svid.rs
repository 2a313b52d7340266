//! `moat svid`: identities from the SPIFFE Workload API, written where Moat reads and watches them.
//!
//! A process of its own, as the user that the agent knows: neither the supervisor nor the gateway ever
//! speaks to the agent. What came last stays in its folder while the agent is away; that it has
//! expired is the gateway's to see.

mod call;
mod folder;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use moat_rpc::workload::Svid;

use crate::cli_svid::SvidArgs;

/// Pause before the agent is called again; doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &SvidArgs) -> Result<ExitCode> {
    let socket = socket(&args.socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let follow = follow(&socket, args);
    runtime.block_on(async {
        if !args.once {
            return follow.await;
        }
        let wait = Duration::from_secs(args.wait_s);
        tokio::time::timeout(wait, follow).await.with_context(|| {
            format!("{} has given no identity in {} s", args.socket, args.wait_s)
        })?
    })?;
    Ok(ExitCode::SUCCESS)
}

/// SPIFFE Workload Endpoint §4: a URI of a Unix socket. Others are not taken: over TCP nobody could
/// tell who asks.
fn socket(text: &str) -> Result<PathBuf> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
    let path = path.filter(|path| !path.is_empty()).with_context(|| {
        format!("`{text}` is no Unix socket: write unix:/run/spire/agent.sock, for example")
    })?;
    Ok(PathBuf::from(path))
}

/// Takes what comes, and calls again when the stream ends.
async fn follow(socket: &Path, args: &SvidArgs) -> Result<()> {
    let mut again = AGAIN;
    loop {
        match take(socket, args, &mut again).await {
            Ok(()) if args.once => return Ok(()),
            Ok(()) => tracing::warn!("the agent has ended the stream"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "no identity from the agent; the one before stays");
            }
        }
        tokio::time::sleep(again).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}

async fn take(socket: &Path, args: &SvidArgs, again: &mut Duration) -> Result<()> {
    let mut stream = call::Stream::open(socket).await?;
    while let Some(svids) = stream.next().await? {
        let svid = chosen(&svids, args.spiffe.as_deref())?;
        check(svid)?;
        folder::put(&args.dir, svid)?;
        *again = AGAIN;
        let (id, dir) = (&svid.spiffe_id, args.dir.display());
        tracing::info!(id, %dir, "an identity came");
        if args.once {
            return Ok(());
        }
    }
    Ok(())
}

fn chosen<'a>(svids: &'a [Svid], wanted: Option<&str>) -> Result<&'a Svid> {
    let fits = |svid: &&Svid| wanted.is_none_or(|wanted| svid.spiffe_id == wanted);
    svids.iter().find(fits).with_context(|| {
        let given: Vec<&str> = svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
        format!("{} is not among what is given: {}", wanted.unwrap_or("any"), given.join(", "))
    })
}

/// What the certificate says is what the agent says. Whether it fits its key, and whether Moat can use
/// it, is found out when Moat reads it.
fn check(svid: &Svid) -> Result<()> {
    let leaf = svid.chain.first().context("an identity without a certificate")?;
    let domain = svid.spiffe_id.strip_prefix("spiffe://").and_then(|id| id.split('/').next());
    let domain = domain.context("the agent names no SPIFFE id")?;
    let peer = match moat_identity::identify(leaf, domain) {
        Ok(peer) => peer,
        Err(refusal) => bail!("the certificate that came is no good: {refusal}"),
    };
    let said = peer.spiffe().as_str();
    ensure!(said == svid.spiffe_id, "the certificate is of {said}, not of {}", svid.spiffe_id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_called() {
        for good in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(socket(good).unwrap(), Path::new("/run/a.sock"));
        }
        for bad in ["/run/a.sock", "tcp://127.0.0.1:1", "unix:", ""] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_is_what_its_certificate_says() {
        let now_s = 1_700_000_000;
        let authority = moat_ca::Authority::create("Test", now_s).unwrap();
        let request = moat_ca::LeafRequest::spiffe("spiffe://bank.test/a", now_s);
        let identity = authority.issue(&request).unwrap();
        let leaf = moat_ca::first_certificate(identity.chain_pem.as_bytes()).unwrap();
        let svid = |id: &str| Svid {
            spiffe_id: id.to_owned(),
            chain: vec![leaf.to_vec()],
            key: vec![1],
            bundle: vec![leaf.to_vec()],
        };
        assert!(check(&svid("spiffe://bank.test/a")).is_ok());
        for other in ["spiffe://bank.test/b", "spiffe://other.test/a", "bank.test/a", ""] {
            assert!(check(&svid(other)).is_err(), "{other}");
        }
        let two = [svid("spiffe://bank.test/a"), svid("spiffe://bank.test/b")];
        assert_eq!(chosen(&two, None).unwrap().spiffe_id, "spiffe://bank.test/a");
        let second = chosen(&two, Some("spiffe://bank.test/b")).unwrap();
        assert_eq!(second.spiffe_id, "spiffe://bank.test/b");
        assert!(chosen(&two, Some("spiffe://bank.test/c")).is_err());
    }
}
