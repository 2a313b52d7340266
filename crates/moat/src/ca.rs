//! `moat ca`.

use std::process::ExitCode;

use anyhow::Result;
use moat_ca::{Authority, Kind, LeafRequest};
use moat_model::Clock;
use moat_model::clock::System;

use crate::cli::CaCommand;

const DAY_S: i64 = 86_400;

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(System::new().wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}

pub(crate) fn run(command: &CaCommand) -> Result<ExitCode> {
    match command {
        CaCommand::Init { dir, name, sm2 } => {
            let (authority, root) = if *sm2 {
                (Authority::create_sm2(name, now_s())?, "root-sm2.pem")
            } else {
                (Authority::create(name, now_s())?, "root.pem")
            };
            moat_ca::save(&authority, dir)?;
            eprintln!("made {} and its issuing authority", dir.join(root).display());
        }
        CaCommand::Issue { dir, out, spiffe, names, organization, days, stem, sm2 } => {
            let kind = if *sm2 { Kind::Sm2 } else { Kind::P256 };
            let authority = moat_ca::load(dir, kind)?;
            let first = spiffe.first().map_or("", String::as_str);
            let mut request = LeafRequest::spiffe(first, now_s());
            request.uris.clone_from(spiffe);
            request.names.clone_from(names);
            request.organization.clone_from(organization);
            request.valid_s = days.saturating_mul(DAY_S);
            if *days < 0 {
                // Ended that long ago, after a day of validity.
                request.from_s += days.saturating_sub(1).saturating_mul(DAY_S);
                request.valid_s = DAY_S;
            }
            let mark = if *sm2 { "-sm2" } else { "" };
            let stem = stem.clone().unwrap_or_else(|| format!("{}{mark}", request.common_name));
            let out = out.as_ref().unwrap_or(dir);
            moat_ca::write_identity(&authority.issue(&request)?, out, &stem)?;
            eprintln!("made {stem}.pem and {stem}.key in {}", out.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
