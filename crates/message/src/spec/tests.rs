use super::*;
use moat_model::code::message as codes;

fn wrong(yaml: &str) -> SpecError {
    Spec::parse(yaml).expect_err("it contradicts itself")
}

#[test]
fn every_shipped_spec_is_good_and_says_of_itself_what_it_is() {
    for (name, yaml) in SHIPPED {
        let spec = Spec::parse(yaml).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert_eq!(spec.name(), name);
        assert!(!spec.about().is_empty() && spec.framing().is_some());
        assert_eq!(spec.named("pan").map(|(number, _)| number), Some(2));
        assert_eq!(spec.field(52).map(Field::class), Some(Class::Sad));
        assert!(yaml.contains("compare with"), "{name} says that a manual decides");
        // A field whose objects are card numbers is not handed out whole.
        assert_eq!(spec.field(55).map(Field::class), Some(Class::Sad));
    }
}

#[test]
fn a_spec_that_contradicts_itself_is_refused_with_the_field() {
    for (field, part) in [
        ("2: { name: a, kind: n, class: C1, len: 0 }", "fixed length"),
        ("2: { name: a, kind: n, class: C1, len: 10000 }", "fixed length"),
        ("2: { name: a, kind: n, class: C1, len: { kind: ll, max: 100 } }", "`max`"),
        (
            "2: { name: a, kind: n, class: C1, len: { kind: ll, max: 98, includes_itself: true } }",
            "`max`",
        ),
        ("2: { name: a, kind: n, class: C9, len: 1 }", "C9"),
        ("2: { name: a, kind: n, class: C1, len: 1, enc: gbk }", "encoding"),
        ("2: { name: a, kind: a, class: C1, len: 1, enc: bcd }", "encoding"),
        ("2: { name: a, kind: n, class: C1, len: 1, pad: left0 }", "pad"),
        ("2: { name: a, kind: an, class: C1, len: 1, decimals: 2 }", "decimals"),
        ("2: { name: 'a b', kind: n, class: C1, len: 1 }", "name"),
        ("2: { name: a, kind: composite, class: C1, len: 1 }", "parts"),
        ("2: { name: a, kind: b, class: C1, len: 1, tags: { 5A: PAN } }", "tags"),
        ("2: { name: a, kind: tlv, class: C1, len: 1, tags: { '9F': PAN } }", "9F"),
        ("1: { name: a, kind: b, class: C1, len: 8 }", "bitmap"),
        ("0: { name: a, kind: b, class: C1, len: 8 }", "2 to 128"),
        ("129: { name: a, kind: b, class: C1, len: 8 }", "2 to 128"),
        ("2: { name: a, kind: xn, class: C1, len: { kind: ll, max: 9 } }", "fixed"),
        (
            "2: { name: a, kind: ans, class: C1, len: { kind: ll, max: 9, unit: nibbles } }",
            "nibbles",
        ),
    ] {
        let found = wrong(&format!("spec: s\nfields:\n  {field}\n"));
        assert_eq!(found.code, &codes::SPEC_FIELD, "{field}");
        assert!(found.message.contains(part) && found.field.is_some(), "{field}: {found}");
    }
    let twice = "spec: s\nfields:\n  2: { name: a, kind: n, class: C1, len: 1 }\n  3: { name: a, kind: n, class: C1, len: 1 }\n";
    assert_eq!(wrong(twice).field, Some(3));
}

#[test]
fn what_is_no_spec_is_refused_with_its_place() {
    for yaml in [
        "",
        "spec: s\n",
        "spec: s\nfields: []\n",
        "spec: s\nfields:\n  2: { name: a, kind: q, class: C1, len: 1 }\n",
        "spec: s\nfields:\n  2: { name: a, kind: n, class: C1, len: 1, unknown: 1 }\n",
        "spec: s\nfields:\n  2: { name: a, kind: n, class: C1, len: -1 }\n",
        "spec: s\nfields:\n  2: { name: a, kind: n, class: C1, len: { kind: ll } }\n",
        "spec: 'a b'\nfields: {}\n",
    ] {
        assert_eq!(wrong(yaml).code, &codes::SPEC_SYNTAX, "{yaml}");
    }
    let place = wrong("spec: s\nfields:\n  2: { name: a, kind: n, len: 1 }\n").place;
    assert!(place.is_some_and(|(line, _)| line == 3), "{place:?}");
    let long = format!("spec: s\n# {}\nfields: {{}}\n", "x".repeat(crate::limit::SPEC_BYTES_MAX));
    assert_eq!(wrong(&long).code, &codes::SPEC_SYNTAX);
}

#[test]
fn composites_name_each_part_once() {
    let of = |parts: &str| {
        format!(
            "spec: s\nfields:\n  48:\n    name: a\n    kind: composite\n    class: C1\n    len: {{ kind: lll, max: 99 }}\n    parts: {parts}\n"
        )
    };
    let good = "{ form: tagged, tag: 2, length: 3, items: [{ name: x, class: PAN, tag: AA }] }";
    assert_eq!(Spec::parse(&of(good)).unwrap().field(48).map(Field::class), Some(Class::Pan));
    for parts in [
        "{ form: positional, items: [] }",
        "{ form: positional, items: [{ name: x, class: C1 }] }",
        "{ form: positional, items: [{ name: x, class: C1, len: 1 }, { name: x, class: C1, len: 1 }] }",
        "{ form: positional, items: [{ name: x, class: C1, len: 1, kind: tlv }] }",
        "{ form: tagged, tag: 0, length: 3, items: [{ name: x, class: C1, tag: AA }] }",
        "{ form: tagged, tag: 2, length: 3, items: [{ name: x, class: C1, tag: A }] }",
        "{ form: tagged, tag: 2, length: 3, items: [{ name: x, class: C1, tag: AA, len: 2 }] }",
        "{ form: bitmap, bitmap_bytes: 1, items: [{ name: x, class: C1, bit: 9, len: 1 }] }",
        "{ form: bitmap, bitmap_bytes: 9, items: [{ name: x, class: C1, bit: 1, len: 1 }] }",
        "{ form: bitmap, bitmap_bytes: 1, items: [{ name: x, class: C1, bit: 2, len: 1 }, { name: y, class: C1, bit: 1, len: 1 }] }",
    ] {
        assert_eq!(wrong(&of(parts)).field, Some(48), "{parts}");
    }
}
