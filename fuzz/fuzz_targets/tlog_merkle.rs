//! Proofs of arbitrary sizes and hashes: no panic, and a proof that holds fails once it is changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::proof::{root_from_inclusion, verify_consistency, verify_inclusion};
use moat_tlog::{HASH_BYTES, Hash, Head, Sha256, TreeHash};

fuzz_target!(|data: &[u8]| {
    let Some((index, rest)) = data.split_first_chunk() else { return };
    let Some((size, rest)) = rest.split_first_chunk() else { return };
    let (index, size) = (u64::from_be_bytes(*index), u64::from_be_bytes(*size));
    let hashes = rest.as_chunks::<HASH_BYTES>().0;
    let Some((leaf, proof)) = hashes.split_first() else { return };
    if let Ok(root) = root_from_inclusion::<Sha256>(leaf, index, size, proof) {
        let check = |leaf: &Hash, index, proof: &[Hash], root: &Hash| {
            verify_inclusion::<Sha256>(leaf, index, size, proof, root).is_ok()
        };
        assert!(check(leaf, index, proof, &root));
        assert!(!check(&Sha256::leaf(leaf), index, proof, &root));
        assert!(!check(leaf, index, &[proof, &[*leaf]].concat(), &root));
        assert!(!check(leaf, size, proof, &root));
    }
    let old = Head { size: index, root: *leaf };
    let Some((root, proof)) = proof.split_first() else { return };
    let new = Head { size, root: *root };
    let check = |old: &Head, new: &Head, proof: &[Hash]| {
        verify_consistency::<Sha256>(old, new, proof).is_ok()
    };
    if check(&old, &new, proof) {
        let other = Sha256::leaf(&new.root);
        assert_eq!(proof.is_empty(), old.size == 0 || old.size == new.size);
        assert!(!check(&Head { root: other, ..old }, &new, proof));
        assert!(old.size == 0 || !check(&old, &Head { root: other, ..new }, proof));
        assert!(!check(&old, &new, &[proof, &[other]].concat()));
    }
});
