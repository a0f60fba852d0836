//! Cancellation: a coroutine is asked to unwind, and does at its next suspension point.
//!
//! ```
//! use switchmark_runtime::{Builder, park, spawn, yield_now};
//!
//! struct Told<'a>(&'a str);
//! impl Drop for Told<'_> {
//!     fn drop(&mut self) {
//!         println!("{} unwinds", self.0);
//!     }
//! }
//!
//! // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
//! let error = unsafe {
//!     Builder::new().run_local(|| {
//!         let waiting = spawn(|| {
//!             let _told = Told("the coroutine");
//!             park(); // Nobody unparks it.
//!         });
//!         yield_now();
//!         waiting.cancel().expect("this program unwinds");
//!         waiting.join().unwrap_err()
//!     })?
//! };
//! assert!(error.is_cancelled());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **How.** `cancel` sets a bit in the task's word and has the task woken. The function that suspends then unwinds, in Rust code and
//! by `resume_unwind`, so that no panic hook prints, nothing passes the assembly, and every destructor on the way runs. At the root `join`
//! gets `JoinError::Cancelled`. A coroutine that has not started drops its closure and ends so as well.
//!
//! **Swallowed.** A `catch_unwind` on the way catches it like a panic. Then it is thrown again at the next suspension point, and so on to
//! the root; before each throw but the first the coroutine yields, so that a loop that swallows is no hog. What the body returns after
//! that is its value: it was cancelled too late.
//!
//! **Deferred.** Inside [`mask`], and while destructors run for an unwinding, waits are not cancelled: a second unwinding out of a
//! destructor would abort the process. Whether this very coroutine unwinds, or another of the same thread that waits in the middle of its
//! unwinding, `std::thread::panicking` cannot tell; in doubt it is deferred, until no coroutine of the thread waits so.
//!
//! **Limits.** Unwinding cannot pass an `extern "C"` frame: the process aborts, so calls that may suspend below such a callback belong in
//! [`mask`]. A destructor that waits for ever keeps its coroutine for ever. Built with `panic = "abort"` nothing can unwind, and `cancel`
//! says so.

use std::fmt;
use std::panic;
use std::thread::panicking;

use crate::sched::worker;
use crate::task::{Cancellation, Phase, Task, WaitState, word};

/// Cancellation unwinds, and this program was built with `panic = "abort"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "cannot cancel: a cancelled coroutine unwinds, and this program is built with panic=abort",
        )
    }
}

impl std::error::Error for Unsupported {}

/// Runs `f`, in which this coroutine is not cancelled: a cancellation waits until the outermost `mask` has returned.
///
/// Outside a coroutine it just runs `f`.
///
/// # Panics
/// When nested 255 deep.
pub fn mask<T>(f: impl FnOnce() -> T) -> T {
    struct Unmask(&'static Task);
    impl Drop for Unmask {
        fn drop(&mut self) {
            self.0.masks.set(self.0.masks.get() - 1);
        }
    }
    let Some(me) = worker::current() else { return f() };
    me.masks.set(me.masks.get().checked_add(1).expect("cancel::mask is nested too deep"));
    let _unmask = Unmask(me);
    f()
}

/// Whether this coroutine was cancelled and will unwind at its next suspension point that is not masked. `false` outside a coroutine.
pub fn is_requested() -> bool {
    worker::current().is_some_and(|me| me.word.is_cancelled())
}

/// Cancels a task, to the record of which the caller has a reference.
pub(crate) fn request(task: &'static Task) -> Result<(), Unsupported> {
    if cfg!(panic = "abort") {
        return Err(Unsupported);
    }
    if task.word.cancel() == word::Cancel::Push {
        worker::poke(task);
    }
    Ok(())
}

/// Unwinds if the current task is cancelled.
#[inline(always)]
pub(crate) fn check(me: &'static Task) {
    if me.word.is_cancelled() {
        check_closely(me);
    }
}

#[cold]
#[inline(never)]
fn check_closely(me: &'static Task) {
    if me.masks.get() == 0 && !panicking() {
        throw(me);
    }
}

/// How a wait that begins now may end early.
#[inline(always)]
pub(crate) fn phase(me: &'static Task) -> Phase {
    if me.masks.get() == 0 && !panicking() { Phase::Interruptible } else { masked(me) }
}

#[cold]
#[inline(never)]
fn masked(me: &'static Task) -> Phase {
    if panicking() {
        worker::of(me).defer(me);
    }
    Phase::Masked
}

/// Lets others run while somebody on this thread unwinds, this task perhaps: to them it is as one that waits in its unwinding.
#[cold]
#[inline(never)]
pub(crate) fn give_way_unwinding(me: &'static Task) {
    let worker = worker::of(me);
    // It is runnable, whatever its last wait was: there is nothing that a cancellation could interrupt.
    me.wait.set(WaitState::NONE);
    worker.defer(me);
    worker.give_way(me);
    worker.defer_no_more(me);
}

/// Whether nobody else on this thread is known to be suspended in the middle of its unwinding, so that `panicking` speaks of the current task.
#[cold]
pub(crate) fn is_alone_in_unwinding() -> bool {
    worker::current().is_none_or(|me| !worker::of(me).has_deferred())
}

/// Unwinds the current task.
#[cold]
#[inline(never)]
pub(crate) fn throw(me: &'static Task) -> ! {
    if me.thrown.replace(true) {
        worker::of(me).give_way(me);
    }
    panic::resume_unwind(Box::new(Cancellation(me.id())))
}
