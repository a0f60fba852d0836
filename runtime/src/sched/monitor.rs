//! A thread beside the workers that looks who runs for too long; only in a runtime that asked for one (`Builder::preemption`).
//!
//! It never touches a worker. It reads how many switches each has made; one that has made none since the last slice began is *stuck*. For
//! it the monitor writes down a request ([`Watch::ask`]), which `checkpoint` and calls that may suspend find; and, with hand-off, calls
//! a **spare**: a worker with a thread of its own that otherwise takes nothing, and now takes what nobody has started. So a request is
//! the number of the turn it is meant for, and one that comes too late asks nobody.
//!
//! It looks every [`Monitor::tick`], as Go's `sysmon` does, and sleeps while every worker sleeps: then nobody runs for too long.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

use super::scheduler::Scheduler;
use super::worker::Worker;
use crate::atomic::plain::{Condvar, Mutex};
use crate::sys;

/// What a worker and the monitor say to each other.
#[derive(Debug)]
#[repr(align(64))] // Written by another thread: not in a line that the worker writes at every switch.
pub(super) struct Watch {
    /// Whether there is a monitor.
    pub(super) on: bool,
    /// The turn that is asked to end, by the count of switches.
    asked: AtomicU64,
    /// When the worker's next deadline comes, as far as it has said.
    due_ns: AtomicU64,
    /// For a spare: there is something to take.
    called: AtomicBool,
}

/// Asks no turn, and is never due.
const NEVER: u64 = u64::MAX;

impl Watch {
    pub(super) fn new(on: bool) -> Watch {
        Watch {
            on,
            asked: AtomicU64::new(NEVER),
            due_ns: AtomicU64::new(NEVER),
            called: AtomicBool::new(false),
        }
    }

    /// Whether turn number `turn` was asked to end.
    #[inline(always)]
    pub(super) fn is_asked(&self, turn: u64) -> bool {
        // Relaxed: a hint about time, which publishes nothing.
        self.asked.load(Ordering::Relaxed) == turn
    }

    fn ask(&self, turn: u64) {
        // Relaxed: as above.
        self.asked.store(turn, Ordering::Relaxed);
    }

    /// The worker heeds what it was asked.
    pub(super) fn heed(&self) {
        self.ask(NEVER);
    }

    /// The worker has a deadline that may be the next.
    #[inline]
    pub(super) fn expect(&self, at_ns: u64) {
        // Relaxed, twice: written by the worker alone, and a hint.
        if self.on && at_ns < self.due_ns.load(Ordering::Relaxed) {
            self.due_ns.store(at_ns, Ordering::Relaxed);
        }
    }

    /// The worker has looked at its deadlines; the next is this.
    pub(super) fn looked(&self, next_ns: Option<u64>) {
        // Relaxed: as in `expect`.
        self.due_ns.store(next_ns.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// A spare answers a call, if there was one.
    pub(super) fn answer(&self) -> bool {
        // Relaxed: what it then takes is published by the queues.
        self.called.swap(false, Ordering::Relaxed)
    }
}

/// The monitor of one scheduler.
#[derive(Debug)]
pub(crate) struct Monitor {
    slice: Duration,
    handoff: bool,
    /// Whether it sleeps until a worker wakes. Changed under the lock, read without.
    dozes: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Time between two looks while the runtime ends and those that are left sleep.
const LAST_ARE_AWAITED: Duration = Duration::from_millis(10);

/// What was seen of a worker.
#[derive(Clone, Copy)]
struct Seen {
    turn: u64,
    since_ns: u64,
}

impl Monitor {
    pub(super) fn new(slice: Duration, handoff: bool) -> Monitor {
        Monitor { slice, handoff, dozes: AtomicBool::new(false), lock: Mutex::new(()), wake: Condvar::new() }
    }

    /// Time between two looks: what a slice may be late by, and a tenth of it where that is enough.
    fn tick(&self) -> Duration {
        (self.slice / 10).clamp(Duration::from_micros(100), Duration::from_millis(1))
    }

    /// A worker has woken, or left for good.
    pub(super) fn rouse(&self) {
        // Pairs with the fence in `doze`: either this sees that it dozes, or it sees that the worker does not sleep.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.dozes.load(Ordering::Relaxed) {
            let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            // Relaxed: under the lock.
            self.dozes.store(false, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    /// Sleeps until some worker is awake.
    fn doze(&self, scheduler: &Scheduler) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: ordered by the fence, which pairs with the one in `rouse`.
        self.dozes.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if scheduler.workers().iter().any(|worker| worker.is_awake() || worker.has_left()) {
            // Relaxed: under the lock.
            self.dozes.store(false, Ordering::Relaxed);
        }
        // Relaxed: as above.
        while self.dozes.load(Ordering::Relaxed) {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Watches the workers of `scheduler`, which this is the monitor of, until all have left.
    pub(super) fn run(&self, scheduler: &Scheduler) {
        let slice_ns = u64::try_from(self.slice.as_nanos()).unwrap_or(u64::MAX);
        let mut seen = vec![Seen { turn: NEVER, since_ns: 0 }; scheduler.workers().len()];
        while !scheduler.workers().iter().all(Worker::has_left) {
            if !scheduler.workers().iter().any(Worker::is_awake) {
                // Some may have left and the others sleep: those that have are no reason to look again soon.
                if scheduler.workers().iter().any(Worker::has_left) {
                    thread::sleep(self.slice.min(LAST_ARE_AWAITED)); // The slice may be an hour.
                } else {
                    self.doze(scheduler);
                }
                continue;
            }
            thread::sleep(self.tick());
            let now_ns = sys::now_ns();
            for (worker, seen) in scheduler.workers().iter().zip(&mut seen) {
                let turn = worker.counters.switches.get();
                if turn != seen.turn || !worker.is_awake() {
                    *seen = Seen { turn, since_ns: now_ns };
                    continue;
                }
                let over = now_ns - seen.since_ns >= slice_ns;
                // Relaxed: a hint.
                if over || worker.watch.due_ns.load(Ordering::Relaxed) <= now_ns {
                    worker.watch.ask(turn);
                }
                if over && self.handoff && worker.leaves_work_waiting() {
                    seen.since_ns = now_ns; // Another slice before another is called.
                    scheduler.call_spare();
                }
            }
        }
    }
}

impl Scheduler {
    /// Has a spare that sleeps take what nobody has started.
    fn call_spare(&self) {
        let spare = self.spares().iter().find(|spare| !spare.is_awake() && !spare.has_left());
        if let Some(spare) = spare {
            // Relaxed: the nudge publishes it.
            spare.watch.called.store(true, Ordering::Relaxed);
            spare.nudge();
        }
    }
}
