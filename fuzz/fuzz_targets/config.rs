//! Any text is either a configuration or a problem with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_model::code::config::{DUPLICATE_KEY, MISSING_KEY, UNKNOWN_KEY, WRONG_TYPE};

fuzz_target!(|text: &str| {
    let Err(problem) = moat_config::parse("moat.yaml", text) else { return };
    let about_a_key =
        [&DUPLICATE_KEY, &MISSING_KEY, &UNKNOWN_KEY, &WRONG_TYPE].contains(&problem.code);
    if about_a_key && !text.trim().is_empty() {
        assert!(problem.line > 0, "no place: {problem:?}");
    }
    assert!(problem.line <= text.lines().count().max(1), "beyond the end: {problem:?}");
    assert!(problem.render(text).starts_with(problem.code.id));
});
