use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use moat_sm::sm2;
use proptest::prelude::*;

const NOW_S: u64 = 1_000;

struct Keys {
    ed25519: Ed25519KeyPair,
    sm2: sm2::SecretKey,
}

impl Keys {
    fn new(seed: u8) -> Keys {
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Keys { ed25519, sm2: sm2::SecretKey::generate(&[seed; 32]).unwrap() }
    }

    fn set(&self) -> Vec<NamedKey> {
        let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let point = self.sm2.public();
        let (x, y) = (b64(&point.as_bytes()[1..33]), b64(&point.as_bytes()[33..]));
        let set = format!(
            r#"{{"keys":[{{"kid":"e","kty":"OKP","crv":"Ed25519","x":"{}"}},
                {{"kid":"s","kty":"EC","crv":"SM2","x":"{x}","y":"{y}"}}]}}"#,
            b64(self.ed25519.public_key().as_ref())
        );
        moat_identity::read_keys(set.as_bytes()).unwrap()
    }

    fn sign(&self, mut files: Vec<BundleFile>, algorithms: &[Algorithm]) -> Vec<BundleFile> {
        for algorithm in algorithms {
            let payload = statement(&files).unwrap();
            let id = if *algorithm == Algorithm::Ed25519 { "e" } else { "s" };
            let signed = jws::to_sign(*algorithm, id, &payload);
            let signature = match algorithm {
                Algorithm::Ed25519 => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
                _ => self
                    .sm2
                    .sign(sm2::DEFAULT_ID, signed.as_bytes(), &[1; 32])
                    .unwrap()
                    .to_bytes()
                    .to_vec(),
            };
            let compact = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
            let bytes = with_signature(&files, compact).unwrap();
            files.retain(|file| file.path != SIGNATURES);
            files.push(BundleFile { path: SIGNATURES.to_owned(), bytes });
        }
        files
    }
}

fn files(manifest: &str) -> Vec<BundleFile> {
    let golden = r#"[{"name":"a read","package":"authz","input":{"route":"read"},"expect":"allow"},
        {"name":"else","package":"authz","input":{"route":"x"},"expect":"deny"}]"#;
    [
        (MANIFEST, manifest),
        (GOLDEN, golden),
        ("authz.rego", "package authz\ndefault allow := false\nallow if input.route == \"read\"\n"),
        (
            "authz_test.rego",
            "package authz\ntest_it if allow with input as {\"route\": \"read\"}\n",
        ),
        ("data.json", "{\"limits\":{}}"),
    ]
    .map(|(path, text)| BundleFile { path: path.to_owned(), bytes: text.into() })
    .into()
}

const GOOD: &str = r#"{"tenant":"default","name":"pay","version":"1.2.0"}"#;
const BOTH: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::Sm2Sm3];

fn demands(keys: &Keys) -> Demands {
    Demands {
        tenant: "default".to_owned(),
        name: "pay".to_owned(),
        keys: keys.set(),
        algorithms: BOTH.to_vec(),
        floor: None,
    }
}

fn judge(files: &[BundleFile], demands: &Demands) -> Result<Manifest, &'static Code> {
    verify(files, demands, NOW_S, "0.1.0").map_err(|problem| problem.code)
}

#[test]
fn a_signed_bundle_is_taken_with_all_signatures_that_are_asked_for() {
    let keys = Keys::new(1);
    let signed = keys.sign(files(GOOD), &BOTH);
    assert_eq!(judge(&signed, &demands(&keys)).unwrap().version, Version::new(1, 2, 0));
    for one in BOTH {
        let only = keys.sign(files(GOOD), &[one]);
        assert_eq!(judge(&only, &demands(&keys)).err(), Some(&codes::BUNDLE_UNSIGNED), "{one:?}");
        assert!(judge(&only, &Demands { algorithms: vec![one], ..demands(&keys) }).is_ok());
    }
    // One more signature, by somebody else, changes nothing.
    assert_eq!(digest_of(&signed), digest_of(&files(GOOD)));
}

#[test]
fn what_was_done_to_a_bundle_has_its_code() {
    let keys = Keys::new(1);
    let good = || keys.sign(files(GOOD), &BOTH);
    let without = |path: &str| {
        let mut files = good();
        files.retain(|file| file.path != path);
        files
    };
    let with = |path: &str, text: &str| {
        let mut files = without(path);
        files.push(BundleFile { path: path.to_owned(), bytes: text.into() });
        files
    };
    let demands = demands(&keys);
    for (files, code, what) in [
        (without(SIGNATURES), &codes::BUNDLE_UNSIGNED, "stripped"),
        (with(SIGNATURES, "{\"signatures\":[]}"), &codes::BUNDLE_UNSIGNED, "emptied"),
        (with(SIGNATURES, "{\"signatures\":["), &codes::BAD_SIGNATURE, "truncated signatures"),
        (with(SIGNATURES, "{\"signatures\":[\"a.b.c\"]}"), &codes::BAD_SIGNATURE, "nonsense"),
        (Keys::new(2).sign(files(GOOD), &BOTH), &codes::BAD_SIGNATURE, "re-signed by another"),
        (without("authz.rego"), &codes::BUNDLE_FILES, "a file fewer"),
        (with("more.rego", "package authz\nallow := true"), &codes::BUNDLE_FILES, "a file more"),
        (with("note.txt", ""), &codes::BUNDLE_FILES, "a file more that nobody reads"),
        (with("authz.rego", "package authz"), &codes::BUNDLE_FILES, "truncated"),
        (
            with(MANIFEST, &GOOD.replace("1.2.0", "9.0.0")),
            &codes::BUNDLE_FILES,
            "a swapped manifest",
        ),
        (with("AUTHZ.rego", "package x"), &codes::BUNDLE_FILES, "a name that differs by case"),
        (with("../x.rego", "package x"), &codes::BUNDLE_FILES, "a name that leads out"),
        (with("/x.rego", "package x"), &codes::BUNDLE_FILES, "an absolute name"),
    ] {
        assert_eq!(judge(&files, &demands).err(), Some(code), "{what}");
    }
    for (manifest, code) in [
        (GOOD.replace("default", "other"), &codes::BUNDLE_SCOPE),
        (GOOD.replace("pay", "lend"), &codes::BUNDLE_SCOPE),
        (GOOD.replace('}', ",\"not_after_s\":999}"), &codes::BUNDLE_FROZEN),
        (GOOD.replace('}', ",\"moat\":\">=0.2\"}"), &codes::BUNDLE_REQUIRES),
    ] {
        let signed = keys.sign(files(&manifest), &BOTH);
        assert_eq!(judge(&signed, &demands).err(), Some(code), "{manifest}");
    }
    for manifest in [
        "{}",
        "",
        "{\"tenant\":\"a\",\"tenant\":\"a\",\"name\":\"n\",\"version\":\"1.0.0\"}",
        &GOOD.replace("1.2.0", "1.2"),
        &GOOD.replace('}', ",\"x\":1}"),
    ] {
        assert_eq!(
            Manifest::of(&files(manifest)).err().map(|p| p.code),
            Some(&codes::BAD_MANIFEST),
            "{manifest}"
        );
    }
}

#[test]
fn no_version_comes_back_and_none_stands_for_two_bundles() {
    let keys = Keys::new(1);
    let floor = |version: &str, digest: &str| Demands {
        floor: Some(Floor { version: version.parse().unwrap(), digest: digest.to_owned() }),
        ..demands(&keys)
    };
    let signed = keys.sign(files(GOOD), &BOTH);
    let digest = digest_of(&signed);
    for (version, digest, is_good) in [
        ("1.2.0", digest.as_str(), true),
        ("1.2.0", "sha256:other", false),
        ("1.2.0+build.9", "sha256:other", false),
        ("1.1.9", "sha256:other", true),
        ("1.2.0-rc.1", "sha256:other", true),
        ("1.2.1", digest.as_str(), false),
        ("2.0.0-alpha", digest.as_str(), false),
    ] {
        let judged = judge(&signed, &floor(version, digest));
        assert_eq!(judged.is_ok(), is_good, "{version}");
        if !is_good {
            assert_eq!(judged.err(), Some(&codes::BUNDLE_ROLLBACK), "{version}");
        }
    }
}

#[test]
fn a_bundle_that_does_not_decide_as_it_says_is_not_taken() {
    let test = |path: &str, from: &str, to: &str| {
        let mut files = files(GOOD);
        let file = files.iter_mut().find(|file| file.path == path).unwrap();
        file.bytes = String::from_utf8(file.bytes.clone()).unwrap().replace(from, to).into();
        let bundle = Arc::new(Bundle::new(files.clone()).unwrap());
        self_test(&files, &bundle).map_err(|problem| (problem.code, problem.place))
    };
    assert_eq!(test("data.json", "", ""), Ok(3));
    let golden = test("authz.rego", "default allow := false\n", "default allow := true\n");
    assert_eq!(golden, Err((&codes::SELF_TEST, format!("{GOLDEN}: else"))));
    let own = test("authz_test.rego", "read", "write");
    assert_eq!(own, Err((&codes::SELF_TEST, "data.authz.test_it".to_owned())));
    for (from, to) in [("\"allow\"", "\"permit\""), ("[", "{"), ("\"name\":\"a read\",", "")] {
        assert!(test(GOLDEN, from, to).is_err(), "{from}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_changed_byte_of_a_signed_bundle_is_refused(file in 0_usize..6, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let keys = Keys::new(1);
        let mut signed = keys.sign(files(GOOD), &BOTH);
        let bytes = &mut signed[file].bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let judged = judge(&signed, &demands(&keys));
        // White space between the parts of the signature file is nobody's statement.
        let is_space = signed[file].path == SIGNATURES && judged.is_ok();
        prop_assert!(judged.is_err() || is_space);
    }
}
