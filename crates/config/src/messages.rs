//! Listeners and services that speak ISO 8583: their dialects, and the routes of their messages.

use std::collections::{BTreeMap, BTreeSet};

use moat_message::frame::{Framing, LengthForm};
use moat_message::spec::{Kind, SHIPPED};
use moat_message::{Mti, Spec};
use moat_model::Class;
use moat_model::code::config as codes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::problem::nearest;
use crate::raw::{RawFieldKind, RawRoute, Text};
use crate::resolve::{Resolver, WAIT_MS_MAX};

/// Most messages of one connection under way that may be configured.
const IN_FLIGHT_MAX: u32 = 16_384;
/// Most fields that answers are matched by.
const MATCH_FIELDS_MAX: usize = 8;
/// Field of the response code.
const RESPONSE_CODE: u8 = 39;
/// What answers are matched by unless the dialect says otherwise: time of transmission, trace
/// number, acquirer, terminal.
const MATCH_ON: [u8; 4] = [7, 11, 32, 41];

/// How a listener or a service speaks ISO 8583.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMessages {
    /// The dialect: the name of a shipped spec (`moat message specs`) or `file:my-network.yaml`.
    #[schemars(with = "String")]
    pub spec: Text,
    /// The length in front of each message; default: that of the spec.
    pub framing: Option<RawFraming>,
    /// Fields by which an answer is matched with its request, and a repeat with its original;
    /// default: those of 7, 11, 32 and 41 that the spec has.
    #[serde(default)]
    #[schemars(with = "Vec<u8>")]
    pub match_on: Vec<Spanned<u8>>,
    /// Most messages of one connection under way; default 1,024.
    #[schemars(with = "Option<u32>")]
    pub in_flight_max: Option<Spanned<u32>>,
    /// Of a listener: response codes for reasons that a policy gives and for codes of Moat, such as
    /// `over_limit: "61"`. What is not named has a code by its kind.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub codes: BTreeMap<String, Text>,
    /// Response codes that say that it was done; default by the length of field 39: `00`, `10` and
    /// `11`, or all that begin with `0`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub approved: Vec<Text>,
    /// Response codes that leave open whether it was done; default `06`, `09`, `68`, `91`, `96`, or
    /// `907`, `909`, `911` and `923`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub unknown: Vec<Text>,
    /// Longest time from the first byte of a message to its last; default 10,000.
    #[schemars(with = "Option<u64>")]
    pub message_ms: Option<Spanned<u64>>,
    /// Longest time that the other side may leave a message unread; default 10,000.
    #[schemars(with = "Option<u64>")]
    pub unread_ms: Option<Spanned<u64>>,
    /// Of a listener: longest time without any message; default 600,000.
    #[schemars(with = "Option<u64>")]
    pub idle_ms: Option<Spanned<u64>>,
    /// Of a service: after how long a silence it is asked whether it is there; default 60,000. 0 is
    /// never.
    #[schemars(with = "Option<u64>")]
    pub echo_ms: Option<Spanned<u64>>,
    /// Of a service: whether Moat signs on before it sends anything else; default true.
    pub sign_on: Option<bool>,
}

/// The length in front of each message.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFraming {
    /// `binary2`, `binary4`, `ascii4` or `bcd2`.
    pub length: RawLength,
    /// Whether it counts itself; default false.
    #[serde(default)]
    pub includes_itself: bool,
}

/// See [`RawFraming::length`].
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLength {
    /// Two bytes, the greater first.
    Binary2,
    /// Four bytes, the greatest first.
    Binary4,
    /// Four ASCII digits.
    Ascii4,
    /// Four digits in two bytes.
    Bcd2,
}

impl RawLength {
    fn form(self) -> LengthForm {
        match self {
            RawLength::Binary2 => LengthForm::Binary2,
            RawLength::Binary4 => LengthForm::Binary4,
            RawLength::Ascii4 => LengthForm::Ascii4,
            RawLength::Bcd2 => LengthForm::Bcd2,
        }
    }
}

/// How a listener or a service speaks ISO 8583, resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Messages {
    /// The spec, YAML.
    pub spec: String,
    /// How the length in front of a message is written.
    pub length: LengthForm,
    /// Whether it counts itself.
    pub length_includes_itself: bool,
    /// Fields by which answers are matched.
    pub match_on: Vec<u8>,
    /// Most messages of a connection under way.
    pub in_flight_max: u32,
    /// Response codes by reason of a policy or code of Moat.
    pub codes: Vec<(String, String)>,
    /// Response codes of success; empty for the usual ones.
    pub approved: Vec<String>,
    /// Response codes that leave it open; empty for the usual ones.
    pub unknown: Vec<String>,
    /// Longest time from the first byte of a message to its last, in milliseconds.
    pub message_ms: u64,
    /// Longest time that a message may stay unread, in milliseconds.
    pub unread_ms: u64,
    /// Longest time without any message, in milliseconds.
    pub idle_ms: u64,
    /// After how long a silence the other side is asked, in milliseconds; 0 is never.
    pub echo_ms: u64,
    /// Whether Moat signs on first.
    pub sign_on: bool,
}

/// Which messages a route takes; no types means that it takes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageMatch {
    /// Name of the listener.
    pub listener: String,
    /// Message types, without the digit of the origin.
    pub types: Vec<String>,
    /// How field 3 begins; empty for any.
    pub processing: Vec<String>,
}

/// A dialect that is known while the rest is resolved.
pub(crate) struct Dialect {
    /// Name of the listener or of the service.
    pub(crate) of: String,
    pub(crate) spec: Spec,
}

/// Reads a dialect. `is_listener` says which side Moat is on.
pub(crate) fn messages(
    r: &mut Resolver<'_>,
    name: &Text,
    raw: &RawMessages,
    is_listener: bool,
) -> Option<Messages> {
    let (yaml, spec) = spec(r, &raw.spec)?;
    let framing = framing(r, raw, &spec)?;
    let field = spec.field(RESPONSE_CODE);
    if field.is_none_or(|field| field.class() != Class::C1) {
        let message = "the spec has no response code: field 39 of class C1";
        r.bad(&codes::BAD_VALUE, &raw.spec, message, "add it to the spec");
    }
    let match_on = match_on(r, raw, &spec);
    let codes = raw.codes.iter().map(|(reason, code)| {
        check_code(r, &spec, code);
        (reason.clone(), code.value.clone())
    });
    let codes = codes.collect();
    let mut list = |texts: &[Text]| -> Vec<String> {
        texts.iter().for_each(|code| check_code(r, &spec, code));
        texts.iter().map(|code| code.value.clone()).collect()
    };
    let (approved, unknown) = (list(&raw.approved), list(&raw.unknown));
    let has_health =
        r.raw.upstreams.iter().any(|u| u.name.value == name.value && u.health.is_some());
    if !is_listener && has_health {
        let fix = "remove `health`: links ask by `echo_ms`";
        r.bad(&codes::CONFLICT, name, "health checks are for services over HTTP", fix);
    }
    if !is_listener && !raw.codes.is_empty() {
        let fix = "move `codes` to the listener";
        r.bad(&codes::CONFLICT, &raw.spec, "a service is told no response codes", fix);
    }
    let messages = Messages {
        spec: yaml,
        length: framing.form,
        length_includes_itself: framing.includes_itself,
        match_on,
        in_flight_max: r.bounded32(raw.in_flight_max.as_ref(), 1_024, IN_FLIGHT_MAX),
        codes,
        approved,
        unknown,
        message_ms: r.bounded(raw.message_ms.as_ref(), 10_000, 100..=WAIT_MS_MAX),
        unread_ms: r.bounded(raw.unread_ms.as_ref(), 10_000, 100..=WAIT_MS_MAX),
        idle_ms: r.bounded(raw.idle_ms.as_ref(), 600_000, 1_000..=WAIT_MS_MAX),
        echo_ms: r.bounded(raw.echo_ms.as_ref(), 60_000, 0..=WAIT_MS_MAX),
        sign_on: raw.sign_on.unwrap_or(true),
    };
    let dialect = Dialect { of: name.value.clone(), spec };
    if is_listener {
        r.dialects.push(dialect)
    } else {
        r.links.push(dialect)
    }
    Some(messages)
}

fn spec(r: &mut Resolver<'_>, name: &Text) -> Option<(String, Spec)> {
    let yaml = if name.value.starts_with("file:") {
        String::from_utf8(r.fetch(name)).unwrap_or_default()
    } else if let Some((_, yaml)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name.value) {
        (*yaml).to_owned()
    } else {
        let fix = match nearest(&name.value, SHIPPED.iter().map(|(shipped, _)| *shipped)) {
            Some(near) => format!("write `{near}`"),
            None => "name a shipped spec (`moat message specs`) or a file: `file:my.yaml`".into(),
        };
        r.bad(&codes::DANGLING, name, format!("there is no spec `{}`", name.value), fix);
        return None;
    };
    if yaml.is_empty() {
        // Why it could not be read was said.
        return None;
    }
    match Spec::parse(&yaml) {
        Ok(spec) => Some((yaml, spec)),
        Err(error) => {
            let file = name.value.trim_start_matches("file:");
            let line = error.place.and_then(|(line, _)| {
                yaml.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?).map(str::trim)
            });
            let place = match error.place {
                Some((line, column)) => format!("{file}:{line}:{column}"),
                None => file.to_owned(),
            };
            let field = error.field.map_or_else(String::new, |field| format!("field {field}: "));
            let quoted = line.map_or_else(String::new, |line| format!(": `{line}`"));
            let message = format!("{place}: {field}{}{quoted}", error.message);
            r.bad(error.code, name, message, "");
            None
        }
    }
}

fn framing(r: &mut Resolver<'_>, raw: &RawMessages, spec: &Spec) -> Option<Framing> {
    let own = raw.framing.map(|framing| Framing {
        form: framing.length.form(),
        includes_itself: framing.includes_itself,
    });
    let framing = own.or_else(|| spec.framing());
    if framing.is_none() {
        let fix = "add `framing: { length: binary2 }` here or to the spec";
        r.bad(&codes::MISSING_KEY, &raw.spec, "neither this nor the spec says the framing", fix);
    }
    framing
}

fn match_on(r: &mut Resolver<'_>, raw: &RawMessages, spec: &Spec) -> Vec<u8> {
    let fine = |number: u8| spec.field(number).is_some_and(|field| field.class() == Class::C1);
    if raw.match_on.is_empty() {
        return MATCH_ON.into_iter().filter(|number| fine(*number)).collect();
    }
    for number in raw.match_on.iter().filter(|number| !fine(number.value)) {
        let message = format!("field {} is none of the spec's, or not of class C1", number.value);
        r.bad(&codes::BAD_VALUE, number, message, "name fields of class C1, such as 11");
    }
    if let Some(excess) = raw.match_on.get(MATCH_FIELDS_MAX) {
        let fix = format!("name at most {MATCH_FIELDS_MAX}");
        r.bad(&codes::TOO_LARGE, excess, "too many fields", fix);
    }
    raw.match_on.iter().map(|number| number.value).collect()
}

/// A response code must fit its field.
fn check_code(r: &mut Resolver<'_>, spec: &Spec, code: &Text) {
    let mut draft = moat_message::Draft::new(spec, MTI_ANY);
    if draft.set_text(RESPONSE_CODE, &code.value).is_err() {
        let message = format!("`{}` does not fit field 39 of the spec", code.value);
        r.bad(&codes::BAD_VALUE, code, message, "write it as the spec has it, in quotes");
    }
}

/// Some type: nothing is sent by it.
const MTI_ANY: Mti = Mti::NETWORK_REQUEST;

/// Which messages a route takes. Says what is wrong with it.
pub(crate) fn matching(r: &mut Resolver<'_>, raw: &RawRoute) -> MessageMatch {
    let matches = &raw.matches;
    if matches.messages.is_empty() {
        for text in matches.listener.iter().chain(&matches.processing) {
            let fix = "add `messages`, or remove it";
            r.bad(&codes::CONFLICT, text, "this is for routes of messages only", fix);
        }
        return MessageMatch::default();
    }
    let listener = listener(r, raw);
    let mut types = Vec::new();
    for text in &matches.messages {
        match text.value.parse::<Mti>() {
            Ok(mti) if mti.answer().is_some() && !mti.is_repeat() => types.push(text.value.clone()),
            _ => {
                let fix = "write the type of a request or an advice in quotes: \"0200\"";
                r.bad(&codes::BAD_VALUE, text, "this is no type of a request", fix);
            }
        }
    }
    for text in &matches.processing {
        if text.value.len() > 6 || !text.value.bytes().all(|byte| byte.is_ascii_digit()) {
            let fix = "write the digits that field 3 begins with: \"00\"";
            r.bad(&codes::BAD_VALUE, text, "this is no processing code", fix);
        }
    }
    check_pointers(r, raw, &listener);
    let processing = matches.processing.iter().map(|text| text.value.clone()).collect();
    MessageMatch { listener, types, processing }
}

fn listener(r: &mut Resolver<'_>, raw: &RawRoute) -> String {
    let known = |r: &Resolver<'_>, name: &str| r.dialects.iter().any(|d| d.of == name);
    match &raw.matches.listener {
        Some(text) if known(r, &text.value) => text.value.clone(),
        Some(text) => {
            let near = nearest(&text.value, r.dialects.iter().map(|d| d.of.as_str()));
            let fix = near.map_or_else(
                || "name a listener with `protocol: iso8583`".to_owned(),
                |near| format!("write `{near}`"),
            );
            let message = format!("no listener `{}` speaks ISO 8583", text.value);
            r.bad(&codes::DANGLING, text, message, fix);
            String::new()
        }
        None => {
            let fix = "add `listener: NAME` beside `messages`";
            let message = "it must be said whose messages these are";
            r.bad(&codes::MISSING_KEY, &raw.name, message, fix);
            String::new()
        }
    }
}

/// The names that stand for values in `audit.object`: fields of class C1.
pub(crate) fn params(r: &Resolver<'_>, listener: &str) -> BTreeSet<String> {
    let Some(dialect) = r.dialects.iter().find(|d| d.of == listener) else {
        return BTreeSet::new();
    };
    let clear = dialect.spec.all().filter(|(_, field)| field.class() == Class::C1);
    clear.map(|(_, field)| field.name().to_owned()).collect()
}

/// Every pointer of a route of messages is a field of its listener's spec, and no class is weaker
/// than the spec's.
fn check_pointers(r: &mut Resolver<'_>, raw: &RawRoute, listener: &str) {
    let Some(at) = r.dialects.iter().position(|d| d.of == listener) else { return };
    for (pointer, kind) in &raw.decide_on {
        let Some((class, is_number)) = field(r, at, pointer, kind) else { continue };
        let fits = match kind.value {
            RawFieldKind::Any | RawFieldKind::Text => class <= Class::C2 || class == Class::Pan,
            RawFieldKind::Integer | RawFieldKind::Amount => class <= Class::C2 && is_number,
            RawFieldKind::Boolean => false,
        };
        if !fits {
            let fix = "write `text`, or `integer` and `amount` for fields of digits; of C3 and SAD \
                       the policy always knows whether they are there";
            r.bad(&codes::CONFLICT, kind, format!("{pointer} cannot be read so"), fix);
        }
    }
    for (pointer, class) in &raw.audit.fields {
        let Some((own, _)) = field(r, at, pointer, class) else { continue };
        if class.value.parse::<Class>().is_ok_and(|said| said < own) {
            let message = format!("the spec says {own}, which is stricter");
            r.bad(&codes::CONFLICT, class, message, format!("write {own}"));
        }
    }
    let plans = raw.mask_plans.values().flatten();
    for (pointer, strategy) in raw.mask.iter().chain(&raw.mask_request).chain(plans) {
        field(r, at, pointer, strategy);
    }
    if let Some(before) = &raw.audit.before {
        let message = "a route of messages reads no state before a change";
        r.bad(&codes::CONFLICT, &before.read, message, "remove `before`");
    }
}

/// Class of a field, and whether it holds digits.
fn field<T>(
    r: &mut Resolver<'_>,
    at: usize,
    pointer: &str,
    place: &Spanned<T>,
) -> Option<(Class, bool)> {
    let spec = &r.dialects.get(at)?.spec;
    let name = pointer.strip_prefix('/').unwrap_or(pointer);
    if let Some((_, field)) = spec.named(name).filter(|_| pointer.starts_with('/')) {
        return Some((field.class(), field.kind() == Kind::N));
    }
    let fix = match nearest(name, spec.all().map(|(_, field)| field.name())) {
        Some(near) => format!("write `/{near}`"),
        None => "write a slash and the name of a field: `/amount`".to_owned(),
    };
    r.bad(&codes::DANGLING, place, format!("the spec has no field `{pointer}`"), fix);
    None
}

/// A route between a listener and a service: both must speak the same dialect, or one of them HTTP.
pub(crate) fn check_upstream(r: &mut Resolver<'_>, raw: &RawRoute, matches: &MessageMatch) {
    let link = r.links.iter().find(|link| link.of == raw.upstream.value);
    let own = r.dialects.iter().find(|d| d.of == matches.listener);
    match (own, link) {
        (Some(own), Some(link)) if own.spec.name() != link.spec.name() => {
            let message = format!(
                "the listener speaks {}, the service {}",
                own.spec.name(),
                link.spec.name()
            );
            let fix = "give both the same `spec`: dialects are not translated";
            r.bad(&codes::CONFLICT, &raw.upstream, message, fix);
        }
        (None, Some(_)) if matches.types.is_empty() => {
            if let Some(before) = &raw.audit.before {
                let message = "a service of messages has no state to be read by GET";
                r.bad(&codes::CONFLICT, &before.read, message, "remove `before`");
            }
            let posts = raw.matches.methods.iter().all(|method| method.value == "POST");
            if raw.matches.methods.is_empty() || !posts {
                let fix = "write `methods: [POST]`";
                let message = "a message is sent by POST and nothing else";
                r.bad(&codes::CONFLICT, &raw.upstream, message, fix);
            }
        }
        _ => {}
    }
}
