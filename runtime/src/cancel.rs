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
//! **[`timeout`](crate::timeout())** is the same with a call as its target instead of the root.
//!
//! **Limits.** Unwinding cannot pass an `extern "C"` frame: the process aborts, so calls that may suspend below such a callback belong in
//! [`mask`]. A destructor that waits for ever keeps its coroutine for ever. Built with `panic = "abort"` nothing can unwind, and `cancel`
//! says so.

use std::fmt;
use std::panic;
use std::thread::panicking;

use crate::sched::worker;
use crate::task::{self, Cancellation, Interrupt, Phase, Task, WaitState, word};
use crate::time::FrameId;

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

/// Unwinds if the current task is cancelled, or a call of `timeout` in it is to be given up.
#[inline(always)]
pub(crate) fn check(me: &'static Task) {
    if me.word.is_cancelled() || me.asks.get() & task::DUE != 0 {
        check_closely(me);
    }
}

#[cold]
#[inline(never)]
fn check_closely(me: &'static Task) {
    if !panicking() && asked(me).is_some() {
        throw(me);
    }
}

/// Why the task is to unwind, if it is and no mask defers it; on its own thread.
#[cold]
pub(crate) fn asked(task: &'static Task) -> Option<Interrupt> {
    if task.masks.get() == 0 && task.word.is_cancelled() {
        return Some(Interrupt::Cancel);
    }
    target(task).map(|_| Interrupt::Timeout)
}

/// The call of `timeout` that is to be given up, as far as masks allow that.
fn target(task: &'static Task) -> Option<FrameId> {
    let is_due = task.asks.get() & task::DUE != 0;
    is_due.then(|| worker::of(task).frames(|frames| frames.target(task))).flatten()
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
        return Phase::Masked;
    }
    phase_by_masks(me)
}

/// How a wait may end early beside which nobody unwinds; on the task's own thread.
#[cold]
pub(crate) fn phase_by_masks(task: &'static Task) -> Phase {
    if task.masks.get() == 0 {
        Phase::Interruptible
    } else if task.asks.get() & task::HAS_FRAMES != 0
        && worker::of(task).frames(|frames| frames.is_inside_masks(task))
    {
        Phase::InMask
    } else {
        Phase::Masked
    }
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

/// Unwinds the current task, which was [`asked`] to: to its root if it is cancelled, else to a call of `timeout`.
#[cold]
#[inline(never)]
pub(crate) fn throw(me: &'static Task) -> ! {
    let worker = worker::of(me);
    let target = if asked(me) == Some(Interrupt::Timeout) { target(me) } else { None };
    let again = match target {
        Some(frame) => worker.frames(|frames| frames.throw(frame)),
        None => me.asks.replace(me.asks.get() | task::THROWN) & task::THROWN != 0,
    };
    if again {
        worker.give_way(me);
    }
    match target {
        Some(frame) => panic::resume_unwind(Box::new(Expiry { task: me.id(), frame })),
        None => panic::resume_unwind(Box::new(Cancellation(me.id()))),
    }
}

/// The payload by which a task is unwound to a call of `timeout`, which it names.
#[derive(Debug)]
pub(crate) struct Expiry {
    task: task::Id,
    frame: FrameId,
}

impl Expiry {
    /// Whether it is meant for this call, of this task.
    pub(crate) fn is_of(&self, task: &'static Task, frame: FrameId) -> bool {
        self.task == task.id() && self.frame == frame
    }
}
