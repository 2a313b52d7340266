//! What is measured: a folder with certificates and configurations, nginx twice, `moat serve`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use moat_admin::messages::State;
use moat_ca::{Authority, LeafRequest};

use super::Folder;
use super::process::{Interrupt, Process};
use super::tools::Tool;
use crate::ca::now_s;
use crate::demo::setup::{POLICY, USERS};
use crate::status;

const MOAT: &str = include_str!("moat.yaml");
const UPSTREAM: &str = include_str!("nginx-upstream.conf");
const PROXY: &str = include_str!("nginx-proxy.conf");
/// What is asked for.
pub(crate) const TARGET: &str = "/v1/accounts/1001";
/// The answer of the service.
pub(crate) const DOCUMENT: &str = concat!(
    r#"{"id":"1001","owner":{"name":"欧阳修","id_card":"110101199003070076","#,
    r#""mobile":"13800138001","email":"o@bank.test","address":"广东省深圳市南山区科技园1号"},"#,
    r#""card":"6222020200112233446","currency":"CNY","balance":"9876.50"}"#
);
/// Longest start of anything.
const START: Duration = Duration::from_secs(20);
/// How often it is looked whether something has started.
const STEP: Duration = Duration::from_millis(2);
/// Ports to try: below those that Linux gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A rule that reads what is new in each call, so that no decision can be told from an earlier one.
const ANEW: &str = "\ndeny contains \"before_time\" if input.now_ms < 0\n";

/// Whether the policy lets an engine recall what it decided for an equal question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decides {
    /// The demo's policy: it reads caller, route and body, which are the same in every call here.
    AsEver,
    /// The same with one rule more that reads the time.
    Anew,
}

impl Decides {
    pub(crate) fn said(self) -> &'static str {
        match self {
            Decides::AsEver => "a decision made before for an equal question is recalled",
            Decides::Anew => "the policy reads the time: every decision is made anew",
        }
    }
}

/// Folder and ports of one topic.
pub(crate) struct Site {
    folder: Folder,
    pub(crate) proxy: u16,
    pub(crate) gateway: u16,
    pub(crate) upstream: u16,
    probes: u16,
}

impl Site {
    /// Makes certificates and configurations in a new folder.
    pub(crate) fn make(dir: &Path, decides: Decides) -> Result<Site> {
        let folder = Folder::make(dir)?;
        let [upstream, proxy, gateway, probes] = free_ports()?;
        let site = Site { folder, proxy, gateway, upstream, probes };
        issue(&site.dir().join("pki"))?;
        site.write("nginx-upstream.conf", UPSTREAM)?;
        site.write("nginx-proxy.conf", PROXY)?;
        let users = if rustix::process::geteuid().is_root() { USERS } else { "" };
        site.write("moat.yaml", &format!("{MOAT}{users}"))?;
        fs::create_dir(site.dir().join("tmp"))?;
        fs::create_dir(site.dir().join("policy"))?;
        for (name, text) in POLICY {
            let more = if decides == Decides::Anew && name == "authz.rego" { ANEW } else { "" };
            fs::write(site.dir().join("policy").join(name), format!("{text}{more}"))?;
        }
        Ok(site)
    }

    /// Port of the service.
    pub(crate) fn upstream(&self) -> u16 {
        self.upstream
    }

    /// Changes a place of the gateway's configuration before it starts.
    pub(crate) fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.dir().join("moat.yaml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "the configuration has no `{from}`");
        Ok(fs::write(&path, text.replacen(from, to, 1))?)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.folder.0
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir().join("audit")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let text = text
            .replace("@UPSTREAM@", &self.upstream.to_string())
            .replace("@PROXY@", &self.proxy.to_string())
            .replace("@GATEWAY@", &self.gateway.to_string())
            .replace("@PROBES@", &self.probes.to_string())
            .replace("@DOCUMENT@", DOCUMENT);
        fs::write(self.dir().join(name), text).with_context(|| name.to_owned())
    }

    /// Starts nginx as the service and waits until it listens.
    pub(crate) fn start_upstream(&self, nginx: &Tool, interrupt: &Interrupt) -> Result<Process> {
        self.start_nginx("nginx-upstream", nginx, self.upstream, interrupt)
    }

    /// Starts nginx as the proxy and waits until it listens.
    pub(crate) fn start_proxy(&self, nginx: &Tool, interrupt: &Interrupt) -> Result<Process> {
        self.start_nginx("nginx-proxy", nginx, self.proxy, interrupt)
    }

    fn start_nginx(
        &self,
        name: &'static str,
        nginx: &Tool,
        port: u16,
        interrupt: &Interrupt,
    ) -> Result<Process> {
        let mut command = Command::new(&nginx.path);
        // The first errors would go to a file that only root may write.
        command.arg("-p").arg(self.dir()).args(["-e", "nginx.err", "-c"]);
        command.arg(self.dir().join(format!("{name}.conf")));
        let mut process = Process::start(name, &mut command, self.dir(), interrupt)?;
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        process.wait_until("listening", START, STEP, interrupt, listens)?;
        Ok(process)
    }

    /// Starts `moat serve` and waits until it is ready.
    pub(crate) fn start_moat(&self, interrupt: &Interrupt) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--config"]).arg(self.dir().join("moat.yaml"));
        let mut process = Process::start("moat", &mut command, self.dir(), interrupt)?;
        let is_ready = || self.state().is_ok_and(|state| state.is_ready());
        process.wait_until("ready", START, STEP, interrupt, is_ready)?;
        Ok(process)
    }

    /// What the gateway says of itself.
    pub(crate) fn state(&self) -> Result<State> {
        let (_, body) = status::ask(&self.dir().join("admin.sock"), "GET", "/v1/status")?;
        Ok(serde_json::from_str(&body)?)
    }
}

/// Ports that were free a moment ago.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Benches that begin at the same time look in different places first.
    let width = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id().wrapping_mul(41) % u32::from(width))?;
    let tried = (0..width).map(|step| PORTS.start + (first + step) % width);
    let bound = tried.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // Held until all are there.
    let held: Vec<TcpListener> = bound.take(N).collect();
    let ports =
        held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
    let Ok(ports) = <[u16; N]>::try_from(ports) else { bail!("no ports are free") };
    Ok(ports)
}

/// Identities of gateway, service and caller, and the authority that issued them.
pub(super) fn issue(pki: &Path) -> Result<()> {
    let now = now_s();
    let authority = Authority::create("Moat Bench", now)?;
    moat_ca::save(&authority, pki)?;
    for name in ["gateway", "accounts", "teller"] {
        let mut request = LeafRequest::spiffe(&format!("spiffe://bank.test/{name}"), now);
        name.clone_into(&mut request.common_name);
        request.names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        moat_ca::write_identity(&authority.issue(&request)?, pki, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DOCUMENT, MOAT, PORTS, PROXY, UPSTREAM, free_ports};

    #[test]
    fn ports_differ_and_lie_below_those_of_outgoing_connections() {
        let mut ports = free_ports::<4>().unwrap();
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]), "{ports:?}");
    }

    #[test]
    fn the_document_fits_into_a_quoted_string_of_nginx() {
        assert!(!DOCUMENT.contains(['\'', '$', '\\']));
        assert!((230..=260).contains(&DOCUMENT.len()), "{}", DOCUMENT.len());
        assert!(serde_json::from_str::<serde_json::Value>(DOCUMENT).is_ok());
    }

    #[test]
    fn configurations_name_only_ports_that_are_replaced() {
        for text in [MOAT, PROXY, UPSTREAM] {
            let known = ["@UPSTREAM@", "@PROXY@", "@GATEWAY@", "@PROBES@", "@DOCUMENT@"];
            let left = known.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
            assert!(!left.contains('@'), "{left}");
        }
    }
}
