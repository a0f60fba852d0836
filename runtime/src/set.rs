//! A set of coroutines, joined in the order in which they end.
//!
//! Each member tells its number to a channel of the set as the last thing in its body; a member that never runs, because it is cancelled or
//! gets no stack, tells it when its closure is dropped. So a join waits for the next number, then for the short rest of that coroutine.

use std::collections::HashMap;
use std::fmt;

use crate::cancel::Unsupported;
use crate::chan::{self, Receiver, Sender};
use crate::spawn::{JoinHandle, spawn};
use crate::task::JoinError;

/// Coroutines whose ends are awaited together. Dropping it cancels those that have not ended, without waiting for them.
///
/// ```
/// use switchmark_runtime::{Builder, JoinSet, sleep};
/// use std::time::Duration;
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let order = unsafe {
///     Builder::new().run_local(|| {
///         let mut set = JoinSet::new();
///         for ms in [20, 1, 10] {
///             set.spawn(move || {
///                 sleep(Duration::from_millis(ms));
///                 ms
///             });
///         }
///         let mut order = Vec::new();
///         while let Some(ended) = set.join_next() {
///             order.push(ended.unwrap());
///         }
///         order
///     })?
/// };
/// assert_eq!(order, [1, 10, 20]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JoinSet<T> {
    members: HashMap<u64, JoinHandle<T>>,
    next: u64,
    ends: Sender<u64>,
    ended: Receiver<u64>,
}

/// Tells the number of a member when it goes.
struct Tell {
    number: u64,
    ends: Sender<u64>,
}

impl Drop for Tell {
    fn drop(&mut self) {
        // An unbounded channel takes it at once; if the set is gone, nobody asks.
        let _ = self.ends.try_send(self.number);
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// An empty set.
    pub fn new() -> JoinSet<T> {
        let (ends, ended) = chan::unbounded();
        JoinSet { members: HashMap::new(), next: 0, ends, ended }
    }

    /// Starts a coroutine as a member.
    ///
    /// # Panics
    /// Outside a coroutine.
    #[track_caller]
    pub fn spawn(&mut self, f: impl FnOnce() -> T + Send + 'static) {
        let tell = Tell { number: self.next, ends: self.ends.clone() };
        let member = spawn(move || {
            let _tell = tell;
            f()
        });
        self.members.insert(self.next, member);
        self.next += 1;
    }

    /// Waits for the next member to end: its value, or why there is none. `None` if the set is empty.
    ///
    /// Suspends, unless one has ended. If the caller is cancelled meanwhile it unwinds, and the set is as it was.
    #[track_caller]
    pub fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        if self.members.is_empty() {
            return None;
        }
        let number = self.ended.recv().expect("the set itself holds a sender");
        let member = self.members.remove(&number).expect("each member tells its number once");
        Some(member.join())
    }

    /// Members that were not joined yet.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether every member was joined.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Cancels all members; they stay in the set and can be joined.
    pub fn cancel_all(&self) -> Result<(), Unsupported> {
        self.members.values().try_for_each(JoinHandle::cancel)
    }
}

impl<T: Send + 'static> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        // Where nothing unwinds, they run on detached.
        let _ = self.members.values().try_for_each(JoinHandle::cancel);
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("members", &self.members.len()).finish_non_exhaustive()
    }
}
