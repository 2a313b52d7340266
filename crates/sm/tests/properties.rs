//! Properties of everything that reads bytes from outside, on whatever bytes.

use moat_sm::pem;
use moat_sm::sm2::der::{ciphertext_from_der, ciphertext_to_der};
use moat_sm::sm2::{PublicKey, SecretKey, Signature};
use moat_sm::sm4::gcm::Gcm;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

/// Bytes like DER: known tags and short lengths, and others.
fn der_like() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::{Just, Strategy, prop_oneof};
    let byte = prop_oneof![Just(0x30), Just(2), Just(4), Just(0x81), 0_u8..40, any::<u8>()];
    vec(byte, 0..160).prop_map(|mut bytes| {
        if let [_, second, ..] = bytes.as_mut_slice() {
            *second &= 0x7f;
        }
        bytes
    })
}

/// A block, or a part of one.
const PEM_LIKE: &str =
    "(-----BEGIN PUBLIC KEY-----\n)?[A-Za-z0-9+/=\n ]{0,80}(\n-----END PUBLIC KEY-----\n)?";

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(der in der_like()) {
        if let Ok(signature) = Signature::from_der(&der) {
            prop_assert!(signature.to_der().as_ref() == der);
        }
        if let Ok(cipher) = ciphertext_from_der(&der) {
            prop_assert_eq!(ciphertext_to_der(&cipher), Ok(der.clone()));
        }
        if let Ok(key) = PublicKey::from_spki_der(&der) {
            prop_assert_eq!(&key.to_spki_der()[..], &der[..]);
        }
        prop_assert!(SecretKey::from_pkcs8_der(&der).is_err());
        prop_assert!(SecretKey::from_sec1_der(&der).is_err());
    }

    #[test]
    fn any_two_numbers_are_a_signature_in_der(bytes in any::<[u8; 32]>(), zeros in 0_usize..32) {
        let mut raw = [bytes, bytes].concat();
        raw[..zeros].fill(0);
        let signature = Signature::from_bytes(&raw.try_into().expect("64 bytes"));
        let der = signature.to_der();
        prop_assert_eq!(Signature::from_der(der.as_ref()), Ok(signature));
        for length in 0..der.as_ref().len() {
            prop_assert!(Signature::from_der(&der.as_ref()[..length]).is_err());
        }
    }

    #[test]
    fn a_text_is_pem_or_refused(text in PEM_LIKE) {
        if let Ok(bytes) = pem::decode(pem::PUBLIC_KEY, &text) {
            let again = pem::encode(pem::PUBLIC_KEY, &bytes);
            let body = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(body(&again), body(&text));
        }
    }

    #[test]
    fn nothing_opens_without_its_tag(
        key in any::<[u8; 16]>(),
        text in vec(any::<u8>(), 0..200),
        tag in vec(any::<u8>(), 0..20),
    ) {
        let mut out = text.clone();
        prop_assert!(Gcm::new(&key).open(&[0; 12], b"", &mut out, &tag).is_err());
        prop_assert_eq!(out, text);
    }
}
