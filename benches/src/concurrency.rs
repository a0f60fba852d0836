//! All that models may use, and all that contenders may differ in.
//!
//! A model is written once, generic over [`Concurrency`]; so `thread` and `coroutine` run the same source, and
//! what differs between two numbers is behind this trait. [`Raw`] serves the model `bounce` alone, which asks
//! for the switch without any scheduler.

mod call;
mod channel;
pub(crate) mod coroutine;
mod thread;

pub use call::Call;
pub use channel::{Own, Std};
pub use coroutine::Coroutine;
pub use thread::Thread;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

/// How a unit is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnitOptions {
    /// Bytes of stack to ask for; the contender's default where absent.
    pub stack: Option<usize>,
    /// CPU that the unit pins itself to; where absent it runs where its creator may run.
    pub cpu: Option<usize>,
}

/// Units that a scheduler runs: threads and what replaces them.
pub trait Concurrency: Sized + 'static {
    /// A unit to join.
    type Handle<T: Send + 'static>: Send + 'static;
    /// Wakes one unit, from any other.
    type Unparker: Clone + Send + Sync + 'static;
    /// What the contender's units pass values through.
    type Channel: Channel;

    /// Whether a unit that blocks its OS thread keeps nobody else waiting.
    const BLOCKS_ALONE: bool = false;

    /// Starts a unit. The error is the limit that was met.
    fn spawn<T: Send + 'static>(
        options: UnitOptions,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Self::Handle<T>>;

    /// Waits for the end of a unit and takes what it returned. A unit that panicked fails the worker.
    fn join<T: Send + 'static>(unit: Self::Handle<T>) -> T;

    /// As `join`, of a unit that may never have run: the error says why, where the contender starts it without knowing that it can.
    fn try_join<T: Send + 'static>(unit: Self::Handle<T>) -> Result<T, String> {
        Ok(Self::join(unit))
    }

    /// Lets others run, and stays runnable.
    fn yield_now();

    /// Waits for the calling unit's permit and takes it. May return without one; the caller looks again.
    fn park();

    /// What leaves a permit for the calling unit.
    fn unparker() -> Self::Unparker;

    /// Leaves the permit.
    fn unpark(unit: &Self::Unparker);

    /// Switches between units so far, by this contender's own count and not by the model's: the kernel's for
    /// threads, the scheduler's for coroutines. `None` where it cannot tell.
    fn switches() -> Option<u64>;

    /// Addresses of the calling unit's stack, where the kernel is to be asked about each stack.
    fn stack() -> Option<Range<usize>> {
        None
    }

    /// Bytes in memory of all units' stacks, where the contender keeps book of them itself. What it counts beside
    /// the units of a model must not depend on their number.
    fn resident_stacks() -> Option<u64> {
        None
    }

    /// Why this many units at once are more than the system allows; the message names the limit.
    fn room_for(units: u64) -> Result<(), String>;

    /// Nanoseconds of a clock that only goes forward. The only clock that a model may read.
    fn stamp() -> u64 {
        crate::sys::monotonic_ns()
    }
}

/// What passes numbers from some units to others.
pub trait Channel: 'static {
    /// An end that puts in.
    type Sender: Send + 'static;
    /// An end that takes out.
    type Receiver: Send + 'static;

    /// A channel that holds so many numbers beside those in hands, with an end for each unit; with `capacity` 0 a number
    /// goes from hand to hand. The error says what this channel cannot do.
    fn open(capacity: usize, senders: usize, receivers: usize) -> Result<Ends<Self>, String>;

    /// Puts a number in, and waits while there is no room.
    fn send(to: &Self::Sender, number: u64);

    /// Takes a number out, and waits while there is none.
    fn receive(from: &Self::Receiver) -> u64;
}

/// The ends of a channel, one for each unit.
pub type Ends<H> = (Vec<<H as Channel>::Sender>, Vec<<H as Channel>::Receiver>);

/// Units that wait for a time, can be asked to give way, and can block without harm.
pub trait Timed: Concurrency {
    /// Waits until the clock of `stamp` shows so many nanoseconds.
    fn sleep_until(at_ns: u64);

    /// Gives way if the scheduler asks for it; nothing where it has no such question.
    fn checkpoint();

    /// Makes a call that blocks its OS thread, of which the scheduler does not know.
    fn block(how: Blocks, call: impl FnOnce() + Send + 'static);
}

/// In which way a unit makes a call that blocks its OS thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// As if nobody were there to care.
    Bare,
    /// Where it holds up nobody.
    Elsewhere,
    /// Here, after telling the scheduler.
    InPlace,
}

/// Units whose hand-off can be taken apart.
pub trait Rungs: Concurrency {
    /// The components that can be had alone, by name.
    const RUNGS: &'static [(&'static str, Rung)];
}

/// A component of a hand-off, and how it is had alone.
#[derive(Debug, Clone, Copy)]
pub enum Rung {
    /// One unit does it so often; how often it came out as it must, which is each time.
    Alone(fn(u64) -> u64),
    /// Two units give way to each other.
    GivingWay,
    /// A resume and a suspend, with no scheduler. What opens it is another model.
    Bounce(fn() -> crate::models::Opened),
}

/// Units that can wait for a descriptor.
pub trait Descriptors: Concurrency {
    /// The end of a pipe that is read.
    type Reader: Send + 'static;
    /// The other end.
    type Writer: Send + 'static;

    /// Makes a pipe.
    fn pipe() -> io::Result<(Self::Reader, Self::Writer)>;

    /// Reads what is there, and waits while nothing is.
    fn read(from: &mut Self::Reader, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes, and waits while there is no room.
    fn write(to: &mut Self::Writer, bytes: &[u8]) -> io::Result<usize>;
}

/// Units that can wait for a connection.
pub trait Net: Concurrency {
    /// Waits for connections.
    type Listener: Send + 'static;
    /// One of them.
    type Stream: Send + 'static;

    /// Listens on a port of 127.0.0.1 that the system chooses.
    fn listen() -> io::Result<(Self::Listener, SocketAddr)>;

    /// Takes a connection, and waits while there is none. What is sent on it leaves at once (`TCP_NODELAY`).
    fn accept(from: &Self::Listener) -> io::Result<Self::Stream>;

    /// Reads what is there, and waits while nothing is; 0 where the other side has ended.
    fn receive(from: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of it, and waits while there is no room.
    fn send(to: &mut Self::Stream, bytes: &[u8]) -> io::Result<()>;
}

/// [`Net`] for a contender whose sockets have the API of the standard library: the listener's type, and the stream's.
#[macro_export]
macro_rules! net_as_in_std {
    ($contender:ty, $listener:ty, $stream:ty) => {
        impl $crate::concurrency::Net for $contender {
            type Listener = $listener;
            type Stream = $stream;

            fn listen() -> std::io::Result<($listener, std::net::SocketAddr)> {
                let listener = <$listener>::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            }

            fn accept(from: &$listener) -> std::io::Result<$stream> {
                let (stream, _) = from.accept()?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }

            fn receive(from: &mut $stream, buffer: &mut [u8]) -> std::io::Result<usize> {
                std::io::Read::read(from, buffer)
            }

            fn send(to: &mut $stream, bytes: &[u8]) -> std::io::Result<()> {
                std::io::Write::write_all(to, bytes)
            }
        }
    };
}

/// Suspended computations that only their resumer runs.
pub trait Raw: 'static {
    /// One of them.
    type Coroutine;

    /// Makes one with the inside of the model, before its first turn.
    fn coroutine(inside: impl Inside) -> io::Result<Self::Coroutine>;

    /// Runs one turn.
    fn resume(coroutine: &mut Self::Coroutine, turn: Turn);
}

/// What the model does inside a coroutine.
pub trait Inside: 'static {
    /// All turns, on a stack that keeps: `suspend` ends a turn and returns with the next. Never returns.
    fn live(self, first: Turn, suspend: impl FnMut() -> Turn) -> std::convert::Infallible;

    /// One turn alone, for those who have no stack to keep.
    fn turn(&mut self);
}

/// What the resumer asks of a turn. It travels as the value that a resume passes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Go on.
    Stay,
    /// Leave the loop and enter it again at another depth of the stack, then go on.
    Enter,
}
