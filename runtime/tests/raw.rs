//! Raw coroutines: values, ends, panics, drops, nesting.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use switchmark_runtime::raw::{Coroutine, Stack, State, Yielder};
use switchmark_runtime::{Builder, current, spawn, yield_now};

fn stack() -> Stack {
    Stack::new(64 << 10).unwrap()
}

/// The promise of `Coroutine::new`, made once: no body in this file touches a thread-local and suspends in it.
fn coroutine<In: 'static, Out: 'static, Ret: 'static>(
    body: impl FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
) -> Coroutine<In, Out, Ret> {
    // SAFETY: as the function's comment says; none of them is forgotten.
    unsafe { Coroutine::new(stack(), body) }
}

#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
struct AlignedNothing;

#[repr(align(512))]
struct Aligned([u8; 512]);

#[test]
fn values_of_every_size_cross_both_ways() {
    fn bounce<T: Copy + PartialEq + std::fmt::Debug + 'static>(values: [T; 3]) {
        let mut echo = coroutine(|yielder: &Yielder<T, T>, first: T| {
            let second = yielder.suspend(first);
            yielder.suspend(second)
        });
        assert_eq!(echo.resume(values[0]), State::Yielded(values[0]));
        assert_eq!(echo.resume(values[1]), State::Yielded(values[1]));
        assert_eq!(echo.resume(values[2]), State::Returned(values[2]));
    }
    bounce([(); 3]);
    bounce([1_u8, 2, 3]);
    bounce([(1_u8, 2_u16), (3, 4), (5, 6)]);
    bounce([1.5_f64, -0.0, f64::MAX]);
    bounce([[1_u64; 2], [2; 2], [3; 2]]);
    bounce([[1_u8; 1000], [2; 1000], [3; 1000]]);
    bounce(["a", "bc", "def"]);
    bounce([AlignedNothing; 3]);
}

#[test]
fn a_panic_goes_on_in_resume_and_ends_the_coroutine() {
    let mut failing = coroutine(|yielder: &Yielder<(), ()>, ()| {
        yielder.suspend(());
        std::panic::panic_any(5_u8);
    });
    assert!(matches!(failing.resume(()), State::Yielded(())));
    let payload = catch_unwind(AssertUnwindSafe(|| failing.resume(()))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&5_u8));
    assert!(failing.is_done());
    let again = catch_unwind(AssertUnwindSafe(|| failing.resume(()))).unwrap_err();
    assert!(again.downcast_ref::<&str>().unwrap().contains("has ended"));
    assert!(failing.into_stack().is_ok());
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn dropping_a_suspended_coroutine_runs_the_destructors_on_its_stack() {
    let drops = Rc::new(Cell::new(0));
    let count = Rc::clone(&drops);
    let mut suspended = coroutine(move |yielder: &Yielder<(), ()>, ()| {
        let _outer = OnDrop(|| count.set(count.get() + 1));
        let inner = || {
            let _inner = OnDrop(|| count.set(count.get() + 10));
            yielder.suspend(());
            count.set(1000);
        };
        inner();
    });
    suspended.resume(());
    drop(suspended);
    assert_eq!(drops.get(), 11);
    assert_eq!(Rc::strong_count(&drops), 1);
}

#[test]
fn dropping_an_unstarted_coroutine_drops_its_closure() {
    let captured = Rc::new(());
    let inner = Rc::clone(&captured);
    drop(coroutine(move |_: &Yielder<(), ()>, ()| drop(inner)));
    assert_eq!(Rc::strong_count(&captured), 1);
}

#[test]
fn a_forced_unwind_that_is_swallowed_is_repeated() {
    let reached = Rc::new(Cell::new(0));
    let count = Rc::clone(&reached);
    let mut stubborn = coroutine(move |yielder: &Yielder<(), ()>, ()| {
        for _ in 0..3 {
            let _ = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
            count.set(count.get() + 1);
        }
    });
    stubborn.resume(());
    drop(stubborn);
    assert_eq!(reached.get(), 3);
}

#[test]
fn a_destructor_that_suspends_while_unwound_comes_to_its_end() {
    let ended = Rc::new(Cell::new(false));
    let end = Rc::clone(&ended);
    let mut suspended = coroutine(move |yielder: &Yielder<u8, u8>, _: u8| {
        let _guard = OnDrop(move || end.set(catch_unwind(AssertUnwindSafe(|| yielder.suspend(2))).is_err()));
        yielder.suspend(1)
    });
    suspended.resume(0);
    drop(suspended);
    assert!(ended.get());
}

#[test]
fn a_forced_unwind_does_not_end_another_coroutine() {
    // The inner is dropped, and so unwound, inside the outer, which goes on.
    let mut outer = coroutine(|yielder: &Yielder<(), u8>, ()| {
        let mut inner = coroutine(|yielder: &Yielder<(), ()>, ()| {
            loop {
                yielder.suspend(());
            }
        });
        let _: State<(), ()> = inner.resume(());
        drop(inner);
        yielder.suspend(1);
        2
    });
    assert_eq!(outer.resume(()), State::Yielded(1));
    assert_eq!(outer.resume(()), State::Returned(2));
}

#[test]
fn a_panic_while_being_unwound_comes_out_of_drop() {
    let mut failing = coroutine(|yielder: &Yielder<(), ()>, ()| {
        if catch_unwind(AssertUnwindSafe(|| yielder.suspend(()))).is_err() {
            std::panic::panic_any("late");
        }
    });
    failing.resume(());
    let payload = catch_unwind(AssertUnwindSafe(|| drop(failing))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"late"));
}

#[test]
fn a_stack_serves_one_coroutine_after_the_other() {
    let mut stack = stack();
    for n in 0..100 {
        // SAFETY: as in `coroutine`.
        let mut next = unsafe { Coroutine::new(stack, move |_: &Yielder<(), ()>, ()| n) };
        assert_eq!(next.resume(()), State::Returned(n));
        stack = next.into_stack().unwrap();
    }
    assert_eq!(stack.size(), 64 << 10);
}

#[test]
fn a_stack_is_not_taken_from_a_suspended_coroutine() {
    let mut suspended = coroutine(|yielder: &Yielder<(), ()>, ()| yielder.suspend(()));
    suspended.resume(());
    let mut suspended = suspended.into_stack().unwrap_err();
    assert_eq!(suspended.resume(()), State::Returned(()));
}

#[test]
fn large_and_overaligned_closures_find_their_place() {
    let big = [3_u8; 4_000];
    assert_eq!(
        coroutine(move |_: &Yielder<(), ()>, ()| big.iter().map(|&b| usize::from(b)).sum::<usize>())
            .resume(()),
        State::Returned(12_000)
    );
    let aligned = Aligned([7; 512]);
    let mut check = coroutine(move |_: &Yielder<(), ()>, ()| {
        let aligned = aligned;
        ((&raw const aligned).addr() % 512, aligned.0[511])
    });
    assert_eq!(check.resume(()), State::Returned((0, 7)));
    let (too_big, more) = ([0_u8; 16 << 10], [0_u8; 16 << 10]);
    assert!(catch_unwind(|| coroutine(move |_: &Yielder<(), ()>, ()| too_big.len() + more.len())).is_err());
}

#[test]
fn a_backtrace_walks_from_the_coroutine_into_its_resumer_and_ends() {
    #[inline(never)]
    fn the_resumer_of_the_walk(walker: &mut Coroutine<(), String, ()>) -> String {
        match walker.resume(()) {
            State::Yielded(trace) => std::hint::black_box(trace),
            State::Returned(()) => String::new(),
        }
    }
    let mut walker = coroutine(|yielder: &Yielder<(), String>, ()| {
        loop {
            yielder.suspend(Backtrace::force_capture().to_string());
        }
    });
    for _ in 0..2 {
        // At the first entry and after a suspension.
        let trace = the_resumer_of_the_walk(&mut walker);
        assert!(trace.contains("the_resumer_of_the_walk"), "{trace}");
        assert!(trace.contains("a_backtrace_walks_from"), "{trace}");
    }
}

#[test]
fn a_backtrace_of_a_scheduled_coroutine_ends_at_its_root() {
    #[inline(never)]
    fn the_walk_of_the_scheduled() -> String {
        yield_now();
        std::hint::black_box(Backtrace::force_capture().to_string())
    }
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe {
        Builder::new().run_local(|| {
            let trace = spawn(the_walk_of_the_scheduled).join().unwrap();
            assert!(trace.contains("the_walk_of_the_scheduled"), "{trace}");
            assert!(!trace.contains("run_local"), "{trace}");
        })
    }
    .unwrap();
}

#[test]
fn a_raw_coroutine_inside_a_scheduled_one_is_that_one_to_the_scheduler() {
    // SAFETY: as above.
    unsafe {
        Builder::new().run_local(|| {
            let handles: Vec<_> = (0..3)
                .map(|_| {
                    spawn(|| {
                        let id = current().id();
                        let mut outer = coroutine(move |yielder: &Yielder<(), u32>, ()| {
                            let mut inner = coroutine(move |yielder: &Yielder<(), u32>, ()| {
                                for n in 0.. {
                                    yield_now();
                                    assert_eq!(current().id(), id);
                                    yielder.suspend(n);
                                }
                            });
                            while let State::Yielded(n) = inner.resume(()) {
                                yielder.suspend(n);
                                assert_eq!(spawn(move || n).join().unwrap(), n);
                            }
                        });
                        for n in 0..10 {
                            assert_eq!(outer.resume(()), State::Yielded(n));
                            yield_now();
                        }
                    })
                })
                .collect();
            for handle in handles {
                handle.join().unwrap();
            }
        })
    }
    .unwrap();
}
