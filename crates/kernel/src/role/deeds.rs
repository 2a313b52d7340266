//! What our roles did that they have no business doing, as records and as evidence that they did
//! not.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome};
use moat_model::code::kernel::BEHAVIOUR;

use super::Error;
use super::commit::Commits;
use super::refusals::Ticket;
use crate::behaviour::{Behaviour, CAPABILITY, Counts, Deed, KINDS, OPEN, REFUSED};
use crate::calls;
use crate::messages::Evidence;

/// How often counts are compared with records.
const LOOK: Duration = Duration::from_secs(1);
/// Most paths that are remembered of each role, and that are told of each.
const PATHS_MAX: usize = 256;
const PATHS_TOLD: usize = 16;
/// The one role whose work it is to open files: Landlock says which.
const OPENS: &str = "auditor";
/// What the C library asks for before it gives a thread's memory back, and does without when refused.
/// It is counted, and makes no record: the log would have one for nothing from every busy worker.
const OF_C_LIBRARY: &str = "/proc/sys/vm/overcommit_memory";

pub(super) struct Deeds {
    behaviour: Behaviour,
    roles: Vec<String>,
    /// How many the records speak of, by role and kind.
    told: Vec<Counts>,
    /// What was opened, by role.
    paths: Vec<BTreeMap<String, u64>>,
    looked: Instant,
}

impl Deeds {
    pub(super) fn new(behaviour: Behaviour, roles: Vec<String>) -> Deeds {
        let told = vec![Counts::default(); roles.len()];
        let paths = vec![BTreeMap::new(); roles.len()];
        Deeds { behaviour, roles, told, paths, looked: Instant::now() }
    }

    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.behaviour.poll_fd()
    }

    /// Makes records of what has come, and of what was counted and has no event.
    pub(super) fn take(&mut self, commits: &mut Commits<Ticket>) -> Result<(), Error> {
        while commits.room() > 0
            && let Some(event) = self.behaviour.take()
        {
            let deed = event.ok_or("an event of another form than this program knows")?;
            let Deed { pid, comm, path, detail, .. } = &deed;
            if deed.kind == OPEN {
                self.opened(deed.role, path);
            }
            if deed.kind == REFUSED && path == OF_C_LIBRARY {
                self.count(deed.role, deed.kind, 1);
                continue;
            }
            let what = match deed.kind {
                CAPABILITY => format!("number={detail}"),
                _ if *detail == 0 => String::from("call=-"),
                _ => format!("call={}", calls::name(u64::from(*detail))),
            };
            let about = format!("{what} pid={pid} comm={comm} path={path}");
            self.tell(commits, deed.role, deed.kind, 1, &about)?;
        }
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        for (role, counted) in self.behaviour.counts()?.into_iter().enumerate() {
            for (kind, counted) in counted.into_iter().enumerate() {
                let told = self.told.get(role).and_then(|row| row.get(kind)).copied().unwrap_or(0);
                let lost = counted.saturating_sub(told);
                if lost > 0 && commits.room() > 0 {
                    self.tell(commits, role, kind, lost, &format!("count={lost}"))?;
                }
            }
        }
        Ok(())
    }

    fn opened(&mut self, role: usize, path: &str) {
        let Some(paths) = self.paths.get_mut(role) else { return };
        if paths.len() < PATHS_MAX || paths.contains_key(path) {
            *paths.entry(path.to_owned()).or_default() += 1;
        }
    }

    fn count(&mut self, role: usize, kind: usize, count: u64) {
        if let Some(told) = self.told.get_mut(role).and_then(|row| row.get_mut(kind)) {
            *told += count;
        }
    }

    fn tell(
        &mut self,
        commits: &mut Commits<Ticket>,
        role: usize,
        kind: usize,
        count: u64,
        about: &str,
    ) -> Result<(), Error> {
        self.count(role, kind, count);
        let name = self.roles.get(role).map_or("?", String::as_str);
        if kind == OPEN && name == OPENS {
            // Evidence, and nothing that it has no business doing.
            return Ok(());
        }
        let act = KINDS.get(kind).copied().unwrap_or("?");
        let body = Body {
            tenant: "default".to_owned(),
            object: format!("role/{name}"),
            outcome: Some(Outcome::Refused),
            code: BEHAVIOUR.id.to_owned(),
            note: format!("behaviour role={name} act={act} {about}"),
            ..Body::new(Kind::Refusal, [0; 16])
        };
        Ok(commits.push(&body, Ticket::Verdict)?)
    }

    /// By role, how often each kind of act was done since the watch began.
    pub(super) fn status(&self) -> Result<Vec<Evidence>, Error> {
        let rows = self.roles.iter().zip(&self.paths).zip(self.behaviour.counts()?);
        let evidence = rows.map(|((role, paths), counts)| {
            let [exec, fork, forbidden, open, refused, capability] = counts;
            let role = role.clone();
            let paths = paths.iter().take(PATHS_TOLD).map(|(path, n)| (path.clone(), *n)).collect();
            Evidence { role, exec, fork, forbidden, open, refused, capability, paths }
        });
        Ok(evidence.collect())
    }
}
