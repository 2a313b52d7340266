//! A real Envoy, as `cargo xtask peers` installs it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{eventually, say};

/// Where it is; none when it was not installed, which is an error in CI.
pub(crate) fn program() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_BIN_EXE_moat")).ancestors().skip(1);
    let found = above.map(|folder| folder.join("peers/bin/envoy")).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI promises Envoy");
        say("SKIPPED: Envoy is missing; `cargo xtask peers` installs it");
    }
    found
}

/// A running Envoy. Ends when dropped.
pub(crate) struct Envoy {
    pub(crate) address: SocketAddr,
    process: Child,
    folder: PathBuf,
}

impl Envoy {
    /// Starts it in `folder` with this configuration and waits until it listens at `address`.
    pub(crate) async fn start(folder: &Path, config: &str, address: SocketAddr) -> Envoy {
        std::fs::write(folder.join("envoy.yaml"), config).unwrap();
        let said = std::fs::File::create(folder.join("envoy.log")).unwrap();
        let process = Command::new(program().unwrap())
            .args(["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "warn"])
            .args(["--drain-time-s", "1", "--parent-shutdown-time-s", "2"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut envoy = Envoy { address, process, folder: folder.to_owned() };
        let listens = || {
            let ended = envoy.process.try_wait().unwrap();
            assert!(ended.is_none(), "Envoy ended: {ended:?}\n{}", envoy.said());
            std::net::TcpStream::connect(address).ok()
        };
        eventually("Envoy listens", Duration::from_secs(20), listens).await;
        envoy
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}
