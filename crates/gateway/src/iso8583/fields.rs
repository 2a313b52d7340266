//! From the fields of a message to the policy's input, to the record, and to what is passed on.

use moat_audit::SHOWN_BYTES_MAX;
use moat_audit::anchor::Canonical;
use moat_audit::hash::Hash;
use moat_audit::record::{Field, Value};
use moat_config::FieldKind;
use moat_mask::view::{AuditView, audit};
use moat_mask::{Scalar, Strategy};
use moat_message::iso8583::Read;
use moat_message::spec::Kind;
use moat_message::{Draft, Spec, View};
use moat_model::code::http::FIELD_TYPE;
use moat_model::{Class, Refusal, Stage};
use moat_policy::BodyValue;
use zeroize::Zeroizing;

use super::rules::MessageRules;
use crate::fields::Subject;
use crate::generation::Recorded;

/// Fields of message authentication codes: the last of each bitmap.
const MACS: [u8; 3] = [64, 128, 192];
/// Most characters of a value that a record shows.
const SHOWN_MAX: usize = SHOWN_BYTES_MAX / 4;
/// Digits of a masked card number, whatever it had: its length does not show.
const MASKED_PAN_DIGITS: usize = 16;

/// Whether a field is a MAC.
pub(super) fn is_mac(spec: &Spec, number: u8) -> bool {
    MACS.contains(&number) && spec.field(number).is_some_and(|field| field.kind() == Kind::B)
}

/// The message as the policy sees it: values of C1, those of C2 that the route declares, first six
/// and last four digits of a card, and of all else that it is there.
///
/// # Errors
/// `FIELD_TYPE` at [`Stage::Decode`] if a declared field is missing or of another type.
pub(super) fn decided_on(
    view: &mut View<'_>,
    rules: &MessageRules,
) -> Result<Vec<(String, BodyValue)>, Refusal> {
    let mut values = Vec::new();
    let spec = view.spec();
    for number in view.present().iter() {
        let Some(field) = spec.field(number) else { continue };
        let Some(read) = view.read(number) else { continue };
        let declared = rules.decide.iter().find(|(known, ..)| *known == number);
        let value = match (&read, declared) {
            (Read::Guarded(guarded), _) => match guarded.bin_and_last4() {
                Some((bin, last4)) => BodyValue::Pan { bin, last4 },
                None => BodyValue::Present,
            },
            (Read::Clear(_), None) if field.class() == Class::C2 => BodyValue::Present,
            (Read::Clear(value), declared) => {
                let kind = declared.map_or(FieldKind::Any, |(_, _, kind)| *kind);
                typed(&text(value), kind).ok_or_else(|| wrong(field.name(), "has another type"))?
            }
        };
        values.push((format!("/{}", field.name()), value));
    }
    for (number, pointer, kind) in &rules.decide {
        if *kind != FieldKind::Any && !view.present().has(*number) {
            return Err(wrong(pointer.trim_start_matches('/'), "is missing"));
        }
    }
    Ok(values)
}

fn wrong(name: &str, what: &str) -> Refusal {
    Refusal::new(Stage::Decode, &FIELD_TYPE).because(format!("/{name} {what}"))
}

/// Amounts of messages are in minor units already.
fn typed(text: &str, kind: FieldKind) -> Option<BodyValue> {
    match kind {
        FieldKind::Any | FieldKind::Text => Some(BodyValue::Text(text.to_owned())),
        FieldKind::Integer | FieldKind::Amount => text.parse().ok().map(BodyValue::Integer),
        FieldKind::Boolean => None,
    }
}

/// A value as text; as hexadecimal where no text stands for its bytes.
fn text(value: &moat_message::Value<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    if value.text(&mut text).is_err() {
        text.push_str(&data_encoding::HEXUPPER.encode(value.bytes()));
    }
    text
}

/// The recorded fields of a message, each with its value as the new one.
pub(super) fn recorded(
    view: &mut View<'_>,
    rules: &MessageRules,
    subject: &Subject<'_>,
) -> Vec<Field> {
    let mut fields = Vec::new();
    for (number, recorded) in &rules.record {
        let Some(read) = view.read(*number) else { continue };
        let value = value(&read, recorded, subject);
        let Recorded { name, field_id, class, .. } = recorded;
        match Field::new(*field_id, name.clone(), *class, Value::Absent, value) {
            Ok(field) => fields.push(field),
            // `value` follows the same rule, so this is a bug and must not pass in silence.
            Err(error) => tracing::error!(%error, "a field was left out of a record"),
        }
    }
    fields
}

fn value(read: &Read<'_>, recorded: &Recorded, subject: &Subject<'_>) -> Value {
    let anchor = |canonical: Option<Canonical>, id: &Hash| {
        let canonical = canonical.unwrap_or_else(Canonical::null);
        subject.key.anchor(subject.tenant, subject.object, id, &canonical)
    };
    let id = &recorded.field_id;
    let clear = match read {
        Read::Guarded(guarded) if guarded.class() == Class::Sad => return Value::Dropped,
        Read::Guarded(guarded) => return Value::Anchor(anchor(guarded.canonical(), id)),
        Read::Clear(value) => value,
    };
    match audit(recorded.class, &Scalar::Text(text(clear)), recorded.strategy) {
        AuditView::Clear(text) if text.len() <= SHOWN_BYTES_MAX => Value::Clear(text),
        AuditView::Clear(text) | AuditView::MaskedAndAnchored(text) => {
            let shown = text.chars().take(SHOWN_MAX).collect();
            Value::Masked { shown, anchor: anchor(clear.canonical(), id) }
        }
        AuditView::AnchorOnly => Value::Anchor(anchor(clear.canonical(), id)),
        AuditView::Nothing => Value::Dropped,
    }
}

/// The message with its masks. Where none applies, the bytes as they came; where one does, without
/// its MAC, which no longer holds.
///
/// # Errors
/// A refusal at [`Stage::Mask`]: the masked message cannot be written.
pub(super) fn masked(
    mut view: View<'_>,
    masks: &[(u8, Strategy)],
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let present = view.present();
    let spec = view.spec();
    let mut changes = Vec::new();
    for (number, strategy) in masks.iter().filter(|(number, _)| present.has(*number)) {
        changes.push((*number, shown(&mut view, *number, *strategy)));
    }
    if changes.is_empty() {
        return Ok(Zeroizing::new(view.message().to_vec()));
    }
    let mut draft = Draft::of(view);
    for (number, shown) in changes {
        let is_set = shown.is_some_and(|shown| draft.set_text(number, &shown).is_ok());
        if !is_set {
            // What has no masked form that fits its field is not passed on at all.
            draft.remove(number);
        }
    }
    for number in MACS.into_iter().filter(|number| is_mac(spec, *number)) {
        draft.remove(number);
    }
    let mut out = Zeroizing::new(Vec::new());
    draft.write(&mut out).map_err(|e| Refusal::new(Stage::Mask, e.code()).because(e))?;
    Ok(out)
}

/// A field as its strategy shows it; in fields of digits zeros stand for what is hidden.
fn shown(view: &mut View<'_>, number: u8, strategy: Strategy) -> Option<String> {
    let field = view.spec().field(number)?;
    let is_digits = matches!(field.kind(), Kind::N | Kind::Z);
    let masked = match view.read(number)? {
        Read::Guarded(guarded) => {
            let (bin, last4) = guarded.bin_and_last4()?;
            let hidden = MASKED_PAN_DIGITS.saturating_sub(bin.len() + last4.len());
            let whole = format!("{bin}{}{last4}", "0".repeat(hidden));
            strategy.mask(field.class(), &whole)
        }
        Read::Clear(value) => strategy.mask(field.class(), &text(&value)),
    };
    let is_hidden_whole = matches!(strategy, Strategy::Drop | Strategy::Fixed);
    if is_hidden_whole || matches!(strategy, Strategy::HashAnchor) {
        return None;
    }
    Some(if is_digits { masked.replace('*', "0") } else { masked })
}
