//! The scheduler: who runs next on a worker.
//!
//! **Policy.** One queue a worker, first in, first out. Whoever stops running, because it yields, waits or ends, picks the next
//! itself and switches to it ([`worker`]); there is no scheduler stack in between, and a waiter that finds itself at the
//! front simply goes on. Only with nothing to run does control go to the worker's own stack, which sleeps.
//!
//! **Pinned.** A coroutine that has started is only ever resumed by the worker that started it. Another OS thread
//! that wakes it merely puts it into that worker's inbox ([`inject`]). A wait can therefore publish itself, unlock whatever it holds and
//! only then pick and switch: whoever wakes it early finds that it cannot run it.
//!
//! **Wakes go to the back.** A woken coroutine joins the queue like any other. The alternative, letting the latest wake run next,
//! makes a pair that talks to itself faster when others wait, and starves them unless it is bounded; the bound needs
//! a clock or a count, and belongs to the stealing scheduler, where the slot is worth more.
//!
//! **Rejected: a record bound to a stack for life.** A queue of unstarted coroutines would hold a page each. Here `spawn` fills a record,
//! and a stack is bound at the first run; serial spawn and join use two stacks for ever.
//!
//! **Who runs here** is found from the stack pointer through the slot table of the arena, without a thread-local. On a stack that
//! is not of the arena (the worker's own, or a foreign one) an `#[inline(never)]` look-up finds the worker of the OS thread.

#[cfg_attr(not(test), expect(dead_code, reason = "for the scheduler of several workers, not wired in yet"))]
pub(crate) mod idle;
pub(crate) mod inject;
#[cfg_attr(not(test), expect(dead_code, reason = "for the scheduler of several workers, not wired in yet"))]
pub(crate) mod injector;
pub(crate) mod queue;
#[cfg_attr(not(test), expect(dead_code, reason = "for the scheduler of several workers, not wired in yet"))]
pub(crate) mod ring;
pub(crate) mod worker;
