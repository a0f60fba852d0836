//! Threads of the runtime's own: workers, the monitor, the pool for calls that block. They start here, so that the system's no is
//! said in one way, with the limits that may be meant.
//!
//! The kernel and the C library answer `EAGAIN` to all of them, so which one it was cannot be told; their values can.

use std::fmt;
use std::io;
use std::thread;

use crate::sys;

/// Starts a thread called `name` that runs `body`; `what` it is goes into the error, whose kind is `QuotaExceeded` if a limit was met.
pub(crate) fn start(
    name: String,
    what: impl fmt::Display,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(body).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::QuotaExceeded,
            kind => kind,
        };
        let limits = sys::thread_limits();
        io::Error::new(kind, format!("cannot start {what}: {error}; raise the limit that was met: {limits}"))
    })
}
