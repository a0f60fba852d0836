//! Layout randomised inside a slice.
//!
//! A process that keeps one stack layout for life keeps its speed with it: clusters 8 % apart were seen. So each
//! unit enters its loop [`STAYS`] times a slice, each time at another depth of its own stack. The depths are drawn
//! from a seed that is the same in every process: the contenders of a block see the same draws, and instruction
//! counts repeat. (The addresses below them differ by process: address randomisation stays on.)
//!
//! The depth is 0 to 127 steps of 16 bytes, taken in at most seven frames, one for each bit of the number. As
//! many real frames were tried: each return beyond the sixteenth is mispredicted, so an entry costs half a
//! microsecond, which a ring of 1024 units that yield 36 times each would show.

use std::hint::black_box;
use std::mem::MaybeUninit;

/// How often a unit enters its loop in a slice.
pub const STAYS: u64 = 32;

/// Depths are below this.
const DEPTHS: u8 = 128;

/// Where a unit's loops begin on its stack.
#[derive(Debug)]
pub struct Layout {
    draws: fastrand::Rng,
}

impl Layout {
    /// Of the unit with this ordinal.
    pub fn of_unit(ordinal: usize) -> Layout {
        // Neighbouring seeds give unrelated draws only after mixing: an odd constant spreads the ordinal.
        let seed = (ordinal as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Layout { draws: fastrand::Rng::with_seed(seed) }
    }

    /// Runs `stay` at a fresh depth.
    pub fn enter(&mut self, mut stay: impl FnMut()) {
        descend(self.draws.u8(..DEPTHS), &mut stay);
    }
}

/// Splits iterations into at most [`STAYS`] stays that differ by one at most, none of them empty.
pub fn stays(iterations: u64) -> impl Iterator<Item = u64> {
    stays_of_at_least(1, iterations)
}

/// As [`stays`], but in fewer stays where one would be shorter than `shortest`.
pub fn stays_of_at_least(shortest: u64, iterations: u64) -> impl Iterator<Item = u64> {
    let stays = (iterations / shortest).clamp(1, STAYS);
    let (each, rest) = (iterations / stays, iterations % stays);
    (0..stays).map(move |stay| each + u64::from(stay < rest)).filter(|length| *length > 0)
}

/// Touches this much of the stack below the caller, a page at a time.
#[inline(never)]
pub fn touch(bytes: usize) {
    let mut page = [MaybeUninit::<u8>::uninit(); 4096];
    if bytes == 0 {
        return;
    }
    page[0].write(1);
    black_box(&mut page);
    touch(bytes.saturating_sub(4096));
    // The frame is in use until here: no tail call.
    black_box(&mut page);
}

/// One frame for the lowest bit of `depth`, the next for the rest.
fn descend(depth: u8, stay: &mut dyn FnMut()) {
    let rest = depth & depth.wrapping_sub(1);
    match depth ^ rest {
        0 => stay(),
        1 => frame::<16>(rest, stay),
        2 => frame::<32>(rest, stay),
        4 => frame::<64>(rest, stay),
        8 => frame::<128>(rest, stay),
        16 => frame::<256>(rest, stay),
        32 => frame::<512>(rest, stay),
        _ => frame::<1024>(rest, stay),
    }
}

#[inline(never)]
fn frame<const BYTES: usize>(rest: u8, stay: &mut dyn FnMut()) {
    let mut room = [MaybeUninit::<u8>::uninit(); BYTES];
    black_box(&mut room);
    descend(rest, stay);
    // The room is in use until here: no tail call, and no frame shared with the next.
    black_box(&mut room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn stays_add_up_and_are_32_where_there_is_enough() {
        for iterations in [0, 1, 5, 31, 32, 33, 1000, 1_000_003] {
            let all: Vec<u64> = stays(iterations).collect();
            assert_eq!(all.iter().sum::<u64>(), iterations);
            assert_eq!(all.len() as u64, iterations.min(STAYS));
        }
        assert_eq!(stays_of_at_least(256, 1170).count(), 4);
        assert_eq!(stays_of_at_least(256, 1170).sum::<u64>(), 1170);
        assert_eq!(stays_of_at_least(256, 8).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn entries_begin_at_many_depths_within_a_page() {
        let mut layout = Layout::of_unit(0);
        let mut seen = BTreeSet::new();
        for _ in 0..1000 {
            layout.enter(|| {
                let local = 0_u8;
                seen.insert(std::ptr::from_ref(black_box(&local)).addr());
            });
        }
        let spread = seen.last().unwrap() - seen.first().unwrap();
        assert!(seen.len() > 60, "{} depths", seen.len());
        assert!((1024..4096).contains(&spread), "{spread} bytes");
    }

    #[test]
    fn the_depths_of_a_unit_repeat_and_those_of_two_differ() {
        let draws = |ordinal| {
            let mut layout = Layout::of_unit(ordinal);
            (0..32).map(|_| layout.draws.u8(..DEPTHS)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
