//! Errors of the JSON interface as problem documents (RFC 9457). None quotes a value of a field.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

/// One problem. The type is `urn:moat:accounts:<kind>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// HTTP status (RFC 9110 §15).
    pub status: u16,
    /// Short stable name, for example `insufficient-funds`.
    pub kind: String,
    /// What happened, in English.
    pub title: String,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(status: StatusCode, kind: &str, title: &str) -> Problem {
        Problem { status: status.as_u16(), kind: kind.to_owned(), title: title.to_owned() }
    }

    /// The answer that carries it.
    #[must_use]
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({
            "type": format!("urn:moat:accounts:{}", self.kind),
            "title": self.title,
            "status": self.status,
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        crate::rest::answer(status, "application/problem+json", body.to_string())
    }
}
