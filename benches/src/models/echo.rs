//! `echo`: requests echoed on TCP. The one model that is served and not sliced: it has no `open`.
//!
//! **Work.** The main unit accepts; each connection has a unit of its own with [`STACK`] bytes of stack, which reads what is there, [`BUFFER`]
//! bytes at most, and writes it back, until the other side ends. A request is small and alone on its connection, so one read and
//! one write serve it. The load, the same for all contenders, is the parent's, in a process of its own.
//! **Ledger.** Connections accepted and requests answered, compared at the end with what the load has made and seen.
//! **Check.** Bytes that came back right, as the load found them.
//!
//! The buffer lies on the stack of the unit, where a blocking program has it. What a connection weighs is in the result, so it is no larger
//! than it must be: with the frames around it, it stays within a page of most stacks.

use crate::concurrency::{Net, UnitOptions};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use switchmark_harness::protocol::Served;

/// What a read takes at most, in every contender: more than the largest request of a definition, so that a read that took it knows that
/// nothing is left.
pub const BUFFER: usize = 640;

/// Stack of a connection's unit, in bytes: what a server that knows its work asks for.
pub const STACK: usize = 64 << 10;

/// What a server counts. All accesses are Relaxed: counts alone, whose reader knows by the answers themselves that all have been counted.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// A connection was accepted.
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes are about to go back. Counted before they do: who has the answer may ask for the count.
    pub fn answering(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The books, of requests of so many bytes.
    pub(crate) fn served(&self, request: u64) -> Served {
        let bytes = self.bytes.load(Ordering::Relaxed);
        Served { accepted: self.accepted.load(Ordering::Relaxed), answered: bytes / request.max(1) }
    }
}

/// Where a server says that it listens, once; what it gets is the tally to keep.
#[derive(Debug)]
pub struct Door {
    pub(crate) tell: Sender<SocketAddr>,
    pub(crate) tally: Arc<Tally>,
}

impl Door {
    /// The server listens, and accepts as soon as somebody connects.
    pub fn open(self, address: SocketAddr) -> Arc<Tally> {
        // Nobody listens any more only if the worker is about to end.
        let _ = self.tell.send(address);
        self.tally
    }
}

/// Serves until something fails that is no connection's own.
pub fn serve<C: Net>(door: Door) -> io::Result<()> {
    let (listener, address) = C::listen()?;
    let tally = door.open(address);
    loop {
        let stream = C::accept(&listener)?;
        tally.accepted();
        let counts = Arc::clone(&tally);
        // Nobody joins it: it ends with its connection.
        let options = UnitOptions { stack: Some(STACK), ..UnitOptions::default() };
        drop(C::spawn(options, move || {
            // A connection that was reset is as good as one that has ended.
            let _ = answer::<C>(stream, &counts);
        })?);
    }
}

fn answer<C: Net>(mut stream: C::Stream, tally: &Tally) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match C::receive(&mut stream, &mut buffer)? {
            0 => return Ok(()),
            length => {
                tally.answering(length);
                C::send(&mut stream, &buffer[..length])?;
            }
        }
    }
}
