//! Compiles the BPF programs in `bpf/`, if the feature `bpf` is on. No object is kept in the tree.

#![expect(clippy::disallowed_methods, reason = "cargo tells build scripts by environment")]

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The programs: `bpf/NAME.bpf.c` becomes `NAME.o`.
const PROGRAMS: &[&str] = &["egress", "tls_records", "behaviour", "latency", "loss", "calls"];

/// What is said to whoever cannot compile them.
const REMEDY: &str = "On Debian or Ubuntu, as root: apt-get install --yes clang libbpf-dev. \
     Or build without the kernel's part: cargo build --no-default-features";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bpf");
    if env::var_os("CARGO_FEATURE_BPF").is_none() {
        return ExitCode::SUCCESS;
    }
    for name in PROGRAMS {
        if let Err(why) = compile(name) {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compile(name: &str) -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|e| format!("{name}: {e}"));
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("bpf");
    let object = Path::new(&variable("OUT_DIR")?).join(format!("{name}.o"));
    // BPF has the byte order of the machine that it runs on.
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb",
        _ => "bpfel",
    };
    let mut clang = Command::new("clang");
    clang.args(["-target", target, "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    // Registers have other names on each.
    let arch = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => return Err(format!("the BPF programs do not know the architecture {other}")),
    };
    clang.arg(format!("-D__TARGET_ARCH_{arch}"));
    // Debug information names folders; that of the checkout is nobody's business.
    clang.arg(format!("-ffile-prefix-map={}=bpf", folder.display()));
    clang.arg("-I").arg(&folder).arg("-c").arg(folder.join(format!("{name}.bpf.c")));
    match clang.arg("-o").arg(object).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let remedy = if said.contains("bpf_helpers.h' file not found") { REMEDY } else { "" };
            Err(format!("clang could not compile bpf/{name}.bpf.c\n{said}\n{remedy}"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("clang is missing, which compiles the BPF programs. {REMEDY}"))
        }
        Err(error) => Err(format!("clang: {error}")),
    }
}
