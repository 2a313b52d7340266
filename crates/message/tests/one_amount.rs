//! One amount has one canonical value and one anchor: in JSON, ISO 8583 in every encoding, ISO 20022,
//! ASN.1 and as a numeric of SQL.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]

use moat_audit::anchor::{AnchorKey, Canonical, field_id};
use moat_message::asn1::Layout;
use moat_message::iso8583::{Check, decode};
use moat_message::{Draft, Index, Read, Spec, iso20022};
use proptest::prelude::*;
use zeroize::Zeroizing;

const CURRENCIES: [(&str, u8); 3] = [("JPY", 0), ("CNY", 2), ("BHD", 3)];

/// `1250` with two decimals is `12.50`.
fn point(minor: u64, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let digits = format!("{minor:0>width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    if decimals == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

fn in_iso8583(layout: &str, minor: u64, decimals: u8) -> Canonical {
    let yaml = format!(
        "spec: s\n{layout}\nfields:\n  4: {{ name: amount, kind: n, class: C2, len: 12 }}\n"
    );
    let spec = Spec::parse(&yaml).unwrap();
    let mut draft = Draft::new(&spec, "0200".parse().unwrap());
    draft.set_text(4, &format!("{minor:012}")).unwrap();
    let mut message = Vec::new();
    draft.write(&mut message).unwrap();
    let mut index = Index::new();
    let mut view = decode(&spec, Check::Strict, &message, &mut index).unwrap();
    let Some(Read::Clear(value)) = view.read(4) else { panic!("an amount is C2") };
    value.amount(decimals).unwrap().canonical().unwrap()
}

fn in_iso20022(text: &str, currency: &str) -> Canonical {
    let document = format!(
        "<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08\"><FIToFICstmrCdtTrf><CdtTrfTxInf><IntrBkSttlmAmt Ccy=\"{currency}\">{text}</IntrBkSttlmAmt></CdtTrfTxInf></FIToFICstmrCdtTrf></Document>"
    );
    let mut found = None;
    iso20022::walk(document.as_bytes(), |leaf| {
        assert_eq!(leaf.entry().map(|entry| entry.name.as_str()), Some("amount"));
        found = leaf.canonical();
        Ok(())
    })
    .unwrap();
    found.unwrap()
}

fn in_asn1(minor: u64, decimals: u8) -> Canonical {
    let layout = format!(
        "asn1: a\nrules: der\nfields:\n  - {{ name: amount, class: C2, type: integer, decimals: {decimals}, path: 30/02 }}\n"
    );
    let layout = Layout::parse(&layout).unwrap();
    let bytes = [&[0][..], &minor.to_be_bytes()].concat();
    // The shortest form that keeps the sign.
    let skip = bytes.windows(2).take_while(|two| two[0] == 0 && two[1] < 0x80).count();
    let integer = &bytes[skip..];
    let length = u8::try_from(integer.len()).unwrap();
    let data = [&[0x30, length + 2, 0x02, length], integer].concat();
    let found = layout.read(&data).unwrap();
    found[0].0.canonical(&found[0].1).unwrap()
}

proptest! {
    #[test]
    fn one_amount_is_one_value_and_one_anchor_everywhere(
        minor in prop_oneof![0_u64..10_000, 0_u64..1_000_000_000_000],
        currency in 0_usize..3,
        zeros in 0_usize..6,
    ) {
        let (currency, decimals) = CURRENCIES[currency];
        let text = point(minor, decimals);
        let json = Canonical::from_json(&text).unwrap();
        // A numeric of SQL keeps the scale of its column.
        let scaled = if text.contains('.') { text.clone() } else { format!("{text}.0") } + &"0".repeat(zeros);
        let all = [
            ("SQL", Canonical::number(&scaled).unwrap()),
            ("ISO 8583 in ASCII", in_iso8583("bitmap: hex", minor, decimals)),
            ("ISO 8583 in BCD", in_iso8583("digits: bcd", minor, decimals)),
            ("ISO 8583 in EBCDIC", in_iso8583("text: cp037", minor, decimals)),
            ("ISO 20022", in_iso20022(&text, currency)),
            ("ASN.1", in_asn1(minor, decimals)),
        ];
        let key = AnchorKey::new("k1", Zeroizing::new([7; 32])).unwrap();
        let id = field_id("payments", "amount", 1);
        let anchor = |value: &Canonical| *key.anchor("bank", "account/1", &id, value).mac();
        for (format, value) in all {
            prop_assert!(value == json, "{} {}", format, text);
            prop_assert_eq!(anchor(&value), anchor(&json));
        }
        let other = Canonical::from_json(&point(minor + 1, decimals)).unwrap();
        prop_assert_ne!(anchor(&other), anchor(&json));
    }
}
