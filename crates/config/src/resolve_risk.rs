//! Resolving what is remembered of callers and compared, and what is kept of decisions.

use moat_model::code::config as codes;
use moat_model::egress::{Protocol, Rule};

use crate::raw::{RawRoute, Text};
use crate::resolve::Resolver;
use crate::resolved::{FieldKind, ReplaySettings};

/// Default and bounds of the number of subjects.
const SUBJECTS: u32 = 65_536;
const SUBJECTS_MIN: u32 = 512;
const SUBJECTS_MAX: u32 = 4_194_304;
/// Most places, and most networks of all of them.
const PLACES_MAX: usize = 256;
const NETWORKS_MAX: usize = 1_024;
/// Longest name of a place, in bytes.
const PLACE_BYTES_MAX: usize = 64;

/// Most subjects that are remembered; 0 without `risk`.
pub(crate) fn subjects_max(r: &mut Resolver<'_>) -> u32 {
    let Some(raw) = &r.raw.risk else { return 0 };
    let Some(most) = &raw.subjects_max else { return SUBJECTS };
    if !(SUBJECTS_MIN..=SUBJECTS_MAX).contains(&most.value) {
        let fix = format!("write a number from {SUBJECTS_MIN} to {SUBJECTS_MAX}");
        r.bad(&codes::BAD_VALUE, most, "out of range", fix);
    }
    most.value
}

/// What is kept of decisions.
pub(crate) fn replay(r: &mut Resolver<'_>) -> Option<ReplaySettings> {
    let raw = r.raw.replay.as_ref()?;
    Some(ReplaySettings {
        days: r.bounded(raw.days.as_ref(), 7, 1..=90),
        bytes_max: r.bounded(raw.mib_max.as_ref(), 1_024, 64..=1_048_576) * 1024 * 1024,
        keeps_headers: raw.headers,
        keeps_person: raw.person,
    })
}

/// The operator's places.
pub(crate) fn places(r: &mut Resolver<'_>) -> Vec<(String, Vec<String>)> {
    let Some(raw) = &r.raw.risk else { return Vec::new() };
    let networks: usize = raw.places.values().map(Vec::len).sum();
    if raw.places.len() > PLACES_MAX || networks > NETWORKS_MAX {
        let message = format!("over {PLACES_MAX} places, or {NETWORKS_MAX} networks");
        r.bad_whole(&codes::TOO_LARGE, message);
    }
    let mut places = Vec::new();
    for (name, networks) in &raw.places {
        let fine = |byte: u8| byte.is_ascii_graphic();
        if !(1..=PLACE_BYTES_MAX).contains(&name.len()) || !name.bytes().all(fine) {
            let message = format!("`risk.places`: a name has 1 to {PLACE_BYTES_MAX} characters");
            r.bad_whole(&codes::BAD_VALUE, message);
        }
        let networks = networks.iter().filter_map(|text| network(r, text)).collect();
        places.push((name.clone(), networks));
    }
    places
}

fn network(r: &mut Resolver<'_>, text: &Text) -> Option<String> {
    match text.value.parse::<Rule>() {
        Ok(rule) if rule.port.is_none() && rule.protocol == Protocol::Tcp => Some(rule.to_string()),
        _ => {
            let message = format!("`{}` is no network", text.value);
            r.bad(&codes::BAD_VALUE, text, message, "write ADDRESS/BITS: 10.1.0.0/16");
            None
        }
    }
}

/// The pointers of amount and counterparty, which must be decided on.
pub(crate) fn fields(
    r: &mut Resolver<'_>,
    raw: &RawRoute,
    decide_on: &[(String, FieldKind)],
) -> (Option<String>, Option<String>) {
    let kind = |pointer: &Text| {
        let found = decide_on.iter().find(|(known, _)| *known == pointer.value);
        found.map(|(_, kind)| *kind)
    };
    let amount = raw.risk.amount.as_ref();
    if let Some(pointer) = amount
        && !matches!(kind(pointer), Some(FieldKind::Amount | FieldKind::Integer))
    {
        let fix = "list it under `decide_on`, as `amount` or `integer`";
        r.bad(&codes::DANGLING, pointer, "this is no declared amount", fix);
    }
    let counterparty = raw.risk.counterparty.as_ref();
    if let Some(pointer) = counterparty.filter(|pointer| kind(pointer).is_none()) {
        r.bad(&codes::DANGLING, pointer, "this field is not declared", "list it under `decide_on`");
    }
    if let Some(pointer) = amount.or(counterparty)
        && r.raw.risk.is_none()
    {
        let fix = "write `risk: {}` at the top as well";
        r.bad(&codes::CONFLICT, pointer, "nothing is remembered to compare it with", fix);
    }
    let value = |text: Option<&Text>| text.map(|text| text.value.clone());
    (value(amount), value(counterparty))
}
