#![allow(unsafe_code, reason = "values pass directly between waiting stacks")]
//! A channel without a buffer: a value goes from the sender's hand into the receiver's.
//!
//! Whoever comes second does the work: it takes the first waiter of the other side out of its list, moves the value between the two,
//! notes the outcome in the waiter's node, and wakes it. Nodes lie on the waiting stacks. A node belongs to the list, hence to the lock,
//! while it is queued; whoever unlinks it owns it until it wakes the waiter, and the waiter touches it again only then.
//!
//! The lock is the standard library's: it is never held over a suspension, and no user code runs under it.
//!
//! Any number of senders and receivers, coroutines and OS threads alike, each side served in the order it came.

use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{RecvError, SendError, TryRecvError, TrySendError};
use crate::park::{Wait, Waiter};
use crate::task::Kind;

/// Makes a channel.
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    let sides = Sides { senders: List::new(), receivers: List::new(), sender_count: 1, receiver_count: 1 };
    let shared = Arc::new(Shared { sides: Mutex::new(sides) });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// A wait in the channel, on the stack of whoever waits.
struct Node<T> {
    next: Cell<*const Node<T>>,
    waiter: Waiter,
    /// Where the value is (a sender's node) or goes (a receiver's).
    value: *mut Option<T>,
    /// Whether the value passed; else the channel closed.
    passed: Cell<bool>,
}

/// First in, first out.
struct List<T> {
    first: *const Node<T>,
    last: *const Node<T>,
}

impl<T> List<T> {
    const fn new() -> List<T> {
        List { first: ptr::null(), last: ptr::null() }
    }

    /// # Safety
    /// The node stays in place until it is popped, and nobody else touches it until then.
    unsafe fn push(&mut self, node: *const Node<T>) {
        // SAFETY: a node in the list is in place.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Takes a node out, if it is still there.
    fn remove(&mut self, node: *const Node<T>) -> bool {
        let (mut before, mut at): (*const Node<T>, _) = (ptr::null(), self.first);
        // SAFETY: a node in the list is in place.
        while let Some(here) = unsafe { at.as_ref() } {
            let next = here.next.get();
            if ptr::eq(at, node) {
                // SAFETY: as above.
                match unsafe { before.as_ref() } {
                    Some(before) => before.next.set(next),
                    None => self.first = next,
                }
                if next.is_null() {
                    self.last = before;
                }
                return true;
            }
            (before, at) = (at, next);
        }
        false
    }

    fn pop(&mut self) -> Option<*const Node<T>> {
        let first = self.first;
        // SAFETY: a node in the list is in place.
        let node = unsafe { first.as_ref() }?;
        self.first = node.next.get();
        if self.first.is_null() {
            self.last = ptr::null();
        }
        Some(first)
    }
}

struct Sides<T> {
    senders: List<T>,
    receivers: List<T>,
    sender_count: usize,
    receiver_count: usize,
}

// SAFETY: the nodes in the lists belong to the lock, and the values in them are `Send`.
unsafe impl<T: Send> Send for Sides<T> {}

struct Shared<T> {
    sides: Mutex<Sides<T>>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Sides<T>> {
        // No user code runs under the lock, so a panic cannot leave it half changed.
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a wait: notes the outcome and wakes.
///
/// # Safety
/// The caller popped the node, and with `passed` has moved the value.
unsafe fn settle<T>(node: *const Node<T>, passed: bool) {
    // SAFETY: an unlinked node stays in place until its waiter is woken.
    let node = unsafe { &*node };
    node.passed.set(passed);
    let waiter = node.waiter;
    // From here on the node may be gone.
    waiter.wake();
}

/// The sending end. Clones share the channel; the last to go closes it.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiving end. Clones share the channel, each value going to one of them; the last to go closes it.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Hands `value` to a receiver, waiting until one takes it.
    ///
    /// Suspends, unless a receiver waits already.
    ///
    /// # Panics
    /// Instead of waiting, in the destructor of a closure that got no stack: the wait would block its own worker.
    #[inline]
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let wait = Wait::begin(Kind::Send); // Before the lock: it may unwind, and let others run.
        let mut sides = self.shared.lock();
        if let Some(receiver) = sides.receivers.pop() {
            drop(sides);
            // SAFETY: we popped the node of a receiver that waits.
            unsafe { hand_over(receiver, value) };
            return Ok(());
        }
        if sides.receiver_count == 0 {
            return Err(SendError(value));
        }
        let mut value = Some(value);
        let node = Node {
            next: Cell::new(ptr::null()),
            waiter: wait.waiter(),
            value: &raw mut value,
            passed: Cell::new(false),
        };
        // SAFETY: node, value and wait stay in this frame, which does not go before the waiter was woken by whoever popped the node, or
        // the node was removed.
        unsafe { sides.senders.push(&raw const node) };
        drop(sides);
        wait.wait(|| self.shared.lock().senders.remove(&raw const node));
        if node.passed.get() { Ok(()) } else { Err(SendError(value.expect("it did not pass"))) }
    }

    /// Hands `value` over if a receiver waits.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut sides = self.shared.lock();
        let Some(receiver) = sides.receivers.pop() else {
            let closed = sides.receiver_count == 0;
            return Err(if closed { TrySendError::Closed(value) } else { TrySendError::Full(value) });
        };
        drop(sides);
        // SAFETY: we popped the node of a receiver that waits.
        unsafe { hand_over(receiver, value) };
        Ok(())
    }
}

/// # Safety
/// The caller popped the receiver's node.
#[inline]
unsafe fn hand_over<T>(receiver: *const Node<T>, value: T) {
    // SAFETY: an unlinked node stays in place until its waiter is woken.
    let place = unsafe { (*receiver).value };
    // SAFETY: a receiver's place is empty and waits for a value.
    unsafe { *place = Some(value) };
    // SAFETY: popped, and the value has passed.
    unsafe { settle(receiver, true) };
}

/// # Safety
/// The caller popped the sender's node.
#[inline]
unsafe fn take_over<T>(sender: *const Node<T>) -> T {
    // SAFETY: an unlinked node stays in place until its waiter is woken.
    let place = unsafe { (*sender).value };
    // SAFETY: a sender's place holds the value, which we move once, as `passed` tells the sender.
    let value = unsafe { (*place).take() }.expect("a sender waits with its value");
    // SAFETY: popped, and the value has passed.
    unsafe { settle(sender, true) };
    value
}

impl<T> Receiver<T> {
    /// Takes a value from a sender, waiting for one.
    ///
    /// Suspends, unless a sender waits already.
    ///
    /// # Panics
    /// As [`Sender::send`] does.
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        let wait = Wait::begin(Kind::Recv); // As in `send`.
        let mut sides = self.shared.lock();
        if let Some(sender) = sides.senders.pop() {
            drop(sides);
            // SAFETY: we popped the node of a sender that waits.
            return Ok(unsafe { take_over(sender) });
        }
        if sides.sender_count == 0 {
            return Err(RecvError);
        }
        let mut value = None;
        let node = Node {
            next: Cell::new(ptr::null()),
            waiter: wait.waiter(),
            value: &raw mut value,
            passed: Cell::new(false),
        };
        // SAFETY: as in `send`.
        unsafe { sides.receivers.push(&raw const node) };
        drop(sides);
        wait.wait(|| self.shared.lock().receivers.remove(&raw const node));
        value.ok_or(RecvError)
    }

    /// Takes a value if a sender waits.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut sides = self.shared.lock();
        let Some(sender) = sides.senders.pop() else {
            return Err(if sides.sender_count == 0 { TryRecvError::Closed } else { TryRecvError::Empty });
        };
        drop(sides);
        // SAFETY: we popped the node of a sender that waits.
        Ok(unsafe { take_over(sender) })
    }

    /// Values until every sender is gone.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

/// Values of a borrowed receiver.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Values of an owned receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.lock().sender_count += 1;
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.lock().receiver_count += 1;
        Receiver { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut sides = self.shared.lock();
        sides.sender_count -= 1;
        if sides.sender_count == 0 {
            while let Some(receiver) = sides.receivers.pop() {
                // SAFETY: popped, and nothing passed.
                unsafe { settle(receiver, false) };
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut sides = self.shared.lock();
        sides.receiver_count -= 1;
        if sides.receiver_count == 0 {
            while let Some(sender) = sides.senders.pop() {
                // SAFETY: popped, and nothing passed: the sender takes its value back.
                unsafe { settle(sender, false) };
            }
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
