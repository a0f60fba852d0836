//! Stackful coroutines: guarded stacks, direct switches, pinned to the OS thread that started them.
//!
//! A coroutine is a function call that can stop in the middle, because it has a stack of its own: 64 KiB, 256 KiB or 1 MiB of address
//! space, of which it pays for the pages it touches. It blocks by letting another coroutine run, with ordinary code above and below.
//!
//! ```
//! use switchmark_runtime::{Builder, chan, spawn};
//!
//! // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
//! let sum = unsafe {
//!     Builder::new().run_local(|| {
//!         let (sender, receiver) = chan::rendezvous();
//!         for n in 1..=4 {
//!             let sender = sender.clone();
//!             spawn(move || sender.send(n));
//!         }
//!         drop(sender);
//!         receiver.iter().sum::<i32>()
//!     })?
//! };
//! println!("the sum is {sum}");
//! # assert_eq!(sum, 10);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! prints `the sum is 10`.
//!
//! **Safety model.** Entering a runtime is a program's one `unsafe` line; what it promises is written at [`Builder::run_local`] and
//! [`Builder::build`], and no library could check it: that nothing suspends inside a thread-local's initialiser or destructor (which `process::exit` in a
//! coroutine runs on its stack) or under a scoped thread-local, and that nothing inside suspends a coroutine of another library in which
//! the runtime itself runs. After it, code is safe because
//!
//! - a started coroutine stays on its OS thread, so references into thread-locals and `!Send` values on its stack stay valid;
//! - the runtime owns the stacks, and frees or reuses none before its coroutine has ended;
//! - a cancelled coroutine is unwound to its root by ordinary Rust unwinding, from the function that suspends ([`mod@cancel`]);
//! - coroutines borrow in a [`scope()`] only, whose frame waits for them and cannot be forgotten;
//! - closures and results cross threads before the start and after the end only, under `Send`;
//! - [`raw::Coroutine`], which can be forgotten while suspended, is `!Send`, takes `'static` only, and is made by an `unsafe fn`, whose
//!   caller also promises that it is gone before its thread's thread-locals are;
//! - a runtime is not entered inside a raw coroutine, which could suspend it, and no panic leaves a worker that has tasks;
//! - an overflow meets a guard, is reported with the coroutine's id, name and stack size, and aborts. C code with frames above 64 KiB
//!   compiled without stack probes can step over a guard, and is the one exception.
//!
//! **Where to find what.** [`spawn()`], [`scope()`] and [`JoinSet`] start coroutines; [`chan`] and [`select!`] pass values; [`cancel`] ends
//! coroutines early; [`sleep`] and [`interval`] wait for a time, [`timeout`] gives a call up; [`net`] has sockets; [`wait()`] drives futures; [`blocking()`] takes
//! calls that block; [`Builder`] and [`Runtime`] run them, on this thread or on several; [`stack`] has the settings of stacks, [`raw`]
//! the bare switch without a scheduler.
//!
//! **What to know.** A coroutine that computes keeps its worker, unless it calls [`checkpoint`] in a runtime that asks for it
//! ([`Preemption`]). A standard mutex held over a suspension is a
//! deadlock waiting for its second coroutine. `thread::panicking()` speaks of the thread: while one coroutine is parked in the middle of
//! its unwinding, it is true for the others. A result, or the payload of a panic, whose drop panics after its handle was dropped aborts
//! the process; so does a destructor that suspends a raw coroutine while that is unwound. The closure of a coroutine for which there is
//! never a stack is dropped by its worker, and its destructor cannot wait: it panics instead.
//!
//! **What it does not do**, and what happens if one tries. The tests named are in `tests/`, and each shows what its line says.
//!
//! | it does not | who tries | shown by |
//! |---|---|---|
//! | preempt at an arbitrary point: only at [`checkpoint`] and calls of the runtime, in a runtime built with [`Preemption::Flag`] or `Handoff` | keeps the worker until it asks, and who waits there waits; `Handoff` takes only what has not started elsewhere | `preempt.rs` |
//! | move a started coroutine to another thread | cannot: those behind one that never asks wait for it | `workers.rs` |
//! | survive a `fork` without `exec`: the child has one thread of those that run the coroutines | may `exec` or `_exit`; whatever touches the runtime there writes why to standard error and aborts | `fork.rs` |
//! | suspend in a thread-local's initialiser or destructor (inside the first `LocalKey::with` of a thread) | breaks the promise of [`Builder::run_local`]: another coroutine of the thread initialises it as well, and a reference into the first value dangles. Nothing notices but a sanitizer. [`coroutine_local!`] may suspend there | `holes.rs`, `local.rs` |
//! | suspend under a scoped thread-local (set, run a closure, restore) | breaks it too: others of the thread see the value, which may be gone while they use it | `holes.rs` |
//! | suspend a borrow of a thread-local (`RefCell` in `LocalKey::with`) apart from the thread: it is legal, and as shared as the thread | the next coroutine of the thread that borrows it panics (`already borrowed`) | `tls.rs` |
//! | suspend a coroutine of another library in which it runs | breaks the promise; for [`raw`] it is refused | `exploits.rs` |
//! | grow stacks | dies with a report of id, name and size; choose the size by [`task::Builder::stack_size`] | `overflow.rs` |
//!
//! Exploits that were published against other libraries are kept: those that must not compile in `src/exploits.rs`, those that must behave in
//! `tests/exploits.rs`, and what each clause of the promise is for in `tests/holes.rs`, which breaks them.
//!
//! **What operations cost**, in the currency that neither machine nor load changes: locked operations (exchanges and counters between
//! processors, two for a lock), on one worker, with nobody else in the way. A test counts them. Among several workers a `spawn` has some
//! more, and a wake-up from another thread pays for the way through an inbox.
//!
//! | operation | locked operations |
//! |---|---|
//! | `yield_now` | 0 |
//! | `current` | 0 |
//! | `park` and `unpark`, there and back | 4 |
//! | `sleep` | 0 |
//! | `spawn` and `join`, one after the other | 3 |
//! | `spawn`, detached | 3 |
//! | `scope` with one child | 16 |
//! | rendezvous channel, there and back | 8 |
//! | bounded channel, there and back | 8 |
//! | bounded channel, `send` and `recv` of what is there | 4 |
//! | `Mutex::lock` and unlock | 2 |
//! | `RwLock::read` and unlock | 2 |
//! | `RwLock::write` and unlock | 2 |
//! | `Semaphore::acquire` and release | 4 |
//! | `Event::wait`, set | 0 |
//! | `OnceCell::get_or_init`, full | 0 |

#![deny(unsafe_code)]
#![cfg_attr(feature = "sanitize", feature(cfg_sanitize, sanitize))]
#![allow(
    clippy::inline_always,
    reason = "a switch must be inlined to be predicted, and a few instructions beside it cost more than it does"
)]

mod arch;
mod atomic;
mod blocking;
pub mod cancel;
pub mod chan;
mod debugger;
#[cfg(doctest)]
mod exploits;
mod future;
#[cfg(all(test, shuttle))]
mod interleavings;
mod local;
mod metrics;
pub mod net;
mod panics;
mod park;
mod preempt;
pub mod raw;
mod runtime;
mod sanitize;
mod sched;
pub mod scope;
mod set;
mod spawn;
pub mod stack;
pub mod sync;
mod sys;
pub mod task;
mod threads;
mod time;
mod timeout;
mod wait_list;

pub use blocking::{block_in_place, blocking};
pub use future::wait;
pub use local::{AccessError, LocalKey};
pub use metrics::Metrics;
pub use panics::name_in_panics;
pub use park::{Unparker, park, park_timeout, unparker, yield_now};
pub use preempt::{Preemption, checkpoint};
pub use runtime::{Builder, Current, Handle, Runtime, StillRunning, current};
pub use scope::scope;
pub use set::JoinSet;
pub use spawn::{JoinHandle, LocalJoinHandle, spawn, spawn_local};
pub use task::JoinError;
pub use time::{Interval, MissedTick, interval, sleep, sleep_until};
pub use timeout::{TimeoutError, timeout};

/// How many locked operations this OS thread has done in the runtime, in a debug build: for the test that holds us to the table above.
#[doc(hidden)]
pub fn locked_operations() -> Option<u64> {
    #[cfg(all(debug_assertions, not(all(test, any(loom, shuttle)))))]
    return Some(atomic::locked_operations());
    #[cfg(not(all(debug_assertions, not(all(test, any(loom, shuttle))))))]
    return None;
}
