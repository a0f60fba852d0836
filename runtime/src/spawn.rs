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

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::{self, Unsupported};
use crate::park::Wait;
use crate::sched::worker::{self, Worker};
use crate::stack::{Class, DEFAULT_BYTES};
use crate::task::{Home, Id, JoinError, Kind, Task};
use crate::time::Deadline;

/// Starts a coroutine on the worker this runs on.
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
    let Some(me) = worker::current() else { nowhere() };
    on(worker::of(me), me.worker.get(), None, default_class(), f)
}

fn default_class() -> Class {
    const { Class::ALL[1] }
}

const _: () = assert!(Class::ALL[1].usable() == DEFAULT_BYTES);

#[cold]
#[inline(never)]
#[track_caller]
fn nowhere() -> ! {
    panic!(
        "spawn() outside a coroutine: call it inside Builder::run_local, or use the spawn of a Handle taken there by \
         Handle::try_current"
    )
}

/// Spawns onto the worker whose thread this is; `owner` is the pointer to it that a record keeps.
#[inline]
fn on<T, F>(worker: &Worker, owner: *const (), name: Option<Box<str>>, class: Class, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (task, id) = worker.record();
    // SAFETY: closure and value are `'static` and `Send`.
    unsafe { task.fill(id, name, class, Home::Here(owner), f) };
    worker.adopt(task);
    JoinHandle { task, value: PhantomData }
}

/// Spawns onto a worker from any thread; `None` if its `run_local` has returned.
pub(crate) fn onto<T, F>(worker: &Arc<Worker>, f: F) -> Option<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let owner = Arc::as_ptr(worker);
    if worker::here().is_some_and(|here| ptr::eq(here, owner)) {
        return Some(on(worker, owner.cast(), None, default_class(), f));
    }
    let records = crate::task::Records::new();
    let task = records.take();
    let id = crate::task::id_block();
    // SAFETY: closure and value are `'static` and `Send`.
    unsafe { task.fill(id, None, default_class(), Home::There(owner.cast()), f) };
    if worker.adopt_remotely(task).is_ok() {
        return Some(JoinHandle { task, value: PhantomData });
    }
    // SAFETY: refused, so nobody else knows the record, and its closure never ran.
    unsafe { task.give_up(None) };
    // SAFETY: the outcome is the error just put there.
    unsafe { task.drop_outcome() };
    records.give(task);
    None
}

/// A coroutine with settings of its own.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Box<str>>,
    stack_size: Option<usize>,
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

    /// Starts the coroutine. Fails if no class has so large a stack.
    ///
    /// # Panics
    /// Outside a coroutine.
    #[track_caller]
    pub fn spawn<T, F>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let class = self.stack_size.map_or(Ok(default_class()), Class::for_bytes)?;
        let Some(me) = worker::current() else { nowhere() };
        Ok(on(worker::of(me), me.worker.get(), self.name, class, f))
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
