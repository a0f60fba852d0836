#![allow(unsafe_code, reason = "switches between tasks")]
//! A worker: its queue, its stacks and records, and the ways in which a task stops running.
//!
//! Every way is the same few steps: *publish* what the task waits for, *pick* the next, *switch*. The caller does the first;
//! [`Worker::suspend`] the others. A pick takes what other threads left in the inbox (one plain load if nothing), pops the queue, and
//! binds a stack to a task that has none yet.
//!
//! The end of a task has an order that matters: it picks first, so that the next task is bound to another stack, then gives its own
//! stack to the worker, on which it still runs, then leaves for good. Nobody takes from a worker's stacks in between.
//!
//! **Interrupts** (see `park`). A claimed wake-up and an interrupt may both come to a task that waits. Both are handled here, on the
//! task's own thread: the first makes it runnable, the second only leaves word in its wait state.
//!
//! **No stack.** A task for which no stack can be had waits aside while others run, and is tried again when one ends. When none can
//! run, the oldest ends with `NoStack`.
//!
//! **Where tasks wait for their turn.** Those that have started in `queue`, private to the worker; with several workers, those that have not in
//! `ring`, from which other workers steal, and picks alternate between the two. A worker that is alone needs no ring: both kinds go to `queue`.
//! A wake-up may take the slot `latest` and run next ([`LATEST_IN_A_ROW`]).
//!
//! **Searching.** Only the worker's own stack looks further, when there is nothing here: the injector, then the rings of others, then sleep,
//! as `idle` orders it. A task that came from there belongs to this worker from its first look on.
//!
//! **How long a worker lives.** As long as its scheduler, which `run_local` or the worker's thread holds until every task of the worker has
//! ended. A task that has not ended therefore vouches for its worker; handles count references of their own; and a waker on another
//! thread, whose task may be the last and end at once, holds one while it pushes.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::panicking;
use std::time::Duration;

use super::inject::{Closed, Inbox};
use super::monitor::Watch;
use super::poller::{Epoll, Listener, Poller};
use super::queue::Fifo;
use super::ring::Ring;
use super::scheduler::{Scheduler, Settings};
use crate::arch;
use crate::cancel;
use crate::local;
use crate::metrics::Counters;
use crate::park::Waiter;
use crate::preempt::Preemption;
use crate::sanitize;
use crate::stack::pool::Magazine;
use crate::stack::{Class, arena, overflow};
use crate::sys;
use crate::task::{self, Interrupt, Phase, Records, Task, WaitState};
use crate::time::{Deadline, Deadlines, FrameId, Frames};

thread_local! {
    /// The worker of this OS thread. Read only off the arena's stacks, through [`of_thread`].
    static OF_THREAD: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// The worker that began last: a guess at whose task this is.
///
/// Stack pointer, slot table, record, worker, queue, record, stack pointer: each switch would wait for six loads in a row. The processor
/// does not wait for the outcome of a comparison, so comparing a guess with what the record says takes the first half out of the
/// chain. With several workers the guess is right on one of them, and the others pay what they would without it.
static GUESS: AtomicPtr<Worker> = AtomicPtr::new(ptr::null_mut());

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Worker {
    // The switch path, on neighbouring lines.
    queue: Fifo<&'static Task>,
    /// The task that was woken last, if it is to run next.
    latest: Cell<*const Task>,
    current: Cell<*const Task>,
    /// Saved context of the worker's own stack.
    root: Cell<*mut u8>,
    root_fiber: sanitize::Fiber,
    /// Those that tasks are given, in debug builds.
    #[cfg(debug_assertions)]
    control_words: Cell<(u32, u16)>,
    pub(crate) counters: Counters,
    records: Records,
    stacks: Magazine,
    /// Stacks bound now, and how many may be.
    bound: Cell<usize>,
    max_bound: usize,
    /// The stack of a task that asks for none in particular.
    class: Class,
    /// Tasks not yet ended, the main one included.
    live: Cell<usize>,
    main: Cell<*const Task>,
    next_id: Cell<u64>,
    starved: RefCell<VecDeque<(&'static Task, io::Error)>>,
    /// Picks until the worker looks beyond its queue.
    patience: Cell<u32>,
    /// How often in a row the slot may still be used while others wait.
    latest_left: Cell<u32>,
    /// Whether wake-ups take the slot.
    lifo_slot: bool,
    /// No other worker could take work from here or bring some.
    alone: bool,
    /// Runs until the runtime is closed; else until nothing is left.
    serves: bool,
    /// Whether the ring is next to be asked first.
    ring_first: Cell<bool>,
    index: usize,
    /// The CPU it is bound to, if it is.
    cpu: OnceLock<usize>,
    /// Where a search began last.
    victim: Cell<usize>,
    /// The scheduler it is part of. A pointer into the `Arc`, so that a count can be taken through it.
    scheduler: Cell<*const Scheduler>,
    /// Everything was cancelled, as the runtime is ending.
    swept: Cell<bool>,
    /// Whether some wait here ends by itself; written before the worker sleeps, for its colleagues.
    expects: AtomicBool,
    deadlines: RefCell<Deadlines>,
    /// Tasks whose wait began while somebody on this thread was unwinding, and which are not cancelled until nobody is.
    deferred: RefCell<Vec<&'static Task>>,
    /// Tasks that have ended while a cancellation was on its way to them.
    strays: Cell<usize>,
    /// A spare: see `monitor`.
    spare: bool,
    pub(super) watch: Watch,
    /// The next look around is because the monitor asked for it.
    hurried: Cell<bool>,
    inbox: Inbox,
    /// Descriptors that are watched here; made by the first.
    poller: OnceCell<Poller>,
    /// Tasks of this worker that wait for a descriptor, wherever that is watched.
    watching: Cell<usize>,
    /// Tasks that have not started and belong to nobody yet; unused by a worker that is alone.
    ring: Ring<Task>,
}

/// Times in a row that the task woken last may run before one that waits in a queue: as many as tokio allows. A pair that wakes each other
/// goes at full speed when nobody else wants to run, and delays the others by so many turns when somebody does. A bound by time would
/// need a clock in the path of each hand-over.
const LATEST_IN_A_ROW: u32 = 3;

/// How long everything has to wait before that is looked into.
const GRACE: Duration = Duration::from_secs(1);

/// Spawns between two looks at how many coroutines are alive, with several workers.
const SAMPLE_EVERY: u64 = 64;

/// Picks between two looks at deadlines and whatever else lies beyond the queue; as many as in Go's scheduler, a prime so that it falls in step
/// with no pattern of the program.
const PATIENCE: u32 = 61;

// SAFETY: other threads reach a worker through handles, tasks and its scheduler, and use of it only `inbox`, `ring` as thieves may,
// `counters`, what never changes, and its address; every other field is for functions that first made sure they run on the worker's own thread ([`here`]).
unsafe impl Sync for Worker {}
// SAFETY: it may be dropped by whoever has the last reference, when no task is left and nothing in it is tied to a thread.
unsafe impl Send for Worker {}

// A panic never leaves a worker half changed: no user code runs in the middle of its steps.
impl std::panic::RefUnwindSafe for Worker {}

/// The task this code runs in.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Task> {
    match arena::occupant() {
        arena::Occupant::Task(task) => task::from_ptr(task.cast()),
        arena::Occupant::None => on_foreign_stack(),
    }
}

/// A task may run on a stack that is not ours, a nested library's: then its worker knows it.
#[cold]
fn on_foreign_stack() -> Option<&'static Task> {
    of_thread().and_then(|worker| task::from_ptr(worker.current.get()))
}

/// The worker of this OS thread. Never inlined: what it computes must not be kept over a switch.
#[inline(never)]
pub(crate) fn of_thread() -> Option<&'static Worker> {
    arena::abort_if_forked();
    // SAFETY: the worker is set while its `run` is on this thread, and callers do not keep it longer than that.
    unsafe { OF_THREAD.get().as_ref() }
}

/// The worker of a task that has not ended.
#[inline(always)]
pub(crate) fn of(task: &Task) -> &'static Worker {
    // Relaxed: set before the task could be found by anybody who asks, by its own thread or under ASSIGNED.
    let worker: *const Worker = task.worker.load(Ordering::Relaxed).cast_const().cast();
    // Relaxed: a guess, checked against the record.
    let guess = GUESS.load(Ordering::Relaxed);
    // Hidden, or the compiler would use that both are equal and wait for the record after all.
    let worker = if guess.cast_const() == worker { arch::hide(guess) } else { worker };
    // SAFETY: a task that has not ended keeps its worker alive (see the head).
    unsafe { &*worker }
}

/// One more count of the scheduler of a task's worker. Through pointers, as a reference to the worker does not reach the counts beside it.
///
/// # Safety
/// The task has not ended.
pub(crate) unsafe fn share(task: &Task) -> Arc<Scheduler> {
    let scheduler = of(task).scheduler.get();
    // SAFETY: a task that has not ended keeps its worker alive (see the head), and the worker lies in this `Arc`.
    unsafe { Arc::increment_strong_count(scheduler) };
    // SAFETY: the count just taken.
    unsafe { Arc::from_raw(scheduler) }
}

/// The worker whose thread this is.
#[inline(always)]
pub(crate) fn here() -> Option<&'static Worker> {
    match arena::occupant() {
        arena::Occupant::Task(task) => task::from_ptr(task.cast()).map(of),
        arena::Occupant::None => of_thread(),
    }
}

/// Wakes a task whose waiter the caller has claimed, and which therefore has not ended.
#[inline]
pub(crate) fn wake(task: &'static Task) {
    let worker = of(task);
    if here().is_some_and(|here| ptr::eq(here, worker)) {
        worker.claimed(task);
    } else {
        wake_elsewhere(task);
    }
}

#[cold]
fn wake_elsewhere(task: &'static Task) {
    let worker = of(task);
    // SAFETY: the task we claimed has not ended. The count outlives the push, after which the task, and with it the worker, may end.
    let _alive = unsafe { share(task) };
    if task.word.wake() {
        worker.inbox.push(task).expect("a worker with a live task takes it");
    }
}

/// Puts a task into its worker's inbox, as `Word::cancel` told the caller to.
#[cold]
pub(crate) fn poke(task: &'static Task) {
    let worker = of(task);
    // SAFETY: the task may have ended, but its worker waits until what `Word::cancel` announced has arrived.
    let _alive = unsafe { share(task) };
    worker.inbox.push(task).expect("a worker that was announced a cancellation waits for it");
}

/// Gives up a reference to a task.
#[inline]
pub(crate) fn release(task: &'static Task) {
    if task.release() {
        match here() {
            Some(worker) => worker.records.give(task),
            None => task::recycle(task),
        }
    }
}

impl Worker {
    pub(super) fn new(
        index: usize,
        alone: bool,
        spare: bool,
        serves: bool,
        max_bound: usize,
        settings: Settings,
    ) -> Worker {
        Worker {
            queue: Fifo::new(),
            latest: Cell::new(ptr::null()),
            current: Cell::new(ptr::null()),
            root: Cell::new(ptr::null_mut()),
            root_fiber: sanitize::Fiber::new(),
            #[cfg(debug_assertions)]
            control_words: Cell::new((0, 0)),
            counters: Counters::default(),
            records: Records::new(),
            stacks: Magazine::default(),
            bound: Cell::new(0),
            max_bound,
            class: settings.class,
            live: Cell::new(0),
            main: Cell::new(ptr::null()),
            next_id: Cell::new(0),
            starved: RefCell::default(),
            patience: Cell::new(PATIENCE),
            latest_left: Cell::new(LATEST_IN_A_ROW),
            lifo_slot: settings.lifo_slot,
            alone,
            serves,
            ring_first: Cell::new(false),
            index,
            cpu: OnceLock::new(),
            victim: Cell::new(index),
            scheduler: Cell::new(ptr::null()),
            swept: Cell::new(false),
            expects: AtomicBool::new(false),
            deadlines: RefCell::default(),
            deferred: RefCell::default(),
            strays: Cell::new(0),
            spare,
            watch: Watch::new(settings.preemption != Preemption::Cooperative),
            hurried: Cell::new(false),
            inbox: Inbox::default(),
            poller: OnceCell::new(),
            watching: Cell::new(0),
            ring: Ring::new(),
        }
    }

    /// Tells a new worker which scheduler it is part of.
    pub(super) fn belong_to(&self, scheduler: *const Scheduler) {
        self.scheduler.set(scheduler);
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        // SAFETY: set when the worker was made, and the worker lies in it.
        unsafe { &*self.scheduler.get() }
    }

    /// The class of a stack for which no size was asked.
    #[inline(always)]
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// The CPU that its thread is bound to, if it is; from any thread.
    pub(crate) fn cpu(&self) -> Option<usize> {
        self.cpu.get().copied()
    }

    /// Binds the calling thread, which is to run this worker, to a CPU.
    pub(crate) fn bind_to(&self, cpu: usize) -> io::Result<()> {
        sys::pin_to(cpu)?;
        let _ = self.cpu.set(cpu); // Once: a worker has one thread.
        Ok(())
    }

    /// Whether no other worker could take work from here or bring some.
    #[inline(always)]
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether there is work here that others may take; from any thread.
    pub(super) fn has_unstarted(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Whether it does anything but sleep; from any thread, a snapshot.
    pub(super) fn is_awake(&self) -> bool {
        !self.inbox.is_asleep() && !self.has_left()
    }

    /// Whether it has ended; from any thread.
    pub(super) fn has_left(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Whether tasks that others may take wait behind the one that runs here; from any thread.
    pub(super) fn leaves_work_waiting(&self) -> bool {
        self.has_unstarted() || !self.scheduler().injector.is_empty()
    }

    /// Whether the current task was asked to give way.
    #[inline(always)]
    pub(crate) fn is_asked(&self) -> bool {
        self.watch.is_asked(self.counters.switches.get())
    }

    /// The current task is about to give way as it was asked to: the pick looks around, and puts first what it finds due.
    pub(crate) fn heed(&self) {
        self.watch.heed();
        self.counters.preemptions.bump();
        self.hurried.set(true);
        self.patience.set(1);
    }

    /// Makes the worker look around, from any thread.
    pub(super) fn nudge(&self) {
        self.inbox.nudge();
    }

    /// Wakes somebody for the unstarted tasks here, as this worker will not run for a while.
    pub(crate) fn give_away(&self) {
        if self.has_unstarted() {
            self.scheduler().wake_one();
        }
    }

    /// A record for a task of this worker, from its own thread.
    #[inline]
    pub(crate) fn record(&self) -> (&'static Task, u64) {
        (self.records.take(), self.fresh_id())
    }

    #[inline]
    fn fresh_id(&self) -> u64 {
        let mut id = self.next_id.get();
        if id.is_multiple_of(task::ID_BLOCK) {
            id = task::id_block();
        }
        self.next_id.set(id + 1);
        id
    }

    /// Takes a filled record on that belongs to this worker and makes it runnable, on the worker's own thread.
    #[inline]
    pub(crate) fn adopt(&self, task: &'static Task) {
        self.count_in();
        self.counters.spawned.bump();
        if self.alone {
            self.counters.peak_live.raise(self.counters.spawned.get() - self.counters.ended.get());
        }
        // SAFETY: `count_in` made room, and a new task is in no queue.
        unsafe { self.queue.push(task) };
    }

    /// Takes a filled record on that belongs to nobody, for whoever comes first, on the worker's own thread.
    #[inline]
    pub(crate) fn offer(&self, task: &'static Task) {
        self.counters.spawned.bump();
        if self.counters.spawned.get().is_multiple_of(SAMPLE_EVERY) {
            self.scheduler().sample_live();
        }
        self.ring.push(NonNull::from(task), |half| self.hand_out(half));
        self.scheduler().wake_one();
    }

    /// The ring is full: the newer half goes to the injector, or, when that takes nothing any more, is ours for good.
    #[cold]
    fn hand_out(&self, half: &[NonNull<Task>]) {
        if self.scheduler().injector.push_batch(half).is_err() {
            for task in half {
                self.take_on(task::from_non_null(*task));
            }
        }
    }

    /// Takes a task into the private queue that belonged to nobody, as the runtime ends and nobody else would take it.
    fn take_on(&self, task: &'static Task) {
        self.claim(task);
        // SAFETY: `claim` made room, and the task came out of the only queue it was in.
        unsafe { self.queue.push(task) };
    }

    /// Makes a task this worker's for life that belonged to nobody.
    fn claim(&self, task: &'static Task) {
        self.count_in();
        // Relaxed: published by `assign`.
        task.worker.store(ptr::from_ref(self).cast_mut().cast(), Ordering::Relaxed);
        task.word.assign();
    }

    #[inline]
    fn count_in(&self) {
        let live = self.live.get() + 1;
        self.live.set(live);
        self.queue.reserve(live);
    }

    /// Takes a filled record on that belongs to this worker, from any thread.
    pub(crate) fn adopt_remotely(&self, task: &'static Task) -> Result<(), Closed> {
        self.inbox.push(task)
    }

    #[cold]
    #[inline(never)]
    fn open_inbox(&self) {
        self.inbox.take(|task| {
            let arrival = task.word.arrive();
            if arrival.done {
                self.strays.set(self.strays.get() - 1);
                release(task);
                return;
            }
            if arrival.wake {
                self.counters.inbox_wakes.bump();
                if task.sp.get().is_null() {
                    self.adopt(task); // Only a spawn from elsewhere brings a task that never ran.
                } else {
                    self.claimed(task);
                }
            }
            if arrival.poke {
                self.interrupt(task, Interrupt::Cancel);
            }
        });
    }

    /// The waiter of a task was claimed.
    #[inline(always)]
    fn claimed(&self, task: &'static Task) {
        let WaitState { phase, interrupt, .. } = task.wait.get();
        task.wait.set(WaitState { phase: Phase::Runnable, woken: true, interrupt });
        if phase != Phase::Runnable {
            self.make_runnable(task);
        }
    }

    /// A task that waited is to run next, or soon.
    #[inline(always)]
    fn make_runnable(&self, task: &'static Task) {
        task.waits_no_more();
        let task = if self.lifo_slot { task::from_ptr(self.latest.replace(task)) } else { Some(task) };
        if let Some(task) = task {
            // SAFETY: a live task has a place; one that waited is in no queue, and one that was in the slot neither.
            unsafe { self.queue.push(task) };
        }
    }

    /// Ends a wait that allows it, without a claim.
    fn interrupt(&self, task: &'static Task, why: Interrupt) {
        if end_wait(task, why) {
            // SAFETY: a live task has a place, and one that waited is in no queue.
            unsafe { self.queue.push(task) };
        }
    }

    /// Notes that the current task is about to wait with a deadline.
    pub(crate) fn expect(&self, me: &'static Task, deadline: Deadline) {
        self.deadlines.borrow_mut().add(me, deadline);
        self.watch.expect(deadline.ns());
    }

    /// Notes that the current task begins a call of `timeout`.
    pub(crate) fn open_frame(&self, me: &'static Task, deadline: Deadline) -> FrameId {
        self.watch.expect(deadline.ns());
        self.deadlines.borrow_mut().open(me, deadline)
    }

    /// Notes that it ends.
    pub(crate) fn close_frame(&self, frame: FrameId) {
        self.deadlines.borrow_mut().close(frame);
    }

    /// What `ask` says about the calls of `timeout` that are under way.
    pub(crate) fn frames<T>(&self, ask: impl FnOnce(&mut Frames) -> T) -> T {
        ask(self.deadlines.borrow_mut().frames())
    }

    /// Notes that the wait of the current task has ended.
    pub(crate) fn expect_no_more(&self, me: &'static Task, interrupt: Option<Interrupt>) {
        self.deadlines.borrow_mut().end(me, interrupt == Some(Interrupt::Deadline));
    }

    /// The epoll instance of this worker, whose thread this is; its changes and its end are told to `listener`.
    pub(crate) fn epoll(&self, listener: Listener) -> io::Result<&Arc<Epoll>> {
        if self.poller.get().is_none() {
            let poller = Poller::new(listener)?;
            self.inbox.hang_up(Arc::clone(poller.epoll()));
            let _ = self.poller.set(poller); // This is the one thread that does.
        }
        Ok(self.poller.get().expect("set above").epoll())
    }

    /// Runs `wait`, in which the current task waits for a descriptor: something from outside the process may end that.
    pub(crate) fn watch<T>(&self, wait: impl FnOnce() -> T) -> T {
        struct Watches<'a>(&'a Cell<usize>);
        impl Drop for Watches<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.watching.set(self.watching.get() + 1);
        let _watches = Watches(&self.watching);
        wait()
    }

    /// The current task is about to be in the kernel for a while: has the stack of the next one fetched meanwhile, and the record of the one after
    /// it, by which its stack is found. Where a thousand tasks take turns none of that is in a near cache when its turn comes.
    /// `io.echo`, 1000 connections: 9 % less CPU time a request, in the middle of 14 pairs.
    #[inline]
    pub(crate) fn foresee(&self) {
        /// What a task that waits for a descriptor has on its stack down to its own frame.
        const FRAMES: usize = 1024;
        let Some(next) = self.queue.peek(0) else { return };
        arch::prefetch(next.sp.get(), FRAMES);
        if let Some(second) = self.queue.peek(1) {
            arch::prefetch(second, size_of::<Task>());
        }
    }

    /// Notes that the current task is about to wait while somebody on this thread, itself perhaps, is unwinding.
    pub(crate) fn defer(&self, me: &'static Task) {
        self.deferred.borrow_mut().push(me);
    }

    /// Notes that a wait of the current task has ended that may have been deferred. Whoever is in the list waits, so none has ended: its record
    /// could be another task's by then, of another worker even.
    #[cold]
    pub(crate) fn defer_no_more(&self, me: &'static Task) {
        self.deferred.borrow_mut().retain(|&waits| !ptr::eq(waits, me));
    }

    /// Whether a wait goes on that began while somebody on this thread was unwinding, and still was when last looked at.
    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    /// Looks beyond the queue: at deadlines that have come, cancellations that were deferred, work from outside, and the end. What it returns
    /// came from outside and is this worker's now, so it has to run *at once*: behind another that never suspends it would wait for ever, where
    /// nobody could take it any more.
    #[cold]
    #[inline(never)]
    #[must_use = "it is in no queue"]
    fn look_around(&self) -> Option<&'static Task> {
        self.patience.set(PATIENCE);
        let outside = if self.serves { self.look_outside() } else { None };
        if let Some(poller) = self.poller.get() {
            poller.look();
        }
        if !self.deadlines.borrow().is_empty() {
            self.serve_deadlines();
        }
        if self.watch.on {
            self.watch.looked(self.deadlines.borrow_mut().next().map(Deadline::ns));
            self.hurried.set(false);
        }
        if !self.deferred.borrow().is_empty() && !panicking() {
            for task in self.deferred.take() {
                self.allow_cancel(task);
            }
        }
        outside
    }

    /// Makes those runnable whose deadline has come. They queue up, unless somebody was asked to give way to them.
    fn serve_deadlines(&self) {
        let now = Deadlines::now();
        let due = || self.deadlines.borrow_mut().due(now, &self.counters);
        if !self.hurried.take() {
            while let Some((task, why)) = due() {
                self.interrupt(task, why);
            }
            return;
        }
        let due = std::iter::from_fn(due).filter(|(task, why)| end_wait(task, *why));
        let in_order: Vec<_> = due.collect();
        for (task, _) in in_order.into_iter().rev() {
            // SAFETY: a live task has a place, and one that waited is in no queue.
            unsafe { self.queue.push_front(task) };
        }
    }

    /// Nobody on this thread unwinds any more: a wait that was deferred for that reason is so only by its masks.
    fn allow_cancel(&self, task: &'static Task) {
        let mut state = task.wait.get();
        if state.phase == Phase::Masked {
            state.phase = cancel::phase_by_masks(task);
            task.wait.set(state);
            if let Some(why) = cancel::asked(task) {
                self.interrupt(task, why);
            }
        }
    }

    #[cold]
    fn look_outside(&self) -> Option<&'static Task> {
        let scheduler = self.scheduler();
        if !self.alone {
            scheduler.sample_live();
        }
        if scheduler.is_closing() && !self.swept.replace(true) {
            self.sweep();
        }
        if self.spare {
            return None;
        }
        let task = task::from_non_null(scheduler.injector.pop()?);
        self.claim(task);
        Some(task)
    }

    /// Cancels every task of this worker, as the runtime is ending. Those that start from now on are cancelled by `bind`.
    fn sweep(&self) {
        arena::for_each_task(|task| {
            let task = task::from_ptr(task.cast()).expect("an occupant is a record");
            // Relaxed: compared only; if it is ours, this thread wrote it.
            if ptr::eq(task.worker.load(Ordering::Relaxed).cast_const().cast(), self) {
                // Unsupported where nothing unwinds: then the tasks are waited for as they are.
                let _ = crate::cancel::request(task);
            }
        });
    }

    /// The next task to run, with a stack.
    #[inline(always)]
    fn pick(&self) -> Option<&'static Task> {
        let patience = self.patience.get() - 1;
        self.patience.set(patience);
        if patience == 0
            && let Some(task) = self.look_around()
        {
            return self.pick_from(task);
        }
        if self.inbox.may_have_some() {
            self.open_inbox();
        }
        if let Some(task) = task::from_ptr(self.latest.get()) {
            self.latest.set(ptr::null());
            let delays_nobody = self.queue.is_empty() && (self.alone || self.ring.is_empty());
            if delays_nobody || self.has_its_turn(task) {
                return Some(task);
            }
        }
        let task = if self.alone { self.queue.pop()? } else { self.pick_in_turn()? };
        if task.sp.get().is_null() { self.pick_from(task) } else { Some(task) }
    }

    /// Whether the task from the slot may run before others that wait. If that was so often enough in a row, it queues up.
    #[inline]
    fn has_its_turn(&self, task: &'static Task) -> bool {
        if let Some(left) = self.latest_left.get().checked_sub(1) {
            self.latest_left.set(left);
            return true;
        }
        self.latest_left.set(LATEST_IN_A_ROW);
        // SAFETY: a live task has a place, and this one came out of the slot.
        unsafe { self.queue.push(task) };
        false
    }

    /// A pick where nobody else was found: then there is time to ask the clock and the descriptors. Else who gives way, alone, after each of its
    /// long turns would be noticed to have company only after as many turns as a look takes.
    #[inline(always)]
    fn pick_due(&self) -> Option<&'static Task> {
        let idle = self.deadlines.borrow().is_empty() && self.poller.get().is_none();
        if idle { None } else { self.look_and_pick() }
    }

    #[cold]
    #[inline(never)]
    fn look_and_pick(&self) -> Option<&'static Task> {
        match self.look_around() {
            Some(task) => self.pick_from(task),
            None => self.pick(),
        }
    }

    /// Started and unstarted tasks in turn.
    #[inline(never)]
    fn pick_in_turn(&self) -> Option<&'static Task> {
        let unstarted = || self.ring.pop().map(task::from_non_null).inspect(|task| self.claim(task));
        let ring_first = self.ring_first.get();
        self.ring_first.set(!ring_first);
        if ring_first {
            unstarted().or_else(|| self.queue.pop())
        } else {
            self.queue.pop().or_else(unstarted)
        }
    }

    /// Continues a pick with a task that has no stack yet.
    #[inline(never)]
    fn pick_from(&self, task: &'static Task) -> Option<&'static Task> {
        let mut next = Some(task);
        while let Some(task) = next {
            if !task.sp.get().is_null() {
                break;
            }
            let Err(reason) = self.bind(task) else { break };
            self.starved.borrow_mut().push_back((task, reason));
            next = self.queue.pop();
        }
        next
    }

    /// The next task to run, from elsewhere than the worker's own queues, which are empty; unless a look around has put something there.
    #[inline(never)]
    fn find(&self, searching: &mut bool) -> Option<&'static Task> {
        if let Some(task) = self.look_around() {
            return self.pick_from(task);
        }
        if self.alone || !self.queue.is_empty() || !self.latest.get().is_null() {
            return None;
        }
        let task = if self.spare { self.answer()? } else { self.search(searching)? };
        self.claim(task);
        self.pick_from(task)
    }

    /// What a spare takes when it was called. It is counted nowhere in `idle`, so what it leaves in its ring is announced like a push: the work was out
    /// of sight on its way there, and whoever looked meanwhile may sleep.
    fn answer(&self) -> Option<&'static Task> {
        if !self.watch.answer() {
            return None;
        }
        let scheduler = self.scheduler();
        let share = scheduler.injector.len() / 2 + 1;
        let task = scheduler.injector.pop_batch(share, &self.ring).or_else(|| self.steal())?;
        self.counters.handoffs.bump();
        scheduler.wake_one();
        Some(task::from_non_null(task))
    }

    /// Looks for work with others; counted as searching from then on, if `searching` says so.
    fn search(&self, searching: &mut bool) -> Option<&'static Task> {
        let scheduler = self.scheduler();
        let workers = scheduler.workers();
        let share = scheduler.injector.len() / workers.len() + 1;
        if let Some(task) = scheduler.injector.pop_batch(share, &self.ring) {
            return Some(task::from_non_null(task));
        }
        *searching = *searching || scheduler.idle.begin_search();
        if !*searching {
            return None;
        }
        let task = self.steal()?;
        self.counters.steals.bump();
        Some(task::from_non_null(task))
    }

    /// Takes half of what some other worker has not started, the oldest of it to be run.
    fn steal(&self) -> Option<NonNull<Task>> {
        let workers = self.scheduler().workers();
        for step in 0..workers.len() {
            let victim = (self.victim.get() + step) % workers.len();
            if victim == self.index {
                continue;
            }
            if let Some(task) = workers[victim].ring.steal_into(&self.ring) {
                self.victim.set(victim);
                return Some(task);
            }
        }
        None
    }

    /// Ends a search, when there is something to run. The last searcher wakes another: where this came from there may be more.
    fn stop_searching(&self, searching: &mut bool) {
        if mem::take(searching) && self.scheduler().idle.end_search() {
            self.scheduler().wake_one();
        }
    }

    /// Sleeps until somebody has something for this worker. Returns whether it is counted as searching on waking.
    fn sleep(&self, searching: bool) -> bool {
        // Relaxed: ordered by the fence in `Idle::sleep`, and looked at by whoever found all asleep.
        let expects = self.deadlines.borrow_mut().next().is_some() || self.watching.get() > 0;
        self.expects.store(expects, Ordering::Relaxed);
        let scheduler = self.scheduler();
        if self.spare {
            // Pairs with the fence in `Scheduler::close`, as the one in `Idle::sleep` does for others.
            fence(Ordering::SeqCst);
            if !scheduler.is_closing() || self.swept.get() {
                self.lie_down();
            }
            return false;
        }
        let nobody_searches = scheduler.idle.sleep(self.index, searching);
        let has_work = self.serves && nobody_searches && scheduler.has_work();
        let has_to_sweep = self.serves && scheduler.is_closing() && !self.swept.get();
        if !has_work && !has_to_sweep {
            self.lie_down();
        }
        // What was seen by this look is looked for as a searcher, who wakes another for what it leaves: W5 of `idle`.
        scheduler.idle.rise(self.index) || has_work && scheduler.idle.begin_search()
    }

    /// Gives back what free stacks should not keep, then sleeps, unless something comes.
    fn lie_down(&self) {
        arena::abort_if_forked();
        let scheduler = self.scheduler();
        let last = !self.spare && scheduler.idle.is_nobody_awake();
        let next = self.deadlines.borrow_mut().next();
        let is_due = || next.is_some_and(|next| next.left().is_zero());
        while !is_due() && !self.inbox.may_have_some() && self.stacks.rest(last) {}
        let suspects = last && scheduler.suspects_deadlock();
        let timeout = if suspects { Some(GRACE) } else { next.map(Deadline::left) };
        let slept = match self.poller.get() {
            Some(poller) => {
                let found = self.inbox.sleep_by(|| poller.wait(timeout));
                poller.handle(found.unwrap_or(0));
                found.is_some()
            }
            None => self.inbox.sleep(timeout),
        };
        if slept {
            self.counters.sleeps.bump();
            if let Some(monitor) = scheduler.monitor() {
                monitor.rouse();
            }
        }
        if suspects && !self.inbox.may_have_some() {
            scheduler.report_deadlock();
        }
    }

    /// Whether a wait here ends by itself; for colleagues of a worker that sleeps.
    pub(super) fn expects_something(&self) -> bool {
        // Relaxed: see `sleep`.
        self.expects.load(Ordering::Relaxed) || self.spare && self.is_awake()
    }

    /// Whether nothing is left here, and nothing can come, but through the inbox.
    fn is_through(&self) -> bool {
        let over = !self.serves
            || self.scheduler().is_closing()
                && self.swept.get()
                && (self.spare || self.scheduler().injector.is_empty());
        over && self.live.get() == 0 && self.strays.get() == 0
    }

    fn bind(&self, task: &'static Task) -> io::Result<()> {
        if self.bound.get() >= self.max_bound {
            return Err(self.too_many());
        }
        let slot = self.stacks.take(task.class())?;
        if self.serves && self.scheduler().is_closing() {
            // Nobody has a use for it any more; it sees this when it first runs.
            let _ = crate::cancel::request(task);
        }
        self.bound.set(self.bound.get() + 1);
        task.bind(slot);
        sanitize::prepare(slot);
        arena::occupy(slot, ptr::from_ref(task).cast());
        let at = slot.coloured_top().wrapping_sub(arch::STACK_ALIGN).cast();
        // SAFETY: the stack was free, and its top is aligned.
        task.sp.set(unsafe { arch::prepare_task(at, root, ptr::from_ref(task).cast()) });
        Ok(())
    }

    #[cold]
    fn too_many(&self) -> io::Error {
        let text = format!("all {} stacks are in use; raise Builder::max_stacks", self.max_bound);
        io::Error::new(io::ErrorKind::QuotaExceeded, text)
    }

    /// Lets others run, if there are any; `me`, which is the current task, stays runnable.
    #[inline(always)]
    pub(crate) fn give_way(&self, me: &'static Task) {
        let Some(next) = self.pick().or_else(|| self.pick_due()) else { return };
        // SAFETY: a live task has a place, and the current one is in no queue.
        unsafe { self.queue.push(me) };
        self.go(me, next);
    }

    /// Runs others until `me`, which is the current task and has published what it waits for, is picked again.
    #[inline(always)]
    pub(crate) fn suspend(&self, me: &'static Task) {
        match self.pick() {
            Some(next) if ptr::eq(next, me) => {} // Woken before it left.
            Some(next) => self.go(me, next),
            None => self.rest(me),
        }
    }

    #[inline(always)]
    fn go(&self, me: &'static Task, next: &'static Task) {
        self.watch_control_words(me);
        self.current.set(next);
        self.counters.switches.bump();
        sanitize::leave(sanitize::of_running(me.slot()), sanitize::of_context(next.sp.get(), next.slot()));
        // SAFETY: `next` was picked, so it was runnable and is not running; its context was left there by the switch it made, or by `bind`.
        unsafe { arch::switch(me.sp.as_ptr(), next.sp.get()) };
        sanitize::arrive(sanitize::of_running(me.slot()));
    }

    #[cold]
    fn rest(&self, me: &'static Task) {
        self.watch_control_words(me);
        self.current.set(ptr::null());
        sanitize::leave(sanitize::of_running(me.slot()), &self.root_fiber);
        // SAFETY: the root is suspended in `run`, whose switch saved it.
        unsafe { arch::switch(me.sp.as_ptr(), self.root.get()) };
        sanitize::arrive(sanitize::of_running(me.slot()));
    }

    /// A switch does not save the control words of floating point, so a task that suspends or ends with others than it was given hands them
    /// to the next. Debug builds say who, once for each change.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "in a release build there is nothing to do")]
    fn watch_control_words(&self, task: &Task) {
        let _ = task;
        #[cfg(debug_assertions)]
        if arch::control_words() != self.control_words.get() {
            self.report_control_words(task);
        }
    }

    #[cfg(debug_assertions)]
    #[cold]
    #[inline(never)]
    fn report_control_words(&self, task: &Task) {
        let (mxcsr, x87) = arch::control_words();
        let (mxcsr_before, x87_before) = self.control_words.replace((mxcsr, x87));
        let text = format!(
            "{} suspends or ends with other floating-point settings than those it was given (MXCSR {mxcsr:#x} instead of \
             {mxcsr_before:#x}, x87 control word {x87:#x} instead of {x87_before:#x}); the next coroutine runs with them\n",
            task.label(),
        );
        sys::write_stderr(text.as_bytes());
    }

    /// The last thing a task does, on its own stack.
    fn end(&self, task: &'static Task) -> ! {
        self.conclude(task, |task| {
            // User code, which may even wait: the task is still one. It is not cancelled any more, as nothing would catch that; a panic out
            // of it meets the root and aborts.
            task.masks.set(u8::MAX / 2); // Room for masks of its own.
            // SAFETY: the handle is gone and the task has not ended, so the outcome is its own.
            unsafe { task.drop_outcome() };
            local::end(task); // It may have made some.
        });
        self.watch_control_words(task);
        let slot = task.slot();
        self.count_out();
        arena::vacate(slot);
        self.bound.set(self.bound.get() - 1);
        self.let_go(task);
        let next = self.pick();
        self.stacks.give(slot);
        if !self.starved.borrow().is_empty() {
            self.feed();
        }
        let context = if let Some(next) = next {
            self.current.set(next);
            self.counters.switches.bump();
            sanitize::leave_for_good(sanitize::of_context(next.sp.get(), next.slot()));
            next.sp.get()
        } else {
            self.current.set(ptr::null());
            sanitize::leave_for_good(&self.root_fiber);
            self.root.get()
        };
        // SAFETY: a picked task's context or the suspended root, and nothing on this stack is needed any more.
        unsafe { arch::leave(context) }
    }

    /// Marks the end of a task and wakes who waits for it. `drop_outcome` is called first if nobody will ask for the outcome.
    #[inline]
    fn conclude(&self, task: &'static Task, drop_outcome: impl FnOnce(&'static Task)) {
        // Before the end is visible, so that whoever has joined all finds all counted.
        if !ptr::eq(task, self.main.get()) {
            self.counters.ended.bump();
        }
        let end = task.word.finish(false).unwrap_or_else(|| {
            drop_outcome(task);
            task.word.finish(true).expect("a task ends once its outcome is dropped")
        });
        if end.waiter != 0 {
            Waiter::from_word(end.waiter).wake();
        }
        if end.poked {
            task.retain(); // Given up when the cancellation arrives.
            self.strays.set(self.strays.get() + 1);
        }
    }

    /// Gives up the runtime's own reference to a task that has ended.
    #[inline]
    fn let_go(&self, task: &'static Task) {
        if task.release() {
            self.records.give(task);
        }
    }

    fn count_out(&self) {
        self.live.set(self.live.get() - 1);
    }

    /// Makes the oldest task that waits for a stack runnable again.
    #[cold]
    fn feed(&self) {
        if let Some((task, _)) = self.starved.borrow_mut().pop_front() {
            // SAFETY: a live task has a place; a starved one is in no queue.
            unsafe { self.queue.push(task) };
        }
    }

    /// Ends the oldest task that waits for a stack, on the worker's own stack. There the destructor of its closure, which is user
    /// code, is refused every wait ([`crate::park::Wait::waiter`]): nobody else would run until it ended.
    fn give_up_oldest(&self) -> bool {
        let Some((task, reason)) = self.starved.borrow_mut().pop_front() else {
            return false;
        };
        // SAFETY: it never ran, and this is its worker's thread.
        unsafe { task.give_up(Some(reason)) };
        self.conclude(task, |task| {
            // SAFETY: the handle is gone, and the outcome is an error of ours.
            unsafe { task.drop_outcome() };
        });
        self.count_out();
        self.let_go(task);
        true
    }

    /// Runs `main` and everything that comes of it on this OS thread, until every task has ended.
    ///
    /// # Safety
    /// As for [`Worker::run`].
    pub(crate) unsafe fn run_alone(&self, main: &'static Task) {
        self.main.set(main);
        self.count_in();
        // SAFETY: `count_in` made room.
        unsafe { self.queue.push(main) };
        // SAFETY: the caller's contract.
        unsafe { self.run() };
    }

    /// Runs tasks on this OS thread: alone until every one has ended, with others until the runtime ends.
    ///
    /// # Safety
    /// Only one call ever runs this worker, on a thread without another.
    pub(crate) unsafe fn run(&self) {
        let no_unwinding = AbortOnUnwind;
        #[cfg(debug_assertions)]
        self.control_words.set(arch::control_words());
        OF_THREAD.set(self);
        // Relaxed: only compared, never followed unless a record says the same.
        GUESS.store(ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
        let mut searching = false;
        loop {
            if let Some(next) = self.pick().or_else(|| self.find(&mut searching)) {
                self.stop_searching(&mut searching);
                self.scheduler().something_ran();
                self.current.set(next);
                self.counters.switches.bump();
                sanitize::leave(&self.root_fiber, sanitize::of_context(next.sp.get(), next.slot()));
                // SAFETY: `next` was picked, so its context is suspended.
                unsafe { arch::switch(self.root.as_ptr(), next.sp.get()) };
                sanitize::arrive(&self.root_fiber);
                continue;
            }
            if !self.queue.is_empty() || !self.latest.get().is_null() {
                continue; // A deadline has come, or a cancellation that was deferred.
            }
            if self.give_up_oldest() {
                // Its end may have woken somebody.
            } else if self.is_through() {
                if self.inbox.close() {
                    break;
                }
            } else {
                searching = self.sleep(mem::take(&mut searching));
            }
        }
        if let Some(poller) = self.poller.get() {
            poller.close();
        }
        OF_THREAD.set(ptr::null());
        if let Some(monitor) = self.scheduler().monitor() {
            monitor.rouse();
        }
        mem::forget(no_unwinding);
    }
}

/// Makes a task runnable whose wait allows that it ends without a claim, and says whether it did. Then it is in no queue.
#[must_use = "it is in no queue"]
fn end_wait(task: &'static Task, why: Interrupt) -> bool {
    let allowed = task.wait.get().phase.allows(why);
    if allowed {
        task.waits_no_more();
        task.wait.set(WaitState { phase: Phase::Runnable, woken: false, interrupt: Some(why) });
    }
    allowed
}

/// Ends the process where [`Worker::run`] would be left before its tasks have ended: they would run on, or be woken, without a worker,
/// and over what `run_local`'s caller lent to its closure.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        sys::write_stderr(b"a panic was about to leave a worker that has tasks: aborting\n");
        sys::abort();
    }
}

/// First frame of a task. A panic cannot leave it: the ABI does not unwind.
unsafe extern "sysv64" fn root(task: *const ()) -> ! {
    let task = task::from_ptr(task.cast()).expect("a root gets its task");
    sanitize::arrive(sanitize::of_running(task.slot()));
    if task.word.is_cancelled() {
        // SAFETY: the first entry of a task that was bound just now, by its worker.
        unsafe { task.give_up(None) };
    } else {
        // SAFETY: as above.
        unsafe { task.run() };
    }
    local::end(task);
    of(task).end(task)
}

/// For the overflow report, in a signal handler.
pub(super) fn describe(task: *const (), line: &mut overflow::Line) {
    let Some(task) = task::from_ptr(task.cast()) else {
        return;
    };
    line.text("coroutine ");
    line.number(task.id().0);
    if let Some(name) = task.name() {
        line.text(" '");
        line.text(name);
        line.text("'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn nothing_unwinds_out_of_a_worker() {
        const CHILD: &str = "WORKER_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let scheduler = Scheduler::new(1, false, Settings { max_stacks: Some(0), ..Settings::default() });
            let worker = &scheduler.workers()[0];
            let (task, id) = worker.record();
            // SAFETY: the closure borrows nothing.
            unsafe {
                task.fill(id, None, Class::ALL[0], task::Home::Here(ptr::from_ref(worker).cast()), || ());
            };
            // The task is to wait for a stack in a list that is taken, which is a panic in the middle of `run`.
            let _taken = worker.starved.borrow_mut();
            // SAFETY: the worker is new, and so is the thread's.
            let run = std::panic::AssertUnwindSafe(|| unsafe { worker.run_alone(task) });
            let _ = std::panic::catch_unwind(run);
            return;
        }
        let name = "sched::worker::tests::nothing_unwinds_out_of_a_worker";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{error}");
        assert!(error.contains("about to leave a worker"), "{error}");
    }
}
