//! UDP.

use std::io;
use std::net::SocketAddr;

use super::address::{ToAddresses, try_each};
use super::source::Direction;
use super::stream::{descriptor, timeouts};
use super::watched::Watched;

/// A socket for datagrams, from anybody or, once connected, from one peer. Several coroutines may use it at once, by reference.
///
/// ```
/// use switchmark_runtime::net::UdpSocket;
/// use switchmark_runtime::{Builder, spawn};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let answer = unsafe {
///     Builder::new().run_local(|| {
///         let server = UdpSocket::bind("127.0.0.1:0")?;
///         let client = UdpSocket::bind("127.0.0.1:0")?;
///         client.connect(server.local_addr()?)?;
///         let unit = spawn(move || {
///             let mut buffer = [0; 16];
///             let (bytes, from) = server.recv_from(&mut buffer)?;
///             buffer[..bytes].reverse();
///             server.send_to(&buffer[..bytes], from)
///         });
///         client.send(b"stop")?;
///         let mut buffer = [0; 16];
///         let bytes = client.recv(&mut buffer)?;
///         unit.join().unwrap()?;
///         Ok::<_, std::io::Error>(buffer[..bytes].to_vec())
///     })??
/// };
/// assert_eq!(answer, b"pots");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    watched: Watched<std::net::UdpSocket>,
}

impl UdpSocket {
    /// A socket with this address, with the first of several that works; port 0 lets the system choose one.
    ///
    /// Suspends if a name is to be looked up.
    #[track_caller]
    pub fn bind(address: impl ToAddresses) -> io::Result<UdpSocket> {
        UdpSocket::from_std(try_each(address, std::net::UdpSocket::bind)?)
    }

    /// Takes a socket of the standard library over, and makes it non-blocking.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket { watched: Watched::new(socket) })
    }

    /// Names the peer of [`UdpSocket::send`] and [`UdpSocket::recv`]; what others send is dropped from then on. Nothing is sent.
    #[track_caller]
    pub fn connect(&self, address: impl ToAddresses) -> io::Result<()> {
        try_each(address, |address| self.watched.inner.connect(address))
    }

    /// Sends a datagram to the peer of [`UdpSocket::connect`]. Suspends while the kernel has no room for it.
    #[track_caller]
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.watched.run(Direction::Write, |socket| socket.send(datagram))
    }

    /// Sends a datagram to the first of the addresses. Suspends while the kernel has no room for it.
    #[track_caller]
    pub fn send_to(&self, datagram: &[u8], to: impl ToAddresses) -> io::Result<usize> {
        let mut first = to.to_addresses()?.into_iter();
        let to = first
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"))?;
        self.watched.run(Direction::Write, |socket| socket.send_to(datagram, to))
    }

    /// The next datagram of the peer; what does not fit the buffer is lost. Suspends until there is one.
    #[track_caller]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched.run(Direction::Read, |socket| socket.recv(buffer))
    }

    /// The next datagram and who sent it; what does not fit the buffer is lost. Suspends until there is one.
    #[track_caller]
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.watched.run(Direction::Read, |socket| socket.recv_from(buffer))
    }

    /// As [`UdpSocket::recv`], and the datagram stays.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched.run(Direction::Read, |socket| socket.peek(buffer))
    }

    /// As [`UdpSocket::recv_from`], and the datagram stays.
    #[track_caller]
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.watched.run(Direction::Read, |socket| socket.peek_from(buffer))
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.local_addr()
    }

    /// The peer, once connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.watched.inner.peer_addr()
    }

    /// Whether datagrams may be sent to broadcast addresses.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.watched.inner.set_broadcast(broadcast)
    }
}

descriptor!(UdpSocket, watched);
timeouts!(UdpSocket, watched: read);
timeouts!(UdpSocket, watched: write);
