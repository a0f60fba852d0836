//! Code on a stack that is not a scheduled coroutine's own is still that coroutine: inside raw coroutines, however deep, and on a stack of
//! which the runtime knows nothing.

use std::arch::asm;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchmark_runtime::raw::{Coroutine, Stack, State, Yielder};
use switchmark_runtime::{Builder, chan, current, park, spawn, unparker, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

/// The promise of `Coroutine::new`, made once: as above, and none is forgotten.
fn coroutine<In: 'static, Out: 'static, Ret: 'static>(
    body: impl FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
) -> Coroutine<In, Out, Ret> {
    // SAFETY: as the comment says.
    unsafe { Coroutine::new(Stack::new(64 << 10).unwrap(), body) }
}

struct Counted(&'static AtomicUsize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `f` at the bottom of so many raw coroutines, each resumed by the one around it.
fn deep<T: 'static>(depth: u32, f: impl FnOnce() -> T + 'static) -> T {
    if depth == 0 {
        return f();
    }
    let mut around = coroutine(move |_: &Yielder<(), ()>, ()| deep(depth - 1, f));
    let State::Returned(value) = around.resume(()) else { unreachable!("it does not yield") };
    value
}

#[test]
fn waiting_inside_raw_coroutines_waits_for_the_scheduled_one() {
    run(|| {
        let (to_echo, from_us) = chan::rendezvous::<u32>();
        let (to_us, from_echo) = chan::bounded(1);
        let echo = spawn(move || from_us.iter().for_each(|n| to_us.send(n).unwrap()));
        let units: Vec<_> = (0..4)
            .map(|depth| {
                let (to_echo, from_echo) = (to_echo.clone(), from_echo.clone());
                spawn(move || {
                    let id = current().id();
                    let (seen, ids) = deep(depth, move || {
                        let me = unparker();
                        let waker = spawn(move || me.unpark());
                        park();
                        waker.join().unwrap();
                        yield_now();
                        to_echo.send(depth).unwrap();
                        (from_echo.recv().unwrap(), [unparker().id(), current().id()])
                    });
                    assert_eq!(ids, [id; 2]);
                    seen
                })
            })
            .collect();
        drop(to_echo);
        let mut seen: Vec<u32> = units.into_iter().map(|unit| unit.join().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        echo.join().unwrap();
    });
}

#[test]
fn cancellation_unwinds_through_raw_coroutines_to_the_root_of_the_scheduled_one() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    run(|| {
        let unit = spawn(|| {
            let _at_the_root = Counted(&DROPS);
            deep(3, || {
                let _at_the_bottom = Counted(&DROPS);
                park();
            });
            unreachable!("it was unwound");
        });
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
        assert_eq!(DROPS.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_suspended_raw_coroutine_of_a_cancelled_one_is_unwound_with_it() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    run(|| {
        let unit = spawn(|| {
            let mut inner = coroutine(|yielder: &Yielder<(), ()>, ()| {
                let _inside = Counted(&DROPS);
                let mut innermost = coroutine(|yielder: &Yielder<(), ()>, ()| {
                    let _inside = Counted(&DROPS);
                    yielder.suspend(());
                });
                assert_eq!(innermost.resume(()), State::Yielded(()));
                yielder.suspend(());
            });
            assert_eq!(inner.resume(()), State::Yielded(()));
            park();
        });
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
        assert_eq!(DROPS.load(Ordering::Relaxed), 2);
        // And the stacks are good for others.
        assert_eq!(spawn(|| deep(3, || 7)).join().unwrap(), 7);
    });
}

#[test]
fn a_raw_coroutine_passes_from_one_scheduled_one_to_another_and_is_each_in_turn() {
    run(|| {
        let mut walker = Some(coroutine(|yielder: &Yielder<(), _>, ()| {
            loop {
                yield_now();
                yielder.suspend(current().id());
            }
        }));
        for _ in 0..10 {
            // They stay on this thread, so that the walker may be lent to them.
            let mut lent = walker.take().unwrap();
            let unit = switchmark_runtime::spawn_local(move || {
                let State::Yielded(id) = lent.resume(());
                assert_eq!(id, current().id());
                lent
            });
            walker = Some(unit.join().unwrap());
        }
    });
}

/// Runs `f` with the stack pointer at the end of `stack`.
fn on_a_stack_of_our_own(stack: &mut [u128], mut f: impl FnMut()) {
    extern "C" fn call<F: FnMut()>(f: *mut F) {
        // SAFETY: the address of the closure below.
        unsafe { (*f)() }
    }
    fn entry<F: FnMut()>(_: &F) -> extern "C" fn(*mut F) {
        call::<F>
    }
    let entry = entry(&f);
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: calls a function of the C convention on memory that is lent to it, and comes back to this stack by a register that calls
    // preserve. Nothing unwinds.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {entry}",
            "mov rsp, r12",
            top = in(reg) top,
            entry = in(reg) entry,
            in("rdi") &raw mut f,
            out("r12") _,
            clobber_abi("C"),
        );
    }
}

#[test]
fn on_a_foreign_stack_the_coroutine_is_found_and_may_wait() {
    if cfg!(feature = "sanitize") {
        println!("skipped: the sanitizers are not told about this stack, which is what makes it foreign");
        return;
    }
    run(|| {
        let units: Vec<_> = (0..3)
            .map(|_| {
                spawn(|| {
                    let (id, mut rounds) = (current().id(), 0);
                    let mut stack = vec![0_u128; 8 << 10];
                    on_a_stack_of_our_own(&mut stack, || {
                        for _ in 0..5 {
                            assert_eq!(current().id(), id);
                            yield_now();
                            let me = unparker();
                            assert_eq!(spawn(move || me.unpark()).join().unwrap(), ());
                            park();
                            // A raw coroutine whose resumer stands there.
                            assert_eq!(deep(2, || current().id()), id);
                            rounds += 1;
                        }
                    });
                    rounds
                })
            })
            .collect();
        assert!(units.into_iter().all(|unit| unit.join().unwrap() == 5));
    });
}
