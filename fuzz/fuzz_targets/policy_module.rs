//! The lint reads any text, and what it lets pass has no call that the text plainly makes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_policy::{Bundle, BundleFile};

fuzz_target!(|bytes: &[u8]| {
    let file = |path: &str| BundleFile { path: path.to_owned(), bytes: bytes.to_vec() };
    let bundle = Bundle::new(vec![file("authz.rego")]);
    // A test module is linted like any other.
    assert_eq!(bundle.is_ok(), Bundle::new(vec![file("authz_test.rego")]).is_ok());
    match bundle {
        Ok(bundle) => {
            assert!(bundle.digest().starts_with("sha256:"));
            let call = bytes.starts_with(b"http.send(") || bytes.starts_with(b"opa.runtime(");
            assert!(!call, "a forbidden call was let pass");
        }
        Err(problem) => assert!(problem.place.starts_with("authz.rego")),
    }
});
