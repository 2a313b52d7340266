use super::*;
use crate::key::tests::Signer;
use crate::read_keys;
use proptest::prelude::*;

const NOW_S: u64 = 1_700_000_000;
const CERTIFICATE: [u8; 32] = [5; 32];

fn issuer(signers: &[Signer]) -> Issuer {
    let keys: Vec<String> =
        signers.iter().enumerate().map(|(at, signer)| signer.jwk(&format!("k{at}"), "")).collect();
    let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    Issuer {
        name: "https://idp.test".to_owned(),
        audience: "moat".to_owned(),
        keys: read_keys(set.as_bytes()).unwrap(),
        claims: vec!["branch".to_owned(), "desk".to_owned()],
    }
}

fn claims() -> String {
    let bound = BASE64URL_NOPAD.encode(&CERTIFICATE);
    format!(
        r#"{{"iss":"https://idp.test","sub":"u1","aud":"moat","exp":{},"iat":{NOW_S},
           "auth_time":{},"acr":"urn:mfa","amr":["otp","pin"],"jti":"t1","branch":"12",
           "cnf":{{"x5t#S256":"{bound}"}}}}"#,
        NOW_S + 60,
        NOW_S - 10
    )
}

fn head(signer: &Signer) -> String {
    format!(r#"{{"alg":"{}","kid":"k0","typ":"JWT"}}"#, signer.key().algorithm().jws())
}

fn compact(signer: &Signer, head: &str, claims: &str) -> String {
    let b64 = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!("{}.{}", b64(head), b64(claims));
    let signature = BASE64URL_NOPAD.encode(&signer.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn ask(signer: Signer, head: &str, claims: &str) -> Result<Token, &'static Code> {
    let token = compact(&signer, head, claims);
    verify(&token, &[issuer(&[signer])], &CERTIFICATE, NOW_S).map_err(|refusal| refusal.code)
}

fn sm2() -> Signer {
    Signer::all().pop().unwrap()
}

#[test]
fn a_token_of_any_kind_says_what_is_in_it() {
    for signer in Signer::all() {
        let head = head(&signer);
        let token = ask(signer, &head, &claims()).unwrap();
        assert_eq!((token.subject.as_str(), token.acr.as_str()), ("u1", "urn:mfa"));
        assert_eq!((token.auth_s, token.issued_s), (Some(NOW_S - 10), Some(NOW_S)));
        assert_eq!((token.amr.len(), token.id.as_deref()), (2, Some("t1")));
        let declared = [("branch", "12"), ("desk", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(token.claims, declared);
        assert!(token.is_good_at(NOW_S + 90) && !token.is_good_at(NOW_S + 91));
    }
}

#[test]
fn whatever_is_wrong_has_its_code() {
    let bound = BASE64URL_NOPAD.encode(&CERTIFICATE);
    let other = BASE64URL_NOPAD.encode(&[6; 32]);
    for (from, to, code) in [
        ("\"iss\":\"https://idp.test\"", "\"iss\":\"https://evil.test\"", &TOKEN_KEY),
        ("\"iss\":\"https://idp.test\",", "", &TOKEN_MALFORMED),
        ("\"aud\":\"moat\"", "\"aud\":\"other\"", &TOKEN_AUDIENCE),
        ("\"aud\":\"moat\"", "\"aud\":[\"a\",\"b\"]", &TOKEN_AUDIENCE),
        ("\"aud\":\"moat\"", "\"aud\":{\"moat\":1}", &TOKEN_AUDIENCE),
        ("\"exp\":1700000060", "\"exp\":1699999969", &TOKEN_EXPIRED),
        ("\"exp\":1700000060", "\"exp\":\"1800000000\"", &TOKEN_MALFORMED),
        ("\"exp\":1700000060,", "", &TOKEN_MALFORMED),
        ("\"iat\":1700000000", "\"iat\":1700000031", &TOKEN_EXPIRED),
        ("\"iat\":1700000000", "\"nbf\":1700000031", &TOKEN_EXPIRED),
        ("\"auth_time\":1699999990", "\"auth_time\":1700000031", &TOKEN_EXPIRED),
        ("\"auth_time\":1699999990", "\"auth_time\":-1", &TOKEN_MALFORMED),
        (bound.as_str(), other.as_str(), &TOKEN_UNBOUND),
        ("x5t#S256", "jkt", &TOKEN_UNBOUND),
        ("\"cnf\"", "\"cnf2\"", &TOKEN_UNBOUND),
        ("\"sub\":\"u1\"", "\"sub\":\"\"", &TOKEN_MALFORMED),
        ("\"sub\":\"u1\"", "\"sub\":1", &TOKEN_MALFORMED),
        ("\"sub\":\"u1\"", "\"sub\":\"u1\",\"sub\":\"u2\"", &TOKEN_MALFORMED),
        ("\"branch\":\"12\"", "\"branch\":12", &TOKEN_MALFORMED),
        ("[\"otp\",\"pin\"]", "[1]", &TOKEN_MALFORMED),
    ] {
        assert!(claims().contains(from), "{from}");
        let signer = sm2();
        let head = head(&signer);
        assert_eq!(
            ask(signer, &head, &claims().replace(from, to)).err(),
            Some(code),
            "{from} {to}"
        );
    }
    assert!(ask(sm2(), &head(&sm2()), &claims().replace("\"moat\"", "[\"x\",\"moat\"]")).is_ok());
}

#[test]
fn a_head_cannot_choose_how_it_is_verified() {
    for (head, code) in [
        (r#"{"alg":"none","kid":"k0"}"#, &TOKEN_SIGNATURE),
        (r#"{"alg":"HS256","kid":"k0"}"#, &TOKEN_SIGNATURE),
        (r#"{"alg":"ES256","kid":"k0"}"#, &TOKEN_SIGNATURE),
        (r#"{"kid":"k0"}"#, &TOKEN_SIGNATURE),
        (r#"{"alg":"SM2-with-SM3"}"#, &TOKEN_MALFORMED),
        (r#"{"alg":"SM2-with-SM3","kid":"k9"}"#, &TOKEN_KEY),
        (r#"{"alg":"SM2-with-SM3","kid":"k0","crit":["x"],"x":1}"#, &TOKEN_MALFORMED),
        (r#"{"alg":"SM2-with-SM3","kid":"k0","jwk":{}}"#, &TOKEN_MALFORMED),
        (r#"{"alg":"SM2-with-SM3","kid":"k0","jku":"https://evil.test"}"#, &TOKEN_MALFORMED),
        (r#"{"alg":"SM2-with-SM3","kid":"k0","typ":"dpop+jwt"}"#, &TOKEN_MALFORMED),
        (r#"{"alg":"SM2-with-SM3","alg":"none","kid":"k0"}"#, &TOKEN_MALFORMED),
    ] {
        assert_eq!(ask(sm2(), head, &claims()).err(), Some(code), "{head}");
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_refused() {
    let signer = sm2();
    let token = compact(&signer, &head(&signer), &claims());
    let issuers = [issuer(&[signer])];
    let is_good = |text: &str| verify(text, &issuers, &CERTIFICATE, NOW_S).is_ok();
    assert!(is_good(&token));
    for at in 0..token.len() {
        assert!(!is_good(token.get(..at).unwrap()), "cut at {at}");
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(!is_good(&String::from_utf8(bytes).unwrap()), "byte {at}");
    }
    for wrong in [format!("{token}."), format!(".{token}"), format!("{token}="), " ".repeat(9000)] {
        assert!(!is_good(&wrong));
    }
}

#[test]
fn a_key_that_was_rotated_away_is_unknown_and_the_new_one_is_taken() {
    let (old, new) = (sm2(), Signer::all().remove(2));
    let (old_token, new_token) = (
        compact(&old, &head(&old), &claims()),
        compact(&new, &head(&new).replace("k0", "k1"), &claims()),
    );
    let both = [issuer(&[old, new])];
    for token in [&old_token, &new_token] {
        assert!(verify(token, &both, &CERTIFICATE, NOW_S).is_ok());
    }
    let mut after = both[0].clone();
    after.keys.remove(0);
    let refused = verify(&old_token, &[after.clone()], &CERTIFICATE, NOW_S).unwrap_err();
    assert_eq!(refused.code, &TOKEN_KEY);
    assert!(verify(&new_token, &[after], &CERTIFICATE, NOW_S).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", head in ".{0,60}", body in ".{0,60}") {
        prop_assert!(verify(&text, &[], &CERTIFICATE, NOW_S).is_err());
        let b64 = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let token = format!("{}.{}.AAAA", b64(&head), b64(&body));
        prop_assert!(verify(&token, &[], &CERTIFICATE, NOW_S).is_err());
    }
}
