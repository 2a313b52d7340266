use proptest::prelude::*;

use super::*;

/// The example of tlog-checkpoint.
const SOFA: &str = "example.com/behind-the-sofa\n\
    20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
    \n\
    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q\
    1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

#[test]
fn the_example_of_the_specification_is_read_and_written_alike() {
    let signed = SignedCheckpoint::parse(SOFA.as_bytes()).unwrap();
    assert_eq!(signed.to_string(), SOFA);
    let checkpoint = signed.checkpoint();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size()),
        ("example.com/behind-the-sofa", 20_852_163)
    );
    assert_eq!(checkpoint.root()[..4], [0x0a, 0xc5, 0x18, 0x6a]);
    assert_eq!(checkpoint.to_string(), signed.note().text());
    assert!(checkpoint.extensions().is_empty());
    assert_eq!(signed.with(signed.note().signatures()).unwrap(), signed);
}

#[test]
fn every_truncation_is_refused() {
    for end in 0..SOFA.len() {
        assert!(SignedCheckpoint::parse(&SOFA.as_bytes()[..end]).is_err(), "{end}");
    }
    let text = SOFA.split_once("\n\n").unwrap().0.to_owned() + "\n";
    for end in 0..text.len() {
        assert!(Checkpoint::parse(&text[..end]).is_err(), "{end}");
    }
    assert!(Checkpoint::parse(&text).is_ok());
}

#[test]
fn a_checkpoint_has_one_spelling() {
    use CheckpointError::{Extension, Origin, Root, Size};
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for (text, error) in [
        (format!("\n1\n{root}\n"), Origin),
        (format!("{}\n1\n{root}\n", "a".repeat(256)), Origin),
        (format!("a\tb\n1\n{root}\n"), Origin),
        (format!("a\n01\n{root}\n"), Size),
        (format!("a\n+1\n{root}\n"), Size),
        (format!("a\n\n{root}\n"), Size),
        (format!("a\n1 \n{root}\n"), Size),
        (format!("a\n1\r\n{root}\n"), Size),
        (format!("a\n9223372036854775809\n{root}\n"), Size),
        (format!("a\n18446744073709551616\n{root}\n"), Size),
        (format!("a\n1\n{}\n", root.trim_end_matches('=')), Root),
        (format!("a\n1\n{}J=\n", root.trim_end_matches("I=")), Root),
        (format!("a\n1\n{root} \n"), Root),
        (format!("a\n1\n{root}{root}\n"), Root),
        ("a\n1\nAAAA\n".to_owned(), Root),
        ("a\n1\n\n".to_owned(), Root),
        (format!("a\n1\n{root}\n\n"), Extension),
        (format!("a\n1\n{root}\nb"), Extension),
        (format!("a\n1\n{root}\nb\tc\n"), Extension),
        (format!("a\n1\n{root}\n{}", "b\n".repeat(17)), Extension),
    ] {
        assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
    }
    for text in [
        format!("a\n9223372036854775808\n{root}\n"),
        format!("an origin with spaces + plus\n0\n{root}\n"),
        format!("a\n1\n{root}\none\ntwo\n"),
    ] {
        assert_eq!(Checkpoint::parse(&text).unwrap().to_string(), text);
    }
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let head = Head { size: 1, root: [0; 32] };
    assert_eq!(Checkpoint::new("", head), Err(CheckpointError::Origin));
    assert_eq!(Checkpoint::new("a\nb", head), Err(CheckpointError::Origin));
    let large = Head { size: SIZE_MAX + 1, ..head };
    assert_eq!(Checkpoint::new("a", large), Err(CheckpointError::Size));
}

proptest! {
    #[test]
    fn a_checkpoint_survives_its_text(
        origin in "[^\\x00-\\x1f]{1,60}", size in 0..=SIZE_MAX, root: [u8; 32],
    ) {
        let checkpoint = Checkpoint::new(&origin, Head { size, root }).unwrap();
        prop_assert_eq!(Checkpoint::parse(&checkpoint.to_string()), Ok(checkpoint));
    }

    #[test]
    fn what_parses_is_written_so(at in 0..75_usize, byte in 0_u8..128) {
        let mut text = SOFA.split_once("\n\n").unwrap().0.to_owned().into_bytes();
        text[at] = byte;
        let text = String::from_utf8(text).unwrap() + "\n";
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }
}
