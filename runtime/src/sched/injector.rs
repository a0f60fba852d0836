//! The queue of unstarted work that belongs to no worker: what comes from outside, and what rings could not hold.
//!
//! A lock around a queue of addresses, and its length beside the lock, so that a worker that finds nothing pays a load. The lock is
//! taken once for a batch in both directions, and held for copying addresses only.
//!
//! **Rejected: a list linked through the records** (Go `globrunq`). A batch would be linked in constant time, but taking one reads
//! every record under the lock, each a miss of the cache; here the records are not touched.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::PoisonError;

use super::ring::Ring;
use crate::atomic::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// An address on its way to another thread.
#[derive(Clone, Copy, Debug)]
struct Address<T>(NonNull<T>);

#[allow(unsafe_code, reason = "addresses are handed from thread to thread")]
// SAFETY: an address is a number that nobody here follows; what it leads to is the business of who pushed and who popped it.
unsafe impl<T> Send for Address<T> {}

#[derive(Debug)]
struct Queue<T> {
    elements: VecDeque<Address<T>>,
    closed: bool,
}

/// What was pushed after the end, given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed<E>(pub(crate) E);

#[derive(Debug)]
#[repr(align(128))] // Written by all: in no line with what a worker reads at every pick.
pub(crate) struct Injector<T> {
    /// How long the queue is; stored under the lock.
    len: AtomicUsize,
    queue: Mutex<Queue<T>>,
}

impl<T> Injector<T> {
    pub(crate) fn new() -> Injector<T> {
        let queue = Queue { elements: VecDeque::new(), closed: false };
        Injector { len: AtomicUsize::new(0), queue: Mutex::new(queue) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Poisoned by a failed allocation at most, which leaves the queue as it was.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_len(&self, queue: &Queue<T>) {
        // Under the lock, so no store is lost. Release: pairs with the Acquire in `len`; whoever sees what `pop_batch` took missing here
        // sees it in the ring.
        self.len.store(queue.elements.len(), Ordering::Release);
    }

    /// How many elements there are, or were a moment ago; without the lock.
    ///
    /// An element that was pushed before a `SeqCst` fence is counted by whoever looks after a fence that follows it, until it is taken.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `publish_len`.
        self.len.load(Ordering::Acquire)
    }

    /// As [`Injector::len`].
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an element behind all others.
    pub(crate) fn push(&self, element: NonNull<T>) -> Result<(), Closed<NonNull<T>>> {
        self.push_batch(&[element]).map_err(|_| Closed(element))
    }

    /// Adds elements in their order, all or, after the end, none.
    pub(crate) fn push_batch<'a>(&self, elements: &'a [NonNull<T>]) -> Result<(), Closed<&'a [NonNull<T>]>> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Closed(elements));
        }
        queue.elements.extend(elements.iter().copied().map(Address));
        self.publish_len(&queue);
        Ok(())
    }

    /// Takes the oldest element.
    pub(crate) fn pop(&self) -> Option<NonNull<T>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.lock();
        let oldest = queue.elements.pop_front();
        self.publish_len(&queue);
        oldest.map(|address| address.0)
    }

    /// Takes up to `most` of the oldest elements: returns the first and puts the rest into `own`, as far as it has room.
    ///
    /// For the owner of `own`. What it moves there is never out of sight: it is in `own` before [`Injector::len`] says that it has left.
    pub(crate) fn pop_batch(&self, most: usize, own: &Ring<T>) -> Option<NonNull<T>> {
        if most == 0 || self.is_empty() {
            return None;
        }
        let mut queue = self.lock();
        let oldest = queue.elements.pop_front();
        let rest = (most - 1).min(own.room()).min(queue.elements.len());
        own.fill(queue.elements.drain(..rest).map(|address| address.0));
        self.publish_len(&queue);
        oldest.map(|address| address.0)
    }

    /// Lets nothing in any more; what is queued can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;
    use crate::sched::ring::CAPACITY;

    /// An address that stands for a number; nobody follows it.
    fn element(number: usize) -> NonNull<u8> {
        NonNull::new(std::ptr::without_provenance_mut(number)).expect("numbers start at 1")
    }

    fn elements(numbers: impl IntoIterator<Item = usize>) -> Vec<NonNull<u8>> {
        numbers.into_iter().map(element).collect()
    }

    fn drain(ring: &Ring<u8>) -> Vec<NonNull<u8>> {
        std::iter::from_fn(|| ring.pop()).collect()
    }

    #[test]
    fn single_elements_and_batches_keep_their_order() {
        let injector = Injector::new();
        assert_eq!(injector.pop(), None);
        injector.push(element(1)).unwrap();
        injector.push_batch(&elements(2..=4)).unwrap();
        injector.push(element(5)).unwrap();
        assert_eq!(injector.len(), 5);
        let out: Vec<_> = std::iter::from_fn(|| injector.pop()).collect();
        assert_eq!(out, elements(1..=5));
        assert!(injector.is_empty());
    }

    #[test]
    fn a_batch_is_no_more_than_asked_for_than_there_is_and_than_fits() {
        for (asked, queued, room, moved) in
            [(0, 3, 9, 0), (1, 3, 9, 1), (3, 9, 9, 3), (9, 3, 9, 3), (9, 9, 2, 3), (9, 9, 0, 1)]
        {
            let (injector, own) = (Injector::new(), Ring::new());
            own.fill((0..CAPACITY - room).map(|_| element(99)));
            injector.push_batch(&elements(1..=queued)).unwrap();
            let mut out: Vec<_> = injector.pop_batch(asked, &own).into_iter().collect();
            out.extend(drain(&own).into_iter().filter(|&moved| moved != element(99)));
            assert_eq!(out, elements(1..=moved), "{asked} asked, {queued} queued, room for {room}");
            assert_eq!(injector.len(), queued - moved);
            assert_eq!(injector.pop(), (moved < queued).then(|| element(moved + 1)));
        }
    }

    #[test]
    fn after_the_end_pushes_are_given_back_and_the_rest_is_taken() {
        let injector = Injector::new();
        injector.push(element(1)).unwrap();
        injector.push(element(2)).unwrap();
        injector.close();
        assert_eq!(injector.push(element(3)), Err(Closed(element(3))));
        let batch = elements(4..=5);
        assert_eq!(injector.push_batch(&batch), Err(Closed(&batch[..])));
        assert_eq!(
            (injector.pop(), injector.pop(), injector.pop()),
            (Some(element(1)), Some(element(2)), None)
        );
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_batch_takes_the_lock_once_and_an_empty_queue_not_at_all() {
        use crate::atomic::locked_operations;
        let (injector, own) = (Injector::new(), Ring::new());
        let batch = elements(1..=9);
        let before = locked_operations();
        assert_eq!((injector.pop(), injector.pop_batch(9, &own)), (None, None));
        assert_eq!(locked_operations() - before, 0);
        injector.push_batch(&batch).unwrap();
        assert_eq!(locked_operations() - before, 2);
        injector.pop_batch(9, &own);
        assert_eq!(locked_operations() - before, 4);
    }
}
