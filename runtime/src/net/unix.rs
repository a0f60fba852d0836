//! Sockets of this machine.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::source::Direction;
use super::split::{Duplex, ReadHalf, WriteHalf};
use super::stream::{Stream, descriptor, reads, timeouts, writes};
use super::watched::Watched;
use crate::sys;
use crate::time::sleep;

/// Accepts connections at a path, or at a name that is none.
#[derive(Debug)]
pub struct UnixListener {
    watched: Watched<std::os::unix::net::UnixListener>,
}

impl UnixListener {
    /// Listens at a path, where it makes a socket; nobody removes that later.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::from_std(std::os::unix::net::UnixListener::bind(path)?)
    }

    /// Listens at an address, which may be a name outside of the file system.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::from_std(std::os::unix::net::UnixListener::bind_addr(address)?)
    }

    /// Takes a listener of the standard library over, and makes it non-blocking.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener { watched: Watched::new(listener) })
    }

    /// The next connection, and who made it. Suspends until there is one.
    ///
    /// # Errors
    /// Those of `accept`, after which the listener stays in order.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = self.watched.run(Direction::Read, std::os::unix::net::UnixListener::accept)?;
        Ok((UnixStream::from_std(stream)?, peer))
    }

    /// Connections as they come, without end.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<UnixStream>> + '_ {
        std::iter::repeat_with(|| Ok(self.accept()?.0))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.local_addr()
    }
}

descriptor!(UnixListener, watched);

/// A connection within this machine, used as a [`TcpStream`](super::TcpStream) is.
///
/// ```
/// use std::io::{Read, Write};
/// use switchmark_runtime::net::UnixStream;
/// use switchmark_runtime::{Builder, spawn};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let text = unsafe {
///     Builder::new().run_local(|| {
///         let (mut here, there) = UnixStream::pair()?;
///         let unit = spawn(move || (&there).write_all(b"from the other end"));
///         let mut text = String::new();
///         here.read_to_string(&mut text)?;
///         unit.join().unwrap()?;
///         Ok::<_, std::io::Error>(text)
///     })??
/// };
/// assert_eq!(text, "from the other end");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixStream {
    stream: Stream<std::os::unix::net::UnixStream>,
}

impl UnixStream {
    /// Connects to who listens at a path. Suspends while too many others wait there.
    #[track_caller]
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to who listens at an address. Suspends while too many others wait there.
    #[track_caller]
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        let socket = sys::unix_socket()?;
        // A full queue is no state that could be waited for: nothing reports that there is room again.
        let mut pause = Duration::from_micros(100);
        loop {
            match sys::connect_unix(socket.as_fd(), address) {
                Ok(()) => return Ok(UnixStream { stream: Stream::new(socket.into()) }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Two ends that are connected to each other.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((UnixStream::from_std(one)?, UnixStream::from_std(other)?))
    }

    /// Takes a connection of the standard library over, and makes it non-blocking.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        stream.set_nonblocking(true)?;
        Ok(UnixStream { stream: Stream::new(stream) })
    }

    /// Another descriptor of the same connection, which waits on its own. It costs one; [`UnixStream::split`] costs none.
    pub fn try_clone(&self) -> io::Result<UnixStream> {
        let stream = Stream::new(self.stream.inner().try_clone()?);
        Ok(UnixStream { stream: stream.with_timeouts_of(&self.stream) })
    }

    /// An end to read and one to write, for one coroutine each. The connection is closed when both are gone.
    pub fn split(self) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
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
}

reads!(UnixStream);
writes!(UnixStream);
descriptor!(UnixStream, stream.watched);
timeouts!(UnixStream, stream: read);
timeouts!(UnixStream, stream: write);

impl Duplex for UnixStream {
    fn end_writes(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
