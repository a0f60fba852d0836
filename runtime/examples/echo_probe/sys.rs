//! The kernel's part: epoll, a CPU to stay on, and an end for those who are forgotten.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// Tokens of those that are ready.
pub(crate) struct Events(Vec<libc::epoll_event>);

impl Events {
    pub(crate) fn new() -> Events {
        Events(vec![libc::epoll_event { events: 0, u64: 0 }; 256])
    }
}

fn checked(returned: i32) -> io::Result<i32> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: it takes a flag.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reports when `source` can be read: at each change only, if `edge`.
    pub(crate) fn add(&self, source: &impl AsRawFd, token: usize, edge: bool) -> io::Result<()> {
        let events = (libc::EPOLLIN | if edge { libc::EPOLLET } else { 0 }).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: token as u64 };
        let (epoll, fd) = (self.0.as_raw_fd(), source.as_raw_fd());
        // SAFETY: the event lives through the call.
        checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
    }

    /// Waits until something is ready, for ever or not at all.
    pub(crate) fn wait<'a>(
        &self,
        events: &'a mut Events,
        for_ever: bool,
    ) -> io::Result<impl Iterator<Item = usize> + use<'a>> {
        let timeout = if for_ever { -1 } else { 0 };
        let (epoll, room) = (self.0.as_raw_fd(), i32::try_from(events.0.len()).expect("a small number"));
        // SAFETY: there is room for so many.
        let waited = checked(unsafe { libc::epoll_wait(epoll, events.0.as_mut_ptr(), room, timeout) });
        let ready = match waited {
            Ok(ready) => usize::try_from(ready).expect("a number"),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(events.0[..ready].iter().map(|event| usize::try_from(event.u64).expect("a token")))
    }
}

/// Keeps this thread on the first or the last CPU that it may use.
pub(crate) fn stay_on(first: bool) -> io::Result<()> {
    // SAFETY: a set of nothing is all zeros.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has the size that is given.
    checked(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    let size = usize::try_from(libc::CPU_SETSIZE).expect("a number");
    // SAFETY: each number is below the set's size.
    let mut cpus = (0..size).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) });
    let cpu = if first { cpus.next() } else { cpus.next_back() }.expect("it runs on one");
    // SAFETY: as above.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: as above.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// Ends this process after a while, whatever it does.
pub(crate) fn end_after(time: Duration) {
    // SAFETY: it takes a number; the signal's default is to end the process.
    unsafe { libc::alarm(u32::try_from(time.as_secs()).expect("a small number")) };
}
