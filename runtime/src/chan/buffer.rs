//! Values on their way: a queue of blocks.
//!
//! A bounded channel has one block, a ring that grows by doubling up to the capacity. An unbounded one chains blocks of fixed size, so that
//! no push copies more than a block and memory goes back block by block. Values are moved here and never dropped: the channel
//! takes the whole buffer out of its lock before it drops one.

use std::collections::VecDeque;

/// Values in a block of a buffer without bound.
const BLOCK: usize = 256;

#[derive(Debug)]
pub(super) struct Buffer<T> {
    /// Values come out here.
    front: VecDeque<T>,
    /// Further blocks, none empty; values go into the last block of all.
    rest: VecDeque<VecDeque<T>>,
    /// Most values a block takes.
    block: usize,
    length: usize,
}

impl<T> Buffer<T> {
    /// For at most `capacity` values, which the channel sees to.
    pub(super) fn bounded(capacity: usize) -> Buffer<T> {
        Buffer { front: VecDeque::new(), rest: VecDeque::new(), block: capacity, length: 0 }
    }

    pub(super) fn unbounded() -> Buffer<T> {
        Buffer::bounded(BLOCK)
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.length += 1;
        if self.front.len() < self.block && self.rest.is_empty() {
            self.front.push_back(value);
        } else {
            self.push_behind(value);
        }
    }

    fn push_behind(&mut self, value: T) {
        match self.rest.back_mut() {
            Some(last) if last.len() < self.block => last.push_back(value),
            _ => {
                let mut block = VecDeque::with_capacity(self.block);
                block.push_back(value);
                self.rest.push_back(block);
            }
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.front.pop_front()?;
        self.length -= 1;
        if self.front.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.front = next; // What goes is empty: only memory is given back here.
        }
        Some(value)
    }

    /// All of it, to be dropped where nothing is locked.
    pub(super) fn take(&mut self) -> Buffer<T> {
        std::mem::replace(self, Buffer::bounded(self.block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_first_comes_out_first_over_many_blocks() {
        let mut buffer = Buffer::unbounded();
        let (mut put, mut got) = (0, 0);
        for (pushes, pops) in [(1, 1), (BLOCK, 3), (5 * BLOCK + 1, BLOCK + 7), (2, 4 * BLOCK), (BLOCK, BLOCK)]
        {
            for _ in 0..pushes {
                buffer.push(put);
                put += 1;
            }
            for _ in 0..pops {
                assert_eq!(buffer.pop(), Some(got));
                got += 1;
            }
            assert_eq!(buffer.len(), put - got);
            assert!(buffer.rest.len() <= buffer.len() / BLOCK + 1, "emptied blocks go");
        }
        while buffer.pop().is_some() {
            got += 1;
        }
        assert_eq!((got, buffer.len()), (put, 0));
    }
}
