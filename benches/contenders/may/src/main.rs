//! may behind the models: its coroutines are stackful and its calls block, so it runs the same source as ours.
//!
//! may has no count of its switches, so this file keeps one: wherever control comes back to a unit, it looks whether
//! another unit had it meanwhile. Only with one worker is that a count of switches, so only then is it reported.

use may::coroutine::{self, Builder, JoinHandle};
use may::net::{TcpListener, TcpStream};
use may::sync::{Semphore, mpmc, mpsc};
use std::fs;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use switchmark_benches::concurrency::{Channel, Concurrency, Ends, UnitOptions};

struct May;

/// Of the dependency in `Cargo.lock`.
const VERSION: &str = "0.3.51";

/// As the manifest has them.
const MODELS: [&str; 8] =
    ["yield-ring", "ping-pong", "spawn-join", "spawn-batch", "tree", "pump", "parked", "echo"];

/// may counts stacks in words.
const WORD: usize = size_of::<usize>();

/// Bytes of a stack that nobody chose: may's default of 0x1000 words.
const STACK: usize = 0x1000 * WORD;

const PAGE: usize = 4096;

/// Bytes of the stack on which the worker's loop and its protocol run; no unit of a model.
const DRIVER_STACK: usize = 1 << 20;

/// Whether one worker runs all units.
static ALONE: AtomicBool = AtomicBool::new(false);
/// Where the stack was of the unit that had control last.
static LAST: AtomicUsize = AtomicUsize::new(0);
/// Times control came to a unit from another one.
static SWITCHES: AtomicU64 = AtomicU64::new(0);

/// Control has come to the calling unit. Two stacks are further apart than their size and a guard page; the frames of
/// one unit that call this are not.
#[inline]
fn arrived() {
    // Relaxed, all: with one worker one thread runs all units, and with more nothing is counted.
    if !ALONE.load(Ordering::Relaxed) {
        return;
    }
    let here = here();
    if here.abs_diff(LAST.load(Ordering::Relaxed)) > STACK / 2 {
        // Not a read-modify-write: nobody else writes.
        SWITCHES.store(SWITCHES.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    LAST.store(here, Ordering::Relaxed);
}

/// An address in the calling frame.
#[inline]
fn here() -> usize {
    let local = 0_u8;
    std::ptr::from_ref(black_box(&local)).addr()
}

impl Concurrency for May {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Unparker = coroutine::Coroutine;
    type Channel = Bounded;

    fn spawn<T: Send + 'static>(
        options: UnitOptions,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        if let Some(cpu) = options.cpu {
            return Err(io::Error::other(format!("a coroutine of may cannot be kept on cpu {cpu}")));
        }
        let mut builder = Builder::new();
        if let Some(bytes) = options.stack {
            builder = builder.stack_size(bytes / WORD);
        }
        may::go!(builder, move || {
            arrived();
            body()
        })
    }

    fn join<T: Send + 'static>(unit: JoinHandle<T>) -> T {
        let answer = unit.join();
        arrived();
        answer.unwrap_or_else(|_| panic!("a unit panicked; its message is above"))
    }

    fn yield_now() {
        coroutine::yield_now();
        arrived();
    }

    fn park() {
        coroutine::park();
        arrived();
    }

    fn unparker() -> coroutine::Coroutine {
        coroutine::current()
    }

    fn unpark(unit: &coroutine::Coroutine) {
        unit.unpark();
    }

    fn switches() -> Option<u64> {
        // Relaxed, both: as in `arrived`.
        ALONE.load(Ordering::Relaxed).then(|| SWITCHES.load(Ordering::Relaxed))
    }

    fn stack() -> Option<Range<usize>> {
        // generator keeps the bounds to itself. What it puts above a unit's first frames is far less than a page, so
        // the stack ends with the page that this frame is in.
        let end = here().next_multiple_of(PAGE);
        Some(end - coroutine::current().stack_size() * WORD..end)
    }

    fn room_for(units: u64) -> Result<(), String> {
        // A stack and its guard page; the pool's thousand and the process itself have some already.
        const MAPPINGS: u64 = 2;
        const OTHERS: u64 = 3000;
        let most =
            fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|n| n.trim().parse::<u64>().ok());
        let room = most.map_or(u64::MAX, |n| n.saturating_sub(OTHERS) / MAPPINGS);
        if units > room {
            return Err(format!(
                "{units} coroutines of may are more than vm.max_map_count leaves room for: about {room} here, at two mappings a stack"
            ));
        }
        Ok(())
    }
}

/// may's channels have no bound. A program that needs one lets senders wait at a semaphore of may's: with a capacity before
/// they put in, with none until theirs has been taken out.
struct Bounded;

#[derive(Clone)]
struct Sender {
    queue: Queue,
    /// Room in the channel, or messages that were taken.
    permits: Arc<Semphore>,
    hand_over: bool,
}

/// With one receiver may's channel for that, with more the other.
#[derive(Clone)]
enum Queue {
    One(mpsc::Sender<u64>),
    Many(mpmc::Sender<u64>),
}

struct Receiver {
    queue: Source,
    permits: Arc<Semphore>,
}

enum Source {
    One(mpsc::Receiver<u64>),
    Many(mpmc::Receiver<u64>),
}

impl Channel for Bounded {
    type Sender = Sender;
    type Receiver = Receiver;

    fn open(capacity: usize, senders: usize, receivers: usize) -> Result<Ends<Bounded>, String> {
        if capacity == 0 && senders > 1 {
            return Err(
                "may has no hand-over; the one made here of a channel and a semaphore has one sender".into(),
            );
        }
        let permits = Arc::new(Semphore::new(capacity));
        let (queue, sources) = if receivers == 1 {
            let (to, from) = mpsc::channel();
            (Queue::One(to), vec![Source::One(from)])
        } else {
            let (to, from) = mpmc::channel();
            (Queue::Many(to), (0..receivers).map(|_| Source::Many(from.clone())).collect())
        };
        let receiver = |queue| Receiver { queue, permits: Arc::clone(&permits) };
        let ends = sources.into_iter().map(receiver).collect();
        let sender = Sender { queue, permits: Arc::clone(&permits), hand_over: capacity == 0 };
        Ok((vec![sender; senders], ends))
    }

    fn send(to: &Sender, number: u64) {
        if !to.hand_over {
            to.permits.wait();
            arrived();
        }
        match &to.queue {
            Queue::One(queue) => queue.send(number).expect("the receiver lives as long as the cell"),
            Queue::Many(queue) => queue.send(number).expect("the receivers live as long as the cell"),
        }
        if to.hand_over {
            to.permits.wait();
            arrived();
        }
    }

    fn receive(from: &Receiver) -> u64 {
        let number = match &from.queue {
            Source::One(queue) => queue.recv(),
            Source::Many(queue) => queue.recv(),
        };
        arrived();
        from.permits.post();
        number.expect("the senders live as long as the cell")
    }
}

switchmark_benches::net_as_in_std!(May, TcpListener, TcpStream);

fn main() -> io::Result<()> {
    switchmark_benches::serve_units::<May>("may", VERSION, &MODELS, |prepare, work| {
        let workers = prepare.cpus.len();
        // Before the first coroutine, which starts the scheduler.
        may::config().set_workers(workers).set_stack_size(STACK / WORD);
        // may pins its workers, in turn, to the CPUs that it may use; `free` means that nobody does.
        may::config().set_worker_pin(prepare.placement != "free");
        // Relaxed: the spawn below publishes it.
        ALONE.store(workers == 1, Ordering::Relaxed);
        // From a coroutine may spawns and joins three times as fast as from a thread.
        let driver = may::go!(Builder::new().stack_size(DRIVER_STACK / WORD), work)?;
        driver.join().unwrap_or_else(|_| Err(io::Error::other("the cell panicked; its message is above")))
    })
}
