//! The JSON interface.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::account::Transfer;
use crate::money::Money;
use crate::problem::Problem;
use crate::store::{Once, Reply, Ruling, Store};

/// Longest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for a request body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Longest account or card number, in bytes.
const NUMBER_BYTES_MAX: usize = 34;
/// Longest note, in characters.
const NOTE_CHARS_MAX: usize = 140;

/// An answer with a body that is complete. Nothing here may be stored by a cache.
pub(crate) fn answer(
    status: StatusCode,
    kind: &'static str,
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Demand {
    amount: String,
    to: Payee,
    #[serde(default)]
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payee {
    account: String,
}

/// Answers one request.
pub async fn handle<B>(store: &Arc<Store>, request: Request<B>) -> Response<Full<Bytes>>
where
    B: http_body::Body<Data: Send, Error: Into<Box<dyn core::error::Error + Send + Sync>>> + Send,
{
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    let done = match (parts.as_slice(), &method) {
        (["livez"], &Method::GET) => Ok(answer(StatusCode::OK, "text/plain", "ok\n".to_owned())),
        (["v1", "accounts", id], &Method::GET) if is_number(id) => read(store, id).await,
        (["v1", "accounts", id, "transfer"], &Method::POST) if is_number(id) => {
            transfer(store, id, &path, request).await
        }
        (["livez"], _) => Ok(not_allowed("GET")),
        (["v1", "accounts", id], _) if is_number(id) => Ok(not_allowed("GET")),
        (["v1", "accounts", id, "transfer"], _) if is_number(id) => Ok(not_allowed("POST")),
        _ => Err(unknown("There is nothing at this path")),
    };
    done.unwrap_or_else(Problem::into_response)
}

fn unknown(title: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", title)
}

fn bad(title: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", title)
}

fn broken() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The book cannot be read or written",
    )
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let title = "This path has no such method";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn is_number(text: &str) -> bool {
    (1..=NUMBER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

async fn read(store: &Arc<Store>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let (store, id) = (Arc::clone(store), id.to_owned());
    let found = blocking(move || store.account(&id)).await?;
    let account = found.ok_or_else(|| unknown("There is no such account"))?;
    Ok(answer(StatusCode::OK, "application/json", account.to_json().to_string()))
}

async fn transfer<B>(
    store: &Arc<Store>,
    id: &str,
    path: &str,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Problem>
where
    B: http_body::Body<Data: Send, Error: Into<Box<dyn core::error::Error + Send + Sync>>> + Send,
{
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        let title = "Send Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", title));
    }
    let key = idempotency_key(&head.headers)?;
    let body = whole(body).await?;
    // serde's own text would quote the body.
    let demand: Demand = serde_json::from_slice(&body)
        .map_err(|_| bad("The body is no transfer: {amount, to: {account}, note?}"))?;
    let amount: Money = demand.amount.parse().map_err(|_| bad_amount())?;
    if amount.minor() == 0 {
        return Err(bad_amount());
    }
    if !is_number(&demand.to.account) || demand.note.chars().count() > NOTE_CHARS_MAX {
        return Err(bad("The account number or the note is malformed or too long"));
    }
    let wanted = Transfer { from: id.to_owned(), to: demand.to.account, amount };
    let once = key.map(|key| Once { key, digest: digest(path, &body) });
    let (book, asked) = (Arc::clone(store), wanted.clone());
    match blocking(move || book.transfer(&asked, once.as_ref())).await? {
        Reply::Ruled(ruling) => render(&wanted, ruling),
        Reply::KeyReused => {
            let title = "This Idempotency-Key was used with another body";
            Err(Problem::new(StatusCode::CONFLICT, "key-reused", title))
        }
    }
}

fn render(wanted: &Transfer, ruling: Ruling) -> Result<Response<Full<Bytes>>, Problem> {
    let unprocessable =
        |kind, title| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title));
    let (transfer_id, balance_minor) = match ruling {
        Ruling::Done { transfer_id, balance_minor } => (transfer_id, balance_minor),
        Ruling::UnknownPayer => return Err(unknown("There is no such account")),
        Ruling::UnknownPayee => return Err(unknown("There is no such receiving account")),
        Ruling::SameAccount => return Err(bad("An account cannot pay to itself")),
        Ruling::OtherCurrency => return unprocessable("currency", "The currencies differ"),
        Ruling::InsufficientFunds => {
            return unprocessable("insufficient-funds", "The balance is too small");
        }
        Ruling::TooMuch => return unprocessable("too-much", "The receiving balance is too large"),
    };
    let balance = Money::from_minor(balance_minor).map(|money| money.to_string());
    let body = serde_json::json!({
        "transfer_id": transfer_id,
        "from": { "id": wanted.from, "balance": balance },
        "to": { "account": wanted.to },
        "amount": wanted.amount.to_string(),
    });
    Ok(answer(StatusCode::OK, "application/json", body.to_string()))
}

fn bad_amount() -> Problem {
    let title = "The amount is positive, with at most two decimals, for example 100.00";
    Problem::new(StatusCode::BAD_REQUEST, "bad-amount", title)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).unwrap_or("");
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// The `Idempotency-Key` header; it may stand once and is visible ASCII.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or("");
    if all.next().is_some() || key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(bad("Idempotency-Key stands once, with 1 to 128 visible characters"));
    }
    Ok(Some(key.to_owned()))
}

/// Digest of what a key stands for: the path and the body, told apart by the path's length.
fn digest(path: &str, body: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update((path.len() as u64).to_be_bytes());
    hash.chain_update(path).chain_update(body).finalize().into()
}

async fn whole<B>(body: B) -> Result<Bytes, Problem>
where
    B: http_body::Body<Data: Send, Error: Into<Box<dyn core::error::Error + Send + Sync>>> + Send,
{
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_WAIT_MAX, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let title = "The body is longer than 64 KiB";
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title))
        }
        Ok(Err(_)) => Err(bad("The body did not arrive whole")),
        Err(_) => {
            let title = "The body took too long";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", title))
        }
    }
}

/// Runs a call to the book where it may wait for the disk.
async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| broken())?.map_err(|_| broken())
}
