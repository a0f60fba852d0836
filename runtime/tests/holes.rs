#![cfg_attr(feature = "sanitize", feature(cfg_sanitize))]
//! What the contract of `Builder::build`, `run_local` and `raw::Coroutine::new` excludes is real: each clause is broken here, in safe code
//! but for the one promise, and the address sanitizer sees freed memory used.
//!
//! So nobody who thinks a clause superfluous need take our word. Each hole is a child of this test binary, run under `scripts/sanitizers`
//! alone: elsewhere nothing would notice.

use std::cell::Cell;
use std::hint::black_box;
use std::process::Command;
use std::ptr;
use std::sync::mpsc;

use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
use switchmark_runtime::{Builder, spawn, yield_now};

const HOLE: &str = "HOLE";

#[cfg(feature = "sanitize")]
const ADDRESS: bool = cfg!(sanitize = "address");
#[cfg(not(feature = "sanitize"))]
const ADDRESS: bool = false;

/// Runs `hole` in a child that is this very test, and expects the address sanitizer to end it.
fn uses_freed_memory(test: &str, hole: impl FnOnce()) {
    if std::env::var_os(HOLE).is_some() {
        return hole();
    }
    if !ADDRESS {
        println!("skipped: only the address sanitizer sees this (scripts/sanitizers address)");
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(HOLE, test);
    let output = again.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("AddressSanitizer: heap-use-after-free"), "{error}");
}

/// The promise, broken by every caller in this file.
fn run(f: impl FnOnce()) {
    // SAFETY: it does not hold; these are children that are to die.
    unsafe { Builder::new().run_local(f) }.unwrap();
}

#[test]
fn suspending_in_the_initialiser_of_a_thread_local() {
    thread_local! {
        static LAZY: Vec<u64> = {
            yield_now();
            vec![7; 8]
        };
    }
    uses_freed_memory("suspending_in_the_initialiser_of_a_thread_local", || {
        run(|| {
            // Both enter the initialiser. The first has its value and borrows it, when the second replaces, and so drops, that.
            let first = spawn(|| {
                LAZY.with(|values| {
                    let one = &values[3];
                    yield_now();
                    assert_eq!(*black_box(one), 7);
                });
            });
            let second = spawn(|| LAZY.with(|values| assert_eq!(values.len(), 8)));
            second.join().unwrap();
            first.join().unwrap();
        });
    });
}

/// A scoped thread-local as libraries have it: set, run a closure, restore.
mod scoped {
    use super::{Cell, ptr};

    thread_local! {
        static VALUE: Cell<*const u64> = const { Cell::new(ptr::null()) };
    }

    pub(crate) fn set<T>(value: &u64, f: impl FnOnce() -> T) -> T {
        struct Restore(*const u64);
        impl Drop for Restore {
            fn drop(&mut self) {
                VALUE.set(self.0);
            }
        }
        let _restore = Restore(VALUE.replace(value));
        f()
    }

    pub(crate) fn with<T>(f: impl FnOnce(&u64) -> T) -> T {
        // SAFETY: while it is set, `set` is below us on the stack, with the reference that it was given. So libraries argue, and it holds
        // as long as a thread has one stack.
        f(unsafe { VALUE.get().as_ref() }.expect("inside `set`"))
    }
}

#[test]
fn suspending_under_a_scoped_thread_local() {
    uses_freed_memory("suspending_under_a_scoped_thread_local", || {
        run(|| {
            let first = spawn(|| {
                let value = Box::new(1);
                scoped::set(&value, yield_now);
            });
            let second = spawn(|| {
                let value = Box::new(2);
                scoped::set(&value, || {
                    yield_now();
                    yield_now();
                });
                // Restored to what it was: the first one's, which has ended.
                scoped::with(|value| assert_eq!(*black_box(value), 1));
            });
            first.join().unwrap();
            second.join().unwrap();
        });
    });
}

#[test]
fn forgetting_a_started_raw_coroutine_on_a_thread_that_exits() {
    thread_local! {
        static LOCAL: Vec<u64> = vec![7; 8];
    }
    uses_freed_memory("forgetting_a_started_raw_coroutine_on_a_thread_that_exits", || {
        let (tell, exited) = mpsc::channel::<()>();
        let (read, was_read) = mpsc::channel();
        let body = move |yielder: &Yielder<(), ()>, ()| {
            LOCAL.with(|values| {
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        exited.recv().unwrap();
                        read.send(black_box(values)[3]).unwrap();
                    });
                    yielder.suspend(());
                });
            });
        };
        let forgets = move || {
            // SAFETY: it does not hold: this thread exits, and its thread-locals with it.
            let mut forgotten: Coroutine<(), (), ()> =
                unsafe { Coroutine::new(Stack::new(64 << 10).unwrap(), body) };
            forgotten.resume(());
            std::mem::forget(forgotten);
        };
        std::thread::spawn(forgets).join().unwrap();
        tell.send(()).unwrap();
        assert_eq!(was_read.recv(), Ok(7));
    });
}
