//! Every structure back and forth, every truncation, every other form.

use super::*;
use crate::pem;
use crate::sm2::{DEFAULT_ID, TLS13_ID};
use crate::testing::{hex, hex_array, random};

fn key() -> SecretKey {
    let d = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
    SecretKey::from_bytes(&hex_array(d)).expect("in range")
}

/// What a strict reader must do with what was cut, grew, or has another byte anywhere.
fn is_strict<T>(
    der: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Error>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    assert!(write(&read(der).expect("good")) == der);
    for length in 0..der.len() {
        assert!(read(&der[..length]).is_err(), "cut to {length}");
    }
    for more in 0..=u8::MAX {
        assert!(read(&[der, &[more]].concat()).is_err(), "one byte more");
    }
    for at in 0..der.len() {
        for byte in 0..=u8::MAX {
            let mut changed = der.to_vec();
            changed[at] = byte;
            // What is read is written in the same way, or it was not canonical.
            if let Ok(other) = read(&changed) {
                assert!(write(&other) == changed, "byte {at} as {byte:#x}");
            }
        }
    }
}

#[test]
fn signatures_have_one_form() {
    let numbers = [
        [0; 32],
        limbs(1),
        limbs(0x7f),
        limbs(0x80),
        limbs(0xff),
        limbs(0x100),
        [0x7f; 32],
        [0x80; 32],
        [0xff; 32],
        random(1),
    ];
    for r in numbers {
        for s in numbers {
            let signature = Signature { r, s };
            let der = signature.to_der();
            assert!(der.as_ref().len() <= SIGNATURE_DER_BYTES_MAX);
            is_strict(der.as_ref(), Signature::from_der, |s| s.to_der().as_ref().to_vec());
        }
    }
}

fn limbs(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    bytes
}

#[test]
fn other_forms_of_a_signature_are_refused() {
    for bad in [
        "",
        "30",
        "3000",
        "3080020101020101 0000", // no length
        "308106020101020101",    // a length of two bytes that needs one
        "30820006020101020101",  // of three
        "3006020101020101 00",   // something behind it
        "3007020101020101 00",   // something more in it
        "3003020101",            // one number
        "30070201010202 0001",   // a superfluous zero
        "3006020181020101",      // negative
        "30050200020101",        // no byte
        "3106020101020101",      // a set
        "3006030101020101",      // a bit string
        "30850000000006020101020101",
        "30ff",
        "3026 0221 01 0000000000000000000000000000000000000000000000000000000000000000 020101",
        "3026 0221 00 7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff 020101",
    ] {
        assert_eq!(Signature::from_der(&hex(bad)), Err(Error::Der), "{bad}");
    }
}

#[test]
fn public_keys_have_one_form() {
    let public = *key().public();
    is_strict(&public.to_spki_der(), PublicKey::from_spki_der, |key| key.to_spki_der().to_vec());
    let mut p256 = public.to_spki_der();
    // ecPublicKey with prime256v1.
    let other = hex("301306072a8648ce3d020106082a8648ce3d030107");
    p256[2..23].copy_from_slice(&other);
    assert_eq!(PublicKey::from_spki_der(&p256), Err(Error::Algorithm));
    let mut off = public.to_spki_der();
    off[90] ^= 1;
    assert_eq!(PublicKey::from_spki_der(&off), Err(Error::Point));
}

#[test]
fn private_keys_have_one_form_with_a_public_key() {
    let key = key();
    is_strict(&*key.to_pkcs8_der(), SecretKey::from_pkcs8_der, |key| key.to_pkcs8_der().to_vec());
    is_strict(&*key.to_sec1_der(), SecretKey::from_sec1_der, |key| key.to_sec1_der().to_vec());
}

#[test]
fn a_key_may_come_without_its_curve_and_point() {
    let key = key();
    let d = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
    let bare = hex(&format!("30250201010420{d}"));
    let with_curve = hex(&format!("30310201010420{d}a00a06082a811ccf5501822d"));
    for der in [bare, with_curve] {
        let read = SecretKey::from_sec1_der(&der).expect("good");
        assert_eq!(read.public(), key.public());
        for length in 0..der.len() {
            assert!(SecretKey::from_sec1_der(&der[..length]).is_err());
        }
    }
}

#[test]
fn a_key_in_pkcs8_may_name_its_curve_twice() {
    let key = key();
    let inner = key.to_sec1_der();
    let algorithm = hex("301306072a8648ce3d020106082a811ccf5501822d");
    let mut der = hex("308193020100");
    der.extend_from_slice(&algorithm);
    der.extend_from_slice(&[OCTET_STRING, 121]);
    der.extend_from_slice(&*inner);
    assert_eq!(der.len(), PKCS8_BYTES + 12);
    let read = SecretKey::from_pkcs8_der(&der).expect("good");
    assert_eq!(read.public(), key.public());
    assert_eq!(read.to_pkcs8_der(), key.to_pkcs8_der());
    for length in 0..der.len() {
        assert!(SecretKey::from_pkcs8_der(&der[..length]).is_err(), "cut to {length}");
    }
    // The inner curve must be right too.
    let mut other = der.clone();
    other[6 + 21 + 2 + 39 + 2 + 9] ^= 1;
    assert_eq!(SecretKey::from_pkcs8_der(&other).err(), Some(Error::Algorithm));
}

#[test]
fn wrong_private_keys_are_refused_with_their_reason() {
    let key = key();
    let d = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
    let zero = "0".repeat(64);
    let n_less_1 = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54122";
    for (der, error) in [
        (format!("30310201010420{d}a00a06082a8648ce3d030107"), Error::Algorithm),
        (format!("30250201010420{zero}"), Error::Scalar),
        (format!("30250201010420{n_less_1}"), Error::Scalar),
        (format!("30250201020420{d}"), Error::Der),
        (format!("3024020101041f{}", d.split_at(2).1), Error::Der),
        (format!("3026020101042100{d}"), Error::Der),
    ] {
        assert_eq!(SecretKey::from_sec1_der(&hex(&der)).err(), Some(error), "{der}");
    }
    let mut wrong_point = *key.to_sec1_der();
    let other = SecretKey::generate(&random(1)).expect("entropy");
    wrong_point[56..].copy_from_slice(other.public().as_bytes());
    assert_eq!(SecretKey::from_sec1_der(&wrong_point).err(), Some(Error::Mismatch));
    let mut off_curve = *key.to_sec1_der();
    off_curve[120] ^= 1;
    assert_eq!(SecretKey::from_sec1_der(&off_curve).err(), Some(Error::Point));
}

#[test]
fn ciphertexts_have_one_form() {
    let key = key();
    for text in [&b"a"[..], &[7; 15], &[7; 200], &[7; 70_000]] {
        let cipher = key.public().encrypt(text, &random(5)).expect("entropy");
        let der = ciphertext_to_der(&cipher).expect("own");
        assert_eq!(ciphertext_from_der(&der), Ok(cipher.clone()));
        if text.len() < 300 {
            is_strict(&der, ciphertext_from_der, |cipher| {
                ciphertext_to_der(cipher).expect("just read")
            });
        }
        assert_eq!(ciphertext_to_der(&cipher[..96]), Err(Error::Decrypt));
        assert_eq!(ciphertext_to_der(&cipher[1..]).err(), Some(Error::Decrypt));
    }
}

/// By OpenSSL 3.0 with the key in openssl.pkcs8.pem: `openssl pkeyutl -sign -rawin -digest sm3
/// -pkeyopt distid:...`, `openssl pkeyutl -encrypt`.
#[test]
fn what_openssl_signed_and_encrypted_is_understood() {
    let der = pem::decode(pem::PRIVATE_KEY, include_str!("openssl.pkcs8.pem")).expect("PEM");
    let key = SecretKey::from_pkcs8_der(&der).expect("DER");
    let message = b"message of OpenSSL";
    let default = "3044022007d838b695e9931b99ce3a84120b4e9d9c2f2a6db0cadeae39fd82575812bb34\
                   02202cf0be731cd6eb6d5fb002a5a18110dce8106b931e63b60e7af3b61c1e9a81a8";
    let tls = "304402201357eeb1bf45570bfe649c452d8658101730458056c5a3bb73369a4643ff4298\
               02203df39868a135f910865d06fd192120df91b1e5546613c2a95efe9809e36375f0";
    for (id, signature) in [(DEFAULT_ID, default), (TLS13_ID, tls)] {
        let signature = Signature::from_der(&hex(signature)).expect("DER");
        assert_eq!(key.public().verify(id, message, &signature), Ok(()));
        assert_eq!(key.public().verify(b"other", message, &signature), Err(Error::Signature));
    }
    let cipher = "307a02207363fcb0b79dc6c12d23e812ae28607ffc4182e0f33d1e1e7849d86d0e6a4f31\
                  02205d8b12fb1525acd63fb57b5b29d480034a09557547d248efb97c6ba939da9980\
                  0420ed3de07526a86a5748a58cb63273f8601061a4d6366c904fed09858a17ad0d14\
                  0412ce7e8d54320749316fcab3676d60e0122be8";
    let cipher = ciphertext_from_der(&hex(cipher)).expect("DER");
    assert_eq!(key.decrypt(&cipher).expect("theirs")[..], *message);
}

/// Written by OpenSSL 3.0: `openssl genpkey -algorithm SM2`, `openssl ec`, `openssl pkey -pubout`.
#[test]
fn files_of_openssl_are_read() {
    let pkcs8 = include_str!("openssl.pkcs8.pem");
    let sec1 = include_str!("openssl.sec1.pem");
    let public = include_str!("openssl.public.pem");
    let der = pem::decode(pem::PRIVATE_KEY, pkcs8).expect("PEM");
    let key = SecretKey::from_pkcs8_der(&der).expect("DER");
    let der = pem::decode(pem::SM2_PRIVATE_KEY, sec1).expect("PEM");
    assert_eq!(SecretKey::from_sec1_der(&der).expect("DER").public(), key.public());
    let der = pem::decode(pem::PUBLIC_KEY, public).expect("PEM");
    assert_eq!(PublicKey::from_spki_der(&der).as_ref(), Ok(key.public()));
    assert_eq!(*pem::encode(pem::PRIVATE_KEY, &*key.to_pkcs8_der()), pkcs8);
    assert_eq!(*pem::encode(pem::PUBLIC_KEY, &key.public().to_spki_der()), public);
}
