use std::fs;
use std::path::Path;

use moat_model::code::config as codes;

use crate::{Op, Problem, load};

const GOOD: &str = "\
apiVersion: moat/v1
kind: Gateway
trust_domain: bank.test
listeners:
  - name: partners
    bind: 127.0.0.1:8443
    tls:
      identities: [{ certificate: \"file:a.pem\", key: \"file:a.key\" }]
      clients: [{ role: all, trust: \"file:ca.pem\" }]
upstreams:
  - name: accounts
    endpoints: [\"https://127.0.0.1:9443\"]
    tls: { trust: \"file:ca.pem\", spiffe: \"spiffe://bank.test/accounts\" }
routes:
  - name: read
    match: { path: \"/v1/accounts/{id}\" }
    upstream: accounts
    policy: authz
    audit: { object: \"account/{id}\", fields: { /card: PAN } }
    mask: { /card: bank_card }
policy: { bundle: \"file:policy/\" }
audit: { dir: log }
";

fn folder(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.pem", "a.key", "ca.pem"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("policy")).unwrap();
    fs::write(dir.path().join("policy/authz.rego"), "package authz").unwrap();
    fs::write(dir.path().join("moat.yaml"), text).unwrap();
    dir
}

fn problems(text: &str) -> Vec<Problem> {
    let dir = folder(text);
    load(&dir.path().join("moat.yaml")).err().map_or_else(Vec::new, |problems| problems.list)
}

#[test]
fn a_good_file_is_resolved_with_every_default() {
    let dir = folder(GOOD);
    let loaded = load(&dir.path().join("moat.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let hot = &loaded.config.hot;
    let route = &hot.routes[0];
    assert_eq!(route.matches.methods, ["GET"]);
    assert_eq!(route.audit.op, Op::Sel);
    assert_eq!((route.deadline_ms, route.body_bytes_max), (5_000, 1024 * 1024));
    assert_eq!(hot.upstreams[0].tls.chain_pem, b"a.pem", "the listener's identity by default");
    assert_eq!(hot.policy, [("authz.rego".to_owned(), b"package authz".to_vec())]);
    assert_eq!(loaded.config.restart.audit.dir, dir.path().join("log"));
    assert!(loaded.watched.contains(&dir.path().join("policy")));
    let digest = loaded.config.digest;
    fs::write(dir.path().join("a.key"), "renewed").unwrap();
    let again = load(&dir.path().join("moat.yaml")).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(again.config.digest, digest, "the digest covers what is referred to");
}

#[test]
fn every_mistake_has_its_code_place_and_fix() {
    let cases = [
        (
            "    upstream: accounts",
            "    upstrem: accounts",
            &codes::UNKNOWN_KEY,
            "write `upstream`",
        ),
        ("    upstream: accounts", "    upstream: acounts", &codes::DANGLING, "write `accounts`"),
        ("    policy: authz\n", "", &codes::MISSING_KEY, "add `policy:`"),
        ("kind: Gateway", "kind: Gateway\nkind: Gateway", &codes::DUPLICATE_KEY, ""),
        ("key: \"file:a.key\"", "key: hunter2", &codes::LITERAL_SECRET, ""),
        ("\"file:a.pem\"", "\"file:b.pem\"", &codes::UNREADABLE, ""),
        ("\"file:a.pem\"", "a.pem", &codes::BAD_VALUE, "write `file:a.pem`"),
        ("/card: PAN", "/card: C9", &codes::BAD_VALUE, "write C1, C2, C3, PAN or SAD"),
        ("/card: PAN", "card: PAN", &codes::BAD_VALUE, "write a JSON pointer such as /to/account"),
        ("/card: bank_card", "/card: mobile", &codes::CONFLICT, "use `fixed` or `drop`"),
        ("/card: bank_card", "/card: blur", &codes::BAD_VALUE, "name a strategy"),
        ("account/{id}", "account/{no}", &codes::DANGLING, ""),
        ("https://", "http://", &codes::BAD_VALUE, ""),
        ("bind: 127.0.0.1:8443", "bind: here", &codes::BAD_VALUE, ""),
        ("audit: { dir: log }", "audit: { dir: log, deadline_ms: 1 }", &codes::BAD_VALUE, ""),
        ("moat/v1", "moat/v2", &codes::BAD_VALUE, "write `moat/v1`"),
        ("listeners:", "listeners: [", &codes::SYNTAX, ""),
    ];
    for (from, to, code, fix) in cases {
        let text = GOOD.replacen(from, to, 1);
        let found = problems(&text);
        let problem = found.iter().find(|p| p.code == code);
        let problem = problem.unwrap_or_else(|| panic!("{to}: {found:?}"));
        assert!(problem.line > 0, "{to}: no place");
        assert!(fix.is_empty() || problem.fix == fix, "{to}: {}", problem.fix);
        assert!(problem.render(&text).contains('^'), "{to}: no snippet");
        assert!(!problem.render("").contains("hunter2"), "a secret is never repeated");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = GOOD.replace("upstream: accounts", "upstream: no").replace("C1", "C9");
    let text = text.replace("bind: 127.0.0.1:8443", "bind: x").replace("/card: PAN", "/card: X");
    assert_eq!(problems(&text).len(), 3);
}

#[test]
fn prod_refuses_what_is_only_for_trying_out() {
    let text = GOOD.replace("kind: Gateway", "kind: Gateway\nprofile: prod");
    assert!(problems(&text).is_empty());
    let text = text.replace("    policy: authz", "    policy: authz\n    deadline_ms: 9000");
    assert_eq!(problems(&text)[0].code, &codes::PROD_ONLY);
}

#[test]
fn the_shipped_example_has_no_problem_but_its_missing_certificates() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo/moat.yaml");
    let found = load(&example).err().map_or_else(Vec::new, |problems| problems.list);
    assert!(found.iter().all(|p| p.code == &codes::UNREADABLE), "{found:?}");
}

#[test]
fn the_schema_knows_every_key_of_the_example() {
    let schema = crate::schema_json().unwrap();
    for key in ["trust_domain", "decide_on", "mask_request", "segment_mib", "stream_idle_ms"] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}
