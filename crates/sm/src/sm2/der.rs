//! DER (X.690) of signatures, keys and ciphertexts: exactly one form of each is taken, but four of
//! a private key: its SEC 1 structure, alone or inside PKCS #8, comes with or without the curve and
//! with or without the public key.
//!
//! Readers are bounded and look at each byte once; what was written with a length of more bytes
//! than needed, a superfluous zero, a curve by parameters or a compressed point is refused.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::curve::POINT_BYTES;
use super::key::{PublicKey, SECRET_BYTES, SecretKey};
use super::sign::Signature;
use crate::error::Error;

mod encrypted;
mod reader;
pub use encrypted::{ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, decrypt_pkcs8, encrypt_pkcs8};
use reader::Reader;

/// Longest DER that is looked at, in bytes.
pub const DER_BYTES_MAX: usize = 1 << 21;
/// Longest DER of a signature, in bytes.
pub const SIGNATURE_DER_BYTES_MAX: usize = 72;
/// Bytes of a SubjectPublicKeyInfo.
pub const SPKI_BYTES: usize = 91;
/// Bytes of a private key as PKCS #8, as we write it: with its public key.
pub const PKCS8_BYTES: usize = 138;
/// Bytes of a private key as SEC 1, as we write it: with its curve and public key.
pub const SEC1_BYTES: usize = 121;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `[0]` and `[1]`, explicit.
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

/// id-ecPublicKey 1.2.840.10045.2.1 with curve 1.2.156.10197.1.301, as the sequence's content.
const ALGORITHM: [u8; 19] = [
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, //
    0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d,
];
/// The curve alone.
const CURVE: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d];

/// The DER of a signature, without a heap.
#[derive(Clone, Copy, Debug)]
pub struct SignatureDer {
    bytes: [u8; SIGNATURE_DER_BYTES_MAX],
    len: usize,
}

impl AsRef<[u8]> for SignatureDer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Signature {
    /// GB/T 35276 §7.3: SEQUENCE of r and s, each a positive INTEGER of at most 256 bits.
    ///
    /// # Errors
    ///
    /// [`Error::Der`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(der, SIGNATURE_DER_BYTES_MAX)?;
        let mut sequence = reader.nested(SEQUENCE)?;
        let signature = Self { r: sequence.integer()?, s: sequence.integer()? };
        sequence.end()?;
        reader.end()?;
        Ok(signature)
    }

    /// The same structure.
    pub fn to_der(&self) -> SignatureDer {
        let (r, s) = (Integer::new(&self.r), Integer::new(&self.s));
        let content = 4 + r.len() + s.len();
        let head = |tag, len: usize| [tag, len.to_le_bytes()[0]];
        let heads = [head(SEQUENCE, content), head(INTEGER, r.len()), head(INTEGER, s.len())];
        let [sequence, first, second] = heads;
        let bytes =
            sequence.into_iter().chain(first).chain(r.bytes()).chain(second).chain(s.bytes());
        let mut der = SignatureDer { bytes: [0; SIGNATURE_DER_BYTES_MAX], len: 2 + content };
        der.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        der
    }
}

/// A positive integer as DER wants it: no superfluous zero, but one where the first bit is set.
struct Integer<'a> {
    zero: bool,
    rest: &'a [u8],
}

impl<'a> Integer<'a> {
    fn new(bytes: &'a [u8; 32]) -> Self {
        let skip = bytes.iter().take_while(|byte| **byte == 0).count().min(31);
        let rest = bytes.get(skip..).unwrap_or_default();
        Self { zero: rest.first().is_some_and(|byte| *byte >= 0x80), rest }
    }

    fn len(&self) -> usize {
        usize::from(self.zero) + self.rest.len()
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.zero.then_some(0).into_iter().chain(self.rest.iter().copied())
    }
}

impl PublicKey {
    /// From a SubjectPublicKeyInfo: RFC 5480 §2 with the curve of GB/T 33560.
    ///
    /// # Errors
    ///
    /// [`Error::Der`]; [`Error::Algorithm`] for another key; [`Error::Point`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(der, DER_BYTES_MAX)?;
        let mut sequence = reader.nested(SEQUENCE)?;
        check_algorithm(&mut sequence)?;
        let key = sequence.bit_string()?;
        sequence.end()?;
        reader.end()?;
        Self::from_bytes(key)
    }

    /// The same structure.
    pub fn to_spki_der(&self) -> [u8; SPKI_BYTES] {
        let parts: [&[u8]; 5] =
            [&[SEQUENCE, 89, SEQUENCE, 19], &ALGORITHM, &[BIT_STRING, 66], &[0], self.as_bytes()];
        joined(&parts)
    }
}

impl SecretKey {
    /// From an unencrypted PKCS #8 file (RFC 5208) with a SEC 1 key in it. A public key in it must
    /// be the right one.
    ///
    /// # Errors
    ///
    /// [`Error::Der`]; [`Error::Algorithm`] for another key; [`Error::Scalar`]; [`Error::Point`];
    /// [`Error::Mismatch`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(der, DER_BYTES_MAX)?;
        let mut sequence = reader.nested(SEQUENCE)?;
        if sequence.value(INTEGER)? != [0] {
            return Err(Error::Der);
        }
        check_algorithm(&mut sequence)?;
        let key = sequence.value(OCTET_STRING)?;
        sequence.end()?;
        reader.end()?;
        Self::from_sec1_der(key)
    }

    /// From a SEC 1 key (RFC 5915). Its curve and public key may be left out; those that are there
    /// must be right.
    ///
    /// # Errors
    ///
    /// As [`SecretKey::from_pkcs8_der`].
    pub fn from_sec1_der(der: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(der, DER_BYTES_MAX)?;
        let mut sequence = reader.nested(SEQUENCE)?;
        if sequence.value(INTEGER)? != [1] {
            return Err(Error::Der);
        }
        let secret: &[u8; SECRET_BYTES] =
            sequence.value(OCTET_STRING)?.try_into().map_err(|_| Error::Der)?;
        if let Some(curve) = sequence.optional(PARAMETERS)?
            && curve != CURVE
        {
            return Err(Error::Algorithm);
        }
        let public = sequence.optional_nested(PUBLIC_KEY)?;
        sequence.end()?;
        reader.end()?;
        let public = public.map(|mut reader| {
            let key = reader.bit_string()?;
            reader.end()?;
            PublicKey::from_bytes(key)
        });
        let public = public.transpose()?;
        let secret = Self::from_bytes(secret)?;
        public.map_or(Ok(()), |public| secret.check(&public))?;
        Ok(secret)
    }

    /// As PKCS #8.
    pub fn to_pkcs8_der(&self) -> Zeroizing<[u8; PKCS8_BYTES]> {
        let secret = self.to_bytes();
        let parts: [&[u8]; 8] = [
            &[SEQUENCE, 0x81, 135, INTEGER, 1, 0, SEQUENCE, 19],
            &ALGORITHM,
            &[OCTET_STRING, 109, SEQUENCE, 107, INTEGER, 1, 1, OCTET_STRING, 32],
            &*secret,
            &[PUBLIC_KEY, 68],
            &[BIT_STRING, 66],
            &[0],
            self.public().as_bytes(),
        ];
        Zeroizing::new(joined(&parts))
    }

    /// As SEC 1.
    pub fn to_sec1_der(&self) -> Zeroizing<[u8; SEC1_BYTES]> {
        let secret = self.to_bytes();
        let parts: [&[u8]; 8] = [
            &[SEQUENCE, 119, INTEGER, 1, 1, OCTET_STRING, 32],
            &*secret,
            &[PARAMETERS, 10],
            &CURVE,
            &[PUBLIC_KEY, 68],
            &[BIT_STRING, 66],
            &[0],
            self.public().as_bytes(),
        ];
        Zeroizing::new(joined(&parts))
    }
}

/// AlgorithmIdentifier: a key on our curve.
fn check_algorithm(reader: &mut Reader<'_>) -> Result<(), Error> {
    if reader.value(SEQUENCE)? == ALGORITHM { Ok(()) } else { Err(Error::Algorithm) }
}

fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    debug_assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), N);
    let from = parts.iter().flat_map(|part| part.iter());
    bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    bytes
}

/// A ciphertext C1 C3 C2 as GB/T 35276 §7.2 writes it: SEQUENCE of x, y, hash, text.
///
/// # Errors
///
/// [`Error::Decrypt`] if it is too short to be one.
pub fn ciphertext_to_der(cipher: &[u8]) -> Result<Vec<u8>, Error> {
    let (point, rest) = cipher.split_first_chunk::<POINT_BYTES>().ok_or(Error::Decrypt)?;
    let (hash, text) = rest.split_first_chunk::<32>().ok_or(Error::Decrypt)?;
    let [4, xy @ ..] = point else { return Err(Error::Decrypt) };
    let mut content = Vec::with_capacity(rest.len() + 80);
    for half in xy.as_chunks::<32>().0 {
        let integer = Integer::new(half);
        head(&mut content, INTEGER, integer.len());
        content.extend(integer.bytes());
    }
    head(&mut content, OCTET_STRING, hash.len());
    content.extend_from_slice(hash);
    head(&mut content, OCTET_STRING, text.len());
    content.extend_from_slice(text);
    let mut der = Vec::with_capacity(content.len() + 6);
    head(&mut der, SEQUENCE, content.len());
    der.extend_from_slice(&content);
    Ok(der)
}

/// The way back. The point is checked when the ciphertext is decrypted.
///
/// # Errors
///
/// [`Error::Der`].
pub fn ciphertext_from_der(der: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new(der, DER_BYTES_MAX)?;
    let mut sequence = reader.nested(SEQUENCE)?;
    let (x, y) = (sequence.integer()?, sequence.integer()?);
    let hash: &[u8; 32] = sequence.value(OCTET_STRING)?.try_into().map_err(|_| Error::Der)?;
    let text = sequence.value(OCTET_STRING)?;
    sequence.end()?;
    reader.end()?;
    let parts: [&[u8]; 5] = [&[4], &x, &y, hash, text];
    Ok(parts.concat())
}

/// Tag and length.
fn head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    let bytes = len.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let used = bytes.get(skip..).unwrap_or_default();
    match (used, used.len().to_le_bytes()[0]) {
        ([], _) => out.push(0),
        ([short @ 0..0x80], _) => out.push(*short),
        (long, count) => {
            out.push(0x80 | count);
            out.extend_from_slice(long);
        }
    }
}

#[cfg(test)]
mod tests;
