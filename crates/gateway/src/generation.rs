//! A configuration generation, compiled: what every worker shares, and the rules of each route.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use moat_audit::anchor::field_id;
use moat_audit::hash::Hash;
use moat_config::{FactSource, FieldKind, Hot, MaskRule, Op, Route};
use moat_identity::token::Issuer;
use moat_identity::{Algorithm, SpiffeId};
use moat_mask::{Pattern, Plan, Rule, Strategy};
use moat_model::code::config::{BAD_VALUE, DANGLING};
use moat_model::code::tls::REVOCATION_BACK;
use moat_model::{Class, Code, egress};
use moat_net::admission::Class as CallClass;
use moat_net::cluster::Registry;
use moat_policy::signed::{self, Demands, Floor, Manifest};
use moat_policy::{Bundle, BundleFile, Engine, Held};
use moat_tls::{
    Authorities, Client, Depth, Keys, Material, National, Order, Proven, Server, Trust,
};

use crate::iso8583::{self, Dialect, Lately, MessageRules};
use crate::key_sets::KeySet;
use crate::limits::{self, Limit};
use crate::pace::Pace;
use crate::step_up::MachineKey;
use crate::table::{Entry, Template};
use crate::upstream::{Kept, Upstream};

/// Version of the field naming scheme that goes into field ids.
pub(crate) const FIELD_SCHEMA_VERSION: u32 = 1;

/// Why a generation was refused.
#[derive(Debug)]
pub struct Refused {
    /// The code for `moat explain`.
    pub code: &'static Code,
    /// What was wrong.
    pub detail: String,
}

impl Refused {
    pub(crate) fn new(code: &'static Code, detail: impl core::fmt::Display) -> Refused {
        Refused { code, detail: detail.to_string() }
    }
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code.id, self.detail)
    }
}

impl core::error::Error for Refused {}

/// What every worker of the generation shares. Never changes.
pub struct Generation {
    pub(crate) number: u64,
    /// `tenant/name@version#digest` of a signed bundle.
    pub(crate) policy_name: Option<String>,
    /// Until when a signed bundle may decide, in seconds since 1970.
    pub(crate) policy_until_s: Option<u64>,
    /// The operator's places and their networks.
    pub(crate) places: Vec<(String, Vec<egress::Rule>)>,
    pub(crate) trust_domain: String,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) rules: Vec<RouteSpec>,
    pub(crate) facts: Vec<(Arc<str>, FactSource)>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Issuers of tokens, and the keys of those whose keys are fetched.
    pub(crate) issuers: Vec<(Issuer, Option<Arc<KeySet>>)>,
    /// Second keys of machines, by key id.
    pub(crate) machine_keys: BTreeMap<String, MachineKey>,
    pub(crate) audit_deadline: Duration,
    /// Servers that resolve names.
    pub(crate) dns: Vec<SocketAddr>,
    /// How late a worker may be, in milliseconds, before it refuses calls; 0 is never.
    pub(crate) overload_lag_ms: u64,
    /// The clock of rates and endpoints.
    pub(crate) registry: Arc<Registry>,
    /// Messages that were answered lately.
    pub(crate) lately: Arc<Lately>,
}

pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) connections_max: usize,
    /// Most handshakes of one source under way.
    pub(crate) handshakes_max: usize,
    /// Its groups of callers.
    pub(crate) groups: Vec<Group>,
    /// When a certificate that callers are shown ends, in seconds since 1970.
    pub(crate) not_after_s: i64,
    /// Who may ask here for decisions that others enforce.
    pub(crate) enforcement: Option<Enforcement>,
}

/// A listener for decisions that others enforce.
pub(crate) struct Enforcement {
    pub(crate) settings: moat_config::Enforcers,
    /// Role of the callers that are passed on.
    pub(crate) role: Arc<str>,
    /// Who vouches for their certificates.
    pub(crate) callers: Authorities,
    /// How it speaks ISO 8583, if it does.
    pub(crate) messages: Option<Arc<Dialect>>,
}

/// A group of callers.
pub(crate) struct Group {
    pub(crate) role: Arc<str>,
    /// Servers that its callers name; none for all others.
    server_names: Vec<String>,
    pub(crate) tls: Server,
}

impl Listener {
    /// The group of callers that name this server, or none.
    pub(crate) fn group(&self, server_name: Option<&str>) -> Option<&Group> {
        let names =
            |group: &&Group| group.server_names.iter().any(|one| Some(one.as_str()) == server_name);
        let of_all = |group: &&Group| group.server_names.is_empty();
        self.groups.iter().find(names).or_else(|| self.groups.iter().find(of_all))
    }
}

/// What a captured field is for.
#[derive(Clone, Debug)]
pub(crate) enum Use {
    /// The policy's input.
    Decide(FieldKind),
    /// The record.
    Record(Recorded),
}

/// How a field stands in the record.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Declared name: the pointer less its first slash.
    pub(crate) name: String,
    /// Index key of that name.
    pub(crate) field_id: Hash,
    pub(crate) class: Class,
    pub(crate) strategy: Option<Strategy>,
}

/// A plan and what each of its capture ids is for.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) plan: Plan,
    pub(crate) uses: Vec<Use>,
    /// Whether the plan masks, so that the rewritten bytes must be used.
    pub(crate) masks: bool,
}

/// Before and after images of a route.
#[derive(Clone)]
pub(crate) struct Images {
    pub(crate) read: String,
    /// Capture id = index into `fields`.
    pub(crate) plan: Plan,
    pub(crate) fields: Vec<Recorded>,
}

/// A route as it is shared between workers.
#[derive(Clone)]
pub(crate) struct RouteSpec(Arc<RouteRules>);

/// A compiled route.
pub(crate) struct RouteRules {
    pub(crate) route: Route,
    /// First part of field ids: the object template without its parameters.
    pub(crate) table: String,
    pub(crate) deadline: Duration,
    /// What it is worth when not all can be served.
    pub(crate) class: CallClass,
    /// How often it may be called.
    pub(crate) limits: Vec<Limit>,
    /// Longest wait for one try's answer where there may be another.
    pub(crate) try_wait: Duration,
    pub(crate) stream_idle: Duration,
    /// The least rate of streamed bodies, with nothing counted yet.
    pub(crate) pace: Pace,
    /// Where fields of bodies are masked or recorded: what else passes of the answer's head.
    pub(crate) answer_headers: Option<Vec<HeaderName>>,
    /// Declared headers.
    pub(crate) headers: Vec<Arc<str>>,
    /// Fields of the request that are decided on or recorded; `None` lets the body stream.
    pub(crate) request: Option<Reading>,
    /// Masks of the request.
    pub(crate) mask_request: Option<Plan>,
    /// Fields of the answer that are masked or recorded; `None` lets the body stream. Capture ids
    /// from `uses.len()` on are the after images, in the order of `images.fields`.
    pub(crate) answer: Option<Reading>,
    pub(crate) images: Option<Images>,
    /// The same route with the masks of a plan that a policy may oblige to.
    pub(crate) plans: Vec<(String, Arc<RouteRules>)>,
    /// What it does with messages, if it takes any.
    pub(crate) message: Option<MessageRules>,
    /// What the record says of fields that these masks reveal: `reveal:PLAN:POINTER`.
    pub(crate) reveals: Vec<String>,
}

impl RouteSpec {
    pub(crate) fn name(&self) -> &str {
        &self.0.route.name
    }

    pub(crate) fn shared(&self) -> Arc<RouteRules> {
        Arc::clone(&self.0)
    }
}

impl RouteRules {
    /// Whether the call changes something, so that it needs an INTENT.
    pub(crate) fn changes(&self) -> bool {
        self.route.audit.op != Op::Sel
    }

    /// Whether a field of the request or the answer is decided on, recorded or masked.
    pub(crate) fn looks_into_bodies(&self) -> bool {
        self.request.is_some() || self.mask_request.is_some() || self.answer.is_some()
    }

    /// The index key of a field of this route's object.
    pub(crate) fn field_id(&self, name: &str) -> Hash {
        field_id(&self.table, name, FIELD_SCHEMA_VERSION)
    }
}

impl Generation {
    /// Compiles what the supervisor resolved, and one policy engine for each worker.
    ///
    /// # Errors
    /// The first thing that does not work; nothing is in effect then.
    pub fn compile(
        hot: Hot,
        number: u64,
        workers: usize,
        now_s: u64,
    ) -> Result<(Generation, Vec<Engine>), Refused> {
        Generation::compile_with(hot, number, workers, now_s, &Kept::default())
    }

    /// The same, with what is known of endpoints and names from the generations before.
    pub(crate) fn compile_with(
        hot: Hot,
        number: u64,
        workers: usize,
        now_s: u64,
        kept: &Kept,
    ) -> Result<(Generation, Vec<Engine>), Refused> {
        let files = hot.policy.into_iter().map(|(path, bytes)| BundleFile { path, bytes });
        let files: Vec<BundleFile> = files.collect();
        let problem =
            |p: moat_policy::Problem| Refused::new(p.code, format!("{}: {}", p.place, p.detail));
        let demands = hot.policy_signed.as_ref().map(demands).transpose()?;
        let judged = demands.as_ref().map(|demands| judge(&files, demands, now_s));
        let manifest = judged.transpose().map_err(problem)?;
        let bundle = Arc::new(Bundle::new(files.clone()).map_err(problem)?);
        if manifest.is_some() {
            signed::self_test(&files, &bundle).map_err(problem)?;
        }
        let policy_until_s = manifest.as_ref().and_then(|manifest| manifest.not_after_s);
        let policy_name = manifest.map(|manifest| {
            let digest = signed::digest_of(&files);
            format!("{}@{}#{digest}", manifest.scope(), manifest.version)
        });
        let engines = (0..workers)
            .map(|_| Engine::compile(&bundle))
            .collect::<Result<Vec<_>, _>>()
            .map_err(problem)?;
        for route in &hot.routes {
            if !engines.first().is_some_and(|engine| engine.has_package(&route.policy)) {
                let code = &moat_model::code::policy::MISSING_PACKAGE;
                let detail = format!("route {}: package {}", route.name, route.policy);
                return Err(Refused::new(code, detail));
            }
        }
        let order = Order::new(&hot.tls_groups, &hot.tls_suites);
        let no = |e: moat_tls::Error| Refused::new(e.code, format!("tls: {}", e.detail));
        let mut keys = Keys::with_order(order.map_err(no)?);
        let keys = &mut keys;
        let listeners: Vec<Listener> =
            hot.listeners.iter().map(|l| listener(l, keys)).collect::<Result<_, _>>()?;
        let generation = Generation {
            number,
            policy_name,
            policy_until_s,
            places: places(&hot.places)?,
            upstreams: hot
                .upstreams
                .iter()
                .map(|u| Upstream::compile(u, workers, keys, kept))
                .collect::<Result<_, _>>()?,
            rules: hot
                .routes
                .into_iter()
                .map(|r| {
                    let route = route(r, (hot.upstreams.len(), &listeners), kept)?;
                    Ok(RouteSpec(Arc::new(route)))
                })
                .collect::<Result<_, Refused>>()?,
            listeners,
            lately: Arc::clone(&kept.lately),
            issuers: hot.tokens.iter().map(|raw| issuer(raw, kept)).collect::<Result<_, _>>()?,
            machine_keys: machine_keys(&hot.step_up_keys)?,
            facts: hot.facts.into_iter().map(|(name, source)| (name.into(), source)).collect(),
            labels: hot.labels,
            dns: hot.dns,
            overload_lag_ms: hot.overload_lag_ms,
            registry: Arc::clone(&kept.registry),
            audit_deadline: Duration::from_millis(hot.audit_deadline_ms),
            trust_domain: hot.trust_domain,
        };
        Ok((generation, engines))
    }

    /// The lists of revoked certificates that were used so far.
    pub(crate) fn proven(&self) -> Vec<Proven> {
        let services = self.upstreams.iter().map(|upstream| &upstream.terms.tls);
        let passed_on = self.enforcements().flat_map(|one| one.callers.proven());
        let used = self.groups().flat_map(|group| group.tls.proven()).chain(passed_on);
        used.chain(services.flat_map(Client::proven)).collect()
    }

    /// Refuses to follow generations that used later lists of the same issuers.
    ///
    /// # Errors
    /// A group's or an upstream's lists of one issuer are all older than one that was used.
    pub(crate) fn may_follow(&self, proven: &[Proven]) -> Result<(), Refused> {
        for one in proven {
            let no = |who: &str| {
                let detail = format!("{who}: {one} of the same issuer was in force");
                Err(Refused::new(&REVOCATION_BACK, detail))
            };
            if let Some(group) = self.groups().find(|group| group.tls.is_behind(one)) {
                return no(&format!("clients {}", group.role));
            }
            if let Some(one) = self.enforcements().find(|enforced| enforced.callers.is_behind(one))
            {
                return no(&format!("callers {}", one.role));
            }
            let behind = |upstream: &&Upstream| upstream.terms.tls.is_behind(one);
            if let Some(upstream) = self.upstreams.iter().find(behind) {
                return no(&format!("upstream {}", upstream.name));
            }
        }
        Ok(())
    }

    /// Whether a listener is a Unix socket.
    pub(crate) fn is_local(&self, listener: usize) -> bool {
        let enforcement = self.listeners.get(listener).and_then(|l| l.enforcement.as_ref());
        enforcement.is_some_and(|enforcement| enforcement.settings.is_local)
    }

    fn enforcements(&self) -> impl Iterator<Item = &Enforcement> {
        self.listeners.iter().filter_map(|listener| listener.enforcement.as_ref())
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.listeners.iter().flat_map(|listener| &listener.groups)
    }

    /// The entries of the route table, in order.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let entry = |spec: &RouteSpec| Entry {
            host: spec.0.route.matches.host.clone(),
            methods: spec.0.route.matches.methods.iter().filter_map(|m| m.parse().ok()).collect(),
            template: Template::new(&spec.0.route.matches.path),
        };
        self.rules.iter().map(entry).collect()
    }
}

fn places(raw: &[(String, Vec<String>)]) -> Result<Vec<(String, Vec<egress::Rule>)>, Refused> {
    let bad = |e: egress::RuleError| Refused::new(&BAD_VALUE, format!("risk.places: {e}"));
    let place = |(name, networks): &(String, Vec<String>)| {
        let networks = networks.iter().map(|network| network.parse()).collect::<Result<_, _>>();
        Ok((name.clone(), networks.map_err(bad)?))
    };
    raw.iter().map(place).collect()
}

/// What a signed bundle must be.
fn demands(raw: &moat_config::PolicySigned) -> Result<Demands, Refused> {
    let bad = |why: String| Refused::new(&BAD_VALUE, format!("policy.signed: {why}"));
    let algorithm = |name: &String| {
        let known = Algorithm::ALL.into_iter().find(|known| known.jws() == name);
        known.ok_or_else(|| bad(format!("{name} is no algorithm")))
    };
    let floor = raw.floor.as_ref().map(|(version, digest)| {
        let version = version.parse().map_err(|e| bad(format!("{version}: {e}")))?;
        Ok::<Floor, Refused>(Floor { version, digest: digest.clone() })
    });
    Ok(Demands {
        tenant: raw.tenant.clone(),
        name: raw.name.clone(),
        keys: moat_identity::read_keys(&raw.keys).map_err(|e| bad(format!("keys: {e}")))?,
        algorithms: raw.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?,
        floor: floor.transpose()?,
    })
}

fn judge(
    files: &[BundleFile],
    demands: &Demands,
    now_s: u64,
) -> Result<Manifest, moat_policy::Problem> {
    signed::verify(files, demands, now_s, env!("CARGO_PKG_VERSION"))
}

fn issuer(
    raw: &moat_config::TokenIssuer,
    kept: &Kept,
) -> Result<(Issuer, Option<Arc<KeySet>>), Refused> {
    let fetched = raw.url.as_ref().map(|url| kept.key_sets.set(url)).transpose()?;
    let bad = |e| Refused::new(&BAD_VALUE, format!("tokens: keys of {}: {e}", raw.name));
    let keys = match &fetched {
        Some(_) => Vec::new(),
        None => moat_identity::read_keys(&raw.keys).map_err(bad)?,
    };
    let (name, audience) = (raw.name.clone(), raw.audience.clone());
    Ok((Issuer { name, audience, keys, claims: raw.claims.clone() }, fetched))
}

/// The second keys of callers. Each says whose it is and where it is held.
fn machine_keys(text: &[u8]) -> Result<BTreeMap<String, MachineKey>, Refused> {
    let bad = |why: String| Refused::new(&BAD_VALUE, format!("step_up.keys: {why}"));
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut keys = BTreeMap::new();
    for named in moat_identity::read_keys(text).map_err(|e| bad(e.to_string()))? {
        let member = |name: &str| {
            let value = named.members.get(name);
            value.ok_or_else(|| bad(format!("the key `{}` has no `{name}`", named.id)))
        };
        let spiffe = member("spiffe")?.clone();
        if spiffe.parse::<SpiffeId>().is_err() {
            return Err(bad(format!("`spiffe` of the key `{}` is no SPIFFE id", named.id)));
        }
        let held = Held::from_name(member("held_in")?).filter(|held| *held != Held::Tls);
        let held = held.ok_or_else(|| {
            bad(format!("`held_in` of the key `{}` is not hsm, tpm or file", named.id))
        })?;
        keys.insert(named.id, MachineKey { spiffe, held, key: named.key });
    }
    Ok(keys)
}

fn listener(raw: &moat_config::Listener, keys: &mut Keys) -> Result<Listener, Refused> {
    let mut not_after_s = i64::MAX;
    let mut group = |clients: &moat_config::Clients| -> Result<Group, Refused> {
        let no = |e: moat_tls::Error| {
            let detail = format!("listener {}, clients {}: {}", raw.name, clients.role, e.detail);
            Refused::new(e.code, detail)
        };
        let materials = materials(&raw.identities, &clients.trust);
        for material in &materials {
            not_after_s = not_after_s.min(material.not_after_s().map_err(no)?);
        }
        Ok(Group {
            role: clients.role.as_str().into(),
            server_names: clients.server_names.clone(),
            tls: Server::with_keys(&materials, national(raw.national), keys).map_err(no)?,
        })
    };
    let groups = raw.clients.iter().map(&mut group).collect::<Result<_, _>>()?;
    let enforcement = raw.enforcers.as_ref().map(|settings| {
        let callers = Authorities::new(trust(&settings.trust), &settings.intermediates);
        let callers = callers.map_err(|e| {
            Refused::new(e.code, format!("listener {}, callers: {}", raw.name, e.detail))
        })?;
        let role = settings.role.as_str().into();
        Ok::<_, Refused>(Enforcement { settings: settings.clone(), role, callers })
    });
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(Listener {
        enforcement: enforcement.transpose()?,
        messages: raw.messages.as_ref().map(iso8583::dialect).transpose()?,
        name: raw.name.clone(),
        connections_max: count(raw.connections_max),
        handshakes_max: count(raw.handshakes_per_source_max),
        groups,
        not_after_s,
    })
}

fn trust(trust: &moat_config::Trust) -> Trust<'_> {
    Trust {
        pem: &trust.pem,
        lists: &trust.crls,
        responses: &trust.ocsp,
        must_staple: trust.must_staple,
        logs: &trust.logs,
        logs_needed: trust.logs_needed,
        depth: match trust.revocation {
            moat_config::Revocation::None => Depth::None,
            moat_config::Revocation::Leaf => Depth::Leaf,
            moat_config::Revocation::All => Depth::All,
        },
    }
}

pub(crate) fn materials<'a>(
    identities: &'a [moat_config::Identity],
    given: &'a moat_config::Trust,
) -> Vec<Material<'a>> {
    let trust = trust(given);
    let material = |identity: &'a moat_config::Identity| {
        let moat_config::Identity { chain_pem, key_pem, password, ocsp } = identity;
        let staple = ocsp.as_deref();
        let password = password.as_ref().map(|password| password.as_slice());
        Material { chain_pem, key_pem, password, staple, trust }
    };
    identities.iter().map(material).collect()
}

pub(crate) fn national(setting: moat_config::National) -> National {
    match setting {
        moat_config::National::Off => National::Off,
        moat_config::National::Allow => National::Allow,
        moat_config::National::Prefer => National::Prefer,
        moat_config::National::Only => National::Only,
    }
}

fn route(
    route: Route,
    (upstreams, listeners): (usize, &[Listener]),
    kept: &Kept,
) -> Result<RouteRules, Refused> {
    if route.upstream >= upstreams {
        return Err(Refused::new(&DANGLING, format!("route {}", route.name)));
    }
    let images = images(&route)?;
    let with = |masks: &Vec<MaskRule>| Route {
        mask: masks.clone(),
        mask_plans: Vec::new(),
        ..route.clone()
    };
    let plans = route
        .mask_plans
        .iter()
        .map(|(name, masks)| {
            let mut rules = self::route(with(masks), (upstreams, listeners), kept)?;
            let revealed = masks.iter().filter(|rule| rule.strategy == MaskRule::REVEAL);
            rules.reveals =
                revealed.map(|rule| format!("reveal:{name}:{}", rule.pointer)).collect();
            Ok((name.clone(), Arc::new(rules)))
        })
        .collect::<Result<_, Refused>>()?;
    let of_message = |pointer: &str, class: Class| recorded_as(&route, pointer, class);
    let message = iso8583::message_rules(&route, listeners, &of_message)?;
    Ok(RouteRules {
        plans,
        message,
        reveals: Vec::new(),
        table: table(&route),
        deadline: Duration::from_millis(route.deadline_ms),
        class: limits::class(route.class),
        limits: limits::limits(&route, kept),
        try_wait: Duration::from_millis(route.try_ms),
        stream_idle: Duration::from_millis(route.stream_idle_ms),
        pace: Pace::new(route.stream_rate_min, Duration::from_millis(route.stream_window_ms)),
        answer_headers: answer_headers(&route)?,
        headers: route.headers.iter().map(|name| name.as_str().into()).collect(),
        request: request_reading(&route)?,
        mask_request: mask_request(&route)?,
        answer: answer_reading(&route, images.as_ref())?,
        images,
        route,
    })
}

/// See [`RouteRules::answer_headers`].
fn answer_headers(route: &Route) -> Result<Option<Vec<HeaderName>>, Refused> {
    let is_open = route.mask.is_empty()
        && route.mask_request.is_empty()
        && route.audit.fields.is_empty()
        && route.audit.before.is_none();
    if is_open {
        return Ok(None);
    }
    let name = |name: &String| name.parse().map_err(|e| Refused::new(&BAD_VALUE, e));
    let names: Result<Vec<HeaderName>, Refused> = route.answer_headers.iter().map(name).collect();
    names.map(Some)
}

/// First part of field ids: the object template without its parameters.
fn table(route: &Route) -> String {
    let fixed = route.audit.object.split('/').filter(|part| !part.starts_with('{'));
    fixed.collect::<Vec<_>>().join("/")
}

fn request_reading(route: &Route) -> Result<Option<Reading>, Refused> {
    let (mut rules, mut uses) = (Vec::new(), Vec::new());
    for (pointer, kind) in &route.decide_on {
        // A declared field may be decided on whatever its class is in the record.
        let class = recorded_class(route, pointer).unwrap_or(Class::C1);
        rules.push(capture(pointer, class, &mut uses, Use::Decide(*kind))?);
    }
    if route.audit.op != Op::Sel {
        for field in &route.audit.fields {
            let recorded = recorded(route, &field.pointer, &field.class)?;
            let class = recorded.class;
            rules.push(capture(&field.pointer, class, &mut uses, Use::Record(recorded))?);
        }
    }
    reading(&rules, uses, false)
}

fn mask_request(route: &Route) -> Result<Option<Plan>, Refused> {
    if route.mask_request.is_empty() {
        return Ok(None);
    }
    let rules = route
        .mask_request
        .iter()
        .map(|rule| masking(route, &rule.pointer, &rule.strategy))
        .collect::<Result<Vec<_>, _>>()?;
    compile(&rules).map(Some)
}

fn answer_reading(route: &Route, images: Option<&Images>) -> Result<Option<Reading>, Refused> {
    let (mut rules, mut uses) = (Vec::new(), Vec::new());
    if route.audit.op == Op::Sel {
        for field in &route.audit.fields {
            let recorded = recorded(route, &field.pointer, &field.class)?;
            let class = recorded.class;
            rules.push(capture(&field.pointer, class, &mut uses, Use::Record(recorded))?);
        }
    }
    if let (Some(images), Some(before)) = (images, &route.audit.before) {
        for (image, field) in images.fields.iter().zip(&before.fields) {
            let r#use = Use::Record(image.clone());
            rules.push(capture(&field.after, image.class, &mut uses, r#use)?);
        }
    }
    let masks = !route.mask.is_empty();
    for rule in route.mask.iter().filter(|rule| rule.strategy != MaskRule::REVEAL) {
        rules.push(masking(route, &rule.pointer, &rule.strategy)?);
    }
    reading(&rules, uses, masks)
}

fn images(route: &Route) -> Result<Option<Images>, Refused> {
    let Some(before) = &route.audit.before else { return Ok(None) };
    let (mut rules, mut fields) = (Vec::new(), Vec::new());
    for field in &before.fields {
        let recorded = recorded(route, &field.pointer, &field.class)?;
        let id = u16::try_from(fields.len()).unwrap_or(u16::MAX);
        rules.push(Rule::new(pattern(&field.pointer)?, recorded.class).captured(id));
        fields.push(recorded);
    }
    Ok(Some(Images { read: before.read.clone(), plan: compile(&rules)?, fields }))
}

fn reading(rules: &[Rule], uses: Vec<Use>, masks: bool) -> Result<Option<Reading>, Refused> {
    if rules.is_empty() {
        return Ok(None);
    }
    Ok(Some(Reading { plan: compile(rules)?, uses, masks }))
}

fn compile(rules: &[Rule]) -> Result<Plan, Refused> {
    Plan::compile(rules).map_err(|e| Refused::new(e.code(), e))
}

fn capture(pointer: &str, class: Class, uses: &mut Vec<Use>, r#use: Use) -> Result<Rule, Refused> {
    let id = u16::try_from(uses.len()).unwrap_or(u16::MAX);
    uses.push(r#use);
    Ok(Rule::new(pattern(pointer)?, class).captured(id))
}

fn masking(route: &Route, pointer: &str, strategy: &str) -> Result<Rule, Refused> {
    let strategy: Strategy = strategy.parse().map_err(|e| Refused::new(&BAD_VALUE, e))?;
    let class = recorded_class(route, pointer).unwrap_or_else(|| strategy.usual_class());
    Ok(Rule::new(pattern(pointer)?, class).masked(strategy))
}

fn recorded(route: &Route, pointer: &str, class: &str) -> Result<Recorded, Refused> {
    let class: Class = class.parse().map_err(|e| Refused::new(&BAD_VALUE, e))?;
    Ok(recorded_as(route, pointer, class))
}

fn recorded_as(route: &Route, pointer: &str, class: Class) -> Recorded {
    let rule = route.mask.iter().chain(&route.mask_request).find(|rule| rule.pointer == pointer);
    let strategy = rule.and_then(|rule| rule.strategy.parse().ok());
    let name = pointer.trim_start_matches('/').to_owned();
    let field_id = field_id(&table(route), &name, FIELD_SCHEMA_VERSION);
    Recorded { name, field_id, class, strategy }
}

fn recorded_class(route: &Route, pointer: &str) -> Option<Class> {
    let field = route.audit.fields.iter().find(|field| field.pointer == pointer)?;
    field.class.parse().ok()
}

fn pattern(pointer: &str) -> Result<Pattern, Refused> {
    pointer.parse().map_err(|e| Refused::new(&BAD_VALUE, e))
}
