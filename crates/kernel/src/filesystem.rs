//! Landlock: which paths a role may touch, and which sockets it may open.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
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
    restrict_to(jail, writing())
}

/// The same with these rights below writable folders.
fn restrict_to(
    jail: &Jail,
    rights: BitFlags<AccessFs>,
) -> Result<Option<&'static str>, RulesetError> {
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
            created = created.add_rule(PathBeneath::new(fd, rights))?;
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
fn writing() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Something that a log does below its folder.
    type Act = fn(&Path) -> io::Result<()>;

    /// What a log does, with the right that it needs for it.
    fn acts() -> [(AccessFs, Act); 8] {
        [
            (AccessFs::ReadFile, |dir| File::open(dir.join("old")).map(drop)),
            (AccessFs::ReadDir, |dir| fs::read_dir(dir).map(drop)),
            (AccessFs::WriteFile, |dir| {
                OpenOptions::new().append(true).open(dir.join("old")).map(drop)
            }),
            (AccessFs::Truncate, |dir| {
                let mut options = OpenOptions::new();
                options.write(true).truncate(true).open(dir.join("old")).map(drop)
            }),
            (AccessFs::MakeReg, |dir| {
                OpenOptions::new().append(true).create_new(true).open(dir.join("new")).map(drop)
            }),
            (AccessFs::MakeDir, |dir| fs::create_dir(dir.join("tiles"))),
            (AccessFs::RemoveFile, |dir| fs::remove_file(dir.join("other"))),
            (AccessFs::RemoveDir, |dir| fs::remove_dir(dir.join("empty"))),
        ]
    }

    /// Acts that fail for a thread with these rights.
    fn fails(rights: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().to_path_buf();
        fs::write(path.join("old"), "x").unwrap();
        fs::write(path.join("other"), "x").unwrap();
        fs::create_dir(path.join("empty")).unwrap();
        let thread = std::thread::spawn(move || {
            let jail = Jail { role: Role::Auditor, user: None, writable: vec![path.clone()] };
            restrict_to(&jail, rights).unwrap();
            let failing = acts().into_iter().filter(|(_, act)| act(&path).is_err());
            failing.map(|(right, _)| right).fold(BitFlags::EMPTY, |all, one| all | one)
        });
        thread.join().unwrap()
    }

    #[test]
    fn each_right_below_a_folder_is_needed_for_something_that_a_log_does() {
        if try_landlock().is_none() {
            assert!(std::option_env!("CI").is_none(), "there is no Landlock");
            return;
        }
        assert_eq!(fails(writing()), BitFlags::EMPTY, "all of it can be done");
        let all = acts().into_iter().map(|(right, _)| right);
        assert_eq!(all.fold(BitFlags::EMPTY, |all, one| all | one), writing(), "an act a right");
        for right in writing().iter() {
            assert!(fails(writing() & !right).contains(right), "{right:?} is not needed");
        }
    }
}
