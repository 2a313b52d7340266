use super::*;

/// A file with one segment of this type and content.
fn file(kind: u16, segment: u32, content: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 120];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[16..18].copy_from_slice(&kind.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&1u16.to_le_bytes());
    file[64..68].copy_from_slice(&segment.to_le_bytes());
    file[72..80].copy_from_slice(&120u64.to_le_bytes());
    file[96..104].copy_from_slice(&(content.len() as u64).to_le_bytes());
    file.extend_from_slice(content);
    file
}

fn entries(pairs: &[(u64, u64)]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat())
        .collect()
}

#[test]
fn a_static_program_for_any_address_is_recognized() {
    let dynamic = entries(&[(TAG_FLAGS_1, FLAG_1_PIE), (0, 0)]);
    let expected = Linkage { pie: true, interpreter: None, libraries: 0 };
    assert_eq!(linkage(&file(TYPE_DYN, SEGMENT_DYNAMIC, &dynamic)).unwrap(), expected);
    let fixed = linkage(&file(2, SEGMENT_DYNAMIC, &dynamic)).unwrap();
    assert!(!fixed.pie);
}

#[test]
fn a_loader_and_libraries_are_seen() {
    let seen = linkage(&file(TYPE_DYN, SEGMENT_INTERPRETER, b"/lib64/ld.so\0")).unwrap();
    assert_eq!(seen.interpreter.as_deref(), Some("/lib64/ld.so"));
    let dynamic = entries(&[(TAG_NEEDED, 1), (TAG_NEEDED, 9)]);
    assert_eq!(linkage(&file(TYPE_DYN, SEGMENT_DYNAMIC, &dynamic)).unwrap().libraries, 2);
}

#[test]
fn this_very_program_is_linked_dynamically() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let seen = linkage(&program).unwrap();
    assert!(seen.interpreter.is_some() && seen.libraries > 0, "{seen:?}");
}

#[test]
fn every_truncation_is_an_error_or_an_answer_and_never_a_panic() {
    let whole = file(TYPE_DYN, SEGMENT_INTERPRETER, b"/lib64/ld.so\0");
    for length in 0..whole.len() {
        assert!(linkage(&whole[..length]).is_err(), "{length}");
    }
}
