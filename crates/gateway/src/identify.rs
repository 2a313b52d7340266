//! Stage 3: the certificate becomes an identity, or a recorded refusal.

use moat_identity::identify as read_identity;
use moat_model::Refusal;

use crate::handshake::Handshaken;
use crate::record;
use crate::session::Caller;
use crate::worker::Worker;

/// Who is calling. A refused identity is recorded here, once for the connection; its calls are then
/// answered with that refusal.
///
/// # Errors
/// A refusal at `record`: without a record the connection is closed without a word.
pub(crate) async fn identify(worker: &Worker, handshaken: &Handshaken) -> Result<Caller, Refusal> {
    match read_identity(&handshaken.leaf, &handshaken.trust_domain) {
        Ok(peer) => Ok(Caller::Verified(peer)),
        Err(refusal) => {
            worker.counters.refuse(&refusal);
            let negotiated = Some(handshaken.negotiated);
            let (listener, remote) = (handshaken.listener, handshaken.remote);
            let receipt =
                record::connection_refusal(worker, listener, remote, negotiated, &refusal).await?;
            Ok(Caller::Refused(refusal, receipt))
        }
    }
}
