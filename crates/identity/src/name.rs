//! Distinguished names as RFC 4514 text.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The short names that RFC 4514 §3 lists; every other attribute is written as its OID.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The name as RFC 4514 §2 text: most specific relative name first, special characters escaped.
#[must_use]
pub fn rfc4514(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let relative: Vec<_> = name.iter_rdn().collect();
    for (at, rdn) in relative.iter().rev().enumerate() {
        if at > 0 {
            text.push(',');
        }
        for (part, attribute) in rdn.iter().enumerate() {
            if part > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    text.push_str(short.unwrap_or(&oid));
    text.push('=');
    match (short, string_value(attribute)) {
        (Some(_), Some(value)) => push_escaped(text, &value),
        // RFC 4514 §2.4: `#` and the hexadecimal BER encoding of the value.
        _ => push_hex(text, attribute),
    }
}

fn string_value(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = attribute.attr_value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            core::str::from_utf8(value.data).ok().map(str::to_owned)
        }
        _ => None,
    }
}

fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            '#' if at == 0 => text.push_str("\\#"),
            // NUL must be escaped; the other controls are, so that a log line stays one line.
            c if c.is_control() => {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            c => text.push(c),
        }
    }
}

fn push_hex(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    text.push('#');
    let value = attribute.attr_value();
    let mut der = vec![u8::try_from(value.tag().0).unwrap_or(0)];
    match u8::try_from(value.data.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let length = value.data.len().to_be_bytes();
            let skip = length.iter().take_while(|b| **b == 0).count();
            der.push(0x80 | u8::try_from(length.len() - skip).unwrap_or(0));
            der.extend(length.iter().skip(skip));
        }
    }
    der.extend_from_slice(value.data);
    for byte in der {
        let _ = write!(text, "{byte:02x}");
    }
}
