//! Landlock: which paths a role may touch, and which sockets it may open.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::sandbox::{Jail, Role};

/// The newest Landlock version whose rules are asked for.
const NEWEST: ABI = ABI::V6;

/// How much of Landlock the kernel enforces, found out by a thread that restricts itself and ends:
/// `full`, `partial`, or nothing.
#[must_use]
pub fn try_landlock() -> Option<&'static str> {
    let jail = Jail { role: Role::Admin, user: None, writable: Vec::new() };
    std::thread::spawn(move || restrict(&jail)).join().ok()?.ok()?
}

/// Restricts this thread and all it starts. Returns how much of it the kernel enforces, or `None`
/// if it has no Landlock.
pub(crate) fn restrict(jail: &Jail) -> Result<Option<&'static str>, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    ruleset = match jail.role {
        // Connecting is what gateway and courier do; where to is the egress guard's business.
        Role::Gateway | Role::Courier => ruleset.handle_access(AccessNet::BindTcp)?,
        Role::Auditor | Role::Admin | Role::Witness | Role::Kernel => {
            ruleset.handle_access(AccessNet::from_all(NEWEST))?
        }
    };
    let mut created = ruleset.create()?;
    for path in &jail.writable {
        if let Ok(fd) = PathFd::new(path) {
            created = created.add_rule(PathBeneath::new(fd, writing()))?;
        }
    }
    let status = created.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Some("full"),
        RulesetStatus::PartiallyEnforced => Some("partial"),
        RulesetStatus::NotEnforced => None,
    })
}

/// Everything a log needs, and neither execution nor device nodes, sockets or links.
fn writing() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
