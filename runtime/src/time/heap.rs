//! A heap of deadlines: what is due first comes out first, and of equals what was put in first.
//!
//! Four children a node instead of two, as in Go's `time.go`: half the levels to climb for a push, which is all that most deadlines
//! see before they are dropped. Popping costs what it does in std's `BinaryHeap`, within what could be told apart. The order of
//! equals is part of the key (a sequence number), so that a test, or a person with a trace, can tell what will happen.
//!
//! It knows no clock and no tasks. Nothing is taken out of the middle: whoever ends a wait early leaves its entry, recognises it as
//! stale when it comes out, and sweeps with [`Heap::retain`] when there are too many.

/// Children of a node.
const ARITY: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    deadline_ns: u64,
    /// How many were pushed before; never wraps.
    sequence: u64,
    payload: T,
}

impl<T> Entry<T> {
    /// One number, so that a comparison is two subtractions and no branch.
    fn key(&self) -> u128 {
        u128::from(self.deadline_ns) << 64 | u128::from(self.sequence)
    }

    fn is_before(&self, other: &Entry<T>) -> bool {
        self.key() < other.key()
    }
}

#[derive(Debug)]
pub(crate) struct Heap<T> {
    /// Each entry is before its children, which for place `n` are at `ARITY * n + 1` and the next.
    entries: Vec<Entry<T>>,
    pushed: u64,
}

impl<T> Default for Heap<T> {
    fn default() -> Heap<T> {
        Heap { entries: Vec::new(), pushed: 0 }
    }
}

impl<T: Copy> Heap<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, deadline_ns: u64, payload: T) {
        self.entries.push(Entry { deadline_ns, sequence: self.pushed, payload });
        self.pushed += 1;
        self.rise(self.entries.len() - 1);
    }

    /// The entry that is due first.
    pub(crate) fn peek(&self) -> Option<(u64, T)> {
        self.entries.first().map(|entry| (entry.deadline_ns, entry.payload))
    }

    /// Takes the entry that is due first.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let first = self.peek()?;
        self.entries.swap_remove(0);
        self.sink(0);
        Some(first)
    }

    /// Takes the entry that is due first, if its deadline is not after `now_ns`.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        if self.peek()?.0 > now_ns {
            return None;
        }
        self.pop().map(|(_, payload)| payload)
    }

    /// Drops the entries of which `keep` says so, in time that grows with their number; the order of the others stays.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|entry| keep(&entry.payload));
        // From the last node that has children.
        for place in (0..self.entries.len().div_ceil(ARITY)).rev() {
            self.sink(place);
        }
    }

    /// Moves the entry at `place` up to where it belongs.
    fn rise(&mut self, mut place: usize) {
        let entry = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !entry.is_before(&self.entries[parent]) {
                break;
            }
            self.entries[place] = self.entries[parent];
            place = parent;
        }
        self.entries[place] = entry;
    }

    /// Moves the entry at `place`, if there is one, down to where it belongs.
    fn sink(&mut self, mut place: usize) {
        let Some(&entry) = self.entries.get(place) else { return };
        loop {
            let left = ARITY * place + 1;
            let right = (left + ARITY).min(self.entries.len());
            let mut first = left;
            for other in left + 1..right {
                if self.entries[other].is_before(&self.entries[first]) {
                    first = other;
                }
            }
            if first >= right || !self.entries[first].is_before(&entry) {
                break;
            }
            self.entries[place] = self.entries[first];
            place = first;
        }
        self.entries[place] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The same numbers at each run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }

    #[test]
    fn it_does_what_an_ordered_map_does() {
        for seed in 1..=20_u64 {
            let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut heap = Heap::default();
            let mut map = BTreeMap::new();
            // Few deadlines, so that many are equal, and some seeds grow while others stay small.
            let (pushes, deadlines) = (4 + seed % 3, 1 + 17 * seed);
            for step in 0..3_000_u64 {
                match numbers.next(10) {
                    n if n < pushes => {
                        let deadline_ns = numbers.next(deadlines);
                        heap.push(deadline_ns, step);
                        map.insert((deadline_ns, step), step);
                    }
                    9 if numbers.next(50) == 0 => {
                        heap.retain(|payload| payload % 3 != 0);
                        map.retain(|_, payload| *payload % 3 != 0);
                    }
                    _ => {
                        let now_ns = numbers.next(deadlines);
                        let due = map.first_key_value().filter(|((at, _), _)| *at <= now_ns);
                        let due = due.map(|(&key, _)| key).and_then(|key| map.remove(&key));
                        assert_eq!(heap.pop_due(now_ns), due, "seed {seed}, step {step}");
                    }
                }
                assert_eq!(heap.len(), map.len());
                assert_eq!(heap.is_empty(), map.is_empty());
                let first = map.first_key_value().map(|(&(at, _), &payload)| (at, payload));
                assert_eq!(heap.peek(), first, "seed {seed}, step {step}");
            }
            let rest: Vec<_> = std::iter::from_fn(|| heap.pop()).collect();
            assert_eq!(rest, map.into_iter().map(|((at, _), payload)| (at, payload)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn equals_come_out_as_they_went_in() {
        let mut heap = Heap::default();
        for payload in 0..100 {
            heap.push(7, payload);
        }
        heap.retain(|payload| payload % 2 == 0);
        let out: Vec<_> = std::iter::from_fn(|| heap.pop_due(7)).collect();
        assert_eq!(out, (0..100).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_due_is_not_after_now() {
        let mut heap = Heap::default();
        heap.push(u64::MAX, 'z');
        heap.push(5, 'a');
        assert_eq!(heap.pop_due(4), None);
        assert_eq!(heap.pop_due(5), Some('a'));
        assert_eq!(heap.pop_due(u64::MAX - 1), None);
        assert_eq!(heap.pop_due(u64::MAX), Some('z'));
        assert_eq!(heap.pop_due(u64::MAX), None);
    }
}
