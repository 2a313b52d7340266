use std::sync::Arc;

use moat_model::Code;
use moat_model::code::policy as codes;

use crate::{BodyValue, Bundle, BundleFile, Engine, Fact, Permit, Problem, Question, StepUp};

fn files(list: &[(&str, &str)]) -> Vec<BundleFile> {
    list.iter()
        .map(|(path, text)| BundleFile { path: (*path).to_owned(), bytes: text.as_bytes().into() })
        .collect()
}

pub(crate) fn engine(list: &[(&str, &str)]) -> Result<Engine, Problem> {
    Engine::compile(&Arc::new(Bundle::new(files(list))?))
}

/// Nobody looks.
static NO_WIRE: crate::Wire = crate::Wire {
    state: "off",
    ttl: 0,
    window: 0,
    segment_max: 0,
    options: String::new(),
    waited_us: 0,
};

pub(crate) fn question<'a>(body: &'a [(String, BodyValue)], facts: &'a [Fact<'a>]) -> Question<'a> {
    Question {
        now_ms: 1,
        tenant: "default",
        listener: "partners",
        route: "transfer",
        role: "partners",
        spiffe: "spiffe://bank.test/teller",
        subject: "CN=teller,O=Bank",
        issuer: "CN=CA",
        serial: "1",
        expires_ms: 2,
        suite: "TLS13_AES_128_GCM_SHA256",
        national: false,
        group: "X25519",
        ja4: "",
        wire: &NO_WIRE,
        method: "POST",
        path: "/v1/accounts/1/transfer",
        params: &[],
        headers: &[],
        body_digest: "",
        body,
        token: None,
        step_up: StepUp::default(),
        risk: crate::risk::Risk::OFF,
        facts,
    }
}

fn decide(module: &str) -> Result<Permit, &'static Code> {
    let body = [
        ("/amount".to_owned(), BodyValue::Integer(10_000)),
        ("/to/account".to_owned(), BodyValue::Text("42".to_owned())),
    ];
    let facts = [
        ("service_id", "accounts"),
        ("env", "prod"),
        ("tier", "gold"),
        ("caller_cert_subject", "CN=teller,O=Bank"),
    ]
    .map(|(name, value)| Fact { name, value });
    let mut engine = engine(&[("authz.rego", module)]).unwrap();
    engine.decide("authz", &question(&body, &facts)).permit().map_err(|refusal| refusal.code)
}

#[test]
fn the_reference_rule_allows_exactly_its_case() {
    let rule = |tier: &str| {
        format!(
            "package authz\ndefault allow := false\nallow if {{\n input.service_id == \"accounts\"\n \
             input.env == \"prod\"\n input.tier == \"{tier}\"\n \
             input.caller_cert_subject == \"CN=teller,O=Bank\"\n \
             input.peer.role == \"partners\"\n}}\n"
        )
    };
    let permit = decide(&rule("gold")).unwrap();
    assert_eq!(permit.route(), "transfer");
    assert!(permit.bundle().starts_with("sha256:"));
    assert_eq!(decide(&rule("silver")).unwrap_err(), &codes::NOT_ALLOWED);
}

#[test]
fn body_fields_are_in_the_input_with_their_structure() {
    let module = "package authz\nallow contains \"small\" if { input.body.amount <= 10000; \
                  input.body.to.account == \"42\" }\n";
    assert_eq!(decide(module).unwrap().reasons(), ["small"]);
}

#[test]
fn whatever_is_not_a_clear_allow_is_a_refusal_with_its_own_code() {
    for (module, code) in [
        ("package authz\nallow if { input.nothing == 1 }", &codes::UNDEFINED),
        ("package authz\nother := 1", &codes::UNDEFINED),
        ("package elsewhere\nallow := true", &codes::MISSING_PACKAGE),
        ("package authz\nallow := \"yes\"", &codes::BAD_ANSWER),
        ("package authz\nallow := 1", &codes::BAD_ANSWER),
        (
            "package authz\nallow := true\ndeny contains \"over\" if { input.v == 1 }",
            &codes::DENIED,
        ),
        ("package authz\nallow := true\ndeny := {\"a\": 1}", &codes::BAD_ANSWER),
        (
            "package authz\nallow := true\nchallenge contains {\"k\": 1} if { true }",
            &codes::BAD_ANSWER,
        ),
        (
            "package authz\nallow := true\nchallenge contains {\"reason\": \"r\", \"kind\": \"machine\"}",
            &codes::CHALLENGED,
        ),
        ("package authz\nallow := to_number(input.peer.spiffe) > 1", &codes::ERROR),
        ("package authz\nallow := true\nallow := false if { input.v == 1 }", &codes::ERROR),
        (
            "package authz\nn := numbers.range(1, 3000)\nallow if { some a in n; some b in n; a * b == -1 }",
            &codes::TIMEOUT,
        ),
    ] {
        assert_eq!(decide(module).unwrap_err(), code, "{module}");
    }
}

#[test]
fn a_failing_builtin_does_not_open_a_negation() {
    let module = "package authz\nallow if { not to_number(input.peer.spiffe) > 1 }";
    assert_eq!(decide(module).unwrap_err(), &codes::ERROR);
}

#[test]
fn what_a_policy_must_not_do_is_refused_at_load() {
    for (path, text, code) in [
        ("a.rego", "package a\nallow if { http.send({}).x }", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nallow if { time.now_ns() > 1 }", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nallow if { time[\"now_ns\"]() > 1 }", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nx := rand[\"int\\u006e\"] (\"k\", 9)", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nx := strings.count(\"a\", \"\")", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nallow if { [p, v] := walk(input) }", &codes::FORBIDDEN_BUILTIN),
        ("a.rego", "package a\nallow if {", &codes::BAD_MODULE),
        ("d.json", "[1]", &codes::BAD_DATA),
        ("d.json", "{", &codes::BAD_DATA),
    ] {
        let problem = engine(&[(path, text)]).err().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(problem.code, code, "{problem}");
    }
    // In strings and comments the same words are harmless, and `walk` has a good form.
    let fine = "package a\n# http.send(\nallow if { input.x == \"time.now_ns(\"; some p, v; walk(input, [p, v]) }";
    assert_eq!(engine(&[("a.rego", fine)]).err().map(|p| p.to_string()), None);
}

#[test]
fn data_that_would_replace_a_rule_is_refused() {
    let module = ("authz.rego", "package authz\ndefault allow := false\n");
    for data in [r#"{"authz": {"allow": true}}"#, r#"{"authz": 1}"#] {
        let problem = engine(&[module, ("d.json", data)]).err().unwrap();
        assert_eq!(problem.code, &codes::SHADOWED_RULE);
    }
    assert!(engine(&[module, ("d.json", r#"{"limits": {"allow": true}}"#)]).is_ok());
}

#[test]
fn tests_run_and_never_serve() {
    let list = files(&[
        ("authz.rego", "package authz\nallow if { input.x }\ntest_in_module if { true }"),
        (
            "authz_test.rego",
            "package authz\ntest_good if { allow with input as {\"x\": true} }\n\
          test_bad if { allow with input as {\"x\": false} }\nallow := true",
        ),
    ]);
    let bundle = Bundle::new(list).unwrap();
    let results = crate::run_tests(&bundle);
    // The test file's own `allow := true` conflicts with nothing in serving.
    let mut engine = Engine::compile(&Arc::new(bundle)).unwrap();
    let refusal = engine.decide("authz", &question(&[], &[])).permit().unwrap_err();
    assert_eq!(refusal.code, &codes::UNDEFINED);
    let results = results.unwrap();
    assert_eq!(results.len(), 3);
    assert!(results.iter().any(|r| r.name == "data.authz.test_in_module" && r.passed));
}

#[test]
fn why_names_the_condition_that_failed() {
    let module = "package authz\ndefault allow := false\nallow if {\n  input.route == \"x\"\n  input.v == 1\n}\n";
    let bundle = Bundle::new(files(&[("authz.rego", module)])).unwrap();
    let json = question(&[], &[]).to_json().unwrap();
    let told = crate::explain(&bundle, "authz", &json).unwrap();
    assert_eq!(told.answers, [("allow".to_owned(), "false".to_owned())]);
    assert!(told.lines.iter().any(|l| l.line == 4 && l.reached));
    assert!(told.lines.iter().any(|l| l.line == 5 && !l.reached));
    assert_eq!(crate::eval(&bundle, "authz.allow", "{\"route\":\"x\",\"v\":1}").unwrap(), "true");
}

#[test]
fn integers_above_64_bits_stay_apart() {
    let value = |token: &str| vec![("/n".to_owned(), BodyValue::Number(token.to_owned()))];
    let module =
        "package authz\ndefault allow := false\nallow if { input.body.n == 18446744073709551617 }";
    let mut engine = engine(&[("a.rego", module)]).unwrap();
    let mut ask =
        |token: &str| engine.decide("authz", &question(&value(token), &[])).permit().is_ok();
    assert!(ask("18446744073709551617"));
    assert!(!ask("18446744073709551618"));
}

#[test]
fn a_raw_string_hides_no_forbidden_call() {
    for rule in [
        "allow if { x := `\"`; y := time.now_ns(); y > x }",
        "allow if { x := `a\n\"`; y := time.now_ns(); y > x }",
    ] {
        let module = format!("package authz\ndefault allow := false\n{rule}\n");
        let found = engine(&[("authz.rego", &module)]).err().map(|problem| problem.code);
        assert_eq!(found, Some(&codes::FORBIDDEN_BUILTIN), "{rule}");
    }
    let harmless = "package authz\ndefault allow := false\nallow if input.x == `time.now_ns(`\n";
    assert!(engine(&[("authz.rego", harmless)]).is_ok());
}

#[test]
fn an_answer_is_a_boolean_or_a_set_and_never_both() {
    let set = "allow contains \"a\" if input.route == \"transfer\"\n";
    for boolean in ["allow if input.a", "allow := true if input.a", "allow = true if input.a"] {
        let both = format!("package authz\n{set}{boolean}\n");
        let problem = engine(&[("a.rego", &both)]).err().expect(boolean);
        assert_eq!((problem.code, problem.place.as_str()), (&codes::BAD_MODULE, "a.rego:3"));
        // Two files of one package are one package; two packages are not.
        let (one, two) = (format!("package authz\n{set}"), format!("package authz\n{boolean}\n"));
        assert!(engine(&[("a.rego", &one), ("b.rego", &two)]).is_err(), "{boolean}");
        let other = format!("package other\n{boolean}\n");
        assert!(engine(&[("a.rego", &one), ("b.rego", &other)]).is_ok(), "{boolean}");
    }
    let deny = "package authz\nallow if input.a\ndeny contains \"x\" if {\n  input.b\n}\n";
    assert!(engine(&[("a.rego", deny)]).is_ok(), "each answer for itself");
    assert!(engine(&[("a.rego", &format!("{deny}deny if input.c\n"))]).is_err());
    let default = format!("package authz\ndefault allow := false\n{set}");
    assert!(engine(&[("a.rego", &default)]).is_ok(), "a default is no second rule");
    let named = "package authz\nallow if { allow_more }\nallow_more if input.x\n";
    assert!(engine(&[("a.rego", named)]).is_ok());
}
