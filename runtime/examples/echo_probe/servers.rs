//! The two servers: coroutines that park, and the loop that is their floor. Both read into 4 KiB, take a read that did not fill it for all
//! there is, and write at once: a read and a write a request, and an `epoll_wait` for each batch.
//!
//! Of the coroutines one is the poller. It gives way to those that it woke, and comes back when each of them waits again or gave way
//! itself; then it sleeps in the kernel if nobody else is ready, and else only looks.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use switchmark_runtime::{Builder, Unparker, park, spawn_local, unparker, yield_now};

use super::sys::{self, Epoll, Events};

const BUFFER: usize = 4096;

pub(crate) fn serve(coroutines: bool) -> io::Result<()> {
    sys::stay_on(true)?;
    sys::end_after(Duration::from_secs(30));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    if coroutines {
        // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
        unsafe { Builder::new().run_local(|| serve_by_coroutines(&listener))? }
    } else {
        serve_by_loop(&listener)
    }
}

/// What may be read, and who waits for it.
struct Source {
    waits: Unparker,
    is_ready: Cell<bool>,
    is_waiting: Cell<bool>,
}

struct Poller {
    epoll: Epoll,
    sources: RefCell<Vec<Option<Rc<Source>>>>,
    /// Coroutines, but the poller, that do not wait here.
    busy: Cell<usize>,
}

impl Poller {
    /// A source for the current coroutine, which is busy until it waits for it.
    fn add(&self, of: &impl std::os::fd::AsRawFd) -> io::Result<(usize, Rc<Source>)> {
        let source = Source { waits: unparker(), is_ready: Cell::new(false), is_waiting: Cell::new(false) };
        let source = Rc::new(source);
        let mut sources = self.sources.borrow_mut();
        let free = sources.iter().position(Option::is_none);
        let token = free.unwrap_or_else(|| {
            sources.push(None);
            sources.len() - 1
        });
        sources[token] = Some(Rc::clone(&source));
        self.epoll.add(of, token, true)?;
        Ok((token, source))
    }

    fn wait_for(&self, source: &Source) {
        while !source.is_ready.take() {
            source.is_waiting.set(true);
            self.busy.set(self.busy.get() - 1);
            park();
        }
    }

    fn run(&self) -> io::Result<()> {
        let mut events = Events::new();
        loop {
            for token in self.epoll.wait(&mut events, self.busy.get() == 0)? {
                // Gone, if its connection ended while the event was on the way.
                let Some(source) = self.sources.borrow()[token].clone() else { continue };
                source.is_ready.set(true);
                if source.is_waiting.take() {
                    self.busy.set(self.busy.get() + 1);
                    source.waits.unpark();
                }
            }
            yield_now();
        }
    }
}

fn serve_by_coroutines(listener: &TcpListener) -> io::Result<()> {
    let poller = Rc::new(Poller { epoll: Epoll::new()?, sources: RefCell::default(), busy: Cell::new(1) });
    let polls = Rc::clone(&poller);
    let polls = spawn_local(move || polls.run());
    let (_, incoming) = poller.add(listener)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                poller.busy.set(poller.busy.get() + 1);
                let poller = Rc::clone(&poller);
                drop(spawn_local(move || {
                    // A connection that was reset is as good as one that was closed.
                    let _ = answer(&poller, stream);
                    poller.busy.set(poller.busy.get() - 1);
                }));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !polls.is_finished() => {
                poller.wait_for(&incoming);
            }
            Err(error) => return Err(error),
        }
    }
}

fn answer(poller: &Poller, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let (token, source) = poller.add(&stream)?;
    let mut buffer = [0; BUFFER];
    let outcome = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                if let Err(error) = stream.write_all(&buffer[..length]) {
                    break Err(error);
                }
                if length < BUFFER {
                    poller.wait_for(&source);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => poller.wait_for(&source),
            Err(error) => break Err(error),
        }
    };
    poller.sources.borrow_mut()[token] = None;
    outcome
}

fn serve_by_loop(listener: &TcpListener) -> io::Result<()> {
    const LISTENER: usize = usize::MAX >> 1;
    let (epoll, mut events) = (Epoll::new()?, Events::new());
    epoll.add(listener, LISTENER, false)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = [0; BUFFER];
    loop {
        for token in epoll.wait(&mut events, true)? {
            if token == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let free = streams.iter().position(Option::is_none).unwrap_or_else(|| {
                    streams.push(None);
                    streams.len() - 1
                });
                epoll.add(&stream, free, false)?;
                streams[free] = Some(stream);
                continue;
            }
            let Some(stream) = &mut streams[token] else { continue };
            let ended = match stream.read(&mut buffer) {
                Ok(0) => true,
                Ok(length) => stream.write_all(&buffer[..length]).is_err(),
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            if ended {
                streams[token] = None;
            }
        }
    }
}
