//! From captured JSON fields to the policy's input and to the record.

use moat_audit::SHOWN_BYTES_MAX;
use moat_audit::anchor::{AnchorKey, Canonical, field_id};
use moat_audit::hash::Hash;
use moat_audit::record::{Field, Value};
use moat_config::FieldKind;
use moat_mask::view::{self, AuditView, Declared, PolicyView};
use moat_mask::{Capture, Captures, Scalar};
use moat_model::code::http::FIELD_TYPE;
use moat_model::{Class, Refusal, Stage};
use moat_policy::BodyValue;

use crate::generation::{FIELD_SCHEMA_VERSION, Reading, Recorded, RouteRules, Use};

/// Most characters of a value that a record shows.
const SHOWN_MAX: usize = SHOWN_BYTES_MAX / 4;

/// The declared fields of a body as the policy sees them, by concrete pointer.
///
/// # Errors
/// `FIELD_TYPE` at [`Stage::Decode`] if a typed field is missing or of another type.
pub(crate) fn decided_on(
    reading: &Reading,
    captures: &Captures,
    declared: &[(String, FieldKind)],
) -> Result<Vec<(String, BodyValue)>, Refusal> {
    let mut values: Vec<(String, BodyValue)> = Vec::new();
    for (id, r#use) in reading.uses.iter().enumerate() {
        let Use::Decide(kind) = r#use else { continue };
        let pointer = declared.get(id).map_or("", |(pointer, _)| pointer.as_str());
        let first = values.len();
        for capture in captures.of(u16::try_from(id).unwrap_or(u16::MAX)) {
            // Plans match without regard to case, as some services do. What is decided on must
            // leave no doubt: the declared spelling, at the declared place, once.
            if !is_spelled_as(pointer, &capture.pointer) {
                return Err(wrong(pointer, "is spelled otherwise, or is no scalar"));
            }
            if values.iter().skip(first).any(|(known, _)| *known == capture.pointer) {
                return Err(wrong(pointer, "stands there twice"));
            }
            values.push((capture.pointer.clone(), policy_value(capture, *kind)?));
        }
        if values.len() == first && *kind != FieldKind::Any {
            return Err(wrong(pointer, "is missing"));
        }
    }
    Ok(values)
}

/// Whether a concrete pointer is the declared one to the letter, `*` standing for one step and `**`
/// for any number.
pub(crate) fn is_spelled_as(declared: &str, concrete: &str) -> bool {
    fn fits(declared: &[&str], concrete: &[&str]) -> bool {
        match (declared, concrete) {
            ([], []) => true,
            (["**", rest @ ..], steps) => {
                fits(rest, steps)
                    || steps.split_first().is_some_and(|(_, more)| fits(declared, more))
            }
            ([wanted, rest @ ..], [step, more @ ..]) => {
                (*wanted == "*" || wanted == step) && fits(rest, more)
            }
            _ => false,
        }
    }
    let steps = |pointer| str::split(pointer, '/').collect::<Vec<&str>>();
    fits(&steps(declared), &steps(concrete))
}

fn wrong(pointer: &str, what: &str) -> Refusal {
    Refusal::new(Stage::Decode, &FIELD_TYPE).because(format!("{pointer} {what}"))
}

fn policy_value(capture: &Capture, kind: FieldKind) -> Result<BodyValue, Refusal> {
    let value = match view::policy(capture.class, &capture.value, Declared::Yes) {
        PolicyView::Card { bin, last4 } => return Ok(BodyValue::Pan { bin, last4 }),
        PolicyView::Present => return Ok(BodyValue::Present),
        PolicyView::Value(value) => value,
    };
    let fitting = match (kind, value) {
        (FieldKind::Any, Scalar::Null) => Some(BodyValue::Null),
        (FieldKind::Any | FieldKind::Boolean, Scalar::Bool(value)) => Some(BodyValue::Bool(*value)),
        (FieldKind::Any, Scalar::Number(token)) => Some(BodyValue::Number(token.to_string())),
        (FieldKind::Any | FieldKind::Text, Scalar::Text(text)) => {
            Some(BodyValue::Text(text.to_string()))
        }
        (FieldKind::Integer, Scalar::Number(token)) => token.parse().ok().map(BodyValue::Integer),
        (FieldKind::Amount, Scalar::Number(text) | Scalar::Text(text)) => {
            minor_units(text).map(BodyValue::Integer)
        }
        _ => None,
    };
    fitting.ok_or_else(|| wrong(&capture.pointer, "has the wrong type"))
}

/// An amount such as `100`, `100.5` or `-0.25` in minor units of two decimals. Anything else, an
/// exponent included, is no amount.
fn minor_units(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, cents) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(cents) || cents.len() > 2 {
        return None;
    }
    let cents: i64 = format!("{cents:0<2}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)?.checked_mul(sign)
}

/// Whose data a value is, for its anchor.
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a AnchorKey,
    pub(crate) tenant: &'a str,
    pub(crate) object: &'a str,
}

/// The recorded fields among `captures`: each with the value as the new one.
pub(crate) fn recorded(
    rules: &RouteRules,
    reading: &Reading,
    captures: &Captures,
    subject: &Subject<'_>,
) -> Vec<Field> {
    let mut fields = Vec::new();
    for (id, r#use) in reading.uses.iter().enumerate().take(own_uses(rules, reading)) {
        let Use::Record(recorded) = r#use else { continue };
        for capture in captures.of(u16::try_from(id).unwrap_or(u16::MAX)) {
            let name = capture.pointer.trim_start_matches('/').to_owned();
            let is_declared = name == recorded.name;
            let field_id = if is_declared { recorded.field_id } else { rules.field_id(&name) };
            let value = value(recorded, &capture.value, &field_id, subject);
            push(&mut fields, field_id, name, recorded.class, Value::Absent, value);
        }
    }
    fields
}

/// How many of the uses are the route's own fields; the after images follow them.
fn own_uses(rules: &RouteRules, reading: &Reading) -> usize {
    let is_answer = rules.answer.as_ref().is_some_and(|answer| core::ptr::eq(answer, reading));
    let images = rules.images.as_ref().map_or(0, |images| images.fields.len());
    reading.uses.len().saturating_sub(if is_answer { images } else { 0 })
}

/// The state before a change: every image field with its value as the old one.
pub(crate) fn before(rules: &RouteRules, captures: &Captures, subject: &Subject<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    let Some(images) = &rules.images else { return fields };
    for (id, image) in images.fields.iter().enumerate() {
        let field_id = image.field_id;
        let found = captures.first(u16::try_from(id).unwrap_or(u16::MAX));
        let old =
            found.map_or(Value::Absent, |capture| value(image, &capture.value, &field_id, subject));
        push(&mut fields, field_id, image.name.clone(), image.class, old, Value::Absent);
    }
    fields
}

/// The fields of an intent, completed with what the answer says of them now.
pub(crate) fn after(
    rules: &RouteRules,
    intent: &[Field],
    captures: Option<&Captures>,
    subject: &Subject<'_>,
) -> Vec<Field> {
    let Some(images) = &rules.images else { return intent.to_vec() };
    let first = rules.answer.as_ref().map_or(0, |answer| answer.uses.len() - images.fields.len());
    let mut fields = Vec::with_capacity(intent.len());
    for field in intent {
        let image = images.fields.iter().position(|image| image.name == field.name());
        let found = image.and_then(|at| {
            let id = u16::try_from(first + at).unwrap_or(u16::MAX);
            Some((images.fields.get(at)?, captures?.first(id)?))
        });
        match found {
            Some((image, capture)) => {
                let id = *field.field_id();
                let new = value(image, &capture.value, &id, subject);
                let (name, class) = (field.name().to_owned(), field.class());
                push(&mut fields, id, name, class, field.before().clone(), new);
            }
            None => fields.push(field.clone()),
        }
    }
    fields
}

fn push(
    fields: &mut Vec<Field>,
    field_id: Hash,
    name: String,
    class: Class,
    old: Value,
    new: Value,
) {
    match Field::new(field_id, name, class, old, new) {
        Ok(field) => fields.push(field),
        // `value` follows the same rule, so this is a bug and must not pass in silence.
        Err(error) => tracing::error!(%error, "a field was left out of a record"),
    }
}

/// What the record says of one value.
fn value(recorded: &Recorded, scalar: &Scalar, field_id: &Hash, subject: &Subject<'_>) -> Value {
    if matches!(scalar, Scalar::Null) && recorded.class != Class::Sad {
        return Value::Null;
    }
    let anchor = || {
        let canonical = canonical(scalar);
        subject.key.anchor(subject.tenant, subject.object, field_id, &canonical)
    };
    match view::audit(recorded.class, scalar, recorded.strategy) {
        AuditView::Clear(text) if text.len() <= SHOWN_BYTES_MAX => Value::Clear(text),
        AuditView::Clear(text) => {
            Value::Masked { shown: text.chars().take(SHOWN_MAX).collect(), anchor: anchor() }
        }
        AuditView::MaskedAndAnchored(shown) => {
            Value::Masked { shown: shown.chars().take(SHOWN_MAX).collect(), anchor: anchor() }
        }
        AuditView::AnchorOnly if recorded.class == Class::C1 => {
            Value::Masked { shown: "***".to_owned(), anchor: anchor() }
        }
        AuditView::AnchorOnly => Value::Anchor(anchor()),
        AuditView::Nothing => Value::Dropped,
    }
}

/// The anchor that `hash_anchor` shows to a caller: the one that stands in the record.
pub(crate) fn shown_anchor(
    key: &AnchorKey,
    table: &str,
    object: &str,
    pointer: &str,
    class: Class,
    scalar: &Scalar,
) -> Option<String> {
    if class == Class::Sad {
        return None;
    }
    let field_id = field_id(table, pointer.trim_start_matches('/'), FIELD_SCHEMA_VERSION);
    let anchor = key.anchor(crate::record::TENANT, object, &field_id, &canonical(scalar));
    let mac = data_encoding::BASE64URL_NOPAD.encode(anchor.mac());
    Some(format!("H:{}:{}:{mac}", anchor.alg().name(), anchor.key_id()))
}

/// The typed value that an anchor covers, the same however JSON spelled it.
fn canonical(scalar: &Scalar) -> Canonical {
    match scalar {
        Scalar::Bool(value) => Canonical::boolean(*value),
        Scalar::Number(token) => {
            Canonical::number(token).unwrap_or_else(|_| Canonical::text(token))
        }
        Scalar::Text(text) => Canonical::text(text),
        Scalar::TooLong { sha256, .. } => Canonical::bytes(sha256),
        _ => Canonical::null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_on_is_spelled_exactly() {
        for (declared, concrete) in [
            ("/amount", "/amount"),
            ("/items/*/price", "/items/0/price"),
            ("/**/card", "/a/b/card"),
            ("/**/card", "/card"),
        ] {
            assert!(is_spelled_as(declared, concrete), "{declared} {concrete}");
        }
        for (declared, concrete) in [
            ("/amount", "/AMOUNT"),
            ("/amount", "/amount/x"),
            ("/items/*/price", "/items/price"),
            ("/**/card", "/a/Card"),
            ("/a/b", "/a"),
        ] {
            assert!(!is_spelled_as(declared, concrete), "{declared} {concrete}");
        }
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, units) in
            [("100", 10_000), ("100.5", 10_050), ("0.01", 1), ("-3.20", -320), ("007", 700)]
        {
            assert_eq!(minor_units(text), Some(units), "{text}");
        }
        for bad in
            ["", ".", "1.", ".5", "1.234", "1e3", "+1", "1,000", "--1", "a", "92233720368547758.08"]
        {
            assert_eq!(minor_units(bad), None, "{bad}");
        }
    }
}
