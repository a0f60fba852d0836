#![allow(unsafe_code, reason = "waiters are addresses of records and of words on waiting stacks")]
//! Waiting: `park` and `unpark` for users, [`Waiter`] for everything built inside.
//!
//! The two are kept apart on purpose. A [`Waiter`] is *claimed*: it lies in one place (a join word, a channel's list), and whoever takes it
//! out of there, and nobody else, wakes it. `park` has a token, which anybody may leave at any time. Were `join` built on the token, an
//! `unpark` meant for a later `park` would be used up by it and lost.
//!
//! An OS thread that waits has a *proxy* on its stack, a word it sleeps on, so that what is built on waiters serves coroutines and
//! threads alike. Only `park` itself is for coroutines: a thread has `std::thread::park`.
//!
//! **Cost.** A round trip of park and unpark is four locked operations: one to park, one to unpark, twice. A claimed wait needs none
//! of its own.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sched::worker;
use crate::sys;
use crate::task::{self, Task, state};

/// Somebody who waits: a coroutine, or an OS thread by its proxy (low bit set). Never one of the constants of `state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(*const ());

const PROXY: usize = 1;

/// What an OS thread sleeps on.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Null until woken, then dangling: only null or not matters, and that its low half differs.
    woken: AtomicPtr<()>,
}

const WOKEN: usize = 1;

impl Waiter {
    fn task(task: &'static Task) -> Waiter {
        Waiter(ptr::from_ref(task).cast())
    }

    pub(crate) fn word(self) -> usize {
        self.0.expose_provenance()
    }

    pub(crate) fn from_word(word: usize) -> Waiter {
        Waiter(ptr::with_exposed_provenance(word))
    }

    /// Wakes a waiter that the caller has claimed. It may be gone when this returns.
    #[inline]
    pub(crate) fn wake(self) {
        if self.0.addr() & PROXY == 0 {
            let task = task::from_ptr(self.0.cast()).expect("a waiter is a task or a proxy");
            worker::wake(task);
        } else {
            self.wake_thread();
        }
    }

    #[cold]
    fn wake_thread(self) {
        let proxy: *const Proxy = self.0.map_addr(|addr| addr & !PROXY).cast();
        // SAFETY: a proxy lives until it is woken, and whoever claimed it is the only one to do that.
        let word = unsafe { &raw const (*proxy).woken };
        // Release: pairs with the Acquire in `Wait::wait`. The thread may return as soon as it sees this, so the proxy is gone from here on.
        // SAFETY: as above.
        unsafe { (*word).store(ptr::without_provenance_mut(WOKEN), Ordering::Release) };
        sys::futex_wake(word);
    }
}

/// A wait about to begin: whose, and by which waiter others know it.
///
/// Make one, publish [`Wait::waiter`], then [`Wait::wait`] for the claim.
#[derive(Debug)]
pub(crate) enum Wait {
    Task(&'static Task),
    Thread(Proxy),
}

impl Wait {
    /// Panics on a worker's own stack, where the wait would be for somebody whom nobody runs.
    #[inline]
    pub(crate) fn new() -> Wait {
        match worker::current() {
            Some(task) => Wait::Task(task),
            None => Wait::of_thread(),
        }
    }

    #[cold]
    fn of_thread() -> Wait {
        assert!(
            worker::of_thread().is_none(),
            "waiting here would block its own worker: this is no coroutine but the worker's stack, on which the closure of a \
             coroutine that got no stack is dropped; let its destructor not wait, or raise Builder::max_stacks"
        );
        Wait::Thread(Proxy { woken: AtomicPtr::new(ptr::null_mut()) })
    }

    /// The waiter to publish. From then on `self` does not move until [`Wait::wait`] returned.
    #[inline]
    pub(crate) fn waiter(&self) -> Waiter {
        match self {
            Wait::Task(task) => Waiter::task(task),
            Wait::Thread(proxy) => Waiter(ptr::from_ref(proxy).map_addr(|addr| addr | PROXY).cast()),
        }
    }

    /// Waits until somebody who claimed the waiter woke it. For a published waiter only: else it never returns.
    #[inline]
    pub(crate) fn wait(&self) {
        match self {
            Wait::Task(task) => worker::of(task).suspend(task),
            Wait::Thread(proxy) => proxy.wait(),
        }
    }
}

impl Proxy {
    #[cold]
    fn wait(&self) {
        // Acquire: pairs with the Release in `wake_thread`; what the waker did before is seen.
        while self.woken.load(Ordering::Acquire).is_null() {
            sys::futex_wait(&self.woken, 0);
        }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn outside(what: &str) -> ! {
    panic!("{what} is for code that runs in a coroutine: enter a runtime by Builder::run_local")
}

/// Waits until somebody unparks this coroutine, or returns at once if somebody did since its last `park`.
///
/// Suspends. There are no spurious returns: each return uses a token.
///
/// # Panics
/// Outside a coroutine.
#[inline]
#[track_caller]
pub fn park() {
    let Some(me) = worker::current() else { outside("park()") };
    // Acquire on both ways: pairs with the Release of the unparker, on success with one whose token was used before, for what else it
    // published. Release: an unparker that finds PARKED runs after what we did before.
    match me.token.compare_exchange(state::RUNNING, state::PARKED, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            let worker = worker::of(me);
            worker.counters.parks.bump();
            worker.suspend(me);
        }
        Err(_) => use_token(me),
    }
}

fn use_token(me: &Task) {
    // Acquire: as above. An exchange, not a store: an unparker that comes just now finds its token used together with the one before
    // it, and what it published is seen here.
    me.token.swap(state::RUNNING, Ordering::Acquire);
}

/// Lets another coroutine run, if one is ready; this one goes to the end of the queue.
///
/// Suspends. Outside a coroutine it yields the OS thread.
#[inline]
pub fn yield_now() {
    match worker::current() {
        Some(me) => worker::of(me).give_way(me),
        None => std::thread::yield_now(),
    }
}

/// Wakes one coroutine, from anywhere.
pub struct Unparker {
    task: &'static Task,
}

// SAFETY: of the record it uses `token`, the reference count and, when it has claimed the task, `worker`, which is constant.
unsafe impl Send for Unparker {}
// SAFETY: as above; nothing in it is changed through a shared reference but atomics.
unsafe impl Sync for Unparker {}

/// An [`Unparker`] for the current coroutine.
///
/// # Panics
/// Outside a coroutine.
#[track_caller]
pub fn unparker() -> Unparker {
    let Some(task) = worker::current() else { outside("unparker()") };
    task.retain();
    Unparker { task }
}

impl Unparker {
    /// Ends the coroutine's `park`, or the next one if it is not in one. Tokens do not add up.
    #[inline]
    pub fn unpark(&self) {
        let token = &self.task.token;
        // Relaxed: the exchange below confirms what was read.
        let mut seen = token.load(Ordering::Relaxed);
        loop {
            let to = if seen == state::PARKED { state::RUNNING } else { state::TOKEN };
            // Release: pairs with the Acquire in `park`. Acquire: a claim pairs with the Release of the park, so that it reads the
            // worker of a task that has got that far. TOKEN over TOKEN too: what this caller did must be published.
            match token.compare_exchange_weak(seen, to, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(state::PARKED) => return worker::wake(self.task),
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whose it is.
    pub fn id(&self) -> task::Id {
        self.task.id()
    }
}

impl Clone for Unparker {
    fn clone(&self) -> Unparker {
        self.task.retain();
        Unparker { task: self.task }
    }
}

impl Drop for Unparker {
    fn drop(&mut self) {
        worker::release(self.task);
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparker").field("id", &self.id()).finish_non_exhaustive()
    }
}
