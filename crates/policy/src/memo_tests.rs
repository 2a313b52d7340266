use super::*;
use crate::tests::{engine, question};
use crate::{BundleFile, StepUpState};

fn bundle(module: &str) -> Bundle {
    let file = BundleFile { path: "a.rego".to_owned(), bytes: module.as_bytes().into() };
    Bundle::new(vec![file]).unwrap()
}

const HEAD: &str = "package authz\ndefault allow := false\n";

#[test]
fn nothing_is_remembered_where_a_call_may_differ_in_something_unseen() {
    for rule in [
        "allow if { x := input; x.route == \"a\" }",
        "allow if input[\"route\"] == \"a\"",
        "allow if { some key; input[key] == 1 }",
        "allow if input.now_ms > 1",
        "allow if input.request.anything != \"\"",
        "# as time.now_ns was\nallow if input.route",
        "allow if input.request.body_digest != \"\"",
        "allow if { r := input.request; r.body_digest != \"\" }",
        "allow if { walk(input, [p, v]) }",
    ] {
        let bundle = bundle(&format!("{HEAD}{rule}"));
        assert!(!Memo::new(&bundle, Reads::of(&bundle).as_ref()).is_on, "{rule}");
    }
}

/// Each part of the question, changed alone, is another question.
#[test]
fn a_question_that_differs_in_anything_the_rules_read_is_asked_again() {
    let rule = "allow if { input.tenant; input.listener; input.route; input.peer; input.body; \
                input.request.method; input.request.path; input.request.params; \
                input.request.headers; input.env; input.token; input.step_up; \
                input.kernel }";
    let reads = Reads::of(&bundle(&format!("{HEAD}{rule}"))).unwrap();
    let key = |question: &Question<'_>| {
        let mut key = Vec::new();
        write(&mut key, &reads, question);
        key
    };
    let body = [("/a".to_owned(), BodyValue::Integer(1))];
    let facts = [crate::Fact { name: "env", value: "prod" }];
    let base = question(&body, &facts);
    let other_body = [("/a".to_owned(), BodyValue::Text("1".to_owned()))];
    let other_facts = [crate::Fact { name: "env", value: "test" }];
    let pairs = [("x".into(), "1".to_owned())];
    let (amr, claims) = (["x".to_owned()], [("x".to_owned(), "y".to_owned())]);
    let token =
        Token { issuer: "", subject: "", acr: "", amr: &[], auth_ms: 0, issued_ms: 0, claims: &[] };
    let step_up = StepUp::default();
    let wires = [
        Wire { state: "seen", ..Wire::default() },
        Wire { ttl: 1, ..Wire::default() },
        Wire { options: "2".to_owned(), ..Wire::default() },
    ];
    let others = [
        Question { tenant: "x", ..base.clone() },
        Question { listener: "x", ..base.clone() },
        Question { route: "x", ..base.clone() },
        Question { role: "x", ..base.clone() },
        Question { spiffe: "x", ..base.clone() },
        Question { subject: "x", ..base.clone() },
        Question { issuer: "x", ..base.clone() },
        Question { serial: "x", ..base.clone() },
        Question { expires_ms: 7, ..base.clone() },
        Question { suite: "x", ..base.clone() },
        Question { group: "x", ..base.clone() },
        Question { national: true, ..base.clone() },
        Question { ja4: "x", ..base.clone() },
        Question { wire: &wires[0], ..base.clone() },
        Question { wire: &wires[1], ..base.clone() },
        Question { wire: &wires[2], ..base.clone() },
        Question { method: "x", ..base.clone() },
        Question { path: "x", ..base.clone() },
        Question { params: &pairs, ..base.clone() },
        Question { headers: &pairs, ..base.clone() },
        Question { body: &other_body, ..base.clone() },
        Question { facts: &other_facts, ..base.clone() },
        Question { token: Some(token), ..base.clone() },
        Question { token: Some(Token { issuer: "x", ..token }), ..base.clone() },
        Question { token: Some(Token { subject: "x", ..token }), ..base.clone() },
        Question { token: Some(Token { acr: "x", ..token }), ..base.clone() },
        Question { token: Some(Token { amr: &amr, ..token }), ..base.clone() },
        Question { token: Some(Token { auth_ms: 9, ..token }), ..base.clone() },
        Question { token: Some(Token { issued_ms: 9, ..token }), ..base.clone() },
        Question { token: Some(Token { claims: &claims, ..token }), ..base.clone() },
        Question { step_up: StepUp { state: StepUpState::Failed, ..step_up }, ..base.clone() },
        Question { step_up: StepUp { kind: "x", ..step_up }, ..base.clone() },
        Question { step_up: StepUp { acr: "x", ..step_up }, ..base.clone() },
        Question { step_up: StepUp { age_s: 9, ..step_up }, ..base.clone() },
        Question { step_up: StepUp { key: "x", ..step_up }, ..base.clone() },
    ];
    let mut keys = std::collections::BTreeSet::from([key(&base)]);
    for other in &others {
        assert!(keys.insert(key(other)), "{other:?}");
    }
    assert_eq!(key(&Question { now_ms: 99, body_digest: "x", ..base.clone() }), key(&base));
}

#[test]
fn only_allows_are_remembered_and_within_the_bound() {
    let rule = "allow if input.body.amount < 10";
    let mut engine = engine(&[("authz.rego", &format!("{HEAD}{rule}"))]).unwrap();
    for round in 0..3 {
        for amount in [5, 50] {
            let body = [("/amount".to_owned(), BodyValue::Integer(amount))];
            let allowed = engine.decide("authz", &question(&body, &[])).permit().is_ok();
            assert_eq!(allowed, amount == 5, "{round}");
        }
        assert_eq!(engine.memo.allowed.len(), 1);
    }
    let mut most = 0;
    for amount in 0..40_000 {
        let body = [("/amount".to_owned(), BodyValue::Integer(-amount))];
        engine.decide("authz", &question(&body, &[])).permit().unwrap();
        assert!(engine.memo.bytes <= REMEMBERED_BYTES_MAX);
        most = most.max(engine.memo.allowed.len());
    }
    assert!(most > 10_000 && engine.memo.allowed.len() < most, "{most}");
    let long = [("/amount".to_owned(), BodyValue::Text("9".repeat(KEY_BYTES_MAX)))];
    let known = engine.memo.allowed.len();
    assert!(engine.decide("authz", &question(&long, &[])).permit().is_err());
    assert_eq!((engine.memo.allowed.len(), engine.memo.key.capacity()), (known, 0));
}

/// What is left out of the input cannot be read: every answer is the same as with all of it.
#[test]
fn a_policy_sees_the_same_of_a_pruned_input_as_of_a_whole_one() {
    let body = [("/amount".to_owned(), BodyValue::Integer(5))];
    let facts = [crate::Fact { name: "env", value: "prod" }];
    for rule in [
        "allow if { input.env == \"prod\"; not input.peer.nothing; input.body.amount < 10 }",
        "allow if { p := input.peer; p.spiffe == \"spiffe://bank.test/teller\"; p.group }",
        "allow if { input.request.path == \"/v1/accounts/1/transfer\"; input.now_ms == 1 }",
        "allow if { input.v == 1; input.token.state == \"none\"; input[\"route\"] }",
        "allow if { every k, _ in input { k != \"x\" }; count(input) == 14 }",
    ] {
        let mut engine = engine(&[("authz.rego", &format!("{HEAD}{rule}"))]).unwrap();
        assert!(engine.decide("authz", &question(&body, &facts)).permit().is_ok(), "{rule}");
    }
}
