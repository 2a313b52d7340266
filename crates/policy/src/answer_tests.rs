use super::*;
use crate::tests::{engine, question};
use crate::{Decision, Permit};

fn decide(module: &str) -> Decision {
    let text = format!("package authz\n{module}\n");
    engine(&[("authz.rego", &text)]).unwrap().decide("authz", &question(&[], &[]))
}

fn permit(module: &str) -> Permit {
    decide(module).permit().unwrap()
}

fn demands(module: &str) -> Vec<Demand> {
    match decide(module) {
        Decision::Challenge(challenge) => challenge.demands,
        other => panic!("{module}: {other:?}"),
    }
}

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

const PERSON: &str =
    r#"{"reason": "large", "kind": "person", "acr": ["urn:bank:mfa"], "max_age_s": 300}"#;
const MACHINE: &str = r#"{"reason": "odd", "kind": "machine", "key": ["hsm", "tpm"]}"#;

#[test]
fn deny_goes_before_challenge_and_challenge_before_allow() {
    let asks = format!("challenge contains {MACHINE}");
    let refused = decide(&format!("allow := true\n{asks}\ndeny contains \"no\""));
    assert!(matches!(refused, Decision::Deny(refusal) if refusal.reasons == ["no"]));
    assert_eq!(demands(&format!("allow := true\n{asks}")).len(), 1);
    // What is never allowed is challenged all the same: the caller learns nothing from that.
    assert_eq!(demands(&format!("default allow := false\n{asks}")).len(), 1);
    assert_eq!(permit("allow contains \"a\"\nchallenge := set()\ndeny := []").reasons(), ["a"]);
}

#[test]
fn a_challenge_says_what_would_meet_it() {
    let asked = demands(&format!(
        "allow := true\nchallenge contains {PERSON}\nchallenge contains {MACHINE}"
    ));
    let person = Proof::Person { acr: vec!["urn:bank:mfa".to_owned()], max_age_s: 300 };
    let machine = Proof::Machine { held_in: vec![Held::Hsm, Held::Tpm] };
    let proof = |reason: &str| asked.iter().find(|d| d.reason == reason).map(|d| d.proof.clone());
    assert_eq!((proof("large"), proof("odd")), (Some(person), Some(machine)));
    let any = demands(r#"challenge contains {"reason": "x", "kind": "machine"}"#);
    let any_second = Proof::Machine { held_in: vec![Held::Hsm, Held::Tpm, Held::File] };
    assert_eq!(
        any.first().map(|demand| &demand.proof),
        Some(&any_second),
        "never the TLS key alone"
    );
}

#[test]
fn obligations_are_a_closed_set() {
    let limit = r#"{"name": "out", "cost": 5, "most": 9, "per_ms": 1000}"#;
    let one = permit(&format!(
        "allow := true\nobligations := {{\"mask\": \"strict\", \"limit\": {limit}}}"
    ));
    let expected = Obligations {
        mask: Some("strict".to_owned()),
        limits: vec![Limit { name: "out".to_owned(), cost: 5, most: 9, per_ms: 1000 }],
    };
    assert_eq!(one.obligations(), &expected);
    let parts = permit(&format!(
        "allow := true\nobligations contains {{\"mask\": \"strict\"}}\n\
         obligations contains {{\"limit\": [{limit}]}}"
    ));
    assert_eq!(parts.obligations(), &expected);
    assert_eq!(
        permit("allow := true\nobligations := {\"mask\": \"x\"} if input.route == \"no\"")
            .obligations(),
        &Obligations::default()
    );
    assert_eq!(permit("allow := true").obligations(), &Obligations::default());
}

#[test]
fn whatever_is_not_understood_is_a_refusal() {
    let allow = "allow := true\n";
    for module in [
        r#"challenge contains {"reason": "r", "kind": "robot"}"#,
        r#"challenge contains {"kind": "machine"}"#,
        r#"challenge contains {"reason": "r"}"#,
        r#"challenge contains {"reason": "r", "kind": "machine", "extra": 1}"#,
        r#"challenge contains {"reason": "r", "kind": "machine", "key": []}"#,
        r#"challenge contains {"reason": "r", "kind": "machine", "key": ["pocket"]}"#,
        r#"challenge contains {"reason": "r", "kind": "machine", "acr": ["x"]}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "max_age_s": 1}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": [], "max_age_s": 1}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a b"], "max_age_s": 1}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a\""], "max_age_s": 1}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a"], "max_age_s": -1}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a"], "max_age_s": 1.5}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a"], "max_age_s": "1"}"#,
        r#"challenge contains {"reason": "r", "kind": "person", "acr": ["a"], "max_age_s": 90000}"#,
        r#"challenge contains {"reason": "two words", "kind": "machine"}"#,
        "challenge := true",
        "challenge := 1",
        "challenge contains \"machine\"",
        "challenge := {\"a\": 1}",
        r#"obligations := {"maks": "strict"}"#,
        r#"obligations := {"mask": ["strict"]}"#,
        r#"obligations := {"mask": "a b"}"#,
        r#"obligations := {"limit": {"name": "n", "most": 1}}"#,
        r#"obligations := {"limit": {"name": "n", "most": 1, "per_ms": 0}}"#,
        r#"obligations := {"limit": {"name": "n", "most": -1, "per_ms": 1}}"#,
        r#"obligations := {"limit": {"name": "n", "most": 1, "per_ms": 1, "cost": 0.5}}"#,
        r#"obligations := {"limit": [{"name": "n", "most": 1, "per_ms": 1}, {"name": "n", "most": 2, "per_ms": 1}]}"#,
        "obligations contains {\"mask\": \"a\"}\nobligations contains {\"mask\": \"b\"}",
        "obligations := \"mask\"",
        "obligations := {1: 2}",
        "deny contains 1",
        "deny contains \"two words\"",
    ] {
        let code = decide(&format!("{allow}{module}")).permit().map_err(|refusal| refusal.code);
        assert_eq!(code.err(), Some(&codes::BAD_ANSWER), "{module}");
    }
}

#[test]
fn one_object_may_say_it_all() {
    let allowed = permit(
        r#"decision := {"effect": "allow", "reasons": ["a"], "obligations": {"mask": "m"}}"#,
    );
    assert_eq!(
        (allowed.reasons(), allowed.obligations().mask.as_deref()),
        (&["a".to_owned()][..], Some("m"))
    );
    let denied =
        decide(r#"decision := {"effect": "deny", "reasons": ["over"]}"#).permit().unwrap_err();
    assert_eq!((denied.code, denied.reasons), (&codes::DENIED, vec!["over".to_owned()]));
    assert_eq!(
        demands(&format!(r#"decision := {{"effect": "challenge", "challenge": [{PERSON}]}}"#))
            .len(),
        1
    );
    for (object, code) in [
        (r#"{"effect": "permit"}"#, &codes::BAD_ANSWER),
        (r#"{"effect": "allow", "challenge": []}"#, &codes::BAD_ANSWER),
        (r#"{"effect": "deny", "obligations": {}}"#, &codes::BAD_ANSWER),
        (r#"{"effect": "challenge"}"#, &codes::BAD_ANSWER),
        (r#"{"effect": "challenge", "challenge": []}"#, &codes::BAD_ANSWER),
        (r#"{"reasons": []}"#, &codes::BAD_ANSWER),
        (r#""allow""#, &codes::BAD_ANSWER),
        ("true", &codes::BAD_ANSWER),
        (r#"{"effect": "allow"} if input.route == "no""#, &codes::UNDEFINED),
    ] {
        let refusal = decide(&format!("decision := {object}")).permit().unwrap_err();
        assert_eq!(refusal.code, code, "{object}");
    }
    let both = "package authz\nallow := true\ndecision := {\"effect\": \"deny\"}";
    assert_eq!(engine(&[("a.rego", both)]).err().map(|p| p.code), Some(&codes::BAD_MODULE));
    let apart = [
        ("a.rego", "package authz\nallow := true"),
        ("b.rego", "package authz\ndecision := {\"effect\": \"deny\"}"),
    ];
    assert_eq!(engine(&apart).err().map(|p| p.code), Some(&codes::BAD_MODULE), "in two files");
}

#[test]
fn too_much_is_asked_for() {
    let many: Vec<String> =
        (0..5).map(|n| format!(r#"{{"reason": "r{n}", "kind": "machine"}}"#)).collect();
    let value = json(&format!("[{}]", many.join(",")));
    assert_eq!(challenge(&value).map_err(|r| r.code).err(), Some(&codes::BAD_ANSWER));
    let limits: Vec<String> =
        (0..5).map(|n| format!(r#"{{"name": "n{n}", "most": 1, "per_ms": 1}}"#)).collect();
    let value = json(&format!(r#"{{"limit": [{}]}}"#, limits.join(",")));
    assert_eq!(obligations(&value).map_err(|r| r.code).err(), Some(&codes::BAD_ANSWER));
}

#[test]
fn what_is_proved_is_in_the_input_and_what_is_not_is_there_too() {
    use crate::{StepUp, StepUpState, Token};
    let module = r#"
default allow := false
allow contains "fresh" if { input.step_up.state == "satisfied"; input.step_up.age_s < 60; input.step_up.key == "hsm" }
allow contains "token" if { input.token.state == "valid"; "otp" in input.token.amr; input.token.claims.branch == "12" }
deny contains "stale" if { input.token.state == "none"; input.token.auth_ms > 0 }
deny contains "unproved" if { input.step_up.state == "none"; input.step_up.age_s < 4294967295 }
"#;
    let mut engine = engine(&[("authz.rego", &format!("package authz\n{module}"))]).unwrap();
    let bare = question(&[], &[]);
    assert_eq!(engine.decide("authz", &bare).permit().unwrap_err().code, &codes::NOT_ALLOWED);
    let step_up =
        StepUp { state: StepUpState::Satisfied, kind: "machine", age_s: 3, key: "hsm", acr: "" };
    let proved = crate::Question { step_up, ..bare.clone() };
    assert_eq!(engine.decide("authz", &proved).permit().unwrap().reasons(), ["fresh"]);
    // A decision that was remembered is not one for another proof.
    let older = crate::Question { step_up: StepUp { age_s: 61, ..step_up }, ..bare.clone() };
    assert!(engine.decide("authz", &older).permit().is_err());
    let (amr, claims) = (["otp".to_owned()], [("branch".to_owned(), "12".to_owned())]);
    let token = Token {
        issuer: "i",
        subject: "s",
        acr: "a",
        amr: &amr,
        auth_ms: 5,
        issued_ms: 6,
        claims: &claims,
    };
    let told = crate::Question { token: Some(token), ..bare.clone() };
    assert_eq!(engine.decide("authz", &told).permit().unwrap().reasons(), ["token"]);
    let other = Token { claims: &[], ..token };
    let told = crate::Question { token: Some(other), ..bare };
    assert!(engine.decide("authz", &told).permit().is_err());
}
