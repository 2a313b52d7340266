//! What a person may type after `moat ca`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a root and an issuing authority.
    Init {
        /// Folder for certificates, keys and registers; nothing in it is overwritten.
        #[arg(long, default_value = "pki")]
        dir: PathBuf,
        /// Name that stands in the certificates.
        #[arg(long, default_value = "Moat Development")]
        name: String,
        /// SM2 keys and SM2-with-SM3 signatures. The files are called root-sm2.pem and so on, so
        /// that both authorities fit into one folder.
        #[arg(long)]
        sm2: bool,
    },
    /// Issue a certificate for one SPIFFE id, with a fresh key or for the key of a request.
    ///
    /// It is entered into the authority's register. With --request only NAME.pem is written: the
    /// key stays where the request was made.
    Issue(IssueArgs),
    /// Make a key and a certificate request (PKCS #10), where the key shall stay.
    ///
    /// Writes NAME.key (0600), which must not be there already, and NAME.csr. Give NAME.csr to the authority, which runs
    /// `moat ca issue --request NAME.csr --spiffe ID`.
    #[command(group(ArgGroup::new("who").required(true).args(["spiffe"])))]
    Request {
        #[command(flatten)]
        subject: Subject,
        /// Folder for NAME.key and NAME.csr.
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Make an SM2 key; otherwise a P-256 one.
        #[arg(long)]
        sm2: bool,
    },
    /// Serve a SPIFFE Workload API on a Unix socket, for development.
    ///
    /// Programs ask it for their identity; who they are is told by the kernel. Each identity has a
    /// fresh key, lives for --ttl-s seconds, is given anew at half of that, and stands in the
    /// register. `moat svid` is a client.
    ///
    ///   moat ca serve --socket /run/moat/agent.sock --entry uid:1000=spiffe://bank.test/teller
    #[command(verbatim_doc_comment)]
    Serve(ServeArgs),
    /// Revoke a certificate: it stands in every list and answer that is made from then on.
    ///
    /// Whoever shall heed it needs the new list: run `moat ca crl` after it. A revocation is for
    /// good.
    Revoke {
        /// The certificate's file, or its serial number in hexadecimal digits.
        #[arg(value_name = "FILE|SERIAL")]
        certificate: String,
        /// unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
        /// cessationOfOperation or privilegeWithdrawn.
        #[arg(long, default_value = "unspecified", value_parser = reason)]
        reason: moat_ca::Reason,
        /// Folder of the authority.
        #[arg(long, default_value = "pki")]
        dir: PathBuf,
        /// The serial number is one of the SM2 authority. A file says so itself.
        #[arg(long)]
        sm2: bool,
        /// The serial number is one of the root, not of the issuing authority.
        #[arg(long)]
        root: bool,
    },
    /// Write a signed list of all revoked certificates (CRL), with the next number.
    ///
    /// A list is due anew before its --days are over, also if nothing was revoked since. Whoever
    /// checks whole chains needs the root's list, too.
    Crl {
        /// Folder of the authority.
        #[arg(long, default_value = "pki")]
        dir: PathBuf,
        /// The file; default: issuing.crl in the authority's folder, with --sm2 issuing-sm2.crl. It
        /// takes the place of an earlier list only.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Days until the next list is due.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=3_650))]
        days: i64,
        /// The list of the SM2 authority, signed by SM2 with SM3.
        #[arg(long)]
        sm2: bool,
        /// The root's list, which may hold issuing authorities.
        #[arg(long)]
        root: bool,
        /// Write DER in place of PEM.
        #[arg(long)]
        der: bool,
    },
    /// Write a signed OCSP response for certificates of the issuing authority, to be stapled.
    ///
    /// Each is good, revoked, or unknown if the register does not have it. Nothing listens: the
    /// file is made ahead, and due anew before its --hours are over.
    Ocsp {
        /// A certificate's file; may be given several times.
        #[arg(long = "cert", required = true, value_name = "FILE")]
        certificates: Vec<PathBuf>,
        /// The file for the response, in DER. It takes the place of an earlier response only.
        #[arg(long)]
        out: PathBuf,
        /// Folder of the authority.
        #[arg(long, default_value = "pki")]
        dir: PathBuf,
        /// Hours until the next response is due, a week at most. It is due earlier where the
        /// certificate, or one that signs the response, ends earlier.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=168))]
        hours: i64,
        /// Sign by this responder's NAME.pem and NAME.key, given without ending, in place of the
        /// authority. `moat ca issue --ocsp-responder` makes one.
        #[arg(long, value_name = "PATH")]
        responder: Option<PathBuf>,
        /// The hash that names the certificates: sha1, sha256 or sm3. Default: sm3 for SM2,
        /// otherwise sha256. Many programs look for sha1.
        #[arg(long, value_enum)]
        hash: Option<Hash>,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("who").required(true).args(["spiffe", "ocsp_responder"])))]
pub(crate) struct IssueArgs {
    /// Folder of the authority.
    #[arg(long, default_value = "pki")]
    pub(crate) dir: PathBuf,
    /// Folder for NAME.pem and NAME.key; default: the authority's.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Days of validity; negative for a certificate that has expired so long ago. Default: 365, with
    /// --ocsp-responder 30, which is also the most then.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) days: Option<i64>,
    /// Issue by the SM2 authority, with an SM2 key. A request says so itself.
    #[arg(long, conflicts_with = "request")]
    pub(crate) sm2: bool,
    /// A request (PEM or DER) whose key the certificate is for. Its sender must hold the key, and
    /// is given the names above and no others: a request that wishes more is refused.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Not for TLS but to sign OCSP responses in the authority's place, for 30 days at most. Needs no
    /// id.
    #[arg(long, conflicts_with_all = ["request", "names"])]
    pub(crate) ocsp_responder: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the authority.
    #[arg(long, default_value = "pki")]
    pub(crate) dir: PathBuf,
    /// The socket, which is made. Anybody may connect.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// What programs of a user are given; may be given several times.
    #[arg(long = "entry", required = true, value_name = "uid:UID=ID",
        value_parser = crate::ca_serve::entry)]
    pub(crate) entries: Vec<crate::ca_serve::Entry>,
    /// DNS name or IP address beside each id, for clients that check the server's name.
    #[arg(long = "name")]
    pub(crate) names: Vec<String>,
    /// Seconds that an identity lives.
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(2..=86_400))]
    pub(crate) ttl_s: u32,
}

/// Who a certificate is for.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// The id, for example spiffe://bank.test/teller. Several make a certificate that Moat
    /// refuses.
    #[arg(long = "spiffe", value_name = "ID")]
    pub(crate) spiffe: Vec<String>,
    /// DNS name or IP address beside it, for clients that check the server's name.
    #[arg(long = "name")]
    pub(crate) names: Vec<String>,
    /// Organisation in the subject.
    #[arg(long)]
    pub(crate) organization: Option<String>,
    /// Stem of the file names; default: the last part of the id, with SM2 and `-sm2`.
    #[arg(long)]
    pub(crate) stem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Hash {
    /// What most programs ask with.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SM3.
    Sm3,
}

fn reason(text: &str) -> Result<moat_ca::Reason, String> {
    let names = || moat_ca::Reason::ALL.map(|(.., name)| name).join(", ");
    moat_ca::Reason::find(text).ok_or_else(|| format!("one of {}", names()))
}
