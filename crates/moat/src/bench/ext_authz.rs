//! `moat bench ext-authz`: what a decision of Moat's adds to a call through Envoy, beside a server
//! that allows everything.
//!
//! One Envoy with two listeners, which differ in whom they ask: each by gRPC on a Unix socket, with the
//! caller's certificate. Envoy answers allowed calls itself, so nothing else is on the way. Calls go
//! one after the other on a kept connection, in turn to either; nothing is left out of Moat's side: the
//! certificate, the policy, and a record that is durable before the answer.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use moat_auditor::bench::{Goal, Row};
use moat_net::local::LocalExecutor;
use moat_rpc::ext_authz::{Told, Verdict, answer};
use moat_rpc::frame;
use tokio::net::UnixListener;
use tokio::task::LocalSet;

use super::fresh::teller;
use super::process::{Interrupt, Process};
use super::site::{Decides, Site, TARGET};
use super::{machine, median, tools};
use crate::demo::client::{Kept, get};

/// Calls before the first round, which are not measured.
const WARM_UP_CALLS: u64 = 500;
/// How much more than the other server's a call may take in the middle, in microseconds.
const MORE_US_MAX: f64 = 30.0;
/// Longest start of anything.
const START: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

const LISTENER: &str = r#"  - name: envoy
    bind: unix:moat.sock
    protocol: ext_authz
    enforcers:
      uids: [@UID@]
      bodies: whole
      intermediates: "file:pki/issuing.pem"
      callers: { role: partners, trust: "file:pki/root.pem" }

upstreams:"#;
const ENVOY: &str = include_str!("envoy.yaml");

/// The times of one side in one round, in microseconds.
#[derive(Clone, Copy)]
struct Times {
    p50: f64,
    p99: f64,
}

pub(crate) fn run(dir: &Path, calls: u64, rounds: u32, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let envoy = tools::envoy()?;
    let site = Site::make(dir, Decides::AsEver)?;
    machine::describe(site.dir())?;
    eprintln!("Envoy      {} ({}), one worker", envoy.version, envoy.path.display());
    eprintln!("load       callers of this program, one call after the other, {calls} a round");
    configure(site.dir())?;
    let _allowing = Allowing::start(&site.dir().join("allow.sock"))?;
    let mut moat = site.start_moat(interrupt)?;
    let ports = [site.proxy, free_port()?];
    let mut process = start_envoy(&envoy.path, site.dir(), ports, interrupt)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ours, theirs) = LocalSet::new().block_on(&runtime, async {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut moat = teller(site.dir(), ports[0], None)?.keep().await?;
        let mut other = teller(site.dir(), ports[1], None)?.keep().await?;
        ensure!(ask(&mut moat).await?, "Moat's answer names no record");
        ensure!(!ask(&mut other).await?, "the other server's answer names a record");
        for round in 0..=rounds {
            let many = if round == 0 { WARM_UP_CALLS } else { calls };
            let (here, there) = measure(&mut moat, &mut other, many, interrupt).await?;
            if round > 0 {
                eprintln!(
                    "round {round:<4} moat p50 {:>7.1} us p99 {:>8.1} us   allow-all p50 {:>7.1} \
                     us p99 {:>8.1} us",
                    here.p50, here.p99, there.p50, there.p99
                );
                ours.push(here);
                theirs.push(there);
            }
        }
        Ok::<_, anyhow::Error>((ours, theirs))
    })?;
    process.check_alive()?;
    moat.check_alive()?;
    rows(&ours, &theirs)
}

fn rows(ours: &[Times], theirs: &[Times]) -> Result<Vec<Row>> {
    let middle = |of: &[Times], read: fn(&Times) -> f64| median(of.iter().map(read));
    let none = "nothing was measured";
    let (p50, p99) =
        (middle(ours, |t| t.p50).context(none)?, middle(ours, |t| t.p99).context(none)?);
    let peer50 = middle(theirs, |t| t.p50).context(none)?;
    let peer99 = middle(theirs, |t| t.p99).context(none)?;
    let more = median(ours.iter().zip(theirs).map(|(here, there)| here.p50 - there.p50));
    Ok(vec![
        Row::new("Call through Envoy, recorded, p50", p50, "us").beside("allow-all", peer50),
        Row::new("Call through Envoy, recorded, p99", p99, "us").beside("allow-all", peer99),
        Row::new("More than allow-all, p50", more.context(none)?, "us")
            .should_be(Goal::AtMost(MORE_US_MAX)),
    ])
}

/// In turn, so that what the machine does besides falls on both.
async fn measure(
    ours: &mut Kept,
    theirs: &mut Kept,
    calls: u64,
    interrupt: &Interrupt,
) -> Result<(Times, Times)> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        for (kept, taken) in [(&mut *ours, &mut here), (&mut *theirs, &mut there)] {
            let begun = Instant::now();
            ask(kept).await?;
            taken.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        interrupt.pause(Duration::ZERO)?;
    }
    Ok((times(here)?, times(there)?))
}

fn times(mut taken: Vec<f64>) -> Result<Times> {
    taken.sort_by(f64::total_cmp);
    let at = |percent: usize| taken.get(taken.len() * percent / 100).copied();
    let none = "nothing was measured";
    Ok(Times { p50: at(50).context(none)?, p99: at(99).context(none)? })
}

/// One call; says whether its answer names a record.
async fn ask(kept: &mut Kept) -> Result<bool> {
    let reply = kept.call(get(TARGET)?).await?;
    ensure!(reply.status == 200, "a call was answered {}", reply.status);
    Ok(reply.record().is_some())
}

/// The configuration of `moat bench gateway`, with a listener for Envoy and a route that looks into
/// no answers.
fn configure(dir: &Path) -> Result<()> {
    let path = dir.join("moat.yaml");
    let text = fs::read_to_string(&path)?;
    let uid = rustix::process::geteuid().as_raw().to_string();
    let text = text.replacen("upstreams:", &LISTENER.replace("@UID@", &uid), 1);
    let (head, rest) = text.split_once("    audit:\n").context("the configuration has no route")?;
    let (_, tail) = rest.split_once("\npolicy:").context("the configuration has no policy")?;
    fs::write(path, format!("{head}    audit: {{ object: \"account/{{id}}\" }}\npolicy:{tail}"))?;
    Ok(())
}

fn start_envoy(
    program: &Path,
    dir: &Path,
    ports: [u16; 2],
    interrupt: &Interrupt,
) -> Result<Process> {
    let [ours, theirs] = ports.map(|port| port.to_string());
    let text = ENVOY.replace("@MOAT@", &ours).replace("@ALLOW@", &theirs);
    fs::write(dir.join("envoy.yaml"), text)?;
    let mut command = Command::new(program);
    command.args(["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]);
    command.current_dir(dir);
    let mut process = Process::start("envoy", &mut command, dir, interrupt)?;
    let listens =
        || ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok());
    process.wait_until("listening", START, STEP, interrupt, listens)?;
    Ok(process)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A server in a thread of its own that allows everything, and does nothing else.
struct Allowing {
    socket: PathBuf,
}

impl Drop for Allowing {
    fn drop(&mut self) {
        // The thread ends with the program.
        let _ = fs::remove_file(&self.socket);
    }
}

impl Allowing {
    fn start(socket: &Path) -> Result<Allowing> {
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        std::thread::Builder::new().name("allow-all".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, allow(listener))
        })?;
        Ok(Allowing { socket: socket.to_owned() })
    }
}

async fn allow(listener: std::os::unix::net::UnixListener) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let nothing = Verdict::Allow { set: Vec::new(), remove: Vec::new(), answer: Vec::new() };
    let message = Bytes::from(frame::framed(&answer(nothing, Told::default())));
    loop {
        let (stream, _) = listener.accept().await?;
        let message = message.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let message = message.clone();
            async move {
                // Read to its end, as whoever decides must.
                let _ = request.into_body().collect().await;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
                let mut response = Response::new(body);
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert("content-type", grpc);
                Ok::<_, Infallible>(response)
            }
        });
        let builder = http2::Builder::new(LocalExecutor);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        drop(tokio::task::spawn_local(async move { drop(connection.await) }));
    }
}
