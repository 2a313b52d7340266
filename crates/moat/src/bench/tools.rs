//! The peers: nginx and the load generator oha, where they are and which version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

/// Where nginx lies when the path of a person who is not root does not name it.
const NGINX_ELSEWHERE: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin"];
/// Where `cargo xtask peers` puts oha, seen from a folder above this program.
const PEERS: &str = "peers/bin";

pub(crate) struct Tools {
    pub(crate) nginx: Tool,
    pub(crate) oha: Tool,
}

pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

impl Tools {
    /// Both, or an error that says how to get what is missing.
    pub(crate) fn find() -> Result<Tools> {
        let (nginx, oha) = (nginx(), oha());
        match (nginx, oha) {
            (Ok(nginx), Ok(oha)) => Ok(Tools { nginx, oha }),
            (Err(nginx), Err(oha)) => Err(anyhow!("{nginx:#}\n      {oha:#}")),
            (Err(one), _) | (_, Err(one)) => Err(one),
        }
    }
}

/// The peer.
pub(crate) fn nginx() -> Result<Tool> {
    let folders = path().into_iter().chain(NGINX_ELSEWHERE.map(PathBuf::from));
    let path = find("nginx", folders).context(
        "nginx is missing, the peer that is measured beside Moat. On Debian or Ubuntu, as root: \
         apt-get install --yes nginx-light",
    )?;
    let version = version(&path, "-v", "nginx/")?;
    Ok(Tool { path, version })
}

fn oha() -> Result<Tool> {
    let program = std::env::current_exe()?;
    let above = program.ancestors().skip(1).map(|folder| folder.join(PEERS));
    let path = find("oha", above.chain(path()))
        .context("oha is missing, the load generator. In Moat's tree: cargo xtask peers")?;
    let version = version(&path, "--version", "oha ")?;
    Ok(Tool { path, version })
}

/// Which asks Moat, and somebody else, for decisions.
pub(crate) fn envoy() -> Result<Tool> {
    let program = std::env::current_exe()?;
    let above = program.ancestors().skip(1).map(|folder| folder.join(PEERS));
    let path = find("envoy", above.chain(path()))
        .context("Envoy is missing, which asks for decisions. In Moat's tree: cargo xtask peers")?;
    let version = version(&path, "--version", "version: ")?;
    let version = version.split('/').nth(1).unwrap_or_default().to_owned();
    Ok(Tool { path, version })
}

/// A program that `cargo xtask peers` installs, or that is on the path.
pub(crate) fn find_peer(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let above = program.ancestors().skip(1).map(|folder| folder.join(PEERS));
    let elsewhere = NGINX_ELSEWHERE.map(PathBuf::from);
    find(name, above.chain(path()).chain(elsewhere).collect::<Vec<_>>())
}

fn path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn find(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a program says of its version, on whichever stream.
pub(crate) fn version(program: &Path, argument: &str, before: &str) -> Result<String> {
    let told = || format!("{} cannot be run", program.display());
    let output = Command::new(program).arg(argument).output().with_context(told)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    parse_version(&text, before)
        .with_context(|| format!("{} {argument} names no version", program.display()))
}

fn parse_version(text: &str, before: &str) -> Option<String> {
    let (_, after) = text.split_once(before)?;
    Some(after.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{find, parse_version};

    #[test]
    fn versions_are_read_from_what_programs_say() {
        let said = parse_version("nginx version: nginx/1.22.1 (Debian)\n", "nginx/");
        assert_eq!(said.as_deref(), Some("1.22.1"));
        assert_eq!(parse_version("oha 1.16.0\n", "oha ").as_deref(), Some("1.16.0"));
        assert_eq!(parse_version("something else", "oha "), None);
    }

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = || [one.path().to_owned(), two.path().to_owned()];
        assert_eq!(find("oha", folders()), None);
        std::fs::create_dir(one.path().join("oha")).unwrap();
        std::fs::write(two.path().join("oha"), "").unwrap();
        assert_eq!(find("oha", folders()), Some(two.path().join("oha")), "a folder is no program");
    }
}
