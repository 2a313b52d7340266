//! Identities from the SPIFFE Workload API: `moat ca serve` gives them, `moat svid` fetches them, the
//! gateway takes them without a word.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat, tls};

const MOAT: &str = env!("CARGO_BIN_EXE_moat");

/// A process of the program. Ends when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, log: &str, arguments: &[&str]) -> Running {
    let said = std::fs::File::create(dir.join(log)).unwrap();
    let process = Command::new(MOAT)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn();
    Running(process.unwrap())
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Starts `moat ca serve` over the authority of `pki`.
async fn agent(dir: &Path, ttl_s: u32, uid: u32) -> Running {
    let (ttl, entry) = (ttl_s.to_string(), format!("uid:{uid}=spiffe://bank.test/gateway"));
    let arguments = [
        "ca",
        "serve",
        "--dir",
        "ca",
        "--socket",
        "agent.sock",
        "--ttl-s",
        &ttl,
        "--entry",
        &entry,
        "--name",
        "127.0.0.1",
        "--name",
        "localhost",
    ];
    let running = start(dir, "agent.log", &arguments);
    let socket = dir.join("agent.sock");
    let is_up = || std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(());
    eventually("the Workload API listens", Duration::from_secs(10), is_up).await;
    running
}

/// The certificate that the gateway shows now; nothing if it shows none.
async fn shown(pki: &Pki, gateway: &Gateway) -> Option<CertificateDer<'static>> {
    let teller = pki.identity("teller");
    let stream = tls(pki, gateway.address, Some(&teller), "http/1.1").await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_of_the_workload_api_are_taken_and_turned_without_a_cut_and_end_when_they_expire()
 {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let dir = gateway.dir.path();
    pki.save(&dir.join("ca"));
    let serving = agent(dir, 6, uid()).await;
    let (out, _) = (dir.join("svid/current/svid.pem"), ());
    let _fetching =
        start(dir, "svid.log", &["svid", "--socket", "unix:agent.sock", "--dir", "svid"]);
    eventually("an identity", Duration::from_secs(10), || out.exists().then_some(())).await;
    gateway.edit_config("file:pki/gateway.pem", "file:svid/current/svid.pem");
    gateway.edit_config("file:pki/gateway.key", "file:svid/current/svid.key");
    gateway.edit_config("file:pki/root.pem", "file:svid/current/bundle.pem");
    let (code, said) = gateway.reload();
    assert_eq!(code, 0, "{said}");
    let first = shown(&pki, &gateway).await.unwrap();
    // One connection is kept over two turns, and no call of it fails.
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let mut seen = vec![first];
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while seen.len() < 3 {
        assert_eq!(client.get("/pass/ok").await.status, 200);
        let now = shown(&pki, &gateway).await.expect("new callers are let in all the time");
        if !seen.contains(&now) {
            seen.push(now);
        }
        assert!(tokio::time::Instant::now() < until, "it is not turned: {}", seen.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Without the agent it goes on with what it has, until that expires.
    drop(serving);
    assert!(shown(&pki, &gateway).await.is_some() && gateway.is_ready());
    let until = tokio::time::Instant::now() + Duration::from_secs(15);
    while shown(&pki, &gateway).await.is_some() {
        assert!(tokio::time::Instant::now() < until, "an expired identity is shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.record("a refusal", |body| body.code == "MOAT-T026").await;
    let unready = || (!gateway.is_ready()).then_some(());
    eventually("not ready", Duration::from_secs(5), unready).await;
    // It comes back with the agent.
    let _serving = agent(dir, 60, uid()).await;
    let ready = || gateway.is_ready().then_some(());
    eventually("ready again", Duration::from_secs(40), ready).await;
    assert!(shown(&pki, &gateway).await.is_some());
    assert_eq!(
        Client::http1(&pki, gateway.address, "teller").await.get("/pass/ok").await.status,
        200
    );
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_given_to_a_user_that_is_not_listed() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    pki.save(&dir.join("ca"));
    let serving = agent(dir, 60, 4_000_000).await;
    let socket = format!("unix:{}", dir.join("agent.sock").display());
    let out = dir.join("svid").display().to_string();
    let fetch = ["svid", "--socket", &socket, "--dir", &out, "--once", "--wait-s", "1"];
    let (code, _, said) = moat(&fetch);
    assert!(code != 0 && said.contains("no identity for this user"), "{said}");
    assert!(!Path::new(&out).join("current").exists());
    drop(serving);
    let _serving = agent(dir, 60, uid()).await;
    let (code, _, said) = moat(&fetch);
    assert_eq!(code, 0, "{said}");
    let other = [&fetch[..], &["--spiffe", "spiffe://bank.test/other"]].concat();
    let (code, _, said) = moat(&other);
    assert!(code != 0 && said.contains("not among what is given"), "{said}");
    // What is issued can be revoked: it stands in the register.
    let chain = Path::new(&out).join("current/svid.pem").display().to_string();
    let ca = dir.join("ca").display().to_string();
    assert_eq!(moat(&["ca", "revoke", &chain, "--dir", &ca]).0, 0);
}
