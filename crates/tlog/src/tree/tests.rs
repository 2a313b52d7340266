use super::*;
use crate::growth::Edge;
use crate::hash::Sha256;
use crate::proof::{
    CONSISTENCY_HASHES_MAX, INCLUSION_HASHES_MAX, ProofError, verify_consistency, verify_inclusion,
};
use crate::reference::Reference;

/// Sizes of which every proof is made and compared with the definition.
const SIZES_MAX: u32 = 300;

type Store = BTreeMap<Tile, Vec<u8>>;

/// The tiles of every size up to `sizes_max`.
fn store(reference: &Reference, sizes_max: u32) -> Store {
    let mut edge = Edge::<Sha256>::new();
    let mut store = Store::new();
    for n in 0..sizes_max as usize {
        let mut full = Vec::new();
        edge.push(reference.leaf(n), &mut full).unwrap();
        store.extend(full);
        store.extend(edge.partial());
    }
    store
}

fn tree(store: &Store, size: u64) -> Tree<Sha256, impl FnMut(Tile) -> Result<Vec<u8>, ()>> {
    Tree::new(size, |tile: Tile| store.get(&tile).cloned().ok_or(())).unwrap()
}

#[test]
fn every_inclusion_proof_to_size_300_is_that_of_the_definition() {
    let reference = Reference::new(SIZES_MAX);
    let store = store(&reference, SIZES_MAX);
    for size in 0..=SIZES_MAX as usize {
        let mut tree = tree(&store, size as u64);
        let root = reference.mth(0, size);
        assert_eq!(tree.root(), Ok(root), "{size}");
        for index in 0..size {
            let proof = tree.inclusion(index as u64).unwrap();
            assert_eq!(proof, reference.path(index, 0, size), "{index} of {size}");
            let leaf = reference.leaf(index);
            assert_eq!(tree.leaf(index as u64), Ok(leaf));
            let (index, size) = (index as u64, size as u64);
            assert_eq!(verify_inclusion::<Sha256>(&leaf, index, size, &proof, &root), Ok(()));
        }
        assert_eq!(tree.inclusion(size as u64), Err(ReadError::Size));
        assert_eq!(tree.leaf(size as u64), Err(ReadError::Size));
    }
}

#[test]
fn every_consistency_proof_to_size_300_is_that_of_the_definition() {
    let reference = Reference::new(SIZES_MAX);
    let store = store(&reference, SIZES_MAX);
    for size in 0..=SIZES_MAX as usize {
        let mut tree = tree(&store, size as u64);
        let new = tree.head().unwrap();
        for old in 0..=size {
            let proof = tree.consistency(old as u64).unwrap();
            if old > 0 {
                assert_eq!(proof, reference.subproof(old, 0, size, true), "{old} to {size}");
            }
            let old = Head { size: old as u64, root: reference.mth(0, old) };
            assert_eq!(verify_consistency::<Sha256>(&old, &new, &proof), Ok(()), "{old:?}");
        }
        assert_eq!(tree.consistency(size as u64 + 1), Err(ReadError::Size));
    }
}

#[test]
fn no_inclusion_proof_holds_for_another_index_size_leaf_or_root() {
    let reference = Reference::new(40);
    for size in 1..=40_usize {
        let root = reference.mth(0, size);
        for index in 0..size {
            let proof = reference.path(index, 0, size);
            let leaf = reference.leaf(index);
            let check = |leaf: &Hash, index: usize, size: usize, proof: &[Hash], root: &Hash| {
                verify_inclusion::<Sha256>(leaf, index as u64, size as u64, proof, root).is_ok()
            };
            for other in (0..=size).filter(|other| *other != index) {
                assert!(!check(&leaf, other, size, &proof, &root), "{other} {index} {size}");
            }
            assert!(!check(&[0; 32], index, size, &proof, &root));
            assert!(!check(&leaf, index, size, &proof, &[0; 32]));
            let longer = [proof.as_slice(), &[[0; 32]]].concat();
            assert!(!check(&leaf, index, size, &longer, &root));
            for n in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[n][5] ^= 1;
                assert!(!check(&leaf, index, size, &wrong, &root));
                assert!(!check(&leaf, index, size, &proof[..n], &root));
            }
        }
    }
    let check = verify_inclusion::<Sha256>;
    assert_eq!(check(&[0; 32], 0, 0, &[], &[0; 32]), Err(ProofError::Size));
    let long = [[0; 32]; INCLUSION_HASHES_MAX + 1];
    assert_eq!(check(&[0; 32], 0, SIZE_MAX, &long, &[0; 32]), Err(ProofError::Length));
    assert_eq!(check(&[0; 32], 0, SIZE_MAX, &long[1..], &[0; 32]), Err(ProofError::Root));
    assert_eq!(check(&[0; 32], 0, SIZE_MAX + 1, &long, &[0; 32]), Err(ProofError::Size));
}

#[test]
fn no_consistency_proof_holds_for_other_sizes_or_roots() {
    let reference = Reference::new(40);
    let head = |size: usize| Head { size: size as u64, root: reference.mth(0, size) };
    let holds = |old: &Head, new: &Head, proof: &[Hash]| {
        verify_consistency::<Sha256>(old, new, proof).is_ok()
    };
    for size in 2..=40_usize {
        for old in 1..size {
            let proof = reference.subproof(old, 0, size, true);
            let (first, second) = (head(old), head(size));
            assert!(!holds(&second, &first, &proof));
            for other in (1..=size).filter(|other| *other != old) {
                let lie = Head { size: other as u64, ..first };
                assert!(!holds(&lie, &second, &proof), "{other} {old} {size}");
                assert!(!holds(&head(other), &second, &proof), "{other} {old} {size}");
            }
            assert!(!holds(&Head { root: [0; 32], ..first }, &second, &proof));
            assert!(!holds(&first, &Head { root: [0; 32], ..second }, &proof));
            assert!(!holds(&first, &second, &[proof.as_slice(), &[[0; 32]]].concat()));
            for n in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[n][5] ^= 1;
                assert!(!holds(&first, &second, &wrong));
                assert!(!holds(&first, &second, &proof[..n]));
            }
        }
    }
}

#[test]
fn trees_of_equal_size_or_no_size_need_no_proof_and_take_none() {
    let empty = Head::empty::<Sha256>();
    let one = Head { size: 1, root: [1; 32] };
    let check = verify_consistency::<Sha256>;
    assert_eq!(check(&empty, &empty, &[]), Ok(()));
    assert_eq!(check(&empty, &one, &[]), Ok(()));
    assert_eq!(check(&one, &one, &[]), Ok(()));
    for new in [&empty, &one] {
        assert_eq!(check(new, new, &[[0; 32]]), Err(ProofError::Length));
        assert_eq!(check(&empty, new, &[[0; 32]]), Err(ProofError::Length));
    }
    assert_eq!(check(&Head { size: 1, root: [2; 32] }, &one, &[]), Err(ProofError::Root));
    assert_eq!(check(&Head { size: 0, root: [2; 32] }, &one, &[]), Err(ProofError::OldRoot));
    let large = Head { size: SIZE_MAX, root: [0; 32] };
    let long = [[0; 32]; CONSISTENCY_HASHES_MAX + 1];
    let odd = Head { size: SIZE_MAX - 1, root: [0; 32] };
    assert_eq!(check(&odd, &large, &long), Err(ProofError::Length));
    assert_eq!(check(&odd, &large, &long[1..]), Err(ProofError::OldRoot));
    assert_eq!(check(&odd, &Head { size: u64::MAX, ..large }, &long), Err(ProofError::Size));
}

#[test]
fn proofs_of_the_largest_tree_read_few_tiles() {
    let mut reads = 0;
    let reader = |tile: Tile| {
        reads += 1;
        Ok::<_, ()>(vec![0; 32 * usize::from(tile.width())])
    };
    let mut tree = Tree::<Sha256, _>::new(SIZE_MAX, reader).unwrap();
    assert_eq!(tree.inclusion(SIZE_MAX / 3).unwrap().len(), 63);
    assert_eq!(tree.consistency(SIZE_MAX / 3 + 1).unwrap().len(), 64);
    drop(tree);
    // Eight levels on the way, and none beside it: the edge of this tree is full.
    assert!(reads <= 16, "{reads}");
}

#[test]
fn a_tile_that_is_cut_off_is_named() {
    let mut tree = Tree::<Sha256, _>::new(3, |_: Tile| Ok::<_, ()>(vec![0; 95])).unwrap();
    assert_eq!(tree.inclusion(0), Err(ReadError::Width(Tile::new(0, 0, 3).unwrap())));
    assert!(Tree::<Sha256, _>::new(SIZE_MAX + 1, |_: Tile| Err(())).is_err());
}
