#![allow(unsafe_code, reason = "coroutines borrow from a frame, which waits for them")]
//! Scopes: coroutines that borrow.
//!
//! ```
//! use switchmark_runtime::{Builder, scope};
//!
//! // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
//! let words = unsafe {
//!     Builder::new().run_local(|| {
//!         let text = String::from("one two three");
//!         let mut counts = [0; 2];
//!         let (letters, words) = counts.split_at_mut(1);
//!         scope(|s| {
//!             s.spawn(|| letters[0] = text.chars().filter(|c| c.is_alphabetic()).count());
//!             s.spawn(|| words[0] = text.split(' ').count());
//!         });
//!         counts
//!     })?
//! };
//! assert_eq!(words, [11, 3]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Why it is sound.** The frame of `scope` is on a stack that nobody can forget, and it is left only when every child is through with what it
//! borrows. What counts as that: the child has dropped its closure, its locals and, if the handle is gone, its result, and
//! then counts itself out, as the last thing it does with memory of the scope. What it does after that, it does with its own record.
//!
//! The scope waits outside of any unwinding: its closure runs under `catch_unwind`. If the closure panics, or the coroutine is cancelled in it
//! or in the wait behind it, the children are cancelled, and waited for with cancellation masked; then the unwinding goes on. A frame that is
//! unwound past that wait all the same, by a panic inside `scope` itself, aborts.
//!
//! **Panics of children.** `join` returns one as an error. One that nobody joined goes on out of `scope`, after all have ended; of several, the
//! first.
//!
//! The two markers that keep the lifetimes from being shortened or lengthened are those of `std::thread::scope`.
//!
//! ```compile_fail,E0373
//! // A child may borrow what lives outside the scope, not what lives in its closure.
//! switchmark_runtime::scope(|s| {
//!     let inside = 1;
//!     s.spawn(|| inside + 1);
//! });
//! ```
//!
//! ```compile_fail,E0521
//! // Nor can the scope be kept.
//! let mut kept = None;
//! switchmark_runtime::scope(|s| {
//!     kept = Some(s);
//! });
//! ```

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::atomic::plain::{AtomicUsize, Mutex, MutexGuard};
use crate::cancel::{self, Unsupported};
use crate::park::{Wait, Waiter};
use crate::sched::worker;
use crate::spawn::{self, JoinHandle, Reference};
use crate::sys;
use crate::task::{Cancellation, Id, JoinError, Kind};

type Payload = Box<dyn Any + Send>;

/// Where children are spawned that borrow from outside of it.
pub struct Scope<'scope, 'env: 'scope> {
    children: Children,
    inside: PhantomData<&'scope mut &'scope ()>,
    outside: PhantomData<&'env mut &'env ()>,
}

/// What parent and children share; lies in the frame of `scope`.
struct Children {
    /// Twice the number of children that may still use what they borrow, and [`PARENT_WAITS`].
    state: AtomicUsize,
    /// The parent, written before [`PARENT_WAITS`].
    parent: Cell<Option<Waiter>>,
    known: Mutex<Known>,
    /// What the first child panicked with that nobody joined.
    panic: Mutex<Option<Payload>>,
}

const PARENT_WAITS: usize = 1;
const CHILD: usize = 2;

// SAFETY: `parent` is written by the parent alone and read by the child that finds PARENT_WAITS; everything else is made to be shared.
unsafe impl Sync for Children {}

#[derive(Default)]
struct Known {
    /// Those that were spawned, to cancel them by; those that have ended are cleared out now and then.
    children: Vec<Reference>,
    /// All were cancelled, and so is who comes later.
    cancelled: bool,
}

/// Runs `f`, in which coroutines may be spawned that borrow what lives longer than this call, and waits for all of them.
///
/// Suspends. See the [module](mod@crate::scope).
///
/// # Panics
/// With the panic of `f`, or else of a child that nobody joined. Outside a coroutine.
#[track_caller]
pub fn scope<'env, F, R>(f: F) -> R
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    if worker::current().is_none() {
        crate::park::outside("scope()");
    }
    let scope = Scope {
        children: Children {
            state: AtomicUsize::new(0),
            parent: Cell::new(None),
            known: Mutex::default(),
            panic: Mutex::default(),
        },
        inside: PhantomData,
        outside: PhantomData,
    };
    let no_way_past = AbortOnUnwind;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let value = f(&scope);
        scope.children.wait();
        value
    }));
    if outcome.is_err() {
        scope.children.cancel();
        cancel::mask(|| scope.children.wait());
    }
    mem::forget(no_way_past);
    let unclaimed = scope.children.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (outcome, unclaimed) {
        (Ok(value), None) => value,
        (Err(payload), _) | (Ok(_), Some(payload)) => panic::resume_unwind(payload),
    }
}

/// Ends the process if `scope` is left without having waited.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        sys::write_stderr(b"a panic was about to leave a scope that has coroutines: aborting\n");
        sys::abort();
    }
}

impl Children {
    /// Waits until no child uses what it borrows; unwinds if the parent is cancelled meanwhile, unless that is masked.
    #[track_caller]
    fn wait(&self) {
        // Acquire: pairs with the Release of `leave`, so that what the children did with what they borrow comes before this returns.
        while self.state.load(Ordering::Acquire) != 0 {
            let wait = Wait::begin(Kind::Scope);
            self.parent.set(Some(wait.waiter()));
            // Release: publishes the waiter. Acquire: as above, if all have left by now.
            if self.state.fetch_or(PARENT_WAITS, Ordering::AcqRel) == 0 {
                // Relaxed: nobody is left to read it.
                self.state.store(0, Ordering::Relaxed);
                return;
            }
            // Relaxed: the waiter is taken back, or its claimer's wake-up orders.
            wait.wait_until(None, || self.state.fetch_and(!PARENT_WAITS, Ordering::Relaxed) != PARENT_WAITS);
            // The last child left PARENT_WAITS alone and woke us. Relaxed: nobody is left.
            self.state.store(0, Ordering::Relaxed);
            std::sync::atomic::fence(Ordering::Acquire); // Pairs with the Release of `leave`.
        }
    }

    fn enter(&self) {
        // Relaxed: the child is published by its spawn.
        let before = self.state.fetch_add(CHILD, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "too many coroutines in one scope");
    }

    /// A child is through with what it borrows. From here on the scope may be gone, unless the parent waits for our wake-up.
    fn leave(&self) {
        // Release: what the child did comes before the parent's return. Acquire: pairs with the Release of PARENT_WAITS.
        if self.state.fetch_sub(CHILD, Ordering::AcqRel) == CHILD | PARENT_WAITS {
            // The last one, and the parent waits for the wake-up, so all this is still there.
            let parent = self.parent.get().expect("written before the bit");
            parent.wake();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        let mut known = self.known();
        known.cancelled = true;
        for child in &known.children {
            // Where nothing unwinds, they are waited for as they are.
            let _ = child.cancel();
        }
    }

    fn keep(&self, child: Reference) {
        let mut known = self.known();
        if known.cancelled {
            let _ = child.cancel(); // As above.
        }
        if known.children.len() == known.children.capacity() {
            known.children.retain(|child| !child.is_finished());
        }
        known.children.push(child);
    }

    fn failed(&self, payload: Payload) {
        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(payload);
            return;
        }
        drop(first); // What follows is user code: it may wait, and it may panic as well.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(payload); // Somewhere this has to end.
        }
    }
}

/// Counts a child out when it goes.
struct Leave<'scope>(&'scope Children);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Where a child leaves what came of it, shared with the handle. Whoever goes last drops it.
struct Packet<'scope, T> {
    outcome: Mutex<Option<Result<T, Payload>>>,
    children: &'scope Children,
}

impl<T> Packet<'_, T> {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<T, Payload>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Packet<'_, T> {
    fn drop(&mut self) {
        let outcome = self.outcome().take();
        if let Some(Err(payload)) = outcome {
            self.children.failed(payload);
        }
    }
}

/// The body of a child. If it never runs, its fields go in this order as well.
struct Child<'scope, F, T> {
    f: F,
    packet: Arc<Packet<'scope, T>>,
    leave: Leave<'scope>,
}

impl<F: FnOnce() -> T, T> Child<'_, F, T> {
    fn run(self) {
        let Child { f, packet, leave } = self;
        let unwinds = match panic::catch_unwind(AssertUnwindSafe(f)) {
            Err(payload) if payload.is::<Cancellation>() => Some(payload),
            outcome => {
                *packet.outcome() = Some(outcome);
                None
            }
        };
        let children = leave.0;
        // If the handle is gone, this drops the value, which is user code.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(packet))) {
            children.failed(payload);
        }
        drop(leave);
        if let Some(cancellation) = unwinds {
            panic::resume_unwind(cancellation);
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a coroutine that may borrow what lives longer than the scope; like `spawn` else.
    ///
    /// # Panics
    /// Outside a coroutine of the runtime.
    #[track_caller]
    pub fn spawn<T, F>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let worker = spawn::here();
        let children = &self.children;
        let packet = Arc::new(Packet { outcome: Mutex::new(None), children });
        children.enter();
        let child = Child { f, packet: Arc::clone(&packet), leave: Leave(children) };
        // SAFETY: the closure is through with what it borrows when `leave` goes, and `scope` does not return before that. It is `Send`, as
        // all in it is: the closure and the packet by the bounds, the scope is shared.
        let handle = unsafe { spawn::on(worker, None, None, move || child.run()) };
        children.keep(handle.reference());
        ScopedJoinHandle { handle, packet }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for people.
        let running = self.children.state.load(Ordering::Relaxed) / CHILD;
        f.debug_struct("Scope").field("running", &running).finish_non_exhaustive()
    }
}

/// The end of a coroutine in a scope. Dropping it leaves the coroutine to the scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    packet: Arc<Packet<'scope, T>>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the coroutine's end: its value, or why there is none.
    ///
    /// Suspends, unless the coroutine has ended.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let ScopedJoinHandle { handle, packet } = self;
        let task = handle.reference();
        handle.join()?;
        let outcome = packet.outcome().take().expect("a child that has ended left an outcome");
        outcome.map_err(|payload| task.panicked(payload))
    }

    /// Asks the coroutine to unwind; see [`JoinHandle::cancel`].
    pub fn cancel(&self) -> Result<(), Unsupported> {
        self.handle.cancel()
    }

    /// Whether the coroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The coroutine's id.
    pub fn id(&self) -> Id {
        self.handle.id()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.handle).finish()
    }
}
