use proptest::prelude::*;

use super::*;
use crate::sign::{AwsLc, Ed25519Signer};

/// The example of signed-note; its key is not published.
const QUASIMODO: &str = "Ognuno sta solo sul cuor della terra\n\
    trafitto da un raggio di sole:\n\
    \n\
    ed è subito sera.\n\
    \n\
    — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFS\
    QU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
/// The example of signed-note's verifier keys.
const EXAMPLE: &str = "This is an example message.\n\
    \n\
    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKu\
    wHjG1Yu72IneyaQM=\n";
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// The example of golang.org/x/mod/sumdb/note, with its private key.
const PETER: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6\
    KE6RyyBwJnAM=\n";
const PETER_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_PRIVATE: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

fn peter() -> Ed25519Signer {
    let private = text::decode(PETER_PRIVATE).unwrap();
    let (kind, seed) = private.split_first().unwrap();
    assert_eq!(*kind, 1);
    let name = KeyName::new("PeterNeumann").unwrap();
    Ed25519Signer::from_seed(name, Algorithm::Ed25519, seed).unwrap()
}

#[test]
fn the_notes_that_others_published_are_read_and_written_alike() {
    for (note, lines, name) in [
        (QUASIMODO, 4, "quasimodo.example/salvatore"),
        (EXAMPLE, 1, "example.com/foo"),
        (PETER, 2, "PeterNeumann"),
    ] {
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.to_string(), note);
        assert_eq!(parsed.text().lines().count(), lines);
        assert_eq!(parsed.signatures().len(), 1);
        assert_eq!(parsed.signatures()[0].name().as_str(), name);
        assert_eq!(parsed.signatures()[0].bytes().len(), 64);
    }
}

#[test]
fn the_published_signatures_verify_and_are_made_byte_for_byte() {
    for (note, vkey) in [(EXAMPLE, EXAMPLE_KEY), (PETER, PETER_KEY)] {
        let keys = [VerifierKey::parse(vkey).unwrap()];
        let signed = Note::parse(note.as_bytes()).unwrap().verify(&keys, &AwsLc).unwrap();
        assert_eq!(signed, [Signed { key: &keys[0], time: None }]);
    }
    let peter = peter();
    assert_eq!(peter.key().to_string(), PETER_KEY);
    let text = PETER.rsplit_once("\n\n").unwrap().0.to_owned() + "\n";
    assert_eq!(Note::sign(&text, &[&peter]).unwrap().to_string(), PETER);
}

#[test]
fn signatures_of_unknown_keys_are_ignored_and_wrong_ones_of_known_keys_are_fatal() {
    let keys = [VerifierKey::parse(EXAMPLE_KEY).unwrap(), VerifierKey::parse(PETER_KEY).unwrap()];
    let note = Note::parse(QUASIMODO.as_bytes()).unwrap();
    assert_eq!(note.verify(&keys, &AwsLc), Ok(Vec::new()));
    let note = Note::parse(EXAMPLE.as_bytes()).unwrap();
    let other = Note::parse(PETER.as_bytes()).unwrap();
    let both = note.with(other.signatures()).unwrap();
    assert_eq!(both.verify(&keys[..1], &AwsLc).unwrap().len(), 1);
    let wrong = NoteError::Wrong(KeyName::new("PeterNeumann").unwrap());
    assert_eq!(both.verify(&keys, &AwsLc), Err(wrong));
    let short = Signature { bytes: vec![0; 63], ..note.signatures()[0].clone() };
    let short = Note::new(note.text(), vec![short]).unwrap();
    let wrong = NoteError::Wrong(KeyName::new("example.com/foo").unwrap());
    assert_eq!(short.verify(&keys, &AwsLc), Err(wrong));
    // A name with another's id is another key.
    let id = KeyId([0; 4]);
    let renamed = Signature { id, ..note.signatures()[0].clone() };
    let renamed = Note::new(note.text(), vec![renamed]).unwrap();
    assert_eq!(renamed.verify(&keys, &AwsLc), Ok(Vec::new()));
}

#[test]
fn a_known_key_of_a_scheme_that_is_not_there_is_fatal() {
    struct Sm2;
    impl Verifier for Sm2 {
        fn verify(
            &self,
            scheme: crate::key::Scheme,
            _: &[u8],
            _: &[u8],
            signature: &[u8],
        ) -> Result<(), NotVerified> {
            match scheme {
                crate::key::Scheme::Ed25519 => Err(NotVerified::Unsupported),
                crate::key::Scheme::Sm2Sm3 if signature[0] == 9 => Ok(()),
                crate::key::Scheme::Sm2Sm3 => Err(NotVerified::Wrong),
            }
        }
    }
    let mut point = [9; 65];
    point[0] = 4;
    let name = KeyName::new("pay.bank.test/audit").unwrap();
    let key = VerifierKey::new(name.clone(), Algorithm::Sm2Sm3, &point).unwrap();
    let mut note = Note::sign("text\n", &[&peter()]).unwrap();
    note = note.with(&[Signature::new(&key, vec![9; 64])]).unwrap();
    let keys = [key, VerifierKey::parse(PETER_KEY).unwrap()];
    assert_eq!(note.verify(&keys, &AwsLc), Err(NoteError::Unsupported(name.clone())));
    assert_eq!(note.verify(&keys, &(AwsLc, Sm2)).unwrap().len(), 2);
    assert_eq!(note.verify(&keys, &(Sm2, AwsLc)).unwrap().len(), 2);
    note.signatures[1].bytes[0] = 8;
    assert_eq!(note.verify(&keys, &(AwsLc, Sm2)), Err(NoteError::Wrong(name)));
}

#[test]
fn a_key_of_a_witness_signs_no_plain_note() {
    let name = KeyName::new("w").unwrap();
    let witness =
        Ed25519Signer::from_seed(name.clone(), Algorithm::CosignatureV1, &[1; 32]).unwrap();
    assert_eq!(Note::sign("a\n", &[&witness]), Err(NoteError::Use(name.clone())));
    // Its line under what is no checkpoint is wrong, whatever it holds.
    let keys = [witness.key().clone()];
    let note = Note::new("a\n", vec![Signature::new(&keys[0], vec![1; 72])]).unwrap();
    assert_eq!(note.verify(&keys, &AwsLc), Err(NoteError::Wrong(name.clone())));
    let sm2 = Ed25519Signer::from_seed(name, Algorithm::Sm2Sm3, &[1; 32]);
    assert_eq!(sm2.err(), Some(crate::key::KeyError::Type));
}

#[test]
fn every_truncation_is_refused() {
    for note in [QUASIMODO, EXAMPLE, PETER] {
        for end in 0..note.len() {
            assert!(Note::parse(&note.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}

#[test]
fn a_note_has_one_spelling() {
    let (text, line) = EXAMPLE.split_once("\n\n").unwrap();
    let line = line.trim_end();
    for (note, error) in [
        (format!("{text}\n{line}\n"), NoteError::Text),
        (format!("{text}\r\n\r\n{line}\n"), NoteError::Text),
        (format!("{text}\t\n\n{line}\n"), NoteError::Text),
        (format!("{text}\0\n\n{line}\n"), NoteError::Text),
        (format!("\n{line}\n"), NoteError::Text),
        (format!("{text}\n\n{line}"), NoteError::Signatures),
        (format!("{text}\n\n{line} \n"), NoteError::Signatures),
        (format!("{text}\n\n {line}\n"), NoteError::Signatures),
        (format!("{text}\n\n{line}\r\n"), NoteError::Signatures),
        (format!("{text}\n\n{line}=\n"), NoteError::Signatures),
        (format!("{text}\n\n{}\n", line.replace('—', "-")), NoteError::Signatures),
        (format!("{text}\n\n{}\n", line.replace("foo ", "foo  ")), NoteError::Signatures),
        (format!("{text}\n\n{}\n", line.replace("foo", "f+o")), NoteError::Signatures),
        (format!("{text}\n\n{}\n", line.replace("example.com/foo", "")), NoteError::Signatures),
        (format!("{text}\n\n— example.com/foo Uw2QOg==\n"), NoteError::Signatures),
        (format!("{text}\n\n— example.com/foo Uw2Q\n"), NoteError::Signatures),
        (format!("{text}\n\n{line}\n\n"), NoteError::Signatures),
        (format!("{text}\n\n{line}\n\n\n"), NoteError::Signatures),
        (format!("{text}\n\n"), NoteError::Signatures),
        (format!("{text}\n\n{}", format!("{line}\n").repeat(65)), NoteError::Signatures),
        (format!("{}\n\n{line}\n", "a".repeat(NOTE_BYTES_MAX)), NoteError::Text),
    ] {
        assert_eq!(Note::parse(note.as_bytes()), Err(error), "{note:.200}");
    }
    assert_eq!(Note::parse(b"a\n\n\xff\n"), Err(NoteError::Text));
    let sixty_four = format!("{text}\n\n{}", format!("{line}\n").repeat(64));
    assert_eq!(Note::parse(sixty_four.as_bytes()).unwrap().to_string(), sixty_four);
    // The text may end in empty lines: the last one parts it from the signatures.
    let note = format!("{text}\n\n\n{line}\n");
    assert_eq!(Note::parse(note.as_bytes()).unwrap().text(), format!("{text}\n\n"));
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    assert_eq!(Note::sign("no newline", &[&peter()]), Err(NoteError::Text));
    assert_eq!(Note::sign("a\tb\n", &[&peter()]), Err(NoteError::Text));
    assert_eq!(Note::sign("", &[&peter()]), Err(NoteError::Text));
    assert_eq!(Note::sign("a\n", &[]), Err(NoteError::Signatures));
    let long = "a".repeat(NOTE_BYTES_MAX) + "\n";
    assert_eq!(Note::sign(&long, &[&peter()]), Err(NoteError::Signatures));
    let note = Note::sign("a\n", &[&peter()]).unwrap();
    assert_eq!(note.with(note.signatures()).unwrap(), note);
}

proptest! {
    #[test]
    fn a_note_survives_its_bytes(
        text in "[^\\x00-\\x09\\x0b-\\x1f]{0,40}\n",
        names in prop::collection::vec("[!-*,-~é]{1,9}", 1..5),
        bytes in prop::collection::vec(any::<u8>(), 1..80),
    ) {
        let signatures = names.iter().map(|name| {
            let name = KeyName::new(name).unwrap();
            Signature { name, id: KeyId([1, 2, 3, 4]), bytes: bytes.clone() }
        });
        let note = Note::new(&text, signatures.collect()).unwrap();
        prop_assert_eq!(Note::parse(note.to_string().as_bytes()), Ok(note));
    }

    #[test]
    fn what_parses_is_written_so(at in 0..EXAMPLE.len(), byte: u8) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
        }
    }
}
