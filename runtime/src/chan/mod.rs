//! Channels, for coroutines and OS threads alike: any number of senders and receivers, each side served in the order it came.
//!
//! [`rendezvous`], [`bounded`] and [`unbounded`] differ in how many values may lie in between, and make the same pair of types. So a
//! function takes a `Sender` and need not know, a capacity is changed in one place, and `select!` has one kind of arm. The price is
//! a comparison with the capacity, where types of their own would have none.
//!
//! ```
//! use switchmark_runtime::{Builder, chan, spawn};
//!
//! // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
//! let squares = unsafe {
//!     Builder::new().run_local(|| {
//!         let (jobs, todo) = chan::bounded(4);
//!         let (done, results) = chan::rendezvous();
//!         for _ in 0..3 {
//!             let (todo, done) = (todo.clone(), done.clone());
//!             spawn(move || todo.into_iter().try_for_each(|n: u32| done.send(n * n)));
//!         }
//!         drop((todo, done)); // The workers have clones of their own.
//!         spawn(move || (1..=10).try_for_each(|n| jobs.send(n)));
//!         results.iter().sum::<u32>() // Ends when the last worker has gone.
//!     })?
//! };
//! assert_eq!(squares, 385);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Who gets a value.** A receiver that waits gets it directly, from the sender; the buffer is used only if nobody waits. When the
//! buffer is full senders wait, and each value that is taken lets the first of them put in its own.
//!
//! **Closing.** A channel closes when the last clone of one end is dropped. After the last sender, receivers get what is in the
//! buffer, then [`RecvError`]. After the last receiver, sends give back their value, also those that wait, and values in the buffer are
//! dropped.
//!
//! **Cancellation.** Whoever is cancelled while it waits leaves the channel as if it had never come, and a value it wanted to send is
//! dropped in its unwinding. Was the other side faster, the value has passed, and the next suspension point unwinds.

mod buffer;
mod channel;
mod error;
pub mod select;

pub use channel::{IntoIter, Iter, Receiver, Sender, TryIter, bounded, rendezvous, unbounded};
pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
