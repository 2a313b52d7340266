use super::source::{code_of, functions, says_why_it_is_long};
use super::*;

#[test]
fn the_tree_holds_nothing_forbidden() {
    check(true).expect("nothing forbidden");
}

#[test]
fn a_placeholder_fails_and_a_note_does_not() {
    let text = format!("fn f() {{\n    {})\n}}\n// {}: later\n", FORBIDDEN[0].0, NOTES[0]);
    let found: Vec<(usize, bool)> =
        look("a.rs", &text).iter().map(|found| (found.line, found.fails)).collect();
    assert_eq!(found, [(2, true), (4, false)]);
}

#[test]
fn long_files_functions_and_lines_are_printed() {
    let text = format!("fn long() {{\n{}}}\n// {}\n", "    f();\n".repeat(600), "x".repeat(98));
    let found: Vec<String> = look("a.rs", &text).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "a.rs: 603 lines, and no reason on top",
            "a.rs:1: function long has 602 lines",
            "a.rs:603: lines over 100 columns: 1",
        ]
    );
    let text = format!("//! One table. Longer\n//! than most, as it is one table.\n{text}");
    assert!(says_why_it_is_long(&text));
    assert_eq!(look("a.rs", &text).len(), 2);
}

#[test]
fn functions_end_where_their_brace_does() {
    let text = "\
impl A {
    pub(crate) async fn one(&self)
    where
        A: B,
    {
        if x {
        }
    }

    fn two() {}
    fn three();
}
";
    assert_eq!(functions(text), [(2, "one", 7), (10, "two", 1), (11, "three", 1)]);
}

#[test]
fn comments_and_texts_are_no_code() {
    assert_eq!(code_of(r#"f("a \" // b"); // c"#), "f(); ");
}

#[test]
fn readmes_differ_in_words_only() {
    let english = "# Moat\n\n## Try it\n\n```sh\nmake demo  # a minute\n```\n";
    let chinese = "# 护城河\n\n## 试一试\n\n```sh\nmake demo  # 一分钟\n```\n";
    let found = |chinese: &str| readme::differences(english, chinese).len();
    assert_eq!(found(chinese), 0);
    assert_eq!(found(&chinese.replace("demo", "test")), 1);
    assert_eq!(found(&chinese.replace("## ", "### ")), 1);
    assert_eq!(found("# 护城河\n"), 1);
    assert_eq!(found(&format!("{chinese}## 更多\n")), 1);
}
