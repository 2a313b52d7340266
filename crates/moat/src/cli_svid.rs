//! What a person may type after `moat svid`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct SvidArgs {
    /// The Workload API: `unix:PATH`, as in SPIFFE_ENDPOINT_SOCKET.
    #[arg(long, value_name = "unix:PATH")]
    pub(crate) socket: String,
    /// Folder for what is fetched. `current` in it is a link to the folder of the last that came, with
    /// svid.pem, svid.key (0600) and bundle.pem.
    #[arg(long, default_value = "svid")]
    pub(crate) dir: PathBuf,
    /// The SPIFFE id that is wanted; default: the first that is given.
    #[arg(long, value_name = "ID")]
    pub(crate) spiffe: Option<String>,
    /// End after the first has come, or with an error when none has in time.
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: how long it is waited for, in seconds.
    #[arg(long, default_value_t = 30, requires = "once",
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) wait_s: u64,
}
