//! What the models take for granted of `Concurrency`, asked of both sides.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switchmark_benches::concurrency::{Channel, Concurrency, Coroutine, Thread, UnitOptions};
use switchmark_benches::layout;
use switchmark_benches::with_cell;
use switchmark_harness::protocol::Prepare;

fn plain<C: Concurrency, T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> C::Handle<T> {
    C::spawn(UnitOptions::default(), body).expect("one unit can be had")
}

/// Inside a runtime of the bundled kind. A cell is how one is entered, whatever it is of.
fn in_a_coroutine(test: impl FnOnce()) {
    let any = Prepare {
        workload: "switch.handoff".into(),
        model: "ping-pong".into(),
        placement: "same-core".into(),
        cpus: vec![0],
        params: Vec::new(),
    };
    with_cell("coroutine", &any, |_| test()).expect("a contender in the tree");
}

fn a_permit_left_before_the_wait_is_not_lost<C: Concurrency>() {
    C::unpark(&C::unparker());
    C::park();
}

fn a_wake_ends_a_wait_and_shows_what_was_written_before<C: Concurrency>() {
    let written = Arc::new(AtomicBool::new(false));
    let (shared, waiter) = (Arc::clone(&written), C::unparker());
    let other = plain::<C, _>(move || {
        // Release: pairs with the Acquire of the waiter below.
        shared.store(true, Ordering::Release);
        C::unpark(&waiter);
    });
    // Acquire: pairs with the Release above.
    while !written.load(Ordering::Acquire) {
        C::park();
    }
    C::join(other);
}

fn units_return_what_their_bodies_return<C: Concurrency>() {
    let units: Vec<_> = (0..10_u64).map(|n| plain::<C, _>(move || n * n)).collect();
    assert_eq!(units.into_iter().map(C::join).sum::<u64>(), 285);
}

fn switches_are_counted_and_clocks_go_forward<C: Concurrency>() {
    let count = || C::switches().expect("this side counts");
    let (switches, start) = (count(), C::stamp());
    for _ in 0..100 {
        C::join(plain::<C, _>(|| ()));
    }
    assert!(count() >= switches + 100, "each join waits for another unit to run");
    assert!(C::stamp() > start);
}

fn a_channel_passes_numbers_in_order<C: Concurrency>() {
    for capacity in [0, 1, 3] {
        let (mut to, mut from) = C::Channel::open(capacity, 1, 1).expect("one of either");
        let (to, from) = (to.remove(0), from.remove(0));
        let producer = plain::<C, _>(move || (0..100).for_each(|n| C::Channel::send(&to, n)));
        let received: Vec<u64> = (0..100).map(|_| C::Channel::receive(&from)).collect();
        assert!(received.iter().copied().eq(0..100), "capacity {capacity}: {received:?}");
        C::join(producer);
    }
}

/// The side as a whole.
fn all<C: Concurrency>() {
    a_permit_left_before_the_wait_is_not_lost::<C>();
    a_wake_ends_a_wait_and_shows_what_was_written_before::<C>();
    units_return_what_their_bodies_return::<C>();
    switches_are_counted_and_clocks_go_forward::<C>();
    a_channel_passes_numbers_in_order::<C>();
}

#[test]
fn threads_keep_what_models_take_for_granted() {
    all::<Thread>();
}

#[test]
fn coroutines_keep_what_models_take_for_granted() {
    in_a_coroutine(all::<Coroutine>);
}

#[test]
fn a_pinned_thread_sits_on_the_cpu_that_was_named() {
    for cpu in core_affinity::get_core_ids().expect("allowed cpus") {
        let options = UnitOptions { cpu: Some(cpu.id), ..UnitOptions::default() };
        let allowed = Thread::join(Thread::spawn(options, core_affinity::get_core_ids).unwrap());
        assert_eq!(allowed, Some(vec![cpu]));
    }
}

#[test]
fn a_coroutine_that_is_to_sit_on_a_cpu_is_refused() {
    in_a_coroutine(|| {
        let options = UnitOptions { cpu: Some(0), ..UnitOptions::default() };
        assert!(Coroutine::spawn(options, || ()).is_err_and(|e| e.to_string().contains("cpu 0")));
    });
}

#[test]
fn a_thread_has_the_stack_that_was_asked_for() {
    let bytes = |stack| {
        let options = UnitOptions { stack, cpu: None };
        let range: Option<Range<usize>> = Thread::join(Thread::spawn(options, Thread::stack).unwrap());
        range.expect("the thread library knows").len()
    };
    assert!((65536..131_072).contains(&bytes(Some(65536))), "{}", bytes(Some(65536)));
    assert!(bytes(None) >= 2 << 20, "{}", bytes(None));
}

#[test]
fn touching_a_stack_makes_so_much_of_it_resident() {
    in_a_coroutine(|| {
        let options = UnitOptions { stack: Some(1 << 20), cpu: None };
        let grown = Coroutine::spawn(options, || {
            let before = Coroutine::resident_stacks().expect("the runtime keeps book");
            layout::touch(256 << 10);
            Coroutine::resident_stacks().expect("the runtime keeps book") - before
        });
        let grown = Coroutine::join(grown.unwrap());
        // The book is the process's: stacks of other tests come and go in it, a few pages each.
        assert!((240 << 10..300 << 10).contains(&grown), "{grown} bytes");
    });
}
