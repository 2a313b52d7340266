use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::cosign;
use crate::hash::Sha256;
use crate::key::{Algorithm, KeyName};
use crate::proof::Head;
use crate::reference::Reference;
use crate::sign::{AwsLc, Ed25519Signer, Signer};

const ORIGIN: &str = "pay.bank.test/audit";

fn signer(name: &str, algorithm: Algorithm, seed: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed(KeyName::new(name).unwrap(), algorithm, &[seed; 32]).unwrap()
}

fn log() -> Ed25519Signer {
    signer(ORIGIN, Algorithm::Ed25519, 1)
}

fn witness() -> Ed25519Signer {
    signer("w.test", Algorithm::CosignatureV1, 2)
}

fn policy() -> Policy {
    Policy::k_of_n(&[log().key().clone()], &[witness().key().clone()], 1).unwrap()
}

fn signed(head: Head) -> SignedCheckpoint {
    let checkpoint = Checkpoint::new(ORIGIN, head).unwrap();
    let line = cosign(&checkpoint, &witness(), 1_700_000_000).unwrap();
    checkpoint.sign(&[&log()]).unwrap().with(&[line]).unwrap()
}

fn proof(reference: &Reference, index: usize, size: usize) -> LogProof {
    let head = Head { size: size as u64, root: reference.mth(0, size) };
    LogProof::new(index as u64, reference.path(index, 0, size), signed(head)).unwrap()
}

#[test]
fn a_proof_convinces_offline() {
    let reference = Reference::new(11);
    let policy = policy();
    for index in 0..11 {
        let file = proof(&reference, index, 11).to_string();
        let proof = LogProof::parse(file.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), file);
        let leaf = reference.leaf(index);
        let accepted = proof.verify::<Sha256>(&leaf, &policy, &AwsLc).unwrap();
        assert_eq!(accepted.witnesses, [(witness().key(), 1_700_000_000)]);
        let other = reference.leaf((index + 1) % 11);
        let wrong = proof.verify::<Sha256>(&other, &policy, &AwsLc);
        assert_eq!(wrong, Err(LogProofError::Proof(ProofError::Root)));
    }
}

#[test]
fn the_proof_of_a_public_log_leads_to_its_root() {
    // An entry of the Oak project's Tessera log, published with its path: github.com/project-oak.
    let hashes = [
        "fGRlLyuz+L9Jb8+uTSut/2aVc4z7fKFW+clvsb6xjEM=",
        "F6LautOHD5eppkWC0xn/lz00X5g2yLlZAkl2jCI/wdE=",
        "qH7OJxFNup+TDvJuohd2HphKVngfMeMzUK8QChEDcas=",
        "+Y3g758yXtPCRh/eqhLTA3bdcx+cCV1Uah0JdgB0YEs=",
        "vq8cJSjj8dPVmFBRUqDLlaMqW6aAYR2GKugVhgudXLs=",
        "J0z3X5qTb9WFC1gABhVFx0bW1rVZRL+DAoBL2e2h4G4=",
        "NmSbYg25xNFzTRerIsF3HbEMyTIDqW87AQd9ekzopE8=",
        "L8BZipjURnkctkjJtGJs+YyTXMssvNKA7+a8nV2JT/s=",
        "pva4RFzCejMkVMVmYc93As2lbk7WAyrw58TvrzEOjNc=",
    ];
    let root = "QYfrD7XAd4qUHbRBs4dDyDZwpZN4M/cccXr2G56pxkY=";
    let hashes = hashes.map(|hash| text::decode_hash(hash).unwrap()).to_vec();
    let head = Head { size: 76_959, root: text::decode_hash(root).unwrap() };
    let proof = LogProof::new(76_958, hashes, signed(head)).unwrap();
    let leaf = Sha256::leaf(b"hello tesseroak\n");
    assert!(proof.verify::<Sha256>(&leaf, &policy(), &AwsLc).is_ok());
}

#[test]
fn the_file_is_laid_out_as_in_the_specification() {
    let reference = Reference::new(2);
    let plain = proof(&reference, 1, 2);
    let hash = text::encode(&reference.leaf(0));
    let note = plain.signed().to_string();
    let wanted = format!("c2sp.org/tlog-proof@v1\nindex 1\n{hash}\n\n{note}");
    assert_eq!(plain.to_string(), wanted);
    let with = plain.with_extra(b"age-v1.2.1-darwin-arm64.tar.gz").unwrap();
    let extra = "YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6";
    let wanted = format!("c2sp.org/tlog-proof@v1\nextra {extra}\nindex 1\n{hash}\n\n{note}");
    assert_eq!(with.to_string(), wanted);
    assert_eq!(LogProof::parse(wanted.as_bytes()), Ok(with.clone()));
    assert_eq!((with.index(), with.hashes().len()), (1, 1));
    assert_eq!(with.extra(), b"age-v1.2.1-darwin-arm64.tar.gz");
    let one = proof(&Reference::new(1), 0, 1).to_string();
    assert!(one.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\npay.bank.test/audit\n1\n"));
    assert!(LogProof::parse(one.as_bytes()).is_ok());
}

#[test]
fn what_the_policy_does_not_accept_proves_nothing() {
    let reference = Reference::new(3);
    let proof = proof(&reference, 1, 3);
    let leaf = reference.leaf(1);
    let other = signer("v.test", Algorithm::CosignatureV1, 9);
    let strict = Policy::k_of_n(&[log().key().clone()], &[other.key().clone()], 1).unwrap();
    let quorum = PolicyError::Quorum { cosigned: 0, known: 1 };
    let verdict = proof.verify::<Sha256>(&leaf, &strict, &AwsLc);
    assert_eq!(verdict, Err(LogProofError::Policy(quorum)));
}

#[test]
fn every_truncation_is_refused_or_lacks_the_witness() {
    let reference = Reference::new(7);
    let file = proof(&reference, 3, 7).with_extra(b"x").unwrap().to_string();
    for end in 0..file.len() {
        if let Ok(proof) = LogProof::parse(&file.as_bytes()[..end]) {
            assert_eq!(proof.to_string(), file[..end]);
            assert!(proof.verify::<Sha256>(&reference.leaf(3), &policy(), &AwsLc).is_err());
        }
    }
}

#[test]
fn a_file_has_one_spelling() {
    use LogProofError::{Extra, File, Hashes, Index};
    let reference = Reference::new(7);
    let file = proof(&reference, 3, 7).with_extra(b"x").unwrap().to_string();
    let hash = text::encode(&reference.path(3, 0, 7)[0]) + "\n";
    let check = |from: &str, to: &str, error: LogProofError| {
        let changed = file.replacen(from, to, 1);
        assert_ne!(changed, file, "{from}");
        assert_eq!(LogProof::parse(changed.as_bytes()), Err(error), "{from:?} {to:?}");
    };
    check("c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v2\n", File);
    check("c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\r\n", File);
    check("c2sp.org/tlog-proof@v1\n", "\nc2sp.org/tlog-proof@v1\n", File);
    check("extra eA==\n", "extra \n", Extra);
    check("extra eA==\n", "extra eA\n", Extra);
    check("extra eA==\n", "extra eB==\n", Extra);
    check("extra eA==\n", "extra\n", Index);
    check("extra eA==\n", "extra eA==\nextra eA==\n", Index);
    check("extra eA==\nindex 3\n", "index 3\nextra eA==\n", Hashes);
    check("index 3\n", "index 03\n", Index);
    check("index 3\n", "index 7\n", Index);
    check("index 3\n", "index 18446744073709551615\n", Index);
    check("index 3\n", "index  3\n", Index);
    check("index 3\n", "", Index);
    check(&hash, &hash.replace('=', ""), Hashes);
    check(&hash, &hash.repeat(62), Hashes);
    check("7\n", "07\n", LogProofError::Checkpoint(CheckpointError::Size));
    assert_eq!(LogProof::parse(&[b'a'; FILE_BYTES_MAX + 1]), Err(File));
    assert_eq!(LogProof::parse(b"c2sp.org/tlog-proof@v1\n\xff"), Err(File));
    let proof = LogProof::parse(file.as_bytes()).unwrap();
    assert_eq!(proof.clone().with_extra(b""), Err(Extra));
    assert_eq!(proof.clone().with_extra(&vec![0; EXTRA_BYTES_MAX + 1]), Err(Extra));
    let signed = proof.signed().clone();
    assert_eq!(LogProof::new(7, Vec::new(), signed.clone()), Err(Index));
    assert_eq!(LogProof::new(0, vec![[0; 32]; 64], signed), Err(Hashes));
    let most = proof.with_extra(&vec![0; EXTRA_BYTES_MAX]).unwrap();
    assert_eq!(LogProof::parse(most.to_string().as_bytes()), Ok(most));
}

proptest! {
    #[test]
    fn a_proof_survives_its_file(
        index: u32, above: u32, root: Hash, hashes: Vec<Hash>, extra: Vec<u8>,
    ) {
        let size = u64::from(index) + u64::from(above) + 1;
        let hashes: Vec<Hash> = hashes.into_iter().take(INCLUSION_HASHES_MAX).collect();
        let signed = signed(Head { size, root });
        let mut proof = LogProof::new(u64::from(index), hashes, signed).unwrap();
        if !extra.is_empty() {
            proof = proof.with_extra(&extra).unwrap();
        }
        prop_assert_eq!(LogProof::parse(proof.to_string().as_bytes()), Ok(proof));
    }

    #[test]
    fn what_parses_is_written_so(at in 0..400_usize, byte: u8) {
        let mut bytes = proof(&Reference::new(7), 3, 7).to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(proof) = LogProof::parse(&bytes) {
            prop_assert_eq!(proof.to_string().into_bytes(), bytes);
        }
    }
}
