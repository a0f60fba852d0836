//! A stream in two halves, each of which has an owner.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;

/// A stream that can be split. Implemented by the streams of this module.
pub trait Duplex {
    /// Tells the peer that no more will be written.
    fn end_writes(&self) -> io::Result<()>;
}

pub(super) fn split<S: Duplex>(stream: S) -> (ReadHalf<S>, WriteHalf<S>) {
    let stream = Arc::new(stream);
    (ReadHalf { stream: Arc::clone(&stream) }, WriteHalf { stream: Some(stream) })
}

/// The half of a stream that is read. The stream itself is there by [`AsRef`].
#[derive(Debug)]
pub struct ReadHalf<S> {
    stream: Arc<S>,
}

/// The half of a stream that is written. Dropping it tells the peer that no more will come. The stream itself is there by [`AsRef`].
#[derive(Debug)]
pub struct WriteHalf<S: Duplex> {
    /// `None` once it has been given back.
    stream: Option<Arc<S>>,
}

impl<S: Duplex> ReadHalf<S> {
    /// Puts the stream together again.
    ///
    /// # Errors
    /// Gives both back if they are not of the same stream.
    pub fn unsplit(self, mut other: WriteHalf<S>) -> Result<S, (ReadHalf<S>, WriteHalf<S>)> {
        if !Arc::ptr_eq(&self.stream, other.shared()) {
            return Err((self, other));
        }
        other.stream = None;
        let stream = Arc::into_inner(self.stream);
        Ok(stream.expect("there are two halves, and this was the last"))
    }
}

impl<S: Duplex> WriteHalf<S> {
    fn shared(&self) -> &Arc<S> {
        self.stream.as_ref().expect("it is there until the half goes")
    }
}

impl<S> AsRef<S> for ReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Duplex> AsRef<S> for WriteHalf<S> {
    fn as_ref(&self) -> &S {
        self.shared()
    }
}

impl<S> Read for ReadHalf<S>
where
    for<'a> &'a S: Read,
{
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.stream).read(buffer)
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.stream).read_vectored(buffers)
    }
}

impl<S: Duplex> Write for WriteHalf<S>
where
    for<'a> &'a S: Write,
{
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&**self.shared()).write(buffer)
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&**self.shared()).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Duplex> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            let _ = stream.end_writes(); // Fails if the peer has gone already.
        }
    }
}
