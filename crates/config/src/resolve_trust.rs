//! Whom a listener or an upstream believes, and what it must know of revoked certificates.

use std::collections::BTreeSet;

use moat_model::code::config as codes;
use serde_saphyr::Spanned;

use crate::raw::{RawClients, RawRevocation, RawStaple, RawTransparency, RawUpstreamTls, Text};
use crate::resolve::Resolver;
use crate::resolved::{Clients, Revocation, Trust};

/// Most groups of callers of one listener.
const CLIENTS_MAX: usize = 32;
/// Most server names of one group.
const SERVER_NAMES_MAX: usize = 64;
/// Most files of lists of one group.
const CRLS_MAX: usize = 64;
/// Most OCSP responses of one group.
const RESPONSES_MAX: usize = 256;
/// Longest server name (RFC 1035 §2.3.4).
const SERVER_NAME_BYTES_MAX: usize = 253;

pub(crate) fn clients(r: &mut Resolver<'_>, listener: &Text, raw: &[RawClients]) -> Vec<Clients> {
    if raw.is_empty() || raw.len() > CLIENTS_MAX {
        let message = format!("a listener takes 1 to {CLIENTS_MAX} groups of clients");
        r.bad(&codes::BAD_VALUE, listener, message, "list them under `clients`");
    }
    let mut others = raw.iter().filter(|group| group.server_names.is_empty()).skip(1);
    if let Some(second) = others.next() {
        let message = "a second group without `server_names`: nothing says whose callers it has";
        let fix = "give it `server_names`, or merge the two";
        r.bad(&codes::BAD_VALUE, &second.role, message, fix);
    }
    let mut seen = BTreeSet::new();
    raw.iter().map(|group| one(r, group, &mut seen)).collect()
}

fn one(r: &mut Resolver<'_>, raw: &RawClients, seen: &mut BTreeSet<String>) -> Clients {
    if raw.server_names.len() > SERVER_NAMES_MAX {
        let message = format!("more than {SERVER_NAMES_MAX} server names");
        r.bad(&codes::BAD_VALUE, &raw.role, message, "make two groups of it");
    }
    for name in &raw.server_names {
        if !is_host_name(&name.value) {
            let fix = "write a DNS name such as pos.bank.example, without `*`";
            r.bad(&codes::BAD_VALUE, name, format!("`{}` is no host name", name.value), fix);
        }
        if !seen.insert(name.value.to_ascii_lowercase()) {
            let message = format!("`{}` stands twice", name.value);
            r.bad(&codes::DUPLICATE_KEY, name, message, "name each server in one group only");
        }
    }
    let names = raw.server_names.iter().map(|name| name.value.to_ascii_lowercase());
    let believed = trust(r, &raw.trust, raw.revocation.as_ref(), &raw.crls, &raw.ocsp, false);
    Clients {
        role: raw.role.value.clone(),
        server_names: names.collect(),
        trust: logged(r, raw.transparency.as_ref(), believed),
    }
}

/// Of callers whom somebody else passes on: there is no server name to choose by.
pub(crate) fn passed_on(r: &mut Resolver<'_>, raw: &RawClients) -> Clients {
    if let Some(name) = raw.server_names.first() {
        let fix = "leave it out: every caller that is passed on belongs to this group";
        r.bad(&codes::BAD_VALUE, name, "`server_names` says nothing here", fix);
    }
    one(r, raw, &mut BTreeSet::new())
}

pub(crate) fn service(r: &mut Resolver<'_>, raw: &RawUpstreamTls) -> Trust {
    let must_staple = raw.ocsp == RawStaple::Require;
    let believed = trust(r, &raw.trust, raw.revocation.as_ref(), &raw.crls, &[], must_staple);
    logged(r, raw.transparency.as_ref(), believed)
}

/// The same authorities, and the logs that must have signed what they issue.
fn logged(r: &mut Resolver<'_>, raw: Option<&RawTransparency>, trust: Trust) -> Trust {
    let Some(raw) = raw else { return trust };
    let most = u64::try_from(raw.logs.len()).unwrap_or(u64::MAX);
    if raw.needed.value == 0 || raw.needed.value > most {
        let fix = "write a number from 1 to that of the files under `logs`";
        r.bad(&codes::BAD_VALUE, &raw.needed, "so many logs cannot have signed", fix);
    }
    let logs = raw.logs.iter().map(|log| r.fetch(log)).collect();
    Trust { logs, logs_needed: usize::try_from(raw.needed.value).unwrap_or(usize::MAX), ..trust }
}

fn trust(
    r: &mut Resolver<'_>,
    pem: &Text,
    revocation: Option<&Spanned<RawRevocation>>,
    crls: &[Text],
    ocsp: &[Text],
    must_staple: bool,
) -> Trust {
    if crls.len() > CRLS_MAX {
        let message = format!("more than {CRLS_MAX} files of lists");
        r.bad(&codes::BAD_VALUE, pem, message, "put several lists into one PEM file");
    }
    if ocsp.len() > RESPONSES_MAX {
        let message = format!("more than {RESPONSES_MAX} OCSP responses");
        r.bad(&codes::BAD_VALUE, pem, message, "use a list of revoked certificates");
    }
    let knows_nothing = crls.is_empty() && ocsp.is_empty();
    let said = revocation.map(|said| said.value);
    if let Some(revocation) = revocation
        && knows_nothing != (revocation.value == RawRevocation::None)
    {
        let (message, fix) = if knows_nothing {
            ("there is nothing to look into", "name lists under `crls`, or write `none`")
        } else {
            ("there are lists or responses that nobody would look into", "write `all` or `leaf`")
        };
        r.bad(&codes::BAD_VALUE, revocation, message, fix);
    }
    if said.is_none() && knows_nothing && !must_staple && r.prod {
        let message = "`profile: prod` wants to know how revoked certificates are known";
        let fix = "name the authorities' lists under `crls`, or write `revocation: none`";
        r.bad(&codes::PROD_ONLY, pem, message, fix);
    }
    Trust {
        pem: r.fetch(pem),
        crls: crls.iter().map(|list| r.fetch(list)).collect(),
        ocsp: ocsp.iter().map(|response| r.fetch(response)).collect(),
        must_staple,
        logs: Vec::new(),
        logs_needed: 0,
        revocation: match said {
            Some(RawRevocation::Leaf) => Revocation::Leaf,
            Some(RawRevocation::All) => Revocation::All,
            None if !crls.is_empty() => Revocation::All,
            None if !ocsp.is_empty() => Revocation::Leaf,
            None | Some(RawRevocation::None) => Revocation::None,
        },
    }
}

/// A name as SNI has it (RFC 6066 §3): letters, digits and hyphens between dots.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fine)
    };
    name.len() <= SERVER_NAME_BYTES_MAX
        && name.split('.').all(is_label)
        && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}
