//! Readiness as the kernel tells it: what the load generator and the hand-written server wait on. Level-triggered, so
//! that a member which was not read to its end is reported again.

use crate::sys;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Members that may be read, each with a token of its own. A member that is closed leaves by itself.
pub struct Epoll {
    set: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// How many are reported at once.
const EVENTS: usize = 512;

impl Epoll {
    /// Without members.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll { set: sys::epoll_create()?, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Adds a member that is reported by `token` while it can be read or has ended.
    pub fn add(&self, member: &impl AsFd, token: usize) -> io::Result<()> {
        sys::epoll_add(self.set.as_fd(), member.as_fd(), token as u64)
    }

    /// Waits until a member is ready, and says how many are: [`Epoll::token`] names them until the next wait. None when the
    /// time is up or a signal came; without a timeout it waits for ever.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        sys::epoll_wait(self.set.as_fd(), &mut self.events, timeout)
    }

    /// As [`Epoll::wait`], with a timeout that is kept to the nanosecond as far as the kernel can; an error before Linux 5.11.
    pub fn wait_exactly(&mut self, timeout: Duration) -> io::Result<usize> {
        sys::epoll_wait_exactly(self.set.as_fd(), &mut self.events, timeout)
    }

    /// Token of the `n`-th member that the last wait found.
    ///
    /// # Panics
    ///
    /// Where `n` is not below the number of events that fit into one wait.
    pub fn token(&self, n: usize) -> usize {
        usize::try_from(self.events[n].u64).expect("tokens were numbers of this width")
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("set", &self.set).finish_non_exhaustive()
    }
}
