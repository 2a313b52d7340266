//! What can go wrong. No error holds a byte of its input.

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key, nonce, tag or buffer has the wrong length.
    #[error("a key, nonce, tag or buffer has the wrong length")]
    Length,
    /// More bytes than the mode allows under one nonce, or than the function can make.
    #[error("more bytes than the mode allows")]
    TooLong,
    /// The tag does not fit key, nonce, associated data and ciphertext.
    #[error("the message is not authentic")]
    Tag,
    /// The padding of a CBC message is wrong. Show it to nobody before a MAC was checked.
    #[error("the padding is wrong")]
    Padding,
    /// Not the uncompressed encoding of a point of the curve other than infinity.
    #[error("not a point of the curve")]
    Point,
    /// A private key outside 1 to n-2.
    #[error("a private key is out of range")]
    Scalar,
    /// The private key does not belong to the public key beside it.
    #[error("the private and the public key do not belong together")]
    Mismatch,
    /// The signature does not fit key, identity and message, or is not well-formed.
    #[error("the signature is wrong")]
    Signature,
    /// A user identity longer than 8191 bytes: its bit count must fit 16 bits.
    #[error("a user identity is too long")]
    Identity,
    /// Not the one canonical DER form, or more bytes than its bound.
    #[error("not canonical DER of the expected structure")]
    Der,
    /// An algorithm or curve other than the one this crate has.
    #[error("another algorithm or curve than SM2")]
    Algorithm,
    /// Not the expected PEM block.
    #[error("not a PEM block of the expected kind")]
    Pem,
    /// Not decryptable: wrong structure, wrong point or wrong hash, which are not told apart.
    #[error("the ciphertext is wrong")]
    Decrypt,
    /// The entropy given led to no usable number within the bound on tries; take fresh entropy.
    #[error("the entropy led to no usable number")]
    Entropy,
}
