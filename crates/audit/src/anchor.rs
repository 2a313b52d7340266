//! Anchors: keyed hashes of values, bound to tenant, field and object.
//!
//! Balances and card numbers can be guessed, so a bare hash of one is as good as the number (PCI
//! DSS v4.0.1, 3.5.1.1). Equal values give equal anchors only within one tenant, field and object:
//! across objects they cannot be linked.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use crate::canonical::Canonical;
use crate::hash::{Hash, sha256_parts};
use crate::value::{Anchor, AnchorAlg, is_key_id};

/// The index key of a field: `SHA-256("moat/field/v1" ‖ len ‖ table ‖ len ‖ field ‖ version)`.
///
/// No secret. `table` is `schema.table` or the name of a route's document; lengths and the version
/// are 32 bits wide, big-endian, and keep the parts apart.
#[must_use]
pub fn field_id(table: &str, field: &str, schema_version: u32) -> Hash {
    sha256_parts(&[
        b"moat/field/v1",
        &len(table),
        table.as_bytes(),
        &len(field),
        field.as_bytes(),
        &schema_version.to_be_bytes(),
    ])
}

/// No name comes near 4 GiB; if one did, it would only lose its distinctness, not its bound.
fn len(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The key of the anchors. Wiped when dropped; has no `Debug`, so that it reaches no log.
pub struct AnchorKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
    /// HKDF-Extract of the key, computed once. Wipes itself, by the feature `zeroize` of hmac and
    /// sha2.
    hkdf: Hkdf<Sha256>,
}

impl AnchorKey {
    /// A key; `None` when `id` is no key id.
    #[must_use]
    pub fn new(id: &str, key: Zeroizing<[u8; 32]>) -> Option<AnchorKey> {
        if !is_key_id(id) {
            return None;
        }
        let hkdf = Hkdf::<Sha256>::new(None, key.as_slice());
        Some(AnchorKey { id: id.to_owned(), key, hkdf })
    }

    /// The id that stands in every anchor.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself, for the link to the recorder and for the key file.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.key
    }

    /// The anchor of a value.
    #[must_use]
    pub fn anchor(&self, tenant: &str, object: &str, field_id: &Hash, value: &Canonical) -> Anchor {
        let key = self.derive(tenant, object, field_id);
        Anchor::with_checked_id(AnchorAlg::HmacSha256, &self.id, mac(&key, value.as_bytes()))
    }

    /// `HKDF-Expand(prk, "moat/anchor/v1" ‖ len ‖ tenant ‖ field_id ‖ len ‖ object)`.
    fn derive(&self, tenant: &str, object: &str, field_id: &Hash) -> Zeroizing<Hash> {
        let mut key = Zeroizing::new([0; 32]);
        let (tenant_len, object_len) = (len(tenant), len(object));
        let info: [&[u8]; 6] = [
            b"moat/anchor/v1",
            &tenant_len,
            tenant.as_bytes(),
            field_id,
            &object_len,
            object.as_bytes(),
        ];
        // Cannot fail: the output has the length of the hash.
        let _: Result<(), _> = self.hkdf.expand_multi_info(&info, key.as_mut_slice());
        key
    }
}

fn mac(key: &Hash, bytes: &[u8]) -> Hash {
    // HMAC pads a short key with zeros to a block (RFC 2104 §2); done here, no length can be wrong.
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> AnchorKey {
        AnchorKey::new("k1", Zeroizing::new([byte; 32])).unwrap()
    }

    #[test]
    fn field_ids_keep_their_parts_apart() {
        let ids = [
            field_id("a.b", "c", 1),
            field_id("a.bc", "", 1),
            field_id("a.", "bc", 1),
            field_id("a.b", "c", 2),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(id));
        }
        assert_eq!(
            crate::hash::hex(&field_id("bank.accounts", "balance", 1)),
            "b6e749cc8530e3705f167c9f3a777650e04c0c8219982210e29258913c783e09"
        );
    }

    #[test]
    fn an_anchor_depends_on_each_of_its_inputs_and_on_nothing_else() {
        let id = field_id("accounts", "balance", 1);
        let other = field_id("accounts", "owner", 1);
        let value = || Canonical::from_json("12.50").unwrap();
        let base = key(1).anchor("bank", "account/1", &id, &value());
        assert_eq!(
            key(1).anchor("bank", "account/1", &id, &Canonical::number("12.5").unwrap()),
            base
        );
        for changed in [
            key(2).anchor("bank", "account/1", &id, &value()),
            key(1).anchor("bunk", "account/1", &id, &value()),
            key(1).anchor("bank", "account/2", &id, &value()),
            key(1).anchor("banka", "ccount/1", &id, &value()),
            key(1).anchor("bank", "account/1", &other, &value()),
            key(1).anchor("bank", "account/1", &id, &Canonical::text("12.5")),
        ] {
            assert_ne!(changed.mac(), base.mac());
        }
    }

    #[test]
    fn the_derivation_is_hkdf_then_hmac() {
        let id = [9; 32];
        let info =
            [b"moat/anchor/v1".as_slice(), &[0, 0, 0, 1], b"t", &id, &[0, 0, 0, 1], b"o"].concat();
        let mut derived = [0; 32];
        Hkdf::<Sha256>::new(None, &[5; 32]).expand(&info, &mut derived).unwrap();
        let expected = mac(&derived, b"tx");
        assert_eq!(key(5).anchor("t", "o", &id, &Canonical::text("x")).mac(), &expected);
    }
}
