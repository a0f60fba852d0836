//! The scheduler: who runs next on a worker.
//!
//! **Policy.** Whoever stops running, because it yields, waits or ends, picks the next itself and switches to it ([`worker`]); there is no
//! scheduler stack in between, and a waiter that finds itself at the front simply goes on. Queues are first in, first out, and
//! a pick takes in turn from those that have started and those that have not. Only with nothing to run does control go to the worker's own
//! stack, which looks for work with others and then sleeps.
//!
//! **Pinned.** A coroutine that has started is only ever resumed by the worker that started it. Another OS thread
//! that wakes it merely puts it into that worker's inbox ([`inject`]). A wait can therefore publish itself, unlock whatever it holds and
//! only then pick and switch: whoever wakes it early finds that it cannot run it.
//!
//! **Stolen before the start.** One that has not started is a closure in a record. It lies in its spawner's ring ([`ring`]), from where any
//! worker may take it, or in the injector ([`injector`]) if it came from outside or the ring was full. Whoever takes it keeps it. After
//! google/marl, which steals tasks and never fibers.
//!
//! **Asleep.** A worker with nothing to do sleeps on its inbox, or in its epoll instance once it has one ([`poller`]). [`idle`] says who is to be woken for new work, and why none is forgotten.
//!
//! **The latest wake runs next**, at most three times in a row while others wait. So a pair that talks to itself is as quick beside others as
//! alone, and delays them by three turns at most. The slot is the worker's own, without atomics: it only ever holds started coroutines.
//!
//! **What several workers cost.** Spawning pays a fence and a locked operation when it is claimed. A runtime of one worker
//! has neither: there a coroutine belongs to the worker from the start, and goes into its one queue.
//!
//! **Preemption.** A [`monitor`], where one was asked for, sees who runs for too long; what it can do is to ask, and to call a spare worker for
//! what has not started. A spare is a worker like the others that takes part in none of the searching and is counted nowhere in `idle`.
//!
//! **Rejected: moving started coroutines.** No language rule covers a frame that goes on on another thread: addresses of thread-locals are
//! kept over a switch, and `!Send` values with them.
//!
//! **Rejected: a record bound to a stack for life.** A queue of unstarted coroutines would hold a page each. Here `spawn` fills a record,
//! and a stack is bound at the first run; serial spawn and join use two stacks for ever.
//!
//! **Who runs here** is found from the stack pointer through the slot table of the arena, without a thread-local. On a stack that
//! is not of the arena (the worker's own, or a foreign one) an `#[inline(never)]` look-up finds the worker of the OS thread.

pub(crate) mod idle;
pub(crate) mod inject;
pub(crate) mod injector;
pub(crate) mod monitor;
pub(crate) mod poller;
pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod scheduler;
pub(crate) mod worker;
