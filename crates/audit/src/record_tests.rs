use super::*;
use moat_model::{Class, Stage};
use proptest::prelude::*;

pub(crate) fn head(seq: u64) -> Head {
    Head {
        log_id: "pay.bank.test/audit/edge-042/2026q4".into(),
        seq,
        prev_hash: [0xab; 32],
        t_wall_ns: 1_795_392_000_000_000_000,
        t_mono_ns: 42,
        boot_id: [0xbb; 16],
        clock_err_us: 250,
    }
}

pub(crate) fn full() -> Body {
    let anchor = || Anchor::new(AnchorAlg::HmacSha256, "2026-1", [7; 32]).unwrap();
    let masked = |shown: &str| Value::Masked { shown: shown.into(), anchor: anchor() };
    let field =
        |name: &str, class, before, after| Field::new([3; 32], name, class, before, after).unwrap();
    Body {
        tx_id: Some([2; 16]),
        intent_seq: Some(7),
        parent_seq: Some(6),
        tenant: "bank".into(),
        listener: "partners".into(),
        route: "transfer".into(),
        actor: "spiffe://bank.test/teller".into(),
        actor_subject: "CN=teller,O=Bank".into(),
        peer_cert_hash: Some([4; 32]),
        device_hash: Some([5; 32]),
        user_agent: "curl/8".into(),
        method: "POST".into(),
        op: Some(Op::Upd),
        object: "account/123456".into(),
        fields: vec![
            field("note", Class::C1, Value::Null, Value::Clear("rent → May".into())),
            field("amount", Class::C2, Value::Absent, masked("1*.**")),
            field("to/account", Class::Pan, Value::Absent, Value::Anchor(anchor())),
            field("cvv", Class::Sad, Value::Absent, Value::Dropped),
        ],
        outcome: Some(Outcome::Committed),
        answered: Some(true),
        stage: Some(Stage::Reply),
        code: "MOAT-P001".into(),
        reasons: vec!["over_limit".into(), "night".into()],
        policy_ver: "sha256:00ff".into(),
        generation: 3,
        decision_id: "d-1".into(),
        http_status: Some(200),
        upstream: "accounts".into(),
        bytes_in: 10,
        bytes_out: 20,
        body_digest_in: Some([8; 32]),
        body_digest_out: Some([9; 32]),
        duration_us: 1500,
        upstream_us: 900,
        sql_fingerprint: "f".into(),
        lsn: Some(99),
        ticket: "T-1".into(),
        note: "n".into(),
        suite: "TLS_SM4_GCM_SM3".into(),
        group: "curveSM2".into(),
        upstream_suite: "TLS_SM4_CCM_SM3".into(),
        upstream_group: "curveSM2".into(),
        step_up: "satisfied machine key=hsm".into(),
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
        wire: "seen ttl=64".into(),
        unguarded: "egress".into(),
        risk: "known 200 new_device=200".into(),
        ..Body::new(Kind::Outcome, [1; 16])
    }
}

#[test]
fn a_leaf_with_everything_and_one_with_nothing_survive() {
    for body in [full(), Body::new(Kind::Intent, [1; 16]), Body::admin("start")] {
        let bytes = encode_leaf(&head(8), &body.encode().unwrap()).unwrap();
        assert_eq!(decode_leaf(&bytes), Ok(Leaf { head: head(8), body: body.clone() }));
        let peeked = Pairing::peek(&body.encode().unwrap()).unwrap();
        assert_eq!(peeked, Pairing::from(&body));
    }
}

#[test]
fn a_renewed_body_is_a_new_one() {
    let mut body = full();
    body.renew(Kind::Read, [9; 16]);
    assert_eq!(body, Body::new(Kind::Read, [9; 16]));
    assert!(body.tenant.capacity() > 0, "its memory is kept");
    let stale = vec![7; 100];
    assert_eq!(full().encode_within(stale).unwrap(), full().encode().unwrap());
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = encode_leaf(&head(8), &full().encode().unwrap()).unwrap();
    for len in 0..bytes.len() {
        // A cut between two optional tags leaves a shorter canonical body: another record, which
        // the length prefix of the leaf and the hash tell apart.
        if let Ok(leaf) = decode_leaf(&bytes[..len]) {
            assert_ne!(leaf.body, full());
            let again = encode_leaf(&leaf.head, &leaf.body.encode().unwrap()).unwrap();
            assert_eq!(again, &bytes[..len]);
        }
    }
    for extra in 0..=255 {
        let mut longer = bytes.clone();
        longer.push(extra);
        assert!(decode_leaf(&longer).is_err());
    }
}

#[test]
fn tags_repeated_unknown_or_out_of_order_are_refused() {
    let body = Body::admin("x").encode().unwrap();
    let twice = [body.clone(), vec![tag::NOTE, 0, 1, b'y']].concat();
    assert_eq!(Body::decode(&twice), Err(RecordError::Tlv(TlvError::Tag(tag::NOTE))));
    let unknown = [body.clone(), vec![0x7f, 0, 0]].concat();
    assert_eq!(Body::decode(&unknown), Err(RecordError::Tlv(TlvError::Tag(0x7f))));
    let early = [vec![tag::NOTE, 0, 1, b'y'], body].concat();
    assert!(Body::decode(&early).is_err());
    assert_eq!(Body::decode(&[]), Err(RecordError::Tlv(TlvError::Missing(tag::KIND))));
}

#[test]
fn tags_ascend_and_are_distinct() {
    assert!(tag::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn kind_and_outcome_must_go_together() {
    let wrong = Body { outcome: Some(Outcome::Failed), ..Body::new(Kind::Intent, [1; 16]) };
    assert_eq!(wrong.encode(), Err(RecordError::Kind(Kind::Intent)));
    let alone = Body { outcome: Some(Outcome::Failed), ..Body::new(Kind::Outcome, [1; 16]) };
    assert_eq!(alone.encode(), Err(RecordError::Kind(Kind::Outcome)));
}

#[test]
fn a_body_too_long_is_refused_at_the_exact_bound() {
    let fixed = Body::admin("x").encode().unwrap().len() - 1;
    let body = |len: usize| Body::admin("n".repeat(len));
    assert!(body(BODY_BYTES_MAX - fixed).encode().is_ok());
    assert_eq!(body(BODY_BYTES_MAX - fixed + 1).encode(), Err(RecordError::TooLong));
    assert!(body(70_000).encode().is_err());
    let longest = Head { log_id: "l".repeat(LOG_ID_BYTES_MAX), ..head(0) };
    assert!(encode_leaf(&longest, &body(BODY_BYTES_MAX - fixed).encode().unwrap()).is_ok());
}

fn arbitrary_value() -> impl Strategy<Value = Value> {
    let anchor = ("[A-Za-z0-9-]{1,32}", any::<[u8; 32]>())
        .prop_map(|(id, mac)| Anchor::new(AnchorAlg::HmacSha256, &id, mac).unwrap());
    prop_oneof![
        Just(Value::Absent),
        Just(Value::Null),
        Just(Value::Dropped),
        ".{0,40}".prop_map(Value::Clear),
        (".{0,20}", anchor.clone()).prop_map(|(shown, anchor)| Value::Masked { shown, anchor }),
        anchor.prop_map(Value::Anchor),
    ]
}

fn arbitrary_fields() -> impl Strategy<Value = Vec<Field>> {
    let class = prop::sample::select(Class::ALL.to_vec());
    let one = (any::<[u8; 32]>(), ".{0,20}", class, arbitrary_value(), arbitrary_value());
    prop::collection::vec(one, 0..8).prop_map(|list| {
        list.into_iter()
            .filter_map(|(id, name, class, before, after)| {
                Field::new(id, name, class, before, after).ok()
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn any_body_survives(
        fields in arbitrary_fields(),
        reasons in prop::collection::vec(".{0,10}", 0..4),
        texts in prop::array::uniform8(".{0,20}"),
        numbers in any::<[u64; 5]>(),
        options in any::<(Option<[u8; 16]>, Option<[u8; 32]>, Option<bool>, Option<u16>)>(),
    ) {
        let [tenant, route, actor, object, code, ticket, note, upstream] = texts;
        let [generation, bytes_in, bytes_out, duration_us, upstream_us] = numbers;
        let body = Body {
            fields, reasons, tenant, route, actor, object, code, ticket, note, upstream,
            generation, bytes_in, bytes_out, duration_us, upstream_us,
            tx_id: options.0, peer_cert_hash: options.1, answered: options.2,
            http_status: options.3,
            ..Body::new(Kind::Check, [1; 16])
        };
        let bytes = body.encode().unwrap();
        prop_assert_eq!(Body::decode(&bytes), Ok(body));
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(body) = Body::decode(&bytes) {
            prop_assert_eq!(body.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_canonical_leaf(at in 0usize..2000, xor in 1u8..) {
        let mut bytes = encode_leaf(&head(8), &full().encode().unwrap()).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        if let Ok(leaf) = decode_leaf(&bytes) {
            prop_assert_eq!(encode_leaf(&leaf.head, &leaf.body.encode().unwrap()).unwrap(), bytes);
        }
    }
}
