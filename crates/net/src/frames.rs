//! What a caller does on an HTTP/2 connection, counted on the wire: how many streams it opens, and
//! frames that cost it nothing.
//!
//! A frame that opens nothing, carries nothing and must be answered or remembered all the same
//! (SETTINGS, PING, RST_STREAM, PRIORITY, empty DATA) has a rate. A connection over it is told to calm
//! down, with GOAWAY if that can be said between two frames, and ended.
//!
//! The HTTP library answers or resets some streams itself: heads over its bound, malformed pseudo
//! fields, streams beyond their number. Nobody else hears of them, but the difference between what
//! was opened and what became a call. Counts only: no byte is changed, held back or looked into
//! but for the nine bytes before each frame (RFC 9113 §4.1).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::rate::{Decision, Rate};

/// Length of the client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Length of what stands before each frame (RFC 9113 §4.1).
const FRAME_HEAD_BYTES: usize = 9;
/// The type of a frame that opens a stream (RFC 9113 §6.2).
const HEADERS: u8 = 1;
/// Other types (RFC 9113 §6).
const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// What a peer that floods is told (RFC 9113 §7).
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// Flag of DATA that ends a stream, and of SETTINGS and PING that answers (RFC 9113 §6.1, §6.5).
const END_OR_ACK: u8 = 1;
/// Most control frames at once, and a second.
const CONTROL_BURST: u64 = 100;
const CONTROL_PER_S: u64 = 50;
/// Most streams that are reset at once, and a second.
const RESETS_BURST: u64 = 200;
const RESETS_PER_S: u64 = 10;
const NS_PER_S: u64 = 1_000_000_000;

/// Rates of frames that cost their sender nothing.
#[derive(Debug)]
struct Calm {
    control: (Rate, u64),
    resets: (Rate, u64),
    begun: Instant,
}

impl Calm {
    fn new(now: Instant) -> Calm {
        Calm {
            control: (Rate::new(CONTROL_PER_S, NS_PER_S, CONTROL_BURST), 0),
            resets: (Rate::new(RESETS_PER_S, NS_PER_S, RESETS_BURST), 0),
            begun: now,
        }
    }

    /// Takes a frame's head; says whether the peer is still calm.
    fn take(&mut self, kind: u8, flags: u8, length: usize, now: Instant) -> bool {
        let is_set = flags & END_OR_ACK != 0;
        let (rate, due) = match kind {
            RST_STREAM => &mut self.resets,
            SETTINGS | PING if !is_set => &mut self.control,
            DATA if length == 0 && !is_set => &mut self.control,
            PRIORITY => &mut self.control,
            _ => return true,
        };
        let now_ns = now.saturating_duration_since(self.begun).as_nanos();
        let (next, decision) = rate.decide(*due, u64::try_from(now_ns).unwrap_or(u64::MAX));
        *due = next;
        matches!(decision, Decision::Pass { .. })
    }
}

/// The peer sends more frames of no use than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

impl core::fmt::Display for Flood {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a flood of HTTP/2 control frames")
    }
}

impl core::error::Error for Flood {}

/// Walks from frame to frame.
#[derive(Debug)]
struct Walker {
    /// Bytes to pass over: the preface, or the rest of a frame.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    held: usize,
    last_stream: u32,
    calm: Calm,
    is_flood: bool,
}

impl Walker {
    fn new() -> Walker {
        Walker {
            skip: PREFACE_BYTES,
            head: [0; FRAME_HEAD_BYTES],
            held: 0,
            last_stream: 0,
            calm: Calm::new(Instant::now()),
            is_flood: false,
        }
    }

    /// How many streams `bytes` open.
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut opened = 0;
        while !bytes.is_empty() {
            let over = self.skip.min(bytes.len());
            self.skip -= over;
            bytes = bytes.get(over..).unwrap_or_default();
            let room = self.head.get_mut(self.held..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            let (part, rest) = bytes.split_at_checked(taken).unwrap_or_default();
            if self.skip > 0 || part.is_empty() {
                continue;
            }
            for (to, from) in room.iter_mut().zip(part) {
                *to = *from;
            }
            self.held += taken;
            bytes = rest;
            if self.held == FRAME_HEAD_BYTES {
                opened += u64::from(self.take());
            }
        }
        opened
    }

    /// Takes a whole frame head; says whether it opens a stream. Trailers are HEADERS too, but on
    /// a stream that is known: numbers only grow (RFC 9113 §5.1.1).
    fn take(&mut self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.held = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        // Only such frames cost a look at the clock.
        if matches!(kind, DATA | PRIORITY | RST_STREAM | SETTINGS | PING)
            && (kind != DATA || self.skip == 0)
        {
            self.is_flood |= !self.calm.take(kind, flags, self.skip, Instant::now());
        }
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let opens = kind == HEADERS && stream > self.last_stream;
        if opens {
            self.last_stream = stream;
        }
        opens
    }
}

/// Where in its frames stands what was sent: a frame of our own may only go between two others.
#[derive(Debug, Default)]
struct Outgoing {
    skip: usize,
    held: usize,
    length: [u8; 3],
}

impl Outgoing {
    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let over = self.skip.min(bytes.len());
            self.skip -= over;
            let Some((first, rest)) = bytes.get(over..).and_then(<[u8]>::split_first) else {
                return;
            };
            if let Some(place) = self.length.get_mut(self.held) {
                *place = *first;
            }
            (self.held, bytes) = (self.held + 1, rest);
            if self.held == FRAME_HEAD_BYTES {
                let [a, b, c] = self.length;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.held = 0;
            }
        }
    }

    fn is_between(&self) -> bool {
        self.skip == 0 && self.held == 0
    }
}

/// GOAWAY (RFC 9113 §6.8).
fn goaway(last_stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame
}

/// The streams of one connection, for whoever compares.
#[derive(Clone, Debug, Default)]
pub struct Opened(Rc<(Cell<u64>, Cell<bool>)>);

impl Opened {
    /// How many streams the peer has opened.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.0.get()
    }

    /// Whether the connection was ended for a flood of frames.
    #[must_use]
    pub fn is_flood(&self) -> bool {
        self.0.1.get()
    }
}

/// A connection whose incoming frames are counted.
#[derive(Debug)]
pub struct Counting<S> {
    stream: S,
    walker: Walker,
    outgoing: Outgoing,
    opened: Opened,
}

impl<S> Counting<S> {
    /// Counts what is read from `stream` into `opened`.
    pub fn new(stream: S, opened: Opened) -> Counting<S> {
        Counting { stream, walker: Walker::new(), outgoing: Outgoing::default(), opened }
    }

    /// Says why the connection ends, as far as the peer takes it now: nobody waits for it.
    fn say_goaway(&mut self, cx: &mut Context<'_>)
    where
        S: AsyncWrite + Unpin,
    {
        if self.outgoing.is_between() {
            let frame = goaway(self.walker.last_stream);
            let _ = Pin::new(&mut self.stream).poll_write(cx, &frame);
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let (opened, is_flood) = &*this.opened.0;
        opened.set(opened.get() + this.walker.feed(fresh));
        if this.walker.is_flood {
            if !is_flood.replace(true) {
                this.say_goaway(cx);
            }
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(sent)) = &polled {
            this.outgoing.feed(buf.get(..*sent).unwrap_or_default());
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(sent)) = &polled {
            let mut left = *sent;
            for buf in bufs {
                let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                this.outgoing.feed(part);
                left -= part.len();
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Whether the HTTP/2 library ended a connection for what its peer did, and not the network.
#[must_use]
pub fn broke_protocol(error: &hyper::Error) -> bool {
    let mut source = core::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return error.is_library();
        }
        source = inner.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 4]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(bytes.len() + length, HEADERS);
        bytes
    }

    fn sample() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, stream, length) in [
            (4, 0, 18),
            (HEADERS, 1, 40),
            (0, 1, 9_000),
            (HEADERS, 1, 5), // trailers
            (HEADERS, 3, 0),
            (9, 3, 300),
            (8, 0, 4),
            (HEADERS, 0x8000_0007, 1),
        ] {
            bytes.extend(frame(kind, stream, length));
        }
        bytes
    }

    #[test]
    fn each_stream_is_counted_once_however_the_bytes_come() {
        let bytes = sample();
        assert_eq!(Walker::new().feed(&bytes), 3);
        let mut walker = Walker::new();
        assert_eq!(bytes.chunks(1).map(|one| walker.feed(one)).sum::<u64>(), 3);
        for cut in 0..bytes.len() {
            let mut walker = Walker::new();
            let (a, b) = bytes.split_at(cut);
            assert_eq!(walker.feed(a) + walker.feed(b), 3, "cut at {cut}");
        }
    }

    #[test]
    fn what_goes_out_is_between_frames_only_where_one_ends() {
        let bytes = [frame(4, 0, 18), frame(HEADERS, 1, 0), frame(0, 1, 70_000)].concat();
        let ends = [27, 36, 36 + 70_009];
        let mut outgoing = Outgoing::default();
        assert!(outgoing.is_between());
        for (at, byte) in bytes.iter().enumerate() {
            outgoing.feed(&[*byte]);
            assert_eq!(outgoing.is_between(), ends.contains(&(at + 1)), "{at}");
        }
        outgoing.feed(&bytes);
        assert!(outgoing.is_between());
    }

    #[tokio::test]
    async fn a_flood_is_answered_with_goaway_unless_a_frame_is_under_way() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for (ours, is_told) in [(Vec::new(), true), (frame(0, 1, 40)[..20].to_vec(), false)] {
            let (mut peer, near) = tokio::io::duplex(1 << 20);
            let mut counting = Counting::new(near, Opened::default());
            counting.write_all(&ours).await.unwrap();
            peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            peer.write_all(&frame(HEADERS, 5, 3)).await.unwrap();
            for _ in 0..200 {
                peer.write_all(&frame(PING, 0, 8)).await.unwrap();
            }
            let mut read = vec![0; 1 << 16];
            assert!(counting.read(&mut read).await.is_err());
            assert!(counting.read(&mut read).await.is_err(), "and said once");
            drop(counting);
            let mut told = Vec::new();
            peer.read_to_end(&mut told).await.unwrap();
            let wanted = if is_told { goaway(5) } else { Vec::new() };
            assert_eq!(told, [ours, wanted].concat());
        }
    }

    #[test]
    fn frames_of_no_use_have_a_rate_and_those_of_use_have_none() {
        let begun = Instant::now();
        let later = |ms| begun + std::time::Duration::from_millis(ms);
        let mut calm = Calm::new(begun);
        // What answers us, carries something or opens a stream.
        for _ in 0..1_000 {
            for (kind, flags, length) in [
                (SETTINGS, 1, 0),
                (PING, 1, 8),
                (DATA, 0, 1),
                (DATA, 1, 0),
                (HEADERS, 4, 9),
                (8, 0, 4),
            ] {
                assert!(calm.take(kind, flags, length, later(1)));
            }
        }
        for (kind, most) in
            [(SETTINGS, 100), (PING, 100), (DATA, 100), (PRIORITY, 100), (RST_STREAM, 200)]
        {
            let mut calm = Calm::new(begun);
            let passed = (0..500).filter(|_| calm.take(kind, 0, 0, later(1))).count();
            assert_eq!(passed, most, "{kind}");
            assert!(calm.take(kind, 0, 0, later(200)), "{kind}: it calms down");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_over(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let opened = Walker::new().feed(&bytes);
            prop_assert!(opened <= (bytes.len() / FRAME_HEAD_BYTES) as u64);
        }
    }
}
