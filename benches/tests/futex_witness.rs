//! The witness of `switch.handoff`: a hand-off in forty lines over the bare futex call, with nothing of this crate in
//! it. On one core it makes two context switches a round trip, and so does the model.

#![allow(unsafe_code, reason = "the witness shares nothing with `sys.rs`, so it makes its own calls")]
#![allow(
    clippy::disallowed_methods,
    reason = "the witness is no model: its threads are the standard library's"
)]

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use switchmark_benches::with_cell;
use switchmark_harness::protocol::Prepare;

/// Whose turn it is; the futex of both.
static TURN: AtomicU32 = AtomicU32::new(0);

fn futex(operation: libc::c_int, value: u32) {
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word is a static; the kernel reads it and writes nothing.
    unsafe {
        libc::syscall(libc::SYS_futex, TURN.as_ptr(), operation | libc::FUTEX_PRIVATE_FLAG, value, forever)
    };
}

/// Waits for `mine`, then gives the turn to the other, over and over.
fn play(mine: u32, round_trips: u32) {
    for _ in 0..round_trips {
        loop {
            // Acquire: pairs with the Release of the partner below.
            let turn = TURN.load(Ordering::Acquire);
            if turn == mine {
                break;
            }
            futex(libc::FUTEX_WAIT, turn);
        }
        // Release: pairs with the Acquire of the partner above.
        TURN.store(1 - mine, Ordering::Release);
        futex(libc::FUTEX_WAKE, 1);
    }
}

fn context_switches() -> i64 {
    // SAFETY: all zeros is a usage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a usage and lives over the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    usage.ru_nvcsw + usage.ru_nivcsw
}

/// Of a pinned pair.
fn bare_switches(round_trips: u32) -> i64 {
    let before = context_switches();
    thread::scope(|s| {
        s.spawn(move || play(1, round_trips));
        play(0, round_trips);
    });
    context_switches() - before
}

fn model_switches(round_trips: u64) -> u64 {
    let prepare = Prepare {
        workload: "switch.handoff".into(),
        model: "ping-pong".into(),
        placement: "same-core".into(),
        cpus: vec![0],
        params: Vec::new(),
    };
    let taken = with_cell("thread", &prepare, |cell| cell.map(|slice| slice(round_trips).switches));
    taken.expect("in the tree").expect("two threads").expect("threads count")
}

#[test]
fn a_bare_futex_loop_and_the_model_make_two_switches_a_round_trip() {
    const ROUND_TRIPS: u32 = 5000;
    let last = core_affinity::get_core_ids().expect("allowed cpus").pop().expect("a cpu");
    let (bare, model) = thread::spawn(move || {
        assert!(core_affinity::set_for_current(last));
        (bare_switches(ROUND_TRIPS), model_switches(ROUND_TRIPS.into()))
    })
    .join()
    .expect("no panic");
    let expected = 2 * i64::from(ROUND_TRIPS);
    // Other programs take the core now and then.
    let near = |switches: i64| (switches - expected).abs() <= expected / 100 + 20;
    assert!(near(bare), "the bare loop made {bare} switches, not {expected}");
    assert!(near(model.cast_signed()), "the model made {model} switches, not {expected}");
}
