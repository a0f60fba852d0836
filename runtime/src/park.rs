#![allow(unsafe_code, reason = "waiters are addresses of records and of words on waiting stacks")]
//! Waiting: `park` and `unpark` for users, [`Wait`] and [`Waiter`] for everything built inside.
//!
//! The two are kept apart on purpose. A [`Waiter`] is *claimed*: it lies in one place (a join word, a channel's list), and whoever takes it
//! out of there, and nobody else, wakes it. `park` has a token, which anybody may leave at any time. Were `join` built on the token, an
//! `unpark` meant for a later `park` would be used up by it and lost.
//!
//! **Interrupts.** A wait may also end because its deadline comes or its coroutine is cancelled. Neither has a claim, so the one who waits
//! settles it:
//!
//! 1. Both happen on the owner's thread (another thread's cancellation comes through the inbox), where they make the task runnable,
//!    if nothing else did before, and note why.
//! 2. The task, running again, *retracts* its waiter from where it lies, under whatever lock that has.
//! 3. If it was still there, nobody will ever wake it, and the wait has ended. If not, somebody has claimed it: the wait has succeeded
//!    after all, and the task waits for that wake-up, which is on its way, so that none comes late.
//!
//! So each wait ends with its waiter claimed and woken exactly once, or retracted, and a node beside it may lie on the waiting stack.
//!
//! An OS thread that waits has a *proxy* on its stack, a word it sleeps on, so that what is built on waiters serves coroutines and
//! threads alike. Only `park` itself is for coroutines: a thread has `std::thread::park`.
//!
//! **Cost.** A round trip of park and unpark is four locked operations: one to park, one to unpark, twice. A claimed wait needs none
//! of its own.

use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering;
use std::thread::panicking;

#[cfg(not(all(test, shuttle)))]
use crate::atomic::plain::AtomicPtr;
use crate::atomic::plain::AtomicUsize;
use crate::cancel;
use crate::preempt;
use crate::sched::worker;
#[cfg(not(all(test, shuttle)))]
use crate::sys;
use crate::task::{self, Interrupt, Kind, Phase, Task, WaitState, state};
use crate::time::Deadline;

/// Somebody who waits: a coroutine, or an OS thread by its proxy (low bit set). Aligned to `state::ALIGN` but for that bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(*const ());

/// What an OS thread sleeps on.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Proxy {
    /// Null until woken, then dangling: only null or not matters, and that its low half differs.
    #[cfg(not(all(test, shuttle)))]
    woken: AtomicPtr<()>,
    #[cfg(all(test, shuttle))]
    woken: shuttle_proxy::Woken,
}

const _: () = assert!(align_of::<Proxy>() == state::ALIGN && align_of::<Task>() == state::ALIGN);

#[cfg(not(all(test, shuttle)))]
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
        if self.0.addr() & state::PROXY == 0 {
            let task = task::from_ptr(self.0.cast()).expect("a waiter is a task or a proxy");
            worker::wake(task);
        } else {
            self.wake_thread();
        }
    }

    #[cold]
    #[cfg(not(all(test, shuttle)))]
    fn wake_thread(self) {
        let proxy: *const Proxy = self.0.map_addr(|addr| addr & !state::PROXY).cast();
        // SAFETY: a proxy lives until it is woken, and whoever claimed it is the only one to do that.
        let word = unsafe { &raw const (*proxy).woken };
        // Release: pairs with the Acquire in `Proxy::wait`. The thread may return as soon as it sees this, so the proxy is gone from here on.
        // SAFETY: as above.
        unsafe { (*word).store(ptr::without_provenance_mut(WOKEN), Ordering::Release) };
        sys::futex_wake(word);
    }
}

/// A wait about to begin: whose, and by which waiter others know it.
///
/// Begin one, publish [`Wait::waiter`], then wait for the claim.
#[derive(Debug)]
pub(crate) enum Wait {
    Task(&'static Task),
    Thread(Proxy),
}

impl Wait {
    /// Begins a wait. Unwinds if the coroutine is cancelled, and may let others run before that: no lock is held and nothing published.
    #[inline]
    #[track_caller]
    pub(crate) fn begin(kind: Kind) -> Wait {
        match worker::current() {
            Some(task) => {
                cancel::check(task);
                preempt::heed(task);
                task.waits_for(kind, Location::caller());
                Wait::Task(task)
            }
            None => Wait::Thread(Proxy::default()),
        }
    }

    /// The waiter to publish. From then on `self` does not move until the wait has ended.
    ///
    /// Panics on a worker's own stack, where the wait would be for somebody whom nobody runs.
    #[inline]
    pub(crate) fn waiter(&self) -> Waiter {
        match self {
            Wait::Task(task) => Waiter::task(task),
            Wait::Thread(proxy) => proxy.waiter(),
        }
    }

    /// Waits until somebody who claimed the waiter woke it, whatever else happens. For a published waiter only: else it never returns.
    #[inline]
    pub(crate) fn wait_masked(&self) {
        match self {
            Wait::Task(task) => {
                task.wait.set(WaitState { phase: Phase::Waits, ..WaitState::NONE });
                let worker = worker::of(task);
                let deferred = panicking();
                if deferred {
                    worker.defer(task);
                }
                worker.suspend(task);
                if deferred {
                    worker.defer_no_more(task);
                }
            }
            Wait::Thread(proxy) => {
                proxy.wait(None);
            }
        }
    }

    /// Waits until somebody who claimed the waiter woke it, and returns `true`; or until the deadline comes, and returns `false`; or unwinds
    /// because the coroutine is cancelled.
    ///
    /// In the second and third case `retract` has taken the waiter back from where it was published. It returns whether it was still there.
    #[inline]
    pub(crate) fn wait_until(&self, deadline: Option<Deadline>, retract: impl FnOnce() -> bool) -> bool {
        match self {
            Wait::Task(task) => {
                let worker = worker::of(task);
                if let Some(deadline) = deadline {
                    worker.expect(task, deadline);
                }
                let phase = cancel::phase(task);
                task.wait.set(WaitState { phase, ..WaitState::NONE });
                worker.suspend(task);
                let state = task.wait.get();
                if phase == Phase::Masked {
                    worker.defer_no_more(task);
                }
                if deadline.is_some() {
                    worker.expect_no_more(task, state.interrupt);
                }
                if state.woken {
                    return true;
                }
                self.settle(task, state.interrupt, retract())
            }
            Wait::Thread(proxy) => {
                if proxy.wait(deadline) {
                    return true;
                }
                !retract() && proxy.wait(None)
            }
        }
    }

    /// Steps 2 and 3 of an interrupted wait.
    #[cold]
    fn settle(&self, task: &'static Task, interrupt: Option<Interrupt>, retracted: bool) -> bool {
        if !retracted {
            if !task.wait.get().woken {
                self.wait_masked();
            }
            return true;
        }
        match interrupt {
            Some(Interrupt::Cancel | Interrupt::Timeout) => cancel::throw(task),
            Some(Interrupt::Deadline) => false,
            None => unreachable!("a wait ends by a claim or an interrupt"),
        }
    }
}

impl Proxy {
    #[cold]
    fn waiter(&self) -> Waiter {
        assert!(
            worker::of_thread().is_none(),
            "waiting here would block its own worker: this is no coroutine but the worker's stack, on which the closure of a \
             coroutine that got no stack is dropped; let its destructor not wait, or raise Builder::max_stacks"
        );
        Waiter(ptr::from_ref(self).map_addr(|addr| addr | state::PROXY).cast())
    }

    /// Sleeps until woken (`true`) or until the deadline.
    #[cold]
    #[cfg(not(all(test, shuttle)))]
    fn wait(&self, deadline: Option<Deadline>) -> bool {
        // Acquire: pairs with the Release in `wake_thread`; what the waker did before is seen.
        while self.woken.load(Ordering::Acquire).is_null() {
            let left = deadline.map(Deadline::left);
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            let sleep = || sys::futex_wait(&self.woken, 0, left);
            if left.is_none() { counted_waiting(sleep) } else { sleep() }
        }
        true
    }
}

/// OS threads that do nothing before a coroutine does something: those that wait by a proxy, without a deadline, and helpers of ours.
static THREADS_WAITING: AtomicUsize = AtomicUsize::new(0);

/// Runs `wait`, in which the calling thread, no worker, waits for coroutines.
pub(crate) fn counted_waiting<T>(wait: impl FnOnce() -> T) -> T {
    // Relaxed, twice: a count for a report.
    THREADS_WAITING.fetch_add(1, Ordering::Relaxed);
    let result = wait();
    THREADS_WAITING.fetch_sub(1, Ordering::Relaxed);
    result
}

/// How many OS threads wait here for coroutines; a snapshot.
pub(crate) fn threads_waiting() -> usize {
    // Relaxed: a count for a report.
    THREADS_WAITING.load(Ordering::Relaxed)
}

/// What a thread sleeps on where shuttle schedules the threads. Its clock is chance: a deadline may come at any time, or not at all.
#[cfg(all(test, shuttle))]
mod shuttle_proxy {
    use shuttle::rand::Rng;
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use shuttle::thread;

    use super::{Deadline, Proxy, Waiter, state};

    #[derive(Debug)]
    pub(super) struct Woken(AtomicBool, thread::Thread);

    impl Default for Woken {
        fn default() -> Woken {
            Woken(AtomicBool::new(false), thread::current())
        }
    }

    impl Waiter {
        pub(super) fn wake_thread(self) {
            let proxy: *const Proxy = self.0.map_addr(|addr| addr & !state::PROXY).cast();
            // SAFETY: a proxy lives until it is woken, and whoever claimed it is the only one to do that.
            let Woken(woken, thread) = unsafe { &(*proxy).woken };
            let thread = thread.clone(); // The proxy goes with the next step.
            woken.store(true, Ordering::Release);
            thread.unpark();
        }
    }

    impl Proxy {
        pub(super) fn wait(&self, deadline: Option<Deadline>) -> bool {
            while !self.woken.0.load(Ordering::Acquire) {
                if deadline.is_none() {
                    thread::park();
                } else if shuttle::rand::thread_rng().gen_bool(0.2) {
                    return false;
                } else {
                    thread::yield_now();
                }
            }
            true
        }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn outside(what: &str) -> ! {
    panic!(
        "{what} is for code that runs in a coroutine: enter a runtime by Builder::run_local or Runtime::block_on"
    )
}

/// Waits until somebody unparks this coroutine, or returns at once if somebody did since its last `park`.
///
/// Suspends, and unwinds if the coroutine is cancelled. There are no spurious returns: each return uses a token.
///
/// # Panics
/// Outside a coroutine.
#[inline(always)] // As in `yield_now`.
#[track_caller]
pub fn park() {
    park_until(None);
}

/// Waits as [`park`] does, for at most `duration`. Returns whether it was unparked.
///
/// # Panics
/// Outside a coroutine.
#[track_caller]
pub fn park_timeout(duration: std::time::Duration) -> bool {
    park_until(Some(Deadline::after(duration)))
}

#[inline(always)]
#[track_caller]
fn park_until(deadline: Option<Deadline>) -> bool {
    let Wait::Task(me) = Wait::begin(Kind::Park) else { outside("park()") };
    if !me.token.park() {
        return true;
    }
    worker::of(me).counters.parks.bump();
    Wait::Task(me).wait_until(deadline, || me.token.retract())
}

/// Lets another coroutine run, if one is ready; this one goes to the end of the queue.
///
/// Suspends, and unwinds if the coroutine is cancelled. Outside a coroutine it yields the OS thread.
#[inline(always)] // Out of line its return after the switch is mispredicted: 16.5 ns a yield instead of 4.9.
pub fn yield_now() {
    match worker::current() {
        Some(me) => {
            cancel::check(me);
            if panicking() {
                cancel::give_way_unwinding(me);
            } else {
                worker::of(me).give_way(me);
            }
        }
        None => std::thread::yield_now(),
    }
}

/// Wakes one coroutine, from anywhere.
pub struct Unparker {
    task: &'static Task,
}

// SAFETY: of the record it uses `token`, the reference count and, when it has claimed the task, `word` and `worker`, which is constant by
// then.
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
        if self.task.token.unpark() {
            worker::wake(self.task);
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
