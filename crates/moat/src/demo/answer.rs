//! How a caller answers a machine's challenge: the request again, signed with its second key (RFC 9421).

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use data_encoding::BASE64;
use http::Request;
use http_body_util::Full;

use super::client::post;

/// `POST path` with a JSON body, signed over method, target, digest of the body and nonce.
pub(crate) fn signed(
    path: &str,
    body: &str,
    nonce: &str,
    key_id: &str,
    key: &Ed25519KeyPair,
) -> Result<Request<Full<Bytes>>> {
    let sha256 = BASE64.encode(digest(&SHA256, body.as_bytes()).as_ref());
    let content_digest = format!("sha-256=:{sha256}:");
    let created = crate::ca::now_s();
    let parameters = format!(
        "(\"@method\" \"@target-uri\" \"content-digest\");created={created};keyid=\"{key_id}\";\
         nonce=\"{nonce}\";tag=\"moat-step-up\""
    );
    // The client names the host without a port, and so does the target that is signed.
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": https://localhost{path}\n\
         \"content-digest\": {content_digest}\n\"@signature-params\": {parameters}"
    );
    let signature = BASE64.encode(key.sign(base.as_bytes()).as_ref());
    let mut request = post(path, body)?;
    let headers = request.headers_mut();
    headers.insert("content-digest", content_digest.parse()?);
    headers.insert("signature-input", format!("moat={parameters}").parse()?);
    headers.insert("signature", format!("moat=:{signature}:").parse()?);
    Ok(request)
}
