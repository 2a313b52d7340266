use super::*;
use crate::key::tests::Signer;
use proptest::prelude::*;

const PARAMETERS: &str = "(\"@method\" \"@target-uri\" \"content-digest\");created=1700000000;\
                          keyid=\"k\";nonce=\"n\";tag=\"moat-step-up\"";
const SIGNED: Signed<'_> = Signed {
    method: "POST",
    target_uri: "https://gateway.test/v1/pay?x=1",
    content_digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
};

/// Written out by hand, so that reader and writer cannot err alike.
fn base() -> String {
    format!(
        "\"@method\": POST\n\"@target-uri\": https://gateway.test/v1/pay?x=1\n\
         \"content-digest\": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:\n\
         \"@signature-params\": {PARAMETERS}"
    )
}

fn field(signature: &[u8]) -> String {
    format!("moat=:{}:", BASE64.encode(signature))
}

#[test]
fn a_signature_of_any_kind_is_over_exactly_what_is_said() {
    for signer in Signer::all() {
        let signature = field(&signer.sign(base().as_bytes()));
        let read = step_up(&format!("moat={PARAMETERS}"), &signature).unwrap().unwrap();
        assert_eq!((read.nonce.as_str(), read.key_id.as_str()), ("n", "k"));
        let key = signer.key();
        assert!(read.is_by(&key, SIGNED), "{:?}", key.algorithm());
        for other in [
            Signed { method: "PUT", ..SIGNED },
            Signed { target_uri: "https://gateway.test/v1/pay?x=2", ..SIGNED },
            Signed { content_digest: "sha-256=:AAAA:", ..SIGNED },
        ] {
            assert!(!read.is_by(&key, other), "{other:?}");
        }
        let renamed = format!("moat={}", PARAMETERS.replace("nonce=\"n\"", "nonce=\"m\""));
        assert!(!step_up(&renamed, &signature).unwrap().unwrap().is_by(&key, SIGNED));
    }
}

#[test]
fn an_algorithm_that_is_named_must_be_the_keys() {
    for signer in Signer::all() {
        let key = signer.key();
        for name in ["ed25519", "ecdsa-p256-sha256", "rsa-v1_5-sha256", "hmac-sha256"] {
            let parameters = PARAMETERS.replace(";nonce", &format!(";alg=\"{name}\";nonce"));
            let base = base().replace(PARAMETERS, &parameters);
            let signature = field(&signer.sign(base.as_bytes()));
            let read = step_up(&format!("moat={parameters}"), &signature).unwrap().unwrap();
            assert_eq!(read.is_by(&key, SIGNED), key.algorithm().http() == Some(name), "{name}");
        }
    }
}

#[test]
fn other_signatures_may_stand_beside_it() {
    let other = "sig1=(\"@path\" \"date\";sf);created=1;keyid=\"x\";tag=\"app\";x=?1;y=1.5;z=tok";
    let signature = "sig1=:AAAA:, moat=:AQID:";
    assert_eq!(step_up(other, "sig1=:AAAA:"), Ok(None));
    for input in [format!("{other}, moat={PARAMETERS}"), format!("moat={PARAMETERS} , {other}")] {
        let found = step_up(&input, signature).unwrap().unwrap();
        assert_eq!(
            (found.signature.as_slice(), found.parameters.as_str()),
            (&[1, 2, 3][..], PARAMETERS)
        );
    }
}

#[test]
fn what_is_malformed_or_covers_something_else_is_refused() {
    let with = |from: &str, to: &str| format!("moat={}", PARAMETERS.replace(from, to));
    for input in [
        with("(\"@method\" ", "("),
        with("\"content-digest\"", "\"content-digest\" \"date\""),
        with("\"@method\" ", "\"@method\" \"@method\" "),
        with("\"@method\" ", "\"@method\";req "),
        with("\"@method\" ", "\"@method\"  "),
        with("(\"@method\"", "( \"@method\""),
        with("\"@method\"", "@method"),
        with(";nonce=\"n\"", ""),
        with(";nonce=\"n\"", ";nonce=\"\""),
        with(";nonce=\"n\"", ";nonce=n"),
        with(";nonce=\"n\"", ";nonce=\"n\";nonce=\"n\""),
        with(";keyid=\"k\"", ""),
        with("created=1700000000", "created=\"now\""),
        with("created=1700000000", "expires=tomorrow"),
        with("created=1700000000", "created=1234567890123456"),
        with("created=1700000000", "surprise=1"),
        with("tag=", "tag=\"a\";tag="),
        format!("moat={PARAMETERS}, other={PARAMETERS}"),
        format!("moat={PARAMETERS}, moat={PARAMETERS}"),
        format!("moat={PARAMETERS},"),
        format!("moat={PARAMETERS} x"),
        format!("Moat={PARAMETERS}"),
        format!("={PARAMETERS}"),
        PARAMETERS.to_owned(),
        "moat".to_owned(),
        "moat=1".to_owned(),
        String::new(),
        format!("moat={PARAMETERS}é"),
        format!("{}moat={PARAMETERS}", " ".repeat(FIELD_BYTES_MAX)),
    ] {
        assert!(step_up(&input, "moat=:AQID:, other=:AQID:").is_err(), "{input}");
    }
    let input = format!("moat={PARAMETERS}");
    for signature in [
        "",
        "moat",
        "moat=:",
        "moat=:AQ",
        "moat=:AQ:",
        "moat=AQID",
        "other=:AQID:",
        "moat=:AQID:;a",
    ] {
        assert!(step_up(&input, signature).is_err(), "{signature}");
    }
}

#[test]
fn every_cut_of_a_field_is_refused_or_none() {
    let input = format!("moat={PARAMETERS}");
    for end in 0..input.len() {
        let cut = step_up(input.get(..end).unwrap(), "moat=:AQID:");
        assert!(!matches!(cut, Ok(Some(_))), "{}", input.get(..end).unwrap());
    }
}

#[test]
fn digests_are_of_the_one_algorithm() {
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    assert_eq!(sha256_of(digest).unwrap()[..2], [0x5f, 0x8f]);
    assert!(sha256_of(&format!("sha-512=:AAAA:, {digest}")).is_ok());
    for bad in [
        "",
        "sha-256=:AAAA:",
        "sha-512=:AAAA:",
        "sha-256=x",
        "SHA-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
    ] {
        assert!(sha256_of(bad).is_err(), "{bad}");
    }
    assert!(sha256_of(&format!("{digest}, {digest}")).is_err(), "twice");
}

proptest! {
    #[test]
    fn any_fields_are_read_or_refused(input in ".{0,120}", signature in ".{0,60}") {
        let _ = step_up(&input, &signature);
        let _ = step_up(&format!("moat={PARAMETERS}{input}"), &signature);
        let _ = sha256_of(&input);
    }

    #[test]
    fn texts_come_back_as_they_were(text in "[ -~]{1,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let input = format!("moat={}", PARAMETERS.replace("\"n\"", &format!("\"{quoted}\"")));
        let read = step_up(&input, "moat=:AQID:").unwrap().unwrap();
        prop_assert_eq!(read.nonce, text);
    }
}
