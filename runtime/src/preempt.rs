//! The preemption dial: what happens to a coroutine that computes and does not let others run.
//!
//! A Rust function cannot be stopped at an arbitrary point, where it may hold half a borrow or a lock of the allocator; Go can do that because its
//! compiler says where it is safe. So there are three positions, and none of them takes a core away from code that never asks:
//! see [`Preemption`].

use crate::cancel;
use crate::park;
use crate::sched::worker;
use crate::task::Task;

/// What a runtime does about coroutines that run for long; [`Builder::preemption`](crate::Builder::preemption).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preemption {
    /// Nothing: a coroutine runs until it suspends, and [`checkpoint`] does nothing. Costs nothing.
    #[default]
    Cooperative,
    /// A monitor thread asks a coroutine to give way once its slice has ended, or as soon as a deadline of its worker has come. It does at its next
    /// [`checkpoint`], operation on a channel or socket, `park`, or wait for anything. Code without these keeps its worker; taking a lock that
    /// is free is not among them.
    Flag,
    /// As `Flag`; and what has not started yet leaves a worker that is stuck for a slice, in code that never asks or in a
    /// system call, for a spare worker with a thread of its own. There is one for each worker. Coroutines that have started are pinned, and wait.
    Handoff,
}

/// A point at which this coroutine can be asked to let others run: for the inside of a long computation.
///
/// Gives way only when the monitor has asked for it, which is a matter of [`Preemption`]; else it costs a few loads. Suspends then, and unwinds
/// if the coroutine is cancelled. Outside a coroutine it does nothing.
///
/// ```
/// use std::time::Duration;
/// use switchmark_runtime::{Builder, Preemption, checkpoint, sleep, spawn};
///
/// let builder = Builder::new().preemption(Preemption::Flag).time_slice(Duration::from_millis(1));
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     builder.run_local(|| {
///         let timer = spawn(|| sleep(Duration::from_millis(2)));
///         while !timer.is_finished() {
///             checkpoint(); // Without it, this would be for ever.
///         }
///     })?
/// };
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn checkpoint() {
    if let Some(me) = worker::current() {
        cancel::check(me);
        heed(me);
    }
}

/// Lets others run if the current task was asked to.
#[inline(always)]
pub(crate) fn heed(me: &'static Task) {
    if worker::of(me).is_asked() {
        give_way(me);
    }
}

#[cold]
#[inline(never)]
fn give_way(me: &'static Task) {
    worker::of(me).heed();
    park::yield_now();
}
