//! Scopes: children borrow, all have ended when the scope returns, and their panics come out.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use switchmark_runtime::{Builder, JoinSet, park, scope, sleep, spawn, yield_now};

/// Runs on one worker, then on several.
fn everywhere(f: impl Fn() + Send + Sync) {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(&f) }.unwrap();
    // SAFETY: as above.
    let runtime = unsafe { Builder::new().workers(3).build() }.unwrap();
    runtime.block_on(&f);
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn children_borrow_and_have_ended_when_the_scope_returns() {
    everywhere(|| {
        let mut slots = vec![0; 300];
        let ended = AtomicUsize::new(0);
        scope(|s| {
            for (n, slot) in slots.iter_mut().enumerate() {
                let ended = &ended;
                s.spawn(move || {
                    for _ in 0..n % 4 {
                        yield_now();
                    }
                    *slot = n;
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(ended.into_inner(), 300);
        assert!(slots.into_iter().enumerate().all(|(n, slot)| n == slot));
    });
}

#[test]
fn children_spawn_siblings_and_their_values_may_borrow() {
    everywhere(|| {
        let text = String::from("a b c");
        let words = scope(|s| {
            let outer = s.spawn(|| {
                let inner = s.spawn(|| text.split(' ').nth(1).unwrap());
                (text.split(' ').next().unwrap(), inner.join().unwrap())
            });
            outer.join().unwrap()
        });
        assert_eq!(words, ("a", "b"));
    });
}

#[test]
fn a_panic_nobody_joined_comes_out_after_all_have_ended() {
    everywhere(|| {
        let ended = AtomicUsize::new(0);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.spawn(|| panic!("first"));
                s.spawn(|| {
                    (0..10).for_each(|_| yield_now());
                    ended.fetch_add(1, Ordering::Relaxed);
                });
                let joined = s.spawn(|| panic!("joined"));
                assert!(joined.join().unwrap_err().to_string().contains("joined"));
            });
        }));
        assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "first");
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_panic_of_the_closure_cancels_the_children_and_waits_for_them() {
    everywhere(|| {
        let unwound = AtomicUsize::new(0);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                for _ in 0..5 {
                    s.spawn(|| {
                        let _on_drop = OnDrop(|| {
                            yield_now();
                            unwound.fetch_add(1, Ordering::Relaxed);
                        });
                        park();
                    });
                }
                while s.spawn(|| ()).join().is_err() {}
                yield_now();
                panic!("of the closure")
            });
        }));
        assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "of the closure");
        assert!(unwound.load(Ordering::Relaxed) <= 5, "some may not have started");
    });
}

#[test]
fn cancelling_the_parent_cancels_the_children_and_all_unwind() {
    everywhere(|| {
        let unit = spawn(|| {
            let alive = AtomicUsize::new(0);
            let _check =
                OnDrop(|| assert_eq!(alive.load(Ordering::Relaxed), 0, "the frame outlives its children"));
            scope(|s| {
                for _ in 0..4 {
                    s.spawn(|| {
                        alive.fetch_add(1, Ordering::Relaxed);
                        let _gone = OnDrop(|| {
                            alive.fetch_sub(1, Ordering::Relaxed);
                        });
                        scope(|inner| {
                            inner.spawn(park);
                        });
                    });
                }
            });
        });
        sleep(std::time::Duration::from_millis(2));
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_value_that_nobody_claims_is_dropped_before_the_scope_returns() {
    everywhere(|| {
        let dropped = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..20 {
                let dropped = &dropped;
                s.spawn(move || {
                    OnDrop(move || {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    })
                });
            }
        });
        assert_eq!(dropped.into_inner(), 20);
    });
}

#[test]
fn a_child_that_was_cancelled_says_so_and_harms_nobody() {
    everywhere(|| {
        scope(|s| {
            let child = s.spawn(park);
            yield_now();
            child.cancel().unwrap();
            assert!(child.join().unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn forgotten_handles_do_not_keep_the_scope_from_waiting() {
    everywhere(|| {
        let mut ran = [false; 8];
        scope(|s| {
            for slot in &mut ran {
                std::mem::forget(s.spawn(|| {
                    yield_now();
                    *slot = true;
                }));
            }
        });
        assert_eq!(ran, [true; 8]);
    });
}

#[test]
fn a_set_yields_every_end_once_however_it_came() {
    everywhere(|| {
        let mut set = JoinSet::new();
        for n in 0..30_u32 {
            set.spawn(move || {
                (0..n % 5).for_each(|_| yield_now());
                assert_ne!(n, 7, "on purpose");
                if n == 8 {
                    park();
                }
                n
            });
        }
        let mut values = Vec::new();
        let (mut panics, mut cancelled) = (0, 0);
        while let Some(end) = set.join_next() {
            match end {
                Ok(n) => values.push(n),
                Err(error) if error.is_cancelled() => cancelled += 1,
                Err(_) => panics += 1,
            }
            if set.len() == 1 {
                set.cancel_all().unwrap();
            }
        }
        values.sort_unstable();
        assert_eq!(values, (0..30).filter(|n| ![7, 8].contains(n)).collect::<Vec<_>>());
        assert_eq!((panics, cancelled), (1, 1));
    });
}

#[test]
fn dropping_a_set_cancels_its_members() {
    everywhere(|| {
        let (told, ends) = switchmark_runtime::chan::unbounded();
        let mut set = JoinSet::new();
        for _ in 0..10 {
            let told = told.clone();
            set.spawn(move || {
                let _told = OnDrop(|| told.send(()).unwrap());
                park();
            });
        }
        drop(told);
        drop(set);
        ends.iter().for_each(drop); // Ends when all have gone.
    });
}
