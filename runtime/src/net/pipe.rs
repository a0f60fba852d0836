//! Pipes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::stream::{Stream, descriptor, reads, timeouts, writes};
use crate::sys;

/// A pipe: what is written to one end is read from the other.
///
/// ```
/// use std::io::{Read, Write};
/// use std::process::{Command, Stdio};
/// use switchmark_runtime::net::{PipeReader, PipeWriter};
/// use switchmark_runtime::{Builder, spawn};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let sorted = unsafe {
///     Builder::new().run_local(|| {
///         // The ends of a child process are pipes too.
///         let mut child = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
///         let mut input = PipeWriter::from_fd(child.stdin.take().unwrap())?;
///         let mut output = PipeReader::from_fd(child.stdout.take().unwrap())?;
///         let unit = spawn(move || input.write_all(b"pear\napple\nfig\n"));
///         let mut sorted = String::new();
///         output.read_to_string(&mut sorted)?;
///         unit.join().unwrap()?;
///         child.wait()?;
///         Ok::<_, std::io::Error>(sorted)
///     })??
/// };
/// assert_eq!(sorted, "apple\nfig\npear\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((PipeReader::from_fd(reader)?, PipeWriter::from_fd(writer)?))
}

/// The end of a pipe that is read. Reads suspend until there is something, by [`Read`](io::Read), also for `&PipeReader`.
#[derive(Debug)]
pub struct PipeReader {
    stream: Stream<io::PipeReader>,
}

/// The end of a pipe that is written. Writes suspend until there is room, by [`Write`](io::Write), also for `&PipeWriter`.
#[derive(Debug)]
pub struct PipeWriter {
    stream: Stream<io::PipeWriter>,
}

impl PipeReader {
    /// Takes the end of a pipe over, of a child process perhaps, and makes it non-blocking, for all who have it.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<PipeReader> {
        let fd = fd.into();
        sys::set_nonblocking(fd.as_fd())?;
        Ok(PipeReader { stream: Stream::new(fd.into()) })
    }
}

impl PipeWriter {
    /// Takes the end of a pipe over, of a child process perhaps, and makes it non-blocking, for all who have it.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<PipeWriter> {
        let fd = fd.into();
        sys::set_nonblocking(fd.as_fd())?;
        Ok(PipeWriter { stream: Stream::new(fd.into()) })
    }
}

reads!(PipeReader);
descriptor!(PipeReader, stream.watched);
timeouts!(PipeReader, stream: read);
writes!(PipeWriter);
descriptor!(PipeWriter, stream.watched);
timeouts!(PipeWriter, stream: write);
