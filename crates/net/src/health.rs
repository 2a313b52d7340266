//! One question to one endpoint: is it well? Over mutual TLS like every call, and as the gateway,
//! for there is no caller.

use core::time::Duration;
use std::rc::Rc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue, TE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};

use crate::body::Incoming;
use crate::pool::{Lease, Pool};

/// Longest answer to a gRPC check that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1_024;
/// Longest name of a gRPC service, in bytes: its length has to fit into one byte.
const SERVICE_BYTES_MAX: usize = 100;
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// GET of a path; 2xx is well.
    Http(String),
    /// `grpc.health.v1.Health/Check` of a service; SERVING is well.
    Grpc(String),
    /// Nothing: a connection with the right identity is enough.
    Connect,
}

/// Asks; `Err` says why the endpoint is not well.
///
/// # Errors
/// What is wrong, for people.
pub async fn ask(
    pool: &Rc<Pool<Full<Bytes>>>,
    question: &Question,
    authority: &str,
    limit: Duration,
) -> Result<(), String> {
    let until = Instant::now() + limit;
    let asking = async {
        let lease = pool.lease(until).await.map_err(|none| none.refusal.to_string())?;
        match question {
            Question::Connect => {
                lease.finish();
                Ok(())
            }
            Question::Http(path) => http(lease, path, authority).await,
            Question::Grpc(service) => grpc(lease, service, authority).await,
        }
    };
    tokio::time::timeout_at(until.into(), asking)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn request(
    method: Method,
    path: &str,
    authority: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| "the path cannot be asked for".to_owned())?;
    let host = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

async fn http(mut lease: Lease<Full<Bytes>>, path: &str, authority: &str) -> Result<(), String> {
    let request = request(Method::GET, path, authority, Bytes::new())?;
    let response = lease.send(request).await.map_err(|failed| failed.error.to_string())?;
    let status = response.status();
    // Only what is short is read, so that the connection can be used again.
    if read(response.into_body()).await.is_ok() {
        lease.finish();
    }
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

async fn grpc(mut lease: Lease<Full<Bytes>>, service: &str, authority: &str) -> Result<(), String> {
    let body = grpc_question(service).ok_or("the service's name is too long")?;
    let mut request = request(Method::POST, GRPC_PATH, authority, body)?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let response = lease.send(request).await.map_err(|failed| failed.error.to_string())?;
    let (head, body) = response.into_parts();
    let (message, trailers) = read(body).await?;
    let status = status_of(&trailers).or_else(|| status_of(&head.headers));
    match status.as_deref() {
        Some("0") if is_serving(&message) => Ok(()),
        Some("0") => Err("not serving".to_owned()),
        Some(other) => Err(format!("grpc-status {other}")),
        None => Err(format!("status {} and no grpc-status", head.status.as_u16())),
    }
}

fn status_of(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

async fn read(mut body: Incoming) -> Result<(BytesMut, HeaderMap), String> {
    let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| e.to_string())?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > ANSWER_BYTES_MAX => {
                return Err("the answer is too long".to_owned());
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((bytes, trailers))
}

/// A `HealthCheckRequest` behind its gRPC prefix: field 1 is the service's name.
fn grpc_question(service: &str) -> Option<Bytes> {
    let length = u8::try_from(service.len()).ok().filter(|_| service.len() <= SERVICE_BYTES_MAX)?;
    let mut bytes = BytesMut::new();
    let whole = if length == 0 { 0 } else { u32::from(length) + 2 };
    bytes.put_u8(0);
    bytes.put_u32(whole);
    if length > 0 {
        bytes.put_slice(&[0x0a, length]);
        bytes.put_slice(service.as_bytes());
    }
    Some(bytes.freeze())
}

/// Whether a gRPC message is a `HealthCheckResponse` whose field 1 is SERVING.
fn is_serving(message: &[u8]) -> bool {
    message == [0, 0, 0, 0, 2, 8, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_questions_and_answers_are_those_of_the_protocol() {
        assert_eq!(grpc_question("").unwrap(), [0, 0, 0, 0, 0].as_slice());
        assert_eq!(grpc_question("a.B").unwrap(), b"\0\0\0\0\x05\x0a\x03a.B".as_slice());
        assert_eq!(grpc_question(&"x".repeat(101)), None);
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        for other in [&[0, 0, 0, 0, 2, 8, 2][..], &[0, 0, 0, 0, 0], &[], &[1, 0, 0, 0, 2, 8, 1]] {
            assert!(!is_serving(other));
        }
    }
}
