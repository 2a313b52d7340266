//! Dialects and routes of messages, compiled.

use std::sync::Arc;
use std::time::Duration;

use moat_config::{FieldKind, Route};
use moat_mask::Strategy;
use moat_message::frame::Framing;
use moat_message::iso8583::MessageClass;
use moat_message::{Mti, Spec};
use moat_model::Class;
use moat_model::code::config::{BAD_VALUE, DANGLING};

use crate::generation::{Listener, Recorded, Refused};

/// Field of the response code.
pub(super) const RESPONSE_CODE: u8 = 39;
/// Field of the processing code.
pub(super) const PROCESSING_CODE: u8 = 3;
/// Response codes of 1987 that leave open whether it was done: error, in progress, answer too late,
/// issuer or switch away, malfunction.
const UNKNOWN_2: [&str; 5] = ["06", "09", "68", "91", "96"];
/// The same of 1993: switch away, malfunction, issuer timed out, in progress.
const UNKNOWN_3: [&str; 4] = ["907", "909", "911", "923"];
/// Response codes of 1987 that say that it was done, wholly or in part.
const APPROVED_2: [&str; 3] = ["00", "10", "11"];

/// How one listener or service speaks ISO 8583.
pub(crate) struct Dialect {
    pub(crate) spec: Spec,
    pub(super) framing: Framing,
    pub(super) match_on: Vec<u8>,
    pub(super) in_flight_max: usize,
    /// Response codes by reason of a policy or code of ours.
    pub(super) codes: Vec<(String, String)>,
    approved: Vec<String>,
    unknown: Vec<String>,
    pub(super) message: Duration,
    pub(super) unread: Duration,
    pub(super) idle: Duration,
    /// None for never.
    pub(super) echo: Option<Duration>,
    pub(super) sign_on: bool,
}

/// Compiles a dialect.
///
/// # Errors
/// Its spec cannot be read, which was found out when the configuration was resolved.
pub(crate) fn dialect(raw: &moat_config::Messages) -> Result<Arc<Dialect>, Refused> {
    let spec = Spec::parse(&raw.spec).map_err(|e| Refused::new(e.code, e))?;
    let echo = (raw.echo_ms > 0).then(|| Duration::from_millis(raw.echo_ms));
    Ok(Arc::new(Dialect {
        spec,
        framing: Framing { form: raw.length, includes_itself: raw.length_includes_itself },
        match_on: raw.match_on.clone(),
        in_flight_max: usize::try_from(raw.in_flight_max).unwrap_or(usize::MAX),
        codes: raw.codes.clone(),
        approved: raw.approved.clone(),
        unknown: raw.unknown.clone(),
        message: Duration::from_millis(raw.message_ms),
        unread: Duration::from_millis(raw.unread_ms),
        idle: Duration::from_millis(raw.idle_ms),
        echo,
        sign_on: raw.sign_on,
    }))
}

/// What a response code says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    NotDone,
    Unknown,
}

impl Dialect {
    /// Whether response codes have three digits, as since 1993.
    pub(super) fn is_of_1993(&self) -> bool {
        let field = self.spec.field(RESPONSE_CODE);
        field.and_then(moat_message::spec::Field::fixed_count) == Some(3)
    }

    pub(super) fn said(&self, code: &str) -> Said {
        if code.trim().is_empty() {
            return Said::Unknown;
        }
        let is_3 = self.is_of_1993();
        let among = |own: &[String], usual: &[&str]| match own {
            [] => usual.contains(&code),
            own => own.iter().any(|one| one == code),
        };
        let is_usual_3 = is_3 && self.approved.is_empty() && code.starts_with('0');
        if is_usual_3 || among(&self.approved, if is_3 { &[] } else { &APPROVED_2 }) {
            return Said::Done;
        }
        if among(&self.unknown, if is_3 { &UNKNOWN_3 } else { &UNKNOWN_2 }) {
            return Said::Unknown;
        }
        Said::NotDone
    }
}

/// What a route does with messages.
pub(crate) struct MessageRules {
    /// Place of the listener.
    listener: usize,
    types: Vec<Mti>,
    processing: Vec<String>,
    pub(super) dialect: Arc<Dialect>,
    /// Declared fields of the policy's input: number, pointer, type.
    pub(super) decide: Vec<(u8, String, FieldKind)>,
    pub(super) record: Vec<(u8, Recorded)>,
    pub(super) mask: Vec<(u8, Strategy)>,
    pub(super) mask_request: Vec<(u8, Strategy)>,
    /// Fields that stand in the record's object.
    pub(super) params: Vec<(u8, Arc<str>)>,
}

impl MessageRules {
    /// Whether the route takes a message of this type and processing code.
    pub(super) fn takes(&self, listener: usize, mti: Mti, processing: &str) -> bool {
        self.listener == listener
            && self.types.contains(&mti.original())
            && (self.processing.is_empty()
                || self.processing.iter().any(|start| processing.starts_with(start.as_str())))
    }
}

/// Compiles the part of a route that is about messages, if it has one. `recorded` makes what the
/// record needs of a field.
///
/// # Errors
/// A name that is not there, which was found out when the configuration was resolved.
pub(crate) fn message_rules(
    route: &Route,
    listeners: &[Listener],
    recorded: &dyn Fn(&str, Class) -> Recorded,
) -> Result<Option<MessageRules>, Refused> {
    let matches = &route.matches.messages;
    if matches.types.is_empty() {
        return Ok(None);
    }
    let dangling = |what: &str| Refused::new(&DANGLING, format!("route {}: {what}", route.name));
    let listener = listeners.iter().position(|listener| listener.name == matches.listener);
    let listener = listener.ok_or_else(|| dangling(&matches.listener))?;
    let dialect = listeners.get(listener).and_then(|one| one.messages.clone());
    let dialect = dialect.ok_or_else(|| dangling(&matches.listener))?;
    let spec = &dialect.spec;
    let number = |pointer: &str| {
        let name = pointer.strip_prefix('/').unwrap_or(pointer);
        spec.named(name).map(|(number, _)| number).ok_or_else(|| dangling(pointer))
    };
    let masks = |rules: &[moat_config::MaskRule]| {
        let one = |rule: &moat_config::MaskRule| {
            let strategy: Strategy =
                rule.strategy.parse().map_err(|e| Refused::new(&BAD_VALUE, e))?;
            Ok((number(&rule.pointer)?, strategy))
        };
        rules.iter().map(one).collect::<Result<Vec<_>, Refused>>()
    };
    let decide = route.decide_on.iter();
    let decide = decide.map(|(pointer, kind)| Ok((number(pointer)?, pointer.clone(), *kind)));
    let record = route.audit.fields.iter().map(|field| {
        let number = number(&field.pointer)?;
        let said: Class = field.class.parse().map_err(|e| Refused::new(&BAD_VALUE, e))?;
        let own = spec.field(number).map_or(said, moat_message::spec::Field::class);
        Ok((number, recorded(&field.pointer, said.max(own))))
    });
    let parts = route.audit.object.split('{').skip(1);
    let names = parts.filter_map(|part| part.split_once('}').map(|(name, _)| name));
    let params = names.map(|name| Ok((number(name)?, Arc::from(name))));
    Ok(Some(MessageRules {
        listener,
        types: matches.types.iter().filter_map(|text| text.parse().ok()).collect(),
        processing: matches.processing.clone(),
        decide: decide.collect::<Result<_, Refused>>()?,
        record: record.collect::<Result<_, Refused>>()?,
        mask: masks(&route.mask)?,
        mask_request: masks(&route.mask_request)?,
        params: params.collect::<Result<_, Refused>>()?,
        dialect,
    }))
}

/// Whether the message takes something back.
pub(super) fn is_reversal(mti: Mti) -> bool {
    mti.class() == MessageClass::Reversal
}
