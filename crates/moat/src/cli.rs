//! What a person may type. The help texts are the first documentation anybody reads.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli_ca::CaCommand;
use crate::cli_mask::MaskCommand;
use crate::cli_message::MessageCommand;
use crate::cli_svid::SvidArgs;

/// Moat (护城河): a zero-trust API gateway for financial institutions.
///
/// Every caller proves itself by certificate, every call is decided by policy, and no byte of an
/// answer leaves before a tamper-evident record of the exchange is durable.
///
/// Begin with `moat demo`, which shows all of that on this machine.
#[derive(Debug, Parser)]
#[command(name = "moat", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to say on stderr: error, warn, info, debug, or a filter such as `moat_gateway=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything on this machine: certificates, services, a dozen calls, the log.
    ///
    /// Makes ./.moat-demo anew, starts an accounts service and the gateway with all its roles, makes
    /// real calls over mutual TLS and checks each against the log; then verifies the log and finds
    /// a flipped bit in a copy. Stays up for your own calls unless --exit is given.
    Demo(DemoArgs),
    /// Run the gateway: a supervisor and its roles.
    ///
    /// Started by root, each role becomes a user of its own (moat-app, moat-audit, moat-admin,
    /// moat-kernel).
    /// SIGHUP reads the configuration again; so does a change of any file it refers to. SIGTERM
    /// finishes what is open and ends.
    Serve(ServeArgs),
    /// Check a configuration, or the spec of a dialect, without running it; exit 0 or 78.
    ///
    /// Reads every file the configuration refers to and compiles the policy, so that what passes
    /// here starts. A file that begins with `spec:` is the spec of a dialect.
    Check(CheckArgs),
    /// Print the JSON Schema of moat.yaml, for editors.
    Schema,
    /// Show how a running gateway is doing.
    Status(SocketArgs),
    /// Show what a running gateway does, a screen every so many seconds: calls, latencies, refusals,
    /// endpoints.
    Top(TopArgs),
    /// Let a running gateway read its configuration again: all of it, or nothing.
    Reload(SocketArgs),
    /// Let a running gateway go back to the configuration before the one in force.
    ///
    /// It is taken from memory, not from the disk, as a new generation with a record of its own.
    /// What stands on the disk comes into force again by the next change there, SIGHUP or `moat
    /// reload`.
    Rollback(SocketArgs),
    /// Say what a reload of a running gateway would change, key by key, without doing it.
    ///
    /// Each line has the key, what stands in force and what stands on the disk, and what the change
    /// would do: `calls` (new calls follow it), `cuts` (open connections whose caller would not be
    /// let in any more are cut besides), `restart` (a reload refuses it). What a reference leads to
    /// is said to have changed and nothing more. Exit 0; 78 if a reload would be refused.
    Diff(SocketArgs),
    /// Let the program that lies where the running one was started from take over, without refusing
    /// a connection or cutting a call.
    ///
    /// It is given the listening sockets and starts its own gateway; only when that works is the old
    /// one told to finish what it has, for 30 seconds at most. If it does not work, everything stays
    /// as it was. SIGUSR2 does the same.
    Upgrade(SocketArgs),
    /// Explain an error code in English and Chinese.
    Explain(ExplainArgs),
    /// Try, test and understand policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Read and verify the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make and revoke certificates, for trying out and for development.
    ///
    /// A folder holds a root, an issuing authority, and a register of what was issued and revoked.
    /// Both kinds fit into one folder: P-256, and with --sm2 SM2 with SM3 (GB/T 32918).
    ///
    ///   moat ca init --sm2
    ///   moat ca issue --sm2 --spiffe spiffe://bank.test/teller
    ///   moat ca revoke pki/teller-sm2.pem --reason keyCompromise
    ///   moat ca crl --sm2
    #[command(subcommand, verbatim_doc_comment)]
    Ca(CaCommand),
    /// Fetch identities from the SPIFFE Workload API, and write them where Moat reads them.
    ///
    /// Runs beside `moat serve`, as the user that the agent knows. Let the configuration name
    /// DIR/current/svid.pem, svid.key and bundle.pem: each that comes is taken by itself.
    ///
    ///   moat svid --socket unix:/run/spire/agent.sock --dir /var/lib/moat/svid
    #[command(verbatim_doc_comment)]
    Svid(SvidArgs),
    /// Try masks on a body, and find what no mask names.
    ///
    ///   moat mask try --route read-account answer.json
    ///   moat mask discover --route read-account answers.ndjson
    #[command(subcommand, verbatim_doc_comment)]
    Mask(MaskCommand),
    /// Look into messages of ISO 8583, make them, compare them.
    ///
    ///   moat message specs
    ///   moat message show --spec iso8583-1987-ascii message.bin
    ///   moat message pack --spec my-network.yaml --framed < message.json
    #[command(subcommand, verbatim_doc_comment)]
    Message(MessageCommand),
    /// Show and try where the gateway may connect to.
    ///
    /// The kernel refuses everything but the services' addresses and `egress.allow`; each refusal
    /// is a record.
    #[command(subcommand)]
    Egress(EgressCommand),
    /// Show where the time of slow calls goes: which stage, and why.
    ///
    /// Watches a running gateway for so many seconds. A call is slow when it takes longer than the
    /// 99th percentile of the seconds before it. Causes are what the kernel saw meanwhile: waiting
    /// for a processor, for a page, for the auditor's disk, for segments that were lost.
    ///
    ///   moat latency --seconds 30 --flame slow.svg --heat minute.svg
    #[command(verbatim_doc_comment)]
    Latency(LatencyArgs),
    /// Show who holds the gateway's memory, or whose share grows.
    ///
    /// Of what is allocated a sample is taken for each 512 KiB, all the time; so amounts are
    /// estimates. Names need a build whose symbols were not stripped.
    ///
    ///   moat heap --seconds 60
    ///   moat heap --pprof heap.pb.gz && go tool pprof -top /usr/bin/moat heap.pb.gz
    #[command(verbatim_doc_comment)]
    Heap(HeapArgs),
    /// Try whether this machine gives what Moat wants of it; exit 0, or 4 if something is missing.
    ///
    /// Loads and attaches each of the kernel's probes for a moment, in a cgroup of its own. As root,
    /// as the gateway would.
    Doctor(DoctorArgs),
    /// Measure on this machine; exit 1 if a goal does not hold.
    ///
    /// Each topic prints rows: figure, value, unit, the peer measured in the same run, the ratio to
    /// it, the goal and whether it holds. Machine, versions and what each side does go to stderr. A
    /// peer that is missing is an error. Measure a build of profile `demo` or `release` on a
    /// machine that does nothing else.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print completions for a shell: `moat completions bash > /etc/bash_completion.d/moat`.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    Man {
        /// An existing folder, for example /usr/local/share/man/man1.
        dir: PathBuf,
    },
    /// Print the version.
    Version,
    /// Run one role; only the supervisor does this.
    #[command(hide = true)]
    Role(RoleArgs),
    /// Enter a role's jail and try one act; only `moat doctor --matrix` does this.
    #[command(hide = true)]
    Act(ActArgs),
    /// Connect again and again; only `moat bench kernel` does this.
    #[cfg(feature = "bpf")]
    #[command(hide = true)]
    Connects(ConnectsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the last line; exit 0 only if every line came out as expected.
    #[arg(long)]
    pub(crate) exit: bool,
    /// First of three ports: gateway, accounts service, probes.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) port_base: u16,
    /// Language of the lines.
    #[arg(long, value_parser = ["en", "zh"])]
    pub(crate) lang: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration: a file, or a folder of fragments.
    #[arg(short, long, value_name = "FILE", default_value = "moat.yaml")]
    pub(crate) config: PathBuf,
    /// Folder that keeps the last configuration that worked: a start that finds no good one on the disk
    /// goes on with it and says so. Without it such a start ends.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// Take over from the supervisor that stdin is a channel to; only a supervisor does this.
    #[arg(long, hide = true)]
    pub(crate) successor: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration: a file, or a folder of fragments.
    #[arg(value_name = "FILE", default_value = "moat.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SocketArgs {
    /// The gateway's admin socket.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/moat/admin.sock")]
    pub(crate) socket: PathBuf,
    /// `table` for people, `json` for programs.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct HeapArgs {
    /// The gateway's admin socket.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/moat/admin.sock")]
    pub(crate) socket: PathBuf,
    /// Show what is held more after so many seconds; 0 shows what is held.
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub(crate) seconds: u64,
    /// Write the profile there first, in the format of pprof.
    #[arg(long, value_name = "FILE")]
    pub(crate) pprof: Option<PathBuf>,
    /// `table` for people, `json` for programs.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    /// The gateway's admin socket.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/moat/admin.sock")]
    pub(crate) socket: PathBuf,
    /// How long to watch; 0 shows everything since the start of the kernel role.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub(crate) seconds: u64,
    /// Write a flame graph there: stages and causes as wide as their time (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) flame: Option<PathBuf>,
    /// Write a heat map of the last minute there: calls by second and duration (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) heat: Option<PathBuf>,
    /// `table` for people, `json` for programs.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The gateway's admin socket.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/moat/admin.sock")]
    pub(crate) socket: PathBuf,
    /// Seconds between two screens.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) interval: u64,
    /// How many screens; without it, until it is interrupted.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// For example MOAT-H001 or h001; without one, all codes are listed.
    pub(crate) code: Option<String>,
    /// Language of the text.
    #[arg(long, value_parser = ["en", "zh"])]
    pub(crate) lang: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Make a key that signs bundles; prints the JWK of its public half, for `policy.signed.keys`.
    Key {
        /// New file for the private key (PKCS #8, PEM, 0600).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Its id.
        #[arg(long)]
        id: String,
        /// SM2 in place of Ed25519.
        #[arg(long)]
        sm2: bool,
    },
    /// Make a bundle of a folder: checked, compiled, tested, with a manifest.
    Build {
        /// Folder with modules (`.rego`), data (`.json`) and golden requests (`.golden.json`).
        source: PathBuf,
        /// A new folder for the bundle.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Whose calls it decides.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// Its version, for example 1.4.0.
        #[arg(long)]
        version: String,
        /// Until when it may be activated, in seconds since 1970.
        #[arg(long, value_name = "SECONDS")]
        not_after: Option<u64>,
        /// Versions of Moat that it is for, for example `>=0.1`.
        #[arg(long, value_name = "RANGE")]
        moat: Option<String>,
    },
    /// Sign a bundle; once with each key.
    Sign {
        /// Folder of the bundle.
        bundle: PathBuf,
        /// Private key as `moat policy bundle key` makes it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Id of the key.
        #[arg(long)]
        id: String,
    },
    /// Verify a bundle as the gateway would, its own tests included; exit 0 or 1.
    Verify {
        /// Folder of the bundle.
        bundle: PathBuf,
        /// JWK set with the keys that may sign it.
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// Whose calls it must be for.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// How it must be signed: EdDSA, SM2-with-SM3, ES256, RS256; once for each.
        #[arg(long = "algorithm", default_value = "EdDSA")]
        algorithms: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make, sign and verify bundles.
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Run every rule whose name begins with `test_`; exit 1 if one fails.
    Test {
        /// Folder of the bundle.
        #[arg(default_value = "policy")]
        bundle: PathBuf,
    },
    /// Evaluate one rule against an input document.
    Eval {
        /// Folder of the bundle.
        #[arg(short, long, default_value = "policy")]
        bundle: PathBuf,
        /// File with the input in JSON; `-` reads stdin.
        #[arg(short, long, default_value = "-")]
        input: PathBuf,
        /// For example `authz.allow`.
        rule: String,
    },
    /// Show which lines of a package decided about an input, and which were not reached.
    Why {
        /// Folder of the bundle.
        #[arg(short, long, default_value = "policy")]
        bundle: PathBuf,
        /// File with the input in JSON; `-` reads stdin.
        #[arg(short, long, default_value = "-", conflicts_with = "trace")]
        input: PathBuf,
        /// A call of which the input was kept, by its trace as in its record, in place of --input.
        #[arg(long, value_name = "TRACE")]
        trace: Option<String>,
        /// Folder with the inputs that the gateway has kept.
        #[arg(long, default_value = "replay-inputs")]
        inputs: PathBuf,
        /// For example `authz`; not needed with --trace.
        #[arg(required_unless_present = "trace")]
        package: Option<String>,
    },
    /// Ask a bundle what was decided before, and list what it would decide otherwise; exit 1 if
    /// that is more than --changed-max.
    ///
    /// Needs `replay` in the configuration. What the bundle may read of an input that was left out for
    /// its class makes that decision undecidable, never unchanged.
    ///
    ///   moat policy replay --bundle policy-new --since 24h
    ///   moat policy replay --bundle policy --inputs /var/lib/moat/replay-inputs --old policy-now
    #[command(verbatim_doc_comment)]
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Folder of the bundle to be asked.
    #[arg(short, long)]
    pub(crate) bundle: PathBuf,
    /// Folder with the inputs that the gateway has kept: beside that of the log.
    #[arg(short, long, default_value = "replay-inputs")]
    pub(crate) inputs: PathBuf,
    /// How far back: a number and s, m, h or d. Default: all that is kept.
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Folder of the bundle that decided: it must give the same answers again, or exit 1.
    #[arg(long)]
    pub(crate) old: Option<PathBuf>,
    /// Most decisions that may change.
    #[arg(long, default_value_t = u64::MAX)]
    pub(crate) changed_max: u64,
    /// Most changed decisions that are listed each for itself.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) list_max: usize,
    /// `table` for people, `json` for programs: one object a changed decision, then the sums.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Try what each role may do and must not: every act by a process in that role's jail.
    #[arg(long)]
    pub(crate) matrix: bool,
    /// `table` for people, `json` for programs.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// gateway, auditor, admin or kernel.
    pub(crate) role: String,
    /// Name of the act.
    pub(crate) act: String,
    /// Folder that stands for the log's.
    pub(crate) dir: PathBuf,
    /// User and group id to become.
    #[arg(long)]
    pub(crate) uid: Option<u32>,
}

#[cfg(feature = "bpf")]
#[derive(Debug, Args)]
pub(crate) struct ConnectsArgs {
    /// Where to.
    pub(crate) address: std::net::SocketAddr,
    /// How often.
    pub(crate) count: u32,
    /// By UDP, where nothing but the call itself is done.
    #[arg(long)]
    pub(crate) udp: bool,
    /// Cgroup to join first.
    #[arg(long)]
    pub(crate) cgroup: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EgressCommand {
    /// Print what the guard in force allows, and its counts.
    List(SocketArgs),
    /// Print destinations as the gateway tries them, allowed or not.
    Observe {
        /// The running gateway's admin socket.
        #[arg(long, default_value = "/var/lib/moat/admin.sock")]
        socket: PathBuf,
        /// End after so many seconds; default: never.
        #[arg(long, value_name = "N")]
        seconds: Option<u64>,
    },
    /// Try a TCP address in the gateway's place; exit 0 if the guard lets it pass, else 1.
    ///
    /// Joins the gateway's cgroup for a moment, which takes root. A refusal is recorded like any
    /// other.
    Try {
        /// For example 203.0.113.7:443.
        address: std::net::SocketAddr,
        /// The running gateway's admin socket.
        #[arg(long, default_value = "/var/lib/moat/admin.sock")]
        socket: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print records, newest last.
    Show {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// First record to print.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most records to print.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Certificates of time-stamping authorities, PEM: says of each record between which times
        /// it was made.
        #[arg(long, value_name = "FILE")]
        tsa: Option<PathBuf>,
        /// `table` for people, `json` for programs: one object a line.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Print the records that fit every condition given.
    Search {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// SPIFFE id of the caller.
        #[arg(long)]
        actor: Option<String>,
        /// Object, for example account/1001.
        #[arg(long)]
        object: Option<String>,
        /// Trace id, hexadecimal.
        #[arg(long)]
        trace: Option<String>,
        /// Error code, for example MOAT-P001.
        #[arg(long)]
        code: Option<String>,
        /// Kind: INTENT, OUTCOME, READ, REFUSAL, REPAIR, BACKFILL, CHECK, ADMIN.
        #[arg(long)]
        kind: Option<String>,
        /// Name of a field that was read or changed.
        #[arg(long)]
        field: Option<String>,
        /// Most records to print.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// `table` for people, `json` for programs: one object a line.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Verify the whole log from its bytes; exit 0 or 3.
    ///
    /// Integrity (nothing was changed) and completeness (every intent has its outcome) are reported
    /// apart. Each finding names segment, offset and record. Where there are tiles and a checkpoint,
    /// the records are held against them; who signed is looked at with --key or --policy.
    Verify {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// Verifier key that must have signed the checkpoint, as `moat audit vkey` prints it; of
        /// several, one must have.
        #[arg(long = "key", value_name = "VKEY", conflicts_with = "policy")]
        keys: Vec<String>,
        /// Policy file (c2sp.org/tlog-policy): keys of logs, witnesses, and how many of them.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// With --key or --policy: how many records at the end may be under no accepted checkpoint.
        /// Default: 10000 while the log runs, 0 once it was stopped.
        #[arg(long, value_name = "RECORDS")]
        unsigned_max: Option<u64>,
        /// Certificates of time-stamping authorities, PEM: the time in every record must fit the
        /// tokens in `timestamps/`.
        #[arg(long, value_name = "FILE")]
        tsa: Option<PathBuf>,
        /// `table` for people, `json` for programs.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Write the proof that a record is in the signed log (c2sp.org/tlog-proof).
    ///
    /// Whoever has the record's bytes, the proof and the log's verifier key needs nothing else:
    /// `moat-verify proof` checks it offline.
    Prove {
        /// Number of the record, as `x-moat-record` and `moat audit show` have it.
        seq: u64,
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// File for the proof; default: record-SEQ.tlog-proof. `-` is stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// File for the record's bytes, which the proof is of.
        #[arg(long, value_name = "FILE")]
        entry: Option<PathBuf>,
    },
    /// Write the signed part of the log as others read it: checkpoint, tiles and entry bundles.
    ///
    /// The layout is that of c2sp.org/tlog-tiles; any program that knows it can verify the copy.
    Export {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// A new folder for the copy.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Write the last checkpoint as a request for a witness that is not on the network.
    ///
    /// Carry the file to each witness, let it answer with `moat audit witness --request`, and bring
    /// the answers back to `moat audit cosigned`.
    Checkpoint {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// How many records the witness has cosigned before; default: as many as are witnessed. One
        /// that knows of another number says so.
        #[arg(long, value_name = "SIZE")]
        old: Option<u64>,
        /// File for the request; `-` is stdout.
        #[arg(long, value_name = "FILE", default_value = "checkpoint.request")]
        out: PathBuf,
    },
    /// Bring the answers of witnesses to a request back to the log.
    ///
    /// They must be over the same checkpoint and together be enough for the policy. The auditor
    /// takes them within a second, or at its next start.
    Cosigned {
        /// The request that was carried out. Of several with one checkpoint, any.
        request: PathBuf,
        /// The answers.
        #[arg(required = true)]
        answers: Vec<PathBuf>,
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// The policy file: `audit.policy` of the configuration.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// Run a witness: cosign the checkpoints of logs that only grow (c2sp.org/tlog-witness).
    ///
    /// Give it to hands that cannot write the logs: it is what convicts whoever holds all the keys
    /// of a log. What was cosigned lies in its folder; who puts that back makes it blind, so keep it
    /// where nobody does.
    ///
    ///   moat audit keygen --witness --origin witness.example/w1 --out witness.key
    ///   moat audit witness --key witness.key --log-key "$LOG_VKEY" --listen 10.1.0.9:8480
    #[command(verbatim_doc_comment)]
    Witness {
        /// Folder for what was cosigned; made if it is not there.
        #[arg(long, default_value = "/var/lib/moat-witness")]
        dir: PathBuf,
        /// File of the witness's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Verifier key of a log, as `moat audit vkey` prints it. May be given several times.
        #[arg(long = "log-key", value_name = "VKEY", required = true)]
        logs: Vec<String>,
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
        listen: std::net::SocketAddr,
        /// User to become when started by root; it must own the folder.
        #[arg(long)]
        user: Option<String>,
        /// Answer this one request and end, in place of listening; exit 3 if it is refused.
        #[arg(long, value_name = "FILE", conflicts_with = "listen")]
        request: Option<PathBuf>,
        /// File for the answer to the request; `-` is stdout.
        #[arg(long, value_name = "FILE", default_value = "-", requires = "request")]
        out: PathBuf,
    },
    /// Hold two copies of a log against each other, by their checkpoints and tiles.
    ///
    /// Exit 0 when one continues the other; 3 when there are two histories. Then the first record
    /// that differs is named, and proven by either copy: whoever has the log's verifier key and the
    /// two proofs can see that the log signed both.
    Compare {
        /// A log's folder, or what `moat audit export` wrote.
        one: PathBuf,
        /// Another.
        other: PathBuf,
        /// A new folder for the two proofs, should there be two histories.
        #[arg(long, value_name = "FOLDER")]
        proofs: Option<PathBuf>,
    },
    /// Keep a mirror of a log: an exact copy of what is signed, brought up to date at each run.
    ///
    /// Copies segments, tiles and checkpoints, and no key. Before it takes anything over it holds
    /// every record against its hash, the hashes against the signed root, and that root against what
    /// was mirrored before. A log that has another history, or was put back, is refused with exit 3
    /// and leaves the mirror as it was. Run it where nobody who can write the log can write:
    ///
    ///   moat audit mirror /mnt/edge-1/audit --to /srv/mirrors/edge-1 --key "$LOG_VKEY"
    #[command(verbatim_doc_comment)]
    Mirror {
        /// The log's folder, or a copy of it.
        dir: PathBuf,
        /// Folder of the mirror; made if it is not there.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// Verifier key that must have signed the checkpoint.
        #[arg(long = "key", value_name = "VKEY", conflicts_with = "policy")]
        keys: Vec<String>,
        /// Policy file (c2sp.org/tlog-policy) that must accept the checkpoint.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Restore what rotted in a log's folder from its mirror.
    ///
    /// The mirror must lead to what was signed; where two histories were signed nothing is touched.
    /// A segment is restored byte for byte, a tile is made anew, the damaged file is kept as
    /// `.damaged-0`. No root changes. The gateway must not run; its auditor puts the repair on record
    /// when it starts. Exit 3 if something is bad in both folders.
    Repair {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// The mirror: what `moat audit mirror` wrote, or a copied folder.
        #[arg(long, value_name = "FOLDER")]
        from: PathBuf,
        /// Verifier key of the log; without one nobody asks who signed.
        #[arg(long = "key", value_name = "VKEY", conflicts_with = "policy")]
        keys: Vec<String>,
        /// Policy file (c2sp.org/tlog-policy).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Compare all logs under one folder with their mirrors under another; for each day.
    ///
    /// Folders of the same name belong together. Each pair must be one history (by consistency), and
    /// every byte of both as it was signed. Where two histories were signed, the proofs go to
    /// --proofs, and a file `frozen` into both folders: the node's auditor lets nothing new begin
    /// (MOAT-A043) until it is gone. Exit 3 when anything is not good.
    CompareAll {
        /// Folder with the logs, one folder each.
        logs: PathBuf,
        /// Folder with their mirrors.
        mirrors: PathBuf,
        /// Folder for proofs of two histories, a folder for each log that has them.
        #[arg(long, value_name = "FOLDER")]
        proofs: Option<PathBuf>,
        /// Policy file (c2sp.org/tlog-policy) with the keys of all logs.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// `table` for people, `json` for programs.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Write a request for a time stamp (RFC 3161) over the last checkpoint.
    ///
    /// Send the file to a time-stamping authority, by HTTP or by hand, and give its answer to `moat
    /// audit timestamped`. With a token every record below the checkpoint's size was made before its
    /// time.
    Timestamp {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// File for the request.
        #[arg(long, value_name = "FILE", default_value = "checkpoint.tsq")]
        out: PathBuf,
    },
    /// Take the answer of a time-stamping authority; exit 3 if it proves nothing.
    ///
    /// The token goes to `timestamps/` in the log's folder, and the auditor puts its digest on record:
    /// every later record was made after its time. `moat audit verify --tsa` and `moat audit show
    /// --tsa` then say between which times a record was made.
    Timestamped {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// How many records the request was over.
        #[arg(long, value_name = "RECORDS")]
        size: u64,
        /// The answer.
        #[arg(long, value_name = "FILE")]
        answer: PathBuf,
        /// Certificates of the authorities that may issue to whoever stamps, PEM.
        #[arg(long, value_name = "FILE")]
        authority: PathBuf,
    },
    /// Print the records as statements for SQLite, for analysts.
    ///
    /// Two tables, `record` and `field`, with indexes. A copy to ask questions of: the log is the
    /// evidence, this is not.
    ///
    ///   moat audit sql --dir DIR | sqlite3 audit.db
    ///   moat audit show --dir DIR --limit 10000000 -o json > audit.jsonl   # for other tools
    #[command(verbatim_doc_comment)]
    Sql {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// First record.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        from: u64,
        /// Last record; default: all.
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
    },
    /// Write a pack: records, a proof of each, and the policy, for somebody who has nothing else.
    ///
    /// `moat-verify pack FOLDER` checks it offline, without the log and without this machine. A
    /// record that retention removed is in it by its hash and proof alone.
    Pack {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// First record.
        #[arg(long, value_name = "SEQ")]
        from: u64,
        /// Last record; default: the first.
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
        /// Only records of this object, and intents and outcomes that belong to them.
        #[arg(long)]
        object: Option<String>,
        /// Policy file to put beside them. Whoever checks the pack should have it from elsewhere.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// A new folder.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Make a key that signs a log, and print its public half: Ed25519, or SM2 with SM3.
    Keygen {
        /// Origin of the log: `audit.origin` of the configuration. Of a witness: its name.
        #[arg(long)]
        origin: String,
        /// File for the key; nothing is overwritten.
        #[arg(long, value_name = "FILE", default_value = "log.key")]
        out: PathBuf,
        /// An SM2 key. It signs beside an Ed25519 key, or alone.
        #[arg(long)]
        sm2: bool,
        /// A key for `moat audit witness`.
        #[arg(long, conflicts_with = "sm2")]
        witness: bool,
    },
    /// Let a log be signed again of which nothing says any more what was signed (MOAT-A030).
    ///
    /// For a folder that lost its files `signed` and `checkpoint`. Somebody may have taken them away
    /// to have other records signed: verify the log against checkpoints that were kept first. The
    /// auditor puts the reason on record when it starts next, and signs from the first record on. A
    /// log that contradicts what was signed is signed by no command.
    ResumeSigning {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// Why, for the record: who decided it, and by which ticket.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Print the verifier keys of a log: what to give to whoever verifies.
    Vkey {
        /// The log's folder.
        #[arg(long, default_value = "/var/lib/moat/audit")]
        dir: PathBuf,
        /// A private key, in place of those that sign the log now.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How fast records become durable, beside a raw O_DSYNC write of the same size.
    Append {
        /// Seconds for each figure.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What the log costs and gives, beside PostgreSQL, SQLite and the bare disk in the same run.
    ///
    /// Durable records a second at 1, 64 and 1,024 in flight; one-row transactions of PostgreSQL with
    /// synchronous commit at 1, 64 and 256 clients, and of SQLite with WAL and FULL, on the same disk;
    /// CPU and bytes of a record with one field; how fast a log is verified; a proof in a tree of 10
    /// million records, and one flipped bit found there; 128 nodes compared with their mirrors. Needs
    /// 2 GB in --dir, 100 MB in /dev/shm, PostgreSQL with pgbench, and sqlite3.
    Audit {
        /// Seconds for each rate.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Folder with the programs of PostgreSQL.
        #[arg(long, value_name = "FOLDER", default_value = "/usr/lib/postgresql/15/bin")]
        postgres: PathBuf,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What one call on a kept connection costs, beside nginx that only passes it on.
    ///
    /// Starts nginx as the service, nginx as a proxy and `moat serve`, each with one worker and
    /// mutual TLS 1.3 on both sides. oha makes the calls, 64 at once; rounds alternate between the
    /// two. Moat decides by policy, masks six fields and makes a record with four fields durable
    /// before each answer. CPU is without the handshakes of the 64 connections. All is done twice: with
    /// the demo's policy, whose decisions can be recalled, and with one rule more that has each made
    /// anew. At the end the log is verified and must hold one record per call.
    ///
    /// Needs nginx and oha: `cargo xtask peers` builds oha and says how to get nginx. With
    /// `--requests 1000000 --rounds 1` the rows on memory show whether it stays flat.
    Gateway {
        /// Calls a round, of each side.
        #[arg(long, value_name = "N", default_value_t = 30_000,
              value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
        requests: u64,
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = 3,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What the kernel's programs cost; as root.
    ///
    /// The XDP program by test runs of the kernel, a million of each packet; connects to the
    /// loopback device from within a guarded cgroup and from without, in turn.
    Kernel {
        /// Rounds; the median counts.
        #[arg(long, value_name = "N", default_value_t = 7,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// `table` for people, `json` for programs: one object a line.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Whether the cause of slow calls is named, and what naming it costs; as root.
    ///
    /// While calls are made, one thing after the other is made to go wrong: the log's disk stands
    /// still, other processes take the worker's processor, the service stands still, a rule takes
    /// long, the gateway's memory is swapped out, packets to the service are lost. What `moat
    /// latency` then says must name it: no other cause has become so many times what it was. Then the same load
    /// with and without, in turn. Mounts a file as a disk, swaps into zram and drops packets on the
    /// loopback device for that; all of it is undone.
    ///
    /// Needs nginx, oha, python3, and e2fsprogs and util-linux of the system.
    Latency {
        /// Calls a round to measure the cost with; 0 does not measure it.
        #[arg(long, value_name = "N", default_value_t = 30_000,
              value_parser = clap::value_parser!(u64).range(..=100_000_000))]
        requests: u64,
        /// Rounds of each; the median counts.
        #[arg(long, value_name = "N", default_value_t = 5,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What a new connection costs: a full mutual handshake and one call, beside nginx.
    ///
    /// The set-up of `gateway` with a new connection for every call, by callers of this program.
    /// Both sides agree on keys in X25519, and neither resumes a session; both are checked. Then
    /// Moat alone with X25519MLKEM768, which it takes from callers that have it.
    Handshake {
        /// Connections a round, of each side.
        #[arg(long, value_name = "N", default_value_t = 2_000,
              value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
        requests: u64,
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = 3,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Moat with everything on beside nginx, HAProxy, Caddy and Envoy that only pass calls on.
    ///
    /// Mutual TLS 1.3 on both sides, the same nginx as the service, one worker each, the first core for
    /// the side that is measured and the others for callers and service. Small documents over kept
    /// HTTP/1.1 and HTTP/2 and over new connections, and one of 1 MiB. Moat decides by policy, masks
    /// and makes a record durable before each answer; at the end its log is verified. Envoy is measured
    /// once more with a call to who says yes and an access log in a file. Prints CPU by process and by
    /// user and kernel mode, latencies, calls a second and memory, each beside each peer.
    ///
    /// Needs taskset, nginx, HAProxy, and what `cargo xtask peers` brings.
    E2e {
        /// Calls a round of the small document on kept connections; of others a part.
        #[arg(long, value_name = "N", default_value_t = 20_000,
              value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
        requests: u64,
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = 3,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// Idle connections whose memory is measured; 0 leaves it out.
        #[arg(long, value_name = "N", default_value_t = 500)]
        idle: usize,
        /// Folder for plots (SVG).
        #[arg(long, value_name = "FOLDER")]
        plots: Option<PathBuf>,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// How long `moat serve` takes from its start until it is ready, beside nginx.
    Start {
        /// Starts of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = 10,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// SM2, SM3, SM4 and national handshakes, beside OpenSSL 4 and Tongsuo.
    ///
    /// All on one core: signatures of a message and their verification, ECDH, records sealed, hashes,
    /// and mutual handshakes in memory with chains of three certificates. Rounds alternate between
    /// the sides. Tongsuo is built with its fast SM2. The path of the processor is the best it has,
    /// or that of MOAT_CPU; SM4-GCM is measured on the AES-NI and AVX2 path too.
    ///
    /// Needs OpenSSL and Tongsuo as `cargo xtask peers` builds them.
    Sm {
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = crate::bench::sm::Settings::ROUNDS,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// Length of a round, in milliseconds.
        #[arg(long, value_name = "N", default_value_t = crate::bench::sm::Settings::ROUND_MS,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        round_ms: u32,
        /// Folder that `cargo xtask peers` builds into; default: moat in the cache of the user.
        #[arg(long, value_name = "FOLDER")]
        peers: Option<PathBuf>,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Bodies masked, beside serde_json; views of a type; tokens.
    ///
    /// Everything runs in this process, on one core. Other peers are in bench-peers/mask, a program
    /// that prints a table of its own.
    Mask {
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = crate::bench::mask::Settings::ROUNDS,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// Length of a round, in milliseconds.
        #[arg(long, value_name = "N", default_value_t = crate::bench::mask::Settings::ROUND_MS,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        round_ms: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Messages of ISO 8583, EMV, ISO 20022 and ASN.1, beside other crates.
    ///
    /// The other crates are iso_8583_rs, asn1 and roxmltree, in a program of their own that reads the
    /// same samples; a naive reader stands beside them, and our own ways beside each other. Rounds
    /// alternate between the sides.
    ///
    /// Needs the program that `cargo xtask peers` builds.
    Message {
        /// Rounds of each side; the median counts.
        #[arg(long, value_name = "N", default_value_t = crate::bench::message::Settings::ROUNDS,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// Length of a round, in milliseconds.
        #[arg(long, value_name = "N", default_value_t = crate::bench::message::Settings::ROUND_MS,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        round_ms: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Decisions with few and many policies, risk, and kept decisions asked again.
    ///
    /// Each decision is made anew, none is recalled. Few and many take turns.
    Policy {
        /// Rounds of each; the median counts.
        #[arg(long, value_name = "N", default_value_t = 5,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What a decision adds to a call through Envoy, beside a server that allows everything.
    ///
    /// One Envoy asks both by ext_authz on a Unix socket, in turn; calls go one after the other on a kept
    /// connection. Moat verifies the caller's certificate, decides by the demo's policy and makes a
    /// record durable in the folder before it answers: name one on the disk that is meant.
    ///
    /// Needs the Envoy that `cargo xtask peers` installs. Not among `all`.
    ExtAuthz {
        /// Calls of each side a round.
        #[arg(long, value_name = "N", default_value_t = 2_000,
              value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
        requests: u64,
        /// Rounds; the median counts.
        #[arg(long, value_name = "N", default_value_t = 5,
              value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// What a new connection with one call costs, beside Envoy.
    ///
    /// Both demand a certificate, look into lists of revoked certificates of every authority below the
    /// root, and want a SPIFFE id; both agree on keys in X25519 and pass the call on to the same nginx.
    /// Moat decides, masks and records besides.
    ///
    /// Needs nginx, and the Envoy that `cargo xtask peers` installs. Not among `all`.
    EnvoyHandshake {
        /// Connections of each side a round.
        #[arg(long, value_name = "N", default_value_t = 2_000,
              value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
        requests: u64,
        /// Rounds; the median counts.
        #[arg(long, value_name = "N", default_value_t = 3,
              value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Everything above but what needs Envoy, with the usual numbers; two minutes or three.
    All {
        #[command(flatten)]
        common: BenchArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A new folder on the disk to measure; it is removed afterwards.
    #[arg(long, value_name = "FOLDER", default_value = "moat-bench")]
    pub(crate) dir: PathBuf,
    /// `table` for people, `json` for programs: one object a line.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// gateway, auditor or admin.
    pub(crate) name: String,
    /// Settings as JSON.
    pub(crate) settings: String,
}
