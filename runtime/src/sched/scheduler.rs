//! What the workers of one runtime share.
//!
//! A scheduler of one worker has no use for most of it: nothing there is stolen, nobody is woken to help, and spawning, which is the
//! whole cost of a short coroutine, takes no locked operation. So each place that would pay asks [`Worker::is_alone`] first.
//!
//! **The end.** [`Scheduler::close`] lets nothing in from outside any more and tells every worker. Each cancels what it has, runs
//! until that has ended, and leaves. A worker without anything left cannot get anything: what others spawn lies in their own rings, and
//! a started coroutine stays where it is.

use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use super::idle::Idle;
use super::injector::{Closed, Injector};
use super::monitor::Monitor;
use super::worker::Worker;
use crate::metrics::Metrics;
use crate::park;
use crate::preempt::Preemption;
use crate::stack::{Class, arena, overflow};
use crate::sys;
use crate::task::{self, Task};

#[derive(Debug)]
pub(crate) struct Scheduler {
    /// The workers, then the spares.
    workers: Box<[Worker]>,
    /// How many are no spares.
    ordinary: usize,
    monitor: Option<Monitor>,
    pub(super) injector: Injector<Task>,
    pub(super) idle: Idle,
    closing: AtomicBool,
    detect_deadlock: bool,
    /// Whether something ran since a deadlock was looked for.
    ran: AtomicBool,
    /// Coroutines spawned by threads that are no workers.
    spawned_outside: AtomicU64,
    /// Most coroutines seen alive at one time, where several workers count them.
    peak_live: AtomicU64,
}

/// Settings that the workers need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Most stacks bound at one time, over all workers.
    pub(crate) max_stacks: Option<usize>,
    /// The class of a stack for which no size was asked.
    pub(crate) class: Class,
    /// Whether the latest wake runs next.
    pub(crate) lifo_slot: bool,
    /// What to do about those who run for long, and how long that is.
    pub(crate) preemption: Preemption,
    pub(crate) slice: Duration,
    /// Whether to report when everything waits and nothing known will end that.
    pub(crate) detect_deadlock: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_stacks: None,
            class: Class::DEFAULT,
            lifo_slot: true,
            preemption: Preemption::Cooperative,
            slice: Duration::from_millis(10),
            detect_deadlock: true,
        }
    }
}

impl Scheduler {
    /// With `serves` it goes on until it is closed, else until its one worker has nothing left.
    pub(crate) fn new(workers: usize, serves: bool, settings: Settings) -> Arc<Scheduler> {
        overflow::describe_tasks_with(super::worker::describe);
        crate::debugger::keep();
        let spares = if settings.preemption == Preemption::Handoff { workers } else { 0 };
        let total = workers + spares;
        let share = settings.max_stacks.map_or(usize::MAX, |max| max.div_ceil(total));
        let worker = |index| Worker::new(index, total == 1, index >= workers, serves, share, settings);
        let watched = settings.preemption != Preemption::Cooperative;
        let scheduler = Arc::new(Scheduler {
            workers: (0..total).map(worker).collect(),
            ordinary: workers,
            monitor: watched.then(|| Monitor::new(settings.slice, spares > 0)),
            injector: Injector::new(),
            idle: Idle::new(workers),
            closing: AtomicBool::new(false),
            detect_deadlock: settings.detect_deadlock,
            ran: AtomicBool::new(false),
            spawned_outside: AtomicU64::new(0),
            peak_live: AtomicU64::new(0),
        });
        for worker in &scheduler.workers {
            worker.belong_to(Arc::as_ptr(&scheduler));
        }
        scheduler
    }

    /// All of them, the spares included.
    pub(crate) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Those that take part in everything.
    pub(crate) fn ordinary(&self) -> &[Worker] {
        &self.workers[..self.ordinary]
    }

    /// Those that only come when they are called.
    pub(crate) fn spares(&self) -> &[Worker] {
        &self.workers[self.ordinary..]
    }

    pub(super) fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    /// Watches the workers, on a thread that does nothing else, until all have left; returns at once if nobody is to be watched.
    pub(crate) fn watch(&self) {
        if let Some(monitor) = &self.monitor {
            monitor.run(self);
        }
    }

    /// Whether [`Scheduler::watch`] is to be called.
    pub(crate) fn is_watched(&self) -> bool {
        self.monitor.is_some()
    }

    /// Whether the runtime is ending.
    pub(crate) fn is_closing(&self) -> bool {
        // Acquire: pairs with the Release in `close`; whoever sees it also sees what its caller did before.
        self.closing.load(Ordering::Acquire)
    }

    /// Whether a coroutine that is spawned belongs to the one worker at once.
    pub(crate) fn is_alone(&self) -> bool {
        self.workers.len() == 1
    }

    /// A line for each coroutine that has started and not ended: who it is, what it waits for and where; a snapshot.
    pub(crate) fn describe_tasks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        arena::for_each_task(|task| {
            let Some(task) = task::from_ptr(task.cast()) else { return };
            // Relaxed: compared only.
            let worker = task.worker.load(Ordering::Relaxed).cast_const().cast();
            if self.workers.iter().any(|own| ptr::eq(own, worker)) {
                lines.push(task.describe());
            }
        });
        lines
    }

    /// A worker found something to run.
    pub(super) fn something_ran(&self) {
        // Relaxed, twice: it only starts a clock. Read first: the line stays with everybody.
        if self.detect_deadlock && !self.ran.load(Ordering::Relaxed) {
            self.ran.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the last worker to sleep should wake in a while, and look whether everything waits for ever.
    pub(super) fn suspects_deadlock(&self) -> bool {
        // Relaxed: as above.
        self.ran.load(Ordering::Relaxed) && self.nothing_ends_by_itself()
    }

    /// Whether all workers sleep and none has a coroutine that waits for a time.
    fn nothing_ends_by_itself(&self) -> bool {
        self.idle.is_nobody_awake()
            && !self.is_closing()
            && !self.workers.iter().any(Worker::expects_something)
    }

    /// Says so on standard error if every coroutine waits, and no thread is left that could wake one: all of the process's threads are workers
    /// that sleep, or wait for coroutines themselves.
    ///
    /// A thread that does anything else may be about to wake somebody, so its presence is taken for a no.
    #[cold]
    pub(super) fn report_deadlock(&self) {
        // Relaxed: as above.
        self.ran.store(false, Ordering::Relaxed);
        let waiting = self.describe_tasks();
        let asleep = self.workers.len() + usize::from(self.is_watched()) + park::threads_waiting();
        if waiting.is_empty()
            || !self.nothing_ends_by_itself()
            || sys::threads().is_none_or(|all| all > asleep)
        {
            return;
        }
        let mut text =
            format!("deadlock: {} coroutines wait, and nothing is left that could wake one\n", waiting.len());
        for line in waiting {
            text.push_str("  ");
            text.push_str(&line);
            text.push('\n');
        }
        sys::write_stderr(text.as_bytes());
    }

    /// Takes a filled record on that belongs to nobody, from a thread that is none of the workers.
    pub(crate) fn submit(&self, task: &'static Task) -> Result<(), Closed<NonNull<Task>>> {
        // Relaxed: a count.
        self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.injector.push(NonNull::from(task)).inspect_err(|_| {
            // Relaxed: as above.
            self.spawned_outside.fetch_sub(1, Ordering::Relaxed);
        })?;
        self.wake_one();
        Ok(())
    }

    /// Wakes a worker for work that anybody may take, if none is looking for it.
    #[inline]
    pub(super) fn wake_one(&self) {
        if let Some(worker) = self.idle.worker_to_wake() {
            self.workers[worker].nudge();
        }
    }

    /// Whether there is work that any worker may take. The injector first: what leaves it for a ring is then seen in one of them.
    pub(super) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.workers.iter().any(Worker::has_unstarted)
    }

    /// Begins the end of the runtime.
    pub(crate) fn close(&self) {
        self.injector.close();
        // Release: pairs with the Acquire in `is_closing`.
        self.closing.store(true, Ordering::Release);
        // Pairs with the fence in `Idle::sleep`: a worker whose inbox was not empty, so that the nudge left nothing there, sees it
        // before it sleeps.
        fence(Ordering::SeqCst);
        self.workers.iter().for_each(Worker::nudge);
    }

    /// Counts of all workers together.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut sum = Metrics {
            // Relaxed, twice: counts.
            spawned: self.spawned_outside.load(Ordering::Relaxed),
            peak_live: self.peak_live.load(Ordering::Relaxed),
            ..Metrics::default()
        };
        for worker in &self.workers {
            worker.counters.add_to(&mut sum);
        }
        sum
    }

    /// Notes how many coroutines are alive now, where no one worker knows.
    pub(super) fn sample_live(&self) {
        // First all that were spawned, then all that have ended: what happens in between makes the number too small, never too large.
        // Relaxed, thrice: counts.
        let spawned = self.workers.iter().map(|worker| worker.counters.spawned.get()).sum::<u64>()
            + self.spawned_outside.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // Keeps that order; pairs with nothing else.
        let ended = self.workers.iter().map(|worker| worker.counters.ended.get()).sum();
        self.peak_live.fetch_max(spawned.saturating_sub(ended), Ordering::Relaxed);
    }
}
