//! Bodies as they come: of requests and of answers, over HTTP/1 and HTTP/2 alike.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::guard::Refused;

/// Why a message did not come, or not to its end.
#[derive(Debug)]
pub enum Error {
    /// What the HTTP/2 library says.
    Http2(hyper::Error),
    /// The connection broke.
    Io(io::Error),
    /// The guard refused what came.
    Refused(Refused),
    /// The body that was to be sent ended in an error, or is not as long as was announced.
    Unsendable,
    /// The connection is gone, or carries another message now.
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Http2(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Refused(refused) => refused.fmt(f),
            Error::Unsendable => f.write_str("the body to be sent broke off"),
            Error::Gone => f.write_str("the connection is gone"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Http2(error) => error.source(),
            Error::Io(error) => Some(error),
            Error::Refused(refused) => Some(refused),
            Error::Unsendable | Error::Gone => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// The connection that a body comes from. `message` says which body is meant: a connection carries
/// one after the other.
pub(crate) trait Source {
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>>;
    /// Whether the body has ended and all of it was taken.
    fn is_end(&self, message: u64) -> bool;
    /// How many bytes are still to come, if that was announced.
    fn left(&self, message: u64) -> Option<u64>;
    /// Nobody will ask for it any more.
    fn release(&self, message: u64);
}

/// A body over HTTP/1.
pub struct Http1Body {
    source: Rc<dyn Source>,
    message: u64,
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        self.source.release(self.message);
    }
}

/// A body that comes.
pub enum Incoming {
    /// None.
    Empty,
    /// Over HTTP/1.
    Http1(Http1Body),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
}

impl Incoming {
    pub(crate) fn of(source: Rc<dyn Source>, message: u64) -> Incoming {
        Incoming::Http1(Http1Body { source, message })
    }
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(incoming: hyper::body::Incoming) -> Incoming {
        Incoming::Http2(incoming)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incoming::Empty => "Empty",
            Incoming::Http1(_) => "Http1",
            Incoming::Http2(_) => "Http2",
        })
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Incoming::Empty => Poll::Ready(None),
            Incoming::Http1(body) => body.source.poll_frame(body.message, cx),
            Incoming::Http2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(Error::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Empty => true,
            Incoming::Http1(body) => body.source.is_end(body.message),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Empty => SizeHint::with_exact(0),
            Incoming::Http1(body) => {
                body.source.left(body.message).map_or_else(SizeHint::new, SizeHint::with_exact)
            }
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}
