//! The entry of a role: take the control channel, get what is handed over, give up all rights,
//! then serve. Nothing from outside is read before the last right is gone.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use moat_audit::keep::Retention;
use moat_auditor::{AuditorOptions, Keeping, LogKeys, Witnessing};
use moat_kernel::{Jail, Report, Role, User, enter};
use moat_net::control::Channel;
use moat_tlog::policy::Policy;
use moat_witness::courier::{Address, carry};
use serde::{Deserialize, Serialize};

use crate::cli::RoleArgs;

/// A day in nanoseconds.
const DAY_NS: u64 = 86_400_000_000_000;

/// The log's folder, for a role that has made it its working folder.
const LOG: &str = ".";

/// What the supervisor tells a role on its command line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    /// User to become: name, uid, gid.
    pub(crate) user: Option<(String, u32, u32)>,
    /// Whether a protection that is missing ends the role.
    pub(crate) strict: bool,
    /// Whether Landlock may be enforced in part even so.
    pub(crate) is_partial_landlock_enough: bool,
    /// The log's folder, for the auditor.
    pub(crate) dir: PathBuf,
    /// A second folder that keeps what was signed last, for the auditor.
    pub(crate) second_dir: Option<PathBuf>,
    /// The log's origin.
    pub(crate) origin: String,
    /// Size of a segment in bytes.
    pub(crate) segment_bytes: u64,
    /// Files of the keys that sign the log, for the auditor; none lets it make one.
    pub(crate) log_keys: Vec<PathBuf>,
    /// How often a checkpoint is signed at most, in milliseconds.
    pub(crate) checkpoint_every_ms: u64,
    /// Whether there is a tree over SM3 too.
    pub(crate) has_sm3: bool,
    /// Whether full segments are compressed.
    pub(crate) is_packing: bool,
    /// How long records are kept, in days: any, C1, C2, PAN, C3.
    pub(crate) retention: Option<[u64; 5]>,
    /// Who must witness the log, for the auditor: the text of the policy.
    pub(crate) policy: Option<String>,
    /// How long records may be unwitnessed, in milliseconds.
    pub(crate) unwitnessed_ms_max: u64,
    /// Where the witnesses are, for the courier, in the order of the policy.
    pub(crate) witnesses: Vec<Option<Address>>,
    /// Whether the auditor takes the place of another whose gateway lives on.
    pub(crate) keep_intents: bool,
}

/// The first message of every role to the supervisor: what is in force.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Entered {
    pub(crate) entered: EnteredAs,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct EnteredAs {
    pub(crate) uid: u32,
    pub(crate) landlock: Option<String>,
    pub(crate) seccomp: bool,
}

pub(crate) fn run(args: &RoleArgs) -> Result<ExitCode> {
    let settings: Settings = serde_json::from_str(&args.settings).context("role settings")?;
    let control = std::io::stdin().as_fd().try_clone_to_owned().context("control channel")?;
    let control = Channel::from_fd(control);
    match args.name.as_str() {
        "gateway" => {
            moat_heap::begin();
            let again = control.as_fd().try_clone_to_owned()?;
            let prepared = moat_gateway::prepare(control)?;
            let prepared = prepared.with_code(moat_kernel::code::of_this_program());
            jail(&settings, Role::Gateway, &Channel::from_fd(again))?;
            moat_gateway::run(prepared)?;
        }
        "admin" => {
            let again = control.as_fd().try_clone_to_owned()?;
            let prepared = moat_admin::prepare(control)?;
            jail(&settings, Role::Admin, &Channel::from_fd(again))?;
            moat_admin::run(prepared)?;
        }
        "auditor" => {
            // Read before the user and the folder change: this role alone ever holds them.
            let log_keys = log_keys(&settings);
            // Entered before the user changes: the folders above may be closed to that user.
            std::env::set_current_dir(&settings.dir)
                .with_context(|| settings.dir.display().to_string())?;
            let options = AuditorOptions { log_keys, ..auditor_options(&settings)? };
            jail(&settings, Role::Auditor, &control)?;
            moat_auditor::run(&options, &control).with_context(|| "the auditor cannot go on")?;
        }
        "courier" => {
            jail(&settings, Role::Courier, &control)?;
            courier(&control, &settings.witnesses)?;
        }
        #[cfg(feature = "bpf")]
        "kernel" => {
            let again = control.as_fd().try_clone_to_owned()?;
            let wrong = |error: moat_kernel::role::Error| anyhow::anyhow!("{error}");
            let prepared = moat_kernel::role::prepare(control).map_err(wrong)?;
            jail(&settings, Role::Kernel, &Channel::from_fd(again))?;
            moat_kernel::role::run(prepared).map_err(wrong)?;
        }
        other => bail!("there is no role {other}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries for each auditor that comes, until the supervisor goes away or says stop.
fn courier(control: &Channel, witnesses: &[Option<Address>]) -> Result<()> {
    control.send(br#"{"ready":{}}"#, &[])?;
    while let Some((message, fds)) = control.recv()? {
        let message: serde_json::Value = serde_json::from_slice(&message).unwrap_or_default();
        if message.get("stop").is_some() {
            break;
        }
        for fd in fds {
            let (channel, witnesses) = (Channel::from_fd(fd), witnesses.to_vec());
            // Ends when its auditor does.
            std::thread::Builder::new().spawn(move || {
                if let Err(error) = carry(channel, witnesses) {
                    tracing::error!(%error, "the courier cannot carry");
                }
            })?;
        }
    }
    Ok(())
}

/// Read before the jail closes: the kernel's boot id is a file.
fn auditor_options(settings: &Settings) -> Result<AuditorOptions> {
    let mut options = AuditorOptions::new(LOG, &settings.origin);
    if let Some(text) = &settings.policy {
        let policy = Policy::parse(text.as_bytes()).context("the policy of witnesses")?;
        let unwitnessed_ms_max = settings.unwitnessed_ms_max;
        options.witnessing = Some(Witnessing { policy, unwitnessed_ms_max });
    }
    options.keep_intents = settings.keep_intents;
    options.second_dir = settings.second_dir.clone();
    options.segment_bytes = settings.segment_bytes;
    options.checkpoint_every_ms = settings.checkpoint_every_ms;
    options.has_sm3 = settings.has_sm3;
    let retention = settings.retention.map(|days| days.map(|days| days.saturating_mul(DAY_NS)));
    options.keeping = Keeping {
        is_packing: settings.is_packing,
        retention: retention.map(|[any_ns, c1_ns, c2_ns, pan_ns, c3_ns]| Retention {
            any_ns,
            c1_ns,
            c2_ns,
            pan_ns,
            c3_ns,
        }),
        ..Keeping::default()
    };
    options.boot_id =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().and_then(|text| {
            let digits = text.trim().replace('-', "");
            data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
        });
    Ok(options)
}

/// The keys that sign the log. One that cannot be read stops no record: the log goes unsigned, and
/// the status says why.
fn log_keys(settings: &Settings) -> LogKeys {
    if settings.log_keys.is_empty() {
        return LogKeys::Make;
    }
    let texts = settings.log_keys.iter().map(|path| {
        let text = std::fs::File::open(path).and_then(moat_auditor::read_key);
        text.map_err(|error| format!("{}: {error}", path.display()))
    });
    texts.collect::<Result<_, String>>().map_or_else(LogKeys::Unusable, LogKeys::Given)
}

fn jail(settings: &Settings, role: Role, control: &Channel) -> Result<()> {
    let user = settings.user.as_ref().map(|(name, uid, gid)| User {
        name: name.clone(),
        uid: *uid,
        gid: *gid,
    });
    let mut writable = Vec::new();
    if role == Role::Auditor {
        writable.push(LOG.into());
        writable.extend(settings.second_dir.clone());
    }
    let report = enter(&Jail { role, user, writable })?;
    if settings.strict
        && let Err(code) = report.demand(settings.is_partial_landlock_enough)
    {
        bail!("{code}: {report:?}; {}", code.en.fix);
    }
    let Report { uid, landlock, seccomp } = report;
    let landlock = landlock.map(str::to_owned);
    let entered = Entered { entered: EnteredAs { uid, landlock, seccomp } };
    control.send(&serde_json::to_vec(&entered)?, &[])?;
    Ok(())
}
