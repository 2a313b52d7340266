//! What people write. Every key is documented here once; the schema and the reference follow.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use crate::messages::{RawFraming, RawLength, RawMessages};

/// Text that remembers its line and column.
pub type Text = Spanned<String>;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Always `moat/v1`.
    #[serde(rename = "apiVersion")]
    #[schemars(with = "String")]
    pub api_version: Text,
    /// Always `Gateway`.
    #[schemars(with = "String")]
    pub kind: Text,
    /// `dev` (default) or `prod`. `prod` refuses whatever is only fit for trying out.
    #[serde(default)]
    pub profile: RawProfile,
    /// The SPIFFE trust domain of callers and services, for example `bank.test`.
    #[schemars(with = "String")]
    pub trust_domain: Text,
    /// Facts about this gateway, such as `env: prod`; policies see them through `policy.facts`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where calls come in.
    pub listeners: Vec<RawListener>,
    /// The services behind the gateway.
    pub upstreams: Vec<RawUpstream>,
    /// Which calls go where, and what is recorded, decided on and masked.
    pub routes: Vec<RawRoute>,
    /// The policy bundle.
    pub policy: RawPolicy,
    /// Who issues tokens of persons.
    #[serde(default)]
    pub tokens: Vec<RawIssuer>,
    /// With what machines answer challenges.
    #[serde(default)]
    pub step_up: RawStepUp,
    /// What is remembered of callers, to compare their calls with. Default: nothing.
    pub risk: Option<RawRisk>,
    /// Groups and suites of all TLS connections. Default: all, the post-quantum group first.
    #[serde(default)]
    pub tls: RawOrder,
    /// Inputs of decisions that are kept, to ask other policies the same. Default: none.
    pub replay: Option<RawReplay>,
    /// The audit log.
    pub audit: RawAudit,
    /// Admin socket and probes.
    #[serde(default)]
    pub admin: RawAdmin,
    /// Worker threads of the gateway; default: one per core, at most 64.
    #[schemars(with = "Option<u16>")]
    pub workers: Option<Spanned<u16>>,
    /// The users that roles run as when started by root.
    #[serde(default)]
    pub users: RawUsers,
    /// What roles may go without.
    #[serde(default)]
    pub sandbox: RawSandbox,
    /// Where the gateway may connect to beside its services.
    #[serde(default)]
    pub egress: RawEgress,
    /// What the kernel must watch and enforce.
    #[serde(default)]
    pub kernel: RawKernel,
    /// Where names of endpoints are resolved.
    #[serde(default)]
    pub dns: RawDns,
    /// When the gateway counts as overrun.
    #[serde(default)]
    pub overload: RawOverload,
}

/// Where the gateway may connect to. Its services' addresses are always allowed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEgress {
    /// What happens to everything else: `deny` (default), or `observe`, which only tells and is
    /// refused with `profile: prod`.
    #[serde(default)]
    #[schemars(with = "RawEgressDefault")]
    pub default: Option<Spanned<RawEgressDefault>>,
    /// `[tcp:|udp:]ADDRESS[/BITS][:PORT]`, for example `10.1.0.0/16:443`; at most 256.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<Text>,
}

/// See [`RawEgress::default`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawEgressDefault {
    /// Refused with EACCES.
    #[default]
    Deny,
    /// Let through and recorded.
    Observe,
}

/// What the kernel must watch and enforce.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKernel {
    /// Probes without which Moat does not start; default: `[egress]` with `profile: prod`, else
    /// none.
    #[schemars(with = "Option<Vec<String>>")]
    pub require: Option<Vec<Text>>,
    /// A look at the beginning of connections at the network card; default: none.
    pub tls_records: Option<RawTlsRecords>,
    /// Whether it is told where the time of slow calls goes; default: true.
    #[serde(default)]
    pub latency: Option<bool>,
    /// From how many milliseconds on a worker that does not pause counts as standing still, 1 to
    /// 60,000; default: 250.
    #[schemars(with = "Option<u64>")]
    pub stall_ms: Option<Spanned<u64>>,
}

/// A look at the beginning of connections at the network card.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTlsRecords {
    /// Network interfaces, for example `eth0`; 1 to 16.
    #[schemars(with = "Vec<String>")]
    pub interfaces: Vec<Text>,
    /// Networks that may connect to the listeners: `10.0.0.0/8`; default: every network. At most
    /// 256.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub admit: Vec<Text>,
    /// Whether connections that begin with anything but a TLS record are dropped; default: false.
    #[serde(default)]
    pub drop_other: bool,
    /// Most connections that one source (IPv6: one /64) may open in a second; default: no bound.
    #[schemars(with = "Option<u32>")]
    pub syn_per_source_max: Option<Spanned<u32>>,
}

/// One issuer of tokens (JWT, RFC 7519).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIssuer {
    /// `iss` of its tokens, to the letter.
    #[schemars(with = "String")]
    pub issuer: Text,
    /// What `aud` of its tokens must hold.
    #[schemars(with = "String")]
    pub audience: Text,
    /// JWK set (RFC 7517) with its public keys: `file:idp/jwks.json`, or `https://HOST[:PORT]/PATH`,
    /// from where it is fetched.
    #[schemars(with = "String")]
    pub keys: Text,
    /// With `https`: PEM file of the authorities of that server: `file:idp/ca.pem`.
    #[schemars(with = "Option<String>")]
    pub trust: Option<Text>,
    /// With `https`: how often it is fetched; default 300,000.
    #[schemars(with = "Option<u64>")]
    pub refresh_ms: Option<Spanned<u64>>,
    /// With `https`: for how long the last set is used that could be fetched; default 86,400,000.
    #[schemars(with = "Option<u64>")]
    pub keep_ms: Option<Spanned<u64>>,
    /// Claims of text in the policy's input, as `token.claims`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub claims: Vec<Text>,
}

/// With what machines answer challenges.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStepUp {
    /// JWK set with the second keys of callers, each with the members `spiffe` and `held_in` (`hsm`,
    /// `tpm` or `file`): `file:step-up-keys.json`.
    #[schemars(with = "Option<String>")]
    pub keys: Option<Text>,
}

/// Groups and suites of TLS, the preferred ones first. Of a kind of cryptography of which none is named
/// all are used.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOrder {
    /// Of `X25519MLKEM768`, `X25519`, `secp256r1`, `secp384r1`, `curveSM2`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub groups: Vec<Text>,
    /// Of `TLS13_AES_256_GCM_SHA384`, `TLS13_AES_128_GCM_SHA256`, `TLS13_CHACHA20_POLY1305_SHA256`,
    /// `TLS_SM4_GCM_SM3`, `TLS_SM4_CCM_SM3`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub suites: Vec<Text>,
}

/// Logs of certificate transparency (RFC 6962).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTransparency {
    /// Their public keys, PEM: `file:logs/one.pem`.
    #[schemars(with = "Vec<String>")]
    pub logs: Vec<Text>,
    /// How many of them must have signed a certificate, by timestamps that are embedded in it.
    #[schemars(with = "u64")]
    pub needed: Spanned<u64>,
}

/// What is remembered of callers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRisk {
    /// Most callers, and persons behind them, that are remembered, of about 512 bytes each in memory
    /// and on disk; default 65536, from 512 to 4194304. Beyond them who was not there for longest is
    /// forgotten.
    #[schemars(with = "Option<u32>")]
    pub subjects_max: Option<Spanned<u32>>,
    /// Places by name, each a list of networks such as `10.1.0.0/16`: a caller that moves within one
    /// is in no new network. Elsewhere a network is an IPv4 /24 or an IPv6 /48.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub places: BTreeMap<String, Vec<Text>>,
}

/// Inputs of decisions that are kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawReplay {
    /// For how many days; default 7, from 1 to 90.
    #[schemars(with = "Option<u64>")]
    pub days: Option<Spanned<u64>>,
    /// Most disk for them, in MiB; default 1024, from 64 to 1048576. The oldest go first.
    #[schemars(with = "Option<u64>")]
    pub mib_max: Option<Spanned<u64>>,
    /// Whether declared headers are kept, though they have no class; default: no.
    #[serde(default)]
    pub headers: bool,
    /// Whether subject and claims of tokens are kept; default: no.
    #[serde(default)]
    pub person: bool,
}

/// What of a route's calls is compared beside who calls, whence and how often.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRouteRisk {
    /// JSON pointer of the amount: one of `decide_on`, an `amount` or an `integer`.
    #[schemars(with = "Option<String>")]
    pub amount: Option<Text>,
    /// JSON pointer of the counterparty: one of `decide_on`.
    #[schemars(with = "Option<String>")]
    pub counterparty: Option<Text>,
}

/// What a route does with a bearer token.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawToken {
    /// Nothing: it is the service's.
    #[default]
    Off,
    /// It is verified where there is one.
    Check,
    /// It is verified, and taken once.
    Once,
}

/// What roles may go without.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSandbox {
    /// `full` (default): with `profile: prod` the kernel must enforce every Landlock rule.
    /// `partial`: as many as it knows.
    #[serde(default)]
    pub landlock: RawLandlock,
}

/// See [`RawSandbox::landlock`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawLandlock {
    /// Every rule.
    #[default]
    Full,
    /// As many as the kernel knows.
    Partial,
}

/// See [`Raw::profile`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawProfile {
    /// For trying out.
    #[default]
    Dev,
    /// For production.
    Prod,
}

/// One listening address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// Unique name; stands in records.
    #[schemars(with = "String")]
    pub name: Text,
    /// Address and port, for example `0.0.0.0:8443`; with `ext_authz` also `unix:PATH`.
    #[schemars(with = "String")]
    pub bind: Text,
    /// `http` (default): HTTP/1.1, HTTP/2 and gRPC. `iso8583`: messages, see the key of that name.
    /// `ext_authz`: decisions for Envoy. `authzen`: decisions for whoever asks by AuthZEN 1.0.
    #[schemars(with = "Option<String>")]
    pub protocol: Option<Text>,
    /// Most connections at once; default 10,000.
    #[schemars(with = "Option<u32>")]
    pub connections_max: Option<Spanned<u32>>,
    /// Most connections of one source address (IPv6: of one /64) whose handshake is not done;
    /// default 64.
    #[schemars(with = "Option<u32>")]
    pub handshakes_per_source_max: Option<Spanned<u32>>,
    /// How messages look and behave, with `protocol: iso8583`.
    pub iso8583: Option<RawMessages>,
    /// Certificates. A listener on a Unix socket has none.
    pub tls: Option<RawListenerTls>,
    /// Of `ext_authz` and `authzen`: who may ask for decisions, and about whom.
    pub enforcers: Option<RawEnforcers>,
}

/// Who may ask for decisions that others enforce, and about whom.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEnforcers {
    /// SPIFFE ids of those that ask over TLS.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub spiffe: Vec<Text>,
    /// User ids of those that ask on a Unix socket, as the kernel tells them.
    #[serde(default)]
    #[schemars(with = "Vec<u32>")]
    pub uids: Vec<Spanned<u32>>,
    /// Whose certificates they may pass on: they are verified here again.
    pub callers: RawClients,
    /// PEM file of the authorities between the callers' certificates and those under `trust`, since
    /// nothing but a caller's own certificate is passed on: `file:issuing.pem`.
    #[schemars(with = "Option<String>")]
    pub intermediates: Option<Text>,
    /// `none` (default): bodies are not passed on. `whole`: Envoy's filter has `with_request_body`
    /// with `pack_as_bytes`, so a request of which no body came has none.
    #[serde(default)]
    pub bodies: RawBodies,
    /// `required` (default), or `optional`, of `authzen` alone: a caller may be named without its
    /// certificate, on the word of whoever asks.
    #[serde(default)]
    pub certificates: RawCertificates,
}

/// See [`RawEnforcers::bodies`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawBodies {
    /// They are not passed on.
    #[default]
    None,
    /// Whole ones are.
    Whole,
}

/// See [`RawEnforcers::certificates`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawCertificates {
    /// Every caller's.
    #[default]
    Required,
    /// A name is enough.
    Optional,
}

/// Certificates of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawListenerTls {
    /// The gateway's own certificate and key: one, or one international and one SM2.
    pub identities: Vec<RawIdentity>,
    /// When a call is national (RFC 8998): `prefer` (default), `allow`, `only` or `off`.
    #[serde(default)]
    pub national: RawNational,
    /// Whose certificates callers may show.
    pub clients: Vec<RawClients>,
}

/// When national cryptography is used, as far as there is an SM2 identity.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawNational {
    /// Never.
    Off,
    /// Where the other side does nothing else.
    Allow,
    /// Wherever the other side does it.
    #[default]
    Prefer,
    /// Always; whoever does not is refused.
    Only,
}

/// A certificate chain and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    /// PEM chain, leaf first: `file:gw.pem`.
    #[schemars(with = "String")]
    pub certificate: Text,
    /// PKCS#8 or SEC 1 key: `file:gw.key`, `credential:gw-key` or `env:GW_KEY`.
    #[schemars(with = "String")]
    pub key: Text,
    /// Password of an encrypted key: a reference like that of the key. One line feed at its end
    /// does not count.
    #[schemars(with = "Option<String>")]
    pub password: Option<Text>,
    /// An OCSP response for the certificate, DER, that is stapled to handshakes: `file:gw.ocsp`.
    #[schemars(with = "Option<String>")]
    pub ocsp: Option<Text>,
}

/// One group of callers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClients {
    /// Name of the group: `peer.role` in the policy's input.
    #[schemars(with = "String")]
    pub role: Text,
    /// Whom of a listener's callers this group is for: those that name one of these servers (SNI).
    /// At most one group has none: it is for all others.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub server_names: Vec<Text>,
    /// PEM file of the authorities that may issue their certificates: `file:ca.pem`. Their names are
    /// told to these callers, and no others.
    #[schemars(with = "String")]
    pub trust: Text,
    /// Which certificates must be known not to be revoked: `all` below the root (default where
    /// there are `crls`), `leaf` (default where there is `ocsp` alone) or `none`; `profile: prod` wants one of them said.
    #[schemars(with = "Option<RawRevocation>")]
    pub revocation: Option<Spanned<RawRevocation>>,
    /// Lists of revoked certificates, PEM or DER: `file:issuing.crl`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub crls: Vec<Text>,
    /// Logs of certificate transparency that must have signed the certificate; default: none.
    pub transparency: Option<RawTransparency>,
    /// OCSP responses for single callers, DER, fetched ahead: `file:teller.ocsp`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ocsp: Vec<Text>,
}

/// Whether a service must staple.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawStaple {
    /// It need not, and nobody looks.
    #[default]
    Off,
    /// It must, a response that says that its certificate is good now.
    Require,
}

/// Which certificates must be known not to be revoked.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawRevocation {
    /// None.
    None,
    /// The other side's own.
    Leaf,
    /// Its own and those of every authority below the root.
    All,
}

/// One service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Unique name.
    #[schemars(with = "String")]
    pub name: Text,
    /// `https://host:port`, each with ` weight=N` behind it where not all are equal. A host is an
    /// IP address, `localhost`, or a name that `dns` resolves; at most 64.
    #[schemars(with = "Vec<String>")]
    pub endpoints: Vec<Text>,
    /// Host and port that requests name; default: those of the first endpoint.
    #[schemars(with = "Option<String>")]
    pub authority: Option<Text>,
    /// `p2c` (default): of two drawn by weight, the one with less in flight times latency. `least`:
    /// the fewest calls in flight for its weight. `ring`: the same `ring_key`, the same endpoint.
    #[serde(default)]
    pub balance: RawBalance,
    /// What `ring` goes by: `object` (default, of the record), `peer` (the caller's SPIFFE id) or
    /// `header:NAME`.
    #[schemars(with = "Option<String>")]
    pub ring_key: Option<Text>,
    /// Over how long an endpoint that comes or comes back grows to its weight; default 10,000.
    #[schemars(with = "Option<u64>")]
    pub slow_start_ms: Option<Spanned<u64>>,
    /// Active health checks; none unless given.
    pub health: Option<RawHealth>,
    /// When an endpoint is set aside for failing beside others that do not.
    #[serde(default)]
    pub outlier: RawOutlier,
    /// When an endpoint is no longer asked at all.
    #[serde(default)]
    pub breaker: RawBreaker,
    /// `auto` (default, by ALPN), `http1` or `http2`.
    #[serde(default)]
    pub protocol: RawProtocol,
    /// For a service that speaks ISO 8583 in place of HTTP; its endpoints are `tls://host:port`.
    pub iso8583: Option<RawMessages>,
    /// How the two prove themselves to each other.
    pub tls: RawUpstreamTls,
    /// Whether each call says the caller's certificates, without the root, as `Chain` in
    /// `X-Forwarded-Client-Cert`; default false.
    #[serde(default)]
    pub caller_chain: bool,
    /// Facts about the service, such as `tier: gold`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Most connections to an endpoint at once, of all workers together; default 1,024.
    #[schemars(with = "Option<u32>")]
    pub connections_max: Option<Spanned<u32>>,
    /// Ceiling of the calls of a class that one worker has under way, whose limit follows the
    /// service's latency; none unless given.
    #[schemars(with = "Option<u32>")]
    pub adaptive_max: Option<Spanned<u32>>,
    /// Most calls that wait for one of these connections; default 256.
    #[schemars(with = "Option<u32>")]
    pub waiting_max: Option<Spanned<u32>>,
    /// Most idle connections kept to an endpoint by the whole gateway; default 5, at least one a
    /// worker.
    #[schemars(with = "Option<u32>")]
    pub idle_max: Option<Spanned<u32>>,
    /// How long an idle connection is kept; default 180,000.
    #[schemars(with = "Option<u64>")]
    pub idle_ms: Option<Spanned<u64>>,
    /// Longest wait for TCP and TLS together; default 1,000.
    #[schemars(with = "Option<u64>")]
    pub connect_ms: Option<Spanned<u64>>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawBalance {
    /// Power of two choices.
    #[default]
    P2c,
    /// Least requests.
    Least,
    /// A hash ring.
    Ring,
}

/// Active health checks of each endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealth {
    /// `http` (default): GET, and 2xx is healthy. `grpc`: `grpc.health.v1.Health/Check`.
    #[serde(default)]
    pub kind: RawHealthKind,
    /// Of `http`: the path; default `/healthz`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Text>,
    /// Of `grpc`: the service asked about; default: the whole server.
    #[serde(default)]
    pub service: String,
    /// From one check to the next, each a tenth earlier or later; default 5,000.
    #[schemars(with = "Option<u64>")]
    pub interval_ms: Option<Spanned<u64>>,
    /// Longest wait for an answer; default 1,000.
    #[schemars(with = "Option<u64>")]
    pub timeout_ms: Option<Spanned<u64>>,
    /// Good checks in a row until an endpoint counts as healthy again; default 2.
    #[schemars(with = "Option<u32>")]
    pub healthy_after: Option<Spanned<u32>>,
    /// Bad checks in a row until it no longer does; default 3.
    #[schemars(with = "Option<u32>")]
    pub unhealthy_after: Option<Spanned<u32>>,
}

/// See [`RawHealth::kind`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawHealthKind {
    /// HTTP.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// When an endpoint is set aside. Never more than half of them are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOutlier {
    /// Failures in a row; default 5; 0 is never.
    #[schemars(with = "Option<u32>")]
    pub failures_max: Option<Spanned<u32>>,
    /// How long for the first time, and how much longer each time in a row; default 30,000.
    #[schemars(with = "Option<u64>")]
    pub ejection_ms: Option<Spanned<u64>>,
    /// Longest time; default 300,000.
    #[schemars(with = "Option<u64>")]
    pub ejection_ms_max: Option<Spanned<u64>>,
}

/// When an endpoint is no longer asked, seen over ten seconds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBreaker {
    /// Opens when more than this part of the calls failed or were left unknown; default 5; 100 is
    /// never.
    #[schemars(with = "Option<u32>")]
    pub error_percent: Option<Spanned<u32>>,
    /// Opens when more than this part of the answers took longer than `slow_ms`; default 100, never.
    #[schemars(with = "Option<u32>")]
    pub slow_percent: Option<Spanned<u32>>,
    /// See `slow_percent`; default 2,000.
    #[schemars(with = "Option<u64>")]
    pub slow_ms: Option<Spanned<u64>>,
    /// Fewest calls seen before it may open; default 20.
    #[schemars(with = "Option<u32>")]
    pub calls_min: Option<Spanned<u32>>,
    /// Fewest failures of them; default 5.
    #[schemars(with = "Option<u32>")]
    pub failures_min: Option<Spanned<u32>>,
    /// How long it stays open for the first time; doubles; default 1,000.
    #[schemars(with = "Option<u64>")]
    pub open_ms: Option<Spanned<u64>>,
    /// Longest time that it stays open; default 30,000.
    #[schemars(with = "Option<u64>")]
    pub open_ms_max: Option<Spanned<u64>>,
    /// Probes that must go well before it closes; default 3.
    #[schemars(with = "Option<u32>")]
    pub probes: Option<Spanned<u32>>,
}

/// Where names of endpoints are resolved.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDns {
    /// Servers that are asked by TCP, in this order: `10.0.0.2:53`; at most 3. Default: those of
    /// `/etc/resolv.conf`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub servers: Vec<Text>,
}

/// HTTP version spoken to a service.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawProtocol {
    /// By ALPN, HTTP/2 preferred.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; what gRPC needs.
    Http2,
}

/// Certificates towards a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstreamTls {
    /// The gateway's certificate and key; default: those of the first listener.
    pub identity: Option<RawIdentity>,
    /// The same in place of `identity`: one international and one SM2.
    #[serde(default)]
    pub identities: Vec<RawIdentity>,
    /// When a connection is national (RFC 8998): `prefer` (default), `allow`, `only` or `off`.
    #[serde(default)]
    pub national: RawNational,
    /// PEM file of the authorities that may issue the service's certificate.
    #[schemars(with = "String")]
    pub trust: Text,
    /// Which certificates must be known not to be revoked: `all` below the root (default where
    /// there are `crls`), `leaf` or `none`; `profile: prod` wants one of them said.
    #[schemars(with = "Option<RawRevocation>")]
    pub revocation: Option<Spanned<RawRevocation>>,
    /// Lists of revoked certificates, PEM or DER: `file:issuing.crl`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub crls: Vec<Text>,
    /// Logs of certificate transparency that must have signed the certificate; default: none.
    pub transparency: Option<RawTransparency>,
    /// Whether the service must staple a sound OCSP response: `off` (default) or `require`.
    #[serde(default)]
    pub ocsp: RawStaple,
    /// The SPIFFE id the service must prove.
    #[schemars(with = "String")]
    pub spiffe: Text,
}

/// One kind of call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// Unique name; stands in records and in the policy's input.
    #[schemars(with = "String")]
    pub name: Text,
    /// Which calls it takes.
    #[serde(rename = "match")]
    pub matches: RawMatch,
    /// Name of the service.
    #[schemars(with = "String")]
    pub upstream: Text,
    /// Package of the bundle that decides, for example `authz`.
    #[schemars(with = "String")]
    pub policy: Text,
    /// Request body fields in the policy's input: JSON pointer to `any`, `text`, `integer`,
    /// `boolean` or `amount` (text or number with at most two decimals, given in minor units).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawFieldKind>")]
    pub decide_on: BTreeMap<String, Spanned<RawFieldKind>>,
    /// Fields of `decide_on` that are compared with the caller's history.
    #[serde(default)]
    pub risk: RawRouteRisk,
    /// Request headers in the policy's input. The caller asserts them; nothing proves them.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub headers: Vec<Text>,
    /// What is done with `Authorization: Bearer`: `off` (default), `check` or `once`.
    #[serde(default)]
    pub token: RawToken,
    /// Whether the body is read whole before the call is decided, though nobody looks into it: so a
    /// machine can answer a challenge over it. Default: no.
    #[serde(default)]
    pub hold: bool,
    /// What is recorded.
    #[serde(default)]
    pub audit: RawRouteAudit,
    /// Kinds of bodies that this route reads, in requests and answers, where it looks into them:
    /// `json` (default), `ndjson`, `events` (server-sent, with JSON data), `form`, `csv`. Whatever else
    /// comes is refused.
    #[serde(default)]
    pub bodies: Vec<RawBodyKind>,
    /// Fields of the answer to mask: JSON pointer (with `*` and `**`) to a strategy.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub mask: BTreeMap<String, Text>,
    /// Further masks of the answer, by the name that the policy's obligation `mask` gives: in place of
    /// those of the same pointer under `mask`, and beside the others.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    pub mask_plans: BTreeMap<String, BTreeMap<String, Text>>,
    /// Fields of the request to mask before the service sees them.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub mask_request: BTreeMap<String, Text>,
    /// Longest request body, in bytes; default 1 MiB. 0 means without bound, for streams only.
    #[schemars(with = "Option<u64>")]
    pub body_bytes_max: Option<Spanned<u64>>,
    /// Longest answer body that is masked or recorded by field, in bytes; default 4 MiB.
    #[schemars(with = "Option<u64>")]
    pub answer_bytes_max: Option<Spanned<u64>>,
    /// Longest time for the whole call; default 5,000. For streams: until the answer's head.
    #[schemars(with = "Option<u64>")]
    pub deadline_ms: Option<Spanned<u64>>,
    /// When a call is sent again. `unsent` (default): not a byte was sent. `idempotent`: also where
    /// its fate is unknown or the service answers 502, 503 or 504, since sending it twice does no
    /// harm. `keyed`: the same, if the request has an `Idempotency-Key`.
    #[serde(default)]
    pub retry: RawRetry,
    /// What the call is worth when not all can be served: `batch` is refused first, then `query`, then
    /// `payment`; `settlement` never. Default: `query` for reads, else `payment`.
    pub class: Option<RawClass>,
    /// How often it may be called.
    #[serde(default)]
    pub rates: Vec<RawRate>,
    /// Longest wait for the answer to one try where the call may be sent again; default 2,000.
    #[schemars(with = "Option<u64>")]
    pub try_ms: Option<Spanned<u64>>,
    /// Longest silence in a streamed body; default 10,000.
    #[schemars(with = "Option<u64>")]
    pub stream_idle_ms: Option<Spanned<u64>>,
    /// Least rate of a streamed body, in bytes a second, over the time that Moat waited for it;
    /// default 256. 0 means none, for conversations that pause.
    #[schemars(with = "Option<u64>")]
    pub stream_rate_min: Option<Spanned<u64>>,
    /// How long a streamed body must be waited for before its rate is judged; default 30,000.
    #[schemars(with = "Option<u64>")]
    pub stream_window_ms: Option<Spanned<u64>>,
    /// Header fields of the answer that pass beside the standard ones where fields are masked or
    /// recorded. Their values are not masked.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub answer_headers: Vec<Text>,
}

/// See [`RawRoute::class`].
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawClass {
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRate {
    /// Name, unique in the route; the caller is told it.
    #[schemars(with = "String")]
    pub name: Text,
    /// Who shares it: `subject` (default, each SPIFFE id by itself), `tenant`, or `route` (all).
    #[serde(default)]
    pub per: RawPer,
    /// So many calls, 1 to 1,000,000,
    #[schemars(with = "u32")]
    pub calls: Spanned<u32>,
    /// in so many milliseconds; default 1,000.
    #[schemars(with = "Option<u64>")]
    pub every_ms: Option<Spanned<u64>>,
    /// So many at once; default: as `calls`.
    #[schemars(with = "Option<u32>")]
    pub burst: Option<Spanned<u32>>,
}

/// See [`RawRate::per`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawPer {
    /// Each caller.
    #[default]
    Subject,
    /// Each tenant.
    Tenant,
    /// All together.
    Route,
}

/// When the gateway counts as overrun.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOverload {
    /// A worker that is late by more than this for 100 ms refuses calls; default 100; 0 is never.
    #[schemars(with = "Option<u64>")]
    pub lag_ms: Option<Spanned<u64>>,
}

/// See [`RawRoute::retry`].
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawRetry {
    /// What was not sent.
    #[default]
    Unsent,
    /// Whatever became of it.
    Idempotent,
    /// Whatever became of it, if it has a key.
    Keyed,
}

/// Conditions of a route; all must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMatch {
    /// Host without port; default: any.
    #[schemars(with = "Option<String>")]
    pub host: Option<Text>,
    /// Path with `{name}` for one segment, and `{name...}` at the end for the rest.
    #[schemars(with = "Option<String>")]
    pub path: Option<Text>,
    /// Methods; default: GET.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub methods: Vec<Text>,
    /// In place of a path: types of ISO 8583 messages, such as `"0200"`. Repeats go with them.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub messages: Vec<Text>,
    /// With `messages`: the listener that they come in by.
    #[schemars(with = "Option<String>")]
    pub listener: Option<Text>,
    /// With `messages`: how the processing code (field 3) begins, such as `"00"`; default: any.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub processing: Vec<Text>,
}

/// A kind of body whose fields can be looked into.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawBodyKind {
    /// `application/json` and `application/…+json`.
    Json,
    /// A JSON document a line.
    Ndjson,
    /// Server-sent events whose data is JSON.
    Events,
    /// Form fields.
    Form,
    /// CSV with names in its first record.
    Csv,
}

/// Type of a body field in the policy's input.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawFieldKind {
    /// As it comes.
    Any,
    /// A JSON string.
    Text,
    /// A JSON integer of 64 bits.
    Integer,
    /// A JSON boolean.
    Boolean,
    /// Money: in the input as an integer of minor units.
    Amount,
}

/// What a route records.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRouteAudit {
    /// Object of the record, with path parameters: `account/{id}`. Default: the path.
    #[schemars(with = "Option<String>")]
    pub object: Option<Text>,
    /// `SEL`, `INS`, `UPD` or `DEL`. Default by method: GET, HEAD and OPTIONS are SEL, POST is INS,
    /// PUT and PATCH are UPD, DELETE is DEL.
    #[schemars(with = "Option<String>")]
    pub op: Option<Text>,
    /// Recorded fields and their classes (C1, C2, C3, PAN, SAD): of the answer for SEL, of the
    /// request for everything else.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub fields: BTreeMap<String, Text>,
    /// State read before the change and recorded with it.
    pub before: Option<RawBefore>,
}

/// Before and after images.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBefore {
    /// Path read with GET from the same service, with path parameters: `/v1/accounts/{id}`.
    #[schemars(with = "String")]
    pub read: Text,
    /// Fields of what is read, each with its class and the place of its new value in the answer.
    pub fields: BTreeMap<String, RawBeforeField>,
}

/// One field with before and after.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBeforeField {
    /// Class of the field.
    #[schemars(with = "String")]
    pub class: Text,
    /// JSON pointer of the new value in the answer.
    #[schemars(with = "String")]
    pub after: Text,
}

/// The policy bundle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Folder of Rego modules and JSON data: `file:policy/`.
    #[schemars(with = "String")]
    pub bundle: Text,
    /// Top-level facts of the input and where they come from: `peer.subject`, `peer.spiffe`,
    /// `peer.spiffe_path[N]`, `upstream.name`, `upstream.labels.NAME`, `labels.NAME`. Default:
    /// `service_id: upstream.name`, `env: labels.env`, `tier: upstream.labels.tier`,
    /// `caller_cert_subject: peer.subject`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub facts: BTreeMap<String, Text>,
    /// Who must have signed the bundle, and what it must be. Default: a folder is taken as it is.
    pub signed: Option<RawSigned>,
}

/// What a signed bundle must be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSigned {
    /// JWK set with the keys that may sign it: `file:policy-keys.json`.
    #[schemars(with = "String")]
    pub keys: Text,
    /// Name in its manifest.
    #[schemars(with = "String")]
    pub name: Text,
    /// Tenant in its manifest; default: `default`.
    #[schemars(with = "Option<String>")]
    pub tenant: Option<Text>,
    /// How it must be signed, once each: `EdDSA` (default), `SM2-with-SM3`, `ES256`, `RS256`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub algorithms: Vec<Text>,
}

/// The audit log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAudit {
    /// Folder of the log.
    #[schemars(with = "String")]
    pub dir: Text,
    /// Origin of the log; default: `<trust domain>/audit/<host name>`.
    #[schemars(with = "Option<String>")]
    pub origin: Option<Text>,
    /// Longest wait for a record to become durable; default 500.
    #[schemars(with = "Option<u64>")]
    pub deadline_ms: Option<Spanned<u64>>,
    /// Size of a segment in MiB; default 64, from 1 to 256.
    #[schemars(with = "Option<u64>")]
    pub segment_mib: Option<Spanned<u64>>,
    /// Private keys that sign the log's checkpoints, each as `file:`, made by `moat audit keygen`
    /// or, for keys in a token, `moat-hsm keygen`;
    /// most: 4. Several sign at once, for the time of a change. Without any, `profile: dev` makes
    /// one in the log's folder and `prod` refuses to start.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub keys: Vec<Text>,
    /// The token in which keys lie, if one of `keys` says so.
    pub hsm: Option<RawHsm>,
    /// How often a checkpoint is signed at most; default 1000, from 10 to 60000. After 10,000
    /// records one is signed all the same.
    #[schemars(with = "Option<u64>")]
    pub checkpoint_every_ms: Option<Spanned<u64>>,
    /// A second folder, on another volume or in other hands, that keeps what was signed last: with it
    /// the auditor knows a folder that was put back. Default: none.
    #[schemars(with = "Option<String>")]
    pub second_dir: Option<Text>,
    /// Whether a second tree, over SM3, is kept and signed beside that over SHA-256; default false.
    #[serde(default)]
    pub sm3_tree: bool,
    /// Whether segments that are full and signed are compressed; default true.
    #[schemars(with = "Option<bool>")]
    pub pack: Option<Spanned<bool>>,
    /// How long records are kept. Without it nothing is ever removed.
    pub retention: Option<RawRetention>,
    /// Policy file (c2sp.org/tlog-policy) as `file:`: the witnesses that must confirm the log, each
    /// with its key and its address. Without one nobody is asked.
    #[schemars(with = "Option<String>")]
    pub policy: Option<Text>,
    /// How long records may go without the confirmation of enough witnesses; default 60000, from
    /// 100 to 604800000. After that no new call is let through, and readiness falls.
    #[schemars(with = "Option<u64>")]
    pub unwitnessed_ms_max: Option<Spanned<u64>>,
}

/// How long records are kept, in days, by the class of what is in them: a record as long as the
/// strictest of its fields asks, a segment as long as its last record. From 1 to 36500; `prod`
/// refuses less than 183.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetention {
    /// Every record.
    #[schemars(with = "u64")]
    pub days: Spanned<u64>,
    /// Records with a field of class C1; default: `days`.
    #[schemars(with = "Option<u64>")]
    pub c1_days: Option<Spanned<u64>>,
    /// Of class C2; default: `days`.
    #[schemars(with = "Option<u64>")]
    pub c2_days: Option<Spanned<u64>>,
    /// Of class PAN; default: `days`.
    #[schemars(with = "Option<u64>")]
    pub pan_days: Option<Spanned<u64>>,
    /// Of class C3; default: `days`.
    #[schemars(with = "Option<u64>")]
    pub c3_days: Option<Spanned<u64>>,
}

/// A token by PKCS#11.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHsm {
    /// The library of the token's maker, an absolute path.
    #[schemars(with = "String")]
    pub module: Text,
    /// Label of the token.
    #[schemars(with = "String")]
    pub token: Text,
    /// File with the user's PIN, as `file:`; readable for the user of `moat-hsm` only.
    #[schemars(with = "String")]
    pub pin: Text,
    /// The program `moat-hsm`; default: beside `moat`.
    #[schemars(with = "Option<String>")]
    pub program: Option<Text>,
}

/// Admin socket and probes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAdmin {
    /// Unix socket of `moat status` and `moat reload`; default: `admin.sock` beside the log folder.
    #[schemars(with = "Option<String>")]
    pub socket: Option<Text>,
    /// Address of `/livez`, `/readyz` and `/startupz`; default `127.0.0.1:9090`.
    #[schemars(with = "Option<String>")]
    pub probes: Option<Text>,
}

/// Users of the roles.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsers {
    /// Default `moat-app`. A number is a user and group id of its own.
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Text>,
    /// Default `moat-audit`.
    #[schemars(with = "Option<String>")]
    pub auditor: Option<Text>,
    /// Default `moat-admin`.
    #[schemars(with = "Option<String>")]
    pub admin: Option<Text>,
    /// Default `moat-hsm`. Needed with `audit.hsm` only.
    #[schemars(with = "Option<String>")]
    pub hsm: Option<Text>,
    /// Default `moat-courier`. Needed with `audit.policy` only.
    #[schemars(with = "Option<String>")]
    pub courier: Option<Text>,
    /// Default `moat-kernel`.
    #[schemars(with = "Option<String>")]
    pub kernel: Option<Text>,
}
