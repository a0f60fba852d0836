#![allow(unsafe_code, reason = "values pass directly between waiting stacks")]
//! The channel itself: a buffer of some capacity, perhaps none, and two lists of those who wait.
//!
//! Whoever comes second does the work: it takes the first waiter of the other side out of its list, moves the value between the two, and
//! wakes it. In numbers:
//!
//! 1. Receivers wait only while the buffer is empty and no sender waits; a value goes to the first of them directly.
//! 2. Senders wait only while the buffer is full; a receiver that takes the oldest value moves that of the first sender to the end, so
//!    that order is kept and the buffer stays full.
//! 3. What a wait came to is seen by its value: a sender's is gone, or a receiver's has come; else the channel closed.
//!
//! One lock an operation, the standard library's. It is never held over a suspension, and no user code runs under it: values are moved
//! there and never cloned, compared or dropped. Wakes come after it, so that an OS thread that is woken finds it free.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::buffer::Buffer;
use super::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use super::select::{Ballot, Dice};
use crate::atomic::{Mutex, MutexGuard};
use crate::park::Wait;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, List, Node, Popped};

/// Makes a channel without a buffer: a value goes from the sender's hand into the receiver's, and a send ends when it is there.
///
/// ```
/// # use switchmark_runtime::chan;
/// let (sender, receiver) = chan::rendezvous();
/// let sending = std::thread::spawn(move || sender.send("hand to hand"));
/// assert_eq!(receiver.recv(), Ok("hand to hand"));
/// assert_eq!(sending.join().unwrap(), Ok(()));
/// ```
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}

/// Makes a channel that holds up to `capacity` values nobody waits for; a send waits while it is full. With 0 it is a
/// [`rendezvous`].
///
/// ```
/// # use switchmark_runtime::chan::{self, TrySendError};
/// let (sender, receiver) = chan::bounded(2);
/// sender.send(1)?;
/// sender.send(2)?;
/// assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
/// drop(sender);
/// // What is in the buffer outlives the senders.
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
/// # Ok::<(), chan::SendError<i32>>(())
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    // As many values do not fit in memory, so "no bound" may well be that number.
    channel(capacity, Buffer::bounded(capacity))
}

/// Makes a channel that holds any number of values: a send never waits. Memory is the bound, so prefer [`bounded`] where a receiver
/// may fall behind.
///
/// ```
/// # use switchmark_runtime::chan;
/// let (sender, receiver) = chan::unbounded();
/// (0..1000).for_each(|n| sender.send(n).unwrap());
/// assert_eq!((receiver.len(), receiver.capacity()), (1000, None));
/// assert_eq!(receiver.recv(), Ok(0));
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(NO_BOUND, Buffer::unbounded())
}

/// The capacity of a channel without bound.
const NO_BOUND: usize = usize::MAX;

fn channel<T>(capacity: usize, buffer: Buffer<T>) -> (Sender<T>, Receiver<T>) {
    let sides = Sides {
        senders: List::new(),
        receivers: List::new(),
        sender_count: 1,
        receiver_count: 1,
        capacity,
        buffer,
        dice: Dice::new(),
    };
    let shared = Arc::new(Shared { mutex: Mutex::new(()), sides: UnsafeCell::new(sides) });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// What lies in a node: the value, where it is (a sender's) or goes (a receiver's).
#[derive(Debug)]
pub(super) struct Party<T> {
    pub(super) value: UnsafeCell<Option<T>>,
    /// Set while it is one of several of a `select!`.
    pub(super) ballot: Cell<Option<Ballot>>,
}

impl<T> Party<T> {
    pub(super) fn new(value: Option<T>) -> Party<T> {
        Party { value: UnsafeCell::new(value), ballot: Cell::new(None) }
    }
}

/// Takes the first out who is still to be had, which claims it. Parties of a `select!` that was decided elsewhere are let go on the way.
#[inline(always)]
fn claim<T>(list: &mut List<Party<T>>) -> ToWake<T> {
    loop {
        let popped = list.pop()?;
        match popped.data().ballot.get() {
            None => return Some(popped),
            Some(ballot) if ballot.cast() => return Some(popped),
            Some(_) => {}
        }
    }
}

/// Puts a value into the hand of a receiver that waits.
fn give<T>(receiver: &Popped<Party<T>>, value: T) {
    // SAFETY: the value of a popped node is touched by whoever popped it alone.
    let place = unsafe { &mut *receiver.data().value.get() };
    debug_assert!(place.is_none(), "a receiver waits empty-handed");
    *place = Some(value);
}

/// Takes the value out of the hand of a sender that waits.
fn take<T>(sender: &Popped<Party<T>>) -> T {
    // SAFETY: as in `give`.
    let place = unsafe { &mut *sender.data().value.get() };
    place.take().expect("a sender waits with its value")
}

/// What lies under the lock.
pub(super) struct Sides<T> {
    pub(super) senders: List<Party<T>>,
    pub(super) receivers: List<Party<T>>,
    sender_count: usize,
    receiver_count: usize,
    capacity: usize,
    buffer: Buffer<T>,
    /// For `select!`, whose arms take turns by it.
    pub(super) dice: Dice,
}

/// Who has to be woken after the lock, if anybody.
pub(super) type ToWake<T> = Option<Popped<Party<T>>>;

impl<T> Sides<T> {
    /// Sends, if that needs no wait.
    #[inline(always)]
    pub(super) fn offer(&mut self, value: T) -> Result<ToWake<T>, TrySendError<T>> {
        if let Some(receiver) = claim(&mut self.receivers) {
            give(&receiver, value);
            return Ok(Some(receiver));
        }
        if self.receiver_count == 0 {
            return Err(TrySendError::Closed(value));
        }
        if self.buffer.len() < self.capacity {
            self.buffer.push(value);
            return Ok(None);
        }
        Err(TrySendError::Full(value))
    }

    /// Receives, if that needs no wait.
    #[inline(always)]
    pub(super) fn accept(&mut self) -> Result<(T, ToWake<T>), TryRecvError> {
        let oldest = self.buffer.pop();
        let sender = claim(&mut self.senders);
        match (oldest, sender) {
            (Some(value), None) => Ok((value, None)),
            (Some(value), Some(sender)) => {
                self.buffer.push(take(&sender));
                Ok((value, Some(sender)))
            }
            (None, Some(sender)) => Ok((take(&sender), Some(sender))),
            (None, None) if self.sender_count == 0 => Err(TryRecvError::Closed),
            (None, None) => Err(TryRecvError::Empty),
        }
    }
}

pub(super) struct Shared<T> {
    pub(super) mutex: Mutex<()>,
    /// Behind the mutex; apart from it so that locks of channels of different types are of one type, for `select!`.
    pub(super) sides: UnsafeCell<Sides<T>>,
}

// SAFETY: the sides are reached under the lock only, and the values in them, and in the nodes that they reach, are `Send`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

// No user code runs under the lock, so a panic cannot leave a channel half changed.
impl<T> RefUnwindSafe for Shared<T> {}
impl<T> UnwindSafe for Shared<T> {}

pub(super) struct Locked<'a, T> {
    shared: &'a Shared<T>,
    _guard: MutexGuard<'a, ()>,
}

impl<T> Shared<T> {
    #[inline(always)]
    pub(super) fn lock(&self) -> Locked<'_, T> {
        // Poison says nothing here: see above.
        Locked { shared: self, _guard: self.mutex.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = Sides<T>;

    #[inline(always)]
    fn deref(&self) -> &Sides<T> {
        // SAFETY: we have the lock, and the reference does not outlive it.
        unsafe { &*self.shared.sides.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Sides<T> {
        // SAFETY: as above.
        unsafe { &mut *self.shared.sides.get() }
    }
}

#[inline(always)]
fn wake<T>(popped: ToWake<T>) {
    if let Some(popped) = popped {
        popped.wake();
    }
}

/// The sending end. Clones share the channel; the last to go closes it.
///
/// Receivers then get what is left in the buffer, and after that the news.
pub struct Sender<T> {
    pub(super) shared: Arc<Shared<T>>,
}

/// The receiving end. Clones share the channel, each value going to one of them; the last to go closes it.
///
/// Senders that wait then get their values back, and what is in the buffer is dropped.
pub struct Receiver<T> {
    pub(super) shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends `value`, waiting until a receiver takes it or the buffer has room for it.
    ///
    /// Suspends if it has to wait, and unwinds, dropping the value, if the coroutine is cancelled.
    ///
    /// # Errors
    /// Gives the value back if every receiver is gone, or goes before one took it.
    ///
    /// # Panics
    /// Instead of waiting, in the destructor of a closure that got no stack: the wait would block its own worker.
    #[inline]
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, None).map_err(|error| SendError(error.into_inner()))
    }

    /// Sends as [`Sender::send`] does, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Gives the value back if every receiver is gone, or if the time is over.
    #[track_caller]
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(timeout))
    }

    #[inline(always)]
    #[track_caller]
    fn send_until(&self, value: T, timeout: Option<Duration>) -> Result<(), SendTimeoutError<T>> {
        let wait = Wait::begin(Kind::Send); // Before the lock: it may unwind, and let others run.
        let mut sides = self.shared.lock();
        let value = match sides.offer(value) {
            Ok(receiver) => {
                drop(sides);
                wake(receiver);
                return Ok(());
            }
            Err(TrySendError::Closed(value)) => return Err(SendTimeoutError::Closed(value)),
            Err(TrySendError::Full(value)) => value,
        };
        let node = Node::new(Party::new(Some(value)));
        // SAFETY: node and wait stay in this frame, which does not go before the waiter was woken by whoever popped the node, or the
        // node was removed.
        unsafe { sides.senders.push(&raw const node, wait.waiter()) };
        drop(sides);
        let deadline = timeout.map(Deadline::after);
        // SAFETY: pushed above.
        let ended =
            wait.wait_until(deadline, || unsafe { self.shared.lock().senders.remove(&raw const node) });
        match node.into_data().value.into_inner() {
            None => Ok(()),
            Some(value) if ended => Err(SendTimeoutError::Closed(value)),
            Some(value) => Err(SendTimeoutError::Timeout(value)),
        }
    }

    /// Sends `value` if a receiver waits or the buffer has room. Never suspends.
    ///
    /// # Errors
    /// Gives the value back if not.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut sides = self.shared.lock();
        let receiver = sides.offer(value)?;
        drop(sides);
        wake(receiver);
        Ok(())
    }

    /// Whether every receiver is gone, so that nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().receiver_count == 0
    }
}

impl<T> Receiver<T> {
    /// Takes a value, waiting for one.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled.
    ///
    /// # Errors
    /// If every sender is gone, or goes meanwhile, and nothing is left in the buffer.
    ///
    /// # Panics
    /// As [`Sender::send`] does.
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// Takes a value as [`Receiver::recv`] does, waiting for at most `timeout`.
    ///
    /// # Errors
    /// If every sender is gone and nothing is left in the buffer, or if the time is over.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(timeout))
    }

    #[inline(always)]
    #[track_caller]
    fn recv_until(&self, timeout: Option<Duration>) -> Result<T, RecvTimeoutError> {
        let wait = Wait::begin(Kind::Recv); // As in `send_until`.
        let mut sides = self.shared.lock();
        match sides.accept() {
            Ok((value, sender)) => {
                drop(sides);
                wake(sender);
                return Ok(value);
            }
            Err(TryRecvError::Closed) => return Err(RecvTimeoutError::Closed),
            Err(TryRecvError::Empty) => {}
        }
        let node = Node::new(Party::new(None));
        // SAFETY: as in `send_until`.
        unsafe { sides.receivers.push(&raw const node, wait.waiter()) };
        drop(sides);
        let deadline = timeout.map(Deadline::after);
        // SAFETY: pushed above.
        let ended =
            wait.wait_until(deadline, || unsafe { self.shared.lock().receivers.remove(&raw const node) });
        match node.into_data().value.into_inner() {
            Some(value) => Ok(value),
            None if ended => Err(RecvTimeoutError::Closed),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Takes a value if one is there. Never suspends.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut sides = self.shared.lock();
        let (value, sender) = sides.accept()?;
        drop(sides);
        wake(sender);
        Ok(value)
    }

    /// Values until every sender is gone and the buffer is empty; waits for each.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Values that are there, until none is; never suspends.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Whether every sender is gone and nothing is left, so that nothing will be received any more.
    pub fn is_closed(&self) -> bool {
        let sides = self.shared.lock();
        sides.sender_count == 0 && sides.buffer.len() == 0
    }
}

/// What both ends can be asked.
macro_rules! ends {
    ($($end:ident $count:ident;)*) => {$(
        impl<T> $end<T> {
            /// Values in the buffer, at this moment. Always 0 without one.
            pub fn len(&self) -> usize {
                self.shared.lock().buffer.len()
            }

            /// Whether the buffer holds nothing, at this moment.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the buffer has no room, at this moment. Always without one.
            pub fn is_full(&self) -> bool {
                let sides = self.shared.lock();
                sides.buffer.len() == sides.capacity
            }

            /// Values that the buffer holds at most; `None` if any number.
            pub fn capacity(&self) -> Option<usize> {
                let capacity = self.shared.lock().capacity;
                (capacity != NO_BOUND).then_some(capacity)
            }

            /// Whether both belong to one channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.shared, &other.shared)
            }
        }

        impl<T> Clone for $end<T> {
            fn clone(&self) -> Self {
                self.shared.lock().$count += 1;
                $end { shared: Arc::clone(&self.shared) }
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (length, capacity) = (self.len(), self.capacity());
                f.debug_struct(stringify!($end)).field("len", &length).field("capacity", &capacity).finish_non_exhaustive()
            }
        }
    )*};
}

ends! {
    Sender sender_count;
    Receiver receiver_count;
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut sides = self.shared.lock();
        sides.sender_count -= 1;
        if sides.sender_count == 0 {
            let waiting = all(&mut sides.receivers);
            drop(sides);
            waiting.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut sides = self.shared.lock();
        sides.receiver_count -= 1;
        if sides.receiver_count == 0 {
            let (waiting, left) = (all(&mut sides.senders), sides.buffer.take());
            drop(sides);
            waiting.wake(); // First: the values' destructors may do anything, even panic.
            drop(left);
        }
    }
}

/// Everybody who waits on one side, to be woken empty-handed, or with the value still in hand.
fn all<T>(list: &mut List<Party<T>>) -> Batch<Party<T>> {
    let mut batch = Batch::new();
    while let Some(popped) = claim(list) {
        batch.push(popped);
    }
    batch
}

/// Values of a borrowed receiver.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Values of a borrowed receiver that are there already.
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Values of an owned receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
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

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
