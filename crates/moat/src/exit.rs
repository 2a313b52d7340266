//! Exit codes.

use std::process::ExitCode;

/// Tampering, or a verification that failed.
pub(crate) const TAMPERED: u8 = 3;
/// Bad configuration (sysexits.h: EX_CONFIG).
const CONFIG: u8 = 78;

/// The exit code of an error: 78 for a bad configuration, 1 for anything else.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let is_config = error.chain().any(|e| {
        e.is::<moat_config::Problems>()
            || e.is::<moat_gateway::GenerationRefused>()
            || e.is::<moat_message::SpecError>()
    });
    if is_config { ExitCode::from(CONFIG) } else { ExitCode::FAILURE }
}
