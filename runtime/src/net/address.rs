//! Addresses, and names that have to be looked up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use crate::blocking;

/// What stands for one or more addresses, as `std::net::ToSocketAddrs` does: an address, an IP address and a port, or a text such as
/// `"localhost:80"`.
///
/// A name is looked up by the C library, which blocks its thread and wants more stack than the smallest class has. So that is done on a
/// thread of the [`blocking()`] pool, for which the coroutine waits. Addresses, also as text, need no look-up.
pub trait ToAddresses {
    /// The addresses, in the order in which they are to be tried.
    ///
    /// # Errors
    /// Those of the look-up, and `InvalidInput` for a text that is no name with a port.
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>>;
}

impl ToAddresses for SocketAddr {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![*self])
    }
}

/// For what is turned into an address by `From`.
macro_rules! addresses {
    ($($type:ty),+) => {$(
        impl ToAddresses for $type {
            fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![SocketAddr::from(*self)])
            }
        }
    )+};
}

addresses!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToAddresses for [SocketAddr] {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.to_vec())
    }
}

impl ToAddresses for str {
    #[track_caller]
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.parse().map_or_else(|_| look_up(self.to_owned()), |address| Ok(vec![address]))
    }
}

impl ToAddresses for String {
    #[track_caller]
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().to_addresses()
    }
}

impl ToAddresses for (&str, u16) {
    #[track_caller]
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = *self;
        let ip = host.parse::<IpAddr>();
        ip.map_or_else(|_| look_up((host.to_owned(), port)), |ip| Ok(vec![SocketAddr::new(ip, port)]))
    }
}

impl ToAddresses for (String, u16) {
    #[track_caller]
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        (self.0.as_str(), self.1).to_addresses()
    }
}

impl<T: ToAddresses + ?Sized> ToAddresses for &T {
    #[track_caller]
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).to_addresses()
    }
}

#[track_caller]
fn look_up(name: impl ToSocketAddrs + Send + 'static) -> io::Result<Vec<SocketAddr>> {
    blocking(move || Ok(name.to_socket_addrs()?.collect()))
}

/// What `each` makes of the first address it does not fail with; else the error of the last.
#[track_caller]
pub(super) fn try_each<T>(
    addresses: impl ToAddresses,
    mut each: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"));
    for address in addresses.to_addresses()? {
        outcome = each(address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
