//! Messages between Moat and programs that it decides for or gets its identity from: Envoy's
//! ext_authz v3, AuthZEN 1.0 and the SPIFFE Workload API, and the frames of gRPC around them.
//!
//! Bytes to plain structs and back. It opens no socket, decides nothing and trusts nothing: what
//! stands in a message is what somebody said.

pub mod authzen;
pub mod ext_authz;
pub mod frame;
pub mod workload;

/// Why bytes are no message. Holds no value of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Malformed {}
