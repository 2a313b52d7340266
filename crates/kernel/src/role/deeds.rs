//! What our roles did that they have no business doing, as records and as evidence that they did
//! not.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome};
use moat_model::code::kernel::BEHAVIOUR;

use super::Error;
use super::commit::Commits;
use super::refusals::Ticket;
use crate::behaviour::{Behaviour, Deed, KINDS};
use crate::messages::Evidence;

/// How often counts are compared with records.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Deeds {
    behaviour: Behaviour,
    roles: Vec<String>,
    /// How many the records speak of, by role and kind.
    told: Vec<[u64; 3]>,
    looked: Instant,
}

impl Deeds {
    pub(super) fn new(behaviour: Behaviour, roles: Vec<String>) -> Deeds {
        let told = vec![[0; 3]; roles.len()];
        Deeds { behaviour, roles, told, looked: Instant::now() }
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
            let Deed { pid, comm, path, .. } = &deed;
            let about = format!("pid={pid} comm={comm} path={path}");
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

    fn tell(
        &mut self,
        commits: &mut Commits<Ticket>,
        role: usize,
        kind: usize,
        count: u64,
        about: &str,
    ) -> Result<(), Error> {
        if let Some(told) = self.told.get_mut(role).and_then(|row| row.get_mut(kind)) {
            *told += count;
        }
        let name = self.roles.get(role).map_or("?", String::as_str);
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
        let rows = self.roles.iter().zip(self.behaviour.counts()?);
        let evidence = rows.map(|(role, [exec, fork, forbidden])| Evidence {
            role: role.clone(),
            exec,
            fork,
            forbidden,
        });
        Ok(evidence.collect())
    }
}
