//! Encrypted private keys: PKCS #8 with PBES2 (RFC 8018 §6.2), PBKDF2 over HMAC-SM3 and SM4-CBC
//! (GM/T 0091), and no other scheme. The key inside may be of any kind.

use alloc::vec::Vec;

use zeroize::{Zeroize, Zeroizing};

use super::{DER_BYTES_MAX, Error, INTEGER, OCTET_STRING, Reader, SEQUENCE, head};
use crate::pbkdf2;
use crate::sm2::SecretKey;
use crate::sm4::{Block, KEY_BYTES, Sm4, cbc};

/// Iterations that are taken: fewer protect nothing, more are a way to keep a program busy (the
/// most take about a second).
pub const ITERATIONS_MIN: u32 = 1_000;
/// See [`ITERATIONS_MIN`].
pub const ITERATIONS_MAX: u32 = 2_000_000;
/// Bytes of salt that we write; from 8 to 64 are read.
pub const SALT_BYTES: usize = 16;
const SALT_BYTES_READ: core::ops::RangeInclusive<usize> = 8..=64;

/// id-PBES2 1.2.840.113549.1.5.13.
const PBES2: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
/// id-PBKDF2 1.2.840.113549.1.5.12.
const PBKDF2: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// HMAC-SM3 1.2.156.10197.1.401.2 with NULL, as a sequence.
const PRF: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x11, 0x02, 0x05, 0x00];
/// SM4-CBC 1.2.156.10197.1.104.2.
const CBC: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x68, 0x02];

/// What stands before the encrypted bytes.
struct Parameters<'a> {
    salt: &'a [u8],
    iterations: u32,
    iv: &'a Block,
}

impl Parameters<'_> {
    fn key(&self, password: &[u8]) -> Sm4 {
        let mut bytes = [0; KEY_BYTES];
        pbkdf2::derive(password, self.salt, self.iterations, &mut bytes);
        let key = Sm4::new(&bytes);
        bytes.zeroize();
        key
    }
}

/// The bytes of a PKCS #8 file that was encrypted, of whatever kind its key is. They are not
/// looked at: one wrong password in 256 gives bytes that are no PKCS #8.
///
/// # Errors
///
/// [`Error::Der`]; [`Error::Algorithm`] for another scheme; [`Error::Decrypt`] for a wrong password.
pub fn decrypt_pkcs8(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut reader = Reader::new(der, DER_BYTES_MAX)?;
    let mut sequence = reader.nested(SEQUENCE)?;
    let parameters = scheme(sequence.nested(SEQUENCE)?)?;
    let cipher = sequence.value(OCTET_STRING)?;
    sequence.end()?;
    reader.end()?;
    let key = parameters.key(password);
    cbc::decrypt_padded(&key, parameters.iv, cipher).map_err(|_| Error::Decrypt)
}

/// A PKCS #8 file, of whatever kind its key is, encrypted. Salt and initialisation vector are fresh
/// bytes of the system.
///
/// # Errors
///
/// [`Error::Length`] for an empty password, or a number of iterations that would not be read again.
pub fn encrypt_pkcs8(
    pkcs8: &[u8],
    password: &[u8],
    salt: &[u8; SALT_BYTES],
    iv: &Block,
    iterations: u32,
) -> Result<Vec<u8>, Error> {
    if password.is_empty() || !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        return Err(Error::Length);
    }
    let parameters = Parameters { salt, iterations, iv };
    let cipher = cbc::encrypt_padded(&parameters.key(password), iv, pkcs8);
    let count = iterations.to_be_bytes();
    let skip = count.iter().take_while(|byte| **byte == 0).count();
    let mut number = Vec::with_capacity(5);
    // A first bit that is set would make it negative.
    number.extend(count.get(skip).filter(|byte| **byte >= 0x80).map(|_| 0));
    number.extend_from_slice(count.get(skip..).unwrap_or_default());
    let derivation =
        wrapped(SEQUENCE, &[&wrapped(OCTET_STRING, &[salt]), &wrapped(INTEGER, &[&number]), &PRF]);
    let derivation = wrapped(SEQUENCE, &[&PBKDF2, &derivation]);
    let encryption = wrapped(SEQUENCE, &[&CBC, &wrapped(OCTET_STRING, &[iv])]);
    let scheme = wrapped(SEQUENCE, &[&derivation, &encryption]);
    let scheme = wrapped(SEQUENCE, &[&PBES2, &scheme]);
    Ok(wrapped(SEQUENCE, &[&scheme, &wrapped(OCTET_STRING, &[&cipher])]))
}

impl SecretKey {
    /// From an encrypted PKCS #8 file.
    ///
    /// # Errors
    ///
    /// [`Error::Der`]; [`Error::Algorithm`] for another scheme; [`Error::Decrypt`] for a wrong
    /// password, or whatever else is wrong inside.
    pub fn from_encrypted_pkcs8_der(der: &[u8], password: &[u8]) -> Result<Self, Error> {
        let text = decrypt_pkcs8(der, password)?;
        Self::from_pkcs8_der(&text).map_err(|_| Error::Decrypt)
    }

    /// As encrypted PKCS #8. Salt and initialisation vector are fresh bytes of the system.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for an empty password, or a number of iterations that would not be read
    /// again.
    pub fn to_encrypted_pkcs8_der(
        &self,
        password: &[u8],
        salt: &[u8; SALT_BYTES],
        iv: &Block,
        iterations: u32,
    ) -> Result<Vec<u8>, Error> {
        encrypt_pkcs8(&*self.to_pkcs8_der(), password, salt, iv, iterations)
    }
}

fn wrapped(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = Vec::with_capacity(content.len() + 6);
    head(&mut out, tag, content.len());
    out.extend_from_slice(&content);
    out
}

/// The content of the algorithm's sequence.
fn scheme<'a>(mut reader: Reader<'a>) -> Result<Parameters<'a>, Error> {
    reader.exactly(&PBES2)?;
    let mut both = reader.nested(SEQUENCE)?;
    reader.end()?;
    let mut derivation = both.nested(SEQUENCE)?;
    let mut encryption = both.nested(SEQUENCE)?;
    both.end()?;
    derivation.exactly(&PBKDF2)?;
    let mut parameters = derivation.nested(SEQUENCE)?;
    derivation.end()?;
    let salt = parameters.value(OCTET_STRING)?;
    let iterations = small(&parameters.integer()?)?;
    if let Some(length) = parameters.optional(INTEGER)?
        && length != [16]
    {
        return Err(Error::Algorithm);
    }
    parameters.exactly(&PRF)?;
    parameters.end()?;
    encryption.exactly(&CBC)?;
    let iv = encryption.value(OCTET_STRING)?.try_into().map_err(|_| Error::Der)?;
    encryption.end()?;
    let taken = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations);
    if !taken || !SALT_BYTES_READ.contains(&salt.len()) {
        return Err(Error::Der);
    }
    Ok(Parameters { salt, iterations, iv })
}

/// An integer that fits 32 bits.
fn small(bytes: &[u8; 32]) -> Result<u32, Error> {
    match bytes.split_last_chunk::<4>() {
        Some((zeros, last)) if zeros.iter().all(|byte| *byte == 0) => Ok(u32::from_be_bytes(*last)),
        _ => Err(Error::Der),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;
    use crate::testing::random;

    fn encrypted() -> (SecretKey, Vec<u8>) {
        let key = SecretKey::generate(&random(1)).expect("entropy");
        let der = key.to_encrypted_pkcs8_der(b"secret", &random(2), &random(3), 1000);
        (key, der.expect("taken"))
    }

    #[test]
    fn a_key_comes_back_with_its_password_only() {
        let (key, der) = encrypted();
        let read = SecretKey::from_encrypted_pkcs8_der(&der, b"secret").expect("own");
        assert_eq!(read.public(), key.public());
        for wrong in [&b""[..], b"Secret", b"secret "] {
            let error = SecretKey::from_encrypted_pkcs8_der(&der, wrong).err();
            assert_eq!(error, Some(Error::Decrypt));
        }
        for iterations in [0, 999, 2_000_001, u32::MAX] {
            let der = key.to_encrypted_pkcs8_der(b"secret", &[0; 16], &[0; 16], iterations);
            assert_eq!(der.err(), Some(Error::Length));
        }
        let der = key.to_encrypted_pkcs8_der(b"", &[0; 16], &[0; 16], 1000);
        assert_eq!(der.err(), Some(Error::Length));
        for iterations in [0x7fff, 0x8000, 0xffff] {
            let der = key.to_encrypted_pkcs8_der(b"s", &[0; 16], &[0; 16], iterations);
            assert!(SecretKey::from_encrypted_pkcs8_der(&der.expect("taken"), b"s").is_ok());
        }
    }

    #[test]
    fn what_was_cut_or_changed_is_refused() {
        let (key, der) = encrypted();
        let read = |der: &[u8]| SecretKey::from_encrypted_pkcs8_der(der, b"secret");
        for length in 0..der.len() {
            assert!(read(&der[..length]).is_err(), "cut to {length}");
        }
        assert_eq!(read(&[&der[..], &[0]].concat()).err(), Some(Error::Der));
        for at in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                // CBC authenticates nothing: a changed block may still be a key, but another one
                // only if its public key fits, which it does not.
                if let Ok(read) = read(&changed) {
                    assert_eq!(read.public(), key.public());
                }
            }
        }
    }

    /// Its key and its encrypted bytes are from OpenSSL 3.0 (`openssl kdf PBKDF2`, `openssl enc
    /// -sm4-cbc`), which cannot write such a file as a whole.
    #[test]
    fn what_openssl_encrypted_is_read() {
        let text = include_str!("openssl.encrypted.pem");
        let der = pem::decode(pem::ENCRYPTED_PRIVATE_KEY, text).expect("PEM");
        let key = SecretKey::from_encrypted_pkcs8_der(&der, b"secret").expect("password");
        let plain = include_str!("openssl.pkcs8.pem");
        let plain = pem::decode(pem::PRIVATE_KEY, plain).expect("PEM");
        assert_eq!(key.to_pkcs8_der()[..], plain[..]);
    }
}
