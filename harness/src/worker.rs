//! The worker's side of the protocol: the loop that in-tree and Rust contenders share.
//!
//! [`serve`] says hello, reads the cell and hands a [`Session`] to the contender, which enters its runtime as
//! the cell demands and calls [`Session::run`] from inside it. So a runtime is built once for the life of a
//! worker, knows its CPUs when it is built, and parked units outlive a slice.

use crate::protocol::{Identity, Prepare, Reply, Request, Sample, Served};
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

/// A cell that was prepared and waits for its slices.
#[derive(Debug)]
pub struct Session {
    _baton: (),
}

/// Serves one cell on standard input and output. `open` runs it: it either refuses the cell
/// ([`Session::unsupported`]) or answers its slices ([`Session::run`]).
///
/// A parent that goes away (end of input) ends the worker quietly.
pub fn serve(identity: Identity, open: impl FnOnce(&Prepare, Session) -> io::Result<()>) -> io::Result<()> {
    match receive()? {
        Some(Request::Hello) => send(&Reply::Hello(identity))?,
        Some(other) => return Err(out_of_turn(&other)),
        None => return Ok(()),
    }
    match receive()? {
        Some(Request::Prepare(prepare)) => open(&prepare, Session { _baton: () }),
        Some(Request::Finish) => send(&Reply::Done(None)),
        Some(other) => Err(out_of_turn(&other)),
        None => Ok(()),
    }
}

impl Session {
    /// Refuses the cell, with the reason that the reader of the result will see.
    pub fn unsupported(self, reason: impl Into<String>) -> io::Result<()> {
        send(&Reply::Unsupported { reason: reason.into() })?;
        match receive()? {
            Some(Request::Finish) => send(&Reply::Done(None)),
            Some(other) => Err(out_of_turn(&other)),
            None => Ok(()),
        }
    }

    /// Says `ready`, then answers each slice until the parent says `finish` or goes away.
    pub fn run(self, mut slice: impl FnMut(u64) -> Sample) -> io::Result<()> {
        self.drive(&mut (), |(), iterations| Ok(slice(iterations)), |()| None)
    }

    /// As [`Session::run`], of what may fail in the middle of a slice, which ends the worker, and may have something to say at the end.
    pub fn drive<T>(
        self,
        state: &mut T,
        mut slice: impl FnMut(&mut T, u64) -> io::Result<Sample>,
        done: impl FnOnce(&mut T) -> Option<Served>,
    ) -> io::Result<()> {
        send(&Reply::Ready { address: None })?;
        loop {
            match receive()? {
                Some(Request::Slice { iterations }) => send(&Reply::Sample(slice(state, iterations)?))?,
                Some(Request::Finish) => return send(&Reply::Done(done(state))),
                Some(other) => return Err(out_of_turn(&other)),
                None => return Ok(()),
            }
        }
    }

    /// Says where a server listens, which works in threads of its own from now on, until the parent says `finish` or goes away.
    pub fn serve_at(self, address: SocketAddr, served: impl FnOnce() -> Served) -> io::Result<()> {
        send(&Reply::Ready { address: Some(address.to_string()) })?;
        match receive()? {
            Some(Request::Finish) => send(&Reply::Done(Some(served()))),
            Some(other) => Err(out_of_turn(&other)),
            None => Ok(()),
        }
    }
}

fn receive() -> io::Result<Option<Request>> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Request::parse(&line).map(Some).map_err(io::Error::other)
}

fn send(reply: &Reply) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{reply}")?;
    out.flush()
}

fn out_of_turn(request: &Request) -> io::Error {
    io::Error::other(format!("out of turn: {request}"))
}
