#![allow(unsafe_code, reason = "the one promise a program makes, and the workers it starts")]
//! The door: a builder, a runtime of several workers, and handles to one that runs.
//!
//! A runtime is entered in one of two ways. [`Builder::run_local`] makes the calling thread its only worker and returns when everything
//! has ended. [`Builder::build`] starts threads as workers, and returns a [`Runtime`] to spawn into and to wait in.

use std::fmt;
use std::io;
use std::ptr;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use crate::arch;
use crate::atomic::plain::{Condvar, Mutex};
use crate::metrics::Metrics;
use crate::preempt::Preemption;
use crate::sched::idle::MAX_WORKERS;
use crate::sched::scheduler::{Scheduler, Settings};
use crate::sched::worker::{self, Worker};
use crate::spawn::{self, JoinHandle};
use crate::stack::{Class, StackConfig, arena, overflow, watermark};
use crate::sys;
use crate::task::{Home, Id, JoinError};
use crate::threads;
use crate::time::Deadline;

/// Settings of a runtime.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it runs"]
pub struct Builder {
    workers: Option<usize>,
    pin_cores: bool,
    stack: Option<StackConfig>,
    max_stacks: Option<usize>,
    main_stack_size: usize,
    lifo_slot: bool,
    preemption: Preemption,
    slice: Duration,
    detect_deadlock: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            workers: None,
            pin_cores: false,
            stack: None,
            max_stacks: None,
            main_stack_size: Class::ALL[Class::COUNT - 1].usable(),
            lifo_slot: true,
            preemption: Preemption::Cooperative,
            slice: Settings::default().slice,
            detect_deadlock: true,
        }
    }
}

impl Builder {
    /// The defaults: as many workers as CPUs, not pinned; as many stacks as the address space holds, the largest for the main coroutine;
    /// the latest wake runs next.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// How many workers [`Builder::build`] starts, 1 to 1024; by default one for each CPU that the calling thread may run on.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = Some(workers);
        self
    }

    /// Whether [`Builder::build`] binds each worker to a CPU of its own, of those that the calling thread may run on. More workers than CPUs
    /// go round.
    pub fn pin_cores(mut self, pin: bool) -> Builder {
        self.pin_cores = pin;
        self
    }

    /// Settings of the stacks. The size is this runtime's; what is about the pool of the process is set when the runtime is entered or
    /// built, and left as it is by a runtime without such settings.
    pub fn stack(mut self, config: StackConfig) -> Builder {
        self.stack = Some(config);
        self
    }

    /// Bounds the coroutines that have a stack at one time, the main one included; each of several workers may have its equal share, rounded
    /// up. Those above it wait, without a stack, for one to end.
    pub fn max_stacks(mut self, max: Option<usize>) -> Builder {
        self.max_stacks = max;
        self
    }

    /// Asks for at least this many usable bytes of stack for the closure given to [`Builder::run_local`] or [`Runtime::block_on`].
    pub fn main_stack_size(mut self, bytes: usize) -> Builder {
        self.main_stack_size = bytes;
        self
    }

    /// Whether a coroutine that was just woken runs before those that wait in the queue, up to three times in a row.
    ///
    /// A pair that talks to each other stays quick beside others, which are delayed by at most that. Without it every wake queues up.
    pub fn lifo_slot(mut self, on: bool) -> Builder {
        self.lifo_slot = on;
        self
    }

    /// What happens to a coroutine that runs for long; by default nothing.
    ///
    /// With [`Preemption::Handoff`] each worker has a spare, which counts as a worker where [`Builder::max_stacks`] is shared out, and in nothing
    /// else.
    pub fn preemption(mut self, preemption: Preemption) -> Builder {
        self.preemption = preemption;
        self
    }

    /// How long a coroutine may run before it is asked to give way, 10 ms if never called and at least 100 µs. It is noticed up to a tenth of
    /// it later, or one millisecond, whichever is less.
    pub fn time_slice(mut self, slice: Duration) -> Builder {
        self.slice = slice;
        self
    }

    /// Whether to report on standard error when every coroutine has waited for a second, none of them for a time, and the process has no
    /// other thread that could wake one: who waits, for what, and where. It is a report and not an error: the wait goes on.
    pub fn detect_deadlock(mut self, on: bool) -> Builder {
        self.detect_deadlock = on;
        self
    }

    /// Applies what is for the process, and returns what is for the workers.
    fn settings(&self) -> io::Result<Settings> {
        let class = self.stack.map_or(Ok(Class::DEFAULT), |stack| Class::for_bytes(stack.size()))?;
        if let Some(stack) = self.stack {
            stack.apply();
        }
        Ok(Settings {
            max_stacks: self.max_stacks,
            class,
            lifo_slot: self.lifo_slot,
            preemption: self.preemption,
            slice: self.slice.max(Duration::from_micros(100)),
            detect_deadlock: self.detect_deadlock,
        })
    }

    /// Runs `f` in a coroutine, with the calling OS thread as the only worker, and returns when it and every coroutine that was
    /// spawned have ended.
    ///
    /// A panic of `f` goes on in the caller, after the others have ended.
    ///
    /// # Errors
    /// If there is no address space for stacks, none of the size asked for, this thread already runs a runtime, or this is the stack of
    /// a raw coroutine.
    ///
    /// # Safety
    /// No code that runs in this runtime's coroutines suspends
    /// 1. inside a thread-local's initialiser or destructor (`process::exit` runs destructors on the stack it is called on),
    /// 2. inside the extent of a scoped thread-local (set, run a closure, restore), or
    /// 3. a coroutine, of whatever library, that was entered before this call: the worker, whose frame lies in it, would stop with it,
    ///    in the middle of one of its own coroutines.
    pub unsafe fn run_local<T, F>(self, f: F) -> io::Result<T>
    where
        F: FnOnce() -> T,
    {
        if worker::of_thread().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot run a second runtime on this thread: it is a worker already; spawn, or use another thread",
            ));
        }
        if arena::slot_of(arch::stack_pointer()).is_some() {
            // Else its `Yielder` could suspend the worker, whose frame lies on that stack, in the middle of one of its tasks.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot run a runtime inside a raw coroutine, which could suspend it; enter the runtime first, or on another thread",
            ));
        }
        if self.preemption == Preemption::Handoff {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "run_local has no thread but the caller's to hand work to: use Builder::build for Preemption::Handoff, or Flag here",
            ));
        }
        let class = Class::for_bytes(self.main_stack_size)?;
        arena::get()?;
        overflow::prepare_thread()?;
        let scheduler = Scheduler::new(1, false, self.settings()?);
        let worker = &scheduler.workers()[0];
        let watches = start_monitor(&scheduler, || ())?;
        let (task, id) = worker.record();
        let home = Home::Here(ptr::from_ref(worker).cast());
        // SAFETY: `run_alone` returns only when the task has ended, so what `f` and its value borrow outlives it; and both stay on this
        // thread.
        unsafe { task.fill(id, Some("main".into()), class, home, f) };
        // SAFETY: the worker is new, and this thread has no other, as was just checked.
        unsafe { worker.run_alone(task) };
        if let Some(watches) = watches {
            watches.join().expect("the monitor does not panic"); // The worker has left, so it has nobody to watch.
        }
        // SAFETY: the task has ended, and this is its only handle.
        let outcome = unsafe { task.outcome::<T>() };
        worker::release(task);
        match outcome {
            Ok(value) => Ok(value),
            Err(JoinError::Panic(failed)) => std::panic::resume_unwind(failed.cause),
            Err(JoinError::NoStack(failed)) => Err(failed.cause),
            Err(JoinError::Cancelled(_)) => unreachable!("nobody has a handle to the main coroutine"),
        }
    }

    /// Starts the workers, each on an OS thread of its own.
    ///
    /// # Errors
    /// If the number of workers is none that can be had, a thread cannot be started (`QuotaExceeded`, with the limits that may be meant)
    /// or pinned, or there is no address space for stacks. Threads that were started have ended by then.
    ///
    /// # Safety
    /// No code that runs in this runtime's coroutines suspends
    /// 1. inside a thread-local's initialiser or destructor (`process::exit` runs destructors on the stack it is called on), or
    /// 2. inside the extent of a scoped thread-local (set, run a closure, restore).
    pub unsafe fn build(self) -> io::Result<Runtime> {
        let cpus = sys::allowed_cpus()?;
        let workers = self.workers.unwrap_or(cpus.len());
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot start {workers} workers: a runtime has 1 to {MAX_WORKERS}"),
            ));
        }
        let main_class = Class::for_bytes(self.main_stack_size)?;
        arena::get()?;
        let scheduler = Scheduler::new(workers, true, self.settings()?);
        let left = Arc::new(Left::default());
        let mut runtime = Runtime {
            scheduler: Arc::clone(&scheduler),
            threads: Vec::with_capacity(workers),
            left,
            main_class,
        };
        for index in 0..scheduler.workers().len() {
            // A spare is to run wherever there is room, since its worker is stuck on that CPU.
            let cpu = (self.pin_cores && index < workers).then(|| cpus[index % cpus.len()]);
            // If one fails, dropping `runtime` ends those before it.
            runtime.start(index, cpu)?;
        }
        let left = Arc::clone(&runtime.left);
        let watches = start_monitor(&scheduler, move || left.one_more())?;
        runtime.threads.extend(watches);
        Ok(runtime)
    }
}

/// Starts the monitor of a scheduler, if it is to have one. It ends, with a call of `ended`, when all workers have left.
fn start_monitor(
    scheduler: &Arc<Scheduler>,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<Option<thread::JoinHandle<()>>> {
    if !scheduler.is_watched() {
        return Ok(None);
    }
    let scheduler = Arc::clone(scheduler);
    let body = move || {
        scheduler.watch();
        drop(scheduler);
        ended();
    };
    threads::start("switchmark-monitor".into(), "the monitor", body).map(Some)
}

/// How many workers have left.
#[derive(Debug, Default)]
struct Left {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Left {
    fn one_more(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until `all` have left, or until the deadline. Returns whether they have.
    fn wait(&self, all: usize, deadline: Option<Deadline>) -> bool {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count < all {
            count = match deadline.map(Deadline::left) {
                None => self.changed.wait(count).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    self.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

/// Workers on threads of their own, and the coroutines they run.
///
/// ```
/// use switchmark_runtime::{Builder, spawn};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
/// let runtime = unsafe { Builder::new().workers(2).build()? };
/// let sum: u64 = runtime.block_on(|| {
///     let parts: Vec<_> = (0..10).map(|part| spawn(move || (part * 10..part * 10 + 10).sum::<u64>())).collect();
///     parts.into_iter().map(|part| part.join().unwrap()).sum()
/// });
/// assert_eq!(sum, 4950);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping it cancels every coroutine and waits for all of them to end.
pub struct Runtime {
    scheduler: Arc<Scheduler>,
    threads: Vec<thread::JoinHandle<()>>,
    left: Arc<Left>,
    main_class: Class,
}

impl Runtime {
    /// Settings of a runtime, to be built.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn start(&mut self, index: usize, cpu: Option<usize>) -> io::Result<()> {
        let scheduler = Arc::clone(&self.scheduler);
        let left = Arc::clone(&self.left);
        let (report, ready) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let worker = &scheduler.workers()[index];
            let bound = cpu.map_or(Ok(()), |cpu| worker.bind_to(cpu));
            let prepared = bound.and_then(|()| overflow::prepare_thread());
            let goes_on = prepared.is_ok();
            let _ = report.send(prepared);
            if goes_on {
                // SAFETY: this thread is new, and each worker is started once.
                unsafe { worker.run() };
            }
            drop(scheduler);
            left.one_more();
        };
        let workers = self.scheduler.ordinary().len();
        let what = if index < workers {
            format!("worker {index} of {workers}")
        } else {
            format!("spare {} of {workers}", index - workers)
        };
        self.threads.push(threads::start(format!("switchmark-{index}"), &what, body)?);
        let began = ready.recv().unwrap_or_else(|_| Err(io::Error::other("it ended before it began")));
        began.map_err(|error| io::Error::new(error.kind(), format!("cannot start {what}: {error}")))
    }

    /// Runs `f` in a coroutine and waits for its end. `f` and what it returns may borrow: the caller waits. A panic of `f` goes on here.
    ///
    /// # Panics
    /// On a worker of a runtime, whose coroutines would wait with it; there one spawns and joins. If `f` was given no stack.
    pub fn block_on<T, F>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        assert!(
            worker::here().is_none(),
            "block_on() on a worker would block it and what runs there: spawn and join, or call it from another thread"
        );
        // SAFETY: `join` below is not left before the coroutine has ended: no coroutine runs this, so no cancellation unwinds it.
        let handle = unsafe { spawn::submit(&self.scheduler, Some("main".into()), Some(self.main_class), f) };
        match handle.expect("a runtime takes work until it is dropped").join() {
            Ok(value) => value,
            Err(error) => match error.into_panic() {
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// A handle that spawns from anywhere.
    pub fn handle(&self) -> Handle {
        Handle { scheduler: Arc::clone(&self.scheduler) }
    }

    /// Starts a coroutine.
    pub fn spawn<T, F>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.handle().spawn(f)
    }

    /// What the runtime has done so far, over all workers; a snapshot.
    pub fn metrics(&self) -> Metrics {
        self.scheduler.metrics()
    }

    /// Cancels every coroutine and waits for all to end, for at most `duration`.
    ///
    /// Those that have not ended by then are named in the error and run on: their workers and all that belongs to them are leaked.
    ///
    /// # Panics
    /// In a coroutine of this runtime, which would wait for itself.
    pub fn shutdown_timeout(mut self, duration: Duration) -> Result<(), StillRunning> {
        self.end(Some(Deadline::after(duration)))
    }

    fn end(&mut self, deadline: Option<Deadline>) -> Result<(), StillRunning> {
        let threads = std::mem::take(&mut self.threads);
        if threads.is_empty() {
            return Ok(());
        }
        self.scheduler.close();
        if !self.left.wait(threads.len(), deadline) {
            return Err(StillRunning { coroutines: self.scheduler.describe_tasks() });
        }
        for thread in threads {
            if thread.join().is_err() {
                unreachable!("a worker aborts rather than unwind");
            }
        }
        Ok(())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        if worker::here().is_some_and(|here| ptr::eq(here.scheduler(), &raw const *self.scheduler)) {
            // Nothing is waited for, so nothing hangs; what runs is cancelled, and its workers end by themselves.
            self.scheduler.close();
            self.threads.clear();
            assert!(
                thread::panicking(),
                "a runtime was dropped in one of its own coroutines, which it would wait for: drop it elsewhere; its coroutines are \
                 cancelled"
            );
            return;
        }
        let _ = self.end(None);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}

/// Coroutines that had not ended when [`Runtime::shutdown_timeout`] gave up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StillRunning {
    coroutines: Vec<String>,
}

impl StillRunning {
    /// A line for each: id, name, what it waits for and where.
    pub fn coroutines(&self) -> &[String] {
        &self.coroutines
    }
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} coroutines have not ended", self.coroutines.len())?;
        self.coroutines.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for StillRunning {}

/// A runtime, from anywhere: cheap to clone, and it keeps nothing running.
#[derive(Clone)]
pub struct Handle {
    scheduler: Arc<Scheduler>,
}

impl Handle {
    /// The runtime this code runs in, if it runs in a coroutine.
    pub fn try_current() -> Option<Handle> {
        // SAFETY: the task runs this, so it has not ended.
        Some(Handle { scheduler: unsafe { worker::share(worker::current()?) } })
    }

    /// Starts a coroutine from any OS thread.
    ///
    /// # Panics
    /// If the runtime has ended: its `run_local` has returned, or it was dropped.
    #[track_caller]
    pub fn spawn<T, F>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: closure and value borrow nothing.
        let handle = unsafe { spawn::submit(&self.scheduler, None, None, f) };
        handle.expect("cannot spawn: the runtime has ended, its run_local has returned or it was dropped")
    }

    /// A line for each coroutine that has started and not ended: id, name, what it waits for and where. A snapshot.
    pub fn coroutines(&self) -> Vec<String> {
        self.scheduler.describe_tasks()
    }

    /// How many workers the runtime has.
    pub fn workers(&self) -> usize {
        self.scheduler.ordinary().len()
    }

    /// The CPU that each worker is bound to, by [`Builder::pin_cores`]; `None` for one that is not.
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.scheduler.ordinary().iter().map(Worker::cpu).collect()
    }

    /// What the runtime has done so far; a snapshot if it runs on another thread.
    pub fn metrics(&self) -> Metrics {
        self.scheduler.metrics()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("metrics", &self.metrics()).finish()
    }
}

/// The coroutine that asked.
#[derive(Clone, Debug)]
pub struct Current {
    id: Id,
    name: Option<String>,
    stack_size: usize,
    stack_addr: usize,
}

/// Who runs here.
///
/// # Panics
/// Outside a coroutine.
#[track_caller]
pub fn current() -> Current {
    let Some(task) = worker::current() else { crate::park::outside("current()") };
    let slot = task.slot();
    Current {
        id: task.id(),
        name: task.name().map(str::to_owned),
        stack_size: slot.class.usable(),
        stack_addr: slot.bottom().addr(),
    }
}

impl Current {
    /// Unique in the process.
    pub fn id(&self) -> Id {
        self.id
    }

    /// As given to `task::Builder::name`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Usable bytes of its stack.
    pub fn stack_size(&self) -> usize {
        self.stack_size
    }

    /// Bytes of its stack, from the top, that were touched by it or by whoever had this stack before and left it warm.
    pub fn stack_high_water(&self) -> io::Result<usize> {
        Ok(watermark::high_water(self.stack_addr)?.unwrap_or(0))
    }
}
