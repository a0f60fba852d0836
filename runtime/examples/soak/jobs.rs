//! The jobs of the soak: each a coroutine that spawns others, lets them meet in one way, and sees to their end. Any of them may be
//! cancelled at any time, so whoever waits for somebody waits for something that also its unwinding does.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use switchmark_runtime::chan::{self, Receiver, Sender};
use switchmark_runtime::chan::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use switchmark_runtime::{
    JoinSet, Unparker, cancel, park, park_timeout, raw, scope, select, sleep, spawn, spawn_local, task,
    unparker, yield_now,
};

use super::books::{BOOKS, Child, Me, Order, Outcome, Parcel, Rng, add, claim, sending, unit};
use super::{locks, outside};

/// Something by chance, with what is going on below it.
pub(crate) fn job(me: &mut Me) {
    add(&BOOKS.jobs);
    match me.rng.below(14) {
        0 => family(me),
        1 => borrowers(me),
        2 => set(me),
        3 | 4 => pipe(me),
        5 => selects(me),
        6 => ping_pong(me),
        7 => locals(me),
        8 => deep(me),
        9 => stubborn(me),
        10..13 => locks::job(me),
        _ => raws(me),
    }
}

pub(crate) fn micros(rng: &mut Rng, below: u64) -> Duration {
    Duration::from_micros(rng.below(below))
}

/// A while, spent in one of the ways.
pub(crate) fn dawdle(me: &mut Me) {
    match me.rng.below(8) {
        0 => sleep(micros(&mut me.rng, 300)),
        1 => {
            if !park_timeout(micros(&mut me.rng, 100)) {
                add(&BOOKS.time_outs);
            }
        }
        2 => {}
        _ => (0..me.rng.below(6)).for_each(|_| yield_now()),
    }
}

/// Waits in its drop, which in an unwinding is a wait that nothing cancels.
struct LeavesSlowly(u64);

impl Drop for LeavesSlowly {
    fn drop(&mut self) {
        match self.0 {
            0 => yield_now(),
            us => _ = park_timeout(Duration::from_micros(us)),
        }
    }
}

/// What a child does that has nothing to do in particular: dawdles, goes on with a job of its own, or panics.
fn errand(me: &mut Me) {
    let _slowly = me.rng.once_in(4).then(|| LeavesSlowly(me.rng.below(60)));
    dawdle(me);
    if me.depth > 0 && me.rng.once_in(6) {
        job(me);
    }
    if me.rng.once_in(12) {
        me.boom();
    }
}

pub(crate) fn child(me: &mut Me, body: impl FnOnce(&mut Me) + Send + 'static) -> Child {
    let depth = me.depth.saturating_sub(1);
    let (body, expected) = unit(&mut me.rng, depth, body);
    let handle = match me.rng.below(6) {
        0 => {
            let bytes = 64 << (10 + 2 * me.rng.below(3));
            let builder = task::Builder::new().name(format!("child {bytes}")).stack_size(bytes);
            builder.spawn(body).expect("there is such a stack")
        }
        1 => {
            // Not while the runtime ends, which this program waits with until all is done.
            let worker = usize::try_from(me.rng.below(2)).expect("a small number");
            task::Builder::new().worker(worker).spawn(body).expect("there is such a worker")
        }
        _ => spawn(body),
    };
    Child { handle, expected }
}

/// Comes to an end with a child, in one of the ways.
pub(crate) fn part(me: &mut Me, child: Child) {
    match me.rng.below(10) {
        0 => drop(child),
        1 => {
            child.cancel();
            drop(child);
        }
        2 => {
            child.cancel();
            child.join();
        }
        3 => {
            if let Err(child) = child.join_timeout(micros(&mut me.rng, 200)) {
                child.cancel();
                child.join();
            }
        }
        4 => outside::join(child),
        5 => outside::cancel(child, me.rng.once_in(2)),
        _ => child.join(),
    }
}

fn family(me: &mut Me) {
    let children: Vec<Child> = (0..=me.rng.below(12)).map(|_| child(me, errand)).collect();
    for child in children {
        part(me, child);
    }
}

/// Counts somebody in and out.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub(crate) fn new(inside: &'a AtomicU64) -> Counted<'a> {
        inside.fetch_add(1, Ordering::Relaxed);
        Counted(inside)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A panic on purpose that came out of a scope is taken; a cancellation goes on.
fn take_panic(outcome: std::thread::Result<()>) {
    if let Err(payload) = outcome
        && !payload.is::<Outcome>()
    {
        panic::resume_unwind(payload);
    }
}

fn borrowers(me: &mut Me) {
    let inside = AtomicU64::new(0);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            for _ in 0..me.rng.below(8) {
                let inside = &inside;
                let (body, expected) = unit(&mut me.rng, 0, move |me: &mut Me| {
                    let _counted = Counted::new(inside);
                    add(&BOOKS.borrows);
                    errand(me);
                });
                let child = s.spawn(body);
                match me.rng.below(5) {
                    0 => claim(child.cancel().is_ok(), "this program unwinds"),
                    1 => expected.check(&child.join()),
                    _ => {}
                }
            }
            if me.rng.once_in(8) {
                panic::panic_any(Outcome::new()); // The scope's own, not this coroutine's.
            }
        });
    }));
    claim(inside.load(Ordering::Relaxed) == 0, "a scope was left that somebody still borrows from");
    take_panic(outcome);
}

fn set(me: &mut Me) {
    let mut set = JoinSet::new();
    let members = me.rng.below(10);
    for _ in 0..members {
        // Who of them ends first is not known, so the outcomes are not compared one by one.
        let (body, _expected) = unit(&mut me.rng, 0, errand);
        set.spawn(body);
    }
    let mut joined = 0;
    let patience = me.rng.below(2 * members + 1);
    while joined < patience && set.join_next().is_some() {
        joined += 1;
    }
    if me.rng.once_in(2) {
        claim(set.cancel_all().is_ok(), "this program unwinds");
        while set.join_next().is_some() {
            joined += 1;
        }
        claim(joined == members, "a set lost a member");
    }
}

fn channel(rng: &mut Rng) -> (Sender<Parcel>, Receiver<Parcel>) {
    match rng.below(5) {
        0 | 1 => chan::rendezvous(),
        2 => chan::bounded(1),
        3 => chan::bounded(7),
        _ => chan::unbounded(),
    }
}

/// Sends so many values, in whatever way, until nobody receives any more.
pub(crate) fn send_some(rng: &mut Rng, sender: &Sender<Parcel>, pause: impl Fn(&mut Rng)) {
    let me = rng.next();
    for number in 0..rng.below(24) {
        let parcel = Parcel::new(me, number);
        let went = match rng.below(4) {
            0 => sending(|| sender.try_send(parcel).map_err(TrySendError::into_inner)),
            1 => {
                let time = micros(rng, 100);
                sending(|| sender.send_timeout(parcel, time).map_err(SendTimeoutError::into_inner))
            }
            _ => sending(|| sender.send(parcel).map_err(chan::SendError::into_inner)),
        };
        if !went && sender.is_closed() {
            break;
        }
        if rng.once_in(6) {
            pause(rng);
        }
    }
}

/// Receives, in whatever way, until nobody sends any more or there is enough.
pub(crate) fn receive_some(rng: &mut Rng, receiver: &Receiver<Parcel>, pause: impl Fn(&mut Rng)) {
    let mut order = Order::default();
    let enough = if rng.once_in(5) { rng.below(10) } else { u64::MAX };
    let mut took = 0;
    while took < enough {
        let parcel = match rng.below(4) {
            0 => match receiver.try_recv() {
                Ok(parcel) => Some(parcel),
                Err(TryRecvError::Closed) => break,
                Err(TryRecvError::Empty) => None,
            },
            1 => match receiver.recv_timeout(micros(rng, 100)) {
                Ok(parcel) => Some(parcel),
                Err(RecvTimeoutError::Closed) => break,
                Err(RecvTimeoutError::Timeout) => {
                    add(&BOOKS.time_outs);
                    None
                }
            },
            _ => match receiver.recv() {
                Ok(parcel) => Some(parcel),
                Err(chan::RecvError) => break,
            },
        };
        match parcel {
            Some(parcel) => {
                took += 1;
                order.took(parcel);
            }
            None => pause(rng),
        }
    }
}

fn pipe(me: &mut Me) {
    let (sender, receiver) = channel(&mut me.rng);
    let mut parties = Vec::new();
    for _ in 0..=me.rng.below(3) {
        let sender = sender.clone();
        parties.push(child(me, move |me| send_some(&mut me.rng, &sender, |_| yield_now())));
    }
    for _ in 0..=me.rng.below(3) {
        let receiver = receiver.clone();
        parties.push(child(me, move |me| receive_some(&mut me.rng, &receiver, |_| yield_now())));
    }
    // A thread on one side at most, so that no thread waits for another.
    let seed = me.rng.next();
    match me.rng.below(4) {
        0 => {
            drop(receiver);
            outside::run(move || send_some(&mut Rng::new(seed), &sender, |_| std::thread::yield_now()));
        }
        1 => {
            drop(sender);
            outside::run(move || receive_some(&mut Rng::new(seed), &receiver, |_| std::thread::yield_now()));
        }
        _ => drop((sender, receiver)),
    }
    for party in parties {
        part(me, party);
    }
}

fn selects(me: &mut Me) {
    let (give_a, a) = channel(&mut me.rng);
    let (give_b, b) = channel(&mut me.rng);
    let (give_c, c) = channel(&mut me.rng);
    let mut parties = Vec::new();
    for give in [give_a, give_b] {
        parties.push(child(me, move |me| send_some(&mut me.rng, &give, |_| yield_now())));
    }
    let takes = c.clone();
    parties.push(child(me, move |me| receive_some(&mut me.rng, &takes, |_| yield_now())));
    if me.rng.once_in(2) {
        drop(c); // Then the sends of this select learn that nobody receives.
    }
    let (mut open_a, mut open_b) = (true, true);
    let sender = me.rng.next();
    let mut number = 0;
    let (mut from_a, mut from_b) = (Order::default(), Order::default());
    while open_a || open_b {
        add(&BOOKS.chosen);
        match me.rng.below(3) {
            0 => select! {
                parcel = a, if open_a => match parcel {
                    Ok(parcel) => from_a.took(parcel),
                    Err(_) => open_a = false,
                },
                parcel = b, if open_b => match parcel {
                    Ok(parcel) => from_b.took(parcel),
                    Err(_) => open_b = false,
                },
                _ = deadline(micros(&mut me.rng, 200)) => add(&BOOKS.time_outs),
            },
            1 => select! {
                parcel = b, if open_b => match parcel {
                    Ok(parcel) => from_b.took(parcel),
                    Err(_) => open_b = false,
                },
                parcel = a, if open_a => match parcel {
                    Ok(parcel) => from_a.took(parcel),
                    Err(_) => open_a = false,
                },
                default => yield_now(),
            },
            _ => {
                let parcel = Parcel::new(sender, number);
                number += 1;
                sending(|| {
                    let mut give = chan::select::send(&give_c, parcel);
                    let mut take = chan::select::receive(&a).only_if(open_a);
                    chan::select::wait_until(&mut [&mut give, &mut take], Duration::from_micros(100));
                    match take.outcome() {
                        Some(Ok(parcel)) => from_a.took(parcel),
                        Some(Err(_)) => open_a = false,
                        None => {}
                    }
                    match give.outcome() {
                        Some(outcome) => outcome.map_err(chan::SendError::into_inner),
                        None => Err(give.into_value().expect("it was not sent")),
                    }
                });
            }
        }
    }
    drop((give_c, a, b));
    for party in parties {
        part(me, party);
    }
}

/// Says that no more unparks come, also when unwinding.
struct Last {
    over: Arc<AtomicBool>,
    to: Unparker,
}

impl Last {
    fn unpark(&self) {
        add(&BOOKS.unparks);
        self.to.unpark();
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.unpark();
    }
}

fn ping_pong(me: &mut Me) {
    // Dawdling before may have left a token of nobody's: there is none, as nobody knew this coroutine.
    let mut others = Vec::new();
    let mut flags = Vec::new();
    for _ in 0..=me.rng.below(3) {
        let over = Arc::new(AtomicBool::new(false));
        flags.push(Arc::clone(&over));
        let last = Last { over, to: unparker() };
        others.push(child(me, move |me| {
            for _ in 0..me.rng.below(20) {
                last.unpark();
                if me.rng.once_in(3) {
                    yield_now();
                }
            }
        }));
    }
    if me.rng.once_in(2) {
        let over = Arc::new(AtomicBool::new(false));
        flags.push(Arc::clone(&over));
        let last = Last { over, to: unparker() };
        outside::run(move || (0..10).for_each(|_| last.unpark()));
    }
    while !flags.iter().all(|over| over.load(Ordering::Acquire)) {
        if me.rng.once_in(4) {
            if park_timeout(micros(&mut me.rng, 50)) {
                add(&BOOKS.parks);
            } else {
                add(&BOOKS.time_outs);
            }
        } else {
            park();
            add(&BOOKS.parks);
        }
    }
    // The token that may be left would be taken for one by whatever this coroutine does next; used up, it is counted.
    if park_timeout(Duration::ZERO) {
        add(&BOOKS.parks);
    }
    for other in others {
        part(me, other);
    }
}

fn locals(me: &mut Me) {
    let shared = Rc::new(Cell::new(0));
    let here = std::thread::current().id();
    let mut children = Vec::new();
    for _ in 0..me.rng.below(8) {
        let mine = Rc::clone(&shared);
        let (body, expected) = unit(&mut me.rng, 0, move |me: &mut Me| {
            let before = mine.get();
            mine.set(before + 1);
            dawdle(me);
            claim(std::thread::current().id() == here, "a local coroutine left its thread");
            mine.set(mine.get() + 1);
        });
        children.push((spawn_local(body), expected));
    }
    for (child, expected) in children {
        match me.rng.below(4) {
            0 => claim(child.cancel().is_ok(), "this program unwinds"),
            1 => {
                if let Ok(outcome) = child.join_timeout(micros(&mut me.rng, 100)) {
                    expected.check(&outcome);
                }
            }
            _ => expected.check(&child.join()),
        }
    }
}

/// Uses `bytes` of stack, waits down there, and says what it read.
#[inline(never)]
pub(crate) fn descend(bytes: u64) -> u64 {
    let page = std::hint::black_box([7_u8; 2048]);
    if bytes < 4096 {
        yield_now();
        return u64::from(page[99]);
    }
    descend(bytes - 2048) + u64::from(std::hint::black_box(&page)[99])
}

fn deep(me: &mut Me) {
    for bytes in [64 << 10, 256 << 10, 1 << 20] {
        let (body, expected) = unit(&mut me.rng, 0, move |me: &mut Me| {
            let some = me.rng.below(bytes / 3);
            claim(descend(some).is_multiple_of(7), "a frame was overwritten");
            errand(me);
        });
        let size = usize::try_from(bytes).expect("a small number");
        let handle =
            task::Builder::new().name("deep").stack_size(size).spawn(body).expect("there is such a stack");
        part(me, Child { handle, expected });
    }
}

/// Masks and swallows cancellations.
fn stubborn(me: &mut Me) {
    let children: Vec<Child> = (0..4)
        .map(|_| {
            child(me, |me| {
                cancel::mask(|| dawdle(me));
                let swallowed = panic::catch_unwind(AssertUnwindSafe(|| dawdle(me)));
                if swallowed.is_err() {
                    claim(cancel::is_requested(), "something unwound without a reason");
                }
                dawdle(me);
            })
        })
        .collect();
    for child in children {
        child.cancel();
        part(me, child);
    }
}

fn raws(me: &mut Me) {
    let rounds = me.rng.below(10);
    let stack = raw::Stack::new(64 << 10).expect("there is a stack");
    let body = |yielder: &raw::Yielder<u64, u64>, mut number: u64| {
        loop {
            yield_now(); // Suspends the coroutine in which this one is a guest.
            number = yielder.suspend(number + 1);
        }
    };
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local, and it is dropped below.
    let mut raw = unsafe { raw::Coroutine::new(stack, body) };
    for round in 0..rounds {
        match raw.resume(round) {
            raw::State::Yielded(number) => claim(number == round + 1, "a raw coroutine miscounted"),
            raw::State::Returned(()) => claim(false, "a loop without an end returned"),
        }
    }
}
