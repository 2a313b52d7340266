//! Everything the demo needs: folder, certificates, configuration, processes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use moat_admin::messages::State;
use moat_ca::{Authority, LeafRequest};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::client::Client;
use super::say::Say;
use crate::ca::now_s;
use crate::status;

const FOLDER: &str = ".moat-demo";
/// A folder without this file was not made here and is not touched.
const MARK: &str = "made-by-moat-demo";
const CONFIG: &str = include_str!("../../../../examples/demo/moat.yaml");
pub(crate) const POLICY: [(&str, &str); 3] = [
    ("authz.rego", include_str!("../../../../examples/demo/policy/authz.rego")),
    ("authz_test.rego", include_str!("../../../../examples/demo/policy/authz_test.rego")),
    ("limits.json", include_str!("../../../../examples/demo/policy/limits.json")),
];
/// A terminal that the switch does not answer.
pub(super) const SILENT_TERMINAL: &str = "SILENT01";
/// The teller's second key, and its id.
const STEP_UP_KEY: &str = "teller-step-up.key";
pub(crate) const STEP_UP_KEY_ID: &str = "teller-1";
/// User ids for the roles when root runs the demo: no user of that number need exist.
pub(crate) const USERS: &str =
    "\nusers: { gateway: \"64001\", auditor: \"64002\", admin: \"64003\", kernel: \"64006\" }\n";
/// Longest wait for everything to be ready.
const START: Duration = Duration::from_secs(20);

pub(crate) struct Ports {
    pub(crate) gateway: u16,
    pub(super) accounts: u16,
    probes: u16,
    /// Of card messages, in two dialects.
    pub(super) cards: u16,
    pub(super) cards_1993: u16,
    switch: u16,
    switch_1993: u16,
}

pub(crate) struct Setup {
    pub(crate) dir: PathBuf,
    pub(crate) ports: Ports,
    pub(crate) program: PathBuf,
    children: Vec<(&'static str, Child)>,
}

impl Setup {
    /// Makes folder, certificates and configuration anew.
    pub(crate) fn make(port_base: u16, say: &mut Say) -> Result<Setup> {
        say.step("certificates, policy and configuration", "证书、策略与配置");
        let dir = PathBuf::from(FOLDER);
        if dir.exists() {
            if !dir.join(MARK).exists() {
                bail!("{FOLDER} was not made by the demo; move it away first");
            }
            fs::remove_dir_all(&dir).with_context(|| format!("{FOLDER} cannot be removed"))?;
        }
        fs::create_dir_all(dir.join("policy"))?;
        fs::write(dir.join(MARK), "`moat demo` removes and remakes this folder.\n")?;
        let port = |at: u16| port_base.checked_add(at).context("--port-base is too high");
        let ports = Ports {
            gateway: port_base,
            accounts: port(1)?,
            probes: port(2)?,
            cards: port(3)?,
            cards_1993: port(4)?,
            switch: port(5)?,
            switch_1993: port(6)?,
        };
        let program = std::env::current_exe()?;
        let setup = Setup { dir, ports, program, children: Vec::new() };
        setup.issue(say)?;
        setup.register()?;
        setup.write_config()?;
        Ok(setup)
    }

    fn issue(&self, say: &Say) -> Result<()> {
        let pki = self.dir.join("pki");
        let now = now_s();
        let ordinary = Authority::create("Moat Demo", now)?;
        let national = Authority::create_sm2("Moat Demo", now)?;
        moat_ca::save(&ordinary, &pki)?;
        moat_ca::save(&national, &pki)?;
        let both = format!("{}{}", ordinary.trust_pem(), national.trust_pem());
        fs::write(pki.join("trust.pem"), both)?;
        let issue = |authority: &Authority, stem: &str, uris: &[&str], from_s, days: i64| {
            let mut request = LeafRequest::spiffe("spiffe://bank.test/x", from_s);
            stem.clone_into(&mut request.common_name);
            request.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
            request.names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            request.organization = Some("Demo Bank".to_owned());
            request.valid_s = days * 86_400;
            anyhow::Ok(moat_ca::write_identity(&authority.issue(&request)?, &pki, stem)?)
        };
        for name in ["gateway", "teller", "auditor", "acquirer", "switch"] {
            issue(&ordinary, name, &[&format!("spiffe://bank.test/{name}")], now, 30)?;
        }
        for name in ["gateway", "accounts", "teller"] {
            let id = format!("spiffe://bank.test/{name}");
            issue(&national, &format!("{name}-sm2"), &[&id], now, 30)?;
        }
        let [teller, auditor] = ["spiffe://bank.test/teller", "spiffe://bank.test/auditor"];
        issue(&ordinary, "expired", &[teller], now - 10 * 86_400, 1)?;
        issue(&ordinary, "stranger", &["spiffe://other.test/teller"], now, 30)?;
        issue(&ordinary, "twofold", &[teller, auditor], now, 30)?;
        say.note(&format!("{}/root.pem and root-sm2.pem, 11 identities", pki.display()));
        Ok(())
    }

    /// The teller's second key, for answers to challenges. A bank would have it in an HSM or TPM.
    fn register(&self) -> Result<()> {
        let key = Ed25519KeyPair::generate()?;
        let pki = self.dir.join("pki");
        let body = data_encoding::BASE64.encode(key.to_pkcs8v1()?.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let path = pki.join(STEP_UP_KEY);
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        file?.write_all(pem.as_bytes())?;
        let jwk = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "kid": STEP_UP_KEY_ID, "held_in": "file",
            "x": data_encoding::BASE64URL_NOPAD.encode(key.public_key().as_ref()),
            "spiffe": "spiffe://bank.test/teller",
        });
        let keys = serde_json::json!({ "keys": [jwk] });
        fs::write(pki.join("step-up-keys.json"), serde_json::to_string_pretty(&keys)?)?;
        Ok(())
    }

    /// What [`Setup::register`] made.
    pub(crate) fn step_up_key(&self) -> Result<Ed25519KeyPair> {
        let pem = fs::read(self.dir.join("pki").join(STEP_UP_KEY))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)?;
        Ok(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())?)
    }

    fn write_config(&self) -> Result<()> {
        let Ports { gateway, accounts, probes, cards, cards_1993, switch, switch_1993 } =
            self.ports;
        let ports = [gateway, accounts, probes, cards, cards_1993, switch, switch_1993];
        let mut config = CONFIG.to_owned();
        // By way of a mark: what was put in must not be taken out again.
        for (from, to) in (8443_u16..).zip(ports) {
            config = config.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:@{to}"));
        }
        config = config.replace("127.0.0.1:@", "127.0.0.1:");
        if rustix::process::geteuid().is_root() {
            config.push_str(USERS);
        }
        fs::write(self.dir.join("moat.yaml"), config)?;
        fs::write(self.dir.join("moat.schema.json"), moat_config::schema_json()?)?;
        for (name, text) in POLICY {
            fs::write(self.dir.join("policy").join(name), text)?;
        }
        Ok(())
    }

    /// Starts the accounts service and the gateway and waits until all is ready.
    pub(crate) async fn start(&mut self, say: &mut Say) -> Result<()> {
        say.step(
            "starting the accounts service, the card switch and the gateway",
            "启动账户服务、银行卡交换与网关",
        );
        self.start_accounts()?;
        self.start_switch()?;
        let begun = Instant::now();
        let mut serve = Command::new(&self.program);
        serve.args(["serve", "--config"]).arg(self.dir.join("moat.yaml"));
        self.spawn("gateway", serve)?;
        loop {
            if let Some(state) = self.state().filter(State::is_ready) {
                let took = begun.elapsed().as_millis();
                say.note(&format!("{} {took} ms", say.pick("gateway ready after", "网关就绪用时")));
                for role in &state.roles {
                    say.note(&format!(
                        "{:<8} pid {} uid {} landlock {} seccomp {}",
                        role.name, role.pid, role.uid, role.landlock, role.seccomp
                    ));
                }
                return Ok(());
            }
            self.check_alive()?;
            if begun.elapsed() > START {
                bail!("not ready in time; see {FOLDER}/gateway.log");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn start_accounts(&mut self) -> Result<()> {
        let program = self.program.with_file_name("moat-accounts");
        if !program.exists() {
            bail!(
                "{} is missing: build it with `cargo build -p moat-accounts`, or run `make demo`",
                program.display()
            );
        }
        let pki = self.dir.join("pki");
        let mut command = Command::new(program);
        command
            .arg(format!("--listen=127.0.0.1:{}", self.ports.accounts))
            .arg("--cert")
            .arg(pki.join("accounts-sm2.pem"))
            .arg("--key")
            .arg(pki.join("accounts-sm2.key"))
            .arg("--trust")
            .arg(pki.join("root-sm2.pem"))
            .arg("--data")
            .arg(self.dir.join("accounts.redb"))
            .args(["--allow-spiffe", "spiffe://bank.test/gateway", "--seed"]);
        self.spawn("accounts", command)
    }

    fn start_switch(&mut self) -> Result<()> {
        let program = self.program.with_file_name("moat-switch");
        if !program.exists() {
            bail!(
                "{} is missing: build it with `cargo build -p moat-switch`, or run `make demo`",
                program.display()
            );
        }
        let pki = self.dir.join("pki");
        let mut command = Command::new(program);
        for (port, dialect) in [
            (self.ports.switch, "iso8583-1987-ascii"),
            (self.ports.switch_1993, "iso8583-1993-bcd"),
        ] {
            command.arg(format!("--listen=127.0.0.1:{port}={dialect}"));
        }
        command
            .arg("--cert")
            .arg(pki.join("switch.pem"))
            .arg("--key")
            .arg(pki.join("switch.key"))
            .arg("--trust")
            .arg(pki.join("root.pem"))
            .arg("--data")
            .arg(self.dir.join("cards.redb"))
            .args(["--allow-spiffe", "spiffe://bank.test/gateway", "--seed"])
            .args(["--silent-terminal", SILENT_TERMINAL]);
        self.spawn("switch", command)
    }

    fn spawn(&mut self, name: &'static str, mut command: Command) -> Result<()> {
        let log = File::create(self.dir.join(format!("{name}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        self.children.push((name, child));
        Ok(())
    }

    /// An early end of a process is told with the last lines of its log.
    fn check_alive(&mut self) -> Result<()> {
        for (name, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                let log = self.dir.join(format!("{name}.log"));
                let text = fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(5).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{name} ended ({status}):\n{}", tail.join("\n"));
            }
        }
        Ok(())
    }

    /// What the gateway says of itself; nothing while it is not there yet.
    pub(crate) fn state(&self) -> Option<State> {
        let socket = self.dir.join("admin.sock");
        let (_, body) = status::ask(&socket, "GET", "/v1/status").ok()?;
        serde_json::from_str(&body).ok()
    }

    /// A caller with the identity `stem`, or without any.
    pub(crate) fn client(&self, stem: Option<&str>) -> Result<Client> {
        self.client_at(self.ports.gateway, stem)
    }

    /// The same at another listener.
    pub(crate) fn client_at(&self, port: u16, stem: Option<&str>) -> Result<Client> {
        let read = |name: String| {
            let path = self.dir.join("pki").join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let is_sm2 = stem.is_some_and(|stem| stem.ends_with("-sm2"));
        let trust = read(if is_sm2 { "root-sm2.pem" } else { "root.pem" }.to_owned())?;
        match stem {
            None => Client::new(port, &trust, None),
            Some(stem) => {
                let (chain, key) = (read(format!("{stem}.pem"))?, read(format!("{stem}.key"))?);
                Client::new(port, &trust, Some((&chain, &key)))
            }
        }
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.join("audit")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.dir).join(name)
    }

    /// Ends what was started: politely, then not.
    pub(crate) fn stop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            if let Some(pid) =
                i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.stop();
    }
}
