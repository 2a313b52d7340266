//! The text code of one field, for people and SIEM: `UPD@teller:account/1#amount$10→20`.
//!
//! The grammar is in `docs/record.md`. One code has one text and one text has one code: encoding
//! is injective, and [`decode`] refuses every text that [`encode`] would not write. The text is
//! never hashed; the evidence is the leaf.

use crate::record::{Body, Field, Op, Value};
use crate::value::is_key_id;

/// Between the value before and the value after.
const ARROW: char = '\u{2192}';

/// The text is no canonical code, or the code has no text; says which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no canonical audit code: {0}")]
pub struct BadCode(pub &'static str);

/// One value of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeValue {
    /// `~`, SQL or JSON null.
    Null,
    /// `-`, absent.
    Absent,
    /// A text, maybe empty.
    Plain(String),
    /// `H:alg:keyid:b64url`.
    Anchor {
        /// Name of the algorithm.
        alg: String,
        /// Id of the key.
        key_id: String,
        /// The keyed hash.
        mac: Vec<u8>,
    },
}

/// One code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// What was done.
    pub op: Op,
    /// Who did it.
    pub subject: String,
    /// To what, part by part.
    pub object: Vec<String>,
    /// To which field, part by part.
    pub field: Vec<String>,
    /// The value before; none for [`Op::Sel`], and only for it.
    pub before: Option<CodeValue>,
    /// The value after, or the value read.
    pub after: CodeValue,
}

/// The text of a code.
///
/// # Errors
/// When a part is empty, an anchor's names are none, or the values do not fit the operation.
pub fn encode(code: &Code) -> Result<String, BadCode> {
    check_values(code)?;
    let mut out = String::with_capacity(96);
    out.push_str(code.op.name());
    out.push('@');
    push_parts(&mut out, std::slice::from_ref(&code.subject), "subject")?;
    out.push(':');
    push_parts(&mut out, &code.object, "object")?;
    out.push('#');
    push_parts(&mut out, &code.field, "field")?;
    out.push('$');
    if let Some(before) = &code.before {
        push_value(&mut out, before)?;
        out.push(ARROW);
    }
    push_value(&mut out, &code.after)?;
    Ok(out)
}

/// The code of a text.
///
/// # Errors
/// When [`encode`] would not have written the text.
pub fn decode(text: &str) -> Result<Code, BadCode> {
    let (op, rest) = text.split_once('@').ok_or(BadCode("no @"))?;
    let (subject, rest) = rest.split_once(':').ok_or(BadCode("no :"))?;
    let (object, rest) = rest.split_once('#').ok_or(BadCode("no #"))?;
    let (field, values) = rest.split_once('$').ok_or(BadCode("no $"))?;
    let op = Op::ALL.iter().copied().find(|known| known.name() == op);
    let (before, after) = match values.split_once(ARROW) {
        Some((before, after)) => (Some(value(before)?), after),
        None => (None, values),
    };
    let code = Code {
        op: op.ok_or(BadCode("operation"))?,
        subject: unescape(subject)?,
        object: object.split('/').map(unescape).collect::<Result<_, _>>()?,
        field: field.split('/').map(unescape).collect::<Result<_, _>>()?,
        before,
        after: value(after)?,
    };
    // Strictness in one place: whatever was read too kindly is not written back the same.
    if encode(&code)? == text { Ok(code) } else { Err(BadCode("not the canonical form")) }
}

fn check_values(code: &Code) -> Result<(), BadCode> {
    let fits = match code.op {
        Op::Sel => code.before.is_none(),
        Op::Ins => code.before == Some(CodeValue::Absent),
        Op::Del => code.before.is_some() && code.after == CodeValue::Absent,
        Op::Upd => code.before.is_some(),
    };
    if fits { Ok(()) } else { Err(BadCode("the values do not fit the operation")) }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            push_pct(out, byte);
        }
    }
}

fn push_pct(out: &mut String, byte: u8) {
    out.push('%');
    out.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
}

fn unescape(text: &str) -> Result<String, BadCode> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next(), bytes.next()].map(|digit| digit.unwrap_or(b'!'));
        let decoded = data_encoding::HEXUPPER.decode(&digits);
        out.extend(decoded.map_err(|_| BadCode("percent-encoding"))?);
    }
    String::from_utf8(out).map_err(|_| BadCode("not UTF-8"))
}

fn push_parts(out: &mut String, parts: &[String], what: &'static str) -> Result<(), BadCode> {
    if parts.is_empty() || parts.iter().any(String::is_empty) {
        return Err(BadCode(what));
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        escape(out, part);
    }
    Ok(())
}

fn push_value(out: &mut String, value: &CodeValue) -> Result<(), BadCode> {
    match value {
        CodeValue::Null => out.push('~'),
        CodeValue::Absent => out.push('-'),
        // A text that looks like one of the two marks is escaped although its byte need not be.
        CodeValue::Plain(text) if text == "~" => push_pct(out, b'~'),
        CodeValue::Plain(text) if text == "-" => push_pct(out, b'-'),
        CodeValue::Plain(text) => escape(out, text),
        CodeValue::Anchor { alg, key_id, mac } => {
            if !is_key_id(alg) || !is_key_id(key_id) || mac.is_empty() {
                return Err(BadCode("anchor"));
            }
            let mac = data_encoding::BASE64URL_NOPAD.encode(mac);
            for text in ["H:", alg, ":", key_id, ":", &mac] {
                out.push_str(text);
            }
        }
    }
    Ok(())
}

fn value(text: &str) -> Result<CodeValue, BadCode> {
    match text {
        "~" => return Ok(CodeValue::Null),
        "-" => return Ok(CodeValue::Absent),
        _ => {}
    }
    let Some(anchor) = text.strip_prefix("H:") else { return unescape(text).map(CodeValue::Plain) };
    let (alg, rest) = anchor.split_once(':').ok_or(BadCode("anchor"))?;
    let (key_id, mac) = rest.split_once(':').ok_or(BadCode("anchor"))?;
    let mac = data_encoding::BASE64URL_NOPAD.decode(mac.as_bytes());
    Ok(CodeValue::Anchor {
        alg: alg.to_owned(),
        key_id: key_id.to_owned(),
        mac: mac.map_err(|_| BadCode("anchor"))?,
    })
}

/// The text codes of a record, one for each field; none when nothing was read or changed.
///
/// Meant for reading, so it always gives a text: a caller or object without a name is `-`, an
/// empty part is `%00`, of a masked value the shown text is given, and of a dropped one `-`.
#[must_use]
pub fn lines(body: &Body) -> Vec<String> {
    let Some(op) = body.op else { return Vec::new() };
    body.fields.iter().filter_map(|field| encode(&of_field(body, op, field)).ok()).collect()
}

fn of_field(body: &Body, op: Op, field: &Field) -> Code {
    let before = match op {
        Op::Sel => None,
        Op::Ins => Some(CodeValue::Absent),
        Op::Upd | Op::Del => Some(shown(field.before())),
    };
    let after = if op == Op::Del { CodeValue::Absent } else { shown(field.after()) };
    let named = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let part = |text: &str| if text.is_empty() { "\0".to_owned() } else { text.to_owned() };
    Code {
        op,
        subject: named(&body.actor),
        object: named(&body.object).split('/').map(part).collect(),
        // RFC 6901 §4: ~1 before ~0, so that ~01 becomes ~1.
        field: field
            .name()
            .split('/')
            .map(|token| part(&token.replace("~1", "/").replace("~0", "~")))
            .collect(),
        before,
        after,
    }
}

fn shown(value: &Value) -> CodeValue {
    match value {
        Value::Null => CodeValue::Null,
        Value::Absent | Value::Dropped => CodeValue::Absent,
        Value::Clear(text) | Value::Masked { shown: text, .. } => CodeValue::Plain(text.clone()),
        Value::Anchor(anchor) => CodeValue::Anchor {
            alg: anchor.alg().name().to_owned(),
            key_id: anchor.key_id().to_owned(),
            mac: anchor.mac().to_vec(),
        },
    }
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
