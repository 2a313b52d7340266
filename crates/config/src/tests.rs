use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use moat_model::code::config as codes;
use moat_tlog::key::{Algorithm, KeyId, KeyName};
use moat_tlog::secret::SecretKey;
use zeroize::Zeroizing;

use crate::{National, Op, Problem, Revocation, load};

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
    rights(&dir, 0o600);
    let log = dir.path().join("log.key");
    fs::write(&log, log_key("bank.test/audit/1")).unwrap();
    fs::set_permissions(log, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(dir.path().join("policy")).unwrap();
    fs::write(dir.path().join("policy/authz.rego"), "package authz").unwrap();
    fs::write(dir.path().join("moat.yaml"), text).unwrap();
    dir
}

/// The text as it must be for production: with a key that signs the log, and a word on revocation.
fn for_prod(text: &str) -> String {
    let text = text.replace("trust: \"file:ca.pem\"", "revocation: none, trust: \"file:ca.pem\"");
    text.replace("kind: Gateway", "kind: Gateway\nprofile: prod").replace(
        "audit: { dir: log }",
        "audit: { dir: log, origin: bank.test/audit/1, keys: [\"file:log.key\"] }",
    )
}

/// A private key in the name of a log. What it signs is not looked at here.
fn log_key(origin: &str) -> String {
    let (name, seed) = (KeyName::new(origin).unwrap(), Zeroizing::new([7; 32]));
    let key = SecretKey::new(name, KeyId([1; 4]), Algorithm::Ed25519, seed);
    format!("{}\n", key.encode().as_str())
}

/// Sets the rights of the key.
fn rights(dir: &tempfile::TempDir, mode: u32) {
    fs::set_permissions(dir.path().join("a.key"), fs::Permissions::from_mode(mode)).unwrap();
}

fn problems(text: &str) -> Vec<Problem> {
    let dir = folder(text);
    load(&dir.path().join("moat.yaml")).err().map_or_else(Vec::new, |problems| problems.list)
}

const ONE: &str = "[{ certificate: \"file:a.pem\", key: \"file:a.key\" }]";
const TWO: &str = "[{ certificate: \"file:a.pem\", key: \"file:a.key\" }, \
                   { certificate: \"file:ca.pem\", key: \"file:a.key\" }]";
const THREE: &str = "[{ certificate: \"file:a.pem\", key: \"file:a.key\" }, \
                     { certificate: \"file:a.pem\", key: \"file:a.key\" }, \
                     { certificate: \"file:a.pem\", key: \"file:a.key\" }]";
const BOTH_KEYS: &str = "tls: { identity: { certificate: \"file:a.pem\", key: \"file:a.key\" }, \
                         identities: [{ certificate: \"file:a.pem\", key: \"file:a.key\" }], trust";

#[test]
fn two_identities_are_taken_and_each_side_has_its_own_preference() {
    let text = GOOD.replacen(ONE, &format!("{TWO}\n      national: only"), 1).replacen(
        "tls: { trust",
        "tls: { national: allow, trust",
        1,
    );
    let dir = folder(&text);
    let loaded = load(&dir.path().join("moat.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let (listener, upstream) = (&loaded.config.hot.listeners[0], &loaded.config.hot.upstreams[0]);
    assert_eq!((listener.national, upstream.tls.national), (National::Only, National::Allow));
    for identities in [&listener.identities, &upstream.tls.identities] {
        let chains: Vec<_> = identities.iter().map(|i| i.chain_pem.as_slice()).collect();
        assert_eq!(chains, [&b"a.pem"[..], b"ca.pem"], "also by default, towards a service");
    }
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
    assert_eq!(
        hot.upstreams[0].tls.identities[0].chain_pem, b"a.pem",
        "the listener's identity by default"
    );
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
        ("a.key\"", "a.key\", password: hunter2", &codes::LITERAL_SECRET, ""),
        (ONE, "[]", &codes::BAD_VALUE, "list one or two under `identities`"),
        (ONE, THREE, &codes::BAD_VALUE, "list one or two under `identities`"),
        ("tls: { trust", BOTH_KEYS, &codes::BAD_VALUE, "keep one of them"),
        ("      clients:", "      national: maybe\n      clients:", &codes::WRONG_TYPE, ""),
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
fn callers_are_grouped_by_the_server_that_they_name() {
    let one = "{ role: all, trust: \"file:ca.pem\" }";
    let groups = |list: &str| GOOD.replace(&format!("[{one}]"), list);
    let good = format!(
        "[{{ role: pos, server_names: [POS.bank.test], trust: \"file:a.pem\", \
         crls: [\"file:b.pem\"] }}, {one}]"
    );
    let dir = folder(&groups(&good));
    fs::write(dir.path().join("b.pem"), "b.pem").unwrap();
    let loaded = load(&dir.path().join("moat.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let [pos, all] = loaded.config.hot.listeners[0].clients.as_slice() else { panic!() };
    assert_eq!(
        (pos.role.as_str(), pos.server_names.as_slice()),
        ("pos", &["pos.bank.test".into()][..])
    );
    assert_eq!(
        (pos.trust.crls.as_slice(), pos.trust.revocation),
        (&[b"b.pem".to_vec()][..], Revocation::All)
    );
    assert_eq!((all.server_names.len(), all.trust.revocation), (0, Revocation::None));
    let watched = loaded.watched.iter().any(|path| path.ends_with("b.pem"));
    assert!(watched, "a list that changes is a change");
    let pos = |more: &str| format!("{{ role: pos, {more}, trust: \"file:ca.pem\" }}");
    let twice = "server_names: [a.test], revocation: none";
    for (list, code) in [
        ("[]".to_owned(), &codes::BAD_VALUE),
        (format!("[{one}, {one}]"), &codes::BAD_VALUE),
        (format!("[{}, {}]", pos(twice), pos(twice)), &codes::DUPLICATE_KEY),
        (format!("[{}]", pos("server_names: [\"*.test\"]")), &codes::BAD_VALUE),
        (format!("[{}]", pos("server_names: [10.0.0.1]")), &codes::BAD_VALUE),
        (format!("[{}]", pos("revocation: all")), &codes::BAD_VALUE),
        (format!("[{}]", pos("revocation: some")), &codes::WRONG_TYPE),
        (format!("[{}]", pos("revocation: none, crls: [\"file:a.pem\"]")), &codes::BAD_VALUE),
    ] {
        let found = problems(&groups(&list));
        assert!(found.iter().any(|problem| problem.code == code), "{list}: {found:?}");
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
    let text = for_prod(GOOD);
    assert!(problems(&text).is_empty());
    let unsigned = text.replace(", keys: [\"file:log.key\"]", "");
    assert_eq!(problems(&unsigned)[0].code, &codes::PROD_ONLY);
    assert!(problems(&unsigned)[0].message.contains("audit.keys"));
    let unsaid = text.replacen("revocation: none, ", "", 1);
    assert_eq!(problems(&unsaid)[0].code, &codes::PROD_ONLY);
    assert!(problems(&unsaid)[0].message.contains("revoked"));
    let text = text.replace("    policy: authz", "    policy: authz\n    deadline_ms: 9000");
    assert_eq!(problems(&text)[0].code, &codes::PROD_ONLY);
}

#[test]
fn a_key_that_others_may_read_or_write_is_refused_in_prod_and_told_elsewhere() {
    let dir = folder(GOOD);
    let path = dir.path().join("moat.yaml");
    let prod = for_prod(GOOD);
    for (mode, is_fine) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o604, false),
        (0o620, false),
        (0o602, false),
    ] {
        rights(&dir, mode);
        fs::write(&path, GOOD).unwrap();
        let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.warnings.is_empty(), is_fine, "{mode:o}");
        fs::write(&path, &prod).unwrap();
        let found = load(&path).err().map_or_else(Vec::new, |problems| problems.list);
        assert_eq!(found.is_empty(), is_fine, "{mode:o}");
        for problem in loaded.warnings.iter().chain(&found) {
            assert_eq!((problem.code, problem.line > 0), (&codes::KEY_EXPOSED, true));
            assert!(problem.fix.starts_with("chmod 600 "), "{}", problem.fix);
        }
    }
}

#[test]
fn a_key_of_the_log_must_be_one_of_this_log_and_its_owners_alone() {
    let dir = folder(&for_prod(GOOD));
    let (path, key) = (dir.path().join("moat.yaml"), dir.path().join("log.key"));
    let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
    let audit = loaded.config.restart.audit;
    assert_eq!((audit.keys, audit.checkpoint_every_ms), (vec![key.clone()], 1_000));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(load(&path).err().unwrap().list[0].code, &codes::KEY_EXPOSED);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for (text, code) in
        [(log_key("bank.test/audit/2"), &codes::CONFLICT), ("no key".to_owned(), &codes::BAD_VALUE)]
    {
        fs::write(&key, text).unwrap();
        let problem = &load(&path).err().unwrap().list[0];
        assert_eq!(problem.code, code, "{problem:?}");
        assert!(problem.fix.contains("moat audit keygen --origin bank.test/audit/1"));
    }
    fs::remove_file(&key).unwrap();
    assert_eq!(load(&path).err().unwrap().list[0].code, &codes::UNREADABLE);
    let inside = problems(&GOOD.replace("dir: log", "dir: log, second_dir: log/second"));
    assert!(inside.len() == 1 && inside[0].code == &codes::CONFLICT, "{inside:?}");
    assert!(problems(&GOOD.replace("dir: log", "dir: log, second_dir: second")).is_empty());
    let many = GOOD.replace("dir: log", "dir: log, keys: [a, b, c, d, e], checkpoint_every_ms: 1");
    let found = problems(&many);
    assert!(found.iter().all(|problem| problem.code == &codes::BAD_VALUE), "{found:?}");
    assert_eq!(found.len(), 6, "too many, four that are no files, and a number: {found:?}");
}

#[test]
fn records_are_kept_for_ever_or_for_days_that_make_sense() {
    let with = |retention: &str| {
        problems(&GOOD.replace("dir: log", &format!("dir: log, retention: {retention}")))
    };
    assert!(with("{ days: 400, c2_days: 1830 }").is_empty());
    for bad in ["{ days: 0 }", "{ c2_days: 400 }", "{ days: 400, pan_days: 99999 }"] {
        assert!(!with(bad).is_empty(), "{bad}");
    }
}

#[test]
fn a_key_in_a_token_needs_the_token() {
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let keys = "dir: log, origin: PeterNeumann, keys: [\"file:log.hsm\"]";
    let hsm = "hsm: { module: /bin/sh, token: moat, pin: \"file:pin\" }";
    let dir = folder(&GOOD.replace("dir: log", &format!("{keys}, {hsm}")));
    let path = dir.path().join("moat.yaml");
    fs::write(dir.path().join("pin"), "1234").unwrap();
    fs::write(dir.path().join("log.hsm"), format!("pkcs11 moat-log {vkey}\n")).unwrap();
    let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
    let hsm = loaded.config.restart.audit.hsm.unwrap();
    assert_eq!((hsm.token.as_str(), hsm.program), ("moat", None));
    let codes = |audit: &str| {
        fs::write(&path, GOOD.replace("dir: log", audit)).unwrap();
        load(&path).err().unwrap().list.iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(keys), [&codes::CONFLICT]);
    let with = |module: &str, pin: &str| {
        format!("{keys}, hsm: {{ module: {module}, token: moat, pin: \"{pin}\" }}")
    };
    assert_eq!(codes(&with("bin/sh", "file:pin")), [&codes::BAD_VALUE]);
    assert_eq!(codes(&with("/bin/sh", "file:nothing")), [&codes::UNREADABLE]);
    assert_eq!(codes(&with("/bin/sh", "1234")), [&codes::BAD_VALUE]);
    fs::write(dir.path().join("log.hsm"), "pkcs11 moat-log nothing").unwrap();
    assert_eq!(codes(&with("/bin/sh", "file:pin")), [&codes::BAD_VALUE]);
}

#[test]
fn a_policy_of_witnesses_is_read_and_what_it_lacks_is_said() {
    let key = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    let good = format!("witness a {key} http://10.1.0.9:8480/moat\nquorum a\n");
    let text = GOOD.replace("dir: log", "dir: log, policy: \"file:w.policy\"");
    let dir = folder(&text);
    let (path, file) = (dir.path().join("moat.yaml"), dir.path().join("w.policy"));
    fs::write(&file, &good).unwrap();
    let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
    let witnesses = loaded.config.restart.audit.witnesses.unwrap();
    assert_eq!(witnesses.unwitnessed_ms_max, 60_000);
    let address = witnesses.addresses[0].as_ref().unwrap();
    assert_eq!(
        (address.address.to_string().as_str(), address.prefix.as_str()),
        ("10.1.0.9:8480", "/moat")
    );
    let quorum = |text: &str| good.replace("quorum a", text);
    for bad in [
        quorum("quorum none"),
        quorum("quorum b"),
        String::new(),
        quorum(""),
        good.replace("http://", "https://"),
        good.replace(":8480", ""),
    ] {
        fs::write(&file, bad).unwrap();
        let problems = load(&path).err().unwrap().list;
        assert!(problems.iter().all(|problem| problem.code == &codes::BAD_VALUE), "{problems:?}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(load(&path).err().unwrap().list[0].code, &codes::UNREADABLE);
    let alone = GOOD.replace("dir: log", "dir: log, unwitnessed_ms_max: 1000");
    assert_eq!(problems(&alone)[0].code, &codes::CONFLICT);
}

#[test]
fn a_byte_that_moves_from_one_part_to_the_next_changes_the_digest() {
    let text = format!("{GOOD}#");
    let dir = folder(&text);
    let write = |files: &[(&str, &str)]| {
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
    };
    let digest =
        || load(&dir.path().join("moat.yaml")).unwrap_or_else(|e| panic!("{e}")).config.digest;
    let mut before = digest();
    // Each moves a byte over one boundary; all bytes together stay as they were.
    let steps: [&[(&str, &str)]; 2] =
        [&[("moat.yaml", GOOD), ("a.pem", "#a.pem")], &[("a.pem", "#a.pe"), ("a.key", "ma.key")]];
    for step in steps {
        write(step);
        let after = digest();
        assert_ne!(after, before, "{step:?}");
        before = after;
    }
    write(&[("policy/authz.rego", "package authz\n#b.regopackage b")]);
    let one = digest();
    write(&[("policy/authz.rego", "package authz\n#"), ("policy/b.rego", "package b")]);
    assert_ne!(digest(), one, "a file and its name are not the end of the one before");
}

/// The good file, cut into fragments.
fn fragments(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let conf = dir.path().join("conf");
    fs::create_dir(&conf).unwrap();
    let text = GOOD.replace("file:", "file:../");
    let (head, rest) = text.split_once("listeners:").unwrap();
    let (listeners, rest) = rest.split_once("upstreams:").unwrap();
    let (upstreams, rest) = rest.split_once("routes:").unwrap();
    let (routes, rest) = rest.split_once("policy: {").unwrap();
    fs::write(conf.join("00-base.yaml"), format!("{head}policy: {{{rest}")).unwrap();
    fs::write(conf.join("10-in.yaml"), format!("# Callers.\n\nlisteners:{listeners}")).unwrap();
    fs::write(conf.join("20-out.yaml"), format!("upstreams:{upstreams}")).unwrap();
    fs::write(conf.join("30-read.yaml"), format!("routes:{routes}")).unwrap();
    let second = routes.replace("name: read", "name: second").replace("/v1/", "/v2/");
    fs::write(conf.join("31-second.yaml"), format!("---\nroutes:{second}")).unwrap();
    fs::write(conf.join("32-nothing.yaml"), "# To come.\n").unwrap();
    fs::write(conf.join("notes.txt"), "no configuration").unwrap();
    fs::write(conf.join(".30-read.yaml"), "routes: []").unwrap();
    conf
}

#[test]
fn a_folder_is_one_document_in_the_order_of_its_files() {
    let dir = folder(GOOD);
    let conf = fragments(&dir);
    let loaded = load(&conf).unwrap_or_else(|e| panic!("{e}"));
    let hot = &loaded.config.hot;
    let names: Vec<&str> = hot.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["read", "second"]);
    assert_eq!(loaded.config.restart.audit.dir, conf.join("log"));
    for name in ["", "00-base.yaml", "31-second.yaml", "32-nothing.yaml"] {
        assert!(loaded.watched.iter().any(|path| *path == conf.join(name)), "{name}");
    }
    let digest = loaded.config.digest;
    fs::rename(conf.join("31-second.yaml"), conf.join("29-second.yaml")).unwrap();
    let again = load(&conf).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.config.hot.routes[0].name, "second", "the order of names counts");
    assert_ne!(again.config.digest, digest);
}

#[test]
fn a_mistake_in_a_folder_has_the_place_in_its_own_file() {
    let dir = folder(GOOD);
    let conf = fragments(&dir);
    let edit = |name: &str, from: &str, to: &str| {
        let path = conf.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let problems = load(&conf).err().unwrap();
        fs::write(&path, &text).unwrap();
        problems
    };
    for (name, from, to, code, line, column) in [
        ("31-second.yaml", "upstream: accounts", "upstream: no", &codes::DANGLING, 5, 15),
        ("31-second.yaml", "upstream: accounts", "upstrem: no", &codes::UNKNOWN_KEY, 5, 5),
        ("10-in.yaml", "bind: 127.0.0.1:8443", "bind: x", &codes::BAD_VALUE, 5, 11),
        ("30-read.yaml", "/card: PAN", "/card: X", &codes::BAD_VALUE, 6, 55),
        ("31-second.yaml", "name: second", "name: read", &codes::DUPLICATE_KEY, 3, 11),
        ("20-out.yaml", "upstreams:", "upstreams: [", &codes::SYNTAX, 0, 0),
    ] {
        let problems = edit(name, from, to);
        let problem = &problems.list[0];
        let file = conf.join(name).display().to_string();
        assert_eq!((&problem.file, problem.code), (&file, code), "{to}: {problems}");
        let place = (problem.line, problem.column);
        assert!(line == 0 || place == (line, column), "{to}: {place:?}\n{problems}");
        let shown = problems.to_string();
        let marked = fs::read_to_string(conf.join(name)).unwrap().replacen(from, to, 1);
        let wrong = marked.lines().nth(problem.line - 1).unwrap_or_default();
        assert!(shown.contains(&format!("{file}:{}:", problem.line)), "{shown}");
        assert!(shown.contains(&format!("{:>5} | {wrong}", problem.line)), "{shown}");
    }
}

#[test]
fn what_is_no_list_is_given_once_in_a_folder() {
    let dir = folder(GOOD);
    let conf = fragments(&dir);
    let more = "# More.\naudit:\n  dir: elsewhere\nworkers: 2\nprofile: prod\n";
    fs::write(conf.join("40-more.yaml"), more).unwrap();
    let problems = load(&conf).err().unwrap();
    let [problem] = problems.list.as_slice() else { panic!("{problems}") };
    assert_eq!((problem.code, problem.line, problem.column), (&codes::GIVEN_TWICE, 2, 1));
    assert!(problem.file.ends_with("40-more.yaml"), "{problems}");
    assert!(problem.message.contains("00-base.yaml:5:1"), "{problems}");
    fs::remove_file(conf.join("40-more.yaml")).unwrap();
    fs::remove_file(conf.join("00-base.yaml")).unwrap();
    let problems = load(&conf).err().unwrap();
    assert_eq!(problems.list.len(), 5, "{problems}");
    assert!(problems.list.iter().all(|p| p.code == &codes::MISSING_KEY && p.line == 0));
    for name in ["10-in", "20-out", "30-read", "31-second", "32-nothing"] {
        fs::remove_file(conf.join(format!("{name}.yaml"))).unwrap();
    }
    assert_eq!(load(&conf).err().unwrap().list[0].code, &codes::UNREADABLE, "an empty folder");
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

/// A second listener, for decisions that others enforce.
fn with_enforcers(bind: &str, more: &str) -> String {
    let listener = format!("  - name: envoy\n    bind: {bind}\n{more}\nupstreams:");
    GOOD.replace("upstreams:", &listener)
}

const SOCKET: &str = "    protocol: ext_authz\n    enforcers: { uids: [101], bodies: whole, \
                      callers: { role: all, trust: \"file:ca.pem\" } }";

#[test]
fn a_listener_for_decisions_says_who_may_ask_and_about_whom() {
    let dir = folder(&with_enforcers("unix:envoy.sock", SOCKET));
    let config = load(&dir.path().join("moat.yaml")).unwrap().config;
    let bind = crate::Bind::Unix(dir.path().join("envoy.sock"));
    assert_eq!(config.restart.binds[1], ("envoy".to_owned(), bind));
    let enforcers = config.hot.listeners[1].enforcers.clone().unwrap();
    assert_eq!(enforcers.asking, crate::Asking::ExtAuthz);
    assert!(enforcers.is_local && enforcers.has_bodies && !enforcers.is_name_enough);
    assert_eq!((enforcers.uids, enforcers.role.as_str()), (vec![101], "all"));
    assert_eq!(enforcers.trust.pem, b"ca.pem");
    // What upstreams without an identity show is that of the first listener that has one.
    assert_eq!(config.hot.upstreams[0].tls.identities.len(), 1);
}

#[test]
fn what_a_listener_for_decisions_cannot_be_is_told() {
    let tls = format!(
        "    tls: {{ identities: {ONE}, clients: [{{ role: all, trust: \"file:ca.pem\" }}] }}\n"
    );
    let (tcp, local) = ("127.0.0.1:8445", "unix:envoy.sock");
    let over_tls = tls.clone() + &SOCKET.replace("uids: [101]", "spiffe: [spiffe://bank.test/e]");
    assert!(problems(&with_enforcers(tcp, &over_tls)).is_empty());
    let long = format!("unix:{}", "x".repeat(200));
    for (bind, more, code) in [
        (local, "    protocol: ext_authz".to_owned(), &codes::MISSING_KEY),
        (local, tls.clone() + SOCKET, &codes::CONFLICT),
        (local, SOCKET.replace("ext_authz", "authzen"), &codes::BAD_VALUE),
        (local, SOCKET.replace("ext_authz", "http"), &codes::CONFLICT),
        (local, SOCKET.replace("ext_authz", "smtp"), &codes::BAD_VALUE),
        (local, SOCKET.replace("uids: [101]", "uids: []"), &codes::BAD_VALUE),
        (local, SOCKET.replace("bodies: whole", "certificates: optional"), &codes::BAD_VALUE),
        (local, SOCKET.replace("role: all", "role: all, server_names: [a.b]"), &codes::BAD_VALUE),
        (&long, SOCKET.to_owned(), &codes::BAD_VALUE),
        (tcp, SOCKET.to_owned(), &codes::MISSING_KEY),
        (tcp, tls + SOCKET, &codes::BAD_VALUE),
        (tcp, over_tls.replace("bank.test/e", "other.test/e"), &codes::BAD_VALUE),
    ] {
        let found = problems(&with_enforcers(bind, &more));
        assert!(found.iter().any(|problem| problem.code == code), "{more}: {found:?}");
    }
}
