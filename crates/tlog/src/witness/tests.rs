use proptest::prelude::*;

use super::*;
use crate::frontier::Frontier;
use crate::hash::Sha256;
use crate::key::KeyName;
use crate::reference::Reference;
use crate::sign::{AwsLc, Ed25519Signer};

/// The example request of tlog-witness.
const SOFA: &str = "old 20852014\n\
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
    5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
    /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
    \n\
    example.com/behind-the-sofa\n\
    20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
    \n\
    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q\
    1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
    — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V626\
    7UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
/// The example answer of tlog-witness.
const ANSWER: &str = "\
    — witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk\
    3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
    — witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+Dlk\
    L0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n\
    — witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3H\
    NJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";
/// A request from the tests of github.com/FiloSottile/torchwood, and the key it is signed with.
const SIGSUM: &str = "old 0\n\
    \n\
    sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562\n\
    1\n\
    KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
    \n\
    — sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562 UgIom7f\
    PZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=\n";
const SIGSUM_PUBLIC: &str = "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f";

const ORIGIN: &str = "pay.bank.test/audit";

fn log(seed: u8) -> Ed25519Signer {
    let name = KeyName::new(ORIGIN).unwrap();
    Ed25519Signer::from_seed(name, Algorithm::Ed25519, &[seed; 32]).unwrap()
}

fn witness() -> Ed25519Signer {
    let name = KeyName::new("w.test").unwrap();
    Ed25519Signer::from_seed(name, Algorithm::CosignatureV1, &[2; 32]).unwrap()
}

fn head(reference: &Reference, size: usize) -> Head {
    Head { size: size as u64, root: reference.mth(0, size) }
}

fn request(old: u64, proof: Vec<Hash>, head: Head) -> Request {
    let signed = Checkpoint::new(ORIGIN, head).unwrap().sign(&[&log(1)]).unwrap();
    Request::new(old, proof, signed).unwrap()
}

fn vetted(old: u64, proof: Vec<Hash>, head: Head) -> Vetted {
    request(old, proof, head).vet(&[log(1).key().clone()], &AwsLc).unwrap()
}

#[test]
fn the_requests_and_answers_that_others_published_are_read_and_written_alike() {
    for (body, old, new, hashes, lines) in
        [(SOFA, 20_852_014, 20_852_163, 4, 2), (SIGSUM, 0, 1, 0, 1)]
    {
        let request = Request::parse(body.as_bytes()).unwrap();
        assert_eq!(request.body(), body);
        assert_eq!((request.old(), request.signed().checkpoint().size()), (old, new));
        assert_eq!(request.proof().len(), hashes);
        assert_eq!(request.signed().note().signatures().len(), lines);
    }
    let Ok(Answer::Cosigned(lines)) = Answer::parse(200, "", ANSWER.as_bytes()) else { panic!() };
    let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(written, ANSWER);
}

#[test]
fn a_published_request_gets_a_cosignature() {
    let request = Request::parse(SIGSUM.as_bytes()).unwrap();
    let public = data_encoding::HEXLOWER.decode(SIGSUM_PUBLIC.as_bytes()).unwrap();
    let name = KeyName::new(request.signed().checkpoint().origin()).unwrap();
    let logs = [VerifierKey::new(name, Algorithm::Ed25519, &public).unwrap()];
    let checkpoint = request.signed().checkpoint().clone();
    let advance = request.vet(&logs, &AwsLc).unwrap().compare::<Sha256>(None).unwrap();
    let stored = advance.store(|_, _| Ok::<_, ()>(())).unwrap();
    let body = stored.cosign(&[&witness()], 1_700_000_000).unwrap();
    let answer = Answer::parse(200, "text/plain", body.as_bytes()).unwrap();
    let keys = [witness().key().clone()];
    let accepted = answer.accept(&checkpoint, &keys, &AwsLc);
    assert_eq!(accepted.iter().map(|(_, time)| *time).collect::<Vec<_>>(), [1_700_000_000]);
}

#[test]
fn a_witness_follows_a_log_and_no_other_history_of_it() {
    let reference = Reference::new(20);
    let mut last: Option<Head> = None;
    for size in [0, 1, 1, 4, 5, 5, 13, 20] {
        let old = last.map_or(0, |last| last.size as usize);
        let proof = if old == 0 { Vec::new() } else { reference.subproof(old, 0, size, true) };
        let next = head(&reference, size);
        // Every other state of the witness refuses this request.
        for other in (0..=20).filter(|other| *other != old) {
            let verdict = vetted(old as u64, proof.clone(), next)
                .compare::<Sha256>(Some(head(&reference, other)));
            assert_eq!(verdict, Err(Refusal::Stale(other as u64)), "{old} {size} {other}");
        }
        let advance = vetted(old as u64, proof.clone(), next).compare::<Sha256>(last).unwrap();
        let expected = last.unwrap_or_else(Head::empty::<Sha256>);
        let mut seen = None;
        let stored = advance.store(|before, after| {
            seen = Some((*before, *after.checkpoint().head()));
            Ok::<_, ()>(())
        });
        assert_eq!(seen, Some((expected, next)));
        assert!(stored.unwrap().cosign(&[&witness()], 1).is_ok());
        last = Some(next);
    }
    // A history that parted ways at leaf 5.
    let mut leaves: Vec<Vec<u8>> = (0..20_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    leaves[5] = b"another".to_vec();
    let other = Reference::of(leaves);
    let compare = |old: usize, size: usize, known: Head| {
        let proof = other.subproof(old, 0, size, true);
        vetted(old as u64, proof, head(&other, size)).compare::<Sha256>(Some(known)).err()
    };
    assert_eq!(compare(5, 20, head(&reference, 5)), None);
    assert_eq!(compare(6, 20, head(&reference, 6)), Some(Refusal::NotConsistent));
    assert_eq!(compare(13, 13, head(&reference, 13)), Some(Refusal::Fork));
}

#[test]
fn what_was_not_stored_is_not_cosigned() {
    let reference = Reference::new(1);
    let advance = vetted(0, Vec::new(), head(&reference, 1)).compare::<Sha256>(None).unwrap();
    assert_eq!(advance.store(|_, _| Err("disk full")), Err("disk full"));
}

#[test]
fn an_empty_log_has_the_root_of_nothing_and_growth_from_it_takes_no_proof() {
    let empty = Head::empty::<Sha256>();
    assert!(vetted(0, Vec::new(), empty).compare::<Sha256>(None).is_ok());
    let wrong = Head { root: [1; 32], ..empty };
    assert_eq!(vetted(0, Vec::new(), wrong).compare::<Sha256>(None), Err(Refusal::Fork));
    let mut frontier = Frontier::<Sha256>::new();
    frontier.push([1; 32]).unwrap();
    let one = Head { size: 1, root: frontier.root() };
    let long = vetted(0, vec![[0; 32]], one).compare::<Sha256>(None);
    assert_eq!(long, Err(Refusal::NotConsistent));
    let long = vetted(1, vec![[0; 32]], one).compare::<Sha256>(Some(one));
    assert_eq!(long, Err(Refusal::NotConsistent));
}

#[test]
fn only_a_known_log_is_listened_to() {
    let reference = Reference::new(1);
    let ask = |logs: &[VerifierKey]| {
        request(0, Vec::new(), head(&reference, 1)).vet(logs, &AwsLc).map(|vetted| {
            assert_eq!(vetted.origin(), ORIGIN);
            assert_eq!(vetted.request().old(), 0);
        })
    };
    let (ours, stranger) = (log(1).key().clone(), log(3).key().clone());
    assert_eq!(ask(&[]), Err(Refusal::UnknownLog));
    assert_eq!(ask(&[witness().key().clone()]), Err(Refusal::UnknownLog));
    assert_eq!(ask(std::slice::from_ref(&stranger)), Err(Refusal::NotSigned));
    assert_eq!(ask(std::slice::from_ref(&ours)), Ok(()));
    assert_eq!(ask(&[stranger, ours.clone()]), Ok(()));
    let name = KeyName::new(ORIGIN).unwrap();
    let cosigner = VerifierKey::new(name, Algorithm::CosignatureV1, ours.public()).unwrap();
    assert_eq!(ask(&[cosigner]), Err(Refusal::UnknownLog));
    // The known key's line stands there, and is wrong.
    let other = Checkpoint::new(ORIGIN, head(&reference, 0)).unwrap().sign(&[&log(1)]).unwrap();
    let signed = Checkpoint::new(ORIGIN, head(&reference, 1)).unwrap();
    let signed = signed.sign(&[&log(1)]).unwrap().with(other.note().signatures()).unwrap();
    let request = Request::new(0, Vec::new(), signed).unwrap();
    assert_eq!(request.vet(&[ours], &AwsLc), Err(Refusal::NotSigned));
}

#[test]
fn refusals_have_the_status_and_the_body_of_the_specification() {
    for (refusal, status) in [
        (Refusal::Malformed, 400),
        (Refusal::NotSigned, 403),
        (Refusal::UnknownLog, 404),
        (Refusal::Fork, 409),
        (Refusal::Stale(20_852_014), 409),
        (Refusal::NotConsistent, 422),
    ] {
        assert_eq!(refusal.status(), status);
        let is_stale = matches!(refusal, Refusal::Stale(_));
        assert_eq!(refusal.content_type() == SIZE_CONTENT_TYPE, is_stale);
        let body = refusal.body();
        let read = Answer::parse(status, refusal.content_type(), body.as_bytes()).unwrap();
        let wanted = if is_stale { Answer::Stale(20_852_014) } else { Answer::Refused(status) };
        assert_eq!(read, wanted);
    }
    assert_eq!(Refusal::Stale(7).body(), "7\n");
}

#[test]
fn a_request_has_one_spelling() {
    let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    for body in [
        String::new(),
        SOFA.replacen("old 20852014", "old 020852014", 1),
        SOFA.replacen("old 20852014", "old  20852014", 1),
        SOFA.replacen("old 20852014", "old 20852014 ", 1),
        SOFA.replacen("old 20852014", "Old 20852014", 1),
        SOFA.replacen("old 20852014", "old", 1),
        SOFA.replacen("old 20852014", "old -1", 1),
        SOFA.replacen("old 20852014", "old 20852164", 1),
        SOFA.replacen("old 20852014", "old 20852014\r", 1),
        SOFA.replacen("PlRN", "PlR", 1),
        SOFA.replacen("kaw=\n", "kax=\n", 1),
        SOFA.replacen("kaw=\n", "kaw=\n\n", 1),
        SOFA.replacen("j/0=\n\n", "j/0=\n", 1),
        SOFA.replacen(hash, &hash.repeat(61), 1),
        SOFA.to_owned() + "\n",
        SOFA.to_owned() + "x",
    ] {
        assert_eq!(Request::parse(body.as_bytes()), Err(Refusal::Malformed), "{body:.300}");
    }
    let most = SOFA.replacen(hash, &hash.repeat(60), 1);
    assert_eq!(Request::parse(most.as_bytes()).unwrap().proof().len(), PROOF_HASHES_MAX);
    assert!(Request::parse(&[b'a'; REQUEST_BYTES_MAX + 1]).is_err());
    assert!(Request::parse(b"old 0\n\n\xff").is_err());
    let signed = request(0, Vec::new(), Head { size: 1, root: [0; 32] }).signed().clone();
    assert!(Request::new(2, Vec::new(), signed.clone()).is_err());
    assert!(Request::new(1, vec![[0; 32]; 64], signed).is_err());
}

#[test]
fn every_truncation_is_refused_or_has_a_signature_less() {
    for body in [SOFA, SIGSUM] {
        for end in 0..body.len() {
            if let Ok(request) = Request::parse(&body.as_bytes()[..end]) {
                assert_eq!(request.body(), body[..end]);
                assert_eq!(request.signed().note().signatures().len(), 1);
            }
        }
    }
    for end in 0..ANSWER.len() {
        if let Ok(Answer::Cosigned(lines)) = Answer::parse(200, "", &ANSWER.as_bytes()[..end]) {
            let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
            assert_eq!(written, ANSWER[..end]);
            assert!((1..3).contains(&lines.len()));
        }
    }
    assert_eq!(Answer::parse(409, SIZE_CONTENT_TYPE, b""), Err(BadAnswer));
    assert_eq!(Answer::parse(409, SIZE_CONTENT_TYPE, b"12"), Err(BadAnswer));
    assert_eq!(Answer::parse(409, SIZE_CONTENT_TYPE, b"012\n"), Err(BadAnswer));
    assert_eq!(Answer::parse(409, SIZE_CONTENT_TYPE, b"9223372036854775809\n"), Err(BadAnswer));
    assert_eq!(Answer::parse(200, "", b""), Err(BadAnswer));
    assert_eq!(Answer::parse(500, "", &[0; ANSWER_BYTES_MAX + 1]), Err(BadAnswer));
}

#[test]
fn of_an_answer_only_what_known_witnesses_made_is_taken() {
    let reference = Reference::new(1);
    let signed = request(0, Vec::new(), head(&reference, 1)).signed().clone();
    let checkpoint = signed.checkpoint();
    let line = cosignature::cosign(checkpoint, &witness(), 9).unwrap();
    let elsewhere = Checkpoint::new("other.test", *checkpoint.head()).unwrap();
    let wrong = cosignature::cosign(&elsewhere, &witness(), 9).unwrap();
    let body = format!("{ANSWER}{wrong}\n{line}\n");
    let answer = Answer::parse(200, "", body.as_bytes()).unwrap();
    let keys = [witness().key().clone()];
    assert_eq!(answer.accept(checkpoint, &keys, &AwsLc), [(line.clone(), 9)]);
    assert_eq!(answer.accept(checkpoint, &[], &AwsLc), []);
    assert_eq!(Answer::Stale(1).accept(checkpoint, &keys, &AwsLc), []);
    assert_eq!(signed.with(&[line]).unwrap().note().signatures().len(), 2);
}

#[test]
fn a_witness_without_a_key_or_a_time_does_not_answer() {
    let reference = Reference::new(1);
    let advance = vetted(0, Vec::new(), head(&reference, 1)).compare::<Sha256>(None).unwrap();
    let stored = advance.store(|_, _| Ok::<_, ()>(())).unwrap();
    assert_eq!(stored.cosign(&[], 1), Err(NoteError::Signatures));
    assert!(stored.cosign(&[&witness()], 0).is_err());
    assert!(stored.cosign(&[&log(1)], 1).is_err());
    assert_eq!(stored.cosign(&[&witness(), &witness()], 1).unwrap().lines().count(), 2);
}

proptest! {
    #[test]
    fn a_request_survives_its_body(
        old in 0..=1000_u64, grown in 0..1000_u64, proof: Vec<Hash>, root: Hash,
    ) {
        let proof: Vec<Hash> = proof.into_iter().take(PROOF_HASHES_MAX).collect();
        let request = request(old, proof, Head { size: old + grown, root });
        prop_assert_eq!(Request::parse(request.body().as_bytes()), Ok(request));
    }

    #[test]
    fn what_parses_is_written_so(at in 0..SOFA.len(), byte: u8) {
        let mut bytes = SOFA.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(request) = Request::parse(&bytes) {
            prop_assert_eq!(request.body().into_bytes(), bytes);
        }
    }
}
