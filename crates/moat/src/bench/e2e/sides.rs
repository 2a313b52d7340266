//! The sides: folder, configurations, processes, and what they have used.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use moat_admin::messages::State;
use moat_audit::verify::verify;

use super::super::cpu::{self, Cpu};
use super::super::process::{Interrupt, Process};
use super::super::site::{DOCUMENT, free_ports, issue};
use super::super::tools::{self, Tool};
use super::super::{Folder, tools::find_peer};
use super::BLOB_BYTES;
use crate::demo::setup::USERS;
use crate::status;

/// Longest start of anything.
const START: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(5);
/// The core of the side that is measured; the others are for callers and service.
const CORE: &str = "0";

const SERVICE: &str = include_str!("upstream.conf");
const NGINX: &str = include_str!("nginx.conf");
const HAPROXY: &str = include_str!("haproxy.cfg");
const CADDY: &str = include_str!("Caddyfile");
const ENVOY: &str = include_str!("envoy.yaml");
const POLICY: &str = include_str!("policy.rego");
const MOAT: &str = include_str!("../moat.yaml");
/// The route of the large document: nothing of its body is looked at.
const BLOBS: &str = "  - name: read-blob
    match: { path: \"/v1/blobs/{id}\", methods: [GET] }
    upstream: accounts
    policy: authz
    audit: { object: \"blob/{id}\" }

policy:";
/// What Envoy has besides, when it asks and logs.
const ASKING_LOG: &str = "
                access_log:
                  - name: file
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: envoy.access";
const ASKING_FILTER: &str = "
                  - name: asked
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      http_service:
                        server_uri: { uri: \"http://127.0.0.1:@ASKED@\", cluster: asked, timeout: 1s }";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Moat,
    Nginx,
    Haproxy,
    Caddy,
    Envoy,
    EnvoyAsking,
}

impl Kind {
    pub(super) fn said(self) -> &'static str {
        match self {
            Kind::Moat => "policy, six fields masked, a record durable before each answer",
            Kind::EnvoyAsking => {
                "passes on, after a call to who says yes (HTTP); access log in a file"
            }
            _ => "passes on",
        }
    }
}

/// One of them, running.
pub(super) struct Side {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) port: u16,
    /// Processes on the way of a call.
    pids: Vec<(&'static str, u32)>,
    process: Process,
}

/// What a process has used.
pub(super) struct Used {
    pub(super) cpu: Cpu,
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
}

impl Side {
    pub(super) fn used(&self) -> Result<Vec<(&'static str, Used)>> {
        let of = |(role, pid): &(&'static str, u32)| {
            let (user_ticks, system_ticks) = cpu::ticks(*pid)?;
            Ok((*role, Used { cpu: Cpu::of(*pid)?, user_ticks, system_ticks }))
        };
        self.pids.iter().map(of).collect()
    }

    pub(super) fn memory_mb(&self) -> Result<f64> {
        let mut kb = 0;
        for (_, pid) in &self.pids {
            kb += cpu::resident_kb(*pid)?;
        }
        Ok(kb as f64 / 1e3)
    }
}

/// A program, what it says its version to, what stands before it, and how it is started.
type Other<'a> = (&'a str, &'a str, &'a str, &'a dyn Fn(&Tool) -> Result<Vec<Side>>);

/// Folder and ports.
pub(super) struct E2e {
    folder: Folder,
    /// By the name that stands in the configurations.
    ports: Vec<(&'static str, u16)>,
}

const NAMES: [&str; 9] =
    ["UPSTREAM", "ASKED", "GATEWAY", "PROBES", "NGINX", "HAPROXY", "CADDY", "ENVOY", "ASKING"];

impl E2e {
    pub(super) fn make(dir: &Path) -> Result<E2e> {
        let folder = Folder::make(dir)?;
        let ports = NAMES.into_iter().zip(free_ports::<9>()?).collect();
        let site = E2e { folder, ports };
        site.issue()?;
        for folder in ["tmp", "files/v1/blobs", "policy"] {
            fs::create_dir_all(site.dir().join(folder))?;
        }
        // No two blocks alike, and the same in every run.
        let blob: Vec<u8> = (0..BLOB_BYTES / 8)
            .flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        fs::write(site.dir().join("files/v1/blobs/1"), blob)?;
        fs::write(site.dir().join("policy/authz.rego"), POLICY)?;
        let users = if rustix::process::geteuid().is_root() { USERS } else { "" };
        let moat = format!("{}{users}", MOAT.replace("\npolicy:", &format!("\n{BLOBS}")));
        let plain = ENVOY.replace("@LOG@", "").replace("@FILTERS@", "");
        let asking = ENVOY.replace("@LOG@", ASKING_LOG).replace("@FILTERS@", ASKING_FILTER);
        for (name, text) in [
            ("upstream.conf", SERVICE),
            ("nginx.conf", NGINX),
            ("haproxy.cfg", HAPROXY),
            ("Caddyfile", CADDY),
            ("moat.yaml", &moat),
            ("envoy.yaml", &plain),
            ("asking.yaml", &asking.replace("@ENVOY@", "@ASKING@")),
        ] {
            site.write(name, text)?;
        }
        Ok(site)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.folder.0
    }

    fn port(&self, name: &str) -> Result<u16> {
        let found = self.ports.iter().find(|(known, _)| *known == name);
        Ok(found.with_context(|| format!("no port {name}"))?.1)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let text =
            self.ports.iter().fold(text.replace("@DOCUMENT@", DOCUMENT), |text, (name, port)| {
                text.replace(&format!("@{name}@"), &port.to_string())
            });
        fs::write(self.dir().join(name), text).with_context(|| name.to_owned())
    }

    fn issue(&self) -> Result<()> {
        let pki = self.dir().join("pki");
        issue(&pki)?;
        let both =
            [fs::read(pki.join("gateway.pem"))?, fs::read(pki.join("gateway.key"))?].concat();
        fs::write(pki.join("gateway.both.pem"), both)?;
        Ok(())
    }

    /// Starts the service.
    pub(super) fn start_service(&self, nginx: &Tool, interrupt: &Interrupt) -> Result<Process> {
        let mut command = elsewhere(&nginx.path);
        command.arg("-p").arg(self.dir()).args(["-e", "upstream.err", "-c"]);
        command.arg(self.dir().join("upstream.conf"));
        self.start("service", &mut command, self.port("UPSTREAM")?, interrupt)
    }

    fn start(
        &self,
        name: &'static str,
        command: &mut Command,
        port: u16,
        interrupt: &Interrupt,
    ) -> Result<Process> {
        command.current_dir(self.dir());
        let mut process = Process::start(name, command, self.dir(), interrupt)?;
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        process.wait_until("listening", START, STEP, interrupt, listens)?;
        Ok(process)
    }

    /// Starts all that there are; nginx and Moat must be. What is missing is told.
    pub(super) fn start_sides(&self, nginx: &Tool, interrupt: &Interrupt) -> Result<Vec<Side>> {
        let mut sides = vec![self.moat(interrupt)?, self.nginx(nginx, interrupt)?];
        let others: [Other<'_>; 3] = [
            ("haproxy", "-v", "HAProxy version ", &|tool| Ok(vec![self.haproxy(tool, interrupt)?])),
            ("caddy", "version", "v", &|tool| Ok(vec![self.caddy(tool, interrupt)?])),
            ("envoy", "--version", "version: ", &|tool| self.envoys(tool, interrupt)),
        ];
        for (name, argument, before, start) in others {
            let found =
                find_peer(name).with_context(|| format!("{name} is missing: cargo xtask peers"))?;
            let version = tools::version(&found, argument, before)?;
            let version = version.split('/').nth(1).unwrap_or(&version).to_owned();
            sides.extend(start(&Tool { path: found, version })?);
        }
        Ok(sides)
    }

    fn moat(&self, interrupt: &Interrupt) -> Result<Side> {
        let mut command = super::on_cores(CORE, &std::env::current_exe()?);
        command.args(["serve", "--config"]).arg(self.dir().join("moat.yaml"));
        let mut process = Process::start("moat", &mut command, self.dir(), interrupt)?;
        let is_ready = || self.state().is_ok_and(|state| state.is_ready());
        process.wait_until("ready", START, STEP, interrupt, is_ready)?;
        let state = self.state()?;
        let role = |name: &'static str| -> Result<(&'static str, u32)> {
            let role = state.roles.iter().find(|role| role.name == name && role.pid != 0);
            Ok((name, role.with_context(|| format!("the {name} is away"))?.pid))
        };
        let pids = vec![role("gateway")?, role("auditor")?];
        let name = format!("moat {}", env!("CARGO_PKG_VERSION"));
        Ok(Side { kind: Kind::Moat, name, port: self.port("GATEWAY")?, pids, process })
    }

    fn state(&self) -> Result<State> {
        let (_, body) = status::ask(&self.dir().join("admin.sock"), "GET", "/v1/status")?;
        Ok(serde_json::from_str(&body)?)
    }

    fn nginx(&self, tool: &Tool, interrupt: &Interrupt) -> Result<Side> {
        let mut command = super::on_cores(CORE, &tool.path);
        command.arg("-p").arg(self.dir()).args(["-e", "nginx.err", "-c"]);
        command.arg(self.dir().join("nginx.conf"));
        let port = self.port("NGINX")?;
        let process = self.start("nginx", &mut command, port, interrupt)?;
        let pids = cpu::children(process.pid())?.into_iter().map(|pid| ("worker", pid)).collect();
        let name = format!("nginx {}", tool.version);
        Ok(Side { kind: Kind::Nginx, name, port, pids, process })
    }

    fn haproxy(&self, tool: &Tool, interrupt: &Interrupt) -> Result<Side> {
        let mut command = super::on_cores(CORE, &tool.path);
        command.args(["-db", "-f"]).arg(self.dir().join("haproxy.cfg"));
        self.alone(Kind::Haproxy, "haproxy", tool, &mut command, "HAPROXY", interrupt)
    }

    fn caddy(&self, tool: &Tool, interrupt: &Interrupt) -> Result<Side> {
        let mut command = super::on_cores(CORE, &tool.path);
        command.args(["run", "--adapter", "caddyfile", "--config"]);
        command.arg(self.dir().join("Caddyfile"));
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, self.dir().join("tmp"));
        }
        command.env("GOMAXPROCS", "1");
        self.alone(Kind::Caddy, "caddy", tool, &mut command, "CADDY", interrupt)
    }

    fn envoys(&self, tool: &Tool, interrupt: &Interrupt) -> Result<Vec<Side>> {
        let envoy = |kind, name, file: &str, port| {
            let mut command = super::on_cores(CORE, &tool.path);
            command.args(["--concurrency", "1", "-l", "error", "--use-dynamic-base-id", "-c"]);
            command.arg(self.dir().join(file));
            self.alone(kind, name, tool, &mut command, port, interrupt)
        };
        Ok(vec![
            envoy(Kind::Envoy, "envoy", "envoy.yaml", "ENVOY")?,
            envoy(Kind::EnvoyAsking, "envoy-asking", "asking.yaml", "ASKING")?,
        ])
    }

    /// A side of one process.
    fn alone(
        &self,
        kind: Kind,
        name: &'static str,
        tool: &Tool,
        command: &mut Command,
        port: &str,
        interrupt: &Interrupt,
    ) -> Result<Side> {
        let port = self.port(port)?;
        let process = self.start(name, command, port, interrupt)?;
        let pids = vec![("process", process.pid())];
        Ok(Side { kind, name: format!("{name} {}", tool.version), port, pids, process })
    }

    /// Ends Moat; its log must verify and hold a record for every answer.
    pub(super) fn check_log(&self, sides: &mut [Side]) -> Result<()> {
        let calls = self.state()?.gateway.get("calls").and_then(serde_json::Value::as_u64);
        for side in sides.iter_mut() {
            if side.kind == Kind::Moat {
                side.process.stop();
            } else {
                side.process.check_alive()?;
            }
        }
        let log = self.dir().join("audit");
        let report = verify(&log).with_context(|| log.display().to_string())?;
        if let Some(finding) = report.findings.kept().first() {
            bail!("the log does not verify: {finding}");
        }
        ensure!(report.is_whole() && report.unpaired.is_empty(), "the log does not verify");
        let calls = calls.context("the gateway does not say how many calls it had")?;
        eprintln!("log        whole: {} records of {calls} calls", report.records);
        ensure!(report.records >= calls, "a call has no record");
        Ok(())
    }
}

/// A command that runs on all cores but the one of the side that is measured.
pub(super) fn elsewhere(program: &Path) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = if cores > 1 { format!("1-{}", cores - 1) } else { "0".to_owned() };
    super::on_cores(&others, &PathBuf::from(program))
}
