#![allow(unsafe_code, reason = "a ring without bounds checks on the path of every switch")]
//! The private queue of a worker: first in, first out, one thread, no atomics.
//!
//! A ring of a power of two. A push does not check for room: the worker reserves it when it takes a task on, since a live task is
//! in the queue at most once ([`Fifo::reserve`]). Generic over its element, so that tests need no tasks.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// Places of a new queue.
const FIRST_CAPACITY: usize = 64;

#[derive(Debug)]
pub(crate) struct Fifo<T: Copy> {
    ring: UnsafeCell<Box<[MaybeUninit<T>]>>,
    /// Elements ever popped and pushed; their difference is the length, their low bits are places.
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl<T: Copy> Fifo<T> {
    pub(crate) fn new() -> Fifo<T> {
        Fifo {
            ring: UnsafeCell::new(Box::new_uninit_slice(FIRST_CAPACITY)),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    fn ring(&self) -> &[MaybeUninit<T>] {
        // SAFETY: the queue is not `Sync`, and only `grow` replaces the ring, holding no reference to it.
        unsafe { &*self.ring.get() }
    }

    /// Makes room for `total` elements at once.
    #[inline]
    pub(crate) fn reserve(&self, total: usize) {
        if total > self.ring().len() {
            self.grow(total);
        }
    }

    #[cold]
    fn grow(&self, total: usize) {
        let mut ring = Box::new_uninit_slice(total.next_power_of_two());
        let mut length = 0;
        while let Some(element) = self.pop() {
            ring[length].write(element);
            length += 1;
        }
        self.head.set(0);
        self.tail.set(length);
        // SAFETY: nobody holds a reference to the old ring across a call of ours.
        unsafe { *self.ring.get() = ring };
    }

    /// Appends an element.
    ///
    /// # Safety
    /// [`Fifo::reserve`] made room for it.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, element: T) {
        let (ring, tail) = (self.ring(), self.tail.get());
        debug_assert!(tail.wrapping_sub(self.head.get()) < ring.len(), "room was reserved");
        let place = ring.as_ptr().wrapping_add(tail & (ring.len() - 1)).cast_mut();
        // SAFETY: the mask keeps the place inside the ring; room was reserved, so it is free.
        unsafe { place.write(MaybeUninit::new(element)) };
        self.tail.set(tail.wrapping_add(1));
    }

    /// Puts an element before all others.
    ///
    /// # Safety
    /// As for [`Fifo::push`].
    pub(crate) unsafe fn push_front(&self, element: T) {
        let (ring, head) = (self.ring(), self.head.get().wrapping_sub(1));
        debug_assert!(self.tail.get().wrapping_sub(head) <= ring.len(), "room was reserved");
        let place = ring.as_ptr().wrapping_add(head & (ring.len() - 1)).cast_mut();
        // SAFETY: the mask keeps the place inside the ring; room was reserved, so it is free.
        unsafe { place.write(MaybeUninit::new(element)) };
        self.head.set(head);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.get() == self.tail.get()
    }

    /// What would be popped after `skip` others.
    #[inline]
    pub(crate) fn peek(&self, skip: usize) -> Option<T> {
        let (ring, head) = (self.ring(), self.head.get());
        if skip >= self.tail.get().wrapping_sub(head) {
            return None;
        }
        let place = ring.as_ptr().wrapping_add(head.wrapping_add(skip) & (ring.len() - 1));
        // SAFETY: inside the ring by the mask.
        let element = unsafe { place.read() };
        // SAFETY: between head and tail places hold elements that were pushed.
        Some(unsafe { element.assume_init() })
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<T> {
        let (ring, head) = (self.ring(), self.head.get());
        if head == self.tail.get() {
            return None;
        }
        let place = ring.as_ptr().wrapping_add(head & (ring.len() - 1));
        self.head.set(head.wrapping_add(1));
        // SAFETY: inside the ring by the mask.
        let element = unsafe { place.read() };
        // SAFETY: between head and tail places hold elements that were pushed.
        Some(unsafe { element.assume_init() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_wrapping_and_growing() {
        let queue = Fifo::new();
        let (mut pushed, mut popped) = (0, 0);
        for total in [3, 64, 65, 500, 20] {
            queue.reserve(total);
            for _ in 0..10 {
                while pushed - popped < total {
                    // SAFETY: room for `total`, or for more from a round before.
                    unsafe { queue.push(pushed) };
                    pushed += 1;
                }
                let length = pushed - popped;
                let peeked = [0, length - 1, length].map(|skip| queue.peek(skip));
                assert_eq!(peeked, [Some(popped), Some(pushed - 1), None]);
                for _ in 0..total.div_ceil(2) {
                    assert_eq!(queue.pop(), Some(popped));
                    popped += 1;
                }
            }
        }
        while let Some(element) = queue.pop() {
            assert_eq!(element, popped);
            popped += 1;
        }
        assert_eq!(pushed, popped);
    }
}
