//! Locks and other ways to wait for each other, for coroutines and OS threads alike.
//!
//! | type | one waits until | with a time limit |
//! |---|---|---|
//! | [`Mutex`] | nobody else has it | `lock_timeout` |
//! | [`RwLock`] | nobody writes, or nobody else has it | `read_timeout`, `write_timeout` |
//! | [`Condvar`] | one is notified of a change under a [`Mutex`] | `wait_timeout`, `wait_timeout_while` |
//! | [`Semaphore`] | there are permits | `acquire_timeout`, `acquire_many_timeout` |
//! | [`Barrier`] | all have come | `wait_timeout` |
//! | [`WaitGroup`] | all have gone | `wait_timeout` |
//! | [`Event`] | it is set | `wait_timeout` |
//! | [`OnceCell`] | somebody has made its value | none: bound the initialiser |
//!
//! Whoever has to wait suspends, and other coroutines of its worker run; an OS thread sleeps. So unlike the standard library's, these may be held
//! over a suspension, and their use by many coroutines of one thread is no deadlock. Each is served in the order of waiting, which a
//! [`Mutex`] keeps only if somebody has waited for long.
//!
//! **Cancellation.** A wait that is cancelled leaves its line as if it had never come, and passes on what it was given on the way. Calls that
//! may wait look for it when they do: those of [`Mutex`], [`RwLock`], [`Event`] and [`OnceCell`] not if they need not wait, those of the others
//! always. Were the others faster, the wait has succeeded, and the next suspension point unwinds.
//!
//! **Inside.** All are a `Line`, some state and a list of those who wait under one lock of the standard library, which is never held over a
//! suspension and under which no code of the user's runs; [`Mutex`], [`RwLock`], [`Event`] and [`OnceCell`] have a word before it that saves the
//! lock where nobody waits.

mod barrier;
mod condvar;
mod event;
mod mutex;
mod once_cell;
mod poison;
mod rwlock;
mod semaphore;
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use once_cell::OnceCell;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
