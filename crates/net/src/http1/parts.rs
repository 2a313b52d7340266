//! What a guard lets through, as the types that the rest works with.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

use crate::guard::{Lines, Place, Sink};

/// Room for fields that are added on the way, so that the map need not grow.
const FIELDS_ADDED: usize = 8;

/// A head that came.
pub(super) struct Head {
    start: Bytes,
    pub(super) fields: HeaderMap,
}

/// What came of one message and was not taken yet: bounded by one read.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) head: Option<Head>,
    data: BytesMut,
    trailers: Option<HeaderMap>,
    /// The guard has accepted what the types do not take.
    pub(super) is_odd: bool,
}

impl Parts {
    pub(super) fn data(&mut self) -> Option<Bytes> {
        (!self.data.is_empty()).then(|| std::mem::take(&mut self.data).freeze())
    }

    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().filter(|trailers| !trailers.is_empty())
    }

    /// Whether nothing is left but perhaps a head.
    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn fields(&mut self, bytes: &Bytes, places: &[Place], added: usize) -> HeaderMap {
        let fields = fields(bytes, places, added);
        self.is_odd |= fields.is_none();
        fields.unwrap_or_default()
    }
}

fn fields(bytes: &Bytes, places: &[Place], added: usize) -> Option<HeaderMap> {
    let mut fields = HeaderMap::try_with_capacity(places.len() + added).ok()?;
    for Place { name, value } in places {
        let name = HeaderName::from_bytes(bytes.get(name.clone())?).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(value.clone())).ok()?;
        fields.try_append(name, value).ok()?;
    }
    Some(fields)
}

impl Sink for Parts {
    fn head(&mut self, lines: Lines<'_>) {
        let bytes = Bytes::copy_from_slice(lines.bytes);
        let fields = self.fields(&bytes, lines.places, FIELDS_ADDED);
        self.head = Some(Head { start: bytes.slice(lines.start), fields });
    }

    fn interim(&mut self, _: Lines<'_>) {}

    fn framing(&mut self, _: &[u8]) {}

    fn data(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    fn trailers(&mut self, lines: Lines<'_>) {
        if !lines.places.is_empty() {
            let bytes = Bytes::copy_from_slice(lines.bytes);
            let fields = self.fields(&bytes, lines.places, 0);
            self.trailers = Some(fields);
        }
    }
}

impl Head {
    /// Method, target and version of a request line that the guard has accepted; `None` where the
    /// target is none.
    pub(super) fn request(&self) -> Option<(Method, Uri, Version)> {
        let mut spaces = self.start.iter().enumerate().filter(|(_, byte)| **byte == b' ');
        let (first, second) = (spaces.next()?.0, spaces.next()?.0);
        let method = Method::from_bytes(self.start.get(..first)?).ok()?;
        let target = Uri::from_maybe_shared(self.start.slice(first + 1..second)).ok()?;
        let version = if self.start.ends_with(b".0") { Version::HTTP_10 } else { Version::HTTP_11 };
        Some((method, target, version))
    }

    /// Status and version of a status line that the guard has accepted.
    pub(super) fn answer(&self, status: u16) -> Option<(StatusCode, Version)> {
        let is_old = self.start.starts_with(b"HTTP/1.0");
        let version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
        Some((StatusCode::from_u16(status).ok()?, version))
    }
}
