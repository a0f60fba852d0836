//! `coroutine_local!`: whose a value is, how long it lives, and initialisers and destructors that misbehave.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use switchmark_runtime::sync::Event;
use switchmark_runtime::{Builder, coroutine_local, park, raw, spawn, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

coroutine_local! {
    static NUMBER: Cell<u64> = Cell::new(7);
    static NAMES: RefCell<Vec<String>> = RefCell::new(Vec::new())
}

#[test]
fn each_coroutine_and_each_thread_has_its_own_at_an_address_that_stays() {
    NUMBER.set(1);
    run(|| {
        assert_eq!(NUMBER.get(), 7);
        let units: Vec<_> = (0..20)
            .map(|n| {
                spawn(move || {
                    NUMBER.with(|number| {
                        let here = std::ptr::from_ref(number).addr();
                        for round in 0..10 {
                            assert_eq!(
                                number.replace(n * 100 + round),
                                if round == 0 { 7 } else { n * 100 + round - 1 }
                            );
                            yield_now();
                            NAMES.with_borrow_mut(|names| names.push(round.to_string()));
                            assert_eq!(NUMBER.with(|again| std::ptr::from_ref(again).addr()), here);
                        }
                    });
                    NAMES.with_borrow(Vec::len)
                })
            })
            .collect();
        for unit in units {
            assert_eq!(unit.join().unwrap(), 10);
        }
        assert_eq!((NUMBER.get(), NAMES.with_borrow(Vec::len)), (7, 0));
    });
    assert_eq!(NUMBER.get(), 1);
    std::thread::spawn(|| assert_eq!(NUMBER.get(), 7)).join().unwrap();
}

#[test]
fn a_stack_that_is_used_again_brings_nothing_along() {
    run(|| {
        for n in 0..200 {
            let unit = spawn(move || NUMBER.replace(n));
            assert_eq!(unit.join().unwrap(), 7);
        }
    });
}

#[test]
fn a_raw_coroutine_shares_with_the_one_that_resumes_it() {
    run(|| {
        NUMBER.set(2);
        // SAFETY: the body suspends in no thread-local, and ends here.
        let mut inner = unsafe {
            raw::Coroutine::new(raw::Stack::new(64 << 10).unwrap(), |_: &raw::Yielder<(), ()>, ()| {
                NUMBER.replace(3)
            })
        };
        assert!(matches!(inner.resume(()), raw::State::Returned(2)));
        assert_eq!(NUMBER.get(), 3);
    });
}

/// Tells a log when it goes.
struct Tells(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Tells {
    fn drop(&mut self) {
        yield_now(); // It may wait.
        self.1.lock().unwrap().push(self.0);
    }
}

coroutine_local! {
    static FIRST: RefCell<Option<Tells>> = RefCell::new(None);
    static SECOND: RefCell<Option<Tells>> = RefCell::new(None);
}

#[test]
fn values_are_dropped_in_reverse_order_before_the_end_is_seen_however_it_comes() {
    for how in ["returns", "panics", "is cancelled"] {
        let log = Arc::new(Mutex::new(Vec::new()));
        run(|| {
            let inside = Arc::clone(&log);
            let unit = spawn(move || {
                FIRST.with_borrow_mut(|place| *place = Some(Tells("first", Arc::clone(&inside))));
                SECOND.with_borrow_mut(|place| *place = Some(Tells("second", Arc::clone(&inside))));
                let _frame = Tells("the frame", inside);
                match how {
                    "panics" => panic!("it ends like this"),
                    "is cancelled" => park(),
                    _ => {}
                }
            });
            yield_now();
            if how == "is cancelled" {
                unit.cancel().unwrap();
            }
            let _ = unit.join();
            assert_eq!(*log.lock().unwrap(), ["the frame", "second", "first"], "{how}");
        });
    }
}

#[test]
fn a_detached_result_may_use_values_in_its_destructor() {
    struct Late(Arc<AtomicUsize>);
    impl Drop for Late {
        fn drop(&mut self) {
            // A new one: that of the body is gone.
            assert_eq!(NUMBER.replace(9), 7);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    run(|| {
        for _ in 0..3 {
            let late = Late(Arc::clone(&drops));
            drop(spawn(move || {
                NUMBER.set(8);
                late
            }));
        }
    });
    assert_eq!(drops.load(Ordering::Relaxed), 3);
}

static GO: Event = Event::new();
static MADE: AtomicUsize = AtomicUsize::new(0);

coroutine_local! {
    static SLOW: usize = {
        GO.wait();
        MADE.fetch_add(1, Ordering::Relaxed)
    };
}

/// With `thread_local!` this is the hole of the safety model: both coroutines would initialise one value, and the second replace the
/// first under those who use it.
#[test]
fn an_initialiser_that_suspends_is_each_coroutines_own() {
    run(|| {
        let units: Vec<_> = (0..4)
            .map(|_| {
                spawn(|| {
                    SLOW.with(|value| {
                        let before = *value;
                        yield_now();
                        assert_eq!(SLOW.with(|again| (*again, std::ptr::eq(again, value))), (before, true));
                        before
                    })
                })
            })
            .collect();
        yield_now();
        GO.set();
        let mut values: Vec<usize> = units.into_iter().map(|unit| unit.join().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 3]);
    });
}

static DEPTH: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Deep(usize);

impl Drop for Deep {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

coroutine_local! {
    static RECURSIVE: Deep = {
        let depth = DEPTH.fetch_add(1, Ordering::Relaxed);
        if depth < 3 {
            RECURSIVE.with(|inner| assert_eq!(inner.0, 3, "the innermost was made first"));
        }
        Deep(depth)
    };
    static FAILS_ONCE: Cell<u32> = {
        assert!(NUMBER.replace(1) != 7, "the first attempt fails");
        Cell::new(5)
    };
}

#[test]
fn an_initialiser_that_recurses_leaves_one_value_and_one_that_panics_none() {
    run(|| {
        let unit = spawn(|| {
            assert_eq!(RECURSIVE.with(|value| value.0), 3);
            assert_eq!(DROPPED.load(Ordering::Relaxed), 3, "those that came too late");
            assert!(std::panic::catch_unwind(|| FAILS_ONCE.get()).is_err());
            FAILS_ONCE.get()
        });
        assert_eq!(unit.join().unwrap(), 5);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 4);
    });
}

struct AsksLate(&'static str, Arc<Mutex<Vec<String>>>);

impl Drop for AsksLate {
    fn drop(&mut self) {
        let later = LATER.try_with(|_| ()).is_ok();
        let number = NUMBER.try_with(Cell::get).ok();
        self.1.lock().unwrap().push(format!("{} {later} {number:?}", self.0));
        assert_ne!(self.0, "panics", "in a destructor");
    }
}

coroutine_local! {
    static EARLIER: RefCell<Option<AsksLate>> = RefCell::new(None);
    static LATER: RefCell<Option<AsksLate>> = RefCell::new(None);
}

#[test]
fn a_destructor_finds_what_is_left_and_what_it_makes_anew_and_a_panic_in_one_stops_no_other() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let body = |log: &Arc<Mutex<Vec<String>>>| {
        let log = Arc::clone(log);
        move || {
            EARLIER.with_borrow_mut(|place| *place = Some(AsksLate("earlier", Arc::clone(&log))));
            LATER.with_borrow_mut(|place| *place = Some(AsksLate("panics", log)));
        }
    };
    // The number is made by the first destructor, so it goes after that one and before the second: made, then gone.
    let expected = ["panics false Some(7)", "earlier false None"];
    run(|| spawn(body(&log)).join().unwrap());
    assert_eq!(*log.lock().unwrap(), expected);
    log.lock().unwrap().clear();
    std::thread::spawn(body(&log)).join().unwrap();
    // A thread's whole list is going: nothing new is made.
    assert_eq!(*log.lock().unwrap(), ["panics false None", "earlier false None"]);
}
