//! What the program sees: plain structs without options, every file read, every name checked.
//!
//! The supervisor resolves; the gateway gets the [`Hot`] part as bytes over its control socket. No
//! `Debug`: private keys are in here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use moat_model::egress::Rule;
use moat_tlog::policy::Policy;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::messages::{MessageMatch, Messages};

/// A resolved configuration.
pub struct Config {
    /// What can change only by a restart.
    pub restart: Restart,
    /// What a reload swaps as one.
    pub hot: Hot,
    /// Where the gateway may connect to; changes with [`Config::hot`].
    pub egress: Egress,
    /// SHA-256 over the file and everything it refers to, hexadecimal.
    pub digest: String,
}

/// What can change only by a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// `prod` goes on only with every protection in place.
    pub profile: Profile,
    /// Names and places of the listeners.
    pub binds: Vec<(String, Bind)>,
    /// Worker threads of the gateway.
    pub workers: u16,
    /// The log.
    pub audit: AuditSettings,
    /// Admin socket and probes.
    pub admin: AdminSettings,
    /// Users of the roles.
    pub users: Users,
    /// Whether a Landlock that is enforced only in part is enough for `prod`.
    pub is_partial_landlock_enough: bool,
    /// Probes without which Moat does not start, of [`PROBES`].
    pub probes_required: Vec<String>,
    /// The look at the beginning of connections, if there is to be one.
    pub tls_records: Option<TlsRecords>,
    /// From how many milliseconds on a worker stands still; nothing if calls' time is not looked at.
    pub latency_stall_ms: Option<u64>,
    /// Most subjects whose behaviour is remembered; 0 if none is.
    pub risk_subjects_max: u32,
    /// What is kept of decisions, if anything is.
    pub replay: Option<ReplaySettings>,
}

/// What is kept of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaySettings {
    /// For how many days.
    pub days: u64,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// Whether declared headers are kept.
    pub keeps_headers: bool,
    /// Whether subject and claims of tokens are kept.
    pub keeps_person: bool,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl core::fmt::Display for Bind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "{address}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A look at the beginning of connections at the network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRecords {
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Networks that may connect; nothing means every network.
    pub admit: Vec<String>,
    /// Whether connections that begin with anything else are dropped.
    pub drops_other: bool,
    /// Most connections of one source in a second; 0 is without bound.
    pub syn_max: u32,
}

/// Every probe that can be required.
pub const PROBES: &[&str] = &["egress", "tls_records", "behaviour", "latency"];

/// Where the gateway may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// The services' addresses, each once, in order.
    pub services: Vec<Rule>,
    /// What else is allowed.
    pub allow: Vec<Rule>,
    /// Whether what is not allowed passes and is told.
    pub is_observing: bool,
}

/// What a reload swaps as one.
#[derive(Serialize, Deserialize)]
pub struct Hot {
    /// Trust domain of callers and services.
    pub trust_domain: String,
    /// Listeners, in the order of [`Restart::binds`].
    pub listeners: Vec<Listener>,
    /// Services.
    pub upstreams: Vec<Upstream>,
    /// Routes in order; the first match wins.
    pub routes: Vec<Route>,
    /// Files of the policy bundle: path and bytes.
    pub policy: Vec<(String, Vec<u8>)>,
    /// What the bundle must be; nothing if it is taken as it is.
    pub policy_signed: Option<PolicySigned>,
    /// Top-level facts of the input.
    pub facts: BTreeMap<String, FactSource>,
    /// Issuers of tokens.
    pub tokens: Vec<TokenIssuer>,
    /// Second keys of machines, a JWK set; nothing if there are none.
    pub step_up_keys: Vec<u8>,
    /// Groups of TLS in the order of preference; nothing for all.
    pub tls_groups: Vec<String>,
    /// Suites of TLS in the order of preference; nothing for all.
    pub tls_suites: Vec<String>,
    /// Places by name and their networks, each as `ADDRESS/BITS`.
    pub places: Vec<(String, Vec<String>)>,
    /// Facts about this gateway.
    pub labels: BTreeMap<String, String>,
    /// Longest wait for a record to become durable, in milliseconds.
    pub audit_deadline_ms: u64,
    /// Servers that resolve names.
    pub dns: Vec<SocketAddr>,
    /// How late a worker may be, in milliseconds, before it refuses calls; 0 is never.
    pub overload_lag_ms: u64,
}

/// See the key of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For trying out.
    Dev,
    /// For production.
    Prod,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Chain, leaf first.
    pub chain_pem: Vec<u8>,
    /// Private key.
    pub key_pem: Zeroizing<Vec<u8>>,
    /// Password of an encrypted key.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// OCSP response to be stapled, DER.
    pub ocsp: Option<Vec<u8>>,
}

/// When national cryptography is used, as far as there is an SM2 identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum National {
    /// Never.
    Off,
    /// Where the other side does nothing else.
    Allow,
    /// Wherever the other side does it.
    Prefer,
    /// Always.
    Only,
}

/// Which certificates must be known not to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revocation {
    /// None.
    None,
    /// The other side's own.
    Leaf,
    /// Its own and those of every authority below the root.
    All,
}

/// Authorities, and what is known of the certificates that they revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Authorities, PEM.
    pub pem: Vec<u8>,
    /// Files of lists of revoked certificates, PEM or DER.
    pub crls: Vec<Vec<u8>>,
    /// OCSP responses for single certificates, DER.
    pub ocsp: Vec<Vec<u8>>,
    /// Which certificates lists and responses must speak for.
    pub revocation: Revocation,
    /// Whether a service must staple an OCSP response.
    pub must_staple: bool,
    /// Public keys of logs of certificate transparency, PEM.
    pub logs: Vec<Vec<u8>>,
    /// How many of them must have signed a certificate.
    pub logs_needed: usize,
}

/// One group of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Name of the group.
    pub role: String,
    /// Servers that callers of this group name, in lower case; empty for all others.
    pub server_names: Vec<String>,
    /// Whom to believe.
    pub trust: Trust,
}

/// Identities and trusted authorities.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tls {
    /// One, or one of each kind.
    pub identities: Vec<Identity>,
    /// Of an upstream: whether they are those of the first listener, since it names none.
    pub is_inherited: bool,
    /// Whom to believe on the other side.
    pub trust: Trust,
    /// When the SM2 identity is used.
    pub national: National,
}

/// One listener.
#[derive(Serialize, Deserialize)]
pub struct Listener {
    /// Name.
    pub name: String,
    /// Most connections at once.
    pub connections_max: u32,
    /// Most unfinished handshakes of one source address.
    pub handshakes_per_source_max: u32,
    /// One, or one of each kind.
    pub identities: Vec<Identity>,
    /// When the SM2 identity is used.
    pub national: National,
    /// Groups of callers.
    pub clients: Vec<Clients>,
    /// How it speaks ISO 8583, if it does.
    pub messages: Option<Messages>,
    /// Of a listener for decisions that others enforce: who may ask, and about whom.
    pub enforcers: Option<Enforcers>,
}

/// How decisions are asked for that others enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asking {
    /// Envoy's ext_authz v3.
    ExtAuthz,
    /// AuthZEN 1.0.
    AuthZen,
}

/// Who may ask for decisions that others enforce, and about whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcers {
    /// How they ask.
    pub asking: Asking,
    /// Whether the listener is a Unix socket.
    pub is_local: bool,
    /// SPIFFE ids of those that ask over TLS.
    pub spiffe: Vec<String>,
    /// User ids of those that ask on a Unix socket.
    pub uids: Vec<u32>,
    /// Role of the callers.
    pub role: String,
    /// Who vouches for the callers.
    pub trust: Trust,
    /// Authorities between those and the callers, PEM.
    pub intermediates: Vec<u8>,
    /// Whether whole bodies are passed on.
    pub has_bodies: bool,
    /// Whether a caller may be named without its certificate.
    pub is_name_enough: bool,
}

/// What a policy bundle must be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicySigned {
    /// Whose calls it decides.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Keys that may sign it, a JWK set.
    pub keys: Vec<u8>,
    /// How it must be signed, once each, by the names of JWS.
    pub algorithms: Vec<String>,
    /// The highest version that was ever activated and the digest of that bundle, as the supervisor
    /// has kept them. The configuration does not say.
    pub floor: Option<(String, String)>,
}

/// One issuer of tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenIssuer {
    /// `iss`.
    pub name: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Its public keys, a JWK set; nothing if they are fetched.
    pub keys: Vec<u8>,
    /// Where they are fetched from.
    pub url: Option<KeyUrl>,
    /// Claims in the policy's input.
    pub claims: Vec<String>,
}

/// Where an issuer's keys are fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUrl {
    /// The server; its certificate has this name or address.
    pub place: Place,
    /// Path, with the query if there is one.
    pub path: String,
    /// The server's authorities, PEM.
    pub trust_pem: Vec<u8>,
    /// How often they are fetched, in milliseconds.
    pub refresh_ms: u64,
    /// For how long the last ones are used, in milliseconds.
    pub keep_ms: u64,
}

impl core::fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let KeyUrl { place, path, refresh_ms, keep_ms, .. } = self;
        match place {
            Place::Address(address) => write!(f, "https://{address}{path}")?,
            Place::Name(name, port) => write!(f, "https://{name}:{port}{path}")?,
        }
        write!(f, " every {refresh_ms} ms for {keep_ms} ms")
    }
}

/// What a route does with a bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenUse {
    /// Nothing: it is the service's.
    Off,
    /// It is verified where there is one.
    Check,
    /// It is verified, and taken once.
    Once,
}

/// HTTP version spoken to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// By ALPN, HTTP/2 preferred.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where a service runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its place.
    pub place: Place,
    /// Its part of the calls, from 1.
    pub weight: u32,
}

/// An address, or a name that has addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A name and a port.
    Name(String, u16),
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// Of two drawn by weight, the one with less in flight times latency.
    TwoChoices,
    /// Fewest calls in flight for its weight.
    LeastRequest,
    /// The same key, the same endpoint.
    Ring(RingKey),
}

/// What a ring goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingKey {
    /// The record's object.
    Object,
    /// The caller's SPIFFE id.
    Peer,
    /// A request header, in lower case.
    Header(String),
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub ask: HealthAsk,
    /// From one check to the next, in milliseconds.
    pub interval_ms: u64,
    /// Longest wait, in milliseconds.
    pub timeout_ms: u64,
    /// Good checks in a row until it is healthy again.
    pub healthy_after: u32,
    /// Bad checks in a row until it is not.
    pub unhealthy_after: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthAsk {
    /// GET of a path; 2xx is healthy.
    Http(String),
    /// `grpc.health.v1.Health/Check` of a service.
    Grpc(String),
}

/// When an endpoint is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    /// Failures in a row; 0 is never.
    pub failures_max: u32,
    /// How long, in milliseconds.
    pub ejection_ms: u64,
    /// Longest time, in milliseconds.
    pub ejection_ms_max: u64,
}

/// When an endpoint is no longer asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Failed or unknown calls, in percent; 100 is never.
    pub error_percent: u32,
    /// Slow answers, in percent; 100 is never.
    pub slow_percent: u32,
    /// What is slow, in milliseconds.
    pub slow_ms: u64,
    /// Fewest calls seen.
    pub calls_min: u32,
    /// Fewest failures seen.
    pub failures_min: u32,
    /// How long it stays open, in milliseconds.
    pub open_ms: u64,
    /// Longest time, in milliseconds.
    pub open_ms_max: u64,
    /// Probes that must go well.
    pub probes: u8,
}

/// What a call is worth when not all can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallClass {
    /// Refused first.
    Batch,
    /// What only reads.
    Query,
    /// What changes something.
    Payment,
    /// Never refused for load.
    Settlement,
}

/// How often a route may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Name.
    pub name: String,
    /// Who shares it.
    pub per: Per,
    /// So many calls.
    pub calls: u32,
    /// In so many milliseconds.
    pub every_ms: u64,
    /// So many at once.
    pub burst: u32,
}

/// Who shares a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// Each caller by itself.
    Subject,
    /// Each tenant.
    Tenant,
    /// All together.
    Route,
}

/// When a call is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// What was not sent.
    Unsent,
    /// Whatever became of it.
    Idempotent,
    /// Whatever became of it, if it has an `Idempotency-Key`.
    Keyed,
}

/// One service.
#[derive(Serialize, Deserialize)]
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Where it runs: one endpoint or several.
    pub endpoints: Vec<Endpoint>,
    /// Host and port as the service is addressed in `Host`.
    pub authority: String,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Over how long an endpoint that comes grows to its weight, in milliseconds.
    pub slow_start_ms: u64,
    /// Active health checks.
    pub health: Option<Health>,
    /// When an endpoint is set aside.
    pub outlier: Outlier,
    /// When an endpoint is no longer asked.
    pub breaker: Breaker,
    /// HTTP version.
    pub protocol: Protocol,
    /// Certificates.
    pub tls: Tls,
    /// The SPIFFE id the service must prove.
    pub spiffe: String,
    /// How it speaks ISO 8583, if it does.
    pub messages: Option<Messages>,
    /// Whether calls say the caller's certificates.
    pub caller_chain: bool,
    /// Facts about the service.
    pub labels: BTreeMap<String, String>,
    /// Most connections to an endpoint at once, for all workers together.
    pub connections_max: u32,
    /// Most calls that wait for one.
    pub waiting_max: u32,
    /// Ceiling of the adaptive limit of calls under way for each worker and class, if there is one.
    pub adaptive_max: Option<u32>,
    /// Most idle connections kept, for all workers together.
    pub idle_max: u32,
    /// How long an idle connection is kept, in milliseconds.
    pub idle_ms: u64,
    /// Longest wait for TCP and TLS, in milliseconds.
    pub connect_ms: u64,
}

/// A method that a route may take.
pub type Method = String;

/// Conditions of a route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteMatch {
    /// Host without port in lower case, or any.
    pub host: Option<String>,
    /// Path template.
    pub path: String,
    /// Methods.
    pub methods: Vec<Method>,
    /// Messages in place of a path and methods.
    pub messages: MessageMatch,
}

/// Type of a body field in the policy's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldKind {
    /// As it comes.
    Any,
    /// A JSON string.
    Text,
    /// A JSON integer of 64 bits.
    Integer,
    /// A JSON boolean.
    Boolean,
    /// Money, in minor units.
    Amount,
}

/// What a call does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Reads.
    Sel,
    /// Makes.
    Ins,
    /// Changes.
    Upd,
    /// Removes.
    Del,
}

/// A recorded or decided-on body field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BodyField {
    /// JSON pointer pattern.
    pub pointer: String,
    /// Class by name.
    pub class: String,
}

/// A field of the state read before a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct After {
    /// JSON pointer in what is read.
    pub pointer: String,
    /// Class by name.
    pub class: String,
    /// JSON pointer of the new value in the answer.
    pub after: String,
}

/// State read before a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OnBefore {
    /// Path template.
    pub read: String,
    /// Fields.
    pub fields: Vec<After>,
}

/// What a route records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteAudit {
    /// Object template.
    pub object: String,
    /// What the call does.
    pub op: Op,
    /// Recorded fields.
    pub fields: Vec<BodyField>,
    /// Before and after images.
    pub before: Option<OnBefore>,
}

/// A kind of body whose fields can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyKind {
    /// JSON.
    Json,
    /// A JSON document a line.
    Ndjson,
    /// Server-sent events.
    Events,
    /// Form fields.
    Form,
    /// CSV.
    Csv,
}

/// One masked field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MaskRule {
    /// JSON pointer pattern.
    pub pointer: String,
    /// Strategy by name, or [`MaskRule::REVEAL`].
    pub strategy: String,
}

impl MaskRule {
    /// In place of a strategy in a plan: the field is shown as it is, and that is recorded.
    pub const REVEAL: &'static str = "reveal";
}

/// One kind of call.
#[derive(Clone, Serialize, Deserialize)]
pub struct Route {
    /// Name.
    pub name: String,
    /// Conditions.
    pub matches: RouteMatch,
    /// Index into [`Hot::upstreams`].
    pub upstream: usize,
    /// Policy package.
    pub policy: String,
    /// Body fields in the policy's input.
    pub decide_on: Vec<(String, FieldKind)>,
    /// Which of them is the amount that is compared with the caller's history.
    pub risk_amount: Option<String>,
    /// Which of them is the counterparty.
    pub risk_counterparty: Option<String>,
    /// Headers in the policy's input, in lower case.
    pub headers: Vec<String>,
    /// What is done with a bearer token.
    pub token: TokenUse,
    /// Whether the body is read whole though nobody looks into it.
    pub hold: bool,
    /// What is recorded.
    pub audit: RouteAudit,
    /// Kinds of bodies that are looked into; any other is refused.
    pub bodies: Vec<BodyKind>,
    /// Masks of the answer.
    pub mask: Vec<MaskRule>,
    /// Further masks of the answer, by name.
    pub mask_plans: Vec<(String, Vec<MaskRule>)>,
    /// Masks of the request.
    pub mask_request: Vec<MaskRule>,
    /// Longest request body in bytes.
    pub body_bytes_max: u64,
    /// Longest answer body in bytes, where it is held.
    pub answer_bytes_max: u64,
    /// Longest time for the call in milliseconds.
    pub deadline_ms: u64,
    /// What it is worth when not all can be served.
    pub class: CallClass,
    /// How often it may be called.
    pub rates: Vec<Rate>,
    /// When it is sent again.
    pub retry: Retry,
    /// Longest wait for one try's answer where it may be, in milliseconds.
    pub try_ms: u64,
    /// Longest silence in a streamed body in milliseconds.
    pub stream_idle_ms: u64,
    /// Least rate of a streamed body in bytes a second; 0 is none.
    pub stream_rate_min: u64,
    /// How long it must be waited for before its rate is judged, in milliseconds.
    pub stream_window_ms: u64,
    /// Header fields of the answer that pass where fields are masked or recorded, in lower case.
    pub answer_headers: Vec<String>,
}

/// Where a flat fact comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactSource {
    /// The caller's subject, RFC 4514.
    PeerSubject,
    /// The caller's SPIFFE id.
    PeerSpiffe,
    /// One segment of the SPIFFE id's path, from 0.
    PeerSpiffePath(usize),
    /// The service's name.
    UpstreamName,
    /// A label of the service.
    UpstreamLabel(String),
    /// A label of this gateway.
    Label(String),
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Folder.
    pub dir: PathBuf,
    /// A second folder that keeps what was signed last.
    pub second_dir: Option<PathBuf>,
    /// Origin.
    pub origin: String,
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Files of the keys that sign it. What is in them is for the auditor only.
    pub keys: Vec<PathBuf>,
    /// How often a checkpoint is signed at most, in milliseconds.
    pub checkpoint_every_ms: u64,
    /// The token in which keys lie.
    pub hsm: Option<HsmSettings>,
    /// Whether it has a tree over SM3 beside that over SHA-256.
    pub has_sm3: bool,
    /// Who must witness it.
    pub witnesses: Option<WitnessSettings>,
    /// Whether full segments are compressed.
    pub is_packing: bool,
    /// How long records are kept; for ever without.
    pub retention: Option<RetentionDays>,
}

/// How long records are kept, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionDays {
    /// Every record.
    pub any: u64,
    /// With a field of class C1.
    pub c1: u64,
    /// Of class C2.
    pub c2: u64,
    /// Of class PAN.
    pub pan: u64,
    /// Of class C3.
    pub c3: u64,
}

/// A token by PKCS#11.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmSettings {
    /// The library of its maker.
    pub module: PathBuf,
    /// Its label.
    pub token: String,
    /// The file with the PIN, which `moat-hsm` alone reads.
    pub pin: PathBuf,
    /// The program; beside `moat` when none is named.
    pub program: Option<PathBuf>,
}

/// The witnesses of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessSettings {
    /// Their keys and their quorum.
    pub policy: Policy,
    /// Where they are, in the order of the policy; none for those that are asked by hand.
    pub addresses: Vec<Option<WitnessAddress>>,
    /// How long records may be unwitnessed before nothing new is let through, in milliseconds.
    pub unwitnessed_ms_max: u64,
}

/// Where a witness is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessAddress {
    /// Address and port.
    pub address: SocketAddr,
    /// The submission prefix: empty, or with a slash at its begin and none at its end.
    pub prefix: String,
}

/// Admin socket and probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Unix socket.
    pub socket: PathBuf,
    /// Address of the probes.
    pub probes: SocketAddr,
}

/// Users of the roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Of the gateway.
    pub gateway: String,
    /// Of the auditor.
    pub auditor: String,
    /// Of the admin role.
    pub admin: String,
    /// Of the courier.
    pub courier: String,
    /// Of `moat-hsm`.
    pub hsm: String,
    /// Of the kernel role.
    pub kernel: String,
}
