//! `moat message` as a person uses it.

use std::path::{Path, PathBuf};

use crate::support::moat;

/// Values that nothing may print.
const PAN: &str = "6222020200112233";
const TRACK: &str = "6222020200112233D30122010000012345";
const PIN_BLOCK: &str = "0412AC89ABCDEF67";

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `moat message`; what it says may not hold a planted value.
#[track_caller]
fn say(words: &[&str]) -> (i32, String) {
    let words: Vec<&str> = std::iter::once("message").chain(words.iter().copied()).collect();
    let (code, stdout, stderr) = moat(&words);
    let said = format!("{stdout}{stderr}");
    for secret in [PAN, TRACK, PIN_BLOCK, &PAN[6..12], &TRACK[16..]] {
        assert!(!said.contains(secret), "{words:?}");
    }
    (code, said)
}

fn authorisation(amount: &str) -> String {
    format!(
        r#"{{"mti":"0200","header":"6000010002","fields":{{"pan":"{PAN}","3":"000000","amount":"{amount}",
            "track2":"{TRACK}","39":"00","52":{{"hex":"{PIN_BLOCK}"}},
            "icc":[{{"tag":"82","value":"1980"}},{{"tag":"70","objects":[{{"tag":"5A","value":"{PAN}"}}]}}]}}}}"#
    )
}

/// Packs in hexadecimal without the check of [`say`]: a message has its values.
fn pack(spec: &str, json: &Path) -> (i32, String, String) {
    moat(&["message", "pack", "--hex", "--framed", "--spec", spec, &json.display().to_string()])
}

#[test]
fn a_message_is_made_shown_and_compared_and_no_secret_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let spec = "iso8583-1987-bcd";
    let mut files = Vec::new();
    for amount in ["000000001250", "000000009900"] {
        let json = write(dir.path(), "m.json", &authorisation(amount));
        let (code, hex, said) = pack(spec, &json);
        assert_eq!(code, 0, "{said}");
        assert!(hex.contains(PAN) && hex.contains(PIN_BLOCK));
        files.push(write(dir.path(), &format!("{amount}.hex"), &hex).display().to_string());
    }
    let (code, said) = say(&["show", "--spec", spec, "--hex", "--framed", &files[0]]);
    assert_eq!(code, 0, "{said}");
    for part in
        ["0200  V1987 Financial Request", "6000010002", "622202***2233", "SAD  ******", "0***0"]
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let options = ["--spec", spec, "--hex", "--framed", "--show-c2"];
    let (_, said) = say(&[&["show", "-o", "json", &files[0]], &options[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["fields"]["4"]["shown"], "000000001250");
    assert_eq!(json["fields"]["55"]["parts"][2]["shown"], "622202***2233");
    assert_eq!(json["fields"]["52"]["shown"], "******");

    let (code, said) = say(&[&["diff", &files[0], &files[0]], &options[..]].concat());
    assert_eq!((code, said.as_str()), (0, ""));
    let (code, said) = say(&[&["diff", &files[0], &files[1]], &options[..]].concat());
    assert!(code == 1 && said.contains("amount") && said.contains("000000001250 → 000000009900"));
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_refusal_names_code_field_and_place_in_both_languages_and_no_value() {
    let dir = tempfile::tempdir().unwrap();
    let cut = format!("02007000000000000000 16{PAN}00000000000000125");
    let file = write(dir.path(), "cut.txt", &cut.replace(' ', "")).display().to_string();
    let spec = ["show", "--spec", "iso8583-1987-ascii", &file];
    let (code, said) = say(&spec);
    assert!(code == 1 && said.contains("MOAT-F003") && said.contains("field 4, offset"), "{said}");
    let (code, said) = say(&[&spec[..], &["--lang", "zh"]].concat());
    assert!(code == 1 && said.contains("MOAT-F003：消息") && said.contains("字段 4"), "{said}");

    let bad = authorisation("12x000000000");
    let (_, said) = say(&[
        "pack",
        "--spec",
        "iso8583-1987-bcd",
        &write(dir.path(), "a", &bad).display().to_string(),
    ]);
    assert!(said.contains("MOAT-F009") && said.contains("field 4"), "{said}");
    let no_json = format!("{{\"mti\":\"0200\",\"fields\":{{\"2\":\"{PAN}\",}}}}");
    let (code, said) = say(&[
        "pack",
        "--spec",
        "iso8583-1987-bcd",
        &write(dir.path(), "b", &no_json).display().to_string(),
    ]);
    assert!(code == 1 && said.contains("no JSON: line 1"), "{said}");
    let odd = write(dir.path(), "c", &format!("{PAN}0")).display().to_string();
    let (code, said) = say(&["show", "--hex", "--spec", "iso8583-1987-bcd", &odd]);
    assert!(code == 1 && said.contains("not hexadecimal"), "{said}");
}

#[test]
fn specs_are_listed_printed_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = say(&["specs"]);
    assert!(code == 0 && said.contains("china-domestic"), "{said}");
    let (code, yaml) = say(&["specs", "china-domestic"]);
    assert_eq!(code, 0);
    let file = write(dir.path(), "spec.yaml", &yaml).display().to_string();
    let (code, said, _) = moat(&["check", &file]);
    assert!(code == 0 && said.contains("good, spec china-domestic"), "{said}");
    std::fs::write(&file, "spec: s\nfields:\n  2: { name: pan, kind: n, class: PAN, len: 0 }\n")
        .unwrap();
    let (code, _, said) = moat(&["check", &file]);
    assert!(code == 78 && said.contains("MOAT-F021") && said.contains("field 2"), "{said}");
    let (code, said) = say(&["show", "--spec", &file, &file]);
    assert!(code == 78 && said.contains("MOAT-F021"), "{said}");
    let (code, said) = say(&["show", "--spec", "nothing-of-that-name", &file]);
    assert!(code == 1 && said.contains("moat message specs"), "{said}");
}
