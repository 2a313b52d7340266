//! The gateway role: the pipeline from a socket to an answer.
//!
//! Each stage is one file named by its verb and consumes one type to yield the next; `pipeline` is
//! the only place that knows their order. The role opens no file, makes no bpf() call and executes
//! nothing: sockets, configuration and the links to the auditor come over its control channel.

mod accept;
mod authorize;
mod body;
mod call;
mod decode;
mod doors;
mod enforce;
mod fields;
mod figures;
mod finish;
mod forward;
mod generation;
mod handshake;
mod headers;
mod identify;
mod inputs;
mod iso8583;
mod key_sets;
mod limits;
mod live;
mod mask;
mod memory;
pub mod messages;
mod pace;
mod pipeline;
mod reader;
mod record;
mod reply;
mod risk;
mod role;
mod route;
mod session;
mod sights;
mod standing;
mod step_up;
mod streams;
mod table;
mod tokens;
mod trace;
mod tries;
mod upkeep;
mod upstream;
mod window;
mod worker;

pub use generation::{Generation, Refused as GenerationRefused};
pub use role::{Error, Prepared, prepare, run};
