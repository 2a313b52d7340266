use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use proptest::prelude::*;

/// A key pair of each kind, and the JWK of its public half.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    EcdsaP256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Sm2(Box<sm2::SecretKey>),
}

impl Signer {
    pub(crate) fn all() -> Vec<Signer> {
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ed25519 = Ed25519KeyPair::generate().unwrap();
        let sm2 = sm2::SecretKey::generate(&[7; sm2::ENTROPY_BYTES]).unwrap();
        vec![
            Signer::Rsa(rsa),
            Signer::EcdsaP256(ecdsa),
            Signer::Ed25519(ed25519),
            Signer::Sm2(Box::new(sm2)),
        ]
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .unwrap();
                signature
            }
            Signer::EcdsaP256(pair) => {
                pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Sm2(key) => {
                key.sign(sm2::DEFAULT_ID, message, &[9; 32]).unwrap().to_bytes().to_vec()
            }
        }
    }

    pub(crate) fn jwk(&self, id: &str, more: &str) -> String {
        let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let point = |crv: &str, bytes: &[u8]| {
            let (x, y) = (b64(&bytes[1..33]), b64(&bytes[33..]));
            format!(r#""kty":"EC","crv":"{crv}","x":"{x}","y":"{y}""#)
        };
        let key = match self {
            Signer::Rsa(pair) => {
                let n = pair.public_key().modulus().big_endian_without_leading_zero();
                let e = pair.public_key().exponent().big_endian_without_leading_zero();
                format!(r#""kty":"RSA","n":"{}","e":"{}""#, b64(n), b64(e))
            }
            Signer::EcdsaP256(pair) => point("P-256", pair.public_key().as_ref()),
            Signer::Ed25519(pair) => {
                format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, b64(pair.public_key().as_ref()))
            }
            Signer::Sm2(key) => point("SM2", key.public().as_bytes()),
        };
        format!(r#"{{"kid":"{id}",{key}{more}}}"#)
    }

    pub(crate) fn key(&self) -> PublicKey {
        let set = format!(r#"{{"keys":[{}]}}"#, self.jwk("k", ""));
        read_keys(set.as_bytes()).unwrap().remove(0).key
    }
}

#[test]
fn each_kind_verifies_its_own_signatures_and_no_others() {
    let signers = Signer::all();
    let message = b"a message";
    for (at, signer) in signers.iter().enumerate() {
        let signature = signer.sign(message);
        for (other, key) in signers.iter().map(Signer::key).enumerate() {
            assert_eq!(key.verifies(message, &signature), at == other, "{at} {other}");
        }
        let key = signer.key();
        assert!(!key.verifies(b"another message", &signature));
        for at in 0..signature.len() {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert!(!key.verifies(message, &flipped), "{:?} byte {at}", key.algorithm());
            assert!(!key.verifies(message, &signature[..at]), "{:?} cut at {at}", key.algorithm());
        }
    }
}

/// RFC 9421 appendix B.2.6, with the key of B.1.4.
#[test]
fn the_published_ed25519_signature_verifies() {
    let set = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"test-key-ed25519",
        "x":"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}]}"#;
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
                \"@authority\": example.com\n\"content-type\": application/json\n\
                \"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \"@path\" \
                \"@authority\" \"content-type\" \"content-length\");created=1618884473\
                ;keyid=\"test-key-ed25519\"";
    let signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lI\
                     p5WPpBKRCw==";
    let signature = data_encoding::BASE64.decode(signature.as_bytes()).unwrap();
    let key = read_keys(set).unwrap().remove(0).key;
    assert!(key.verifies(base.as_bytes(), &signature));
}

#[test]
fn a_set_is_read_strictly_and_what_it_does_not_know_is_left_out() {
    let one = Signer::all().pop().unwrap();
    let good = one.jwk("a", r#","held_in":"hsm","use":"sig","alg":"SM2-with-SM3""#);
    let set = |keys: &str| read_keys(format!(r#"{{"keys":[{keys}]}}"#).as_bytes());
    let read = set(&good).unwrap();
    assert_eq!(read[0].members.get("held_in").map(String::as_str), Some("hsm"));
    let unknown = [
        one.jwk("b", r#","use":"enc""#),
        one.jwk("b", r#","alg":"ES256""#),
        r#"{"kty":"oct2"}"#.to_owned(),
        r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#.to_owned(),
    ];
    for other in unknown {
        assert_eq!(set(&format!("{good},{other}")).unwrap().len(), 1, "{other}");
        assert!(set(&other).is_err(), "alone it is no set: {other}");
    }
    for bad in [
        format!("{good},{good}"),
        one.jwk("", ""),
        one.jwk("a", r#","d":"AA""#),
        r#"{"kty":"oct","k":"AA","kid":"a"}"#.to_owned(),
        r#"{"kid":"a"}"#.to_owned(),
        r#"{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"A="}"#.to_owned(),
        r#"{"kty":"EC","crv":"SM2","kid":"a","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.to_owned(),
        "1".to_owned(),
        String::new(),
    ] {
        assert!(set(&bad).is_err(), "{bad}");
    }
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(read_keys(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = read_keys(text.as_bytes());
        let _ = read_keys(format!(r#"{{"keys":[{{{text}}}]}}"#).as_bytes());
    }
}
