//! Resolving one route.

use std::collections::{BTreeMap, BTreeSet};

use moat_mask::{Pattern, Strategy};
use moat_model::Class;
use moat_model::code::config as codes;
use serde_saphyr::Spanned;

use crate::messages::{self, MessageMatch};
use crate::problem::nearest;
use crate::raw::{
    RawBefore, RawBodyKind, RawClass, RawFieldKind, RawMatch, RawPer, RawRate, RawRetry, RawRoute,
    RawToken, Text,
};
use crate::resolve::{Resolver, WAIT_MS_MAX};
use crate::resolve_risk;
use crate::resolved::{
    After, BodyField, BodyKind, CallClass, FieldKind, MaskRule, OnBefore, Op, Per, Rate, Retry,
    Route, RouteAudit, RouteMatch, TokenUse,
};

const MIB: u64 = 1024 * 1024;
/// Longest body that a route may hold in memory, in bytes.
const HELD_BYTES_MAX: u64 = 64 * MIB;
/// Most calls of a rate, and most at once.
const RATE_CALLS_MAX: u32 = 1_000_000;
/// Longest call in `prod`, in milliseconds.
const PROD_DEADLINE_MS_MAX: u64 = 5_000;
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(crate) fn route(r: &mut Resolver<'_>, raw: &RawRoute) -> Route {
    let matches = matching(r, raw);
    let params = if matches.messages.types.is_empty() {
        params_of(&matches.path)
    } else {
        messages::params(r, &matches.messages.listener)
    };
    messages::check_upstream(r, raw, &matches.messages);
    let audit = audit(r, raw, &matches, &params);
    let deadline_ms = r.bounded(raw.deadline_ms.as_ref(), 5_000, 1..=WAIT_MS_MAX);
    if r.prod
        && deadline_ms > PROD_DEADLINE_MS_MAX
        && let Some(at) = &raw.deadline_ms
    {
        let fix = format!("write at most {PROD_DEADLINE_MS_MAX}");
        r.bad(&codes::PROD_ONLY, at, "the deadline is too long for production", fix);
    }
    let decide_on = raw.decide_on.iter().map(|(pointer, kind)| {
        check_pointer(r, kind, pointer);
        (pointer.clone(), field_kind(kind.value))
    });
    let decide_on: Vec<_> = decide_on.collect();
    let (risk_amount, risk_counterparty) = resolve_risk::fields(r, raw, &decide_on);
    Route {
        name: raw.name.value.clone(),
        upstream: upstream(r, &raw.upstream),
        policy: package(r, &raw.policy),
        decide_on,
        risk_amount,
        risk_counterparty,
        headers: raw.headers.iter().map(|h| h.value.to_ascii_lowercase()).collect(),
        token: token(r, raw),
        hold: raw.hold,
        bodies: bodies(&raw.bodies),
        mask: masks(r, &raw.mask, &audit, false),
        mask_plans: mask_plans(r, raw, &audit),
        mask_request: masks(r, &raw.mask_request, &audit, false),
        body_bytes_max: r.bounded(raw.body_bytes_max.as_ref(), MIB, 0..=u64::MAX),
        answer_bytes_max: r.bounded(raw.answer_bytes_max.as_ref(), 4 * MIB, 1..=HELD_BYTES_MAX),
        deadline_ms,
        class: class(raw, audit.op),
        rates: rates(r, &raw.rates),
        retry: match raw.retry {
            RawRetry::Unsent => Retry::Unsent,
            RawRetry::Idempotent => Retry::Idempotent,
            RawRetry::Keyed => Retry::Keyed,
        },
        try_ms: r.bounded(raw.try_ms.as_ref(), 2_000, 1..=WAIT_MS_MAX),
        stream_idle_ms: r.bounded(raw.stream_idle_ms.as_ref(), 10_000, 1..=WAIT_MS_MAX),
        stream_rate_min: r.bounded(raw.stream_rate_min.as_ref(), 256, 0..=MIB),
        stream_window_ms: r.bounded(raw.stream_window_ms.as_ref(), 30_000, 1_000..=WAIT_MS_MAX),
        answer_headers: answer_headers(r, &raw.answer_headers),
        matches,
        audit,
    }
    .check_held_body(r, raw)
}

fn class(raw: &RawRoute, op: Op) -> CallClass {
    match raw.class {
        Some(RawClass::Batch) => CallClass::Batch,
        Some(RawClass::Query) => CallClass::Query,
        Some(RawClass::Payment) => CallClass::Payment,
        Some(RawClass::Settlement) => CallClass::Settlement,
        None if op == Op::Sel => CallClass::Query,
        None => CallClass::Payment,
    }
}

fn rates(r: &mut Resolver<'_>, raw: &[RawRate]) -> Vec<Rate> {
    r.unique("rate", raw.iter().map(|rate| &rate.name));
    let rate = |rate: &RawRate| {
        let calls = r.bounded32(Some(&rate.calls), 1, RATE_CALLS_MAX);
        Rate {
            name: rate.name.value.clone(),
            per: match rate.per {
                RawPer::Subject => Per::Subject,
                RawPer::Tenant => Per::Tenant,
                RawPer::Route => Per::Route,
            },
            calls,
            every_ms: r.bounded(rate.every_ms.as_ref(), 1_000, 1..=WAIT_MS_MAX),
            burst: r.bounded32(rate.burst.as_ref(), calls, RATE_CALLS_MAX),
        }
    };
    raw.iter().map(rate).collect()
}

impl Route {
    /// A body that is looked into is held, so it needs a bound that fits into memory.
    fn check_held_body(self, r: &mut Resolver<'_>, raw: &RawRoute) -> Route {
        let looked_into = self.hold
            || !self.decide_on.is_empty()
            || !self.mask_request.is_empty()
            || (self.audit.op != Op::Sel && !self.audit.fields.is_empty());
        if looked_into
            && !(1..=HELD_BYTES_MAX).contains(&self.body_bytes_max)
            && let Some(at) = &raw.body_bytes_max
        {
            let fix = format!("write a number from 1 to {HELD_BYTES_MAX}");
            r.bad(
                &codes::CONFLICT,
                at,
                "this body is held or looked into, so it must be bounded",
                fix,
            );
        }
        self
    }
}

/// Messages have no path, no host and no methods.
fn of_messages(r: &mut Resolver<'_>, route: &RawRoute) -> Option<RouteMatch> {
    let messages = messages::matching(r, route);
    let raw = &route.matches;
    if raw.messages.is_empty() {
        return None;
    }
    for text in raw.path.iter().chain(&raw.host).chain(&raw.methods) {
        let fix = "remove it, or remove `messages`";
        r.bad(&codes::CONFLICT, text, "a message has no path, host or method", fix);
    }
    Some(RouteMatch { host: None, path: String::new(), methods: Vec::new(), messages })
}

fn matching(r: &mut Resolver<'_>, route: &RawRoute) -> RouteMatch {
    if let Some(messages) = of_messages(r, route) {
        return messages;
    }
    let raw: &RawMatch = &route.matches;
    let Some(path) = &raw.path else {
        let fix = "add `path`, or `messages` and `listener`";
        r.bad(&codes::MISSING_KEY, &route.name, "the key `path` is missing under `match`", fix);
        let (path, methods) = (String::new(), Vec::new());
        return RouteMatch { host: None, path, methods, messages: MessageMatch::default() };
    };
    let mut methods = Vec::new();
    for method in &raw.methods {
        if METHODS.contains(&method.value.as_str()) {
            methods.push(method.value.clone());
        } else {
            let fix = format!("write one of {}", METHODS.join(", "));
            r.bad(&codes::BAD_VALUE, method, "the method is not served", fix);
        }
    }
    if methods.is_empty() {
        methods.push("GET".to_owned());
    }
    if let Err(message) = check_template(&path.value) {
        let fix = "write a path such as /v1/accounts/{id} or /files/{rest...}";
        r.bad(&codes::BAD_VALUE, path, message, fix);
    }
    RouteMatch {
        host: raw.host.as_ref().map(|h| h.value.to_ascii_lowercase()),
        path: path.value.clone(),
        methods,
        messages: MessageMatch::default(),
    }
}

/// Checks a path template: absolute, no empty or dot segments, parameters whole segments.
fn check_template(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("the path does not begin with /".to_owned());
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let mut names = BTreeSet::new();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        if segment.is_empty() && !(last && segments.len() == 1) {
            return Err("the path has an empty segment".to_owned());
        }
        if *segment == "." || *segment == ".." {
            return Err("the path has a dot segment".to_owned());
        }
        let inner = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        match inner {
            Some(name) => {
                let rest = name.ends_with("...");
                let name = name.trim_end_matches("...");
                let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(fine) || (rest && !last) {
                    return Err(format!("`{segment}` is no parameter"));
                }
                if !names.insert(name) {
                    return Err(format!("the parameter `{name}` stands twice"));
                }
            }
            None if segment.contains(['{', '}']) => {
                return Err(format!("`{segment}`: a parameter is a whole segment"));
            }
            None => {}
        }
    }
    Ok(())
}

/// The names of the parameters in a path template.
fn params_of(path: &str) -> BTreeSet<String> {
    path.split('/')
        .filter_map(|s| s.strip_prefix('{').and_then(|s| s.strip_suffix('}')))
        .map(|name| name.trim_end_matches("...").to_owned())
        .collect()
}

fn upstream(r: &mut Resolver<'_>, name: &Text) -> usize {
    let upstreams = &r.raw.upstreams;
    upstreams.iter().position(|u| u.name.value == name.value).unwrap_or_else(|| {
        let fix = match nearest(&name.value, upstreams.iter().map(|u| u.name.value.as_str())) {
            Some(near) => format!("write `{near}`"),
            None => "declare it under `upstreams`".to_owned(),
        };
        r.bad(&codes::DANGLING, name, format!("there is no upstream `{}`", name.value), fix);
        0
    })
}

fn package(r: &mut Resolver<'_>, name: &Text) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.value.is_empty() || !name.value.chars().all(fine) {
        let fix = "write the package's name without `data.`, for example authz";
        r.bad(&codes::BAD_VALUE, name, "this is no package name", fix);
    }
    name.value.clone()
}

fn audit(
    r: &mut Resolver<'_>,
    raw: &RawRoute,
    matches: &RouteMatch,
    params: &BTreeSet<String>,
) -> RouteAudit {
    let object = match &raw.audit.object {
        Some(object) => {
            check_params(r, object, params);
            object.value.clone()
        }
        None if !matches.messages.types.is_empty() => {
            format!("message/{}", matches.messages.listener)
        }
        None => matches.path.trim_start_matches('/').replace("...", ""),
    };
    let op = match &raw.audit.op {
        Some(op) => named_op(r, op),
        // A message may change something whatever its type is called.
        None if !matches.messages.types.is_empty() => Op::Upd,
        None => default_op(&matches.methods),
    };
    let fields = raw.audit.fields.iter().map(|(pointer, class)| {
        check_pointer(r, class, pointer);
        check_class(r, class);
        BodyField { pointer: pointer.clone(), class: class.value.clone() }
    });
    let fields = fields.collect();
    let before = raw.audit.before.as_ref().map(|before| on_before(r, before, params));
    if let Some(before) = &raw.audit.before
        && op == Op::Sel
    {
        let fix = "remove `before`, or set `op` to what the call does";
        r.bad(&codes::CONFLICT, &before.read, "a read has no state before it", fix);
    }
    RouteAudit { object, op, fields, before }
}

fn on_before(r: &mut Resolver<'_>, raw: &RawBefore, params: &BTreeSet<String>) -> OnBefore {
    check_params(r, &raw.read, params);
    let fields = raw.fields.iter().map(|(pointer, field)| {
        check_pointer(r, &field.class, pointer);
        check_pointer(r, &field.after, &field.after.value);
        check_class(r, &field.class);
        After {
            pointer: pointer.clone(),
            class: field.class.value.clone(),
            after: field.after.value.clone(),
        }
    });
    OnBefore { read: raw.read.value.clone(), fields: fields.collect() }
}

fn named_op(r: &mut Resolver<'_>, op: &Text) -> Op {
    match op.value.as_str() {
        "SEL" => Op::Sel,
        "INS" => Op::Ins,
        "UPD" => Op::Upd,
        "DEL" => Op::Del,
        _ => {
            r.bad(&codes::BAD_VALUE, op, "unknown operation", "write SEL, INS, UPD or DEL");
            Op::Upd
        }
    }
}

/// The strictest operation that any of the methods stands for.
fn default_op(methods: &[String]) -> Op {
    let has = |wanted: &[&str]| methods.iter().any(|m| wanted.contains(&m.as_str()));
    if has(&["DELETE"]) {
        Op::Del
    } else if has(&["PUT", "PATCH"]) {
        Op::Upd
    } else if has(&["POST"]) {
        Op::Ins
    } else {
        Op::Sel
    }
}

fn check_params(r: &mut Resolver<'_>, template: &Text, params: &BTreeSet<String>) {
    for name in params_of(&template.value) {
        if !params.contains(&name) {
            let message = format!("the route's path has no parameter `{name}`");
            let fix = match nearest(&name, params.iter().map(String::as_str)) {
                Some(near) => format!("write {{{near}}}"),
                None => "name a parameter of `match.path`".to_owned(),
            };
            r.bad(&codes::DANGLING, template, message, fix);
        }
    }
}

fn check_pointer<T>(r: &mut Resolver<'_>, at: &Spanned<T>, pointer: &str) {
    if let Err(error) = pointer.parse::<Pattern>() {
        r.bad(&codes::BAD_VALUE, at, error.to_string(), "write a JSON pointer such as /to/account");
    }
}

fn check_class(r: &mut Resolver<'_>, class: &Text) {
    if let Err(error) = class.value.parse::<Class>() {
        r.bad(&codes::BAD_VALUE, class, error.to_string(), "write C1, C2, C3, PAN or SAD");
    }
}

/// Rules of one list. `reveal` stands only in plans, since a permit must name one.
fn masks(
    r: &mut Resolver<'_>,
    raw: &BTreeMap<String, Text>,
    audit: &RouteAudit,
    may_reveal: bool,
) -> Vec<MaskRule> {
    let mut rules = Vec::new();
    for (pointer, strategy) in raw {
        check_pointer(r, strategy, pointer);
        let class = audit.fields.iter().find(|f| f.pointer == *pointer);
        let class = class.and_then(|f| f.class.parse::<Class>().ok());
        if strategy.value == MaskRule::REVEAL {
            check_reveal(r, strategy, class, may_reveal);
            rules.push(MaskRule { pointer: pointer.clone(), strategy: strategy.value.clone() });
            continue;
        }
        match strategy.value.parse::<Strategy>() {
            Err(error) => {
                r.bad(&codes::BAD_VALUE, strategy, error.to_string(), "name a strategy");
            }
            Ok(Strategy::Fpe) => {
                let message = "there is no setting for the keys of tokens";
                r.bad(&codes::BAD_VALUE, strategy, message, "use `hash_anchor`");
            }
            Ok(parsed) => {
                if class.is_some_and(|class| !parsed.allowed_for(class)) {
                    let message = "this strategy shows too much for the field's class";
                    r.bad(&codes::CONFLICT, strategy, message, "use `fixed` or `drop`");
                }
            }
        }
        rules.push(MaskRule { pointer: pointer.clone(), strategy: strategy.value.clone() });
    }
    rules
}

/// A revealed field is recorded, or nobody could say later what was seen.
fn check_reveal(r: &mut Resolver<'_>, at: &Text, class: Option<Class>, may_reveal: bool) {
    let (message, fix) = match class {
        _ if !may_reveal => (
            "`reveal` stands only in a plan under `mask_plans`",
            "move it to a plan, or name a mask",
        ),
        None => ("a revealed field is not recorded", "declare it under `audit.fields`"),
        Some(Class::C1 | Class::C2) => return,
        Some(_) => ("classes PAN, C3 and SAD are never revealed", "name a mask"),
    };
    r.bad(&codes::CONFLICT, at, message, fix);
}

fn mask_plans(
    r: &mut Resolver<'_>,
    raw: &RawRoute,
    audit: &RouteAudit,
) -> Vec<(String, Vec<MaskRule>)> {
    let mut plans = Vec::new();
    for (name, rules) in &raw.mask_plans {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
            let fix = "use 1 to 64 letters, digits, `_`, `.`, `:` or `-`";
            r.bad(&codes::BAD_VALUE, &raw.name, format!("bad name of a mask plan: `{name}`"), fix);
        }
        if rules.is_empty() {
            let message = format!("the mask plan `{name}` masks nothing");
            r.bad(&codes::BAD_VALUE, &raw.name, message, "name a pointer and a strategy");
        }
        let rules = masks(r, rules, audit, true);
        // What the plan says of a pointer counts; all else of the route stays masked.
        let others =
            raw.mask.iter().filter(|(pointer, _)| !rules.iter().any(|m| m.pointer == **pointer));
        let others = others.map(|(pointer, strategy)| MaskRule {
            pointer: pointer.clone(),
            strategy: strategy.value.clone(),
        });
        let all = others.chain(rules.iter().cloned()).collect();
        plans.push((name.clone(), all));
    }
    plans
}

/// A token can only be verified if somebody issues it.
fn token(r: &mut Resolver<'_>, raw: &RawRoute) -> TokenUse {
    if raw.token != RawToken::Off && r.raw.tokens.is_empty() {
        let message = "`token` is set, and there is no issuer of tokens";
        r.bad(&codes::DANGLING, &raw.name, message, "declare one under `tokens`");
    }
    match raw.token {
        RawToken::Off => TokenUse::Off,
        RawToken::Check => TokenUse::Check,
        RawToken::Once => TokenUse::Once,
    }
}

/// Fields that a route lets pass. What frames a message, belongs to one connection or is Moat's
/// own is none of a route's business.
fn answer_headers(r: &mut Resolver<'_>, raw: &[Text]) -> Vec<String> {
    const NEVER: [&str; 9] = [
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let mut names = Vec::new();
    for name in raw {
        let lower = name.value.to_ascii_lowercase();
        // The characters of a token (RFC 9110 §5.6.2).
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if lower.is_empty() || !lower.bytes().all(fine) {
            r.bad(&codes::BAD_VALUE, name, "this is no name of a header field", "");
        } else if NEVER.contains(&lower.as_str()) || lower.starts_with("x-moat-") {
            let fix = "remove it; Moat writes this field itself or drops it";
            r.bad(&codes::CONFLICT, name, "this field never passes", fix);
        }
        names.push(lower);
    }
    names
}

fn bodies(raw: &[RawBodyKind]) -> Vec<BodyKind> {
    let kind = |kind: &RawBodyKind| match kind {
        RawBodyKind::Json => BodyKind::Json,
        RawBodyKind::Ndjson => BodyKind::Ndjson,
        RawBodyKind::Events => BodyKind::Events,
        RawBodyKind::Form => BodyKind::Form,
        RawBodyKind::Csv => BodyKind::Csv,
    };
    if raw.is_empty() { vec![BodyKind::Json] } else { raw.iter().map(kind).collect() }
}

fn field_kind(kind: RawFieldKind) -> FieldKind {
    match kind {
        RawFieldKind::Any => FieldKind::Any,
        RawFieldKind::Text => FieldKind::Text,
        RawFieldKind::Integer => FieldKind::Integer,
        RawFieldKind::Boolean => FieldKind::Boolean,
        RawFieldKind::Amount => FieldKind::Amount,
    }
}
