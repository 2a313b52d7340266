//! Other implementations of RFC 8998, built from source once into a folder outside the tree: what
//! `interop` makes handshakes with and what `moat bench sm` measures beside Moat.

mod source;
mod tools;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;
use source::Source;

/// A library with its program, as a crate on crates.io holds its source.
pub(crate) struct Library {
    pub(crate) name: &'static str,
    /// What the program says of itself.
    pub(crate) version: &'static str,
    source: Source,
    /// What only this one is configured with.
    options: &'static [&'static str],
}

pub(crate) const ALL: [Library; 2] = [
    Library {
        name: "OpenSSL",
        version: "4.0.3",
        source: Source {
            crate_name: "openssl-src",
            crate_version: "400.0.2",
            sha256: "d2093956673b8dbda85c87fa4fb78e70698ce6c5978a2837d1613f661d3bef76",
            folder: "openssl",
        },
        options: &["no-docs"],
    },
    Library {
        name: "Tongsuo",
        version: "8.5.0",
        source: Source {
            crate_name: "tongsuo-src",
            crate_version: "850.1.1",
            sha256: "c3707d4fc3f701c479a327bc98315902725b93507b1c447489ec101361321f79",
            folder: "tongsuo",
        },
        // TLCP beside TLS, and its fast SM2: off by default there.
        options: &["enable-ntls", "enable-ec_sm2p_64_gcc_128", "no-engine"],
    },
];

/// No file of the machine is read, and what no test needs is left out: it would take as long again.
const OPTIONS: [&str; 13] = [
    "--prefix=/nonexistent",
    "--openssldir=/nonexistent",
    "no-shared",
    "no-tests",
    "no-module",
    "no-legacy",
    "no-quic",
    "no-dtls",
    "no-cms",
    "no-cmp",
    "no-srp",
    "no-comp",
    "no-slh-dsa",
];
/// What the libraries' own configuration compiles with; another is not measured.
const OPTIMISED: &str = "-O3";
/// What is made and kept, and where it lies in the source.
const MADE: [(&str, &str); 3] =
    [("openssl", "apps/openssl"), ("libssl.a", "libssl.a"), ("libcrypto.a", "libcrypto.a")];
/// Written last: what the rest was made of, how, and by which compiler.
const STAMP: &str = "configured";
/// The measuring program, which `moat bench sm` runs, and the source that it was made of.
const BENCH: &str = "bench";
const BENCH_SOURCE: &str = "crates/moat/src/bench/sm/peer.c";
/// A copy of that source, which `moat bench sm` compares with its own.
const BENCH_COPY: &str = "bench.c";
/// How it was compiled, and by which compiler.
const BENCH_STAMP: &str = "bench.compiled";
const BENCH_FLAGS: [&str; 1] = ["-O2"];
/// Longest wait for another task that builds the same library; a build takes some minutes.
const OTHER_BUILD: Duration = Duration::from_secs(20 * 60);

impl Library {
    /// The program `openssl` of it, all built if it is not there yet.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let folder = self.folder()?;
        let program = folder.join("openssl");
        let stamp = self.stamp()?;
        if self.is_right(&folder, &stamp) {
            return Ok(program);
        }
        let (name, version) = (self.name, self.version);
        let _alone = self.alone()?;
        if self.is_right(&folder, &stamp) {
            return Ok(program);
        }
        eprintln!("{name} {version} is missing; building it takes one to three minutes, once");
        let work = cache_dir()?.join(format!("{}-work", self.source.crate_name));
        // What an interrupted build has left.
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let built = self.build(&work).and_then(|source| keep(&source, &folder, &stamp));
        let _ = fs::remove_dir_all(&work);
        built.with_context(|| format!("{name} {version} cannot be built"))?;
        if !self.is_right(&folder, &stamp) {
            bail!("{} is not {name} {version} compiled with {OPTIMISED}", program.display());
        }
        Ok(program)
    }

    /// The measuring program, compiled with the library if the one there is of another source, by
    /// another compiler or with other flags.
    pub(crate) fn bench(&self) -> Result<PathBuf> {
        self.program()?;
        let folder = self.folder()?;
        let source = shell::root().join(BENCH_SOURCE);
        let text = fs::read(&source).with_context(|| source.display().to_string())?;
        let (bench, copy) = (folder.join(BENCH), folder.join(BENCH_COPY));
        let stamp = format!("{}\n{}", BENCH_FLAGS.join(" "), tools::compiler()?);
        let is_same = |name, now: &[u8]| fs::read(folder.join(name)).is_ok_and(|old| old == now);
        if bench.is_file() && is_same(BENCH_COPY, &text) && is_same(BENCH_STAMP, stamp.as_bytes()) {
            return Ok(bench);
        }
        let new = folder.join("bench.new");
        let mut compile = tools::command(tools::COMPILER);
        compile.args(BENCH_FLAGS).arg("-I").arg(folder.join("include"));
        compile.arg("-o").arg(&new).arg(&source);
        compile.args(["libssl.a", "libcrypto.a"].map(|name| folder.join(name)));
        shell::run(compile.args(["-ldl", "-pthread"]))?;
        fs::rename(&new, &bench)?;
        fs::write(&copy, text)?;
        fs::write(folder.join(BENCH_STAMP), stamp)?;
        Ok(bench)
    }

    /// Named by the crate's version.
    fn folder(&self) -> Result<PathBuf> {
        Ok(cache_dir()?.join(self.source.name()))
    }

    fn configure(&self) -> Vec<&'static str> {
        OPTIONS.iter().chain(self.options).copied().collect()
    }

    fn stamp(&self) -> Result<String> {
        Ok(self.stamp_by(&tools::compiler()?))
    }

    fn stamp_by(&self, compiler: &str) -> String {
        format!("{}\n{}\n{compiler}\n", self.source.sha256, self.configure().join("\n"))
    }

    fn is_right(&self, folder: &Path, stamp: &str) -> bool {
        let is_stamped = fs::read_to_string(folder.join(STAMP)).is_ok_and(|old| old == stamp);
        let program = folder.join("openssl").display().to_string();
        let told = tools::command(&program).args(["version", "-v", "-f"]).output();
        let version = format!("{} {} ", self.name, self.version);
        is_stamped
            && MADE.iter().all(|(name, _)| folder.join(name).is_file())
            && told.is_ok_and(|told| {
                let text = String::from_utf8_lossy(&told.stdout);
                text.contains(&version) && text.split_whitespace().any(|word| word == OPTIMISED)
            })
    }

    /// Keeps other tasks from building the same, until dropped.
    fn alone(&self) -> Result<fs::File> {
        let cache = cache_dir()?;
        fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        let path = cache.join(format!("{}.lock", self.source.crate_name));
        let file = fs::File::create(&path).with_context(|| path.display().to_string())?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < OTHER_BUILD => {
                    std::thread::sleep(Duration::from_secs(1));
                }
                Err(error) => {
                    let told = format!("{}: another build holds it", path.display());
                    return Err(error).context(told);
                }
            }
        }
    }

    /// Fetches the source and builds it. Gives the folder of the source.
    fn build(&self, work: &Path) -> Result<PathBuf> {
        tools::check()?;
        let source = self.source.fetch(work)?;
        let log = fs::File::create(work.join("log"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let made = MADE.map(|(_, path)| path);
        for (program, args) in [
            ("perl", [&["./Configure"], &self.configure()[..]].concat()),
            ("make", vec!["-j", &cores, "build_generated"]),
            ("make", [&["-j", &cores], &made[..]].concat()),
        ] {
            let mut command = tools::command(program);
            command.args(args).current_dir(&source);
            command.stdout(log.try_clone()?).stderr(log.try_clone()?);
            if let Err(error) = shell::run(&mut command) {
                let text = fs::read_to_string(work.join("log")).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(10).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{error:#}\n{}", tail.join("\n"));
            }
        }
        Ok(source)
    }
}

/// Copies what was made. Each file gets its name when it is whole, the stamp comes last.
fn keep(source: &Path, folder: &Path, stamp: &str) -> Result<()> {
    let headers = folder.join("include/openssl");
    fs::create_dir_all(&headers)?;
    // A measuring program there would be of the library before.
    for old in [STAMP, BENCH] {
        let _ = fs::remove_file(folder.join(old));
    }
    for entry in fs::read_dir(source.join("include/openssl"))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension() == Some("h".as_ref())) {
            fs::copy(&path, headers.join(name))?;
        }
    }
    for (name, path) in MADE {
        let new = folder.join(format!("{name}.new"));
        fs::copy(source.join(path), &new).with_context(|| path.to_owned())?;
        fs::rename(&new, folder.join(name))?;
    }
    fs::write(folder.join(STAMP), stamp)?;
    Ok(())
}

/// A program of a peer, for tests: nothing in the environment steers its code.
pub(crate) fn untouched(command: &mut Command) -> &mut Command {
    tools::PEER_SETTINGS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// `$XDG_CACHE_HOME/moat` or `~/.cache/moat`; `moat bench sm` looks in the same place.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("moat"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ALL, MADE, STAMP};

    /// A folder with all of a library, whose program is a script that says this.
    fn folder(stamp: &str, says: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for (name, _) in MADE {
            std::fs::write(folder.path().join(name), format!("#!/bin/sh\necho '{says}'\n"))
                .unwrap();
        }
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("openssl"), executable).unwrap();
        std::fs::write(folder.path().join(STAMP), stamp).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_right_if_program_options_compiler_and_optimisation_are() {
        for library in &ALL {
            let stamp = library.stamp_by("cc 1");
            let named = format!("{} {} 1 Jan", library.name, library.version);
            let says = |said: &str, stamp: &str| {
                library.is_right(folder(&library.stamp_by("cc 1"), said).path(), stamp)
            };
            assert!(!library.is_right(Path::new("/nowhere"), &stamp));
            assert!(says(&format!("{named} compiler: cc -O3 -DNDEBUG"), &stamp));
            assert!(!says(&format!("{named} compiler: cc -O0 -DNDEBUG"), &stamp));
            assert!(!says("OpenSSL 3.0.0 1 Jan compiler: cc -O3", &stamp));
            let other = library.stamp_by("cc 2");
            assert!(!says(&format!("{named} compiler: cc -O3"), &other), "another compiler");
        }
    }

    #[test]
    fn the_bench_looks_for_the_same_libraries() {
        let source = include_str!("../../crates/moat/src/bench/sm/peer.rs");
        for library in &ALL {
            let name = format!("{} {}", library.name, library.version);
            for wanted in [library.source.name(), name] {
                assert!(source.contains(&format!("\"{wanted}\"")), "{wanted}");
            }
        }
    }
}
