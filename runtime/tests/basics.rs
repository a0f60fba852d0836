//! Spawn, join, yield, park on one worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchmark_runtime::{Builder, Handle, JoinError, current, park, spawn, task, unparker, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing in these tests suspends inside a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

#[test]
fn values_come_out_of_join_and_of_run_local() {
    let base = 40;
    assert_eq!(run(|| spawn(move || base + 2).join().unwrap() + base), 82);
}

#[test]
fn spawned_coroutines_run_in_order_and_yield_in_turn() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    run(|| {
        for name in ["a", "b", "c"] {
            let log = Arc::clone(&log);
            spawn(move || {
                for round in 0..3 {
                    log.lock().unwrap().push((round, name));
                    yield_now();
                }
            });
        }
    });
    let expected: Vec<_> = (0..3).flat_map(|round| ["a", "b", "c"].map(|name| (round, name))).collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn run_local_returns_only_when_detached_coroutines_have_ended() {
    let ended = Arc::new(AtomicUsize::new(0));
    run(|| {
        for turns in 0..10 {
            let ended = Arc::clone(&ended);
            drop(spawn(move || {
                (0..turns).for_each(|_| yield_now());
                ended.fetch_add(1, Ordering::Relaxed);
            }));
        }
    });
    assert_eq!(ended.load(Ordering::Relaxed), 10);
}

#[test]
fn a_panic_reaches_join_with_its_payload_and_the_name_of_the_coroutine() {
    run(|| {
        let handle = task::Builder::new().name("reader").spawn(|| std::panic::panic_any(17_u32)).unwrap();
        let id = handle.id();
        let Err(JoinError::Panic(failed)) = handle.join() else { panic!("it panicked") };
        assert_eq!((failed.id, failed.name.as_deref()), (id, Some("reader")));
        assert_eq!(failed.cause.downcast_ref(), Some(&17_u32));
        let error = spawn(|| -> () { panic!("no {}", 3 + 4) }).join().unwrap_err();
        assert!(error.to_string().ends_with("panicked: no 7"), "{error}");
    });
}

#[test]
fn a_panic_of_the_main_coroutine_goes_on_after_the_others_have_ended() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let result = std::panic::catch_unwind(move || {
        run(move || {
            spawn(move || {
                yield_now();
                ended.fetch_add(1, Ordering::Relaxed);
            });
            std::panic::panic_any("main");
        });
    });
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"main"));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[test]
fn a_wake_before_the_park_is_not_lost() {
    run(|| {
        let me = unparker();
        me.unpark();
        me.unpark(); // Tokens do not add up.
        park();
        let other = spawn(move || me.unpark());
        park();
        other.join().unwrap();
    });
}

#[test]
fn a_join_does_not_use_the_token_of_a_later_park() {
    run(|| {
        let me = unparker();
        let slow = spawn(|| (0..5).for_each(|_| yield_now()));
        spawn(move || me.unpark());
        slow.join().unwrap();
        park();
    });
}

#[test]
fn an_unpark_from_an_os_thread_wakes_a_sleeping_worker() {
    run(|| {
        let handle = Handle::try_current().unwrap();
        for _ in 0..200 {
            let (me, before) = (unparker(), handle.metrics());
            let thread = std::thread::spawn(move || me.unpark());
            park();
            thread.join().unwrap();
            let after = handle.metrics();
            assert_eq!(
                after.parks + after.inbox_wakes - before.parks - before.inbox_wakes,
                2 * (after.parks - before.parks)
            );
        }
    });
}

#[test]
fn an_unparker_outlives_its_coroutine_and_its_runtime() {
    let unparker = run(|| spawn(unparker).join().unwrap());
    unparker.unpark();
    let other = unparker.clone();
    std::thread::spawn(move || other.unpark()).join().unwrap();
}

#[test]
fn an_os_thread_joins_a_coroutine() {
    run(|| {
        let me = unparker();
        let handle = spawn(|| {
            (0..100).for_each(|_| yield_now());
            String::from("from a coroutine")
        });
        let thread = std::thread::spawn(move || {
            let value = handle.join().unwrap();
            me.unpark();
            value
        });
        park();
        assert_eq!(thread.join().unwrap(), "from a coroutine");
    });
}

#[test]
fn a_handle_spawns_from_an_os_thread_until_the_runtime_has_ended() {
    let handle = run(|| {
        let (handle, me) = (Handle::try_current().unwrap(), unparker());
        let thread = std::thread::spawn(move || {
            let sum = handle.spawn(|| current().id()).join().unwrap();
            me.unpark();
            (handle, sum)
        });
        park();
        let (handle, id) = thread.join().unwrap();
        assert_ne!(id, current().id());
        handle
    });
    assert_eq!((handle.metrics().spawned, handle.metrics().ended), (1, 1));
    let refused = std::panic::catch_unwind(|| handle.spawn(|| ())).unwrap_err();
    assert!(refused.downcast_ref::<String>().map_or_else(
        || { refused.downcast_ref::<&str>().is_some_and(|text| text.contains("has ended")) },
        |text| text.contains("has ended")
    ));
}

#[test]
fn outside_a_runtime_spawn_says_what_to_do() {
    let refused = std::panic::catch_unwind(|| spawn(|| ())).unwrap_err();
    let text = refused.downcast_ref::<&str>().unwrap();
    assert!(text.contains("Builder::run_local") && text.contains("Handle"), "{text}");
    assert!(Handle::try_current().is_none());
}

#[test]
fn a_runtime_inside_a_runtime_is_refused() {
    run(|| {
        // SAFETY: it is refused.
        let error = unsafe { Builder::new().run_local(|| ()) }.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
    run(|| ()); // And one after another is not.
}

#[repr(align(256))]
#[derive(Clone, Copy)]
struct Aligned(u8);

#[test]
fn large_closures_and_values_survive_the_way() {
    let big = [7_u64; 500];
    assert_eq!(run(|| spawn(move || big).join().unwrap()), big);
    let aligned = Aligned(9);
    let back = run(|| {
        spawn(move || {
            assert_eq!((&raw const aligned).addr() % 256, 0);
            aligned
        })
        .join()
        .unwrap()
    });
    assert_eq!(back.0, 9);
}

#[test]
fn results_and_closures_are_dropped_exactly_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = || Counted(Arc::clone(&drops));
    run(|| {
        let (a, b, c) = (counted(), counted(), counted());
        drop(spawn(move || a).join()); // The joiner drops it.
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        let finished = spawn(move || b);
        yield_now();
        assert!(finished.is_finished());
        drop(finished); // The handle of an ended coroutine drops its result.
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        drop(spawn(move || c)); // A detached one drops its own.
        yield_now();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn the_ledger_counts_units_peak_and_switches() {
    let metrics = run(|| {
        let handle = Handle::try_current().unwrap();
        let pair: Vec<_> = (0..2).map(|_| spawn(|| (0..1000).for_each(|_| yield_now()))).collect();
        for handle in pair {
            handle.join().unwrap();
        }
        handle.metrics()
    });
    assert_eq!((metrics.spawned, metrics.ended, metrics.peak_live), (2, 2, 2));
    // Into main, into both, one for each yield, and back into main for each of the two ends.
    let expected = 1 + 2 + 2000 + 2;
    assert!(metrics.switches.abs_diff(expected) <= 2, "{metrics:?}");
}

#[test]
fn a_yield_with_nobody_to_yield_to_is_no_switch() {
    run(|| {
        let handle = Handle::try_current().unwrap();
        let before = handle.metrics().switches;
        (0..100).for_each(|_| yield_now());
        assert_eq!(handle.metrics().switches, before);
    });
}

#[test]
fn current_knows_itself() {
    run(|| {
        assert_eq!(current().name(), Some("main"));
        let reader = task::Builder::new().name("reader").stack_size(5000).spawn(current).unwrap();
        let id = reader.id();
        let seen = reader.join().unwrap();
        assert_eq!((seen.id(), seen.name(), seen.stack_size()), (id, Some("reader"), 64 << 10));
        assert_eq!(spawn(|| current().stack_size()).join().unwrap(), 256 << 10);
        assert!(task::Builder::new().stack_size(2 << 20).spawn(|| ()).is_err());
    });
}

#[test]
fn thousands_of_coroutines_park_and_are_woken() {
    run(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let handles: Vec<_> = (0..10_000_u64)
            .map(|n| {
                let sender = sender.clone();
                spawn(move || {
                    sender.send(unparker()).unwrap();
                    park();
                    n
                })
            })
            .collect();
        yield_now();
        let parked: Vec<_> = receiver.try_iter().collect();
        assert_eq!(parked.len(), 10_000);
        parked.iter().rev().for_each(switchmark_runtime::Unparker::unpark);
        let sum: u64 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
        assert_eq!(sum, 10_000 * 9_999 / 2);
    });
}

#[test]
fn coroutines_above_max_stacks_wait_for_a_stack_and_all_run() {
    // SAFETY: as in `run`.
    let sum: usize = unsafe {
        Builder::new().max_stacks(Some(3)).run_local(|| {
            let handles: Vec<_> = (0..20)
                .map(|n| {
                    spawn(move || {
                        yield_now();
                        n
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        })
    }
    .unwrap();
    assert_eq!(sum, 190);
}

#[test]
fn without_a_stack_to_be_had_the_oldest_ends_and_says_why() {
    // SAFETY: as in `run`.
    unsafe {
        Builder::new().max_stacks(Some(1)).run_local(|| {
            let error = spawn(|| ()).join().unwrap_err();
            assert!(matches!(error, JoinError::NoStack(_)), "{error}");
            assert!(error.to_string().contains("max_stacks"), "{error}");
        })
    }
    .unwrap();
}

/// The standard library counts panics per thread, and two coroutines of one thread may unwind at the same time.
#[test]
fn a_panic_beside_a_coroutine_parked_in_its_own_unwinding_is_caught_as_well() {
    struct YieldOnDrop;
    impl Drop for YieldOnDrop {
        fn drop(&mut self) {
            (0..3).for_each(|_| yield_now());
        }
    }
    run(|| {
        let handles: Vec<_> = (0..3_usize)
            .map(|n| {
                spawn(move || -> () {
                    let _guard = YieldOnDrop;
                    std::panic::panic_any(n);
                })
            })
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            let payload = handle.join().unwrap_err().into_panic().unwrap();
            assert_eq!(payload.downcast_ref::<usize>(), Some(&n));
        }
        assert!(!std::thread::panicking());
    });
}

/// Borrows of cells may stay open over a yield: nobody else gets in, and it is an error they can see, not a race.
#[test]
fn a_refcell_borrowed_over_a_yield_is_seen_as_borrowed() {
    thread_local! {
        static SHARED: std::cell::RefCell<u32> = const { std::cell::RefCell::new(0) };
    }
    run(|| {
        // A plain access, no scope: `with` only hands out the address, which stays valid on this thread.
        let holder = spawn(|| {
            SHARED.with(|shared| {
                let mut open = shared.borrow_mut();
                yield_now();
                *open += 1;
            });
        });
        let other = spawn(|| SHARED.with(|shared| shared.try_borrow().is_err()));
        assert!(other.join().unwrap());
        holder.join().unwrap();
        assert_eq!(SHARED.take(), 1);
    });
}
