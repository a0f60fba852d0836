#![allow(unsafe_code, reason = "gives pages back to the kernel")]
//! Free stacks: a magazine per worker, a depot per class, fresh slots behind both.
//!
//! A worker takes and gives stacks of its own magazine without any atomic operation; only an empty or an overfull one goes
//! to the depot, half a magazine at a time, under a lock. The depot keeps a number of stacks warm, that is with the pages
//! they touched; what comes beyond is sorted, its pages are given back a run of neighbours a call, and waits cold.

use std::cell::RefCell;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::{Class, Slot, arena, guard, overflow};
use crate::sys;

/// Stacks a magazine holds before half of them go to the depot.
const MAGAZINE: usize = 64;
/// Fresh slots guarded by one call.
const BATCH: u32 = 32;
/// Free stacks a class keeps warm. At the usual one or two pages each this is some 8 MiB.
const WARM: usize = 1024;

static DEPOT: [Mutex<Depot>; Class::COUNT] = [const { Mutex::new(Depot::new()) }; Class::COUNT];

struct Depot {
    warm: Vec<u32>,
    cold: Vec<u32>,
    /// Taken from the arena, but the kernel refused a guard: to be tried again before anything fresh.
    unguarded: Vec<u32>,
}

impl Depot {
    const fn new() -> Depot {
        Depot { warm: Vec::new(), cold: Vec::new(), unguarded: Vec::new() }
    }

    fn take(&mut self) -> Option<u32> {
        self.warm.pop().or_else(|| self.cold.pop())
    }

    /// Up to a batch of those that wait for a guard, in the order for popping.
    fn take_unguarded(&mut self) -> Vec<u32> {
        self.unguarded.split_off(self.unguarded.len().saturating_sub(BATCH as usize))
    }

    fn give(&mut self, class: Class, numbers: &mut Vec<u32>) {
        let room = WARM.saturating_sub(self.warm.len()).min(numbers.len());
        self.warm.extend(numbers.drain(..room));
        numbers.sort_unstable();
        for run in numbers.chunk_by(|a, b| a + 1 == *b) {
            let first = Slot { class, number: run[0] };
            let bytes = run.len() * class.slot_bytes();
            // SAFETY: the run is free, and the lock of the depot keeps it so. A refusal leaves the pages, which is merely
            // warmer than asked for.
            let _ = unsafe { sys::discard(arena::get_ready().slot_base(first), bytes) };
        }
        self.cold.append(numbers);
    }
}

fn depot(class: Class) -> std::sync::MutexGuard<'static, Depot> {
    // Nothing that can panic runs under this lock but allocation failure, after which the lists are still whole.
    DEPOT[class.index()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stack for somebody without a magazine.
pub(crate) fn take(class: Class) -> io::Result<Slot> {
    overflow::prepare_thread()?;
    if let Some(number) = depot(class).take() {
        return Ok(Slot { class, number });
    }
    let mut numbers = make(class)?;
    let number = numbers.pop().expect("a batch that was made is not empty");
    depot(class).warm.append(&mut numbers);
    Ok(Slot { class, number })
}

/// Takes a stack back. It has no occupant and nobody runs on it.
pub(crate) fn give(slot: Slot) {
    depot(slot.class).give(slot.class, &mut vec![slot.number]);
}

/// Guards a batch of slots that nobody used yet.
fn make(class: Class) -> io::Result<Vec<u32>> {
    let arena = arena::get()?;
    let mut numbers = depot(class).take_unguarded();
    if numbers.is_empty() {
        // Popped from the end, so that addresses are used upwards.
        numbers = arena.take_fresh(class, BATCH).rev().collect();
    }
    if numbers.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!(
                "no stack of {} bytes is left: each of the {} that there is address space for is in use or kept by another \
                 worker; wait for coroutines to end or raise the address-space limit",
                class.usable(),
                arena.capacity(class)
            ),
        ));
    }
    let slots: Vec<Slot> = numbers.iter().map(|&number| Slot { class, number }).collect();
    match guard::install(&slots) {
        Ok(()) => Ok(numbers),
        Err(error) => {
            depot(class).unguarded.append(&mut numbers);
            Err(error)
        }
    }
}

/// A worker's own free stacks.
#[derive(Debug, Default)]
pub(crate) struct Magazine {
    free: [RefCell<Vec<u32>>; Class::COUNT],
}

impl Magazine {
    /// Takes a stack, from here, the depot or the arena.
    #[inline]
    pub(crate) fn take(&self, class: Class) -> io::Result<Slot> {
        let free = self.free[class.index()].borrow_mut().pop();
        match free {
            Some(number) => Ok(Slot { class, number }),
            None => self.refill(class),
        }
    }

    #[cold]
    fn refill(&self, class: Class) -> io::Result<Slot> {
        let mut free = self.free[class.index()].borrow_mut();
        {
            let mut depot = depot(class);
            free.extend(std::iter::from_fn(|| depot.take()).take(MAGAZINE / 2));
        }
        if free.is_empty() {
            free.append(&mut make(class)?);
        }
        let number = free.pop().expect("just filled");
        Ok(Slot { class, number })
    }

    /// Takes a stack back. The caller may still run on it, if it leaves before anybody takes from this magazine again.
    #[inline]
    pub(crate) fn give(&self, slot: Slot) {
        let mut free = self.free[slot.class.index()].borrow_mut();
        if free.len() >= MAGAZINE {
            spill(slot.class, &mut free);
        }
        // Pushed last: what went to the depot is not the stack the caller still runs on.
        free.push(slot.number);
    }
}

#[cold]
fn spill(class: Class, free: &mut Vec<u32>) {
    // The older half: the newer is warm in the cache.
    let mut half: Vec<u32> = free.drain(..MAGAZINE / 2).collect();
    depot(class).give(class, &mut half);
}

impl Drop for Magazine {
    fn drop(&mut self) {
        for class in Class::ALL {
            depot(class).give(class, &mut self.free[class.index()].take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{self, Call};

    const SMALL: Class = Class::ALL[0];

    #[test]
    fn what_lies_beyond_the_warm_stacks_is_cold_and_kept() {
        let mut depot = Depot::new();
        let mut numbers: Vec<u32> = arena::get().unwrap().take_fresh(SMALL, 1030).collect();
        let first = numbers[0];
        depot.give(SMALL, &mut numbers);
        assert_eq!((depot.warm.len(), depot.cold.len()), (WARM, 6));
        assert!(numbers.is_empty());
        let back: std::collections::BTreeSet<u32> = std::iter::from_fn(|| depot.take()).collect();
        assert_eq!(back.into_iter().collect::<Vec<_>>(), (first..first + 1030).collect::<Vec<_>>());
    }

    #[test]
    fn a_refused_discard_loses_no_stack() {
        let mut depot = Depot::new();
        let mut numbers: Vec<u32> = arena::get().unwrap().take_fresh(SMALL, 1026).collect();
        inject::fail(Call::Discard, 1, libc::EAGAIN);
        depot.give(SMALL, &mut numbers);
        assert_eq!(depot.cold.len(), 2);
    }

    #[test]
    fn a_refused_guard_loses_no_stack() {
        const LARGE: Class = Class::ALL[2]; // Used by no other test here.
        let _one = guard::METHOD_IN_TESTS.lock().unwrap_or_else(PoisonError::into_inner);
        let used = || arena::get().unwrap().used(LARGE);
        guard::set_guard(guard::Guard::Protect);
        let before = used();
        for _ in 0..3 {
            inject::fail(Call::Protect, 1, libc::ENOMEM);
            make(LARGE).unwrap_err();
        }
        guard::set_guard(guard::Guard::Auto);
        assert_eq!(make(LARGE).unwrap(), (before..before + BATCH).rev().collect::<Vec<_>>());
        assert_eq!(used(), before + BATCH);
    }

    #[test]
    fn a_magazine_gives_the_last_stack_first() {
        let magazine = Magazine::default();
        let (a, b) = (magazine.take(SMALL).unwrap(), magazine.take(SMALL).unwrap());
        magazine.give(a);
        magazine.give(b);
        assert_eq!(magazine.take(SMALL).unwrap(), b);
        assert_eq!(magazine.take(SMALL).unwrap(), a);
    }
}
