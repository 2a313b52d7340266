//! Signed texts (RFC 7515, compact form): what a token and the signature of a policy bundle have in
//! common.

use data_encoding::BASE64URL_NOPAD;

use crate::json::Json;
use crate::key::{Algorithm, NamedKey};

/// Longest signed text, in bytes: the list of files of a large bundle.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a signed text proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJws {
    /// It cannot be read.
    Malformed,
    /// No key has its id.
    UnknownKey,
    /// Its algorithm is not that of the key, or the signature is wrong.
    Signature,
}

/// The payload of a signed text, and how the key signs that verified it.
///
/// # Errors
/// [`BadJws`].
pub fn verify(compact: &str, keys: &[NamedKey]) -> Result<(Vec<u8>, Algorithm), BadJws> {
    if compact.len() > BYTES_MAX {
        return Err(BadJws::Malformed);
    }
    let (signed, signature) = compact.rsplit_once('.').ok_or(BadJws::Malformed)?;
    let (head, payload) = signed.split_once('.').ok_or(BadJws::Malformed)?;
    let decode =
        |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| BadJws::Malformed);
    let head = Json::object(&decode(head)?).ok_or(BadJws::Malformed)?;
    // A head of two members: whatever else it said would have to be understood.
    if head.len() != 2 {
        return Err(BadJws::Malformed);
    }
    let text = |name: &str| head.get(name).and_then(Json::text).ok_or(BadJws::Malformed);
    let (algorithm, id) = (text("alg")?, text("kid")?);
    let key = &keys.iter().find(|key| key.id == id).ok_or(BadJws::UnknownKey)?.key;
    let is_good =
        algorithm == key.algorithm().jws() && key.verifies(signed.as_bytes(), &decode(signature)?);
    if !is_good {
        return Err(BadJws::Signature);
    }
    Ok((decode(payload)?, key.algorithm()))
}

/// What is signed, and what stands before the signature in the compact form.
#[must_use]
pub fn to_sign(algorithm: Algorithm, key_id: &str, payload: &[u8]) -> String {
    let head = serde_json::json!({ "alg": algorithm.jws(), "kid": key_id }).to_string();
    let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    format!("{}.{}", part(head.as_bytes()), part(payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Signer;
    use crate::read_keys;

    #[test]
    fn what_was_signed_comes_back_and_nothing_else_verifies() {
        for signer in Signer::all() {
            let keys = format!(r#"{{"keys":[{}]}}"#, signer.jwk("k", ""));
            let keys = read_keys(keys.as_bytes()).unwrap();
            let algorithm = signer.key().algorithm();
            let signed = to_sign(algorithm, "k", b"payload");
            let compact =
                format!("{signed}.{}", BASE64URL_NOPAD.encode(&signer.sign(signed.as_bytes())));
            assert_eq!(verify(&compact, &keys), Ok((b"payload".to_vec(), algorithm)));
            let stranger = Signer::all().remove(2);
            let other = format!(r#"{{"keys":[{}]}}"#, stranger.jwk("k", ""));
            assert!(verify(&compact, &read_keys(other.as_bytes()).unwrap()).is_err());
            assert_eq!(verify(&compact, &[]), Err(BadJws::UnknownKey));
            for at in 0..compact.len() {
                assert!(verify(compact.get(..at).unwrap(), &keys).is_err(), "cut at {at}");
                let mut bytes = compact.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                assert!(verify(&String::from_utf8(bytes).unwrap(), &keys).is_err(), "byte {at}");
            }
        }
    }
}
