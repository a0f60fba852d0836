//! TCP.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::source::Direction;
use super::watched::Watched;
use crate::sys;
use crate::time::Deadline;

/// Accepts connections.
#[derive(Debug)]
pub struct TcpListener {
    watched: Watched<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens on an address; port 0 lets the system choose one.
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::from_std(std::net::TcpListener::bind(address)?)
    }

    /// Takes a listener of the standard library over, and makes it non-blocking.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener { watched: Watched::new(listener) })
    }

    /// The next connection, and who made it. Suspends until there is one.
    ///
    /// # Errors
    /// Those of `accept`: the listener stays in order, also when the process has no descriptor left, and a later call takes the connection.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.watched.run(Direction::Read, std::net::TcpListener::accept)?;
        Ok((TcpStream::from_std(stream)?, peer))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.local_addr()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.inner.as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.watched.inner.as_raw_fd()
    }
}

/// A connection. Reads and writes suspend until they can be done, by [`Read`] and [`Write`], which are implemented for `&TcpStream` too:
/// one coroutine may read while another writes.
#[derive(Debug)]
pub struct TcpStream {
    watched: Watched<std::net::TcpStream>,
    /// The last read took all there was, and what comes next will be noted: to try before that is a call for nothing.
    drained: bool,
}

impl TcpStream {
    /// Connects. Suspends until the peer has answered.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_until(address, None)
    }

    /// Connects, for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` if the peer has not answered by then.
    #[track_caller]
    pub fn connect_timeout(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_until(address, Some(Deadline::after(timeout)))
    }

    #[track_caller]
    fn connect_until(address: SocketAddr, deadline: Option<Deadline>) -> io::Result<TcpStream> {
        let (socket, is_connected) = sys::connect(&address)?;
        let stream = TcpStream { watched: Watched::new(socket.into()), drained: false };
        if is_connected {
            return Ok(stream);
        }
        let Watched { inner, source, .. } = &stream.watched;
        loop {
            source.wait(inner.as_fd(), Direction::Write, deadline)?;
            if let Some(error) = inner.take_error()? {
                return Err(error);
            }
            match inner.peer_addr() {
                Ok(_) => return Ok(stream),
                // A change that was not the answer.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a connection of the standard library over, and makes it non-blocking.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream { watched: Watched::new(stream), drained: false })
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.peer_addr()
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.local_addr()
    }

    /// Closes one direction or both; whoever waits there goes on.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.watched.inner.shutdown(how)
    }

    /// Whether small writes are sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.watched.inner.nodelay()
    }

    /// Has small writes sent at once, or gathered.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.watched.inner.set_nodelay(nodelay)
    }

    /// How long one read may wait, for ever if `None`; then it fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.watched.set_timeout(Direction::Read, timeout)
    }

    /// How long one write may wait, for ever if `None`; then it fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.watched.set_timeout(Direction::Write, timeout)
    }

    /// Reads what comes next without taking it. Suspends until there is something.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched.run(Direction::Read, |stream| stream.peek(buffer))
    }

    /// A read of `room` bytes by the only reader, who may know that there is nothing yet.
    ///
    /// A read that got less than it had room for has emptied the kernel's buffer, so the next change is the next data (epoll(7)). Not behind
    /// the peer's end, which may have been reported with that data.
    #[track_caller]
    fn read_alone(
        &mut self,
        room: usize,
        read: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.drained && room > 0 && self.watched.source.notes_changes() {
            self.drained = false;
            let deadline = self.watched.timeout(Direction::Read).map(Deadline::after);
            self.watched.source.wait(self.watched.inner.as_fd(), Direction::Read, deadline)?;
        }
        let noted = self.watched.source.notes_changes();
        let result = self.watched.run(Direction::Read, read);
        self.drained = noted && result.as_ref().is_ok_and(|&read| 0 < read && read < room);
        result
    }
}

impl Read for TcpStream {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_alone(buffer.len(), |mut stream| stream.read(buffer))
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.read_alone(room, |mut stream| stream.read_vectored(buffers))
    }
}

impl Read for &TcpStream {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched.run(Direction::Read, |mut stream| stream.read(buffer))
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.watched.run(Direction::Read, |mut stream| stream.read_vectored(buffers))
    }
}

impl Write for TcpStream {
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &TcpStream {
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.watched.run(Direction::Write, |mut stream| stream.write(buffer))
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.watched.run(Direction::Write, |mut stream| stream.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.inner.as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.watched.inner.as_raw_fd()
    }
}
