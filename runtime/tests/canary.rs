//! Nothing that a coroutine keeps in registers is changed by a switch. What takes assembly to see is tested beside the switch.
//!
//! `scripts/canary` builds this at several levels of optimisation and sets `SWITCHMARK_SWITCHES` to a hundred million.

use std::hint::black_box;

use switchmark_runtime::raw::{Coroutine, Stack, State, Yielder};
use switchmark_runtime::{Builder, spawn, yield_now};

/// xorshift: the same order of switches each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// How many switches each test makes, about.
fn switches() -> u64 {
    std::env::var("SWITCHMARK_SWITCHES").map_or(2_000_000, |switches| switches.parse().unwrap())
}

/// A dozen integers, eight floats and two vectors, all alive over the suspension; more than there are callee-saved registers.
#[expect(clippy::inline_always, reason = "each use is to have a frame and a register allocation of its own")]
#[expect(clippy::many_single_char_names, reason = "they are so many on purpose")]
#[inline(always)]
fn hold(seed: u64, suspend: impl FnOnce()) {
    let mut random = Random(seed | 1);
    let integers: [u64; 12] = std::array::from_fn(|_| random.next());
    #[expect(clippy::cast_precision_loss, reason = "any bits will do")]
    let floats: [f64; 8] = std::array::from_fn(|_| random.next() as f64);
    let [a, b, c, d, e, f, g, h, i, j, k, l] = black_box(integers);
    let [p, q, r, s, t, u, v, w] = black_box(floats);
    // Short arrays that the compiler keeps in vector registers if it can.
    let lanes: [[u32; 8]; 2] = black_box(std::array::from_fn(|i| {
        std::array::from_fn(|j| (integers[i + j] >> 32).try_into().unwrap())
    }));
    let mixed: [u32; 8] = std::array::from_fn(|i| lanes[0][i].rotate_left(7) ^ lanes[1][i]);
    suspend();
    assert_eq!(mixed, std::array::from_fn(|i| black_box(lanes)[0][i].rotate_left(7) ^ lanes[1][i]));
    assert_eq!([a, b, c, d, e, f, g, h, i, j, k, l], black_box(integers));
    assert_eq!([p, q, r, s, t, u, v, w].map(f64::to_bits), black_box(floats).map(f64::to_bits));
}

#[test]
fn raw_coroutines_keep_their_registers_in_any_order_of_switches() {
    let body = |yielder: &Yielder<u64, u64>, first: u64| -> u64 {
        let mut seed = first;
        loop {
            let mut next = 0;
            if seed & 1 == 0 {
                hold(seed, || next = yielder.suspend(seed));
            } else {
                // Another place, with less alive.
                next = yielder.suspend(seed);
            }
            seed = next;
        }
    };
    let mut coroutines: Vec<Coroutine<u64, u64, u64>> = (0..7)
        // SAFETY: the bodies touch no thread-local.
        .map(|_| unsafe { Coroutine::new(Stack::new(16 << 10).unwrap(), body) })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..switches() / 2 {
        let (seed, index) = (random.next(), usize::try_from(random.next() >> 32).unwrap() % coroutines.len());
        let resume = |coroutine: &mut Coroutine<u64, u64, u64>| {
            assert_eq!(coroutine.resume(seed), State::Yielded(seed));
        };
        if round % 3 == 0 {
            hold(!seed, || resume(&mut coroutines[index]));
        } else {
            resume(&mut coroutines[index]);
        }
        if round % 1000 == 0 {
            // A forced unwind and a first entry in between.
            // SAFETY: as above.
            coroutines[index] = unsafe { Coroutine::new(Stack::new(16 << 10).unwrap(), body) };
        }
    }
}

#[test]
fn scheduled_coroutines_keep_their_registers_at_unequal_places() {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe {
        Builder::new().run_local(|| {
            for number in 0..5_u64 {
                spawn(move || {
                    let mut random = Random(number + 1);
                    for _ in 0..switches() / 5 {
                        let seed = random.next();
                        match seed % 3 {
                            0 => hold(seed, yield_now),
                            1 => hold(!seed, || {
                                yield_now();
                                yield_now();
                            }),
                            _ => yield_now(),
                        }
                    }
                });
            }
        })
    }
    .unwrap();
}
