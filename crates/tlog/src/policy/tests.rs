use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::cosign;
use crate::key::KeyName;
use crate::proof::Head;
use crate::sign::{AwsLc, Ed25519Signer, Signer};

const ORIGIN: &str = "pay.bank.test/audit";

fn signer(name: &str, algorithm: Algorithm, seed: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed(KeyName::new(name).unwrap(), algorithm, &[seed; 32]).unwrap()
}

fn log() -> Ed25519Signer {
    signer(ORIGIN, Algorithm::Ed25519, 1)
}

fn witness(seed: u8) -> Ed25519Signer {
    signer(&format!("w{seed}.test"), Algorithm::CosignatureV1, seed)
}

/// A checkpoint of the log with cosignatures of the witnesses with these seeds.
fn checkpoint(witnesses: &[u8]) -> SignedCheckpoint {
    let checkpoint = Checkpoint::new(ORIGIN, Head { size: 5, root: [9; 32] }).unwrap();
    let lines = witnesses.iter().map(|seed| {
        cosign(&checkpoint, &witness(*seed), 1_700_000_000 + u64::from(*seed)).unwrap()
    });
    let lines: Vec<_> = lines.collect();
    checkpoint.sign(&[&log()]).unwrap().with(&lines).unwrap()
}

/// The shape of the specification's example: two of X, and any of Y.
fn example() -> String {
    let w = |seed| witness(seed).key().to_string();
    format!(
        "# who is believed\n\
         log {} https://log.test/\n\
         \n\
         witness X1 {}\n\
         witness X2 {} https://w11.test/\n\
         \t witness  X3\t{} \n\
         group X-witnesses 2 X1 X2 X3\n\
         witness Y1 {}\n\
         witness Y2 {}\n\
         witness Y3 {}\n\
         group Y-witnesses any Y1 Y2 Y3\n\
         group X-and-Y all X-witnesses Y-witnesses\n\
         quorum X-and-Y\n",
        log().key(),
        w(10),
        w(11),
        w(12),
        w(20),
        w(21),
        w(22)
    )
}

#[test]
fn groups_of_groups_decide_as_the_specification_says() {
    let policy = Policy::parse(example().as_bytes()).unwrap();
    assert_eq!(policy.logs().next().unwrap().1, Some("https://log.test/"));
    assert_eq!(policy.witnesses().count(), 6);
    for (witnesses, enough) in [
        (&[10, 11, 20][..], true),
        (&[10, 12, 22], true),
        (&[10, 11, 12, 20, 21, 22], true),
        (&[10, 20, 21, 22], false),
        (&[10, 11, 12], false),
        (&[20, 21], false),
        (&[], false),
        // Another who is not known does not count.
        (&[10, 20, 30, 31], false),
    ] {
        let verdict = policy.accept(&checkpoint(witnesses), &AwsLc);
        assert_eq!(verdict.is_ok(), enough, "{witnesses:?}");
    }
    let accepted = policy.accept(&checkpoint(&[22, 11, 10]), &AwsLc).unwrap();
    let by: Vec<_> =
        accepted.witnesses.iter().map(|(key, time)| (key.name().as_str(), *time)).collect();
    let at = |seed: u64| 1_700_000_000 + seed;
    assert_eq!(by, [("w10.test", at(10)), ("w11.test", at(11)), ("w22.test", at(22))]);
    assert_eq!(accepted.logs, [log().key()]);
}

#[test]
fn k_of_n_asks_for_k_different_witnesses() {
    let keys: Vec<VerifierKey> = [10, 11, 12].map(|seed| witness(seed).key().clone()).to_vec();
    let logs = [log().key().clone()];
    let policy = Policy::k_of_n(&logs, &keys, 2).unwrap();
    assert!(policy.accept(&checkpoint(&[10, 12]), &AwsLc).is_ok());
    let one = checkpoint(&[10]);
    let missing = PolicyError::Quorum { cosigned: 1, known: 3 };
    assert_eq!(policy.accept(&one, &AwsLc), Err(missing.clone()));
    // The same witness at another time is still one witness.
    let again = cosign(one.checkpoint(), &witness(10), 5).unwrap();
    assert_eq!(policy.accept(&one.with(&[again]).unwrap(), &AwsLc), Err(missing));
    assert!(Policy::k_of_n(&logs, &keys, 0).unwrap().accept(&checkpoint(&[]), &AwsLc).is_ok());
    assert!(Policy::k_of_n(&logs, &keys, 4).is_err());
    assert!(Policy::k_of_n(&logs, &[], 1).is_err());
    assert!(Policy::k_of_n(&logs, &[keys[0].clone(), keys[0].clone()], 1).is_err());
    assert!(Policy::k_of_n(&keys, &keys, 1).is_err());
    assert!(Policy::k_of_n(&logs, &logs, 1).is_err());
}

#[test]
fn only_the_log_itself_signs_for_its_origin() {
    let other = signer("other.test/audit", Algorithm::Ed25519, 2);
    let by_other = Policy::k_of_n(&[other.key().clone()], &[], 0).unwrap();
    assert_eq!(by_other.accept(&checkpoint(&[]), &AwsLc), Err(PolicyError::UnknownLog));
    let second = signer(ORIGIN, Algorithm::Ed25519, 2);
    let policy = Policy::k_of_n(&[second.key().clone()], &[], 0).unwrap();
    assert_eq!(policy.accept(&checkpoint(&[]), &AwsLc), Err(PolicyError::NotSigned));
    let both = Policy::k_of_n(&[second.key().clone(), log().key().clone()], &[], 0).unwrap();
    assert_eq!(both.accept(&checkpoint(&[]), &AwsLc).unwrap().logs, [log().key()]);
}

#[test]
fn a_wrong_line_in_the_name_of_a_known_witness_spoils_the_checkpoint() {
    let keys = [witness(10).key().clone(), witness(11).key().clone()];
    let policy = Policy::k_of_n(&[log().key().clone()], &keys, 1).unwrap();
    let elsewhere = Checkpoint::new(ORIGIN, Head { size: 6, root: [9; 32] }).unwrap();
    let stray = cosign(&elsewhere, &witness(11), 7).unwrap();
    let signed = checkpoint(&[10]).with(&[stray]).unwrap();
    let wrong = NoteError::Wrong(KeyName::new("w11.test").unwrap());
    assert_eq!(policy.accept(&signed, &AwsLc), Err(PolicyError::Note(wrong)));
}

#[test]
fn what_is_no_policy_is_refused_with_its_line() {
    let log = log().key().to_string();
    let w = witness(10).key().to_string();
    let v = witness(11).key().to_string();
    for (file, line) in [
        (String::new(), 0),
        (format!("log {log}\n"), 0),
        ("quorum none".to_owned(), 1),
        ("quorum none\nquorum none\n".to_owned(), 2),
        ("quorum w\n".to_owned(), 1),
        (format!("quorum w\nwitness w {w}\n"), 1),
        (format!("witness w {w}\r\nquorum w\n"), 1),
        (format!("witness w {w}\u{b}\nquorum w\n"), 1),
        (format!("witness none {w}\nquorum none\n"), 1),
        (format!("witness w {w}\nwitness w {v}\nquorum w\n"), 2),
        (format!("witness w {w}\nwitness v {w}\nquorum w\n"), 2),
        (format!("log {log}\nlog {log}\nquorum none\n"), 2),
        (format!("log {w}\nquorum none\n"), 1),
        (format!("witness w {log}\nquorum none\n"), 1),
        (format!("log {log} url more\nquorum none\n"), 1),
        ("log\nquorum none\n".to_owned(), 1),
        ("Log x\nquorum none\n".to_owned(), 1),
        (format!("witness w {w}\ngroup g 0 w\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g 2 w\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g 01 w\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g most w\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g all\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g any w w\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g any w\ngroup h any w\nquorum h\n"), 3),
        (format!("witness w {w}\ngroup g any g\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup g any none\nquorum g\n"), 2),
        (format!("witness w {w}\ngroup w any w\nquorum w\n"), 2),
        ("x".repeat(POLICY_BYTES_MAX + 1), 0),
    ] {
        let error = Policy::parse(file.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{file:.200}: {error}");
    }
    assert_eq!(Policy::parse(b"# \xff\nquorum none\n").unwrap_err().line, 0);
}

#[test]
fn there_are_bounds_to_logs_witnesses_and_groups() {
    let file = |count: usize, line: &dyn Fn(usize) -> String| {
        (0..count).map(line).collect::<String>() + "quorum none\n"
    };
    let key = |n: usize, algorithm| {
        VerifierKey::new(KeyName::new("n").unwrap(), algorithm, &[n as u8; 32]).unwrap()
    };
    let log = |n| format!("log {}\n", key(n, Algorithm::Ed25519));
    let witness = |n| format!("witness w{n} {}\n", key(n, Algorithm::CosignatureV1));
    for line in [&log as &dyn Fn(usize) -> String, &witness] {
        assert!(Policy::parse(file(KEYS_MAX, line).as_bytes()).is_ok());
        assert!(Policy::parse(file(KEYS_MAX + 1, line).as_bytes()).is_err());
    }
    let group = |n| match n {
        0 => witness(0) + "group g0 any w0\n",
        n => format!("group g{n} any g{}\n", n - 1),
    };
    assert!(Policy::parse(file(GROUPS_MAX, &group).as_bytes()).is_ok());
    assert!(Policy::parse(file(GROUPS_MAX + 1, &group).as_bytes()).is_err());
}

#[test]
fn every_truncation_is_refused() {
    let example = example();
    for end in 0..example.len() {
        assert!(Policy::parse(&example.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_policy_is_written_so_that_it_is_read_back() {
    let policy = Policy::parse(example().as_bytes()).unwrap();
    let written = policy.to_string();
    assert_eq!(Policy::parse(written.as_bytes()), Ok(policy));
    assert!(written.ends_with("group X-and-Y 2 X-witnesses Y-witnesses\nquorum X-and-Y\n"));
}

proptest! {
    #[test]
    fn what_parses_is_written_so_that_it_is_read_back(
        lines in prop::collection::vec((0_usize..8, 0_u8..4, 1_usize..4), 0..12),
    ) {
        let mut file = String::new();
        for (n, (kind, seed, k)) in lines.into_iter().enumerate() {
            file.push_str(&match kind {
                0 => format!("log {}\n", signer("l", Algorithm::Ed25519, seed).key()),
                1..=4 => format!("witness n{n} {} u\n", witness(seed + n as u8 * 4).key()),
                5 => format!("group n{n} {k} n0 n1 n2\n"),
                6 => format!("group n{n} any n{seed}\n"),
                _ => format!(" # {k}\t\n"),
            });
        }
        file.push_str("quorum none\n");
        if let Ok(policy) = Policy::parse(file.as_bytes()) {
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }
    }
}
