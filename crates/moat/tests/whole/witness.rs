//! Witnesses: who confirms the log, and what happens while too few do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use moat_audit::record::{Kind, Outcome};
use serde_json::Value;

use crate::support::{
    Client, Gateway, Options, Pki, Service, eventually, free_address, moat, request,
};

const ORIGIN: &str = "bank.test/audit/whole";
const WAIT: Duration = Duration::from_secs(20);
/// How long records may be unwitnessed in these tests, in milliseconds.
const BOUND_MS: u64 = 1_500;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn keygen(args: &[&str], out: &Path) -> String {
    let (code, vkey, err) = moat(&[&["audit", "keygen", "--out", text(out)], args].concat());
    assert_eq!(code, 0, "{err}");
    vkey.trim().to_owned()
}

/// A witness as a process of its own.
struct Witness {
    dir: PathBuf,
    key: PathBuf,
    vkey: String,
    log: String,
    address: SocketAddr,
    process: Option<Child>,
}

impl Witness {
    fn new(folder: &Path, n: usize, log: &str) -> Witness {
        let key = folder.join(format!("w{n}.key"));
        let vkey = keygen(&["--witness", "--origin", &format!("w{n}.test")], &key);
        let (dir, log) = (folder.join(format!("w{n}")), log.to_owned());
        Witness { dir, key, vkey, log, address: free_address(), process: None }
    }

    fn start(&mut self) {
        let address = self.address.to_string();
        let process = Command::new(env!("CARGO_BIN_EXE_moat"))
            .args(["audit", "witness", "--dir", text(&self.dir), "--key", text(&self.key)])
            .args(["--log-key", &self.log, "--listen", &address])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn line(&self, n: usize) -> String {
        format!("witness w{n} {} http://{}\n", self.vkey, self.address)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody who answers every request alike.
fn liar(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let _ = stream.read(&mut [0; 16 * 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

struct Setup {
    folder: tempfile::TempDir,
    pki: Pki,
    service: Service,
    log: String,
}

impl Setup {
    async fn new() -> Setup {
        let pki = Pki::new();
        let service = Service::start(&pki, &["http/1.1"]).await;
        let folder = tempfile::tempdir().unwrap();
        let log = keygen(&["--origin", ORIGIN], &folder.path().join("log.key"));
        Setup { folder, pki, service, log }
    }

    fn policy(&self, witnesses: &str, group: &str) -> PathBuf {
        let path = self.folder.path().join("policy");
        let text = format!("log {}\n{witnesses}group q {group}\nquorum q\n", self.log);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn gateway(&self, policy: &Path) -> Gateway {
        let key = self.folder.path().join("log.key");
        let evidence = format!(
            ", keys: [\"file:{}\"], policy: \"file:{}\", sm3_tree: true, checkpoint_every_ms: 50, unwitnessed_ms_max: {BOUND_MS}",
            text(&key),
            text(policy)
        );
        let options = Options { evidence, ..Options::default() };
        Gateway::start(&self.pki, self.service.address, options).await
    }

    async fn call(&self, gateway: &Gateway) -> (u16, String) {
        let identity = self.pki.identity("teller");
        let mut client =
            Client::connect(&self.pki, gateway.address, &identity, false).await.unwrap();
        let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
        (answer.status, answer.header("x-moat-record").to_owned())
    }

    /// A call that must succeed, and its record.
    async fn record(&self, gateway: &Gateway) -> u64 {
        let (status, record) = self.call(gateway).await;
        assert_eq!(status, 200, "{}", gateway.status());
        record.parse().unwrap()
    }
}

fn witnessed(gateway: &Gateway) -> Value {
    gateway.status()["auditor"]["witnessed"].clone()
}

async fn wait_witnessed(gateway: &Gateway, record: u64) {
    let is_there = || witnessed(gateway)["size"].as_u64().filter(|size| *size > record);
    eventually("a quorum over the record", WAIT, is_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_are_enough_one_is_not_and_what_began_is_recorded_all_the_same() {
    let setup = Setup::new().await;
    let mut witnesses: Vec<Witness> =
        (0..3).map(|n| Witness::new(setup.folder.path(), n, &setup.log)).collect();
    witnesses.iter_mut().for_each(Witness::start);
    let lines: String = witnesses.iter().enumerate().map(|(n, one)| one.line(n)).collect();
    let policy = setup.policy(&lines, "2 w0 w1 w2");
    let mut gateway = setup.gateway(&policy).await;
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;

    // One away: nobody notices.
    witnesses[0].kill();
    for _ in 0..4 {
        let record = setup.record(&gateway).await;
        wait_witnessed(&gateway, record).await;
    }
    // Two away: for as long as was configured calls go on, then they are refused, and that is
    // recorded; readiness falls.
    witnesses[1].kill();
    setup.record(&gateway).await;
    tokio::time::sleep(Duration::from_millis(BOUND_MS + 500)).await;
    let (status, refused) = setup.call(&gateway).await;
    assert_eq!(status, 503, "{}", gateway.status());
    let refused: u64 = refused.parse().expect("a refusal has its record");
    let leaf = gateway.log().into_iter().find(|leaf| leaf.head.seq == refused).unwrap();
    assert_eq!((leaf.body.kind, leaf.body.code.as_str()), (Kind::Refusal, "MOAT-A036"));
    assert_eq!(leaf.body.outcome, Some(Outcome::Refused));
    assert!(!gateway.is_ready());
    let state = witnessed(&gateway);
    assert_eq!((&state["state"], &state["code"]), (&"overdue".into(), &"MOAT-A036".into()));
    assert_eq!(state["witnesses"][1]["state"], "unreachable", "{state}");
    // One comes back with what it had stored: all is witnessed, and calls go on.
    witnesses[1].start();
    let calm = || gateway.is_ready().then_some(());
    eventually("readiness", WAIT, calm).await;
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;
    // The courier dies: another comes.
    assert!(gateway.kill_role("courier"));
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;
    // The auditor dies: it goes on where the witnesses are.
    assert!(gateway.kill_role("auditor"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    gateway.wait_ready().await;
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;

    let dir = gateway.audit_dir.clone();
    gateway.stop();
    let args = ["audit", "verify", "--dir", text(&dir), "--policy", text(&policy), "-o", "json"];
    // On a busy machine the very last checkpoint may find no witness in time.
    let (code, out, err) = moat(&[&args[..], &["--unsigned-max", "100"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["covered"].as_u64().unwrap() > record, "{report}");
    assert_eq!(report["sm3"]["size"], report["records"], "{report}");
    assert_eq!(report["sm3"]["accepted"], true, "{report}");
    // A proof carries the witnesses' word.
    let proof = setup.folder.path().join("proof");
    let seq = record.to_string();
    let (code, _, err) =
        moat(&["audit", "prove", &seq, "--dir", text(&dir), "--out", text(&proof)]);
    assert_eq!(code, 0, "{err}");
    let proof = std::fs::read_to_string(&proof).unwrap();
    assert!(proof.contains("w1.test") && proof.contains("w2.test"), "{proof}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_left_out_and_named_and_a_folder_that_was_put_back_is_signed_no_more() {
    const LIES: [&str; 2] = [
        "HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\nContent-Length: 7\r\n\r\n999999\n",
        "HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n",
    ];
    let setup = Setup::new().await;
    let mut witnesses: Vec<Witness> =
        (0..3).map(|n| Witness::new(setup.folder.path(), n, &setup.log)).collect();
    witnesses[0].start();
    witnesses[1].start();
    witnesses[2].address = liar(LIES[0]);
    let lines: String = witnesses.iter().enumerate().map(|(n, one)| one.line(n)).collect();
    let policy = setup.policy(&lines, "2 w0 w1 w2");
    let mut gateway = setup.gateway(&policy).await;
    let dir = gateway.audit_dir.clone();
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;
    let lies = || (witnessed(&gateway)["witnesses"][2]["state"] == "ahead").then_some(());
    eventually("the liar is named", WAIT, lies).await;
    assert_eq!(witnessed(&gateway)["state"], "disputed");
    assert!(gateway.is_ready(), "the others are enough");

    // The whole folder is put back to what it was, files of the auditor and all.
    gateway.stop();
    let copy = setup.folder.path().join("copy");
    let copied = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copied(&dir, &copy);
    gateway.start_again().await;
    let record = setup.record(&gateway).await;
    wait_witnessed(&gateway, record).await;
    gateway.stop();
    let before = std::fs::read(copy.join("checkpoint")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    copied(&copy, &dir);
    gateway.spawn_again();
    let refused = || {
        let signed = &gateway.status()["auditor"]["signed"];
        (signed["state"] == "refused" && signed["code"] == "MOAT-A030").then_some(())
    };
    eventually("the auditor signs no more", WAIT, refused).await;
    assert_eq!(std::fs::read(dir.join("checkpoint")).unwrap(), before, "nothing was signed");
    assert!(!gateway.is_ready());
    let why = gateway.status()["auditor"]["signed"]["why"].as_str().unwrap().to_owned();
    // With the liar one of the two is enough; which of them is heard first is chance.
    assert!(why.contains("w0.test") || why.contains("w1.test"), "{why}");
    // A call is refused once the bound is over: what began is known to nobody else.
    tokio::time::sleep(Duration::from_millis(BOUND_MS + 200)).await;
    assert_eq!(setup.call(&gateway).await.0, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_is_not_on_the_network_is_asked_by_files() {
    let setup = Setup::new().await;
    let witnesses: Vec<Witness> =
        (0..2).map(|n| Witness::new(setup.folder.path(), n, &setup.log)).collect();
    let lines: String = witnesses
        .iter()
        .enumerate()
        .map(|(n, one)| format!("witness w{n} {}\n", one.vkey))
        .collect();
    let policy = setup.policy(&lines, "all w0 w1");
    let mut gateway = setup.gateway(&policy).await;
    let dir = gateway.audit_dir.clone();
    let record = setup.record(&gateway).await;
    let is_signed = || {
        let size = gateway.status()["auditor"]["signed"]["size"].as_u64();
        size.filter(|size| *size > record)
    };
    eventually("a checkpoint", WAIT, is_signed).await;
    let file = |name: &str| setup.folder.path().join(name);
    let (asked, answers) = (file("request"), [file("a0"), file("a1")]);
    let args = ["audit", "checkpoint", "--dir", text(&dir), "--out", text(&asked)];
    let (code, _, err) = moat(&args);
    assert_eq!(code, 0, "{err}");
    for (witness, answer) in witnesses.iter().zip(&answers) {
        let (dir, key) = (text(&witness.dir), text(&witness.key));
        let args = ["audit", "witness", "--dir", dir, "--key", key, "--log-key", &setup.log];
        let more = ["--request", text(&asked), "--out", text(answer)];
        let (code, _, err) = moat(&[&args[..], &more].concat());
        assert_eq!(code, 0, "{err}");
    }
    let bring = |answers: &[&Path]| {
        let args = ["audit", "cosigned", text(&asked), "--dir", text(&dir)];
        let answers: Vec<&str> = answers.iter().map(|path| text(path)).collect();
        moat(&[&args[..], &["--policy", text(&policy)], &answers].concat())
    };
    assert_ne!(bring(&[&answers[0]]).0, 0, "one of two is not enough");
    // What is not of this log stays out, and is said.
    std::fs::write(dir.join("inbox/other.checkpoint"), "nothing").unwrap();
    let (code, _, err) = bring(&[&answers[0], &answers[1]]);
    assert_eq!(code, 0, "{err}");
    wait_witnessed(&gateway, record).await;
    assert!(dir.join("inbox/other.checkpoint.refused").exists());
    // Too old a size: the witness says which it knows.
    let args = ["audit", "checkpoint", "--dir", text(&dir), "--old", "1", "--out", text(&asked)];
    assert_eq!(moat(&args).0, 0);
    let witness = &witnesses[0];
    let (folder, key) = (text(&witness.dir), text(&witness.key));
    let args = ["audit", "witness", "--dir", folder, "--key", key, "--log-key", &setup.log];
    let (code, _, err) = moat(&[&args[..], &["--request", text(&asked)]].concat());
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("409"), "{err}");
    gateway.stop();
}
