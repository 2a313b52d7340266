//! The input document: what a policy is told about one call.
//!
//! Every key is always present and numbers are integers where Moat supplies them, because Rego
//! compares values across types (null < boolean < number < string) and a missing key makes
//! `not input.x` true.

use std::sync::Arc;

use regorus::Value;
use regorus::value::Object;

use crate::reads::Reads;
use crate::risk::Risk;

/// A flat fact under its own top-level name, taken from an authenticated source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Top-level key, for example `service_id`.
    pub name: &'a str,
    /// Its value for this call.
    pub value: &'a str,
}

/// What a verified token says of a person. Where there is none every text is empty and every time
/// is 0, which is long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Who issued it.
    pub issuer: &'a str,
    /// Whom it is about.
    pub subject: &'a str,
    /// Authentication context class (OpenID Connect Core §2).
    pub acr: &'a str,
    /// Authentication methods (RFC 8176).
    pub amr: &'a [String],
    /// When the person was authenticated, milliseconds since 1970; 0 if the token does not say.
    pub auth_ms: u64,
    /// When it was issued, milliseconds since 1970; 0 if the token does not say.
    pub issued_ms: u64,
    /// Declared claims, by name.
    pub claims: &'a [(String, String)],
}

/// Whether a challenge was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepUpState {
    /// None was answered.
    #[default]
    None,
    /// All that was asked for was proved.
    Satisfied,
    /// Something was shown, and it proves nothing.
    Failed,
}

impl StepUpState {
    /// Its name in the input.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StepUpState::None => "none",
            StepUpState::Satisfied => "satisfied",
            StepUpState::Failed => "failed",
        }
    }
}

/// `age_s` where nothing was proved: as old as can be.
pub const AGE_UNKNOWN_S: u64 = 4_294_967_295;

/// What an answered challenge came to. A fact, never an automatic allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepUp<'a> {
    /// Whether it was answered.
    pub state: StepUpState,
    /// `person`, `machine`, `both`, or nothing.
    pub kind: &'a str,
    /// Authentication context class of the person, or nothing.
    pub acr: &'a str,
    /// How old the oldest of the proofs is, in seconds; [`AGE_UNKNOWN_S`] without any.
    pub age_s: u64,
    /// Where the machine's key is held: `hsm`, `tpm`, `file`, `tls`, or nothing.
    pub key: &'a str,
}

impl Default for StepUp<'_> {
    fn default() -> Self {
        StepUp { state: StepUpState::None, kind: "", acr: "", age_s: AGE_UNKNOWN_S, key: "" }
    }
}

/// The policy's view of one declared body field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyValue {
    /// JSON null.
    Null,
    /// JSON boolean.
    Bool(bool),
    /// An integer, such as an amount in minor units.
    Integer(i64),
    /// A JSON number as it was spelled.
    Number(String),
    /// Text.
    Text(String),
    /// A card number: what may be shown of it.
    Pan {
        /// First six digits.
        bin: String,
        /// Last four digits.
        last4: String,
    },
    /// A value the policy may know the presence of, and no more.
    Present,
}

/// What the network card saw of a connection's beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// `seen`, `partial` (the first packet did not hold the whole hello), `absent` (nothing came
    /// in time) or `off` (nobody looks). Of the last two nothing else is known.
    pub state: &'static str,
    /// Time to live or hop limit of the first bytes.
    pub ttl: u64,
    /// Window of the SYN.
    pub window: u64,
    /// Longest segment that the SYN named.
    pub segment_max: u64,
    /// Kinds of the SYN's TCP options, in order: `2-4-8-1-3`.
    pub options: String,
    /// From the SYN to the first bytes, in microseconds.
    pub waited_us: u64,
}

impl Wire {
    fn to_value(&self) -> Value {
        object([
            ("state", text(self.state)),
            ("ttl", Value::from(self.ttl)),
            ("window", Value::from(self.window)),
            ("segment_max", Value::from(self.segment_max)),
            ("options", text(&self.options)),
            ("waited_us", Value::from(self.waited_us)),
        ])
    }
}

/// All that is asked. Borrowed from the request for the time of one decision.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub now_ms: u64,
    /// Whose call it is.
    pub tenant: &'a str,
    /// Name of the listener.
    pub listener: &'a str,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the listener's group of callers whose authorities issued the caller's certificate.
    pub role: &'a str,
    /// SPIFFE id of the caller.
    pub spiffe: &'a str,
    /// Subject as RFC 4514 text.
    pub subject: &'a str,
    /// Issuer as RFC 4514 text.
    pub issuer: &'a str,
    /// Serial number, hexadecimal.
    pub serial: &'a str,
    /// End of the certificate's validity, milliseconds since 1970.
    pub expires_ms: i64,
    /// Negotiated cipher suite.
    pub suite: &'a str,
    /// Negotiated key-agreement group.
    pub group: &'a str,
    /// Whether the connection is of national cryptography (RFC 8998).
    pub national: bool,
    /// JA4 of the caller's ClientHello; nothing where it could not be computed.
    pub ja4: &'a str,
    /// What the network card saw.
    pub wire: &'a Wire,
    /// HTTP method.
    pub method: &'a str,
    /// Path, normalised.
    pub path: &'a str,
    /// Named parts of the path.
    pub params: &'a [(Arc<str>, String)],
    /// Declared request headers, as the caller sent them: asserted, not proven.
    pub headers: &'a [(Arc<str>, String)],
    /// SHA-256 of the body in hexadecimal, or nothing where the body streams.
    pub body_digest: &'a str,
    /// Declared body fields by concrete JSON pointer.
    pub body: &'a [(String, BodyValue)],
    /// What a verified token says.
    pub token: Option<Token<'a>>,
    /// What an answered challenge came to.
    pub step_up: StepUp<'a>,
    /// How the call compares with what its subject did before.
    pub risk: Risk,
    /// Flat facts.
    pub facts: &'a [Fact<'a>],
}

impl Question<'_> {
    /// The document as the engine's value: all of it, or only what a bundle's rules can read.
    pub(crate) fn to_value(&self, reads: Option<&Reads>) -> Value {
        let mut top = Value::new_object();
        let mut say = |name: &str, content: &dyn Fn() -> Value| {
            if reads.is_none_or(|reads| reads.top(name)) {
                put(&mut top, name, content());
            }
        };
        say("v", &|| Value::from(1_u64));
        say("now_ms", &|| Value::from(self.now_ms));
        say("attempt", &|| Value::from(1_u64));
        say("tenant", &|| text(self.tenant));
        say("listener", &|| text(self.listener));
        say("route", &|| text(self.route));
        say("peer", &|| self.peer_value(reads));
        say("token", &|| self.token_value());
        say("step_up", &|| self.step_up_value());
        say("risk", &|| self.risk_value());
        say("kernel", &|| self.wire.to_value());
        say("request", &|| self.request_value(reads));
        say("body", &|| self.body_value());
        for fact in self.facts {
            say(fact.name, &|| text(fact.value));
        }
        top
    }

    fn peer_value(&self, reads: Option<&Reads>) -> Value {
        let mut peer = Value::new_object();
        let mut say = |name: &str, content: &dyn Fn() -> Value| {
            if reads.is_none_or(|reads| reads.peer(name)) {
                put(&mut peer, name, content());
            }
        };
        say("role", &|| text(self.role));
        say("spiffe", &|| text(self.spiffe));
        say("subject", &|| text(self.subject));
        say("issuer", &|| text(self.issuer));
        say("serial", &|| text(self.serial));
        say("expires_ms", &|| Value::from(self.expires_ms));
        say("suite", &|| text(self.suite));
        say("group", &|| text(self.group));
        say("national", &|| Value::from(self.national));
        say("ja4", &|| text(self.ja4));
        peer
    }

    fn token_value(&self) -> Value {
        let empty = Token {
            issuer: "",
            subject: "",
            acr: "",
            amr: &[],
            auth_ms: 0,
            issued_ms: 0,
            claims: &[],
        };
        let token = self.token.unwrap_or(empty);
        let mut claims = Value::new_object();
        for (name, value) in token.claims {
            put(&mut claims, name, text(value));
        }
        object([
            ("state", text(if self.token.is_some() { "valid" } else { "none" })),
            ("iss", text(token.issuer)),
            ("sub", text(token.subject)),
            ("acr", text(token.acr)),
            ("amr", token.amr.iter().map(|method| text(method)).collect::<Vec<_>>().into()),
            ("auth_ms", Value::from(token.auth_ms)),
            ("issued_ms", Value::from(token.issued_ms)),
            ("claims", claims),
        ])
    }

    fn step_up_value(&self) -> Value {
        let StepUp { state, kind, acr, age_s, key } = self.step_up;
        object([
            ("state", text(state.name())),
            ("kind", text(kind)),
            ("acr", text(acr)),
            ("age_s", Value::from(age_s)),
            ("key", text(key)),
        ])
    }

    fn risk_value(&self) -> Value {
        let mut parts = Value::new_object();
        let mut reasons = Vec::new();
        for (part, points) in self.risk.parts() {
            reasons.push(text(part.name()));
            put(&mut parts, part.name(), Value::from(u64::from(points)));
        }
        object([
            ("state", text(self.risk.state.name())),
            ("score", Value::from(u64::from(self.risk.score()))),
            ("reasons", reasons.into()),
            ("parts", parts),
        ])
    }

    fn request_value(&self, reads: Option<&Reads>) -> Value {
        let mut request = Value::new_object();
        let mut say = |name: &str, content: &dyn Fn() -> Value| {
            if reads.is_none_or(|reads| reads.request(name)) {
                put(&mut request, name, content());
            }
        };
        say("method", &|| text(self.method));
        say("path", &|| text(self.path));
        say("params", &|| named(self.params));
        say("headers", &|| named(self.headers));
        say("body_digest", &|| text(self.body_digest));
        request
    }

    /// The document as JSON, for `moat policy why` and for tests.
    ///
    /// # Errors
    /// Never for a question of the gateway; the engine's serialiser may fail on its own values.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(&self.to_value(None)).map_err(|e| e.to_string())
    }

    /// Declared body fields as nested objects. Array elements stand under their index as text.
    fn body_value(&self) -> Value {
        let mut body = Value::new_object();
        for (pointer, value) in self.body {
            let steps: Vec<String> = pointer
                .split('/')
                .skip(1)
                .map(|step| step.replace("~1", "/").replace("~0", "~"))
                .collect();
            put_at(&mut body, &steps, value.to_value());
        }
        body
    }
}

impl BodyValue {
    fn to_value(&self) -> Value {
        match self {
            BodyValue::Null => Value::Null,
            BodyValue::Bool(value) => Value::from(*value),
            BodyValue::Integer(value) => Value::from(*value),
            // A spelling that the engine cannot hold stays visible as text, never as null: null
            // is less than every number.
            BodyValue::Number(token) => {
                Value::from_numeric_string(token).unwrap_or_else(|_| text(token))
            }
            BodyValue::Text(value) => text(value),
            BodyValue::Pan { bin, last4 } => object([("bin", text(bin)), ("last4", text(last4))]),
            BodyValue::Present => object([("present", Value::from(true))]),
        }
    }
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

fn named(pairs: &[(Arc<str>, String)]) -> Value {
    let mut value = Value::new_object();
    for (name, content) in pairs {
        put(&mut value, name, text(content));
    }
    value
}

fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let mut value = Value::new_object();
    for (name, content) in pairs {
        put(&mut value, name, content);
    }
    value
}

fn fields(value: &mut Value) -> Option<&mut Object> {
    value.as_object_mut().ok()
}

fn put(value: &mut Value, name: &str, content: Value) {
    if let Some(fields) = fields(value) {
        fields.insert(text(name), content);
    }
}

/// Sets the value at `steps`. A scalar in the way gives place: the document's grammar allows equal
/// keys, and the later, deeper one must not be lost silently.
fn put_at(value: &mut Value, steps: &[String], content: Value) {
    match steps {
        [] => *value = content,
        [last] => put(value, last, content),
        [first, rest @ ..] => {
            let key = text(first);
            let Some(fields) = fields(value) else { return };
            if !matches!(fields.get(&key), Some(Value::Object(_))) {
                fields.insert(key.clone(), Value::new_object());
            }
            if let Some(inner) = fields.get_mut(&key) {
                put_at(inner, rest, content);
            }
        }
    }
}
