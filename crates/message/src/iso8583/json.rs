//! The JSON form of a message, either way: `mti`, `header` in hexadecimal where there is one, and
//! `fields` by name. Values are text, `{"hex": …}` where no text stands for exactly these bytes, and
//! lists of objects for TLV. Every field that is written is read again to the same bytes; bitmaps
//! are written anew.

use data_encoding::HEXUPPER;
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::draft::Draft;
use super::mti::Mti;
use super::observe::Observer;
use super::value::from_text;
use super::view::{Read, Value, View};
use crate::error::{MessageError, Reason};
use crate::limit::{TLV_DEPTH_MAX, TLV_OBJECTS_MAX};
use crate::spec::{Field, Kind, Spec};
use crate::tlv::{self, Objects, Tag};

/// Writes a message. The text holds every value in clear, for passing it on.
///
/// # Errors
/// Never for a message that was read strictly.
pub fn write<O: Observer>(view: &mut View<'_, O>) -> Result<Zeroizing<String>, MessageError> {
    let mut out = Zeroizing::new(String::with_capacity(view.message().len() * 3 + 64));
    out.push_str("{\"mti\":\"");
    out.push_str(&view.mti().to_string());
    out.push('"');
    if !view.header().is_empty() {
        out.push_str(",\"header\":\"");
        push_hex(view.header(), &mut out);
        out.push('"');
    }
    out.push_str(",\"fields\":{");
    let (spec, mut is_first) = (view.spec(), true);
    for number in view.present().iter().filter(|number| !spec.is_bitmap(*number)) {
        let missing = || MessageError::new(Reason::Order, number, 0);
        let field = spec.field(number).ok_or_else(missing)?;
        let (whole, _) = view.span(number).ok_or_else(missing)?;
        let whole = view.message().get(whole).ok_or_else(missing)?;
        let value = match view.read(number).ok_or_else(missing)? {
            Read::Clear(value) => value,
            Read::Guarded(guarded) => guarded.inner(),
        };
        if !core::mem::take(&mut is_first) {
            out.push(',');
        }
        push_text(field.name(), &mut out);
        out.push(':');
        write_value(field, &value, whole, &mut out);
    }
    out.push_str("}}");
    Ok(out)
}

fn write_value(field: &Field, value: &Value<'_>, whole: &[u8], out: &mut String) {
    if field.kind() == Kind::Tlv && write_objects(value.bytes, out) {
        return;
    }
    let mut text = Zeroizing::new(String::new());
    let mut again = Zeroizing::new(Vec::new());
    let is_same = field.kind() != Kind::Tlv
        && value.text(&mut text).is_ok()
        && from_text(&field.rule, &text, &mut again).is_ok()
        && *again == whole;
    if is_same {
        push_text(&text, out);
        return;
    }
    out.push_str("{\"hex\":\"");
    push_hex(value.bytes, out);
    out.push_str("\"}");
}

/// Objects one after the other, unless something between them would be lost.
fn write_objects(data: &[u8], out: &mut String) -> bool {
    let start = out.len();
    let (mut depth, mut again) = (0, Zeroizing::new(Vec::new()));
    out.push('[');
    let mut is_first = true;
    for object in Objects::new(data) {
        let Ok(object) = object else {
            out.truncate(start);
            return false;
        };
        while depth > object.depth {
            out.push_str("]}");
            depth -= 1;
        }
        if !core::mem::take(&mut is_first) {
            out.push(',');
        }
        out.push_str("{\"tag\":\"");
        out.push_str(&object.tag.to_string());
        if object.tag.is_template() && !object.value.is_empty() {
            out.push_str("\",\"objects\":[");
            depth = object.depth + 1;
            is_first = true;
        } else {
            out.push_str("\",\"value\":\"");
            push_hex(object.value, out);
            out.push_str("\"}");
        }
    }
    (0..depth).for_each(|_| out.push_str("]}"));
    out.push(']');
    let written = out.get(start..).unwrap_or_default();
    let is_same = serde_json::from_str::<Vec<Json>>(written)
        .is_ok_and(|objects| put_objects(&objects, &mut again, 0).is_some() && *again == data);
    if !is_same {
        out.truncate(start);
    }
    is_same
}

fn push_hex(bytes: &[u8], out: &mut String) {
    HEXUPPER.encode_append(bytes, out);
}

/// A text in quotes (RFC 8259 §7).
fn push_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                out.push_str("\\u00");
                push_hex(&[u8::try_from(u32::from(control)).unwrap_or(0)], out);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Reads a message from its JSON form: its bytes as they are to be sent.
///
/// # Errors
/// The field at which it is no such form, or does not fit the spec; never a value.
pub fn read(spec: &Spec, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, MessageError> {
    let wrong = || MessageError::new(Reason::Json, 0, 0);
    let json: Json = serde_json::from_slice(bytes).map_err(|_| wrong())?;
    let json = json.as_object().ok_or_else(wrong)?;
    if json.keys().any(|key| !["mti", "header", "fields"].contains(&key.as_str())) {
        return Err(wrong());
    }
    let mti = json.get("mti").and_then(Json::as_str).ok_or_else(wrong)?;
    let mut draft = Draft::new(spec, mti.parse::<Mti>()?);
    if let Some(header) = json.get("header") {
        draft.set_header(&from_hex(header).ok_or_else(wrong)?);
    }
    let fields = json.get("fields").and_then(Json::as_object).ok_or_else(wrong)?;
    set_fields(spec, &mut draft, fields)?;
    let mut out = Zeroizing::new(Vec::new());
    draft.write(&mut out)?;
    Ok(out)
}

fn set_fields(
    spec: &Spec,
    draft: &mut Draft<'_>,
    fields: &Map<String, Json>,
) -> Result<(), MessageError> {
    let mut seen = super::bitmap::Present::default();
    for (key, value) in fields {
        let number = match key.parse::<u8>() {
            Ok(number) => number,
            Err(_) => {
                let found = spec.named(key).map(|(number, _)| number);
                found.ok_or_else(|| MessageError::new(Reason::UnknownField, 0, 0))?
            }
        };
        let wrong = || MessageError::new(Reason::Json, number, 0);
        // By name and by number: which of the two counts would be a guess.
        if seen.has(number) {
            return Err(wrong());
        }
        seen.set(number, true);
        match value {
            Json::String(text) => draft.set_text(number, text)?,
            Json::Object(form) if form.len() == 1 => {
                let bytes = form.get("hex").and_then(from_hex).ok_or_else(wrong)?;
                draft.set_bytes(number, &bytes)?;
            }
            Json::Array(objects) => {
                let mut out = Zeroizing::new(Vec::new());
                put_objects(objects, &mut out, 0).ok_or_else(wrong)?;
                draft.set_bytes(number, &out)?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(())
}

fn from_hex(json: &Json) -> Option<Zeroizing<Vec<u8>>> {
    let upper = Zeroizing::new(json.as_str()?.to_ascii_uppercase());
    HEXUPPER.decode(upper.as_bytes()).ok().map(Zeroizing::new)
}

fn put_objects(objects: &[Json], out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > TLV_DEPTH_MAX || objects.len() > TLV_OBJECTS_MAX {
        return None;
    }
    for object in objects {
        let tag = object.get("tag").and_then(Json::as_str).and_then(Tag::from_hex)?;
        let mut value = Zeroizing::new(Vec::new());
        match (object.get("value"), object.get("objects").and_then(Json::as_array)) {
            (Some(hex), None) => value = from_hex(hex)?,
            (None, Some(inner)) => put_objects(inner, &mut value, depth + 1)?,
            _ => return None,
        }
        tlv::put(tag, &value, out).ok()?;
    }
    Some(())
}
