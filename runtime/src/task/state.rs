//! The words that more than one OS thread changes in a task record: their values, and nothing else.
//!
//! **`token`**, the word of `park` and `unpark`. Who changes it, from what to what:
//!
//! | value | meaning | left by |
//! |---|---|---|
//! | [`RUNNING`] | no token; the task runs, waits in a queue, or waits for something else | `park` to PARKED, `unpark` to TOKEN |
//! | [`TOKEN`] | a wake-up waits for the next `park` | `park` to RUNNING |
//! | [`PARKED`] | the task is in `park`, or about to switch away from it | `unpark` to RUNNING, and that caller alone wakes it; an interrupted `park` to RUNNING |
//!
//! A task that waits in `join` or in a channel is RUNNING by this word: those waits end when a claimed waiter is woken, so an
//! `unpark` meanwhile leaves its token for the next `park`.
//!
//! **`word`** ([`super::word::Word`]): where the end of a task meets whoever waits for it, and where other threads leave word for its
//! worker. Above the bits lies the waiter, an address aligned to [`ALIGN`], or nothing.
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | [`PROXY`] | the waiter is an OS thread | `join`, with the waiter | with the waiter |
//! | [`DETACHED`] | the handle is gone: the task drops its own result | the handle's drop | never |
//! | [`DONE`] | the task has ended, and its result is the handle's unless DETACHED | the end | never |
//! | [`CANCEL`] | the task is to unwind at its next suspension point | anybody | never |
//! | [`POKE`] | a cancellation is in its worker's inbox, or on the way | a canceller that saw ASSIGNED and not DONE | the worker, from the inbox |
//! | [`WAKE`] | a claimed wake-up, or a spawn, is in its worker's inbox, or on the way | who claimed the waiter, from another thread | the worker, from the inbox |
//! | [`ASSIGNED`] | the task has a worker for life | `spawn` if it chooses one, else the first run | never |
//!
//! Forbidden pairs: a waiter with DETACHED (both come from the one handle) · a waiter or WAKE after DONE · POKE or WAKE without ASSIGNED.
//! The end leaves DONE alone. A POKE that it takes away is still on its way: the record is kept until that arrives.

/// No token, not parked.
pub(crate) const RUNNING: u32 = 0;
/// A wake-up that nobody used yet.
pub(crate) const TOKEN: u32 = 1;
/// Parked: the next `unpark` wakes.
pub(crate) const PARKED: u32 = 2;

/// Alignment of what waits: its address leaves this many values for bits.
pub(crate) const ALIGN: usize = 128;

/// The waiter is an OS thread's proxy.
pub(crate) const PROXY: usize = 1;
/// The handle is gone.
pub(crate) const DETACHED: usize = 1 << 1;
/// The task has ended.
pub(crate) const DONE: usize = 1 << 2;
/// The task is to unwind.
pub(crate) const CANCEL: usize = 1 << 3;
/// A cancellation is on its way to the worker.
pub(crate) const POKE: usize = 1 << 4;
/// A wake-up or a spawn is on its way to the worker.
pub(crate) const WAKE: usize = 1 << 5;
/// The task has a worker for life.
pub(crate) const ASSIGNED: usize = 1 << 6;

/// The waiter, with its PROXY bit.
pub(crate) const WAITER: usize = !(ALIGN - 1) | PROXY;
