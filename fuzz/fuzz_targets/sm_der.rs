//! Any bytes are a structure of SM2 in a canonical form, or are refused. A private key has four
//! forms, all others one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_sm::sm2::der::{ciphertext_from_der, ciphertext_to_der};
use moat_sm::sm2::{PublicKey, SecretKey, Signature};

fuzz_target!(|der: &[u8]| {
    if let Ok(signature) = Signature::from_der(der) {
        assert_eq!(signature.to_der().as_ref(), der);
    }
    if let Ok(cipher) = ciphertext_from_der(der) {
        assert_eq!(ciphertext_to_der(&cipher).as_deref(), Ok(der));
    }
    if let Ok(key) = PublicKey::from_spki_der(der) {
        assert_eq!(key.to_spki_der()[..], *der);
    }
    if let Ok(key) = SecretKey::from_pkcs8_der(der) {
        let whole = key.to_pkcs8_der();
        let read = SecretKey::from_pkcs8_der(&*whole).expect("just written");
        assert_eq!(read.public(), key.public());
        // We leave the curve out of the inner key: twelve bytes.
        assert!(der.len() <= whole.len() + 12);
        assert!(der.len() != whole.len() || der == *whole);
    }
    if let Ok(key) = SecretKey::from_sec1_der(der) {
        let whole = key.to_sec1_der();
        let read = SecretKey::from_sec1_der(&*whole).expect("just written");
        assert_eq!(read.public(), key.public());
        // We write both the curve and the public key, so nothing is longer.
        assert!(der.len() < whole.len() || der == *whole);
    }
});
