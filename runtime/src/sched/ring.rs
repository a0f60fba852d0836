//! The queue of unstarted work of a worker: bounded, first in, first out, filled by its owner, emptied by the owner and by thieves.
//!
//! After Go's `runqput`, `runqget` and `runqgrab` (`proc.go`), with two differences: the *newer* half moves on overflow, and
//! indices are 64 bits wide, so that one never comes back while a thief looks the other way. The ring holds addresses in atomic
//! slots and never follows one; a value read from a slot counts only if the exchange of `head` that claims it succeeds. That is why
//! nothing here is unsafe.
//!
//! ```text
//!      head: claimed up to here, by an exchange       tail: filled up to here, by a plain store of the owner
//!        v                                              v
//!  . . . [ oldest  ............................  newest ] . . .          place of an index: its low bits
//!          ^ pop takes one, a thief half, rounded up     ^ push
//! ```
//!
//! **Who may call what.** `push`, `fill`, `pop`, `room` and the own side of `steal_into`: the one thread that owns the ring. The rest:
//! everybody. Two owners at once would lose or repeat elements.
//!
//! **Why a claim is good.** `head` only grows. A claim of `head` from `h` to `h + n` succeeds when it is still `h`, so:
//!
//! 1. *The slots hold what was pushed.* `n` is at most `tail - h` for a `tail` that was acquired, hence after the stores to these slots.
//! 2. *They have not been filled again.* The owner fills the place of `h` anew when it has seen `head` beyond `h`, which is this
//!    claim or a later one. The claim releases and the owner acquires, so the reads of the slots come before the stores that
//!    overwrite them. The owner's own claim needs no Release for this, since it is one thread.
//! 3. *The owner has not taken them back.* On overflow the owner lowers `tail` to `h + CAPACITY / 2` first and then exchanges
//!    `head` from `h` to the same `h`, which fails if somebody claimed meanwhile (then it puts `tail` back: there is room now).
//!    After its success a claim from `h` is of no more than half the capacity, and touches only what stayed, whichever `tail` it
//!    went by. A claim from a later index read `head` after that exchange, in its release sequence, and acquired it; it reads
//!    `tail` after `head`, so it goes by the lowered one.
//!
//! **Rejected: a second head that marks slots as being copied** (tokio `queue.rs`). It lets slots be plain memory, at the price of a
//! victim that one thief makes unavailable to the others and whose slots stay taken while a thief is preempted.

use std::array;
use std::fmt;
use std::ptr::{self, NonNull};

use crate::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Places of a ring: a power of two. Small for the model checker, so that it gets to the wrap-around and the overflow.
pub(crate) const CAPACITY: usize = if cfg!(all(test, loom)) { 4 } else { 256 };
/// What stays and what leaves on overflow; the most a thief can claim.
const HALF: usize = CAPACITY / 2;

const _: () = assert!(
    CAPACITY.is_power_of_two() && CAPACITY >= 4,
    "an index is a place by its low bits, and a half has some"
);

/// Its own cache line, and the one that the processor fetches with it.
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

pub(crate) struct Ring<T> {
    /// Index of the oldest element: exchanged by whoever takes.
    head: Line<AtomicU64>,
    /// Index behind the newest: stored by the owner alone.
    tail: Line<AtomicU64>,
    slots: [AtomicPtr<T>; CAPACITY],
}

impl<T> Ring<T> {
    pub(crate) fn new() -> Ring<T> {
        Ring {
            head: Line(AtomicU64::new(0)),
            tail: Line(AtomicU64::new(0)),
            slots: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        &self.slots[index as usize & (CAPACITY - 1)]
    }

    /// The element with this index, if the claim that follows says so.
    #[inline]
    fn read(&self, index: u64) -> *mut T {
        // Relaxed: published by `tail`, which whoever calls this has acquired or stored (claim 1 of the module's head).
        self.slot(index).load(Ordering::Relaxed)
    }

    #[inline]
    fn write(&self, index: u64, element: *mut T) {
        // Relaxed: published by the store of `tail` that follows, and after the claims that emptied the place (claim 2).
        self.slot(index).store(element, Ordering::Relaxed);
    }

    #[inline]
    fn publish(&self, tail: u64) {
        // Release: pairs with the Acquire of `tail` in `steal_into`; publishes the slots, and the records they point to.
        self.tail.0.store(tail, Ordering::Release);
    }

    #[inline]
    fn own_tail(&self) -> u64 {
        // Relaxed: only the owner stores it, and only the owner calls this.
        self.tail.0.load(Ordering::Relaxed)
    }

    /// How many elements fit at least. Owner only.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        // Acquire: pairs with the Release of a thief's claim, so that its reads come before what is stored there next (claim 2).
        let head = self.head.0.load(Ordering::Acquire);
        CAPACITY - count(head, self.own_tail())
    }

    /// Adds the newest element, without a locked operation unless the ring is full. Owner only.
    ///
    /// A full ring gives its newer half and the element away, oldest first, to `overflow`.
    #[inline]
    pub(crate) fn push(&self, element: NonNull<T>, overflow: impl FnOnce(&[NonNull<T>])) {
        if self.room() == 0 {
            return self.push_to_full(element, overflow);
        }
        let tail = self.own_tail();
        self.write(tail, element.as_ptr());
        self.publish(tail + 1);
    }

    #[cold]
    fn push_to_full(&self, element: NonNull<T>, overflow: impl FnOnce(&[NonNull<T>])) {
        let tail = self.own_tail();
        let head = tail - CAPACITY as u64;
        let kept = head + HALF as u64;
        // The order of these two is claim 3. Release, both: pairs with the Acquire of `head` in `steal_into`, and publishes the lowered
        // `tail` to whoever claims from a later index. Relaxed on failure: `push` looks again.
        self.publish(kept);
        if self.head.0.compare_exchange(head, head, Ordering::Release, Ordering::Relaxed).is_err() {
            self.publish(tail);
            return self.push(element, overflow);
        }
        let mut batch = [element; HALF + 1];
        for (place, index) in batch.iter_mut().zip(kept..tail) {
            *place = NonNull::new(self.read(index)).expect("a place between head and tail is filled");
        }
        overflow(&batch);
    }

    /// Adds elements, oldest first, as many as there are or as fit; all become visible at once. Owner only.
    pub(crate) fn fill(&self, elements: impl Iterator<Item = NonNull<T>>) {
        let mut tail = self.own_tail();
        for element in elements.take(self.room()) {
            self.write(tail, element.as_ptr());
            tail += 1;
        }
        self.publish(tail);
    }

    /// Takes the oldest element. Owner only.
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<T>> {
        // Relaxed: the exchange confirms it.
        let mut head = self.head.0.load(Ordering::Relaxed);
        while head != self.own_tail() {
            let element = self.read(head);
            // Relaxed: nothing is published, what is read was stored by this thread, and a release sequence goes on through an exchange.
            match self.head.0.compare_exchange_weak(head, head + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return NonNull::new(element),
                Err(now) => head = now,
            }
        }
        None
    }

    /// Takes the older half, rounded up, of this ring: returns the oldest element and puts the rest into `own`, as far as it has room.
    ///
    /// For anybody who owns `own`, another ring than this. None: there was nothing.
    pub(crate) fn steal_into(&self, own: &Ring<T>) -> Option<NonNull<T>> {
        debug_assert!(!ptr::eq(self, own), "a worker does not steal from itself");
        let own_tail = own.own_tail();
        let most = own.room() + 1;
        loop {
            // Acquire: pairs with the Release in `push_to_full` (claim 3), and keeps the load of `tail` behind this one.
            let head = self.head.0.load(Ordering::Acquire);
            // Acquire: pairs with the Release in `publish`.
            let tail = self.tail.0.load(Ordering::Acquire);
            // An old `head` beside a new `tail` makes this too much, and the claim fails: whoever stored this `tail` had seen a
            // later `head`.
            let taken = count(head, tail).div_ceil(2).min(most) as u64;
            if taken == 0 {
                return None;
            }
            let oldest = self.read(head);
            for offset in 1..taken {
                own.write(own_tail + offset - 1, self.read(head + offset));
            }
            // Release: pairs with the Acquire in `room` (claim 2). Relaxed on failure: the loop looks again.
            let claim =
                self.head.0.compare_exchange(head, head + taken, Ordering::Release, Ordering::Relaxed);
            if claim.is_ok() {
                if taken > 1 {
                    own.publish(own_tail + taken - 1);
                }
                return NonNull::new(oldest);
            }
        }
    }

    /// How many elements there are, or were a moment ago; for anybody.
    ///
    /// An element that was pushed before a `SeqCst` fence is counted by whoever looks after a fence that follows it, until it is
    /// taken: `tail` is then no older than that push, and no value of `head` is beyond an element that nobody claimed.
    pub(crate) fn len(&self) -> usize {
        // Relaxed, both: a number to decide by; who takes acquires.
        let head = self.head.0.load(Ordering::Relaxed);
        count(head, self.tail.0.load(Ordering::Relaxed)).min(CAPACITY)
    }

    /// As [`Ring::len`].
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Elements between two indices that may be of different times: none if `head` is the younger.
#[inline]
fn count(head: u64, tail: u64) -> usize {
    usize::try_from(tail.saturating_sub(head)).expect("indices fit the architecture's words")
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Numbers whose addresses go through the rings.
    fn numbers(count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn full(ring: &Ring<usize>, numbers: &[usize]) {
        assert_eq!(numbers.len(), CAPACITY);
        ring.fill(numbers.iter().map(NonNull::from));
        assert_eq!(ring.room(), 0);
    }

    /// The number behind an address.
    fn read(element: NonNull<usize>) -> usize {
        #[expect(unsafe_code, reason = "the rings under test carry addresses")]
        // SAFETY: every address pushed here is that of a number in a vector that the test keeps.
        unsafe {
            element.read()
        }
    }

    fn drain(ring: &Ring<usize>) -> Vec<usize> {
        std::iter::from_fn(|| ring.pop()).map(read).collect()
    }

    fn never(_: &[NonNull<usize>]) {
        panic!("the ring has room");
    }

    #[test]
    fn order_survives_wrapping_at_every_place() {
        let numbers = numbers(3 * CAPACITY);
        let ring = Ring::new();
        for chunk in numbers.chunks(7) {
            assert!(ring.is_empty());
            for number in chunk {
                ring.push(number.into(), never);
            }
            assert_eq!(ring.len(), chunk.len());
            assert_eq!(drain(&ring), chunk);
        }
        assert_eq!(ring.pop(), None);
    }

    #[test]
    fn the_newer_half_leaves_a_full_ring_with_what_was_pushed() {
        let numbers = numbers(CAPACITY + 1);
        let ring = Ring::new();
        full(&ring, &numbers[..CAPACITY]);
        let mut left = Vec::new();
        ring.push((&numbers[CAPACITY]).into(), |batch| left.extend(batch.iter().copied().map(read)));
        assert_eq!(left, &numbers[HALF..]);
        assert_eq!(ring.room(), CAPACITY - HALF);
        assert_eq!(drain(&ring), &numbers[..HALF]);
    }

    #[test]
    fn a_thief_takes_the_older_half_rounded_up() {
        for queued in [0, 1, 2, 3, 4, 5, CAPACITY] {
            let numbers = numbers(queued);
            let (victim, own) = (Ring::new(), Ring::new());
            victim.fill(numbers.iter().map(NonNull::from));
            let stolen = queued.div_ceil(2);
            assert_eq!(victim.steal_into(&own).map(read), numbers.first().copied());
            assert_eq!(drain(&own), numbers[..stolen].iter().skip(1).copied().collect::<Vec<_>>());
            assert_eq!(drain(&victim), &numbers[stolen..]);
        }
    }

    #[test]
    fn a_thief_takes_no_more_than_fits() {
        let numbers = numbers(2 * CAPACITY);
        for room in [0, 1, 5] {
            let (victim, own) = (Ring::new(), Ring::new());
            full(&victim, &numbers[..CAPACITY]);
            full(&own, &numbers[CAPACITY..]);
            for _ in 0..room {
                own.pop();
            }
            assert_eq!(victim.steal_into(&own).map(read), Some(0));
            assert_eq!(victim.len(), CAPACITY - 1 - room);
            assert_eq!(own.room(), 0);
            assert_eq!(drain(&own).split_off(CAPACITY - room), &numbers[1..=room]);
        }
    }

    #[test]
    fn filling_takes_from_the_source_what_fits_and_no_more() {
        let numbers = numbers(CAPACITY + 3);
        let ring = Ring::new();
        let mut source = numbers.iter().map(NonNull::from);
        ring.fill(source.by_ref());
        assert_eq!(ring.len(), CAPACITY);
        assert_eq!(source.next().map(read), Some(CAPACITY));
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_push_has_no_locked_operation_and_a_pop_has_one() {
        use crate::atomic::locked_operations;
        let number = 0;
        let ring = Ring::new();
        let before = locked_operations();
        ring.push((&number).into(), never);
        assert_eq!(locked_operations() - before, 0);
        ring.pop();
        assert_eq!(locked_operations() - before, 1);
        ring.pop();
        assert_eq!(locked_operations() - before, 1, "an empty ring costs none");
    }

    /// The owner pushes, pops and overflows while three thieves steal from it and from each other.
    #[test]
    fn every_element_comes_out_once_under_stress() {
        const ELEMENTS: usize = 200_000;
        let numbers = numbers(ELEMENTS);
        let seen: Vec<AtomicUsize> = numbers.iter().map(|_| AtomicUsize::new(0)).collect();
        // Relaxed, in this test: counts, read when the threads are joined or to decide on another round.
        let out = AtomicUsize::new(0);
        let take = |element| {
            seen[read(element)].fetch_add(1, Ordering::Relaxed);
            out.fetch_add(1, Ordering::Relaxed);
        };
        let rings: [Ring<usize>; 4] = array::from_fn(|_| Ring::new());
        let injected = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|threads| {
            for thief in 1..rings.len() {
                let (rings, out, take) = (&rings, &out, &take);
                threads.spawn(move || {
                    let own = &rings[thief];
                    while out.load(Ordering::Relaxed) < ELEMENTS {
                        let victims = (1..rings.len()).map(|step| &rings[(thief + step) % rings.len()]);
                        let found = victims.filter_map(|victim| victim.steal_into(own)).map(take).count();
                        while own.len() > HALF / 4 {
                            own.pop().map(take);
                        }
                        if found == 0 {
                            own.pop().map(take);
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for (place, number) in numbers.iter().enumerate() {
                rings[0].push(number.into(), |batch| {
                    injected.lock().unwrap().extend(batch.iter().copied().map(read));
                });
                // Bursts, so that the ring is full at times and empty at others.
                if place % 1000 > 600 {
                    rings[0].pop().map(take);
                    rings[0].pop().map(take);
                }
                for number in injected.lock().unwrap().drain(..) {
                    take(NonNull::from(&numbers[number]));
                }
            }
            while let Some(element) = rings[0].pop() {
                take(element);
            }
        });
        assert!(rings.iter().all(Ring::is_empty));
        assert!(seen.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    }
}

/// Every interleaving of an owner and thieves, with a ring of four.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::atomic::testing::{Arc, thread};

    type Element = NonNull<u8>;

    /// An address that stands for a number; nobody follows it.
    fn element(number: usize) -> Element {
        NonNull::new(ptr::without_provenance_mut(number)).expect("numbers start at 1")
    }

    fn numbers(elements: impl IntoIterator<Item = Element>) -> Vec<usize> {
        elements.into_iter().map(|element| element.addr().get()).collect()
    }

    fn drain(ring: &Ring<u8>) -> Vec<Element> {
        std::iter::from_fn(|| ring.pop()).collect()
    }

    /// A thread that steals some times, and tells what it got.
    fn thief(victim: &Arc<Ring<u8>>, times: usize) -> thread::JoinHandle<Vec<Element>> {
        let victim = Arc::clone(victim);
        thread::spawn(move || {
            let own = Ring::new();
            let mut got = Vec::new();
            for _ in 0..times {
                got.extend(victim.steal_into(&own));
                // In order, because a thief takes from the front, and so does this.
                got.extend(drain(&own));
            }
            got
        })
    }

    /// All that was pushed came out once, and each party's share is in the order in which it was pushed.
    fn check(pushed: usize, shares: Vec<Vec<Element>>) {
        let shares: Vec<_> = shares.into_iter().map(numbers).collect();
        for share in &shares {
            assert!(share.is_sorted(), "out of order: {shares:?}");
        }
        let mut all = shares.concat();
        all.sort_unstable();
        assert_eq!(all, (1..=pushed).collect::<Vec<_>>(), "shares: {shares:?}");
    }

    fn never(_: &[Element]) {
        panic!("the ring has room");
    }

    #[test]
    fn an_owner_and_a_thief_share_each_element_once() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            ring.push(element(1), never);
            let thief = thief(&ring, 1);
            ring.push(element(2), never);
            ring.push(element(3), never);
            let own = drain(&ring);
            check(3, vec![own, thief.join().unwrap()]);
        });
    }

    #[test]
    fn a_place_is_not_filled_again_while_a_thief_may_claim_it() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            // The indices stand one before the wrap-around, and every place has been used.
            for _ in 0..3 {
                ring.push(element(9), never);
                ring.pop();
            }
            for number in 1..=CAPACITY {
                ring.push(element(number), never);
            }
            let thief = thief(&ring, 2);
            let mut own = Vec::new();
            let mut injected = Vec::new();
            for number in 5..=6 {
                own.extend(ring.pop());
                ring.push(element(number), |batch| injected.extend(batch.iter().copied()));
            }
            own.extend(drain(&ring));
            check(6, vec![own, injected, thief.join().unwrap()]);
        });
    }

    #[test]
    fn an_overflow_takes_back_only_what_no_thief_has() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            for number in 1..=CAPACITY {
                ring.push(element(number), never);
            }
            let thief = thief(&ring, 2);
            let mut injected = Vec::new();
            for number in 5..=6 {
                ring.push(element(number), |batch| injected.extend(batch.iter().copied()));
            }
            check(6, vec![drain(&ring), injected, thief.join().unwrap()]);
        });
    }

    #[test]
    fn an_overflow_between_two_thieves_takes_back_only_what_neither_has() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            for number in 1..=CAPACITY {
                ring.push(element(number), never);
            }
            let thieves = [thief(&ring, 1), thief(&ring, 1)];
            let mut injected = Vec::new();
            ring.push(element(5), |batch| injected.extend(batch.iter().copied()));
            ring.push(element(6), |batch| injected.extend(batch.iter().copied()));
            let mut shares = vec![drain(&ring), injected];
            shares.extend(thieves.map(|thief| thief.join().unwrap()));
            check(6, shares);
        });
    }

    #[test]
    fn two_thieves_and_the_owner_share_each_element_once() {
        loom::model(|| {
            let ring = Arc::new(Ring::new());
            let thieves = [thief(&ring, 1), thief(&ring, 1)];
            for number in 1..=3 {
                ring.push(element(number), never);
            }
            let mut shares = vec![drain(&ring)];
            shares.extend(thieves.map(|thief| thief.join().unwrap()));
            check(3, shares);
        });
    }

    #[test]
    fn a_thief_may_be_robbed_of_what_it_stole() {
        loom::model(|| {
            let (victim, middle) = (Arc::new(Ring::new()), Arc::new(Ring::new()));
            for number in 1..=CAPACITY {
                victim.push(element(number), never);
            }
            let robber = thief(&middle, 1);
            let mut own = Vec::new();
            own.extend(victim.steal_into(&middle));
            own.extend(drain(&middle));
            check(4, vec![own, drain(&victim), robber.join().unwrap()]);
        });
    }
}
