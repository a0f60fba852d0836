//! Calls that block: on the pool they hold up nobody, in place only those that cannot leave.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, ThreadId};

use switchmark_runtime::{Builder, Runtime, block_in_place, blocking, scope, spawn, yield_now};

fn local<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn workers(workers: usize) -> Runtime {
    // SAFETY: as in `local`.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

#[test]
fn a_call_runs_on_another_thread_while_the_others_go_on() {
    local(|| {
        let here = thread::current().id();
        let (release, released) = mpsc::channel();
        let call = spawn(move || blocking(move || (thread::current().id(), released.recv().unwrap())));
        yield_now(); // The call waits for us, who wait for nobody.
        release.send("released").unwrap();
        let (there, text) = call.join().unwrap();
        assert!(there != here && text == "released");
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    local(|| {
        let call = spawn(|| blocking(|| panic!("from the pool")));
        let payload = call.join().unwrap_err().into_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&"from the pool"));
        assert_eq!(blocking(|| 1), 1, "the thread of the pool goes on");
    });
}

#[test]
fn more_calls_than_threads_are_all_made() {
    let made = Arc::new(AtomicUsize::new(0));
    local(|| {
        scope(|scope| {
            for _ in 0..2000 {
                let made = Arc::clone(&made);
                scope.spawn(move || blocking(move || made.fetch_add(1, Ordering::Relaxed)));
            }
        });
    });
    assert_eq!(made.load(Ordering::Relaxed), 2000);
}

#[test]
fn one_that_is_cancelled_does_not_wait_for_its_call() {
    local(|| {
        let (release, released) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let (finished, finish) = mpsc::channel();
        let call = spawn(move || {
            blocking(move || {
                begins.send(()).unwrap();
                let _ = released.recv();
                finished.send(()).unwrap();
            });
        });
        yield_now();
        begun.recv().unwrap();
        call.cancel().unwrap();
        assert!(call.join().unwrap_err().is_cancelled());
        drop(release);
        finish.recv().expect("the call itself runs to its end");
    });
}

#[test]
fn outside_a_coroutine_it_is_a_plain_call() {
    let here = thread::current().id();
    assert_eq!(blocking(|| thread::current().id()), here);
    assert_eq!(block_in_place(|| thread::current().id()), here);
    // What runs on the pool is outside as well.
    let nested: (ThreadId, ThreadId) =
        local(|| blocking(|| (thread::current().id(), blocking(|| thread::current().id()))));
    assert_eq!(nested.0, nested.1);
}

#[test]
fn a_call_in_place_lets_those_go_that_have_not_started() {
    workers(2).block_on(|| {
        let here = thread::current().id();
        let (tell, told) = mpsc::channel();
        let elsewhere = spawn(move || tell.send(thread::current().id()).unwrap());
        // Blocks this worker: only the other one can run the coroutine.
        let there = block_in_place(|| told.recv().unwrap());
        assert_ne!(there, here);
        elsewhere.join().unwrap();
    });
}
