//! Encrypted private keys as OpenSSL writes them: PKCS #8 with PBES2 (RFC 8018 §6.2), PBKDF2 over
//! HMAC with SHA-2, AES in CBC mode. The national scheme is `moat-sm`'s.

use core::num::NonZeroU32;
use core::ops::RangeInclusive;

use aws_lc_rs::cipher::{
    AES_128, AES_128_KEY_LEN, AES_256, AES_256_KEY_LEN, DecryptionContext,
    PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use moat_sm::sm2::der::{ITERATIONS_MAX, ITERATIONS_MIN};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Parameters, Pbkdf2Prf};
use zeroize::Zeroizing;

/// Rounds of PBKDF2 that are taken, as in the national scheme: fewer protect nothing, and the most
/// take about a second. Each key file is opened once a start or reload, see [`crate::Keys`].
const ITERATIONS: RangeInclusive<u32> = ITERATIONS_MIN..=ITERATIONS_MAX;
/// Fewest bytes of salt.
const SALT_BYTES_MIN: usize = 8;

/// Why a key stays closed. Wrong passwords and damaged bytes are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Structure,
    Scheme,
    Password,
}

impl core::fmt::Display for Closed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Closed::Structure => "it is no encrypted PKCS #8",
            Closed::Scheme => {
                "its scheme is not taken: PBES2 with PBKDF2 over HMAC-SHA-256, -384 or -512 and \
                 AES-128-CBC or AES-256-CBC, or over HMAC-SM3 and SM4-CBC, with 1,000 to 2,000,000 \
                 rounds and 8 bytes of salt or more"
            }
            Closed::Password => "the password does not open it",
        })
    }
}

/// The PKCS #8 inside.
pub(crate) fn open(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| Closed::Structure)?;
    let parameters = info.encryption_algorithm.pbes2().ok_or(Closed::Scheme)?;
    let (algorithm, length, iv) = match parameters.encryption {
        EncryptionScheme::Aes128Cbc { iv } => (&AES_128, AES_128_KEY_LEN, iv),
        EncryptionScheme::Aes256Cbc { iv } => (&AES_256, AES_256_KEY_LEN, iv),
        _ => return Err(Closed::Scheme),
    };
    let key = derived(parameters, password, length)?;
    let mut text = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    let closed = |_| Closed::Password;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(closed)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(closed)?;
    let context = DecryptionContext::Iv128(FixedLength::from(&iv));
    let length = key.decrypt(&mut text, context).map_err(closed)?.len();
    text.truncate(length);
    Ok(text)
}

fn derived(
    parameters: &Parameters,
    password: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let kdf = parameters.kdf.pbkdf2().ok_or(Closed::Scheme)?;
    let algorithm = match kdf.prf {
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(Closed::Scheme),
    };
    let rounds = NonZeroU32::new(kdf.iteration_count).filter(|n| ITERATIONS.contains(&n.get()));
    let rounds = rounds.ok_or(Closed::Scheme)?;
    if kdf.salt.as_bytes().len() < SALT_BYTES_MIN {
        return Err(Closed::Scheme);
    }
    if kdf.key_length.is_some_and(|said| usize::from(said) != length) {
        return Err(Closed::Structure);
    }
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(algorithm, rounds, kdf.salt.as_bytes(), password, &mut key);
    Ok(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use moat_sm::pem;

    use super::*;

    /// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256` of OpenSSL 3.0.
    pub(crate) const WITH_AES_256: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiQ+ZQ/9EacBQICCAAw\n\
        DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAl2oPYatIYDRhdrRB5wh2QEgZC5\n\
        0R6FWq4XWBfM4JZV0inLf1d+rSswblzzBGp1qrYLzLdPoJlO4XGUmgo1xS1aq0mq\n\
        5iYVhOaq+jp0WQaAG+vNx/R3vQqHg82+p5ISTK/FKKeR+Q3apzZvNww1oTvNx4D1\n\
        agoT3gSeYn/+2GoXqnw5An4mcvR8xKjTWofn5szt/2WMDj3QLKadaljG5a4Ct38=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";
    /// `openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA512` of the same key.
    const WITH_AES_128: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjXd8HjohSWHQICCAAw\n\
        DAYIKoZIhvcNAgsFADAdBglghkgBZQMEAQIEECPXKv6X6SOIQnXwyW/8OowEgZBj\n\
        1iodnBXGYo+3EaIj4kHXfSF0asbHe5qkbC8xcdgG83Sr8qYe6Kt4HodL3nPFof8i\n\
        txf6Vxb0Ph9K2W9PAv2eBgtYo14593mD2wCEGgzz7CcxBGB+/TGlXziOhk/AbiWL\n\
        WcQSoWdyqs4mc2OEiRNqtKrakeJxiIB8UQAeVFuUIPvwJllJcbUKzJwMJhchyZA=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";

    /// `openssl req -new` with that key.
    pub(crate) const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIHLMHQCAQAwEjEQMA4GA1UEAwwHZ2F0ZXdheTBZMBMGByqGSM49AgEGCCqGSM49\n\
        AwEHA0IABDuBqp+kewHb+R+iN74oE1f4WeS6pEPzeDWUUYucI9E9We67mQJOG5ic\n\
        9D0bzMGZJ5UEsDDhPAHwqJ6d+/aJutWgADAKBggqhkjOPQQDAgNHADBEAiBUXSVV\n\
        O+ZUZ1E0IOhSz2xjyY5GgKQwKXeoG/IMdUWUoQIgYgQRcSMHrq3w3KESKmbdA/RQ\n\
        jkDspiEwWmuA8D0Eof4=\n\
        -----END CERTIFICATE REQUEST-----\n";

    /// `openssl genpkey -algorithm SM2 -aes256` of OpenSSL 3.0.
    pub(crate) const SM2_WITH_AES_256: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgRHSk3rV975QICCAAw\n\
        DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKXVsHp8QPvgRgbCiRVE6SAEgZBs\n\
        TSgE7NrfW6303E7hDITwoalkGYcHOcsPWzAghbYpG71uVAsKLl8MLgyxdrmAYG/Y\n\
        43Oanfen6c/O1YCleUbfdTBh9qpU+BW2AjoLOXX1qtDX76zKAzXOcrO2EffrAK76\n\
        ++KWIwND1C/9jjV0SL3sIPVDUN43wa2jmEjFrWh4QOQnAf2iuF4KisfRGJc6O9k=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";

    /// `openssl req -new -sm3 -sigopt distid:1234567812345678` with that key.
    pub(crate) const SM2_REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIHLMHQCAQAwEjEQMA4GA1UEAwwHZ2F0ZXdheTBZMBMGByqGSM49AgEGCCqBHM9V\n\
        AYItA0IABCADfA1J99JpvRY1bwnDRUGMeZXOE6Grt06qn9yfP5rYCVFkbdfRNjLZ\n\
        qD9hmHkwR1Sod7rsQJcBndrQhK2q6fKgADAKBggqgRzPVQGDdQNHADBEAiAfNjGV\n\
        9D2hMSCgEsH4zH9Isz+wTgqSsCGpDPm57nGkfgIgBp/35H2sP+eztSlLKs/Gappe\n\
        UIdp+LvCn+Aazh3Lf6U=\n\
        -----END CERTIFICATE REQUEST-----\n";

    fn der(text: &str) -> Vec<u8> {
        pem::decode(pem::ENCRYPTED_PRIVATE_KEY, text).unwrap().to_vec()
    }

    #[test]
    fn what_openssl_encrypted_opens_with_its_password_only() {
        let keys = [WITH_AES_256, WITH_AES_128].map(|text| open(&der(text), b"secret").unwrap());
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0].first(), Some(&0x30));
        for password in [&b""[..], b"Secret", b"secret\n"] {
            let opened = open(&der(WITH_AES_256), password);
            // One in 256 wrong keys leaves a padding that looks right; what is inside is no key
            // then.
            assert!(opened.is_err() || opened != open(&der(WITH_AES_256), b"secret"));
        }
    }

    #[test]
    fn what_was_cut_or_changed_is_no_key() {
        let whole = der(WITH_AES_256);
        let key = open(&whole, b"secret").unwrap();
        for length in 0..whole.len() {
            assert_eq!(open(&whole[..length], b"secret"), Err(Closed::Structure), "{length}");
        }
        // Not of the number of rounds: that would only be slow.
        for at in (0..whole.len()).filter(|at| !(43..47).contains(at)) {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            assert!(open(&changed, b"secret").as_ref() != Ok(&key), "{at}");
        }
        let longer = [&whole, &[0][..]].concat();
        assert_eq!(open(&longer, b"secret"), Err(Closed::Structure));
    }

    /// `WITH_AES_256` with another number of rounds, in so many bytes; the lengths around it grow
    /// or shrink with it.
    fn with_rounds(number: &[u8]) -> Vec<u8> {
        let mut changed = der(WITH_AES_256);
        let at = changed.windows(4).position(|bytes| bytes == [2, 2, 8, 0]).unwrap();
        let length = u8::try_from(number.len()).unwrap();
        changed.splice(at + 1..at + 4, [&[length], number].concat());
        for at in [2, 4, 17, 19, 32] {
            changed[at] = (changed[at] + length) - 2;
        }
        changed
    }

    #[test]
    fn the_rounds_have_bounds() {
        for number in [&[0][..], &[1], &[0x03, 0xe7], &[0x1e, 0x84, 0x81], &[0x05, 0xf5, 0xe1, 0]] {
            assert_eq!(open(&with_rounds(number), b"secret"), Err(Closed::Scheme), "{number:?}");
        }
        // 1,000, and the 2,048 it was made with.
        let few = open(&with_rounds(&[0x03, 0xe8]), b"secret");
        assert!(few != Err(Closed::Scheme) && few != Err(Closed::Structure));
        assert!(open(&with_rounds(&[8, 0]), b"secret").is_ok());
    }

    #[test]
    fn the_salt_has_a_least_length() {
        let mut short = der(WITH_AES_256);
        let at = short.windows(2).position(|bytes| bytes == [4, 8]).unwrap();
        short[at + 1] = 7;
        short.remove(at + 2);
        for length in [2, 4, 17, 19, 32] {
            short[length] -= 1;
        }
        assert_eq!(open(&short, b"secret"), Err(Closed::Scheme));
    }
}
