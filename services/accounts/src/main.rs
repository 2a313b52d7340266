//! `moat-accounts`: the accounts service as a program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use moat_accounts::account::seed;
use moat_accounts::serve::serve;
use moat_accounts::store::Store;
use moat_accounts::tls::server_config;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Accounts, transfers and balances over HTTP/JSON and gRPC, behind mutual TLS 1.3.
#[derive(Debug, Parser)]
#[command(name = "moat-accounts", version)]
struct Arguments {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// Certificate chain of this service (PEM)
    #[arg(long)]
    cert: PathBuf,
    /// Private key of this service (PEM)
    #[arg(long)]
    key: PathBuf,
    /// Authorities that client certificates must come from (PEM)
    #[arg(long)]
    trust: PathBuf,
    /// The redb file with the accounts; made if it is not there
    #[arg(long)]
    data: PathBuf,
    /// SPIFFE id of the only caller allowed, for example spiffe://bank/gateway
    #[arg(long)]
    allow_spiffe: String,
    /// Write a few demonstration accounts with invented owners, unless they exist
    #[arg(long)]
    seed: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tls = server_config(&arguments.cert, &arguments.key, &arguments.trust)?;
    let store = Store::open(&arguments.data)
        .with_context(|| format!("{} cannot be opened", arguments.data.display()))?;
    if arguments.seed {
        store.add(&seed()).context("the demonstration accounts cannot be written")?;
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("moat-accounts listens on {}", listener.local_addr()?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, tls, arguments.allow_spiffe, Arc::new(store), stop).await?;
    Ok(())
}
