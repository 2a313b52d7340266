//! The gateway's process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Leaf, Outcome};
use moat_audit::verify::Report;
use moat_kernel::cgroup::{self, Cgroup};
use rustix::process::{Pid, Signal, kill_process};

use super::{Pki, eventually};

const MOAT: &str = env!("CARGO_BIN_EXE_moat");
/// Longest start.
const START: Duration = Duration::from_secs(20);

/// How a test's gateway differs from the plain one.
pub(crate) struct Options {
    /// `http1`, `http2` or `auto`.
    pub(crate) protocol: &'static str,
    /// Identity that the service must prove.
    pub(crate) service: &'static str,
    /// Folder of the log; default: in the gateway's own folder.
    pub(crate) audit_dir: Option<PathBuf>,
    pub(crate) segment_mib: u32,
    pub(crate) deadline_ms: u64,
    pub(crate) connections_max: u32,
    /// Unfinished handshakes of one source.
    pub(crate) handshakes_max: u32,
    /// More settings of `audit`, with a comma before them.
    pub(crate) evidence: String,
    /// The policy module; default: tellers and auditors may do all but what is denied.
    pub(crate) policy: &'static str,
    /// Listeners behind the usual one, in YAML with the list's indentation.
    pub(crate) listeners: String,
    /// Routes before the usual ones, in YAML with the list's indentation.
    pub(crate) routes: &'static str,
    /// Further keys of the top level, in YAML.
    pub(crate) more: &'static str,
    /// Further files of its folder, by path.
    pub(crate) files: Vec<(&'static str, String)>,
    /// Endpoints beside the service, each as it stands in the configuration.
    pub(crate) endpoints: Vec<String>,
    /// More keys of the upstream, of every route, and of the top level, each on a line of its own.
    pub(crate) upstream: String,
    pub(crate) route: String,
    pub(crate) top: String,
    /// Starts a copy of the program in the gateway's folder, which a test may replace.
    pub(crate) is_copied: bool,
    /// Upstreams behind the usual one, in YAML with the list's indentation and a line feed before.
    pub(crate) upstreams: String,
    /// Keeps the last good configuration in `state` of the gateway's folder.
    pub(crate) has_state: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            protocol: "http1",
            service: "accounts",
            audit_dir: None,
            segment_mib: 16,
            deadline_ms: 1_500,
            connections_max: 10_000,
            handshakes_max: 64,
            evidence: String::new(),
            policy: POLICY,
            listeners: String::new(),
            routes: "",
            more: "",
            files: Vec::new(),
            endpoints: Vec::new(),
            upstream: String::new(),
            route: String::new(),
            top: String::new(),
            is_copied: false,
            upstreams: String::new(),
            has_state: false,
        }
    }
}

/// A running gateway. Ends with all its roles when dropped.
pub(crate) struct Gateway {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) audit_dir: PathBuf,
    pub(crate) probes: SocketAddr,
    pub(crate) socket: PathBuf,
    process: Child,
    program: PathBuf,
    /// The supervisor that took over from the process.
    successor: Option<Pid>,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const POLICY: &str = r#"package authz

default allow := false

allow if input.peer.spiffe in {"spiffe://bank.test/teller", "spiffe://bank.test/auditor"}

deny contains "blocked" if input.route == "denied"
"#;

impl Gateway {
    /// Starts a gateway in front of `service` and waits until it is ready.
    pub(crate) async fn start(pki: &Pki, service: SocketAddr, options: Options) -> Gateway {
        Gateway::start_at(pki, &format!("https://{service}"), options).await
    }

    /// The same with the first endpoint as it stands in the configuration.
    pub(crate) async fn start_at(pki: &Pki, service: &str, options: Options) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let (address, probes) = (free_address(), free_address());
        let audit_dir = options.audit_dir.clone().unwrap_or_else(|| dir.path().join("audit"));
        let socket = dir.path().join("admin.sock");
        let folder = dir.path().join("pki");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("root.pem"), pki.trust_pem()).unwrap();
        pki.write(&folder, "gateway");
        std::fs::create_dir(dir.path().join("policy")).unwrap();
        std::fs::write(dir.path().join("policy/authz.rego"), options.policy).unwrap();
        for (path, text) in &options.files {
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let text = config(address, probes, service, &audit_dir, &socket, &options);
        std::fs::write(dir.path().join("moat.yaml"), text).unwrap();
        let program = match options.is_copied {
            true => dir.path().join("moat"),
            false => PathBuf::from(MOAT),
        };
        if options.has_state {
            std::fs::create_dir(dir.path().join("state")).unwrap();
        }
        if options.is_copied {
            std::fs::copy(MOAT, &program).unwrap();
        }
        let process = spawn(&program, dir.path());
        let successor = None;
        let mut gateway =
            Gateway { dir, address, audit_dir, probes, socket, process, program, successor };
        gateway.wait_ready().await;
        gateway
    }

    /// Starts the program again after [`Gateway::stop`].
    pub(crate) async fn start_again(&mut self) {
        self.spawn_again();
        self.wait_ready().await;
    }

    /// The same, for one that will not become ready.
    pub(crate) fn spawn_again(&mut self) {
        self.process = spawn(&self.program, self.dir.path());
        self.successor = None;
    }

    pub(crate) async fn wait_ready(&mut self) {
        let until = Instant::now() + START;
        while !self.is_ready() {
            if self.successor.is_none()
                && let Some(status) = self.process.try_wait().unwrap()
            {
                panic!("the gateway ended: {status}\n{}", self.said());
            }
            assert!(Instant::now() < until, "not ready\n{}\n{}", self.said(), self.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the readiness probe says.
    pub(crate) fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.probes) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text.starts_with("HTTP/1.1 200")
    }

    /// What the probes' port answers: status and body.
    pub(crate) fn probe(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.probes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    pub(crate) fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// What the program has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let socket = self.socket.display().to_string();
        let (_, out, _) = moat(&["status", "--socket", &socket, "-o", "json"]);
        serde_json::from_str(&out).unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap_or(0)
    }

    /// `moat reload`: exit code and what was said.
    pub(crate) fn reload(&self) -> (i32, String) {
        let socket = self.socket.display().to_string();
        let (code, out, err) = moat(&["reload", "--socket", &socket]);
        (code, out + &err)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.successor.unwrap_or_else(|| Pid::from_child(&self.process))
    }

    /// `moat upgrade`: exit code and what was said.
    pub(crate) fn upgrade(&self) -> (i32, String) {
        let (code, out, err) = moat(&["upgrade", "--socket", &self.socket()]);
        (code, out + &err)
    }

    /// Waits until the successor has taken over and the supervisor before has ended well.
    pub(crate) async fn wait_taken_over(&mut self) {
        let before = self.pid();
        let pid = eventually("the successor answers", START, || {
            let pid = i32::try_from(self.status()["pid"].as_u64()?).ok()?;
            Pid::from_raw(pid).filter(|pid| *pid != before)
        })
        .await;
        if self.successor.is_none() {
            let status = self.process.wait().unwrap();
            assert!(status.success(), "{status}\n{}", self.said());
        }
        self.successor = Some(pid);
        self.wait_ready().await;
    }

    /// Process id of a role; none while it is away.
    pub(crate) fn role(&self, name: &str) -> Option<Pid> {
        let status = self.status();
        let role = status["roles"].as_array()?.iter().find(|role| role["name"] == name)?;
        Pid::from_raw(i32::try_from(role["pid"].as_u64()?).ok()?)
    }

    pub(crate) fn kill_role(&self, name: &str) -> bool {
        self.role(name).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Resident memory of a role, in KiB.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let pid = self.role(name).unwrap();
        proc_status(pid, "VmRSS").trim_end_matches(" kB").trim().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_ended();
    }

    /// Waits until it has ended after [`Signal::TERM`].
    pub(crate) fn wait_ended(&mut self) {
        if let Some(pid) = self.successor {
            let until = Instant::now() + START + START;
            while is_running(pid) {
                assert!(Instant::now() < until, "it does not end\n{}", self.said());
                std::thread::sleep(Duration::from_millis(10));
            }
            return;
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.said());
    }

    /// Waits until a start has ended; whether it went well.
    pub(crate) fn ended_well(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }

    /// The whole log, in order.
    pub(crate) fn log(&self) -> Vec<Leaf> {
        let found = moat_audit::search::leaves(&self.audit_dir).unwrap();
        found.map(|found| found.unwrap().leaf).collect()
    }

    /// The bodies of the records of one kind.
    pub(crate) fn records(&self, kind: Kind) -> Vec<Body> {
        self.log().into_iter().map(|leaf| leaf.body).filter(|body| body.kind == kind).collect()
    }

    /// Waits for a record that fits.
    pub(crate) async fn record(&self, what: &str, fits: impl Fn(&Body) -> bool) -> Body {
        let found = || self.log().into_iter().map(|leaf| leaf.body).find(|body| fits(body));
        eventually(what, Duration::from_secs(5), found).await
    }

    /// Waits for the outcome of a change of `object`.
    pub(crate) async fn outcome(&self, object: &str) -> (Outcome, String) {
        let fits = |body: &Body| body.kind == Kind::Outcome && body.object == object;
        let body = self.record(object, fits).await;
        (body.outcome.unwrap(), body.code)
    }

    pub(crate) fn verify(&self) -> Report {
        moat_audit::verify::verify(&self.audit_dir).unwrap()
    }

    /// Fails the test unless the log is whole.
    pub(crate) fn assert_whole(&self) {
        let report = self.verify();
        assert!(report.is_whole(), "{:?}", report.findings.kept());
    }

    /// What production asks for: the profile, and a key of its own for the log.
    pub(crate) fn make_prod(&self) {
        let key = self.dir.path().join("log.key").display().to_string();
        let (code, out, err) =
            moat(&["audit", "keygen", "--origin", "bank.test/audit/whole", "--out", &key]);
        assert_eq!(code, 0, "{out}{err}");
        self.edit_config("kind: Gateway", "kind: Gateway\nprofile: prod");
        let trust = "trust: \"file:pki/root.pem\"";
        self.edit_config(trust, &format!("revocation: none, {trust}"));
        self.edit_config("segment_mib:", "keys: [\"file:log.key\"], segment_mib:");
    }

    /// Ends the supervisor by force and waits until its roles have ended with it.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        let _ = self.process.kill();
        let _ = self.process.wait();
        let until = Instant::now() + START;
        while children.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            assert!(Instant::now() < until, "the roles outlive the supervisor");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn children(&self) -> Vec<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid().as_raw_nonzero());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        let path = self.dir.path().join("moat.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        let fresh = self.dir.path().join("moat.yaml.new");
        std::fs::write(&fresh, text.replace(from, to)).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let children = self.children();
        if let Some(pid) = self.successor {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        for pid in children.iter().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        remove_guard(&self.socket);
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// Takes down what outlives a gateway that is killed.
fn remove_guard(socket: &Path) {
    let name = cgroup::name_of(socket);
    let Some(pins) = cgroup::pins().ok().filter(|_| is_root()) else { return };
    cgroup::unpin(&pins.join(&name));
    let others = cgroup::OTHER_ROLES.map(|role| format!("{name}-{role}"));
    let until = Instant::now() + Duration::from_secs(2);
    for group in others.iter().chain([&name]).filter_map(|name| Cgroup::make(name).ok()) {
        // Processes that were killed leave it when they are gone.
        while !group.remove() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs the program; gives exit code, stdout and stderr.
pub(crate) fn moat(arguments: &[&str]) -> (i32, String, String) {
    let out = Command::new(MOAT).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

/// One line of a process's status, as the kernel writes it.
pub(crate) fn proc_status(pid: Pid, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether a process runs that is not our child: one that has ended may wait for somebody to ask.
fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let said = std::fs::File::options().create(true).append(true).open(dir.join("said")).unwrap();
    let mut command = Command::new(program);
    let state = dir.join("state");
    if state.exists() {
        command.arg("serve").arg("--state").arg(state);
    } else {
        command.arg("serve");
    }
    command
        .arg("--config")
        .arg(dir.join("moat.yaml"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap()
}

fn config(
    address: SocketAddr,
    probes: SocketAddr,
    service: &str,
    audit_dir: &Path,
    socket: &Path,
    options: &Options,
) -> String {
    let users = if is_root() {
        "users: { gateway: \"64001\", auditor: \"64002\", admin: \"64003\", courier: \"64004\", hsm: \"64005\", kernel: \"64006\" }"
    } else {
        ""
    };
    let Options { protocol, service: name, segment_mib, deadline_ms, connections_max, .. } =
        options;
    let (handshakes_max, evidence) = (options.handshakes_max, &options.evidence);
    let (routes, more, listeners) = (options.routes, options.more, &options.listeners);
    let endpoints = options.endpoints.iter().map(|more| format!(", \"{more}\""));
    let endpoints = endpoints.collect::<String>();
    let lines = |text: &str| {
        text.lines().fold(String::new(), |all, line| format!("{all}\n    {}", line.trim()))
    };
    let (upstream, route, top) = (lines(&options.upstream), lines(&options.route), &options.top);
    let upstreams = &options.upstreams;
    let (audit_dir, socket) = (audit_dir.display(), socket.display());
    format!(
        r#"apiVersion: moat/v1
kind: Gateway
trust_domain: bank.test
listeners:
  - name: partners
    bind: {address}
    connections_max: {connections_max}
    handshakes_per_source_max: {handshakes_max}
    tls:
      identities: [{{ certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }}]
      clients: [{{ role: partners, trust: "file:pki/root.pem" }}]
{listeners}upstreams:
  - name: accounts
    endpoints: ["{service}"{endpoints}]
    protocol: {protocol}{upstream}
    tls: {{ trust: "file:pki/root.pem", spiffe: "spiffe://bank.test/{name}" }}{upstreams}
routes:
{routes}  - name: pass
    match: {{ path: "/pass/{{rest...}}", methods: [GET, HEAD] }}
    upstream: accounts
    policy: authz
    audit: {{ object: "pass/{{rest}}" }}
    deadline_ms: {deadline_ms}{route}
  - name: masked
    match: {{ path: "/masked/{{rest...}}", methods: [GET, HEAD] }}
    upstream: accounts
    policy: authz
    audit: {{ object: "masked/{{rest}}", fields: {{ /secret: C2 }} }}
    mask: {{ /secret: name }}
    answer_bytes_max: 65536
    deadline_ms: {deadline_ms}{route}
  - name: write
    match: {{ path: "/write/{{rest...}}", methods: [POST] }}
    upstream: accounts
    policy: authz
    decide_on: {{ /amount: amount }}
    audit: {{ object: "write/{{rest}}", op: UPD, fields: {{ /amount: C1, /secret: C2 }} }}
    mask: {{ /secret: name }}
    deadline_ms: {deadline_ms}{route}
  - name: post
    match: {{ path: "/post/{{rest...}}", methods: [POST] }}
    upstream: accounts
    policy: authz
    audit: {{ object: "post/{{rest}}", op: INS }}
    body_bytes_max: 0
    deadline_ms: {deadline_ms}{route}
    stream_idle_ms: 4000
  - name: change
    match: {{ path: "/change/{{rest...}}", methods: [POST] }}
    upstream: accounts
    policy: authz
    audit:
      object: "change/{{rest}}"
      op: UPD
      before: {{ read: "/pass/{{rest}}", fields: {{ /n: {{ class: C1, after: /n }} }} }}
    deadline_ms: {deadline_ms}{route}
  - name: denied
    match: {{ path: "/denied/{{rest...}}", methods: [GET, POST] }}
    upstream: accounts
    policy: authz
  - name: grpc
    match: {{ path: "/test.Frames/{{method}}", methods: [POST] }}
    upstream: accounts
    policy: authz
    audit: {{ object: "grpc/{{method}}", op: SEL }}
    body_bytes_max: 0
    deadline_ms: {deadline_ms}{route}
policy: {{ bundle: "file:policy/" }}
audit: {{ dir: "{audit_dir}", origin: bank.test/audit/whole, segment_mib: {segment_mib}{evidence} }}
admin: {{ socket: "{socket}", probes: "{probes}" }}
workers: 2
{users}
{more}
{top}
"#
    )
}
