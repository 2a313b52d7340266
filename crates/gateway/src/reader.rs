//! Reading and rewriting of held bodies, by the kinds that a route declares.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{self, HeaderValue};
use moat_config::BodyKind;
use moat_mask::body::{BodyError, Kind, Masker, Mode};
use moat_mask::{Captures, Extractor, Keys, Plan};

use crate::generation::RouteRules;
use crate::headers;

/// The kind of a message's body, if its route reads it and it is not encoded. What a caller calls its
/// body decides nothing that the route has not declared: a service may read it in another way.
pub(crate) fn kind(headers: &HeaderMap, rules: &RouteRules) -> Option<Kind> {
    if headers::is_encoded(headers) {
        return None;
    }
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str)?.ok()?;
    let kind = Kind::of(value)?;
    let declared = match kind {
        Kind::Json => BodyKind::Json,
        Kind::Ndjson => BodyKind::Ndjson,
        Kind::Events => BodyKind::Events,
        Kind::Form => BodyKind::Form,
        Kind::Csv => BodyKind::Csv,
    };
    rules.route.bodies.contains(&declared).then_some(kind)
}

/// Captures fields and writes nothing.
pub(crate) enum Looker {
    Json(Box<Extractor>),
    /// The masker writes what it reads; nobody wants it.
    Other(Masker, Vec<u8>),
}

impl Looker {
    pub(crate) fn new(kind: Kind, plan: &Plan) -> Looker {
        match kind {
            Kind::Json => Looker::Json(Box::new(Extractor::new(plan))),
            _ => Looker::Other(Masker::new(kind, plan, Mode::Extract, None), Vec::new()),
        }
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), BodyError> {
        match self {
            Looker::Json(extractor) => Ok(extractor.push(data)?),
            Looker::Other(masker, out) => {
                out.clear();
                masker.push(data, out)
            }
        }
    }

    pub(crate) fn finish(self) -> Result<Captures, BodyError> {
        match self {
            Looker::Json(extractor) => Ok(extractor.finish()?),
            Looker::Other(masker, mut out) => masker.finish(&mut out),
        }
    }
}

/// Rewrites where the plan masks, and only reads where it does not.
pub(crate) enum Reader {
    Rewrite(Masker, Vec<u8>),
    Read(Looker, BytesMut),
}

impl Reader {
    /// A reader for one body. `keys` are for masks that need them.
    pub(crate) fn rewriting(kind: Kind, plan: &Plan, keys: Option<Arc<dyn Keys>>) -> Reader {
        Reader::Rewrite(Masker::new(kind, plan, Mode::Rewrite, keys), Vec::new())
    }

    pub(crate) fn reading(kind: Kind, plan: &Plan) -> Reader {
        Reader::Read(Looker::new(kind, plan), BytesMut::new())
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), BodyError> {
        match self {
            Reader::Rewrite(masker, out) => {
                if out.capacity() == 0 {
                    // Masks are seldom longer than what they hide.
                    out.reserve(data.len());
                }
                masker.push(data, out)
            }
            Reader::Read(looker, out) => {
                out.extend_from_slice(data);
                looker.push(data)
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(Bytes, Captures), BodyError> {
        match self {
            Reader::Rewrite(masker, mut out) => {
                let captures = masker.finish(&mut out)?;
                Ok((out.into(), captures))
            }
            Reader::Read(looker, out) => Ok((out.freeze(), looker.finish()?)),
        }
    }
}
