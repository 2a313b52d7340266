//! The SPIFFE Workload API: identities with their keys, and whom to believe, as a stream.
//!
//! Field numbers are those of the SPIFFE Workload API's published protocol.

use std::collections::HashMap;

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::Malformed;

/// Path of the call that gives identities.
pub const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// Path of the call that gives bundles alone.
pub const FETCH_X509_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";
/// Every call must have this header, so that no browser or proxy can be made to ask.
pub const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
/// Most certificates in a chain or bundle.
const CERTIFICATES_MAX: usize = 64;

/// One identity. No `Debug`: it holds a private key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Svid {
    /// SPIFFE id.
    pub spiffe_id: String,
    /// Chain, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Key, PKCS#8 DER.
    pub key: Vec<u8>,
    /// Authorities of its trust domain, DER.
    pub bundle: Vec<Vec<u8>>,
}

/// The `X509SVIDResponse` with these identities.
#[must_use]
pub fn encode_svids(svids: &[Svid]) -> Vec<u8> {
    let one = |svid: &Svid| wire::X509Svid {
        spiffe_id: svid.spiffe_id.clone(),
        x509_svid: svid.chain.concat(),
        x509_svid_key: svid.key.clone(),
        bundle: svid.bundle.concat(),
    };
    wire::X509SvidResponse { svids: svids.iter().map(one).collect() }.encode_to_vec()
}

/// The identities of an `X509SVIDResponse`; the first is the default one.
///
/// # Errors
/// [`Malformed`]: no such message, without an identity, or one that lacks chain, key or bundle.
pub fn decode_svids(bytes: &[u8]) -> Result<Vec<Svid>, Malformed> {
    let response = wire::X509SvidResponse::decode(bytes)
        .map_err(|_| Malformed("this is no X509SVIDResponse"))?;
    if response.svids.is_empty() {
        return Err(Malformed("no identity"));
    }
    let one = |svid: wire::X509Svid| {
        let (chain, bundle) = (split(&svid.x509_svid)?, split(&svid.bundle)?);
        if chain.is_empty() || bundle.is_empty() || svid.x509_svid_key.is_empty() {
            return Err(Malformed("an identity without chain, key or bundle"));
        }
        Ok(Svid { spiffe_id: svid.spiffe_id, chain, key: svid.x509_svid_key, bundle })
    };
    response.svids.into_iter().map(one).collect()
}

/// The `X509BundlesResponse` with the authorities of trust domains.
#[must_use]
pub fn encode_bundles(bundles: &[(String, Vec<Vec<u8>>)]) -> Vec<u8> {
    let bundles = bundles.iter().map(|(domain, list)| (domain.clone(), list.concat()));
    wire::X509BundlesResponse { bundles: bundles.collect() }.encode_to_vec()
}

/// Certificates that follow each other without anything between them: each is a SEQUENCE with its
/// length (X.690 §8.1.3).
fn split(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let length = sequence_length(bytes).ok_or(Malformed("not a list of certificates"))?;
        let (one, rest) =
            bytes.split_at_checked(length).ok_or(Malformed("a certificate that is cut off"))?;
        if list.len() >= CERTIFICATES_MAX {
            return Err(Malformed("too many certificates"));
        }
        list.push(one.to_vec());
        bytes = rest;
    }
    Ok(list)
}

/// Length of a SEQUENCE with its head.
fn sequence_length(bytes: &[u8]) -> Option<usize> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *tag != 0x30 {
        return None;
    }
    if *first < 0x80 {
        return Some(2 + usize::from(*first));
    }
    let count = usize::from(*first & 0x7f);
    // A certificate has fewer than 16 MiB, and more than 127 bytes if its length has a byte of its own.
    if !(1..=3).contains(&count) {
        return None;
    }
    let digits = rest.get(..count)?;
    let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    Some(2 + count + length)
}

mod wire {
    use super::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct X509SvidResponse {
        #[prost(message, repeated, tag = "1")]
        pub(super) svids: Vec<X509Svid>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(skip_debug)]
    pub(super) struct X509Svid {
        #[prost(string, tag = "1")]
        pub(super) spiffe_id: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) x509_svid: Vec<u8>,
        #[prost(bytes = "vec", tag = "3")]
        pub(super) x509_svid_key: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) bundle: Vec<u8>,
    }

    impl core::fmt::Debug for X509Svid {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("X509Svid")
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct X509BundlesResponse {
        #[prost(map = "string, bytes", tag = "2")]
        pub(super) bundles: HashMap<String, Vec<u8>>,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(length: usize) -> Vec<u8> {
        let mut bytes = vec![0x30];
        let [.., high, low] = length.to_be_bytes();
        match length {
            0..128 => bytes.push(low),
            128..256 => bytes.extend([0x81, low]),
            _ => bytes.extend([0x82, high, low]),
        }
        bytes.extend(std::iter::repeat_n(7, length));
        bytes
    }

    fn svid() -> Svid {
        Svid {
            spiffe_id: "spiffe://bank.test/gateway".to_owned(),
            chain: vec![certificate(500), certificate(130)],
            key: vec![1, 2, 3],
            bundle: vec![certificate(3)],
        }
    }

    #[test]
    fn identities_come_as_they_were_given() {
        let given = [svid(), svid()];
        assert!(decode_svids(&encode_svids(&given)).is_ok_and(|read| read == given));
    }

    #[test]
    fn an_identity_that_lacks_something_is_refused() {
        let lacking = [
            Svid { chain: Vec::new(), ..svid() },
            Svid { key: Vec::new(), ..svid() },
            Svid { bundle: Vec::new(), ..svid() },
            Svid { chain: vec![vec![0x30, 0x80]], ..svid() },
            Svid { chain: vec![vec![0x31, 0]], ..svid() },
            Svid { bundle: vec![certificate(1); CERTIFICATES_MAX + 1], ..svid() },
        ];
        for svid in lacking {
            assert!(decode_svids(&encode_svids(&[svid])).is_err());
        }
        assert!(decode_svids(&encode_svids(&[])).is_err());
    }

    #[test]
    fn no_truncation_is_an_identity() {
        let whole = encode_svids(&[svid()]);
        assert!((0..whole.len()).all(|cut| decode_svids(&whole[..cut]).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_svids(&bytes);
            if let Ok(list) = split(&bytes) {
                prop_assert_eq!(list.concat(), bytes);
            }
        }
    }
}
