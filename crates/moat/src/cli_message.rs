//! What a person may type after `moat message`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum MessageCommand {
    /// Show the fields of messages, masked.
    ///
    /// Of a card number first six and last four digits are shown, of track data, PIN blocks and
    /// other authentication data that they are there; nothing shows more.
    Show {
        #[command(flatten)]
        of: Of,
        /// File with the message; `-` reads stdin.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
        /// Check structure alone, not every character.
        #[arg(long)]
        lazy: bool,
        /// `table` for people, `json` for programs: one object a line.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Make a message from JSON and write it to stdout.
    ///
    ///   {"mti": "0200", "header": "6000010002",
    ///    "fields": {"3": "000000", "amount": "000000001250", "52": {"hex": "0011223344556677"},
    ///               "icc": [{"tag": "82", "value": "1980"}]}}
    ///
    /// Fields go by number or name. A value is text as `show` has it, bytes in hexadecimal, or the
    /// objects of a TLV field.
    #[command(verbatim_doc_comment)]
    Pack {
        #[command(flatten)]
        of: Of,
        /// File with the JSON; `-` reads stdin.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Show which fields of two messages differ, masked; exit 1 if any does.
    Diff {
        #[command(flatten)]
        of: Of,
        /// File with the first message; `-` reads stdin.
        first: PathBuf,
        /// File with the second message.
        second: PathBuf,
    },
    /// List the specs that come with Moat, or print one.
    Specs {
        /// For example iso8583-1987-ascii; without one, all are listed.
        name: Option<String>,
    },
}

/// How messages are read and written.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Spec of the dialect: a file, or the name of one that `moat message specs` lists.
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) spec: String,
    /// Messages are hexadecimal text; white space does not count.
    #[arg(long)]
    pub(crate) hex: bool,
    /// Each message has the length of the spec's framing in front.
    #[arg(long)]
    pub(crate) framed: bool,
    /// Show values of class C2, such as amounts and names, in clear.
    #[arg(long)]
    pub(crate) show_c2: bool,
    /// Language of errors.
    #[arg(long, value_parser = ["en", "zh"])]
    pub(crate) lang: Option<String>,
}
