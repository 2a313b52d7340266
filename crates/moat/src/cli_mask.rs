//! What a person may type after `moat mask`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum MaskCommand {
    /// Show the four views of a body, as a route of a configuration makes them.
    ///
    /// The service sees the body in clear, or as `mask_request` leaves it; that view is shown only
    /// with --show-upstream. The policy sees what `decide_on` declares, the caller what `mask` and
    /// the plan leave, the record the fields under `audit`.
    Try {
        #[command(flatten)]
        of: Of,
        /// Plan that a policy's obligation would name; default: the route's `mask` alone.
        #[arg(long, value_name = "NAME")]
        plan: Option<String>,
        /// Kind of the body.
        #[arg(long, value_enum, default_value = "json")]
        kind: BodyKind,
        /// Show what the service sees, too: values in clear.
        #[arg(long)]
        show_upstream: bool,
        /// File with the body; `-` reads stdin.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
        /// `table` for people, `json` for programs.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Count what ought to be classified and is not, in fields of JSON that no rule of a route names.
    ///
    /// Only formats with a check digit are looked for: cards, identity numbers, credit codes of
    /// organisations. Places and numbers are shown, never values. Exit 1 if anything is found.
    Discover {
        #[command(flatten)]
        of: Of,
        /// Look for formats without a check digit as well; expect findings that are none.
        #[arg(long)]
        everything: bool,
        /// File with a JSON document, or one a line; `-` reads stdin.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
        /// `table` for people, `json` for programs: one object a line.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
}

/// Whose rules are tried.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Configuration: a file, or a folder of fragments.
    #[arg(short, long, default_value = "moat.yaml", value_name = "PATH")]
    pub(crate) config: PathBuf,
    /// Route whose rules are tried.
    #[arg(long, value_name = "NAME")]
    pub(crate) route: String,
}

/// See [`moat_mask::body::Kind`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BodyKind {
    Json,
    Ndjson,
    Events,
    Form,
    Csv,
}
