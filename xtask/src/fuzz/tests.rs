use super::*;

#[test]
fn the_last_line_of_progress_is_read() {
    let text = "INFO: seed\n#2 INITED cov: 10 ft: 11 corp: 1/1b\n\
                #4194304 DONE   cov: 345 ft: 1021 corp: 240/9Kb lim: 4096 exec/s: 9 rss: 40Mb\n\
                stat::average_exec_per_sec: 9\n";
    assert_eq!(reached(text), Some(Reached { edges: 345, features: 1021, runs: 4_194_304 }));
    assert_eq!(reached("no progress"), None);
}

#[test]
fn a_report_keeps_the_panic_and_loses_the_frames() {
    let text = "panicked at a.rs:1:2:\nnot equal\n   0: core::panic\n        at /a.rs:1:2\nSUMMARY";
    assert_eq!(without_frames(text), "panicked at a.rs:1:2:\nnot equal\nSUMMARY");
}

#[test]
fn every_target_is_declared_and_has_seeds() {
    let root = shell::root();
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("a manifest");
    let all = targets().expect("targets");
    assert!(!all.is_empty());
    for target in all {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        let seeds = fs::read_dir(root.join("fuzz/corpus").join(&target)).map_or(0, Iterator::count);
        assert!(seeds > 0, "{target} has no seed in fuzz/corpus");
    }
}
