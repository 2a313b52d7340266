//! Fields of a certificate by their place.

use proptest::prelude::*;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::World;
use crate::der::{algorithm, issuer};

fn certificates() -> Vec<Vec<u8>> {
    let w = World::new();
    let chains = w.teller.iter().flat_map(|identity| {
        CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
            .map(|der| der.unwrap().to_vec())
            .collect::<Vec<_>>()
    });
    chains.collect()
}

#[test]
fn both_fields_are_those_of_another_reader() {
    for der in certificates() {
        let (_, other) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(issuer(&der), Some(other.issuer().as_raw()));
        let oid = other.signature_algorithm.algorithm.as_bytes();
        let begin = [&[6, u8::try_from(oid.len()).unwrap()], oid].concat();
        assert!(algorithm(&der).unwrap().starts_with(&begin));
    }
}

#[test]
fn a_cut_certificate_has_neither() {
    for der in certificates() {
        for length in 0..der.len() {
            assert_eq!((issuer(&der[..length]), algorithm(&der[..length])), (None, None));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(der in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (issuer(&der), algorithm(&der));
    }

    #[test]
    fn a_changed_byte_gives_part_of_the_same_certificate_or_nothing(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        static DER: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| certificates().swap_remove(0));
        let mut der = DER.clone();
        let at = at.index(der.len());
        der[at] = byte;
        let inside = |part: &[u8]| {
            let ours = der.as_ptr_range();
            let range = part.as_ptr_range();
            ours.start <= range.start && range.end <= ours.end
        };
        prop_assert!(issuer(&der).is_none_or(inside));
        prop_assert!(algorithm(&der).is_none_or(inside));
    }
}
