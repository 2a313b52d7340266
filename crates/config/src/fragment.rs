//! A configuration in several files: lists are joined in the order of the files, everything else
//! may be given once.

use std::collections::BTreeMap;

use moat_model::code::config as codes;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::load::{parse_as, problem};
use crate::problem::Problem;
use crate::raw::{
    Raw, RawAdmin, RawAudit, RawDns, RawEgress, RawIssuer, RawKernel, RawListener, RawOrder,
    RawOverload, RawPolicy, RawProfile, RawReplay, RawRisk, RawRoute, RawSandbox, RawStepUp,
    RawUpstream, RawUsers, Text,
};
use crate::sources::{Source, Sources};

/// [`Raw`] with nothing required.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    #[serde(rename = "apiVersion")]
    api_version: Option<Text>,
    kind: Option<Text>,
    profile: Option<RawProfile>,
    trust_domain: Option<Text>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    listeners: Vec<RawListener>,
    #[serde(default)]
    upstreams: Vec<RawUpstream>,
    #[serde(default)]
    routes: Vec<RawRoute>,
    policy: Option<RawPolicy>,
    #[serde(default)]
    tokens: Vec<RawIssuer>,
    step_up: Option<RawStepUp>,
    risk: Option<RawRisk>,
    replay: Option<RawReplay>,
    tls: Option<RawOrder>,
    audit: Option<RawAudit>,
    admin: Option<RawAdmin>,
    workers: Option<Spanned<u16>>,
    users: Option<RawUsers>,
    sandbox: Option<RawSandbox>,
    egress: Option<RawEgress>,
    kernel: Option<RawKernel>,
    dns: Option<RawDns>,
    overload: Option<RawOverload>,
}

/// Joins all files of a folder.
///
/// # Errors
/// The first problem of syntax of each file; else everything that is given twice or not at all.
pub(crate) fn join(sources: &Sources) -> Result<Raw, Vec<Problem>> {
    let (mut whole, mut problems) = (Fragment::default(), Vec::new());
    let mut given = BTreeMap::new();
    for source in sources.list.iter().filter(|source| !source.is_empty()) {
        match parse_as::<Fragment>(sources, &source.to_parse()) {
            Err(problem) => problems.push(*problem),
            Ok(more) => {
                let mut taker = Taker { source, given: &mut given, problems: &mut problems };
                taker.take(&mut whole, more);
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    finish(whole, sources)
}

/// Takes what one file gives.
struct Taker<'a> {
    source: &'a Source,
    /// Where each key was given: file, line, column.
    given: &'a mut BTreeMap<&'static str, String>,
    problems: &'a mut Vec<Problem>,
}

impl Taker<'_> {
    fn take(&mut self, whole: &mut Fragment, more: Fragment) {
        self.once("apiVersion", &mut whole.api_version, more.api_version);
        self.once("kind", &mut whole.kind, more.kind);
        self.once("profile", &mut whole.profile, more.profile);
        self.once("trust_domain", &mut whole.trust_domain, more.trust_domain);
        self.once("labels", &mut whole.labels, more.labels);
        whole.listeners.extend(more.listeners);
        whole.upstreams.extend(more.upstreams);
        whole.routes.extend(more.routes);
        self.once("policy", &mut whole.policy, more.policy);
        whole.tokens.extend(more.tokens);
        self.once("step_up", &mut whole.step_up, more.step_up);
        self.once("risk", &mut whole.risk, more.risk);
        self.once("replay", &mut whole.replay, more.replay);
        self.once("tls", &mut whole.tls, more.tls);
        self.once("audit", &mut whole.audit, more.audit);
        self.once("admin", &mut whole.admin, more.admin);
        self.once("workers", &mut whole.workers, more.workers);
        self.once("users", &mut whole.users, more.users);
        self.once("sandbox", &mut whole.sandbox, more.sandbox);
        self.once("egress", &mut whole.egress, more.egress);
        self.once("kernel", &mut whole.kernel, more.kernel);
        self.once("dns", &mut whole.dns, more.dns);
        self.once("overload", &mut whole.overload, more.overload);
    }

    fn once<T>(&mut self, key: &'static str, slot: &mut Option<T>, value: Option<T>) {
        let Some(value) = value else { return };
        let (line, column) = self.source.place_of(key);
        if let Some(before) = self.given.get(key) {
            let message = format!("`{key}` is given here and in {before}");
            let fix = "keep it in one of the two files; only lists are joined".to_owned();
            let place = (line, column);
            self.problems.push(problem(
                &self.source.file,
                &codes::GIVEN_TWICE,
                place,
                message,
                fix,
            ));
            return;
        }
        self.given.insert(key, format!("{}:{line}:{column}", self.source.file));
        *slot = Some(value);
    }
}

fn finish(whole: Fragment, sources: &Sources) -> Result<Raw, Vec<Problem>> {
    let missing = [
        ("apiVersion", whole.api_version.is_none()),
        ("kind", whole.kind.is_none()),
        ("trust_domain", whole.trust_domain.is_none()),
        ("policy", whole.policy.is_none()),
        ("audit", whole.audit.is_none()),
    ];
    let (Some(api_version), Some(kind), Some(trust_domain), Some(policy), Some(audit)) =
        (whole.api_version, whole.kind, whole.trust_domain, whole.policy, whole.audit)
    else {
        let missing = missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(key, _)| {
            let message = format!("no file has the key `{key}`");
            let fix = format!("add `{key}:` to one of them");
            problem(&sources.name, &codes::MISSING_KEY, (0, 0), message, fix)
        });
        return Err(missing.collect());
    };
    Ok(Raw {
        api_version,
        kind,
        profile: whole.profile.unwrap_or_default(),
        trust_domain,
        labels: whole.labels.unwrap_or_default(),
        listeners: whole.listeners,
        upstreams: whole.upstreams,
        routes: whole.routes,
        policy,
        tokens: whole.tokens,
        step_up: whole.step_up.unwrap_or_default(),
        risk: whole.risk,
        replay: whole.replay,
        tls: whole.tls.unwrap_or_default(),
        audit,
        admin: whole.admin.unwrap_or_default(),
        workers: whole.workers,
        users: whole.users.unwrap_or_default(),
        sandbox: whole.sandbox.unwrap_or_default(),
        egress: whole.egress.unwrap_or_default(),
        kernel: whole.kernel.unwrap_or_default(),
        dns: whole.dns.unwrap_or_default(),
        overload: whole.overload.unwrap_or_default(),
    })
}
