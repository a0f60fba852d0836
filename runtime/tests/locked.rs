//! What each operation costs in locked operations (exchanges, counters, fences that stop the processor), counted, and held to the table in
//! the crate's documentation.
//!
//! All on one worker and with nobody else in the way, so that the numbers are exact. `Arc` and what the standard library does inside
//! are not counted, nor is anything in a release build.

use switchmark_runtime::sync::{Event, Mutex, OnceCell, RwLock, Semaphore};
use switchmark_runtime::{
    Builder, chan, current, locked_operations, park, scope, sleep, spawn, unparker, yield_now,
};

const TIMES: u64 = 100;

/// Locked operations of `body` on this thread, each of so many times.
fn each(mut body: impl FnMut()) -> u64 {
    // The first time may make room, fill a magazine or register something.
    body();
    let before = locked_operations().expect("counted in debug builds");
    for _ in 0..TIMES {
        body();
    }
    let total = locked_operations().unwrap() - before;
    assert_eq!(total % TIMES, 0, "{total} in {TIMES} times");
    total / TIMES
}

/// As [`each`], with a coroutine beside it that does the other half until it is cancelled.
fn beside(mut other: impl FnMut() + Send + 'static, ours: impl FnMut()) -> u64 {
    let unit = spawn(move || {
        loop {
            other();
        }
    });
    yield_now();
    let cost = each(ours);
    unit.cancel().unwrap();
    unit.join().unwrap_err();
    cost
}

fn park_and_unpark() -> u64 {
    let me = unparker();
    let (tell, told) = chan::bounded(1);
    let mut tell = Some(tell);
    let other = move || {
        if let Some(tell) = tell.take() {
            tell.send(unparker()).unwrap();
        }
        park();
        me.unpark();
    };
    let mut unparker = None;
    beside(other, || {
        unparker.get_or_insert_with(|| told.recv().unwrap()).unpark();
        park();
    })
}

fn there_and_back(pair: fn() -> (chan::Sender<u64>, chan::Receiver<u64>)) -> u64 {
    let ((to, from_us), (to_us, from)) = (pair(), pair());
    let echo = move || to_us.send(from_us.recv().unwrap()).unwrap();
    beside(echo, || {
        to.send(1).unwrap();
        from.recv().unwrap();
    })
}

fn buffered() -> u64 {
    let (sender, receiver) = chan::bounded(1);
    each(|| {
        sender.send(1).unwrap();
        receiver.recv().unwrap();
    })
}

fn measured() -> Vec<(&'static str, u64)> {
    let (mutex, lock, semaphore) = (Mutex::new(0), RwLock::new(0), Semaphore::new(1));
    let (event, cell) = (Event::new(), OnceCell::new());
    event.set();
    cell.get_or_init(|| 1);
    vec![
        ("`yield_now`", beside(yield_now, yield_now)),
        ("`current`", each(|| drop(current()))),
        ("`park` and `unpark`, there and back", park_and_unpark()),
        ("`sleep`", each(|| sleep(std::time::Duration::ZERO))),
        ("`spawn` and `join`, one after the other", each(|| spawn(|| ()).join().unwrap())),
        (
            "`spawn`, detached",
            each(|| {
                drop(spawn(|| ()));
                yield_now();
            }),
        ),
        (
            "`scope` with one child",
            each(|| {
                scope(|s| {
                    s.spawn(|| ());
                });
            }),
        ),
        ("rendezvous channel, there and back", there_and_back(chan::rendezvous)),
        ("bounded channel, there and back", there_and_back(|| chan::bounded(1))),
        ("bounded channel, `send` and `recv` of what is there", buffered()),
        ("`Mutex::lock` and unlock", each(|| *mutex.lock().unwrap() += 1)),
        ("`RwLock::read` and unlock", each(|| drop(lock.read().unwrap()))),
        ("`RwLock::write` and unlock", each(|| *lock.write().unwrap() += 1)),
        ("`Semaphore::acquire` and release", each(|| drop(semaphore.acquire()))),
        ("`Event::wait`, set", each(|| event.wait())),
        ("`OnceCell::get_or_init`, full", each(|| assert_eq!(cell.get_or_init(|| 1), &1))),
    ]
}

#[test]
fn locked_operations_are_those_of_the_table() {
    if locked_operations().is_none() {
        println!("skipped: locked operations are counted in debug builds only");
        return;
    }
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    let measured = unsafe { Builder::new().run_local(measured) }.unwrap();
    let table: Vec<String> =
        measured.into_iter().map(|(name, cost)| format!("//! | {name} | {cost} |")).collect();
    let documented: Vec<&str> = include_str!("../src/lib.rs")
        .lines()
        .skip_while(|line| !line.starts_with("//! | operation |"))
        .skip(2)
        .take_while(|line| line.starts_with("//! |"))
        .collect();
    assert_eq!(table, documented, "runtime/src/lib.rs has another table");
}
