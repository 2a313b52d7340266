//! `moat-switch`: the card switch as a program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use moat_message::Spec;
use moat_message::spec::SHIPPED;
use moat_switch::book::{Book, seed};
use moat_switch::desk::Desk;
use moat_switch::serve::{Port, serve};
use moat_switch::tls::server_config;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A card switch: ISO 8583 over mutual TLS 1.3, one port for each dialect.
#[derive(Debug, Parser)]
#[command(name = "moat-switch", version)]
struct Arguments {
    /// Address, port and dialect: `127.0.0.1:9445=iso8583-1987-ascii`; may be given several times
    #[arg(long, required = true)]
    listen: Vec<String>,
    /// Certificate chain of this service (PEM)
    #[arg(long)]
    cert: PathBuf,
    /// Private key of this service (PEM)
    #[arg(long)]
    key: PathBuf,
    /// Authorities that client certificates must come from (PEM)
    #[arg(long)]
    trust: PathBuf,
    /// The redb file with the cards; made if it is not there
    #[arg(long)]
    data: PathBuf,
    /// SPIFFE id of the only caller allowed, for example spiffe://bank/gateway
    #[arg(long)]
    allow_spiffe: String,
    /// Write a few demonstration cards with invented numbers, unless they exist
    #[arg(long)]
    seed: bool,
    /// A terminal whose transactions are carried out and not answered, unless they are repeats
    #[arg(long)]
    silent_terminal: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tls = Arc::new(server_config(&arguments.cert, &arguments.key, &arguments.trust)?);
    let book = Book::open(&arguments.data)
        .with_context(|| format!("{} cannot be opened", arguments.data.display()))?;
    if arguments.seed {
        book.add(&seed()).context("the demonstration cards cannot be written")?;
    }
    let book = Arc::new(book);
    let (stop, stopped) = watch::channel(false);
    let mut ports = Vec::new();
    for place in &arguments.listen {
        let (address, spec) = place.split_once('=').context("write ADDRESS:PORT=SPEC")?;
        let address: SocketAddr = address.parse().with_context(|| address.to_owned())?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        eprintln!("moat-switch listens on {} by {spec}", listener.local_addr()?);
        let desk = Desk::new(find(spec)?, Arc::clone(&book), arguments.silent_terminal.clone());
        let port = Port::new(Arc::clone(&tls), arguments.allow_spiffe.clone(), desk);
        ports.push(tokio::spawn(serve(listener, port, stopped.clone())));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send(true).context("every port has ended")?;
    for port in ports {
        port.await??;
    }
    Ok(())
}

fn find(name: &str) -> Result<Spec> {
    let yaml = match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        Some((_, yaml)) => (*yaml).to_owned(),
        None => std::fs::read_to_string(name).with_context(|| format!("no spec `{name}`"))?,
    };
    Spec::parse(&yaml).map_err(|error| anyhow!("{name}: {error}"))
}
