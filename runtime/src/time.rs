//! Deadlines and `sleep`.
//!
//! A worker keeps the deadlines of its tasks in a heap. Whoever waits with a deadline pushes an entry; an entry whose wait has ended
//! otherwise is stale and stays until it comes to the top or until stale entries are the majority. They are looked at when the
//! worker has nothing to run, and at every so many picks: a busy worker is late by that much, and reads no clock in between.

mod heap;

use std::sync::atomic::Ordering;
use std::time::Duration;

use self::heap::Heap;
use crate::park::Wait;
use crate::sys;
use crate::task::{Kind, Task};

/// A point in time, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    /// The point `duration` from now; the end of time if that is later.
    pub(crate) fn after(duration: Duration) -> Deadline {
        Deadline(sys::now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time from now to the deadline; zero if it has come.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(sys::now_ns()))
    }
}

/// Waits for a time: at least `duration`, and as much longer as the worker takes to come back to this coroutine.
///
/// Suspends, and unwinds if the coroutine is cancelled. Outside a coroutine it lets the OS thread sleep.
#[track_caller]
pub fn sleep(duration: Duration) {
    match Wait::begin(Kind::Sleep) {
        // Published nowhere, so nobody claims it.
        wait @ Wait::Task(_) => {
            wait.wait_until(Some(Deadline::after(duration)), || true);
        }
        Wait::Thread(_) => std::thread::sleep(duration),
    }
}

/// A wait with a deadline. The epoch names it among all waits of that record, so that an entry can tell that it is stale.
#[derive(Clone, Copy, Debug)]
struct Expected {
    task: &'static Task,
    epoch: u32,
}

impl Expected {
    fn is_stale(&self) -> bool {
        // Relaxed: if it is the same, the wait is going on and its task is this worker's, so nobody else writes it.
        self.task.epoch.load(Ordering::Relaxed) != self.epoch
    }
}

/// The deadlines of a worker's tasks.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Heap<Expected>,
    stale: usize,
}

/// Stale entries that are not worth a clean-up.
const FEW: usize = 64;

impl Deadlines {
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Notes the deadline of the wait that `task`, on its own thread, is about to begin.
    pub(crate) fn add(&mut self, task: &'static Task, at: Deadline) {
        // Relaxed: written by the owner alone.
        let epoch = task.epoch.load(Ordering::Relaxed);
        self.heap.push(at.0, Expected { task, epoch });
    }

    /// Notes that this wait has ended, by its deadline or otherwise.
    pub(crate) fn end(&mut self, task: &'static Task, by_deadline: bool) {
        // Relaxed, twice: as in `add`.
        task.epoch.store(task.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if by_deadline {
            return;
        }
        self.stale += 1;
        if self.stale > FEW.max(self.heap.len() / 2) {
            self.heap.retain(|expected| !expected.is_stale());
            self.stale = 0;
        }
    }

    /// The next deadline.
    pub(crate) fn next(&mut self) -> Option<Deadline> {
        while let Some((at, expected)) = self.heap.peek() {
            if !expected.is_stale() {
                return Some(Deadline(at));
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Takes a task whose deadline has come by `now`.
    pub(crate) fn due(&mut self, now: Deadline) -> Option<&'static Task> {
        self.next()?; // What it leaves at the top is not stale.
        self.heap.pop_due(now.0).map(|expected| expected.task)
    }

    pub(crate) fn now() -> Deadline {
        Deadline(sys::now_ns())
    }
}
