//! TCP.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use super::address::{ToAddresses, try_each};
use super::source::Direction;
use super::split::{Duplex, ReadHalf, WriteHalf};
use super::stream::{Stream, descriptor, reads, timeouts, writes};
use super::watched::Watched;
use crate::sys;
use crate::time::Deadline;

/// Accepts connections.
#[derive(Debug)]
pub struct TcpListener {
    watched: Watched<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens on an address, on the first of several that works; port 0 lets the system choose one.
    ///
    /// Suspends if a name is to be looked up.
    #[track_caller]
    pub fn bind(address: impl ToAddresses) -> io::Result<TcpListener> {
        TcpListener::from_std(try_each(address, std::net::TcpListener::bind)?)
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

    /// Connections as they come, without end.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<TcpStream>> + '_ {
        std::iter::repeat_with(|| Ok(self.accept()?.0))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.local_addr()
    }
}

descriptor!(TcpListener, watched);

/// A connection. Reads and writes suspend until they can be done, by [`Read`](io::Read) and [`Write`](io::Write), which are implemented for
/// `&TcpStream` too: one coroutine may read while another writes. Where a reference does not live long enough, [`TcpStream::split`] makes owned halves.
#[derive(Debug)]
pub struct TcpStream {
    stream: Stream<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers. Suspends until then, and while a name is looked up.
    #[track_caller]
    pub fn connect(address: impl ToAddresses) -> io::Result<TcpStream> {
        try_each(address, |address| TcpStream::connect_until(address, None))
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
        let stream = TcpStream { stream: Stream::new(socket.into()) };
        if is_connected {
            return Ok(stream);
        }
        let Watched { inner, source, .. } = &stream.stream.watched;
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
        Ok(TcpStream { stream: Stream::new(stream) })
    }

    /// Another descriptor of the same connection, which waits on its own. It costs one; [`TcpStream::split`] costs none.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        let stream = Stream::new(self.stream.inner().try_clone()?);
        Ok(TcpStream { stream: stream.with_timeouts_of(&self.stream) })
    }

    /// An end to read and one to write, for one coroutine each. The connection is closed when both are gone.
    pub fn split(self) -> (ReadHalf<TcpStream>, WriteHalf<TcpStream>) {
        super::split::split(self)
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.inner().peer_addr()
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.inner().local_addr()
    }

    /// Closes one direction or both; whoever waits there goes on.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.inner().shutdown(how)
    }

    /// Whether small writes are sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.stream.inner().nodelay()
    }

    /// Has small writes sent at once, or gathered.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.stream.inner().set_nodelay(nodelay)
    }

    /// Reads what comes next without taking it. Suspends until there is something.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(|stream| stream.peek(buffer))
    }
}

reads!(TcpStream);
writes!(TcpStream);
descriptor!(TcpStream, stream.watched);
timeouts!(TcpStream, stream: read);
timeouts!(TcpStream, stream: write);

impl Duplex for TcpStream {
    fn end_writes(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
