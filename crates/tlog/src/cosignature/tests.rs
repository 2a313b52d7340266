use super::*;
use crate::checkpoint::SignedCheckpoint;
use crate::key::KeyName;
use crate::note::Note;
use crate::proof::Head;
use crate::sign::{AwsLc, Ed25519Signer};

/// A checkpoint of a public log, with its signatures and those of witnesses.
const ARCHE: &str = include_str!("../../tests/golden/arche2025h1.checkpoint");
const ARCHE_KEY: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const REMORA_KEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

fn witness() -> Ed25519Signer {
    let name = KeyName::new("witness.bank.test/w1").unwrap();
    Ed25519Signer::from_seed(name, Algorithm::CosignatureV1, &[3; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new("pay.bank.test/audit", Head { size: 5, root: [9; 32] }).unwrap()
}

#[test]
fn the_message_is_that_of_the_specification() {
    let text =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = Checkpoint::parse(text).unwrap();
    let wanted = format!("cosignature/v1\ntime 1679315147\n{text}");
    assert_eq!(message(&checkpoint, 1_679_315_147), wanted);
}

#[test]
fn the_checkpoint_of_a_public_log_verifies_with_its_witness() {
    let signed = SignedCheckpoint::parse(ARCHE.as_bytes()).unwrap();
    assert_eq!(signed.to_string(), ARCHE);
    assert_eq!(signed.note().signatures().len(), 6);
    let keys = [ARCHE_KEY, REMORA_KEY].map(|vkey| VerifierKey::parse(vkey).unwrap());
    let by = signed.note().verify(&keys, &AwsLc).unwrap();
    let by: Vec<_> = by.iter().map(|signed| (signed.key.name().as_str(), signed.time)).collect();
    let log = "arche2025h1.staging.ct.transparency.dev";
    assert_eq!(by, [(log, None), ("remora.n621.de", Some(0x6a12_2120))]);
    // The same signatures under another size.
    let other = ARCHE.replacen("1432088532", "1432088533", 1);
    let other = SignedCheckpoint::parse(other.as_bytes()).unwrap();
    for key in &keys {
        let keys = std::slice::from_ref(key);
        assert_eq!(other.note().verify(keys, &AwsLc), Err(NoteError::Wrong(key.name().clone())));
    }
}

#[test]
fn a_cosignature_holds_for_its_checkpoint_its_time_and_its_key() {
    let (checkpoint, witness) = (checkpoint(), witness());
    let cosignature = cosign(&checkpoint, &witness, 1_700_000_000).unwrap();
    let key = witness.key();
    assert_eq!(verify(&checkpoint, &cosignature, key, &AwsLc), Ok(1_700_000_000));
    let other = Checkpoint::new("pay.bank.test/audit", Head { size: 6, root: [9; 32] }).unwrap();
    assert_eq!(verify(&other, &cosignature, key, &AwsLc), Err(NotVerified::Wrong));
    let name = KeyName::new("witness.bank.test/w2").unwrap();
    let renamed = VerifierKey::new(name, Algorithm::CosignatureV1, key.public()).unwrap();
    assert_eq!(verify(&checkpoint, &cosignature, &renamed, &AwsLc), Err(NotVerified::Wrong));
    for at in 0..cosignature.bytes().len() {
        let mut bytes = cosignature.bytes().to_vec();
        bytes[at] ^= 1;
        let changed = Signature::new(key, bytes);
        assert_eq!(verify(&checkpoint, &changed, key, &AwsLc), Err(NotVerified::Wrong), "{at}");
        let cut = Signature::new(key, cosignature.bytes()[..at].to_vec());
        assert_eq!(verify(&checkpoint, &cut, key, &AwsLc), Err(NotVerified::Wrong), "{at}");
    }
}

#[test]
fn a_cosignature_is_no_signature_of_the_log_and_the_other_way_round() {
    let (checkpoint, witness) = (checkpoint(), witness());
    let name = KeyName::new("witness.bank.test/w1").unwrap();
    let log = Ed25519Signer::from_seed(name.clone(), Algorithm::Ed25519, &[3; 32]).unwrap();
    assert_eq!(cosign(&checkpoint, &log, 1), Err(NoteError::Use(name)));
    let cosignature = cosign(&checkpoint, &witness, 1).unwrap();
    let keys = [log.key().clone()];
    let note = Note::new(&checkpoint.to_string(), vec![cosignature.clone()]).unwrap();
    assert_eq!(note.verify(&keys, &AwsLc), Ok(Vec::new()));
    assert_eq!(verify(&checkpoint, &cosignature, &keys[0], &AwsLc), Err(NotVerified::Wrong));
}

#[test]
fn times_that_are_none_are_refused() {
    let (checkpoint, witness) = (checkpoint(), witness());
    assert!(cosign(&checkpoint, &witness, TIME_MAX).is_ok());
    for time in [0, TIME_MAX + 1, u64::MAX] {
        assert!(cosign(&checkpoint, &witness, time).is_err());
        let bare = witness.sign(message(&checkpoint, time).as_bytes()).unwrap();
        let bytes = [time.to_be_bytes().as_slice(), &bare].concat();
        let cosignature = Signature::new(witness.key(), bytes);
        let verdict = verify(&checkpoint, &cosignature, witness.key(), &AwsLc);
        assert_eq!(verdict, Err(NotVerified::Wrong));
    }
}

#[test]
fn extension_lines_are_signed_too() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let with = Checkpoint::parse(&format!("a\n1\n{root}\nmore\n")).unwrap();
    let without = Checkpoint::parse(&format!("a\n1\n{root}\n")).unwrap();
    let cosignature = cosign(&with, &witness(), 1).unwrap();
    assert_eq!(verify(&with, &cosignature, witness().key(), &AwsLc), Ok(1));
    assert!(verify(&without, &cosignature, witness().key(), &AwsLc).is_err());
}
