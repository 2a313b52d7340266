//! The configuration: one `moat.yaml` or a folder of fragments, read once, resolved once.
//!
//! [`load`] turns the raw form ([`raw`], what people write) into the resolved one ([`Config`], what
//! the program sees): defaults filled in, files read, secrets fetched, names checked. The schema of
//! the raw form is generated ([`schema_json`]). The crate never writes a file.

#![cfg_attr(test, allow(clippy::string_slice, reason = "tests"))]

mod fragment;
mod kept;
mod load;
mod messages;
mod outline;
mod problem;
pub mod raw;
mod resolve;
mod resolve_enforcers;
mod resolve_keys;
mod resolve_risk;
mod resolve_route;
mod resolve_trust;
mod resolve_upstream;
mod resolved;
mod secret;
mod sources;
mod witnesses;

pub use kept::{Kept, load_kept};
pub use load::{Loaded, load, parse};
pub use messages::{MessageMatch, Messages};
pub use outline::{Change, Effect, Outline};
pub use problem::{Problem, Problems};
pub use resolved::{
    AdminSettings, After, Asking, AuditSettings, Balance, Bind, BodyField, BodyKind, Breaker,
    CallClass, Clients, Config, Egress, Endpoint, Enforcers, FactSource, FieldKind, Health,
    HealthAsk, Hot, HsmSettings, Identity, KeyUrl, Listener, MaskRule, Method, National, OnBefore,
    Op, Outlier, PROBES, Per, Place, PolicySigned, Profile, Protocol, Rate, ReplaySettings,
    Restart, Retry, Revocation, RingKey, Route, RouteAudit, RouteMatch, Tls, TlsRecords,
    TokenIssuer, TokenUse, Trust, Upstream, Users, WitnessAddress, WitnessSettings,
};

/// The JSON Schema (draft 2020-12) of the raw form, for editors and `moat schema`.
///
/// # Errors
/// Never in practice: the schema is plain data.
pub fn schema_json() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&schemars::schema_for!(raw::Raw))
}

#[cfg(test)]
mod tests;
