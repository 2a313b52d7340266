//! What the supervisor knows of the whole, for `moat status` and the probes.

use moat_admin::messages::{Condition, RoleState, State};

use super::child::Child;

pub(crate) struct Known {
    pub(crate) generation: u64,
    pub(crate) digest: String,
    pub(crate) last_refusal: Option<String>,
    pub(crate) gateway: serde_json::Value,
    pub(crate) auditor: serde_json::Value,
}

impl Known {
    /// Whether the auditor writes, as far as it has said.
    pub(crate) fn is_writing(&self) -> bool {
        let auditor = self.auditor.get("state").and_then(serde_json::Value::as_str);
        auditor.is_none_or(|state| state == "writing")
    }

    /// Whether the log is signed as it grows, as far as the auditor has said. A tree that is behind
    /// is not a log that is unsigned: it is caught up with.
    fn is_signing(&self) -> bool {
        let signed = self.auditor.pointer("/signed/state").and_then(serde_json::Value::as_str);
        signed.is_none_or(|state| matches!(state, "signing" | "behind" | "waiting"))
    }

    /// Whether enough witnesses confirm the log in time; nothing if nobody has to.
    fn is_witnessed(&self) -> Option<bool> {
        let state = self.auditor.pointer("/witnessed/state")?.as_str()?;
        // A witness that contradicts while the others are enough is for people to look into.
        Some(!matches!(state, "overdue" | "refused"))
    }

    /// Everything at once. `kernel` is what there is to say of the kernel's probes.
    pub(crate) fn state<'a>(
        &self,
        children: impl Iterator<Item = &'a Child>,
        kernel: serde_json::Value,
    ) -> State {
        let mut conditions = Vec::new();
        let mut roles = Vec::new();
        for child in children {
            conditions
                .push(Condition { name: format!("{} ready", child.name), holds: child.is_ready });
            let entered = child.entered.as_ref();
            roles.push(RoleState {
                name: child.name.to_owned(),
                pid: child.pid(),
                uid: entered.map_or(0, |e| e.uid),
                restarts: child.restarts,
                landlock: entered
                    .and_then(|e| e.landlock.clone())
                    .unwrap_or_else(|| "none".to_owned()),
                seccomp: entered.is_some_and(|e| e.seccomp),
            });
        }
        let linked = self.gateway.get("linked").and_then(serde_json::Value::as_bool);
        conditions
            .push(Condition { name: "audit link up".to_owned(), holds: linked == Some(true) });
        let has_expired = self.gateway.get("has_expired").and_then(serde_json::Value::as_bool);
        let holds = has_expired != Some(true);
        conditions.push(Condition { name: "certificates valid".to_owned(), holds });
        conditions
            .push(Condition { name: "audit committing".to_owned(), holds: self.is_writing() });
        conditions.push(Condition { name: "log signed".to_owned(), holds: self.is_signing() });
        if let Some(holds) = self.is_witnessed() {
            conditions.push(Condition { name: "log witnessed".to_owned(), holds });
        }
        conditions
            .push(Condition { name: "policy compiled".to_owned(), holds: self.generation > 0 });
        State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.generation,
            digest: self.digest.clone(),
            pid: std::process::id(),
            last_refusal: self.last_refusal.clone(),
            roles,
            conditions,
            gateway: self.gateway.clone(),
            auditor: self.auditor.clone(),
            kernel,
        }
    }
}
