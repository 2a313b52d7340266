//! The example policies, as an operator tests them.

use std::path::Path;

use crate::support::moat;

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn every_example_policy_passes_its_own_tests() {
    for name in ["demo", "payment", "medical", "cards"] {
        let folder = examples().join(name).join("policy").display().to_string();
        let (code, out, err) = moat(&["policy", "test", &folder]);
        assert_eq!(code, 0, "{name}\n{out}{err}");
        assert!(out.lines().filter(|line| line.starts_with("pass")).count() >= 5, "{name}\n{out}");
    }
}
