//! `moat bench envoy-handshake`: a new connection with one call through Moat and through Envoy, in turn.
//!
//! Both demand a certificate, look into the lists of revoked certificates of every authority below the
//! root, and want a SPIFFE id of the trust domain; both call the same nginx over mutual TLS on
//! connections that are kept. Moat also decides, masks, and makes its record durable before the answer.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moat_auditor::bench::{Goal, Row};
use moat_ca::{Kind, Level, Window};
use rustls::NamedGroup;

use super::load::{CONNECTIONS, Load};
use super::process::{Interrupt, Process};
use super::site::{Decides, Site};
use super::tools::Tools;
use super::{cpu, machine, median, tools};
use crate::ca::now_s;

/// The group in which both agree on keys; callers offer nothing else.
const GROUP: NamedGroup = NamedGroup::X25519;
/// CPU of gateway and auditor against Envoy.
const RATIO_MAX: f64 = 0.75;
/// Calls of each side before the first round, which are not measured.
const WARM_UP_CALLS: u64 = 300;
/// How long the lists are good, in seconds.
const LIST_S: i64 = 86_400;
/// Longest start of Envoy.
const START: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

const ENVOY: &str = include_str!("envoy-proxy.yaml");
const TRUST: &str = r#"trust: "file:pki/root.pem" }"#;
const LISTS: &str =
    r#"trust: "file:pki/root.pem", crls: ["file:pki/issuing.crl", "file:pki/root.crl"] }"#;

pub(crate) fn run(dir: &Path, calls: u64, rounds: u32, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let (tools, envoy) = (Tools::find()?, tools::envoy()?);
    let site = Site::make(dir, Decides::AsEver)?;
    machine::describe(site.dir())?;
    let peer = format!("Envoy {}", envoy.version);
    eprintln!("peer       {peer} ({}), one worker", envoy.path.display());
    eprintln!("load       callers of this program, a new connection for every call,");
    eprintln!("           {CONNECTIONS} at once, {calls} a round, {rounds} rounds in turn");
    lists(&site.dir().join("pki"))?;
    let config = site.dir().join("moat.yaml");
    let text = fs::read_to_string(&config)?;
    ensure!(text.contains(TRUST), "the configuration has no group of callers");
    fs::write(&config, text.replacen(TRUST, LISTS, 1))?;
    let _upstream = site.start_upstream(&tools.nginx, interrupt)?;
    let mut proxy = start_envoy(&envoy.path, &site, interrupt)?;
    let mut moat = site.start_moat(interrupt)?;
    let ours = [role(&site, "gateway")?, role(&site, "auditor")?];
    let theirs = [proxy.pid()];
    eprintln!("CPU        {}; moat: gateway and auditor", cpu::Cpu::of(proxy.pid())?.clock());
    let load = |port: u16, calls: u64| Load {
        oha: &tools.oha,
        dir: site.dir(),
        port,
        calls,
        fresh: Some(GROUP),
    };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let many = if round == 0 { WARM_UP_CALLS } else { calls };
        let envoy = each_us(&theirs, &load(site.proxy, many), interrupt)?;
        let moat = each_us(&ours, &load(site.gateway, many), interrupt)?;
        if round > 0 {
            eprintln!("round {round:<4} moat {moat:>8.2} us CPU   {peer} {envoy:>8.2} us CPU");
            here.push(moat);
            there.push(envoy);
        }
    }
    moat.check_alive()?;
    proxy.check_alive()?;
    let none = "nothing was measured";
    let row = Row::new("CPU a connection, lists and SPIFFE", median(here).context(none)?, "us");
    let row = row.beside(&peer, median(there).context(none)?);
    Ok(vec![row.should_be(Goal::RatioAtMost(RATIO_MAX))])
}

/// What each call of a run cost these processes.
fn each_us(pids: &[u32], load: &Load<'_>, interrupt: &Interrupt) -> Result<f64> {
    let before = cpu::of_all(pids)?;
    load.run(interrupt, || Ok(()))?;
    Ok(cpu::between(&before, &cpu::of_all(pids)?) as f64 / 1e3 / load.calls as f64)
}

/// The lists of both authorities, also in one file.
fn lists(pki: &Path) -> Result<()> {
    let mut all = String::new();
    for level in [Level::Issuing, Level::Root] {
        let authority = moat_ca::load(pki, Kind::P256, Some(level))?;
        let mut register = moat_ca::open(pki, &authority, level)?;
        let window = Window { from_s: now_s(), length_s: LIST_S };
        let place = (pki, None);
        let (list, _) =
            moat_ca::write_list(&authority, level, &mut register, window, place, false)?;
        all += &list.pem;
    }
    fs::write(pki.join("all.crl"), all)?;
    Ok(())
}

fn start_envoy(program: &Path, site: &Site, interrupt: &Interrupt) -> Result<Process> {
    let text = ENVOY.replace("@PROXY@", &site.proxy.to_string());
    fs::write(
        site.dir().join("envoy.yaml"),
        text.replace("@UPSTREAM@", &site.upstream.to_string()),
    )?;
    let mut command = Command::new(program);
    command.args(["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]);
    command.current_dir(site.dir());
    let mut process = Process::start("envoy", &mut command, site.dir(), interrupt)?;
    let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, site.proxy)).is_ok();
    process.wait_until("listening", START, STEP, interrupt, listens)?;
    Ok(process)
}

fn role(site: &Site, name: &str) -> Result<u32> {
    let state = site.state()?;
    let role = state.roles.iter().find(|role| role.name == name && role.pid != 0);
    Ok(role.with_context(|| format!("the {name} is away"))?.pid)
}
