//! Bodies on their way: the request to the service, the answer to the caller.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use moat_model::code::{http as codes, upstream};
use moat_model::{Code, Refusal, Stage};
use moat_net::activity::{Open, Reader};
use moat_net::body::Incoming;
use tokio::time::Sleep;

use crate::generation::RouteRules;
use crate::headers;
use crate::pace::{Pace, Paced};
use crate::streams::Stream;

/// Most bytes of a held answer that are handed over at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Why a body ended early; hyper closes the stream and the records say why.
#[derive(Debug)]
pub(crate) struct Cut(pub(crate) &'static Code);

impl core::fmt::Display for Cut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl core::error::Error for Cut {}

/// Byte count and digest of what has passed.
pub(crate) struct Meter {
    bytes: u64,
    sha256: digest::Context,
}

impl Meter {
    pub(crate) fn new() -> Meter {
        Meter { bytes: 0, sha256: digest::Context::new(&digest::SHA256) }
    }

    pub(crate) fn take(&mut self, data: &[u8]) {
        self.bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.sha256.update(data);
    }

    pub(crate) fn finish(self) -> (u64, [u8; 32]) {
        (self.bytes, to_array(&self.sha256.finish()))
    }
}

/// SHA-256 of `data`.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, data))
}

fn to_array(digest: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// A streamed request body as others watch it.
pub(crate) struct Upload {
    /// When the last part was passed on.
    pub(crate) progress: Cell<Instant>,
    /// Whether all of it was passed on.
    pub(crate) is_done: Cell<bool>,
    /// Whether the next part is asked for and has not come: the caller is slow, not the service.
    pub(crate) is_awaited: Cell<bool>,
    /// Why it was cut, if it was.
    pub(crate) cut: Cell<Option<&'static Code>>,
    pub(crate) bytes: Cell<u64>,
    /// What ends it if the call would not be allowed any more.
    stream: Option<Rc<Stream>>,
}

/// The request's body on its way to the service.
pub(crate) enum OutBody {
    /// Complete, or nothing.
    Full(Option<Bytes>),
    /// Passed through as it comes.
    Stream { incoming: Incoming, upload: Rc<Upload>, bytes_max: u64, paced: Box<Paced> },
}

impl OutBody {
    pub(crate) fn stream(
        incoming: Incoming,
        bytes_max: u64,
        pace: &Pace,
        stream: Option<Rc<Stream>>,
    ) -> (OutBody, Rc<Upload>) {
        let upload = Rc::new(Upload {
            progress: Cell::new(Instant::now()),
            is_done: Cell::new(false),
            is_awaited: Cell::new(false),
            cut: Cell::new(None),
            bytes: Cell::new(0),
            stream,
        });
        let paced = Box::new(Paced::new(pace.clone()));
        (OutBody::Stream { incoming, upload: Rc::clone(&upload), bytes_max, paced }, upload)
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let (incoming, upload, bytes_max, paced) = match self.get_mut() {
            OutBody::Full(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            OutBody::Stream { incoming, upload, bytes_max, paced } => {
                (incoming, upload, *bytes_max, paced)
            }
        };
        let cut = |code| {
            upload.cut.set(Some(code));
            Poll::Ready(Some(Err(Cut(code))))
        };
        if let Some(code) = upload.stream.as_ref().and_then(|stream| stream.poll(cx)) {
            return cut(code);
        }
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        upload.is_awaited.set(polled.is_pending());
        match polled {
            Poll::Pending if paced.is_over(cx) => cut(&codes::BODY_RATE),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                upload.is_done.set(true);
                upload.progress.set(Instant::now());
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => cut(&codes::BODY_BROKEN),
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_trailers(trailers);
                }
                let now = Instant::now();
                upload.progress.set(now);
                let length = frame.data_ref().map_or(0, Buf::remaining);
                let length = u64::try_from(length).unwrap_or(u64::MAX);
                let bytes = upload.bytes.get().saturating_add(length);
                upload.bytes.set(bytes);
                paced.pace.comes(now, length);
                if paced.pace.is_slow(now) {
                    return cut(&codes::BODY_RATE);
                }
                if bytes_max > 0 && bytes > bytes_max {
                    return cut(&codes::BODY_TOO_LONG);
                }
                // hyper may never ask again: a length-delimited body is over now.
                upload.is_done.set(incoming.is_end_stream());
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            OutBody::Full(bytes) => bytes.is_none(),
            OutBody::Stream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutBody::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            OutBody::Stream { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// How a streamed answer ended.
pub(crate) struct Ending {
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
    /// `grpc-status` of the trailers, if they had one.
    pub(crate) grpc_status: Option<u8>,
    /// Why it was cut, if it was.
    pub(crate) cut: Option<&'static Code>,
}

type OnEnd = Box<dyn FnOnce(Ending)>;

/// A streamed answer.
pub(crate) struct Download {
    incoming: Incoming,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// How fast the service sends.
    source: Box<Paced>,
    /// How fast the caller takes what was offered to it last.
    sink: Pace,
    offered: u64,
    /// Whether trailers pass.
    has_trailers: bool,
    meter: Option<Meter>,
    /// What ends it if the call would not be allowed any more.
    stream: Option<Rc<Stream>>,
    on_end: Option<OnEnd>,
}

impl Download {
    /// `on_end` is called exactly once, when the answer has ended in whatever way.
    pub(crate) fn new(
        incoming: Incoming,
        rules: &RouteRules,
        stream: Option<Rc<Stream>>,
        on_end: OnEnd,
    ) -> Download {
        Download {
            incoming,
            idle: rules.stream_idle,
            silence: Box::pin(tokio::time::sleep(rules.stream_idle)),
            source: Box::new(Paced::new(rules.pace.clone())),
            sink: rules.pace.clone(),
            offered: 0,
            has_trailers: rules.answer_headers.is_none(),
            meter: Some(Meter::new()),
            stream,
            on_end: Some(on_end),
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, cut: Option<&'static Code>) {
        let (Some(on_end), Some(meter)) = (self.on_end.take(), self.meter.take()) else { return };
        let (bytes, sha256) = meter.finish();
        let status = trailers.and_then(|t| t.get("grpc-status")).and_then(|v| v.to_str().ok());
        on_end(Ending { bytes, sha256, grpc_status: status.and_then(|s| s.parse().ok()), cut });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.on_end.is_none() {
            // It has ended and is recorded so: nothing that comes later may change that.
            return Poll::Ready(None);
        }
        if let Some(code) = self.stream.as_ref().and_then(|stream| stream.poll(cx)) {
            return self.cut(code);
        }
        let now = Instant::now();
        self.sink.comes(now, std::mem::take(&mut self.offered));
        if self.sink.is_slow(now) {
            return self.cut(&codes::READER_RATE);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(None) => {
                self.end(None, None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => self.cut(&upstream::STREAM_CUT),
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.as_mut().reset((now + self.idle).into());
                let length = frame.data_ref().map_or(0, Buf::remaining);
                self.offered = u64::try_from(length).unwrap_or(u64::MAX);
                self.sink.waits(now);
                self.source.pace.comes(now, self.offered);
                if self.source.pace.is_slow(now) {
                    return self.cut(&upstream::STREAM_RATE);
                }
                if let (Some(data), Some(meter)) = (frame.data_ref(), &mut self.meter) {
                    meter.take(data);
                }
                if frame.is_trailers() {
                    self.end(frame.trailers_ref(), None);
                    if !self.has_trailers {
                        return Poll::Ready(None);
                    }
                } else if self.incoming.is_end_stream() {
                    // hyper may never ask again: a length-delimited body is over now.
                    self.end(None, None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                if self.silence.as_mut().poll(cx).is_ready() {
                    return self.cut(&upstream::STREAM_CUT);
                }
                if self.source.is_over(cx) {
                    return self.cut(&upstream::STREAM_RATE);
                }
                Poll::Pending
            }
        }
    }

    fn cut(&mut self, code: &'static Code) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.end(None, Some(code));
        Poll::Ready(Some(Err(Cut(code))))
    }
}

impl Drop for Download {
    /// The caller went away, or its connection was cut, before the end.
    fn drop(&mut self) {
        self.end(None, Some(&codes::CALLER_GONE));
    }
}

/// The answer's body on its way to the caller.
pub(crate) struct ReplyBody {
    content: Content,
    /// Watches HTTP/2; the connection of HTTP/1 watches itself.
    reader: Option<Rc<Reader>>,
    _open: Option<Open>,
}

enum Content {
    Full(Option<Bytes>),
    /// A message of gRPC and the trailers behind it.
    Message(Option<Bytes>, Option<HeaderMap>),
    Stream(Box<Download>),
}

impl ReplyBody {
    pub(crate) fn full(bytes: Bytes, reader: Option<Rc<Reader>>) -> ReplyBody {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        offered(reader.as_deref());
        ReplyBody { content: Content::Full(bytes), reader, _open: None }
    }

    /// A message of gRPC in its frame, and the trailers that end its call well.
    pub(crate) fn message(framed: Bytes, reader: Option<Rc<Reader>>) -> ReplyBody {
        offered(reader.as_deref());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        ReplyBody { content: Content::Message(Some(framed), Some(trailers)), reader, _open: None }
    }

    /// The bytes of an answer that is held and has not begun to go out.
    pub(crate) fn into_held(self) -> Bytes {
        match self.content {
            Content::Full(bytes) | Content::Message(bytes, _) => bytes.unwrap_or_default(),
            Content::Stream(_) => Bytes::new(),
        }
    }

    pub(crate) fn stream(download: Download, reader: Option<Rc<Reader>>) -> ReplyBody {
        offered(reader.as_deref());
        ReplyBody { content: Content::Stream(Box::new(download)), reader, _open: None }
    }

    /// Keeps the connection counted as busy until this body is gone.
    pub(crate) fn holding(mut self, open: Option<Open>) -> ReplyBody {
        self._open = open;
        self
    }
}

fn offered(reader: Option<&Reader>) {
    if let Some(reader) = reader {
        reader.offered(Instant::now());
    }
}

/// Takes the next piece of a held answer; leaves nothing behind the last.
fn next_piece(bytes: &mut Option<Bytes>) -> Option<Bytes> {
    let mut whole = bytes.take()?;
    let piece = whole.split_to(whole.len().min(PIECE_BYTES));
    if !whole.is_empty() {
        *bytes = Some(whole);
    }
    Some(piece)
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if let Some(reader) = &this.reader {
            reader.asked();
        }
        let polled = match &mut this.content {
            // In pieces: over HTTP/2 a piece that was taken waits where nothing watches it.
            Content::Full(bytes) => Poll::Ready(next_piece(bytes).map(|b| Ok(Frame::data(b)))),
            Content::Message(bytes, trailers) => Poll::Ready(match next_piece(bytes) {
                Some(piece) => Some(Ok(Frame::data(piece))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Content::Stream(download) => download.poll(cx),
        };
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            offered(this.reader.as_deref());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_none(),
            Content::Message(_, trailers) => trailers.is_none(),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Content::Message(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Content::Stream(download) => download.incoming.size_hint(),
        }
    }
}

/// Reads a body to its end, at most so many bytes.
///
/// # Errors
/// A refusal at [`Stage::Forward`]: it broke, or is longer.
pub(crate) async fn collect(mut incoming: Incoming, most: u64) -> Result<Bytes, Refusal> {
    let mut held = bytes::BytesMut::new();
    while let Some(frame) = http_body_util::BodyExt::frame(&mut incoming).await {
        let frame = frame.map_err(|e| crate::forward::broken(&e))?;
        let Ok(data) = frame.into_data() else { continue };
        if u64::try_from(held.len() + data.len()).unwrap_or(u64::MAX) > most {
            return Err(Refusal::new(Stage::Forward, &upstream::ANSWER_TOO_LONG));
        }
        held.extend_from_slice(&data);
    }
    Ok(held.freeze())
}
