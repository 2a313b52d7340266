use super::*;
use proptest::prelude::*;

fn code(op: Op, before: Option<CodeValue>, after: CodeValue) -> Code {
    Code {
        op,
        subject: "spiffe://bank/teller".into(),
        object: vec!["account".into(), "12/34".into()],
        field: vec!["amount".into()],
        before,
        after,
    }
}

fn plain(text: &str) -> CodeValue {
    CodeValue::Plain(text.into())
}

#[test]
fn known_codes_have_their_known_texts() {
    let cases = [
        (code(Op::Upd, Some(plain("10.5")), plain("20 ¥")), "10.5→20%20%C2%A5"),
        (code(Op::Ins, Some(CodeValue::Absent), plain("")), "-→"),
        (code(Op::Del, Some(CodeValue::Null), CodeValue::Absent), "~→-"),
        (code(Op::Upd, Some(plain("~")), plain("-")), "%7E→%2D"),
        (code(Op::Upd, Some(plain("~~")), plain("--")), "~~→--"),
    ];
    for (code, values) in cases {
        let text = format!(
            "{}@spiffe%3A%2F%2Fbank%2Fteller:account/12%2F34#amount${values}",
            code.op.name()
        );
        assert_eq!(encode(&code).as_deref(), Ok(text.as_str()));
        assert_eq!(decode(&text), Ok(code));
    }
    let anchor = CodeValue::Anchor { alg: "hs256".into(), key_id: "k-1".into(), mac: vec![0xff] };
    let text = encode(&code(Op::Sel, None, anchor.clone())).unwrap();
    assert!(text.ends_with("#amount$H:hs256:k-1:_w"), "{text}");
    assert_eq!(decode(&text).unwrap().after, anchor);
}

#[test]
fn every_other_form_is_refused() {
    for text in [
        "",
        "SEL@a:b#c",
        "sel@a:b#c$d",
        "SEL@:b#c$d",
        "SEL@a:#c$d",
        "SEL@a:b/#c$d",
        "SEL@a:b#$d",
        "SEL@a:b#c$d→e",
        "UPD@a:b#c$d",
        "UPD@a:b#c$d→e→f",
        "UPD@a:b#c$d->e",
        "INS@a:b#c$d→e",
        "DEL@a:b#c$d→e",
        "SEL@a:b#c$%41",
        "SEL@a:b#c$%c2%a5",
        "SEL@a:b#c$%C2",
        "SEL@a:b#c$%",
        "SEL@a:b#c$%4",
        "SEL@a:b#c$%7Ea",
        "SEL@a:b#c$a b",
        "SEL@a:b#c$¥",
        "SEL@a:b#c$H:hs256:k:",
        "SEL@a:b#c$H:hs256:k:_w==",
        "SEL@a:b#c$H:hs256:k:_x",
        "SEL@a:b#c$H:hs_256:k:_w",
        "SEL@a:b#c$H::k:_w",
        "SEL@a:b#c$H:hs256:_w",
        "SEL@a:b#c$d\n",
        "SEL@a@b:c#d$e",
    ] {
        assert!(decode(text).is_err(), "{text}");
    }
}

#[test]
fn a_record_is_shown_field_by_field() {
    let body = crate::record::tests::full();
    let lines = lines(&body);
    assert_eq!(
        lines[0],
        "UPD@spiffe%3A%2F%2Fbank.test%2Fteller:account/123456#note$~→rent%20%E2%86%92%20May"
    );
    assert!(lines[1].ends_with("#amount$-→1%2A.%2A%2A"), "{}", lines[1]);
    assert!(lines[2].contains("#to/account$-→H:hs256:2026-1:BwcH"), "{}", lines[2]);
    assert!(lines[3].ends_with("#cvv$-→-"), "{}", lines[3]);
    for line in lines {
        assert!(decode(&line).is_ok(), "{line}");
    }
}

fn values() -> impl Strategy<Value = CodeValue> {
    let name = "[A-Za-z0-9-]{1,32}";
    prop_oneof![
        Just(CodeValue::Null),
        Just(CodeValue::Absent),
        "[~-]{1,2}|.{0,12}|H:[a-z]:.{1,3}".prop_map(CodeValue::Plain),
        (name, name, prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(alg, key_id, mac)| CodeValue::Anchor { alg, key_id, mac }),
    ]
}

fn codes() -> impl Strategy<Value = Code> {
    let parts = || prop::collection::vec("[/@:#$%→~a-]{1,5}|.{1,8}", 1..4);
    let op = prop::sample::select(Op::ALL.to_vec());
    (op, "[/@:#$%→~a-]{1,5}|.{1,8}", parts(), parts(), values(), values()).prop_map(
        |(op, subject, object, field, before, after)| Code {
            op,
            subject,
            object,
            field,
            before: match op {
                Op::Sel => None,
                Op::Ins => Some(CodeValue::Absent),
                Op::Upd | Op::Del => Some(before),
            },
            after: if op == Op::Del { CodeValue::Absent } else { after },
        },
    )
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(code in codes()) {
        let text = encode(&code).unwrap();
        prop_assert_eq!(decode(&text), Ok(code));
    }

    #[test]
    fn two_codes_never_share_a_text(one in codes(), two in codes()) {
        prop_assert_eq!(encode(&one) == encode(&two), one == two);
    }

    #[test]
    fn any_text_is_refused_or_canonical(text in "(SEL|UPD)@[a%4-]{0,3}:[a/%2F]{0,4}#[ab/]{0,3}\\$[~a%2D7EH:→-]{0,9}|.*") {
        if let Ok(code) = decode(&text) {
            prop_assert_eq!(encode(&code).unwrap(), text);
        }
    }
}
