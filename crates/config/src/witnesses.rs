//! The policy of `audit.policy`: which witnesses must confirm the log, and where they are.

use std::net::SocketAddr;

use moat_model::code::config as codes;
use moat_tlog::policy::Policy;

use crate::raw::Text;
use crate::resolve::Resolver;
use crate::resolved::{WitnessAddress, WitnessSettings};

/// How long records may be unwitnessed, unless the configuration says otherwise, in milliseconds.
const UNWITNESSED_MS: u64 = 60_000;
/// Longest that may be configured: a week, for cosignatures that are brought by hand.
const UNWITNESSED_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// The witnesses, if the configuration names a policy.
pub(crate) fn witnesses(r: &mut Resolver<'_>) -> Option<WitnessSettings> {
    let raw = r.raw;
    let unwitnessed_ms_max =
        r.bounded(raw.audit.unwitnessed_ms_max.as_ref(), UNWITNESSED_MS, 100..=UNWITNESSED_MS_MAX);
    let Some(reference) = &raw.audit.policy else {
        if let Some(value) = &raw.audit.unwitnessed_ms_max {
            let fix = "name a policy file in audit.policy, or leave this out";
            r.bad(&codes::CONFLICT, value, "there is no witness to wait for", fix);
        }
        return None;
    };
    let bytes = r.fetch(reference);
    if bytes.is_empty() {
        let fix = "write a policy as docs/evidence.md shows it";
        r.bad(&codes::BAD_VALUE, reference, "the policy is empty or cannot be read", fix);
        return None;
    }
    let policy = match Policy::parse(&bytes) {
        Ok(policy) => policy,
        Err(error) => {
            let fix = "write it as docs/evidence.md shows it (c2sp.org/tlog-policy)";
            r.bad(&codes::BAD_VALUE, reference, error.to_string(), fix);
            return None;
        }
    };
    if !policy.asks_for_witnesses() {
        let fix = "name witnesses, a group and a quorum, or leave audit.policy out";
        r.bad(&codes::BAD_VALUE, reference, "the policy asks for no witness", fix);
    }
    let addresses = policy.witnesses().map(|(_, url)| url.map(str::to_owned));
    let addresses: Vec<_> = addresses.collect::<Vec<_>>();
    let addresses = addresses.iter().map(|url| address(r, reference, url.as_deref())).collect();
    Some(WitnessSettings { policy, addresses, unwitnessed_ms_max })
}

fn address(r: &mut Resolver<'_>, at: &Text, url: Option<&str>) -> Option<WitnessAddress> {
    let url = url?;
    let parsed = parse(url);
    if parsed.is_none() {
        let fix = "write http://, an IP address (or localhost), a port and perhaps a path: \
                   http://10.1.0.9:8480/moat. For https put a local forwarder before the witness";
        r.bad(&codes::BAD_VALUE, at, format!("`{url}` is no address of a witness"), fix);
    }
    parsed
}

/// The submission prefix of tlog-witness.
fn parse(url: &str) -> Option<WitnessAddress> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, path)| (a, path));
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '/');
    let address: SocketAddr = authority.replacen("localhost:", "127.0.0.1:", 1).parse().ok()?;
    let path = path.trim_end_matches('/');
    if !path.chars().all(fine) {
        return None;
    }
    let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
    Some(WitnessAddress { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_at_an_address_and_perhaps_below_a_path() {
        let prefix = |url| parse(url).map(|found| format!("{} {}", found.address, found.prefix));
        assert_eq!(prefix("http://10.0.0.1:80").as_deref(), Some("10.0.0.1:80 "));
        assert_eq!(prefix("http://[::1]:80/a/b/").as_deref(), Some("[::1]:80 /a/b"));
        assert_eq!(prefix("http://localhost:80/").as_deref(), Some("127.0.0.1:80 "));
        for url in [
            "https://10.0.0.1:80",
            "http://10.0.0.1",
            "http://w.example:80",
            "10.0.0.1:80",
            "http://10.0.0.1:80/a?b",
            "http://10.0.0.1:80/a b",
            "http://u@10.0.0.1:80",
            "",
        ] {
            assert_eq!(prefix(url), None, "{url}");
        }
    }
}
