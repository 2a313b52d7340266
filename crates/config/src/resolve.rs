//! From the raw form to the resolved one. Everything that can be wrong is collected, not only the
//! first thing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use moat_model::Code;
use moat_model::code::config as codes;
use moat_model::egress::{Protocol as Transport, Rule};
use moat_tlog::secret::SecretKey;
use moat_tlog::token::TokenKey;
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use crate::kept::Kept;
use crate::load::{Loaded, as_usize, problem};
use crate::messages::{self, Dialect};
use crate::outline::Outline;
use crate::problem::nearest;
use crate::raw::{
    Raw, RawEgressDefault, RawHsm, RawIdentity, RawLandlock, RawListener, RawNational, RawProfile,
    RawRetention, RawTlsRecords, Text,
};
use crate::resolved::{
    AdminSettings, AuditSettings, Bind, Config, Egress, FactSource, Hot, HsmSettings, Identity,
    Listener, National, PROBES, Place, PolicySigned, Profile, Restart, RetentionDays, TlsRecords,
    TokenIssuer, Upstream, Users,
};
use crate::secret::{Fetched, OPEN, Read};
use crate::sources::Sources;
use crate::witnesses::witnesses;
use crate::{
    Problem, resolve_enforcers, resolve_keys, resolve_risk, resolve_route, resolve_trust,
    resolve_upstream, secret,
};

/// Most connections a listener may be told to hold.
pub(crate) const CONNECTIONS_MAX: u32 = 1_000_000;
/// Most unfinished handshakes of one source address, unless the listener says otherwise.
const HANDSHAKES_PER_SOURCE: u32 = 64;
/// Most identities of one side: an international and an SM2 one.
const IDENTITIES_MAX: usize = 2;
/// Most keys that sign the log at once.
const LOG_KEYS_MAX: usize = 4;
/// Most worker threads.
const WORKERS_MAX: u16 = 64;
/// Longest wait that may be configured anywhere, in milliseconds.
pub(crate) const WAIT_MS_MAX: u64 = 3_600_000;
/// Most addresses of services. Those of two configurations and both their lists go into the
/// kernel's table at once, which has 2,048 places.
const SERVICES_MAX: usize = 512;
/// Most interfaces under `kernel.tls_records`.
const INTERFACES_MAX: usize = 16;
/// Most entries under `egress.allow`.
const EGRESS_RULES_MAX: usize = 256;
/// Most files in a policy folder.
const POLICY_FILES_MAX: usize = 10_000;

/// Collects problems and watched files while resolving.
pub(crate) struct Resolver<'a> {
    sources: &'a Sources,
    pub(crate) base: PathBuf,
    pub(crate) prod: bool,
    pub(crate) problems: Vec<Problem>,
    warnings: Vec<Problem>,
    watched: Vec<PathBuf>,
    digest: Context,
    outline: Outline,
    /// Dialects of listeners and of services, once they are known.
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) links: Vec<Dialect>,
    /// What is taken in place of what references lead to now, but for secrets.
    kept: Option<&'a Kept>,
    pub(crate) raw: &'a Raw,
}

impl Resolver<'_> {
    /// Notes a problem at the place of `at`.
    pub(crate) fn bad<T>(
        &mut self,
        code: &'static Code,
        at: &Spanned<T>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let problem = self.problem(code, at, message.into(), fix.into());
        self.problems.push(problem);
    }

    fn problem<T>(
        &self,
        code: &'static Code,
        at: &Spanned<T>,
        message: String,
        fix: String,
    ) -> Problem {
        let (file, line) = self.sources.locate(as_usize(at.referenced.line()));
        problem(file, code, (line, as_usize(at.referenced.column())), message, fix)
    }

    /// A key that others than its owner may read or replace is refused in `prod`, and told
    /// elsewhere.
    fn check_rights(&mut self, key: &Text, fetched: &Fetched) {
        let Some(path) = &fetched.path else { return };
        if fetched.open_to & OPEN == 0 {
            return;
        }
        let message = format!("group or others may read or write {}", path.display());
        let fix = format!("chmod 600 {}", path.display());
        let problem = self.problem(&codes::KEY_EXPOSED, key, message, fix);
        if self.prod { self.problems.push(problem) } else { self.warnings.push(problem) }
    }

    /// Notes a problem that has no place of its own.
    pub(crate) fn bad_whole(&mut self, code: &'static Code, message: impl Into<String>) {
        let (message, fix) = (message.into(), String::new());
        self.problems.push(problem(&self.sources.name, code, (0, 0), message, fix));
    }

    pub(crate) fn fetch(&mut self, reference: &Text) -> Vec<u8> {
        core::mem::take(&mut *self.fetch_bytes(reference, false))
    }

    /// The same of a secret, which is wiped when it is dropped.
    fn fetch_secret(&mut self, reference: &Text) -> Zeroizing<Vec<u8>> {
        self.fetch_bytes(reference, true)
    }

    fn fetch_bytes(&mut self, reference: &Text, is_secret: bool) -> Zeroizing<Vec<u8>> {
        let kept = self.kept.filter(|_| !is_secret);
        if let Some(bytes) = kept.and_then(|kept| kept.fetched.get(&reference.value)) {
            add(&mut self.digest, Part::Fetched, bytes);
            self.outline.fetched(&reference.value, bytes, is_secret);
            let path = reference.value.strip_prefix("file:").map(|path| self.base.join(path));
            self.watched.extend(path);
            return Zeroizing::new(bytes.clone());
        }
        match secret::fetch(&reference.value, &self.base, is_secret) {
            Ok(fetched) => {
                if is_secret {
                    self.check_rights(reference, &fetched);
                }
                add(&mut self.digest, Part::Fetched, &fetched.bytes);
                self.outline.fetched(&reference.value, &fetched.bytes, is_secret);
                self.watched.extend(fetched.path);
                fetched.bytes
            }
            Err((code, message, fix)) => {
                self.bad(code, reference, message, fix);
                Zeroizing::default()
            }
        }
    }

    pub(crate) fn bounded(
        &mut self,
        value: Option<&Spanned<u64>>,
        default: u64,
        range: core::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(value) = value else { return default };
        if !range.contains(&value.value) {
            let fix = format!("write a number from {} to {}", range.start(), range.end());
            self.bad(&codes::BAD_VALUE, value, format!("{} is out of range", value.value), fix);
        }
        value.value
    }

    pub(crate) fn bounded32(
        &mut self,
        value: Option<&Spanned<u32>>,
        default: u32,
        most: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        if value.value == 0 || value.value > most {
            let fix = format!("write a number from 1 to {most}");
            self.bad(&codes::BAD_VALUE, value, format!("{} is out of range", value.value), fix);
        }
        value.value
    }

    pub(crate) fn address(&mut self, text: &Text) -> SocketAddr {
        text.value.parse().unwrap_or_else(|_| {
            let fix = "write an IP address and a port, for example 0.0.0.0:8443";
            self.bad(&codes::BAD_VALUE, text, format!("`{}` is no address", text.value), fix);
            SocketAddr::from(([127, 0, 0, 1], 1))
        })
    }

    pub(crate) fn unique<'t>(&mut self, what: &str, names: impl Iterator<Item = &'t Text>) {
        let mut seen = BTreeSet::new();
        for name in names {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.value.is_empty() || !name.value.chars().all(fine) || name.value.len() > 64 {
                let fix = "use 1 to 64 letters, digits, `-`, `_` or `.`";
                self.bad(&codes::BAD_VALUE, name, format!("bad name for a {what}"), fix);
            }
            if !seen.insert(name.value.as_str()) {
                let message = format!("two {what}s are called `{}`", name.value);
                self.bad(&codes::DUPLICATE_KEY, name, message, "rename one of them");
            }
        }
    }
}

/// What the digest is made of. The number stands before each part.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Part {
    /// Name of a file of a folder.
    FragmentName = 1,
    /// Text of the configuration, or of one file of it.
    Text = 2,
    /// What a reference names.
    Fetched = 3,
    /// Path of a file below the policy folder.
    PolicyName = 4,
    /// What is in it.
    Policy = 5,
}

/// Adds a part behind its kind and length, so that no other cut into parts has the same digest.
fn add(digest: &mut Context, part: Part, bytes: &[u8]) {
    digest.update(&[part as u8]);
    // A length of 64 bits on every machine.
    digest.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    digest.update(bytes);
}

pub(crate) fn resolve(
    raw: &Raw,
    sources: &Sources,
    kept: Option<&Kept>,
) -> Result<Loaded, Vec<Problem>> {
    let mut digest = Context::new(&SHA256);
    for source in &sources.list {
        if sources.is_folder {
            let name = source.path.file_name().unwrap_or_default();
            add(&mut digest, Part::FragmentName, name.as_encoded_bytes());
        }
        add(&mut digest, Part::Text, source.text.as_bytes());
    }
    let folder = sources.is_folder.then(|| sources.base.clone());
    let files = sources.list.iter().map(|source| source.path.clone());
    let mut r = Resolver {
        sources,
        base: sources.base.clone(),
        prod: raw.profile == RawProfile::Prod,
        problems: Vec::new(),
        warnings: Vec::new(),
        watched: folder.into_iter().chain(files).collect(),
        digest,
        outline: Outline::of(sources),
        dialects: Vec::new(),
        links: Vec::new(),
        kept,
        raw,
    };
    check_header(&mut r);
    let listeners: Vec<Listener> = raw.listeners.iter().map(|l| listener(&mut r, l)).collect();
    let with_tls = listeners.iter().find(|l| !l.identities.is_empty());
    let first = with_tls.map_or_else(Vec::new, |l| l.identities.clone());
    let upstreams: Vec<Upstream> =
        raw.upstreams.iter().map(|u| resolve_upstream::upstream(&mut r, u, &first)).collect();
    let routes = raw.routes.iter().map(|route| resolve_route::route(&mut r, route)).collect();
    let hot = Hot {
        trust_domain: raw.trust_domain.value.clone(),
        listeners,
        upstreams,
        routes,
        policy: policy(&mut r),
        policy_signed: policy_signed(&mut r),
        facts: facts(&mut r),
        tokens: tokens(&mut r),
        tls_groups: raw.tls.groups.iter().map(|name| name.value.clone()).collect(),
        tls_suites: raw.tls.suites.iter().map(|name| name.value.clone()).collect(),
        places: resolve_risk::places(&mut r),
        step_up_keys: raw.step_up.keys.as_ref().map_or_else(Vec::new, |keys| r.fetch(keys)),
        labels: raw.labels.clone(),
        dns: resolve_upstream::dns(&mut r),
        overload_lag_ms: r.bounded(raw.overload.lag_ms.as_ref(), 100, 0..=WAIT_MS_MAX),
        audit_deadline_ms: r.bounded(raw.audit.deadline_ms.as_ref(), 500, 10..=30_000),
    };
    let restart = restart(&mut r);
    let egress = egress(&mut r, &hot.upstreams, &hot.tokens, &hot.dns);
    if r.problems.is_empty() {
        let digest = data_encoding::HEXLOWER.encode(r.digest.finish().as_ref());
        Ok(Loaded {
            config: Config { restart, hot, egress, digest },
            watched: r.watched,
            warnings: r.warnings,
            outline: r.outline,
        })
    } else {
        Err(r.problems)
    }
}

fn check_header(r: &mut Resolver<'_>) {
    let raw = r.raw;
    if raw.api_version.value != "moat/v1" {
        r.bad(&codes::BAD_VALUE, &raw.api_version, "unknown version", "write `moat/v1`");
    }
    if raw.kind.value != "Gateway" {
        r.bad(&codes::BAD_VALUE, &raw.kind, "unknown kind", "write `Gateway`");
    }
    let domain = &raw.trust_domain;
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if domain.value.is_empty() || !domain.value.bytes().all(fine) {
        let fix = "use lower-case letters, digits, `.`, `-` and `_` only";
        r.bad(&codes::BAD_VALUE, domain, "this is no SPIFFE trust domain", fix);
    }
    r.unique("listener", raw.listeners.iter().map(|l| &l.name));
    r.unique("upstream", raw.upstreams.iter().map(|u| &u.name));
    r.unique("route", raw.routes.iter().map(|route| &route.name));
    for (key, empty) in [
        ("listeners", raw.listeners.is_empty()),
        ("upstreams", raw.upstreams.is_empty()),
        ("routes", raw.routes.is_empty()),
    ] {
        if empty {
            r.bad_whole(&codes::MISSING_KEY, format!("`{key}` is empty"));
        }
    }
}

fn listener(r: &mut Resolver<'_>, raw: &RawListener) -> Listener {
    let enforcers = resolve_enforcers::enforcers(r, raw);
    if raw.tls.is_none() && resolve_enforcers::socket(raw).is_none() {
        r.bad(&codes::MISSING_KEY, &raw.name, "`tls` is missing", "say who the gateway is");
    }
    let messages = match (&raw.protocol, &raw.iso8583) {
        (Some(protocol), Some(own)) if protocol.value == "iso8583" => {
            messages::messages(r, &raw.name, own, true)
        }
        (Some(protocol), None) if protocol.value == "iso8583" => {
            let fix = "add `iso8583: { spec: NAME }`";
            r.bad(&codes::MISSING_KEY, protocol, "the dialect is missing", fix);
            None
        }
        (_, Some(own)) => {
            let fix = "write `protocol: iso8583`, or remove `iso8583`";
            r.bad(&codes::CONFLICT, &own.spec, "the listener does not speak ISO 8583", fix);
            None
        }
        _ => None,
    };
    Listener {
        messages,
        name: raw.name.value.clone(),
        connections_max: r.bounded32(raw.connections_max.as_ref(), 10_000, CONNECTIONS_MAX),
        handshakes_per_source_max: r.bounded32(
            raw.handshakes_per_source_max.as_ref(),
            HANDSHAKES_PER_SOURCE,
            CONNECTIONS_MAX,
        ),
        identities: raw
            .tls
            .as_ref()
            .map_or_else(Vec::new, |tls| identities(r, &raw.name, &tls.identities)),
        national: raw.tls.as_ref().map_or(National::Off, |tls| national(tls.national)),
        clients: raw
            .tls
            .as_ref()
            .map_or_else(Vec::new, |tls| resolve_trust::clients(r, &raw.name, &tls.clients)),
        enforcers,
    }
}

/// One or two. Whether they are of different kinds is found out when they are read.
pub(crate) fn identities(r: &mut Resolver<'_>, name: &Text, raw: &[RawIdentity]) -> Vec<Identity> {
    if raw.is_empty() || raw.len() > IDENTITIES_MAX {
        let message = "there must be one identity, or one international and one SM2";
        r.bad(&codes::BAD_VALUE, name, message, "list one or two under `identities`");
        return Vec::new();
    }
    let one = |identity: &RawIdentity| Identity {
        chain_pem: r.fetch(&identity.certificate),
        key_pem: r.fetch_secret(&identity.key),
        password: identity.password.as_ref().map(|text| {
            let mut bytes = r.fetch_secret(text);
            // As `echo` ends a file.
            bytes.pop_if(|last| *last == b'\n');
            bytes
        }),
        ocsp: identity.ocsp.as_ref().map(|text| r.fetch(text)),
    };
    raw.iter().map(one).collect()
}

pub(crate) fn national(raw: RawNational) -> National {
    match raw {
        RawNational::Off => National::Off,
        RawNational::Allow => National::Allow,
        RawNational::Prefer => National::Prefer,
        RawNational::Only => National::Only,
    }
}

fn restart(r: &mut Resolver<'_>) -> Restart {
    let raw = r.raw;
    let bind = |r: &mut Resolver<'_>, l: &RawListener| match resolve_enforcers::socket(l) {
        Some(path) => Bind::Unix(r.base.join(path)),
        None => Bind::Tcp(r.address(&l.bind)),
    };
    let binds = raw.listeners.iter().map(|l| (l.name.value.clone(), bind(r, l))).collect();
    let workers = match &raw.workers {
        Some(workers) if workers.value == 0 || workers.value > WORKERS_MAX => {
            let fix = format!("write a number from 1 to {WORKERS_MAX}");
            r.bad(&codes::BAD_VALUE, workers, "out of range", fix);
            1
        }
        Some(workers) => workers.value,
        None => cores().min(WORKERS_MAX),
    };
    let dir = r.base.join(&raw.audit.dir.value);
    let socket = match &raw.admin.socket {
        Some(socket) => r.base.join(&socket.value),
        None => dir.parent().unwrap_or(&dir).join("admin.sock"),
    };
    let probes = match &raw.admin.probes {
        Some(probes) => r.address(probes),
        None => SocketAddr::from(([127, 0, 0, 1], 9090)),
    };
    let second_dir = raw.audit.second_dir.as_ref().map(|second| {
        let path = r.base.join(&second.value);
        if path.starts_with(&dir) {
            let fix = "name a folder outside `audit.dir`, best on another volume";
            r.bad(&codes::CONFLICT, second, "it lies in the folder that it is to outlive", fix);
        }
        path
    });
    let origin = match &raw.audit.origin {
        Some(origin) => origin.value.clone(),
        None => format!("{}/audit/{}", raw.trust_domain.value, host_name()),
    };
    let witnesses = witnesses(r);
    let mib = r.bounded(raw.audit.segment_mib.as_ref(), 64, 1..=256);
    let user = |text: &Option<Text>, default: &str| {
        text.as_ref().map_or_else(|| default.to_owned(), |t| t.value.clone())
    };
    Restart {
        profile: if r.prod { Profile::Prod } else { Profile::Dev },
        binds,
        workers,
        audit: AuditSettings {
            dir,
            second_dir,
            segment_bytes: mib * 1024 * 1024,
            keys: log_keys(r, &origin),
            checkpoint_every_ms: r.bounded(
                raw.audit.checkpoint_every_ms.as_ref(),
                1_000,
                10..=60_000,
            ),
            hsm: hsm(r),
            has_sm3: raw.audit.sm3_tree,
            witnesses,
            is_packing: raw.audit.pack.as_ref().is_none_or(|pack| pack.value),
            retention: raw.audit.retention.as_ref().map(|raw| retention(r, raw)),
            origin,
        },
        admin: AdminSettings { socket, probes },
        users: Users {
            gateway: user(&raw.users.gateway, "moat-app"),
            auditor: user(&raw.users.auditor, "moat-audit"),
            admin: user(&raw.users.admin, "moat-admin"),
            courier: user(&raw.users.courier, "moat-courier"),
            hsm: user(&raw.users.hsm, "moat-hsm"),
            kernel: user(&raw.users.kernel, "moat-kernel"),
        },
        is_partial_landlock_enough: raw.sandbox.landlock == RawLandlock::Partial,
        probes_required: probes_required(r),
        tls_records: r.raw.kernel.tls_records.as_ref().map(|raw| tls_records(r, raw)),
        latency_stall_ms: latency(r),
        risk_subjects_max: resolve_risk::subjects_max(r),
        replay: resolve_risk::replay(r),
    }
}

fn tls_records(r: &mut Resolver<'_>, raw: &RawTlsRecords) -> TlsRecords {
    if raw.interfaces.is_empty() || raw.interfaces.len() > INTERFACES_MAX {
        let message = format!("`tls_records` takes 1 to {INTERFACES_MAX} interfaces");
        r.bad_whole(&codes::BAD_VALUE, message);
    }
    for name in raw.interfaces.iter().filter(|name| !is_interface(&name.value)) {
        let fix = "write the name of a network interface, for example eth0";
        r.bad(&codes::BAD_VALUE, name, format!("`{}` is no interface", name.value), fix);
    }
    if let Some(excess) = raw.admit.get(EGRESS_RULES_MAX) {
        let fix = format!("write at most {EGRESS_RULES_MAX}, with shorter prefixes");
        r.bad(&codes::TOO_LARGE, excess, "too many networks", fix);
    }
    let mut admit = Vec::new();
    for text in raw.admit.iter().take(EGRESS_RULES_MAX) {
        match text.value.parse::<Rule>() {
            Ok(rule) if rule.port.is_none() && rule.protocol == Transport::Tcp => {
                admit.push(rule.to_string());
            }
            _ => {
                let message = format!("`{}` is no network", text.value);
                r.bad(&codes::BAD_VALUE, text, message, "write ADDRESS/BITS: 10.0.0.0/8");
            }
        }
    }
    let syn_max = r.bounded32(raw.syn_per_source_max.as_ref(), 0, 1_000_000);
    let interfaces = raw.interfaces.iter().map(|name| name.value.clone()).collect();
    TlsRecords { interfaces, admit, drops_other: raw.drop_other, syn_max }
}

/// From how many milliseconds on a worker stands still, if calls' time is looked at.
fn latency(r: &mut Resolver<'_>) -> Option<u64> {
    let stall_ms = r.bounded(r.raw.kernel.stall_ms.as_ref(), 250, 1..=60_000);
    r.raw.kernel.latency.unwrap_or(true).then_some(stall_ms)
}

/// As the kernel has them: 1 to 15 bytes, no slash, no space.
fn is_interface(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=15).contains(&name.len()) && name.bytes().all(fine)
}

/// Longest retention, in days.
const RETENTION_DAYS_MAX: u64 = 36_500;
/// Shortest retention under `prod`, in days: six months (Cybersecurity Law of the PRC, on logs).
const RETENTION_DAYS_PROD: u64 = 183;

fn retention(r: &mut Resolver<'_>, raw: &RawRetention) -> RetentionDays {
    let least = if r.prod { RETENTION_DAYS_PROD } else { 1 };
    let mut days = |given: Option<&Spanned<u64>>, default| {
        r.bounded(given, default, least..=RETENTION_DAYS_MAX)
    };
    let any = days(Some(&raw.days), least);
    RetentionDays {
        any,
        c1: days(raw.c1_days.as_ref(), any),
        c2: days(raw.c2_days.as_ref(), any),
        pan: days(raw.pan_days.as_ref(), any),
        c3: days(raw.c3_days.as_ref(), any),
    }
}

fn probes_required(r: &mut Resolver<'_>) -> Vec<String> {
    let Some(named) = &r.raw.kernel.require else {
        return if r.prod { vec!["egress".to_owned()] } else { Vec::new() };
    };
    for name in named.iter().filter(|name| !PROBES.contains(&name.value.as_str())) {
        let fix = format!("write some of: {}", PROBES.join(", "));
        r.bad(&codes::BAD_VALUE, name, format!("there is no probe `{}`", name.value), fix);
    }
    let is_off = r.raw.kernel.tls_records.is_none();
    for name in named.iter().filter(|name| is_off && name.value == "tls_records") {
        let fix = "name its interfaces under `kernel.tls_records`";
        r.bad(&codes::MISSING_KEY, name, "it is required, and looks nowhere", fix);
    }
    let is_off = r.raw.kernel.latency == Some(false);
    for name in named.iter().filter(|name| is_off && name.value == "latency") {
        let fix = "leave out `latency: false`";
        r.bad(&codes::BAD_VALUE, name, "it is required, and switched off", fix);
    }
    named.iter().map(|name| name.value.clone()).collect()
}

fn egress(
    r: &mut Resolver<'_>,
    upstreams: &[Upstream],
    tokens: &[TokenIssuer],
    dns: &[SocketAddr],
) -> Egress {
    let raw = &r.raw.egress;
    // Addresses of names are not known here: they must be among `egress.allow`.
    let keys = tokens.iter().filter_map(|issuer| issuer.url.as_ref()).map(|url| &url.place);
    let services = upstreams.iter().flat_map(|u| &u.endpoints).map(|endpoint| &endpoint.place);
    let places = services.chain(keys).filter_map(|place| match place {
        Place::Address(address) => Some(*address),
        Place::Name(..) => None,
    });
    let services: BTreeSet<Rule> = places.chain(dns.iter().copied()).map(Rule::to).collect();
    if services.len() > SERVICES_MAX {
        let message = format!("over {SERVICES_MAX} addresses of services");
        r.bad_whole(&codes::TOO_LARGE, message);
    }
    if let Some(excess) = raw.allow.get(EGRESS_RULES_MAX) {
        let fix = format!("write at most {EGRESS_RULES_MAX}, with shorter prefixes");
        r.bad(&codes::TOO_LARGE, excess, "too many entries", fix);
    }
    let mut allow = BTreeSet::new();
    for text in raw.allow.iter().take(EGRESS_RULES_MAX) {
        match text.value.parse::<Rule>() {
            Ok(rule) => drop(allow.insert(rule)),
            Err(why) => {
                let fix = "write [udp:]ADDRESS[/BITS][:PORT], for example 10.1.0.0/16:443";
                r.bad(&codes::BAD_VALUE, text, format!("`{}`: {why}", text.value), fix);
            }
        }
    }
    let observe = raw.default.as_ref().filter(|it| it.value == RawEgressDefault::Observe);
    if let Some(observe) = observe.filter(|_| r.prod) {
        let message = "`observe` refuses nothing, which `profile: prod` does not take";
        r.bad(&codes::PROD_ONLY, observe, message, "write `default: deny`");
    }
    Egress {
        services: services.into_iter().collect(),
        allow: allow.into_iter().collect(),
        is_observing: observe.is_some(),
    }
}

/// The files of the keys that sign the log. They are read here to see that they will do, and read
/// again by the auditor: no other role is ever given one.
fn log_keys(r: &mut Resolver<'_>, origin: &str) -> Vec<PathBuf> {
    let keys = &r.raw.audit.keys;
    if keys.is_empty() && r.prod {
        let what = "audit.keys is missing: the log would not be signed";
        r.bad_whole(&codes::PROD_ONLY, what);
    }
    if let Some(key) = keys.get(LOG_KEYS_MAX) {
        let fix = format!("name at most {LOG_KEYS_MAX} keys");
        r.bad(&codes::BAD_VALUE, key, "there are too many keys", fix);
    }
    keys.iter().take(LOG_KEYS_MAX).filter_map(|key| log_key(r, key, origin)).collect()
}

fn log_key(r: &mut Resolver<'_>, key: &Text, origin: &str) -> Option<PathBuf> {
    if !key.value.starts_with("file:") {
        let fix = "write `file:` and the name of a file that `moat audit keygen` made";
        r.bad(&codes::BAD_VALUE, key, "the log's key is no file", fix);
        return None;
    }
    let fetched = match secret::fetch(&key.value, &r.base, true) {
        Ok(fetched) => fetched,
        Err((code, message, fix)) => {
            r.bad(code, key, message, fix);
            return None;
        }
    };
    r.check_rights(key, &fetched);
    let text = std::str::from_utf8(&fetched.bytes).unwrap_or_default();
    if TokenKey::is_meant(text) {
        token_key(r, key, text, origin);
        return fetched.path;
    }
    let parsed =
        std::str::from_utf8(&fetched.bytes).ok().and_then(|text| SecretKey::parse(text).ok());
    let fix = format!("make one with `moat audit keygen --origin {origin}`");
    match parsed {
        None => r.bad(&codes::BAD_VALUE, key, "the file is no private key of a log", fix),
        Some(parsed) if parsed.name().as_str() != origin => {
            let what = format!("the key is of the log {}, this one is {origin}", parsed.name());
            r.bad(&codes::CONFLICT, key, what, fix);
        }
        Some(_) => {}
    }
    fetched.path
}

/// What is said of a key in a token. Whether it is there, `moat-hsm` finds out.
fn token_key(r: &mut Resolver<'_>, key: &Text, text: &str, origin: &str) {
    let fix = format!("make it anew with `moat-hsm describe --origin {origin}`");
    match TokenKey::parse(text) {
        Err(_) => r.bad(&codes::BAD_VALUE, key, "the file names no key in a token", fix),
        Ok(parsed) if parsed.key().name().as_str() != origin => {
            let what = format!("the key is of the log {}, not of {origin}", parsed.key().name());
            r.bad(&codes::CONFLICT, key, what, fix);
        }
        Ok(_) if r.raw.audit.hsm.is_none() => {
            let fix = "say in audit.hsm where the token is";
            r.bad(&codes::CONFLICT, key, "the key lies in a token, and none is named", fix);
        }
        Ok(_) => {}
    }
}

fn hsm(r: &mut Resolver<'_>) -> Option<HsmSettings> {
    let RawHsm { module, token, pin, program } = r.raw.audit.hsm.as_ref()?;
    let Some(pin_path) = pin.value.strip_prefix("file:") else {
        let fix = "write `file:` and the name of a file with the PIN";
        r.bad(&codes::BAD_VALUE, pin, "the PIN is no file", fix);
        return None;
    };
    let module_path = PathBuf::from(&module.value);
    if !module_path.is_absolute() || !module_path.is_file() {
        let fix = "write the absolute path of the PKCS#11 library";
        r.bad(&codes::BAD_VALUE, module, "there is no such library", fix);
    }
    let pin_path = r.base.join(pin_path);
    if !pin_path.is_file() {
        let what = format!("{} is no file", pin_path.display());
        r.bad(&codes::UNREADABLE, pin, what, "make it, for the user of moat-hsm only");
    }
    Some(HsmSettings {
        module: module_path,
        token: token.value.clone(),
        pin: pin_path,
        program: program.as_ref().map(|program| r.base.join(&program.value)),
    })
}

fn cores() -> u16 {
    std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(1))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

/// All files of the policy folder, by their path below it.
fn policy(r: &mut Resolver<'_>) -> Vec<(String, Vec<u8>)> {
    let reference = &r.raw.policy.bundle;
    let Some(path) = reference.value.strip_prefix("file:") else {
        r.bad(&codes::BAD_VALUE, reference, "the bundle is no folder", "write `file:policy/`");
        return Vec::new();
    };
    // No file of a signed bundle is left out: it may be one too many.
    let is_signed = r.raw.policy.signed.is_some();
    let root = r.base.join(path);
    if let Some(kept) = r.kept {
        for (name, bytes) in &kept.policy {
            r.watched.push(root.join(name));
            add(&mut r.digest, Part::PolicyName, name.as_bytes());
            add(&mut r.digest, Part::Policy, bytes);
            r.outline.policy(name, bytes);
        }
        r.watched.push(root);
        return kept.policy.clone();
    }
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => {
                let message = format!("{}: {e}", folder.display());
                r.bad(&codes::UNREADABLE, reference, message, "");
                return Vec::new();
            }
        };
        r.watched.push(folder);
        for entry in entries.flatten() {
            let path = entry.path();
            // What a signed bundle consists of must lie in it.
            if is_signed && path.is_symlink() {
                let message = format!("{} is a link", path.display());
                r.bad(&codes::BAD_VALUE, reference, message, "put the file itself there");
            } else if path.is_dir() {
                folders.push(path);
            } else if is_signed || path.extension().is_some_and(|e| e == "rego" || e == "json") {
                found.push(path);
            }
        }
        if found.len() > POLICY_FILES_MAX {
            r.bad(&codes::TOO_LARGE, reference, format!("over {POLICY_FILES_MAX} files"), "");
            return Vec::new();
        }
    }
    found.sort();
    let mut files = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        match secret::read_bounded(&path) {
            Ok(Read { mut bytes, .. }) => {
                add(&mut r.digest, Part::PolicyName, name.as_bytes());
                add(&mut r.digest, Part::Policy, &bytes);
                r.outline.policy(&name, &bytes);
                r.watched.push(path);
                files.push((name, core::mem::take(&mut *bytes)));
            }
            Err((code, message, fix)) => r.bad(code, reference, message, fix),
        }
    }
    files
}

fn policy_signed(r: &mut Resolver<'_>) -> Option<PolicySigned> {
    let raw = r.raw.policy.signed.as_ref()?;
    let known = ["EdDSA", "SM2-with-SM3", "ES256", "RS256"];
    for algorithm in &raw.algorithms {
        if !known.contains(&algorithm.value.as_str()) {
            let fix = format!("write one of {}", known.join(", "));
            r.bad(&codes::BAD_VALUE, algorithm, "this is no way of signing", fix);
        }
    }
    let named = raw.algorithms.iter().map(|algorithm| algorithm.value.clone());
    let algorithms: Vec<String> = named.collect();
    Some(PolicySigned {
        tenant: raw.tenant.as_ref().map_or("default", |tenant| &tenant.value).to_owned(),
        name: raw.name.value.clone(),
        keys: r.fetch(&raw.keys),
        algorithms: if algorithms.is_empty() { vec!["EdDSA".to_owned()] } else { algorithms },
        floor: None,
    })
}

/// Most issuers of tokens.
const ISSUERS_MAX: usize = 64;
/// Most claims of one issuer in the policy's input.
const CLAIMS_MAX: usize = 32;

fn tokens(r: &mut Resolver<'_>) -> Vec<TokenIssuer> {
    let raw = r.raw;
    let mut issuers: Vec<TokenIssuer> = Vec::new();
    for issuer in &raw.tokens {
        let name = issuer.issuer.value.clone();
        if name.is_empty() || issuers.iter().any(|known| known.name == name) {
            let message = "an issuer is empty, or stands twice";
            r.bad(&codes::DUPLICATE_KEY, &issuer.issuer, message, "write each issuer once");
        }
        if issuer.audience.value.is_empty() {
            let fix = "write what the issuer puts into `aud` for this gateway";
            r.bad(&codes::BAD_VALUE, &issuer.audience, "the audience is empty", fix);
        }
        if issuer.claims.len() > CLAIMS_MAX || raw.tokens.len() > ISSUERS_MAX {
            let message = format!("over {ISSUERS_MAX} issuers, or {CLAIMS_MAX} claims of one");
            r.bad(&codes::TOO_LARGE, &issuer.issuer, message, "");
        }
        let url = resolve_keys::url(r, issuer);
        issuers.push(TokenIssuer {
            name,
            audience: issuer.audience.value.clone(),
            keys: if url.is_some() { Vec::new() } else { r.fetch(&issuer.keys) },
            url,
            claims: issuer.claims.iter().map(|claim| claim.value.clone()).collect(),
        });
    }
    issuers
}

fn facts(r: &mut Resolver<'_>) -> BTreeMap<String, FactSource> {
    if r.raw.policy.facts.is_empty() {
        return BTreeMap::from([
            ("service_id".to_owned(), FactSource::UpstreamName),
            ("env".to_owned(), FactSource::Label("env".to_owned())),
            ("tier".to_owned(), FactSource::UpstreamLabel("tier".to_owned())),
            ("caller_cert_subject".to_owned(), FactSource::PeerSubject),
        ]);
    }
    let mut facts = BTreeMap::new();
    for (name, source) in &r.raw.policy.facts {
        match fact_source(&source.value) {
            Some(source) => {
                facts.insert(name.clone(), source);
            }
            None => {
                let known = ["peer.subject", "peer.spiffe", "upstream.name"];
                let fix = match nearest(&source.value, known) {
                    Some(near) => format!("write `{near}`"),
                    None => "see `moat schema` for the sources".to_owned(),
                };
                r.bad(&codes::DANGLING, source, "there is no such source of facts", fix);
            }
        }
    }
    facts
}

fn fact_source(text: &str) -> Option<FactSource> {
    let index = text.strip_prefix("peer.spiffe_path[").and_then(|rest| rest.strip_suffix(']'));
    match text {
        "peer.subject" => Some(FactSource::PeerSubject),
        "peer.spiffe" => Some(FactSource::PeerSpiffe),
        "upstream.name" => Some(FactSource::UpstreamName),
        _ if index.is_some() => index?.parse().ok().map(FactSource::PeerSpiffePath),
        _ => {
            if let Some(name) = text.strip_prefix("upstream.labels.") {
                Some(FactSource::UpstreamLabel(name.to_owned()))
            } else {
                text.strip_prefix("labels.").map(|name| FactSource::Label(name.to_owned()))
            }
        }
    }
}
