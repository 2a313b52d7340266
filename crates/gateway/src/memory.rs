//! Who holds the gateway's memory, for whoever asks the admin role.

use serde_json::json;

use crate::messages::FromGateway;

/// Most stacks that are told: those that hold most.
const SITES_MAX: usize = 150;
/// Bytes in one message: less than its bound, since quotes are escaped once more.
const PART_BYTES: usize = 12 * 1024;

/// A profile in parts. Without samples it says that nothing is held.
pub(crate) fn parts(code: Option<(u64, u64, u64)>) -> Vec<FromGateway> {
    let mut profile = moat_heap::profile().unwrap_or_default();
    profile.sites.truncate(SITES_MAX);
    let text = json!({ "code": code, "profile": profile }).to_string();
    // Numbers and names in ASCII, so that it can be cut anywhere.
    let parts: Vec<&[u8]> = text.as_bytes().chunks(PART_BYTES).collect();
    let of = parts.len();
    let part = |(part, text): (usize, &[u8])| FromGateway::Heap {
        part,
        of,
        text: String::from_utf8_lossy(text).into_owned(),
    };
    parts.into_iter().enumerate().map(part).collect()
}
