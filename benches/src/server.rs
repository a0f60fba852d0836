//! Servers of the model `echo`: in a thread of their own, beside one that listens to the parent or loads them.

use crate::concurrency::{Concurrency, Coroutine, Thread, coroutine};
use crate::models::{self, echo};
use crate::reactor;
use echo::{Door, Tally};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::{io, process, thread};
use switchmark_harness::load::{self, Asked};
use switchmark_harness::protocol::{Prepare, Served};
use switchmark_harness::worker::Session;

/// A server that listens, and serves until its process ends.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tally: Arc<Tally>,
    /// Bytes of a request.
    request: u64,
}

/// A server, or why this contender or machine cannot have it.
pub type Started = Result<Server, String>;

impl Server {
    /// Starts that of a contender in the tree. The inner error is the reason of an `unsupported`.
    pub fn of(contender: &str, prepare: &Prepare) -> io::Result<Started> {
        match contender {
            "thread" => Server::start(prepare, Thread::room_for, echo::serve::<Thread>),
            "coroutine" => {
                let runtime = match prepare.placement.as_str() {
                    "all-cores" => Some(coroutine::several(prepare)?),
                    _ => None,
                };
                Server::start(prepare, Coroutine::room_for, move |door| match runtime {
                    Some(runtime) => runtime.block_on(move || echo::serve::<Coroutine>(door)),
                    None => coroutine::enter(|| echo::serve::<Coroutine>(door))?,
                })
            }
            "epoll" => Server::start(prepare, |_| Ok(()), reactor::serve),
            _ => Ok(Err(models::unknown(&prepare.model))),
        }
    }

    /// Starts one: `server` listens, opens the door and serves. `room` may say why so many connections are more units than
    /// the contender can have.
    ///
    /// A server that returns has failed, and ends the process: its last words are the reason of the cell.
    pub fn start(
        prepare: &Prepare,
        room: impl FnOnce(u64) -> Result<(), String>,
        server: impl FnOnce(Door) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Started> {
        let asked = Asked::of(prepare).and_then(|asked| {
            room(asked.connections as u64)?;
            load::allow_descriptors(asked.connections)?;
            Ok(asked)
        });
        let request = match asked {
            Ok(asked) => asked.bytes as u64,
            Err(reason) => return Ok(Err(reason)),
        };
        let tally = Arc::new(Tally::default());
        let (tell, told) = mpsc::channel();
        let door = Door { tell, tally: Arc::clone(&tally) };
        #[expect(
            clippy::disallowed_methods,
            reason = "where a contender's runtime lives; no unit of a model"
        )]
        thread::spawn(move || {
            match server(door) {
                Ok(()) => eprintln!("the server returned"),
                Err(error) => eprintln!("the server: {error}"),
            }
            process::exit(1);
        });
        let address = told.recv().map_err(|_| io::Error::other("the server ended before it listened"))?;
        Ok(Ok(Server { address, tally, request }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has accepted and answered so far.
    pub fn served(&self) -> Served {
        self.tally.served(self.request)
    }
}

/// Serves a cell of the model `echo` by a server as [`Server::start`] takes it, until the parent says `finish` or goes away.
pub fn serve_echo(
    prepare: &Prepare,
    session: Session,
    room: impl FnOnce(u64) -> Result<(), String>,
    server: impl FnOnce(Door) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    answer(Server::start(prepare, room, server)?, session)
}

pub(crate) fn answer(started: Started, session: Session) -> io::Result<()> {
    match started {
        Ok(server) => session.serve_at(server.address(), || server.served()),
        Err(reason) => session.unsupported(reason),
    }
}
