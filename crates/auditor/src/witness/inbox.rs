//! The one-way form: cosigned checkpoints that somebody brought, as files in the folder `inbox`.
//!
//! For witnesses that are not on the network, behind a diode or a desk. A file is a checkpoint
//! that this log has signed, with the cosignatures of a quorum. It counts as what the courier
//! brings counts: verified here, against this log's own tree.

use std::io;

use moat_audit::fs::LogFs as _;
use moat_audit::store::{Store as _, read_file};
use moat_audit::tiles::Stored;
use moat_tlog::Sha256;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::sign::AwsLc;
use moat_tlog::tree::Tree;

use super::{Shared, Work};

/// Name of the folder, in that of the log.
pub const INBOX: &str = "inbox";
/// How the name of a file must end to be read; anything else is left alone.
pub const SUFFIX: &str = ".checkpoint";
/// Most files that are read at one look.
const FILES_MAX: usize = 16;

impl Work {
    /// Takes what lies in the inbox. A file that is taken is removed; one that is refused stays, under
    /// another name, and the error says why.
    pub(super) fn read_inbox(&self, shared: &Shared) -> io::Result<()> {
        let names = self.inbox.list()?.into_iter().filter(|name| name.ends_with(SUFFIX));
        let mut refused = Ok(());
        for name in names.take(FILES_MAX) {
            let bytes = read_file(&self.inbox, &name, NOTE_BYTES_MAX + 1)?.unwrap_or_default();
            match self.judge(&bytes) {
                Ok(signed) => {
                    self.keep(&signed, shared)?;
                }
                Err(why) => {
                    self.inbox.replace(&format!("{name}.refused"), &bytes)?;
                    refused = Err(io::Error::other(format!("{name}: {why}")));
                }
            }
            self.inbox.remove(&name)?;
        }
        refused
    }

    fn judge(&self, bytes: &[u8]) -> Result<SignedCheckpoint, String> {
        let signed = SignedCheckpoint::parse(bytes).map_err(|error| error.to_string())?;
        let checkpoint = signed.checkpoint();
        if checkpoint.origin() != self.origin {
            return Err(format!("it is of the log {}", checkpoint.origin()));
        }
        self.policy.witnessed(&signed, &AwsLc).map_err(|error| error.to_string())?;
        let size = checkpoint.size();
        let tree = Tree::<Sha256, _>::new(size, Stored::new(&self.fs, size));
        let root = tree.and_then(|mut tree| tree.root()).map_err(|error| error.to_string())?;
        if root == *checkpoint.root() {
            Ok(signed)
        } else {
            Err("the tree of this log has another root at that size".to_owned())
        }
    }
}
