//! Something with a descriptor, together with its readiness.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::source::{Direction, Source};

/// What every type of this module is made of. The descriptor does not block.
pub(super) struct Watched<T: AsFd> {
    pub(super) inner: T,
    pub(super) source: Source,
    /// Nanoseconds that a wait may take, 0 for ever; by direction.
    timeouts: [AtomicU64; 2],
}

impl<T: AsFd> Watched<T> {
    /// The caller has made it non-blocking.
    pub(super) fn new(inner: T) -> Watched<T> {
        Watched { inner, source: Source::default(), timeouts: [const { AtomicU64::new(0) }; 2] }
    }

    /// Calls `operation` and waits as often as it would block.
    #[track_caller]
    #[inline]
    pub(super) fn run<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let timeout = self.timeout(direction);
        self.source.run(self.inner.as_fd(), direction, timeout, || operation(&self.inner))
    }

    /// How long a wait may take.
    pub(super) fn timeout(&self, direction: Direction) -> Option<Duration> {
        // Relaxed: a setting.
        let nanos = self.timeouts[direction as usize].load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(Direction::Read, timeout)
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(Direction::Write, timeout)
    }

    /// Waits as long as `other` does.
    pub(super) fn copy_timeouts(&self, other: &Watched<T>) {
        for (mine, theirs) in self.timeouts.iter().zip(&other.timeouts) {
            // Relaxed, twice: a setting.
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a timeout of nothing: use None to wait for as long as it takes",
            ));
        }
        let nanos = timeout.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        // Relaxed: a setting.
        self.timeouts[direction as usize].store(nanos, Ordering::Relaxed);
        Ok(())
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        self.source.end(self.inner.as_fd());
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Any descriptor that `epoll` can watch, to be waited for: a pipe, a timer, an inotify instance, a library's socket.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::fd::OwnedFd;
/// use switchmark_runtime::net::Pollable;
/// use switchmark_runtime::{Builder, spawn, yield_now};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let byte = unsafe {
///     Builder::new().run_local(|| {
///         let (reader, mut writer) = std::io::pipe()?;
///         let mut file = std::fs::File::from(OwnedFd::from(reader));
///         let reader = Pollable::new(OwnedFd::from(file.try_clone()?))?;
///         let writes = spawn(move || {
///             yield_now();
///             writer.write_all(b"!")
///         });
///         let mut byte = [0];
///         reader.read_with(|_| file.read(&mut byte))?;
///         writes.join().unwrap()?;
///         Ok::<_, std::io::Error>(byte[0])
///     })??
/// };
/// assert_eq!(byte, b'!');
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Pollable {
    watched: Watched<OwnedFd>,
}

impl Pollable {
    /// Takes a descriptor and makes it non-blocking, for all who have it.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<Pollable> {
        let fd = fd.into();
        crate::sys::set_nonblocking(fd.as_fd())?;
        Ok(Pollable { watched: Watched::new(fd) })
    }

    /// Calls `operation` until it does not fail with `WouldBlock`, and suspends in between until the descriptor can be read.
    ///
    /// # Errors
    /// What `operation` fails with; and that of `epoll` for what it cannot watch, as regular files.
    #[track_caller]
    pub fn read_with<T>(&self, mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.watched.run(Direction::Read, |fd| operation(fd.as_fd()))
    }

    /// As [`Pollable::read_with`], until it can be written.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn write_with<T>(&self, mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.watched.run(Direction::Write, |fd| operation(fd.as_fd()))
    }
}

impl AsFd for Pollable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.inner.as_fd()
    }
}

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.watched.inner.as_raw_fd()
    }
}
