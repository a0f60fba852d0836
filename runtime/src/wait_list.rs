#![allow(unsafe_code, reason = "the nodes of a list lie on waiting stacks")]
//! A list of those who wait: first in, first out, its nodes on the waiting stacks, any of which leaves in constant time.
//!
//! A list lies under the lock of a primitive. Whoever waits makes a [`Node`] in its own frame, pushes it under the lock, gives the lock
//! back and waits. From then on the links belong to the lock. There are two ways out, and each wait takes one of them:
//!
//! - somebody *pops* the node, which claims the waiter, does to its data what has to be done, and *wakes*; the frame goes on after that;
//! - the one who waits, interrupted by its deadline or cancelled, *removes* the node under the lock, and nobody wakes.
//!
//! A [`Popped`] node therefore stays in place until it is woken, which consumes it: this is what makes using it safe. Dropping one unwoken
//! leaves a frame waiting for ever, which is a bug but not unsound. `select!`, which has a node in several lists and is woken through
//! one, is the one place that drops them: see there.
//!
//! Tried and dropped: links one way only. Removal then walks, and thousands of timed waits in one list made each time-out a walk.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::PoisonError;

use crate::atomic::{Mutex, MutexGuard, const_unless_loom};
use crate::park::{Wait, Waiter};
use crate::time::Deadline;

/// A wait, in the frame of whoever waits.
#[derive(Debug)]
pub(crate) struct Node<D> {
    next: Cell<*const Node<D>>,
    previous: Cell<*const Node<D>>,
    queued: Cell<bool>,
    /// Set when it is pushed.
    waiter: Cell<Option<Waiter>>,
    data: D,
}

impl<D> Node<D> {
    pub(crate) fn new(data: D) -> Node<D> {
        Node {
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            queued: Cell::new(false),
            waiter: Cell::new(None),
            data,
        }
    }

    pub(crate) fn data(&self) -> &D {
        &self.data
    }

    /// Once the wait has ended.
    pub(crate) fn into_data(self) -> D {
        debug_assert!(!self.queued.get(), "a node leaves its list before its frame goes");
        self.data
    }
}

/// A node that somebody took out of its list, and with it the duty to wake.
#[derive(Debug)]
#[must_use = "whoever pops a node wakes its waiter"]
pub(crate) struct Popped<D>(*const Node<D>);

impl<D> Popped<D> {
    pub(crate) fn data(&self) -> &D {
        // SAFETY: by the contract of `push` an unlinked node stays in place until its waiter is woken, which consumes `self`.
        unsafe { &(*self.0).data }
    }

    /// The waiter, for whoever wakes it without knowing the data's type. The node may be gone once it is woken.
    pub(crate) fn into_waiter(self) -> Waiter {
        // SAFETY: as in `data`.
        let waiter = unsafe { &(*self.0).waiter }.get();
        waiter.expect("a node is pushed with its waiter")
    }

    /// The duty to wake goes with it.
    fn into_node(self) -> *const Node<D> {
        self.0
    }

    /// Ends the wait. The node may be gone when this returns.
    #[inline]
    pub(crate) fn wake(self) {
        self.into_waiter().wake();
    }
}

/// First in, first out.
#[derive(Debug)]
pub(crate) struct List<D> {
    first: *const Node<D>,
    last: *const Node<D>,
}

// SAFETY: a list reaches its nodes' links, which belong to whoever has the list, their waiters, which may be woken from anywhere, and their data.
unsafe impl<D: Send> Send for List<D> {}

impl<D> List<D> {
    pub(crate) const fn new() -> List<D> {
        List { first: ptr::null(), last: ptr::null() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Puts a node at the end.
    ///
    /// # Safety
    /// The node is in no list. It stays in place until somebody who popped it has woken `waiter`, or `remove` has said that it took it
    /// out, or, if it was popped and nobody will wake it, until its owner has had the list since. Its data is touched until then only by
    /// whoever has the list or has popped it.
    #[inline]
    pub(crate) unsafe fn push(&mut self, node: *const Node<D>, waiter: Waiter) {
        // SAFETY: the caller vouches for the node.
        let new = unsafe { &*node };
        debug_assert!(!new.queued.get(), "a node is in one list, once");
        new.waiter.set(Some(waiter));
        new.queued.set(true);
        new.next.set(ptr::null());
        new.previous.set(self.last);
        // SAFETY: a node in the list is in place.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Puts a node before all others.
    ///
    /// # Safety
    /// As for [`List::push`].
    pub(crate) unsafe fn push_front(&mut self, node: *const Node<D>, waiter: Waiter) {
        // SAFETY: the caller vouches for the node.
        let new = unsafe { &*node };
        debug_assert!(!new.queued.get(), "a node is in one list, once");
        new.waiter.set(Some(waiter));
        new.queued.set(true);
        new.next.set(self.first);
        new.previous.set(ptr::null());
        // SAFETY: a node in the list is in place.
        match unsafe { self.first.as_ref() } {
            Some(first) => first.previous.set(node),
            None => self.last = node,
        }
        self.first = node;
    }

    /// The data of the first.
    pub(crate) fn first(&self) -> Option<&D> {
        // SAFETY: a node in the list is in place, and stays in it while the list is borrowed.
        unsafe { self.first.as_ref() }.map(Node::data)
    }

    /// Takes the first out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Popped<D>> {
        let node = self.first;
        // SAFETY: a node in the list is in place.
        let first = unsafe { node.as_ref() }?;
        first.queued.set(false);
        self.first = first.next.get();
        // SAFETY: as above.
        match unsafe { self.first.as_ref() } {
            Some(second) => second.previous.set(ptr::null()),
            None => self.last = ptr::null(),
        }
        Some(Popped(node))
    }

    /// Takes a node out, wherever it is; `false` if somebody popped it.
    ///
    /// # Safety
    /// The node was pushed into this list, since then into no other, and is in place.
    pub(crate) unsafe fn remove(&mut self, node: *const Node<D>) -> bool {
        // SAFETY: the caller vouches for the node.
        let node = unsafe { &*node };
        if !node.queued.replace(false) {
            return false;
        }
        let (previous, next) = (node.previous.get(), node.next.get());
        // SAFETY: a neighbour in the list is in place.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.previous.set(previous),
            None => self.last = previous,
        }
        true
    }
}

impl<D> Drop for List<D> {
    fn drop(&mut self) {
        debug_assert!(
            self.is_empty(),
            "whoever waits borrows the primitive, so none goes with a waiter in it"
        );
    }
}

/// Nodes that were popped under a lock, to be woken after it.
#[derive(Debug)]
pub(crate) struct Batch<D> {
    first: *const Node<D>,
    last: *const Node<D>,
}

impl<D> Batch<D> {
    pub(crate) const fn new() -> Batch<D> {
        Batch { first: ptr::null(), last: ptr::null() }
    }

    pub(crate) fn push(&mut self, popped: Popped<D>) {
        let node = popped.into_node();
        // SAFETY: a popped node stays in place until it is woken, which is ours to do; its links are ours with it.
        unsafe { &(*node).next }.set(ptr::null());
        // SAFETY: as above.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Wakes them, in the order in which they were popped.
    pub(crate) fn wake(self) {
        let mut at = self.first;
        // SAFETY: as in `push`; none of these has been woken yet.
        while let Some(node) = unsafe { at.as_ref() } {
            let next = node.next.get();
            Popped(at).wake();
            at = next;
        }
    }
}

/// Something under a lock, and those who wait for it to change: what most primitives are made of.
#[derive(Debug)]
pub(crate) struct Line<S, D> {
    inside: Mutex<Inside<S, D>>,
}

#[derive(Debug)]
struct Inside<S, D> {
    state: S,
    list: List<D>,
}

impl<S, D> Line<S, D> {
    const_unless_loom! {
        pub(crate) fn new(state: S) -> Line<S, D> {
            Line { inside: Mutex::new(Inside { state, list: List::new() }) }
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, S, D> {
        // No user code runs under the lock, so a panic cannot leave it half changed.
        Locked { line: self, inside: self.inside.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A line whose lock we have. Its state is there by `*`.
pub(crate) struct Locked<'a, S, D> {
    line: &'a Line<S, D>,
    inside: MutexGuard<'a, Inside<S, D>>,
}

impl<S, D> Deref for Locked<'_, S, D> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.inside.state
    }
}

impl<S, D> DerefMut for Locked<'_, S, D> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inside.state
    }
}

/// Where a wait begins in its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Back,
    Front,
}

impl<S, D> Locked<'_, S, D> {
    /// Whether nobody waits.
    pub(crate) fn nobody_waits(&self) -> bool {
        self.inside.list.is_empty()
    }

    /// The data of the first who waits.
    pub(crate) fn first(&self) -> Option<&D> {
        self.inside.list.first()
    }

    /// Takes out the first who waits.
    pub(crate) fn pop(&mut self) -> Option<Popped<D>> {
        self.inside.list.pop()
    }

    /// Takes out everybody who waits.
    pub(crate) fn pop_all(&mut self) -> Batch<D> {
        let mut batch = Batch::new();
        while let Some(popped) = self.pop() {
            batch.push(popped);
        }
        batch
    }

    /// Gives the lock back and waits in the line until somebody who popped us wakes us (`true`), or until the deadline; and returns our data.
    ///
    /// Unwinds if the coroutine is cancelled. In that case, and when the deadline came, `left` was called under the lock once we were out
    /// of the list, and whoever it popped was woken after that.
    pub(crate) fn wait(
        mut self,
        wait: &Wait,
        place: Place,
        data: D,
        deadline: Option<Deadline>,
        left: impl FnOnce(&mut Self) -> Batch<D>,
    ) -> (bool, D) {
        let (line, node) = (self.line, Node::new(data));
        let (list, waiter) = (&mut self.inside.list, wait.waiter());
        match place {
            // SAFETY: the node stays in this frame, and the wait is borrowed by it. It does not go before the waiter was woken by whoever
            // popped the node, or the node was removed.
            Place::Back => unsafe { list.push(&raw const node, waiter) },
            // SAFETY: as above.
            Place::Front => unsafe { list.push_front(&raw const node, waiter) },
        }
        drop(self);
        let claimed = wait.wait_until(deadline, || {
            let mut locked = line.lock();
            // SAFETY: pushed above, into the list of this line.
            let removed = unsafe { locked.inside.list.remove(&raw const node) };
            if removed {
                let batch = left(&mut locked);
                drop(locked);
                batch.wake();
            }
            removed
        });
        (claimed, node.into_data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::Wait;
    use crate::task::Kind;

    fn names(list: &mut List<usize>) -> Vec<usize> {
        std::iter::from_fn(|| list.pop()).map(|popped| *popped.data()).collect()
    }

    #[test]
    fn nodes_leave_in_the_order_they_came_whichever_was_removed() {
        for without in 0..4 {
            let wait = Wait::begin(Kind::None);
            let nodes: [Node<usize>; 4] = [0, 1, 2, 3].map(Node::new);
            let mut list = List::new();
            for node in &nodes {
                // SAFETY: the nodes outlive the list, and each is in it once.
                unsafe { list.push(node, wait.waiter()) };
            }
            let removed = &raw const nodes[without];
            // SAFETY: it was pushed above.
            assert!(unsafe { list.remove(removed) });
            // SAFETY: as above.
            assert!(!unsafe { list.remove(removed) }, "it is no longer there");
            // SAFETY: the node outlives the list, and is in none.
            unsafe { list.push_front(removed, wait.waiter()) };
            let rest = (0..4).filter(|&n| n != without);
            assert_eq!(names(&mut list), [without].into_iter().chain(rest).collect::<Vec<_>>());
            assert!(list.is_empty() && list.first().is_none());
        }
    }

    #[test]
    fn a_batch_wakes_in_order() {
        let waits: [Wait; 3] = std::array::from_fn(|_| Wait::begin(Kind::None));
        let nodes: [Node<u8>; 3] = [0, 1, 2].map(Node::new);
        let (mut list, mut batch) = (List::new(), Batch::new());
        for (node, wait) in nodes.iter().zip(&waits) {
            // SAFETY: the nodes outlive the list, and each is in it once.
            unsafe { list.push(node, wait.waiter()) };
        }
        while let Some(popped) = list.pop() {
            batch.push(popped);
        }
        batch.wake();
        waits.iter().for_each(Wait::wait_masked); // Each returns, so each was woken.
    }
}
