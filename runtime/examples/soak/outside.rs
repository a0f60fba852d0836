//! OS threads beside the workers: they join, cancel, send, receive and unpark from outside.

use std::sync::mpsc::{self, Sender};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::books::{BOOKS, Child, add, claim};

type Task = Box<dyn FnOnce() + Send>;

/// How many threads there are.
const THREADS: usize = 2;

/// Begun and not ended.
static PENDING: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

static QUEUE: LazyLock<Mutex<Sender<Task>>> = LazyLock::new(|| {
    let (sender, tasks) = mpsc::channel::<Task>();
    let tasks: &'static Mutex<_> = Box::leak(Box::new(Mutex::new(tasks)));
    for _ in 0..THREADS {
        std::thread::spawn(move || {
            loop {
                let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(task) = next else { return };
                task();
                PENDING.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
    }
    Mutex::new(sender)
});

/// Starts the threads.
pub(crate) fn start() {
    LazyLock::force(&QUEUE);
}

/// How many tasks are left.
pub(crate) fn pending() -> u64 {
    PENDING.load(std::sync::atomic::Ordering::SeqCst)
}

/// Has a thread do something; never waits. If it waits for anybody, then for coroutines that wait for no other such task.
pub(crate) fn run(task: impl FnOnce() + Send + 'static) {
    add(&BOOKS.outside);
    PENDING.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let sent = QUEUE.lock().unwrap_or_else(PoisonError::into_inner).send(Box::new(task));
    claim(sent.is_ok(), "the threads outside are gone");
}

/// Has a thread wait for a child, cancelling it if it takes long: it may wait for another task of these threads.
pub(crate) fn join(child: Child) {
    run(|| {
        if let Err(child) = child.join_timeout(Duration::from_micros(500)) {
            cancel_here(child, true);
        }
    });
}

/// Has a thread cancel a child.
pub(crate) fn cancel(child: Child, joins: bool) {
    run(move || cancel_here(child, joins));
}

fn cancel_here(child: Child, joins: bool) {
    add(&BOOKS.cancels_outside);
    claim(child.handle.cancel().is_ok(), "this program unwinds");
    if joins {
        child.join();
    }
}
