//! `moat policy bundle`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use moat_identity::{Algorithm, jws};
use moat_policy::signed::{self, Demands, MANIFEST, Manifest, SIGNATURES};
use moat_policy::{Bundle, BundleFile};
use moat_sm::{pem, sm2};
use serde_json::json;
use zeroize::Zeroizing;

use super::files_of;
use crate::cli::BundleCommand;

/// Label of a private key in PEM (RFC 7468 §10).
const LABEL: &str = "PRIVATE KEY";

pub(super) fn run(command: &BundleCommand) -> Result<ExitCode> {
    match command {
        BundleCommand::Key { out, id, sm2 } => make_key(out, id, *sm2),
        BundleCommand::Build { source, out, tenant, name, version, not_after, moat } => {
            let manifest = Manifest {
                tenant: tenant.clone(),
                name: name.clone(),
                version: version.parse().context("--version")?,
                not_after_s: *not_after,
                moat: moat.as_ref().map(|range| range.parse()).transpose().context("--moat")?,
            };
            build(source, out, &manifest)
        }
        BundleCommand::Sign { bundle, key, id } => sign(bundle, key, id),
        BundleCommand::Verify { bundle, keys, tenant, name, algorithms } => {
            let text = fs::read(keys).with_context(|| keys.display().to_string())?;
            let algorithm = |wanted: &String| {
                let known = Algorithm::ALL.into_iter().find(|known| known.jws() == wanted);
                known.with_context(|| format!("{wanted} is no algorithm"))
            };
            verify(
                bundle,
                &Demands {
                    tenant: tenant.clone(),
                    name: name.clone(),
                    keys: moat_identity::read_keys(&text)
                        .with_context(|| keys.display().to_string())?,
                    algorithms: algorithms.iter().map(algorithm).collect::<Result<_>>()?,
                    floor: None,
                },
            )
        }
    }
}

/// A private key, of either kind.
enum Secret {
    Ed25519(Ed25519KeyPair),
    Sm2(Box<sm2::SecretKey>),
}

impl Secret {
    fn read(path: &Path) -> Result<Secret> {
        let text = Zeroizing::new(fs::read_to_string(path)?);
        let der = pem::decode(LABEL, &text).with_context(|| path.display().to_string())?;
        if let Ok(key) = sm2::SecretKey::from_pkcs8_der(&der) {
            return Ok(Secret::Sm2(Box::new(key)));
        }
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        Ok(Secret::Ed25519(key.context("neither an Ed25519 nor an SM2 key")?))
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Secret::Ed25519(_) => Algorithm::Ed25519,
            Secret::Sm2(_) => Algorithm::Sm2Sm3,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Secret::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Secret::Sm2(key) => {
                key.sign(sm2::DEFAULT_ID, message, &entropy()?)?.to_bytes().to_vec()
            }
        })
    }
}

fn entropy() -> Result<[u8; sm2::ENTROPY_BYTES]> {
    let mut bytes = [0; sm2::ENTROPY_BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes)
}

fn make_key(out: &Path, id: &str, is_sm2: bool) -> Result<ExitCode> {
    let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let (der, jwk) = if is_sm2 {
        let key = sm2::SecretKey::generate(&entropy()?)?;
        let public = *key.public().as_bytes();
        let (x, y) = public.get(1..).unwrap_or(&[]).split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "SM2", "kid": id, "use": "sig",
            "alg": Algorithm::Sm2Sm3.jws(), "x": b64(x), "y": b64(y) });
        (Zeroizing::new(key.to_pkcs8_der().to_vec()), jwk)
    } else {
        let key = Ed25519KeyPair::generate()?;
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig",
            "alg": Algorithm::Ed25519.jws(), "x": b64(key.public_key().as_ref()) });
        (Zeroizing::new(key.to_pkcs8v1()?.as_ref().to_vec()), jwk)
    };
    let file = File::options().write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.with_context(|| out.display().to_string())?;
    file.write_all(pem::encode(LABEL, &der).as_bytes())?;
    file.sync_all()?;
    println!("{}", serde_json::to_string(&jwk)?);
    Ok(ExitCode::SUCCESS)
}

fn build(source: &Path, out: &Path, manifest: &Manifest) -> Result<ExitCode> {
    let mut files = files_of(source)?;
    files.retain(|file| file.path != MANIFEST && file.path != SIGNATURES);
    let bytes = serde_json::to_vec_pretty(manifest)?;
    files.push(BundleFile { path: MANIFEST.to_owned(), bytes });
    // Everything that an activation looks at, but for the signatures.
    signed::statement(&files)?;
    let bundle = Arc::new(Bundle::new(files.clone())?);
    let passed = signed::self_test(&files, &bundle)?;
    fs::create_dir(out).with_context(|| format!("{} must be new", out.display()))?;
    for file in &files {
        let path = out.join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &file.bytes).with_context(|| path.display().to_string())?;
    }
    let (scope, version) = (manifest.scope(), &manifest.version);
    let digest = signed::digest_of(&files);
    println!("{scope} {version}: {} files, {passed} tests passed, {digest}", files.len());
    Ok(ExitCode::SUCCESS)
}

fn sign(folder: &Path, key: &Path, id: &str) -> Result<ExitCode> {
    let files = files_of(folder)?;
    let payload = signed::statement(&files)?;
    let secret = Secret::read(key)?;
    let signed = jws::to_sign(secret.algorithm(), id, &payload);
    let signature = BASE64URL_NOPAD.encode(&secret.sign(signed.as_bytes())?);
    let bytes = signed::with_signature(&files, format!("{signed}.{signature}"))?;
    let path = folder.join(SIGNATURES);
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    println!("{}: signed by `{id}`, {}", folder.display(), secret.algorithm().jws());
    Ok(ExitCode::SUCCESS)
}

fn verify(folder: &Path, demands: &Demands) -> Result<ExitCode> {
    let files = files_of(folder)?;
    let now_s = u64::try_from(crate::ca::now_s()).unwrap_or(0);
    let manifest = signed::verify(&files, demands, now_s, env!("CARGO_PKG_VERSION"))?;
    let bundle = Arc::new(Bundle::new(files.clone())?);
    let passed = signed::self_test(&files, &bundle)?;
    if passed == 0 {
        bail!("the bundle has no tests: write `test_` rules or .golden.json");
    }
    let digest = signed::digest_of(&files);
    println!("{} {}: good, {passed} tests passed, {digest}", manifest.scope(), manifest.version);
    Ok(ExitCode::SUCCESS)
}
