#![allow(unsafe_code, reason = "fills records and takes outcomes out of them")]
//! Spawn and join.
//!
//! `spawn` fills a record and queues it: no stack, no system call. The coroutine starts when the worker gets to it; the spawner goes on.
//! A handle that is dropped detaches its coroutine.
//!
//! ```compile_fail,E0373
//! // A coroutine may outlive its spawner's frame, so it borrows nothing from it.
//! let local = vec![1, 2, 3];
//! switchmark_runtime::spawn(|| local.len());
//! ```
//!
//! ```compile_fail,E0277
//! // A coroutine that has not started may change threads, so what it captures must be able to.
//! let local = std::rc::Rc::new(1);
//! switchmark_runtime::spawn(move || *local);
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::time::Duration;

use crate::cancel::{self, Unsupported};
use crate::park::Wait;
use crate::sched::scheduler::Scheduler;
use crate::sched::worker::{self, Worker};
use crate::stack::Class;
use crate::task::{Home, Id, JoinError, Kind, Task};
use crate::time::Deadline;

/// Starts a coroutine in the runtime this runs in. Until it has started, any worker may take it; from then on it stays.
///
/// # Panics
/// Outside a coroutine; there a `Handle` spawns.
#[inline]
#[track_caller]
pub fn spawn<T, F>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: closure and value are `'static` and `Send`.
    unsafe { on(here(), None, None, f) }
}

/// Starts a coroutine that never leaves this worker, so that it may capture and return what is not `Send`.
///
/// ```compile_fail,E0277
/// // Its value stays on this thread, and so does the handle.
/// let unit = switchmark_runtime::spawn_local(|| std::rc::Rc::new(1));
/// std::thread::spawn(move || unit.join());
/// ```
///
/// # Panics
/// Outside a coroutine.
#[inline]
#[track_caller]
pub fn spawn_local<T, F>(f: F) -> LocalJoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let worker = here();
    let (task, id) = worker.record();
    // SAFETY: closure and value are `'static`; the task belongs to this worker, and the handle stays on its thread.
    unsafe { task.fill(id, None, worker.class(), home_of(worker), f) };
    worker.adopt(task);
    LocalJoinHandle { handle: JoinHandle { task, value: PhantomData }, stays: PhantomData }
}

/// The worker of the coroutine this runs in.
#[inline]
#[track_caller]
pub(crate) fn here() -> &'static Worker {
    match worker::current() {
        Some(me) => worker::of(me),
        None => nowhere(),
    }
}

fn home_of(worker: &Worker) -> Home {
    Home::Here(ptr::from_ref(worker).cast())
}

#[cold]
#[inline(never)]
#[track_caller]
fn nowhere() -> ! {
    panic!(
        "spawn() outside a coroutine: call it inside Builder::run_local or Runtime::block_on, or use the spawn of a Handle, which \
         Handle::try_current() or Runtime::handle() gives"
    )
}

/// Spawns from a worker's own thread; with the runtime's own stack where no class is given.
///
/// # Safety
/// What `f` borrows outlives the coroutine, and what its value borrows the taking of the value. Both are `Send`.
#[inline]
pub(crate) unsafe fn on<T, F>(
    worker: &Worker,
    name: Option<Box<str>>,
    class: Option<Class>,
    f: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T,
{
    let class = class.unwrap_or(worker.class());
    let (task, id) = worker.record();
    if worker.is_alone() {
        // SAFETY: the caller's contract.
        unsafe { task.fill(id, name, class, home_of(worker), f) };
        worker.adopt(task);
    } else {
        // SAFETY: the caller's contract.
        unsafe { task.fill(id, name, class, Home::Nowhere, f) };
        worker.offer(task);
    }
    JoinHandle { task, value: PhantomData }
}

/// Spawns into a runtime from any thread; `None` if it has ended.
///
/// # Safety
/// As for [`on`].
pub(crate) unsafe fn submit<T, F>(
    scheduler: &Scheduler,
    name: Option<Box<str>>,
    class: Option<Class>,
    f: F,
) -> Option<JoinHandle<T>>
where
    F: FnOnce() -> T,
{
    if let Some(here) = worker::here().filter(|here| ptr::eq(here.scheduler(), scheduler)) {
        // SAFETY: the caller's contract.
        return Some(unsafe { on(here, name, class, f) });
    }
    let class = class.unwrap_or(scheduler.workers()[0].class());
    let only = scheduler.is_alone().then(|| &scheduler.workers()[0]);
    let home = only.map_or(Home::Nowhere, |worker| Home::There(ptr::from_ref(worker).cast()));
    // SAFETY: the caller's contract.
    let task = unsafe { fill_outside(name, class, home, f) };
    let taken = match only {
        Some(worker) => worker.adopt_remotely(task).is_ok(),
        None => scheduler.submit(task).is_ok(),
    };
    // SAFETY: the record was filled just now, and if it was not taken nobody else knows it.
    taken.then_some(JoinHandle { task, value: PhantomData }).or_else(|| unsafe { take_back(task) })
}

/// Fills a record on a thread that has no worker to give it one.
///
/// # Safety
/// As for [`on`].
unsafe fn fill_outside<T, F: FnOnce() -> T>(
    name: Option<Box<str>>,
    class: Class,
    home: Home,
    f: F,
) -> &'static Task {
    let task = crate::task::take_record();
    // SAFETY: the caller's contract.
    unsafe { task.fill(crate::task::id_block(), name, class, home, f) };
    task
}

/// Drops a closure that no worker took.
///
/// # Safety
/// Nobody else knows the record.
#[cold]
unsafe fn take_back<T>(task: &'static Task) -> Option<JoinHandle<T>> {
    // SAFETY: its closure never ran, and the record is the caller's.
    unsafe { task.give_up(None) };
    // SAFETY: the outcome is the one just put there.
    unsafe { task.drop_outcome() };
    crate::task::recycle(task);
    None
}

/// A coroutine with settings of its own.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    worker: Option<usize>,
}

impl Builder {
    /// No name, the default stack.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the coroutine, for errors and reports.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Asks for at least this many usable bytes of stack; the size class decides how many there are.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts the coroutine on this worker, counted from 0, instead of wherever there is time for it.
    pub fn worker(mut self, index: usize) -> Builder {
        self.worker = Some(index);
        self
    }

    /// Starts the coroutine. Fails if no class has so large a stack, there is no such worker, or the runtime is ending.
    ///
    /// # Panics
    /// Outside a coroutine.
    #[track_caller]
    pub fn spawn<T, F>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let class = self.stack_size.map(Class::for_bytes).transpose()?;
        let here = here();
        let Some(index) = self.worker else {
            // SAFETY: closure and value are `'static` and `Send`.
            return Ok(unsafe { on(here, self.name, class, f) });
        };
        let Some(there) = here.scheduler().ordinary().get(index) else {
            let text = format!(
                "cannot spawn on worker {index}: the runtime has {}, counted from 0",
                here.scheduler().ordinary().len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let home = Home::There(ptr::from_ref(there).cast());
        // SAFETY: closure and value are `'static` and `Send`.
        let task = unsafe { fill_outside(self.name, class.unwrap_or(there.class()), home, f) };
        if there.adopt_remotely(task).is_err() {
            // SAFETY: refused, so nobody else knows the record.
            let _: Option<JoinHandle<T>> = unsafe { take_back(task) };
            return Err(io::Error::other(format!("cannot spawn on worker {index}: the runtime is ending")));
        }
        Ok(JoinHandle { task, value: PhantomData })
    }
}

/// A coroutine's end to wait for. Dropping it detaches the coroutine, which runs on.
pub struct JoinHandle<T> {
    task: &'static Task,
    value: PhantomData<T>,
}

// SAFETY: it takes a `T` out of the record when the task has ended, and else uses its atomics and constants.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle reads atomics and constants only.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Waits for the coroutine's end: its value, or why there is none. Works in coroutines and on OS threads.
    ///
    /// Suspends, unless the coroutine has ended; if the caller is cancelled meanwhile, it unwinds and the coroutine is detached.
    ///
    /// # Panics
    /// In the destructor of a closure that got no stack, if the coroutine has not ended: the wait would block its own worker.
    #[inline]
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        if !self.task.word.is_done() {
            self.wait(None);
        }
        self.outcome()
    }

    /// Waits as [`JoinHandle::join`] does, for at most `duration`; gives the handle back if the coroutine has not ended by then.
    #[track_caller]
    pub fn join_timeout(self, duration: Duration) -> Result<Result<T, JoinError>, Self> {
        if self.task.word.is_done() || self.wait(Some(Deadline::after(duration))) {
            Ok(self.outcome())
        } else {
            Err(self)
        }
    }

    #[inline]
    #[track_caller]
    fn wait(&self, deadline: Option<Deadline>) -> bool {
        let (word, wait) = (&self.task.word, Wait::begin(Kind::Join));
        // Whoever wakes us has ended the task, which a last look acquires: the waker may have run on another thread.
        !word.register(wait.waiter().word())
            || (wait.wait_until(deadline, || word.retract()) && word.is_done())
    }

    #[inline]
    fn outcome(self) -> Result<T, JoinError> {
        let task = self.task;
        mem::forget(self);
        // SAFETY: the task has ended, this is its handle, and `T` its type.
        let outcome = unsafe { task.outcome::<T>() };
        worker::release(task);
        outcome
    }

    /// Asks the coroutine to unwind at its next suspension point, or not to start; see [`mod@crate::cancel`]. Nothing happens to one that has
    /// ended. Returns at once: `join` tells when it has ended, and how.
    pub fn cancel(&self) -> Result<(), Unsupported> {
        cancel::request(self.task)
    }

    /// Whether the coroutine has ended, so that [`JoinHandle::join`] would not wait.
    pub fn is_finished(&self) -> bool {
        self.task.word.is_done()
    }

    /// The coroutine's id.
    pub fn id(&self) -> Id {
        self.task.id()
    }
}

/// A reference to a coroutine's record without its value: to cancel it by.
#[derive(Debug)]
pub(crate) struct Reference(&'static Task);

// SAFETY: it uses atomics, the count of references and constants of the record only.
unsafe impl Send for Reference {}
// SAFETY: as above.
unsafe impl Sync for Reference {}

impl Reference {
    pub(crate) fn cancel(&self) -> Result<(), Unsupported> {
        cancel::request(self.0)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.word.is_done()
    }

    /// The error of a panic that was caught before the root.
    #[cold]
    pub(crate) fn panicked(&self, payload: Box<dyn Any + Send>) -> JoinError {
        JoinError::Panic(self.0.failed(payload))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        worker::release(self.0);
    }
}

impl<T> JoinHandle<T> {
    pub(crate) fn reference(&self) -> Reference {
        self.task.retain();
        Reference(self.task)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        struct Release(&'static Task);
        impl Drop for Release {
            fn drop(&mut self) {
                worker::release(self.0);
            }
        }
        let _release = Release(self.task); // Also if the drop below, of the user's, panics.
        if !self.task.word.detach() {
            // SAFETY: the task has ended, so the outcome passed to the handle.
            unsafe { self.task.drop_outcome() };
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

/// The end of a coroutine that stays on its worker; the handle stays there too. Dropping it detaches the coroutine.
pub struct LocalJoinHandle<T> {
    handle: JoinHandle<T>,
    stays: PhantomData<*const ()>,
}

impl<T> LocalJoinHandle<T> {
    /// As [`JoinHandle::join`].
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()
    }

    /// As [`JoinHandle::join_timeout`].
    #[track_caller]
    pub fn join_timeout(self, duration: Duration) -> Result<Result<T, JoinError>, Self> {
        self.handle.join_timeout(duration).map_err(|handle| LocalJoinHandle { handle, stays: PhantomData })
    }

    /// As [`JoinHandle::cancel`].
    pub fn cancel(&self) -> Result<(), Unsupported> {
        self.handle.cancel()
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::id`].
    pub fn id(&self) -> Id {
        self.handle.id()
    }
}

impl<T> fmt::Debug for LocalJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalJoinHandle").field(&self.handle).finish()
    }
}
