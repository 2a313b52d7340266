//! The TLS record view: what connections to the listeners begin with, seen at the network card.

mod options;
mod view;

pub use options::{Options, read as read_options};
pub use view::{Counts, Kind, Mode, Seen, Settings, View};
