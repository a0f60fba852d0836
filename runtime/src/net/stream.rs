//! What every stream of bytes is made of, be it a socket or an end of a pipe.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::source::Direction;
use super::watched::Watched;

/// A stream, and a hint about what is left in the kernel to be read.
#[derive(Debug)]
pub(super) struct Stream<S: AsFd> {
    pub(super) watched: Watched<S>,
    /// The last read took all there was, and what comes next will be noted: to try before that is a call for nothing. Set and used by who
    /// has the stream for itself. Whoever shares it may use up the note of bytes that it leaves there, and so takes the hint away.
    drained: AtomicBool,
}

impl<S: AsFd> Stream<S> {
    /// The caller has made it non-blocking.
    pub(super) fn new(inner: S) -> Stream<S> {
        Stream { watched: Watched::new(inner), drained: AtomicBool::new(false) }
    }

    pub(super) fn inner(&self) -> &S {
        &self.watched.inner
    }

    /// A read, or a look, by one of perhaps several readers.
    #[track_caller]
    #[inline]
    pub(super) fn read<R>(&self, read: impl FnMut(&S) -> io::Result<R>) -> io::Result<R> {
        // Relaxed: whoever uses the hint has the stream for itself, and whatever gave it that orders.
        self.drained.store(false, Ordering::Relaxed);
        self.watched.run(Direction::Read, read)
    }

    #[track_caller]
    #[inline]
    pub(super) fn write(&self, write: impl FnMut(&S) -> io::Result<usize>) -> io::Result<usize> {
        self.watched.run(Direction::Write, write)
    }

    /// A read of `room` bytes by the only reader, who may know that there is nothing yet.
    ///
    /// A read that got less than it had room for has emptied the kernel's buffer, so the next change is the next data (epoll(7)). Not behind
    /// the peer's end, which may have been reported with that data.
    #[track_caller]
    pub(super) fn read_alone(
        &mut self,
        room: usize,
        read: impl FnMut(&S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let source = &self.watched.source;
        if std::mem::take(self.drained.get_mut()) && room > 0 && source.notes_changes() {
            let deadline = self.watched.timeout(Direction::Read).map(crate::time::Deadline::after);
            source.wait(self.watched.inner.as_fd(), Direction::Read, deadline)?;
        }
        let noted = source.notes_changes();
        let result = self.watched.run(Direction::Read, read);
        *self.drained.get_mut() = noted && result.as_ref().is_ok_and(|&read| 0 < read && read < room);
        result
    }

    /// Has another descriptor of the same stream wait as long as this one does.
    pub(super) fn with_timeouts_of(self, other: &Stream<S>) -> Stream<S> {
        self.watched.copy_timeouts(&other.watched);
        self
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.watched.set_read_timeout(timeout)
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.watched.set_write_timeout(timeout)
    }
}

impl<S: AsFd> Stream<S>
where
    for<'a> &'a S: Read,
{
    #[track_caller]
    #[inline]
    pub(super) fn read_into(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_alone(buffer.len(), |mut inner| inner.read(buffer))
    }

    #[track_caller]
    pub(super) fn read_into_many(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.read_alone(room, |mut inner| inner.read_vectored(buffers))
    }
}

/// `Read`, for a type with a `stream` and for references to it.
macro_rules! reads {
    ($type:ty) => {
        impl ::std::io::Read for $type {
            #[track_caller]
            fn read(&mut self, buffer: &mut [u8]) -> ::std::io::Result<usize> {
                self.stream.read_into(buffer)
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                buffers: &mut [::std::io::IoSliceMut<'_>],
            ) -> ::std::io::Result<usize> {
                self.stream.read_into_many(buffers)
            }
        }

        impl ::std::io::Read for &$type {
            #[track_caller]
            fn read(&mut self, buffer: &mut [u8]) -> ::std::io::Result<usize> {
                self.stream.read(|mut inner| ::std::io::Read::read(&mut inner, buffer))
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                buffers: &mut [::std::io::IoSliceMut<'_>],
            ) -> ::std::io::Result<usize> {
                self.stream.read(|mut inner| ::std::io::Read::read_vectored(&mut inner, buffers))
            }
        }
    };
}

/// `Write`, for a type with a `stream` and for references to it.
macro_rules! writes {
    ($type:ty) => {
        impl ::std::io::Write for $type {
            #[track_caller]
            fn write(&mut self, buffer: &[u8]) -> ::std::io::Result<usize> {
                ::std::io::Write::write(&mut &*self, buffer)
            }

            #[track_caller]
            fn write_vectored(&mut self, buffers: &[::std::io::IoSlice<'_>]) -> ::std::io::Result<usize> {
                ::std::io::Write::write_vectored(&mut &*self, buffers)
            }

            fn flush(&mut self) -> ::std::io::Result<()> {
                Ok(())
            }
        }

        impl ::std::io::Write for &$type {
            #[track_caller]
            fn write(&mut self, buffer: &[u8]) -> ::std::io::Result<usize> {
                self.stream.write(|mut inner| ::std::io::Write::write(&mut inner, buffer))
            }

            #[track_caller]
            fn write_vectored(&mut self, buffers: &[::std::io::IoSlice<'_>]) -> ::std::io::Result<usize> {
                self.stream.write(|mut inner| ::std::io::Write::write_vectored(&mut inner, buffers))
            }

            fn flush(&mut self) -> ::std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// The descriptor of a type with something `Watched`.
macro_rules! descriptor {
    ($type:ty, $($watched:ident).+) => {
        impl ::std::os::fd::AsFd for $type {
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.$($watched).+.inner.as_fd()
            }
        }

        impl ::std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> ::std::os::fd::RawFd {
                ::std::os::fd::AsRawFd::as_raw_fd(&self.$($watched).+.inner)
            }
        }
    };
}

/// How long reads and writes may wait, for a type with timeouts.
macro_rules! timeouts {
    ($type:ty, $inner:ident: read) => {
        impl $type {
            /// How long one read may wait, for ever if `None`; then it fails with `TimedOut`.
            ///
            /// # Errors
            /// `InvalidInput` for a time of zero.
            pub fn set_read_timeout(&self, timeout: Option<::std::time::Duration>) -> ::std::io::Result<()> {
                self.$inner.set_read_timeout(timeout)
            }
        }
    };
    ($type:ty, $inner:ident: write) => {
        impl $type {
            /// How long one write may wait, for ever if `None`; then it fails with `TimedOut`.
            ///
            /// # Errors
            /// `InvalidInput` for a time of zero.
            pub fn set_write_timeout(&self, timeout: Option<::std::time::Duration>) -> ::std::io::Result<()> {
                self.$inner.set_write_timeout(timeout)
            }
        }
    };
}

pub(super) use {descriptor, reads, timeouts, writes};
