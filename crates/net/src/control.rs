//! The control channel between the supervisor and a role: whole messages and descriptors over a
//! `SOCK_SEQPACKET` Unix socket pair.
//!
//! A message arrives whole with all its descriptors or not at all: truncated bytes and truncated
//! descriptors are errors, never a shorter message. What the bytes mean is not decided here.
//!
//! ```
//! use moat_net::control::Channel;
//! let (ours, theirs) = Channel::pair()?;
//! let theirs = Channel::from_fd(theirs);
//! ours.send(b"hello", &[])?;
//! let (message, fds) = theirs.recv()?.expect("a message");
//! assert_eq!((message.as_slice(), fds.len()), (b"hello".as_slice(), 0));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

/// Longest message, in bytes. Anything larger goes as a blob.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;
/// Most descriptors that one message may carry.
pub const FDS_MAX: usize = 16;

/// A message and its payload, which is wiped when it is dropped.
pub type WithBlob = (Vec<u8>, Zeroizing<Vec<u8>>);

/// What a blob must be sealed against before its bytes are believed.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// One message and the descriptors that came with it.
pub type Message = (Vec<u8>, Vec<OwnedFd>);

/// One end of a control channel. Blocks unless the descriptor was made non-blocking.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

impl Channel {
    /// A channel and the descriptor of its other end, to be inherited or sent.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel { fd: ours }, theirs))
    }

    /// The channel behind an inherited or received descriptor.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel { fd }
    }

    /// Sends one message with its descriptors; they stay open on this side.
    ///
    /// # Errors
    /// `InvalidInput` for an empty message (which could not be told from the end), one longer than
    /// [`MESSAGE_BYTES_MAX`] or one with more than [`FDS_MAX`] descriptors; else what the socket
    /// says, `BrokenPipe` when the peer has gone.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_as(message, fds, SendFlags::NOSIGNAL)
    }

    /// Sends one message unless the peer has left so many unread that this one would have to wait.
    ///
    /// # Errors
    /// As [`Channel::send`]; `WouldBlock` when there is no room.
    pub fn offer(&self, message: &[u8]) -> io::Result<()> {
        self.send_as(message, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_as(&self, message: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        if message.is_empty() || message.len() > MESSAGE_BYTES_MAX || fds.len() > FDS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a control message has 1 to 32,768 bytes and at most 16 descriptors",
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let sent = rustix::io::retry_on_intr(|| {
            let iov = [IoSlice::new(message)];
            rustix::net::sendmsg(&self.fd, &iov, &mut control, flags)
        })?;
        // A sequenced packet goes whole or not at all; anything else is a broken kernel contract.
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one message; `None` when the peer has closed its end.
    ///
    /// # Errors
    /// `InvalidData` when bytes or descriptors were cut off, else what the socket says.
    pub fn recv(&self) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.fd, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        // The descriptors are taken in either case, so that none leaks when the message is bad.
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                fds.extend(received);
            }
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "control message cut off"));
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(got.bytes);
        Ok(Some((bytes, fds)))
    }

    /// Waits until there is something to receive, the end among it, at most so long; gives whether
    /// there is.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self, most: Duration) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one message with a payload of any size, as a sealed memory file.
    ///
    /// # Errors
    /// As [`Channel::send`]; also when the memory file cannot be made.
    pub fn send_blob(&self, message: &[u8], blob: &[u8]) -> io::Result<()> {
        let file = sealed(blob)?;
        self.send(message, &[file.as_fd()])
    }

    /// Receives one message sent by [`Channel::send_blob`]; `None` when the peer has closed.
    ///
    /// # Errors
    /// As [`Channel::recv`]; `InvalidData` too when there is not exactly one descriptor, or it is
    /// no sealed memory file of at most `bytes_max` bytes.
    pub fn recv_blob(&self, bytes_max: usize) -> io::Result<Option<WithBlob>> {
        let Some((message, fds)) = self.recv()? else { return Ok(None) };
        let [file] = fds.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no single payload"));
        };
        Ok(Some((message, read_blob(file.as_fd(), bytes_max)?)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A memory file with these bytes that nobody can change any more.
///
/// # Errors
/// When the system has no memory or descriptor left.
pub fn sealed(blob: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("moat", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = blob;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file)
}

/// The bytes of a sealed memory file, which may be secret: they are wiped when they are dropped.
///
/// # Errors
/// `InvalidData` when it is not sealed, so that the sender could still change it, or is longer
/// than `bytes_max`.
pub fn read_blob(file: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let unsealed = || io::Error::new(io::ErrorKind::InvalidData, "the payload is not sealed");
    let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| unsealed())?;
    if !seals.contains(SEALS) {
        return Err(unsealed());
    }
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    if size > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the payload is too long"));
    }
    let mut bytes = Zeroizing::new(vec![0; size]);
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(done).unwrap_or(u64::MAX);
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *rest, offset))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += read;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn channels() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::from_fd(theirs))
    }

    #[test]
    fn an_offer_never_waits_for_a_peer_that_does_not_read() {
        let (ours, theirs) = channels();
        let full = (0..1_000_000).find_map(|_| ours.offer(b"how things stand").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        while theirs.wait(Duration::ZERO).unwrap() {
            theirs.recv().unwrap();
        }
        ours.offer(b"how things stand").unwrap();
    }

    #[test]
    fn a_wait_ends_with_a_message_the_end_or_its_time() {
        let (ours, theirs) = channels();
        assert!(!ours.wait(Duration::from_millis(1)).unwrap());
        theirs.send(b"hello", &[]).unwrap();
        assert!(ours.wait(Duration::from_secs(10)).unwrap());
        ours.recv().unwrap();
        assert!(!ours.wait(Duration::ZERO).unwrap());
        drop(theirs);
        assert!(ours.wait(Duration::from_secs(10)).unwrap());
        assert!(ours.recv().unwrap().is_none());
    }

    #[test]
    fn messages_keep_their_borders_and_the_end_is_seen() {
        let (ours, theirs) = channels();
        ours.send(b"one", &[]).unwrap();
        ours.send(&[7; MESSAGE_BYTES_MAX], &[]).unwrap();
        drop(ours);
        assert_eq!(theirs.recv().unwrap().unwrap().0, b"one");
        assert_eq!(theirs.recv().unwrap().unwrap().0.len(), MESSAGE_BYTES_MAX);
        assert!(theirs.recv().unwrap().is_none());
        assert_eq!(theirs.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn descriptors_travel_and_are_closed_on_exec() {
        let (ours, theirs) = channels();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.send(b"take", &[far.as_fd()]).unwrap();
        drop(far);
        let (_, mut fds) = theirs.recv().unwrap().unwrap();
        let fd = fds.pop().unwrap();
        assert!(fds.is_empty());
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        std::os::unix::net::UnixStream::from(fd).write_all(b"hi").unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
    }

    #[test]
    fn what_cannot_be_told_apart_or_carried_is_refused() {
        let (ours, theirs) = channels();
        let too_long = vec![0; MESSAGE_BYTES_MAX + 1];
        let many = [ours.as_fd(); FDS_MAX + 1];
        for (message, fds) in [(b"".as_slice(), 0), (&too_long, 0), (b"x".as_slice(), many.len())] {
            let error = ours.send(message, many.get(..fds).unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        // A peer that ignores the limit is not believed either.
        rustix::net::send(theirs.as_fd(), &too_long, SendFlags::empty()).unwrap();
        assert_eq!(ours.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_blob_is_larger_than_a_message_and_must_be_sealed() {
        let (ours, theirs) = channels();
        let blob: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        ours.send_blob(b"bundle", &blob).unwrap();
        assert_eq!(theirs.recv_blob(1 << 20).unwrap().unwrap(), (b"bundle".to_vec(), blob.into()));
        ours.send_blob(b"bundle", &[1; 100]).unwrap();
        assert!(theirs.recv_blob(99).is_err());
        ours.send_blob(b"empty", b"").unwrap();
        assert_eq!(theirs.recv_blob(99).unwrap().unwrap().1[..], b""[..]);

        let open = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        ours.send(b"open", &[open.as_fd()]).unwrap();
        assert_eq!(theirs.recv_blob(99).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
