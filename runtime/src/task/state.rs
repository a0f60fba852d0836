//! The words that more than one OS thread changes in a task record: their values, and nothing else.
//!
//! **`token`**, the word of `park` and `unpark`. Who changes it, from what to what:
//!
//! | value | meaning | left by |
//! |---|---|---|
//! | [`RUNNING`] | no token; the task runs, waits in a queue, or waits for something else | `park` to PARKED, `unpark` to TOKEN |
//! | [`TOKEN`] | a wake-up waits for the next `park` | `park` to RUNNING |
//! | [`PARKED`] | the task is in `park`, or about to switch away from it | `unpark` to RUNNING, and that caller alone enqueues it |
//!
//! A task that waits in `join` or in a channel is RUNNING by this word: those waits end when a claimed waiter is enqueued, so an
//! `unpark` meanwhile leaves its token for the next `park`.
//!
//! **`join`**, the word where the end of a task meets whoever waits for it: [`EMPTY`], [`DETACHED`], [`DONE`], or a waiter
//! (`park::Waiter`, never one of these three). The task's end exchanges whatever is there for DONE.
//!
//! | from | to | by |
//! |---|---|---|
//! | EMPTY | a waiter | `join`, once |
//! | EMPTY | DETACHED | the handle, dropped before the end: the task will drop its own result |
//! | any | DONE | the task's end; after EMPTY or a waiter the result is the handle's |

/// No token, not parked.
pub(crate) const RUNNING: u32 = 0;
/// A wake-up that nobody used yet.
pub(crate) const TOKEN: u32 = 1;
/// Parked: the next `unpark` enqueues.
pub(crate) const PARKED: u32 = 2;

/// Nobody waits for the end, and the handle exists.
pub(crate) const EMPTY: usize = 0;
/// The task has ended.
pub(crate) const DONE: usize = 4;
/// The handle is gone.
pub(crate) const DETACHED: usize = 8;
