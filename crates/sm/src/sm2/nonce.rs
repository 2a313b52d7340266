//! Secret scalars from a seed: HMAC-SM3 of a counter, taken if it is in range.
//!
//! Nothing is reduced, so the scalars are as even as the seed. A try fails once in 2^32.

use zeroize::{Zeroize, Zeroizing};

use super::scalar::Scalar;
use crate::error::Error;
use crate::hmac::HmacSm3Key;

/// Tries before the entropy is refused; with 2^-32 each, never.
const TRIES_MAX: u8 = 8;

/// The first scalar from 1 to n - 1 that `take` takes.
pub(super) fn first<T>(
    seed: &HmacSm3Key,
    mut take: impl FnMut(&Scalar) -> Option<T>,
) -> Result<T, Error> {
    for counter in 0..TRIES_MAX {
        let mut bytes = seed.sign(&[&[counter]]);
        let scalar = Scalar::from_bytes_not_zero(&bytes).map(Zeroizing::new);
        bytes.as_mut_slice().zeroize();
        if let Some(taken) = scalar.and_then(|scalar| take(&scalar)) {
            return Ok(taken);
        }
    }
    Err(Error::Entropy)
}

/// A seed from parts under a key.
pub(super) fn seed(key: &HmacSm3Key, parts: &[&[u8]]) -> HmacSm3Key {
    let mut bytes = key.sign(parts);
    let seed = HmacSm3Key::new(&bytes);
    bytes.as_mut_slice().zeroize();
    seed
}
