//! The contender `epoll`: the echo that one would write by hand, one thread over readiness. The floor of the io family.
//!
//! Level-triggered: a connection that was not read to its end is reported again, so each report costs one read and one write
//! and never a second read that finds nothing. Edge-triggered needs that read, or trust in a read that did not fill its buffer.

use crate::models::echo::{BUFFER, Door, Tally};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use switchmark_harness::epoll::Epoll;

/// The listener's token; connections have their place in the table.
const LISTENER: usize = usize::MAX >> 1;

pub(crate) fn serve(door: Door) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let tally = door.open(listener.local_addr()?);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = [0; BUFFER];
    loop {
        for n in 0..epoll.wait(None)? {
            let token = epoll.token(n);
            if token == LISTENER {
                // One at a time: if more wait, it is reported again.
                let Some(stream) = accepted(&listener)? else { continue };
                tally.accepted();
                let place = free.pop().unwrap_or_else(|| {
                    streams.push(None);
                    streams.len() - 1
                });
                epoll.add(&stream, place)?;
                streams[place] = Some(stream);
                continue;
            }
            let Some(stream) = &streams[token] else { continue };
            if echo(stream, &mut buffer, &tally).is_err() {
                streams[token] = None;
                free.push(token);
            }
        }
    }
}

fn accepted(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

/// Answers what is there. The error is the end of the connection, whichever side wants it.
fn echo(mut stream: &TcpStream, buffer: &mut [u8; BUFFER], tally: &Tally) -> io::Result<()> {
    let length = match stream.read(buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => length,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(e) => return Err(e),
    };
    tally.answering(length);
    // One who sends on without reading its answers fills the buffers at last, and is sent away: no load does.
    stream.write_all(&buffer[..length])
}
