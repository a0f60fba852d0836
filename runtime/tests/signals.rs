//! Signals meet coroutines at any instruction, the switch included, and on stacks as small as they come.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
use switchmark_runtime::stack::high_water;
use switchmark_runtime::{Builder, spawn, task, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

static RECEIVED: AtomicUsize = AtomicUsize::new(0);
/// An address in the frame of the last handler.
static FRAME: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    let local = black_box(0_u8);
    FRAME.store(std::ptr::from_ref(&local).addr(), Ordering::Relaxed);
    RECEIVED.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: libc::c_int, flags: libc::c_int) {
    // SAFETY: all zeros is a disposition.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = flags | libc::SA_RESTART;
    // SAFETY: the handler stores to statics and returns.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

/// Where a handler runs that interrupts a coroutine: on a stack of ours or not.
fn handler_is_on_our_stack(signal: libc::c_int, flags: libc::c_int) -> bool {
    handle(signal, flags);
    // SAFETY: a signal to this thread, which has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
    high_water(FRAME.load(Ordering::Relaxed)).unwrap().is_some()
}

#[test]
fn a_handler_that_asks_for_the_alternate_stack_leaves_the_coroutines_alone() {
    run(|| {
        let small = task::Builder::new().stack_size(64 << 10).spawn(|| {
            // The numbers are this test's own: others of this file run beside it.
            let on_alternate = !handler_is_on_our_stack(libc::SIGRTMIN() + 3, libc::SA_ONSTACK);
            (on_alternate, handler_is_on_our_stack(libc::SIGRTMIN() + 3, 0))
        });
        let (on_alternate, on_own) = small.unwrap().join().unwrap();
        assert!(on_alternate && on_own, "{on_alternate} {on_own}");
    });
}

/// Fills some registers and words of the stack, gives way, and checks them.
fn careful(seed: u64, turns: u64, give_way: impl Fn()) -> u64 {
    let words: [u64; 32] = std::array::from_fn(|at| seed.wrapping_mul(at as u64 + 1));
    let mut sum = 0_u64;
    for turn in 0..turns {
        let words = black_box(words);
        let scale = black_box(seed as f64);
        give_way();
        sum = sum.wrapping_add(words.iter().fold(turn, |sum, word| sum.wrapping_add(*word)));
        assert_eq!(scale.to_bits(), (seed as f64).to_bits());
    }
    sum
}

#[test]
fn signals_at_any_instruction_of_small_stacks_disturb_nothing() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let signal = libc::SIGUSR1;
    handle(signal, 0); // On the interrupted stack: the frame lies on the coroutine's, below its red zone.
    // SAFETY: a name for this thread.
    let me = unsafe { libc::pthread_self() };
    let before = RECEIVED.load(Ordering::Relaxed);
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while !OVER.load(Ordering::Relaxed) {
            // SAFETY: the thread is there until it has joined this one.
            assert_eq!(unsafe { libc::pthread_kill(me, signal) }, 0);
            sent += 1;
            // So that it comes from a timer's wake-up, at an instruction of no choosing, and not faster than they are taken.
            std::thread::sleep(Duration::from_micros(20));
        }
        sent
    });
    let turns = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    let plain = |seed| careful(seed, turns, || ());
    let mut rounds = 0;
    // Until enough have come, which on one busy core takes a while.
    while rounds == 0 || RECEIVED.load(Ordering::Relaxed) - before < 1000 {
        rounds += 1;
        run(|| {
            let units: Vec<_> = (1..=8)
                .map(|seed| {
                    let unit = task::Builder::new()
                        .stack_size(64 << 10)
                        .spawn(move || careful(seed, turns, yield_now));
                    (seed, unit.unwrap())
                })
                .collect();
            let raw = spawn(move || {
                // SAFETY: the body suspends in no thread-local's initialiser and is run to its end.
                let mut inner: Coroutine<(), (), u64> = unsafe {
                    Coroutine::new(Stack::new(64 << 10).unwrap(), move |out: &Yielder<(), ()>, ()| {
                        careful(99, turns, || out.suspend(()))
                    })
                };
                loop {
                    if let switchmark_runtime::raw::State::Returned(sum) = inner.resume(()) {
                        break sum;
                    }
                }
            });
            for (seed, unit) in units {
                assert_eq!(unit.join().unwrap(), plain(seed));
            }
            assert_eq!(raw.join().unwrap(), plain(99));
        });
    }
    OVER.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    println!("{} signals of {sent} in {rounds} rounds", RECEIVED.load(Ordering::Relaxed) - before);
}
