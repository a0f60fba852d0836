//! The books of the soak: what was begun and what became of it, by drop-counted values. [`Books::balance`] says where they do not add up.
//!
//! A mistake found in the middle (an order that broke, an outcome that does not fit) is noted and printed at once rather than panicked: a
//! panic would be one among many on purpose.

use std::collections::HashMap;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use switchmark_runtime::{JoinError, JoinHandle, Metrics, cancel};

/// Numbers without pattern, always the same after the same seed.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Steele and others' splitmix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

macro_rules! books {
    ($($count:ident: $what:literal,)*) => {
        /// Everything that is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Books {
            $(#[doc = $what] pub(crate) $count: AtomicU64,)*
        }

        impl Books {
            const fn new() -> Books {
                Books { $($count: AtomicU64::new(0),)* }
            }

            /// A line for each count.
            pub(crate) fn lines(&self) -> String {
                let mut lines = String::new();
                $(lines.push_str(&format!("  {:>12}  {}\n", count(&self.$count), $what));)*
                lines
            }
        }
    };
}

books! {
    mistakes: "mistakes noted",
    units: "coroutines asked for",
    values: "that gave a value",
    panics: "that panicked on purpose",
    cancelled: "that unwound, cancelled",
    never_ran: "that were cancelled before they ran",
    joined: "joined",
    detached: "detached, before or after their end",
    made: "values made to be sent",
    received: "received",
    given_back: "given back by an error",
    dropped: "dropped by a channel, or in an unwinding",
    offered: "sends begun",
    sent: "sends that succeeded",
    refused: "sends that gave the value back",
    unwound: "sends that unwound",
    results: "results and payloads of panics made",
    results_dropped: "results and payloads of panics dropped",
    unparks: "unparks",
    parks: "returns of park",
    time_outs: "waits that ended by their deadline",
    borrows: "children that used what they borrow from outside a scope",
    cancels: "cancellations asked for, by coroutines",
    cancels_outside: "cancellations asked for, by OS threads",
    chosen: "arms that selects chose",
    held: "times a lock, a permit or goods were had",
    jobs: "jobs",
    outside: "tasks of OS threads",
}

pub(crate) static BOOKS: Books = Books::new();

pub(crate) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A count, exact once everything has come to rest.
pub(crate) fn count(count: &AtomicU64) -> u64 {
    count.load(Ordering::SeqCst)
}

/// Notes a mistake.
pub(crate) fn mistake(what: &str) {
    add(&BOOKS.mistakes);
    eprintln!("MISTAKE: {what}");
}

pub(crate) fn claim(holds: bool, what: &str) {
    if !holds {
        mistake(what);
    }
}

impl Books {
    /// Says what does not add up, when all has ended.
    pub(crate) fn balance(&self, metrics: Metrics) -> Vec<String> {
        let of = count;
        let mut wrong = Vec::new();
        let mut same = |what: &str, left: u64, right: u64| {
            if left != right {
                wrong.push(format!("{what}: {left} against {right}"));
            }
        };
        same("mistakes", of(&self.mistakes), 0);
        same("spawned by our count and the runtime's", of(&self.units), metrics.spawned);
        same("spawned and ended", metrics.spawned, metrics.ended);
        let by_outcome = of(&self.values) + of(&self.panics) + of(&self.cancelled) + of(&self.never_ran);
        same("coroutines and their outcomes", of(&self.units), by_outcome);
        same(
            "coroutines and what became of their handles",
            of(&self.units),
            of(&self.joined) + of(&self.detached),
        );
        let by_fate = of(&self.received) + of(&self.given_back) + of(&self.dropped);
        same("values made and their fates", of(&self.made), by_fate);
        same("sends and values made", of(&self.offered), of(&self.made));
        let by_end = of(&self.sent) + of(&self.refused) + of(&self.unwound);
        same("sends and how they ended", of(&self.offered), by_end);
        same("values given back", of(&self.refused), of(&self.given_back));
        same("values sent", of(&self.sent) + of(&self.unwound), of(&self.received) + of(&self.dropped));
        same("results made and dropped", of(&self.results), of(&self.results_dropped));
        if of(&self.parks) > of(&self.unparks) {
            wrong.push(format!("{} parks returned, of {} unparks", of(&self.parks), of(&self.unparks)));
        }
        wrong
    }
}

/// What a coroutine leaves: its value, or what it panics with.
#[derive(Debug)]
pub(crate) struct Outcome(());

impl Outcome {
    pub(crate) fn new() -> Outcome {
        add(&BOOKS.results);
        Outcome(())
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        add(&BOOKS.results_dropped);
    }
}

/// Keeps panics on purpose off the screen, and takes every other for a mistake.
pub(crate) fn install_hook() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Outcome>() {
            add(&BOOKS.mistakes);
            others(info);
        }
    }));
}

const FRESH: u8 = 0;
const RUNS: u8 = 1;
const VALUE: u8 = 2;
const PANIC: u8 = 3;
const CANCELLED: u8 = 4;
const NEVER_RAN: u8 = 5;

/// A coroutine, seen from inside: its numbers, and its line in the books.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) rng: Rng,
    /// How much deeper it may spawn.
    pub(crate) depth: u32,
    fate: Arc<AtomicU8>,
}

impl Me {
    /// Panics on purpose.
    pub(crate) fn boom(&mut self) -> ! {
        self.fate.store(PANIC, Ordering::Relaxed);
        panic::panic_any(Outcome::new())
    }
}

impl Drop for Me {
    fn drop(&mut self) {
        let books = &BOOKS;
        let count = match self.fate.load(Ordering::Relaxed) {
            FRESH => {
                self.fate.store(NEVER_RAN, Ordering::Release);
                &books.never_ran
            }
            RUNS => {
                claim(cancel::is_requested(), "a coroutine unwinds that was not cancelled");
                self.fate.store(CANCELLED, Ordering::Release);
                &books.cancelled
            }
            VALUE => &books.values,
            _ => &books.panics,
        };
        add(count);
    }
}

/// A body with its line in the books, and what a joiner is to expect. `Send` if the body is.
pub(crate) fn unit<F: FnOnce(&mut Me)>(
    rng: &mut Rng,
    depth: u32,
    body: F,
) -> (impl FnOnce() -> Outcome + use<F>, Expected) {
    add(&BOOKS.units);
    let fate = Arc::new(AtomicU8::new(FRESH));
    let mut me = Me { rng: Rng::new(rng.next()), depth, fate: Arc::clone(&fate) };
    let body = move || {
        me.fate.store(RUNS, Ordering::Relaxed);
        body(&mut me);
        me.fate.store(VALUE, Ordering::Relaxed);
        Outcome::new()
    };
    (body, Expected { fate, joined: false })
}

/// The other half of a handle: what its `join` has to give.
#[derive(Debug)]
pub(crate) struct Expected {
    fate: Arc<AtomicU8>,
    joined: bool,
}

impl Expected {
    /// What a join gave.
    pub(crate) fn check(mut self, outcome: &Result<Outcome, JoinError>) {
        self.joined = true;
        // What the coroutine did comes before its end, and that before this.
        let fate = self.fate.load(Ordering::Relaxed);
        let fits = match outcome {
            Ok(_) => fate == VALUE,
            Err(JoinError::Panic(failed)) => fate == PANIC && failed.cause.is::<Outcome>(),
            Err(JoinError::Cancelled(_)) => matches!(fate, CANCELLED | NEVER_RAN),
            Err(JoinError::NoStack(_)) => false,
        };
        claim(fits, &format!("join gave {outcome:?}, the coroutine's fate is {fate}"));
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        add(if self.joined { &BOOKS.joined } else { &BOOKS.detached });
    }
}

/// A coroutine to be joined, or not.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) handle: JoinHandle<Outcome>,
    pub(crate) expected: Expected,
}

impl Child {
    pub(crate) fn join(self) {
        self.expected.check(&self.handle.join());
    }

    pub(crate) fn cancel(&self) {
        add(&BOOKS.cancels);
        claim(self.handle.cancel().is_ok(), "this program unwinds");
    }

    /// Joins it if it ends in time.
    pub(crate) fn join_timeout(self, time: Duration) -> Result<(), Child> {
        match self.handle.join_timeout(time) {
            Ok(outcome) => {
                self.expected.check(&outcome);
                Ok(())
            }
            Err(handle) => {
                add(&BOOKS.time_outs);
                Err(Child { handle, expected: self.expected })
            }
        }
    }
}

const MADE: u8 = 0;
const RECEIVED: u8 = 1;
const GIVEN_BACK: u8 = 2;

/// A value to be sent; its drop writes down what became of it.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) sender: u64,
    pub(crate) number: u64,
    fate: u8,
}

impl Parcel {
    pub(crate) fn new(sender: u64, number: u64) -> Parcel {
        add(&BOOKS.made);
        Parcel { sender, number, fate: MADE }
    }

    pub(crate) fn received(mut self) -> (u64, u64) {
        self.fate = RECEIVED;
        (self.sender, self.number)
    }

    pub(crate) fn given_back(mut self) {
        self.fate = GIVEN_BACK;
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        add(match self.fate {
            RECEIVED => &BOOKS.received,
            GIVEN_BACK => &BOOKS.given_back,
            _ => &BOOKS.dropped,
        });
    }
}

/// Counts a send, however it ends. Returns whether the value went.
pub(crate) fn sending(send: impl FnOnce() -> Result<(), Parcel>) -> bool {
    struct Unwound;
    impl Drop for Unwound {
        fn drop(&mut self) {
            add(&BOOKS.unwound);
        }
    }
    add(&BOOKS.offered);
    let unwound = Unwound;
    let outcome = send();
    std::mem::forget(unwound);
    match outcome {
        Ok(()) => {
            add(&BOOKS.sent);
            true
        }
        Err(parcel) => {
            add(&BOOKS.refused);
            parcel.given_back();
            false
        }
    }
}

/// Sees that the values of each sender come to one receiver in their order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: HashMap<u64, u64>,
}

impl Order {
    pub(crate) fn took(&mut self, parcel: Parcel) {
        let (sender, number) = parcel.received();
        let next = self.next.entry(sender).or_default();
        claim(number >= *next, "two values of one sender came to a receiver in the wrong order");
        *next = number + 1;
    }
}
