#![allow(unsafe_code, reason = "the one promise a program makes, and the worker it starts")]
//! The door: a builder, and handles to a runtime that runs.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::arch;
use crate::metrics::Metrics;
use crate::sched::worker::{self, Worker};
use crate::spawn::{self, JoinHandle};
use crate::stack::{Class, arena, overflow, watermark};
use crate::task::{Home, Id};

/// Settings of a runtime.
#[derive(Debug)]
#[must_use = "a builder does nothing until it runs"]
pub struct Builder {
    max_stacks: Option<usize>,
    main_stack_size: usize,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { max_stacks: None, main_stack_size: Class::ALL[Class::COUNT - 1].usable() }
    }
}

impl Builder {
    /// The defaults: as many stacks as the address space holds, the largest for the main coroutine.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Bounds the coroutines that have a stack at one time, the main one included. Those above it wait, without a stack, for one to end.
    pub fn max_stacks(mut self, max: Option<usize>) -> Builder {
        self.max_stacks = max;
        self
    }

    /// Asks for at least this many usable bytes of stack for the closure given to [`Builder::run_local`].
    pub fn main_stack_size(mut self, bytes: usize) -> Builder {
        self.main_stack_size = bytes;
        self
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
        let class = Class::for_bytes(self.main_stack_size)?;
        arena::get()?;
        overflow::prepare_thread()?;
        let worker = Worker::new(self.max_stacks.unwrap_or(usize::MAX));
        let (task, id) = worker.record();
        // SAFETY: `run` returns only when the task has ended, so what `f` and its value borrow outlives it; and both stay on this thread.
        unsafe { task.fill(id, Some("main".into()), class, Home::Here(Arc::as_ptr(&worker).cast()), f) };
        // SAFETY: the worker is new, and this thread has no other, as was just checked.
        unsafe { worker.run(task) };
        // SAFETY: the task has ended, and this is its only handle.
        let outcome = unsafe { task.outcome::<T>() };
        worker::release(task);
        match outcome {
            Ok(value) => Ok(value),
            Err(error) => match error.into_panic() {
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(error) => Err(io::Error::other(error.to_string())),
            },
        }
    }
}

/// A runtime, from anywhere: cheap to clone, and it keeps nothing running.
#[derive(Clone)]
pub struct Handle {
    worker: Arc<Worker>,
}

impl Handle {
    /// The runtime this code runs in, if it runs in a coroutine.
    pub fn try_current() -> Option<Handle> {
        // SAFETY: the task runs this, so it has not ended.
        Some(Handle { worker: unsafe { worker::share(worker::current()?) } })
    }

    /// Starts a coroutine from any OS thread.
    ///
    /// # Panics
    /// If the runtime has ended: its `run_local` has returned.
    #[track_caller]
    pub fn spawn<T, F>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn::onto(&self.worker, f).expect("cannot spawn: the runtime has ended, its run_local has returned")
    }

    /// What the runtime has done so far; a snapshot if it runs on another thread.
    pub fn metrics(&self) -> Metrics {
        Metrics::read(&self.worker.counters)
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
