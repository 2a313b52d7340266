//! `moat mask`: what each side would see of a body, and what no rule names. Values stand in no error.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use moat_config::{MaskRule, Route};
use moat_mask::body::{Kind, Masker, Mode};
use moat_mask::discover::{Discovery, Looking};
use moat_mask::view::{AuditView, Declared, PolicyView, audit, policy};
use moat_mask::{Captures, Class, Plan, Rule, Strategy};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::cli::Output;
use crate::cli_mask::{BodyKind, MaskCommand, Of};

/// Longest body or file of documents, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(crate) fn run(command: &MaskCommand) -> Result<ExitCode> {
    match command {
        MaskCommand::Try { of, plan, kind, show_upstream, file, output } => {
            let route = route(of)?;
            let body = read(file)?;
            let views = Views::of(&route, plan.as_deref(), kind_of(*kind), &body)?;
            views.print(*show_upstream, *output);
            Ok(ExitCode::SUCCESS)
        }
        MaskCommand::Discover { of, everything, file, output } => {
            discover(&route(of)?, *everything, file, *output)
        }
    }
}

fn kind_of(kind: BodyKind) -> Kind {
    match kind {
        BodyKind::Json => Kind::Json,
        BodyKind::Ndjson => Kind::Ndjson,
        BodyKind::Events => Kind::Events,
        BodyKind::Form => Kind::Form,
        BodyKind::Csv => Kind::Csv,
    }
}

fn route(of: &Of) -> Result<Route> {
    let routes = moat_config::load(&of.config)?.config.hot.routes;
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    let place = names.iter().position(|name| *name == of.route);
    let told = || anyhow!("there is no route {}; there are {}", of.route, names.join(", "));
    let place = place.ok_or_else(told)?;
    routes.into_iter().nth(place).context("a route was lost")
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let name = || path.display().to_string();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(path).with_context(name)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(name)?;
    }
    let length = u64::try_from(bytes.len())?;
    ensure!(length <= FILE_BYTES_MAX, "{}: longer than {FILE_BYTES_MAX} bytes", name());
    Ok(bytes)
}

/// The class of a field in the record, if the route declares it.
fn declared_class(route: &Route, pointer: &str) -> Result<Option<Class>> {
    let field = route.audit.fields.iter().find(|field| field.pointer == pointer);
    field.map(|field| Ok(field.class.parse()?)).transpose()
}

fn rules(route: &Route, masks: &[MaskRule]) -> Result<Vec<Rule>> {
    let rule = |mask: &MaskRule| {
        let strategy: Strategy = mask.strategy.parse()?;
        let class = declared_class(route, &mask.pointer)?.unwrap_or(strategy.usual_class());
        Ok(Rule::new(mask.pointer.parse()?, class).masked(strategy))
    };
    masks.iter().filter(|mask| mask.strategy != MaskRule::REVEAL).map(rule).collect()
}

/// One line of a view: pointer, class, what is shown.
type Line = (String, Class, String);

struct Views {
    policy: Vec<Line>,
    audit: Vec<Line>,
    client: String,
    upstream: String,
}

impl Views {
    fn of(route: &Route, plan: Option<&str>, kind: Kind, body: &[u8]) -> Result<Views> {
        let masks = match plan {
            None => &route.mask,
            Some(name) => {
                let known = route.mask_plans.iter().find(|(known, _)| known == name);
                let names = || route.mask_plans.iter().map(|(name, _)| name.as_str());
                let told = || {
                    anyhow!(
                        "there is no plan {name}; there are {}",
                        names().collect::<Vec<_>>().join(", ")
                    )
                };
                &known.ok_or_else(told)?.1
            }
        };
        let (client, _) = masked(&rules(route, masks)?, kind, body)?;
        let (upstream, _) = masked(&rules(route, &route.mask_request)?, kind, body)?;
        Ok(Views {
            policy: policy_lines(route, kind, body)?,
            audit: audit_lines(route, kind, body)?,
            client,
            upstream,
        })
    }

    fn print(&self, show_upstream: bool, output: Output) {
        let upstream = show_upstream.then_some(self.upstream.as_str());
        if matches!(output, Output::Json) {
            let lines = |lines: &[Line]| -> Vec<Json> {
                let line = |(pointer, class, shown): &Line| json!({ "field": pointer, "class": class.name(), "shown": shown });
                lines.iter().map(line).collect()
            };
            println!(
                "{}",
                json!({ "policy": lines(&self.policy), "client": self.client,
                    "audit": lines(&self.audit), "upstream": upstream })
            );
            return;
        }
        let show = |name: &str, lines: &[Line]| {
            println!("{name}");
            for (pointer, class, shown) in lines {
                println!("  {pointer:<32} {:<4} {shown}", class.name());
            }
        };
        show("policy", &self.policy);
        show("record", &self.audit);
        println!("caller\n{}", self.client.trim_end());
        match upstream {
            Some(upstream) => println!("service\n{}", upstream.trim_end()),
            None => println!("service\n  not shown; --show-upstream shows it"),
        }
    }
}

fn masked(rules: &[Rule], kind: Kind, body: &[u8]) -> Result<(String, Captures)> {
    let plan = Plan::compile(rules)?;
    let mut masker = Masker::new(kind, &plan, Mode::Rewrite, None);
    let mut out = Vec::with_capacity(body.len());
    masker.push(body, &mut out).context("the body is refused")?;
    let captures = masker.finish(&mut out).context("the body is refused")?;
    Ok((String::from_utf8(out).context("the body is not UTF-8")?, captures))
}

fn policy_lines(route: &Route, kind: Kind, body: &[u8]) -> Result<Vec<Line>> {
    let mut all = Vec::new();
    for (id, (pointer, _)) in route.decide_on.iter().enumerate() {
        let class = declared_class(route, pointer)?.unwrap_or(Class::C1);
        all.push(Rule::new(pointer.parse()?, class).captured(u16::try_from(id)?));
    }
    let (_, captures) = masked(&all, kind, body)?;
    let line = |capture: &moat_mask::Capture| {
        let shown = match policy(capture.class, &capture.value, Declared::Yes) {
            // The policy may see it; a terminal need not.
            PolicyView::Value(value) if capture.class == Class::C1 => {
                value.as_text().unwrap_or("(too long)").to_owned()
            }
            PolicyView::Value(_) => "the value".to_owned(),
            PolicyView::Card { bin, last4 } => format!("bin {bin}, last four {last4}"),
            PolicyView::Present => "that there is one".to_owned(),
        };
        (capture.pointer.clone(), capture.class, shown)
    };
    Ok(captures.iter().map(line).collect())
}

fn audit_lines(route: &Route, kind: Kind, body: &[u8]) -> Result<Vec<Line>> {
    let (mut all, mut strategies) = (Vec::new(), Vec::new());
    for (id, field) in route.audit.fields.iter().enumerate() {
        let class: Class = field.class.parse()?;
        let masks = route.mask.iter().chain(&route.mask_request);
        let rule = masks.clone().find(|rule| rule.pointer == field.pointer);
        strategies.push(rule.and_then(|rule| rule.strategy.parse::<Strategy>().ok()));
        all.push(Rule::new(field.pointer.parse()?, class).captured(u16::try_from(id)?));
    }
    let (_, captures) = masked(&all, kind, body)?;
    let line = |capture: &moat_mask::Capture| {
        let strategy = strategies.get(usize::from(capture.id)).copied().flatten();
        let shown = match audit(capture.class, &capture.value, strategy) {
            AuditView::Clear(text) => text,
            AuditView::MaskedAndAnchored(shown) => format!("{shown}, and an anchor"),
            AuditView::AnchorOnly => "an anchor".to_owned(),
            AuditView::Nothing => "nothing".to_owned(),
        };
        (capture.pointer.clone(), capture.class, shown)
    };
    Ok(captures.iter().map(line).collect())
}

fn discover(route: &Route, everything: bool, file: &Path, output: Output) -> Result<ExitCode> {
    let looking = if everything { Looking::Everything } else { Looking::Checked };
    let mut known = rules(route, &route.mask)?;
    known.extend(rules(route, &route.mask_request)?);
    for field in &route.audit.fields {
        known.push(Rule::new(field.pointer.parse()?, field.class.parse()?));
    }
    let mut discovery = Discovery::new(&known, looking)?;
    let body = read(file)?;
    let mut documents = 0_u64;
    // A document that spans lines is one; what is not is one a line.
    if discovery.document(&body).is_err() {
        discovery = Discovery::new(&known, looking)?;
        for (line, text) in body.split(|byte| *byte == b'\n').enumerate() {
            if !text.iter().all(u8::is_ascii_whitespace) {
                let told = || format!("{}, line {}", file.display(), line + 1);
                discovery.document(text).with_context(told)?;
                documents += 1;
            }
        }
    } else {
        documents = 1;
    }
    let findings = discovery.findings();
    for (place, found, count) in findings.iter() {
        if matches!(output, Output::Json) {
            let class = found.class().name();
            println!(
                "{}",
                json!({ "field": place, "found": found.strategy(), "class": class, "count": count })
            );
        } else {
            println!("{place:<40} {count:>8}  looks like {found}, class {}", found.class());
        }
    }
    if findings.elsewhere() > 0 {
        eprintln!("{} more at further places", findings.elsewhere());
    }
    eprintln!("{documents} documents, {} values that no rule names", findings.looked());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
