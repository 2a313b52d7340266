//! Other implementations of RFC 8998, built from source once into a folder outside the tree: what
//! `interop` makes handshakes with and what `moat bench sm` measures beside Moat.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// A library with its program, as a crate on crates.io holds its source.
pub(crate) struct Library {
    pub(crate) name: &'static str,
    /// What the program says of itself.
    pub(crate) version: &'static str,
    crate_name: &'static str,
    crate_version: &'static str,
    /// The folder of the source within the crate.
    source: &'static str,
    /// What only this one is configured with.
    options: &'static [&'static str],
}

pub(crate) const ALL: [Library; 2] = [
    Library {
        name: "OpenSSL",
        version: "4.0.3",
        crate_name: "openssl-src",
        crate_version: "400.0.2",
        source: "openssl",
        options: &["no-docs"],
    },
    Library {
        name: "Tongsuo",
        version: "8.5.0",
        crate_name: "tongsuo-src",
        crate_version: "850.1.1",
        source: "tongsuo",
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
/// What is made and kept, and where it lies in the source.
const MADE: [(&str, &str); 3] =
    [("openssl", "apps/openssl"), ("libssl.a", "libssl.a"), ("libcrypto.a", "libcrypto.a")];
/// Written last: how the rest was configured.
const STAMP: &str = "configured";
/// The measuring program, which `moat bench sm` runs, and the source that it was made of.
const BENCH: &str = "bench";
const BENCH_SOURCE: &str = "crates/moat/src/bench/sm/peer.c";

impl Library {
    /// The program `openssl` of it, all built if it is not there yet.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let folder = self.folder()?;
        let program = folder.join("openssl");
        if self.is_right(&folder) {
            return Ok(program);
        }
        let (name, version) = (self.name, self.version);
        eprintln!("{name} {version} is missing; building it takes one to three minutes, once");
        let work = cache_dir()?.join(format!("{}-work-{}", self.crate_name, std::process::id()));
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let built = self.build(&work).and_then(|source| self.keep(&source, &folder));
        let _ = fs::remove_dir_all(&work);
        built.with_context(|| format!("{name} {version} cannot be built"))?;
        if !self.is_right(&folder) {
            bail!("{} is not {name} {version}", program.display());
        }
        Ok(program)
    }

    /// The measuring program, compiled with the library if the one there is of another source.
    pub(crate) fn bench(&self) -> Result<PathBuf> {
        self.program()?;
        let folder = self.folder()?;
        let source = shell::root().join(BENCH_SOURCE);
        let text = fs::read(&source).with_context(|| source.display().to_string())?;
        let (bench, copy) = (folder.join(BENCH), folder.join("bench.c"));
        if bench.is_file() && fs::read(&copy).is_ok_and(|old| old == text) {
            return Ok(bench);
        }
        let new = folder.join("bench.new");
        let mut compile = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compile.arg("-O2").arg("-I").arg(folder.join("include")).arg("-o").arg(&new).arg(&source);
        compile.args(["libssl.a", "libcrypto.a"].map(|name| folder.join(name)));
        shell::run(compile.args(["-ldl", "-pthread"]))?;
        fs::rename(&new, &bench)?;
        fs::write(&copy, text)?;
        Ok(bench)
    }

    /// Named by the crate's version.
    fn folder(&self) -> Result<PathBuf> {
        Ok(cache_dir()?.join(format!("{}-{}", self.crate_name, self.crate_version)))
    }

    fn configure(&self) -> Vec<&'static str> {
        OPTIONS.iter().chain(self.options).copied().collect()
    }

    fn is_right(&self, folder: &Path) -> bool {
        let stamp = fs::read_to_string(folder.join(STAMP));
        let told = Command::new(folder.join("openssl")).arg("version").output();
        let version = format!("{} {} ", self.name, self.version);
        stamp.is_ok_and(|stamp| stamp == self.configure().join("\n"))
            && MADE.iter().all(|(name, _)| folder.join(name).is_file())
            && told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(&version))
    }

    /// Fetches the source by cargo, which checks it, and builds it. Gives the folder of the source.
    fn build(&self, work: &Path) -> Result<PathBuf> {
        let manifest = format!(
            "[package]\nname = \"source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\n\
             path = \"lib.rs\"\n\n[dependencies]\n{} = \"={}\"\n\n[workspace]\n",
            self.crate_name, self.crate_version
        );
        fs::write(work.join("Cargo.toml"), manifest)?;
        fs::write(work.join("lib.rs"), "")?;
        let mut vendor = shell::cargo(&["vendor", "--quiet", "--versioned-dirs", "vendor"]);
        shell::run(vendor.current_dir(work).stdout(Stdio::null()))?;
        let crates = fs::read_dir(work.join("vendor"))?.filter_map(Result::ok);
        let mut crates = crates.map(|entry| entry.path().join(self.source));
        let source = crates.find(|path| path.is_dir()).context("the crate holds no source")?;
        let log = fs::File::create(work.join("log"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let made = MADE.map(|(_, path)| path);
        for (program, args) in [
            ("perl", [&["./Configure"], &self.configure()[..]].concat()),
            ("make", vec!["-j", &cores, "build_generated"]),
            ("make", [&["-j", &cores], &made[..]].concat()),
        ] {
            let mut command = Command::new(program);
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

    /// Copies what was made. Each file gets its name when it is whole, the stamp comes last.
    fn keep(&self, source: &Path, folder: &Path) -> Result<()> {
        let headers = folder.join("include/openssl");
        fs::create_dir_all(&headers)?;
        // A measuring program there would be of the library before.
        for old in [STAMP, BENCH] {
            let _ = fs::remove_file(folder.join(old));
        }
        for entry in fs::read_dir(source.join("include/openssl"))? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension() == Some("h".as_ref()))
            {
                fs::copy(&path, headers.join(name))?;
            }
        }
        for (name, path) in MADE {
            let new = folder.join(format!("{name}.new"));
            fs::copy(source.join(path), &new).with_context(|| path.to_owned())?;
            fs::rename(&new, folder.join(name))?;
        }
        fs::write(folder.join(STAMP), self.configure().join("\n"))?;
        Ok(())
    }
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

    use super::{ALL, STAMP};

    #[test]
    fn a_folder_without_the_program_or_of_other_options_is_not_right() {
        let folder = tempfile::tempdir().unwrap();
        for library in &ALL {
            assert!(!library.is_right(Path::new("/nowhere")));
            std::fs::write(folder.path().join(STAMP), library.configure().join("\n")).unwrap();
            assert!(!library.is_right(folder.path()), "the stamp alone");
        }
    }

    #[test]
    fn the_bench_looks_for_the_same_libraries() {
        let source = include_str!("../../crates/moat/src/bench/sm/peer.rs");
        for library in &ALL {
            let Ok(folder) = library.folder() else { return };
            let folder = folder.file_name().unwrap().to_string_lossy().into_owned();
            let name = format!("{} {}", library.name, library.version);
            for wanted in [folder, name] {
                assert!(source.contains(&format!("\"{wanted}\"")), "{wanted}");
            }
        }
    }
}
