//! Work conservation: while something is queued that a worker may take, no worker sleeps for good.
//!
//! Told without a clock: each round hands out as many coroutines as there are workers to run them, and none of them ends before all have
//! begun. They never suspend, so each takes a worker for itself; were one of them left in a queue beside a worker that sleeps, the round
//! would not end. A hang is made a failure with a picture after a time that is no measure of anything.
//!
//! Between submission and sleep lie a few instructions, so rounds begin with a random delay on both sides.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use switchmark_runtime::{
    Builder, Handle, JoinHandle, Runtime, chan, park, sleep, spawn, spawn_local, task, unparker, yield_now,
};

/// Far beyond what anything here takes.
const HANGS: Duration = Duration::from_mins(1);

fn runtime(workers: usize) -> Runtime {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

/// Runs `f` on a thread of its own; if it hangs, says what the runtime had done.
fn watched(handle: &Handle, f: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        f();
        ended.send(()).unwrap();
    });
    if end.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
        // Not unwound: dropping the runtime would wait for what hangs.
        eprintln!("hangs: {:?} {:#?}", handle.metrics(), handle.coroutines());
        std::process::abort();
    }
    thread.join().unwrap();
}

/// A delay of some tens to thousands of instructions, the same after the same number.
fn dither(round: usize) {
    let steps = (round as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53;
    (0..steps).for_each(|step| _ = std::hint::black_box(step));
}

fn join_all(units: impl IntoIterator<Item = JoinHandle<()>>) {
    for unit in units {
        unit.join().unwrap();
    }
}

/// So many who wait for each other, on an OS thread each, without suspending.
#[derive(Debug)]
struct Meeting {
    all: usize,
    come: AtomicUsize,
}

impl Meeting {
    fn of(all: usize) -> Arc<Meeting> {
        Arc::new(Meeting { all, come: AtomicUsize::new(0) })
    }

    fn attend(&self) {
        self.come.fetch_add(1, Ordering::Relaxed);
        while self.come.load(Ordering::Relaxed) < self.all {
            std::thread::yield_now(); // Leaves the core, as there may be more threads than cores; the worker stays taken.
        }
    }
}

#[test]
fn a_burst_from_outside_finds_every_worker() {
    const ROUNDS: usize = 10_000;
    for workers in [2, 3] {
        let runtime = runtime(workers);
        let handle = runtime.handle();
        watched(&runtime.handle(), move || {
            for round in 0..ROUNDS {
                let meeting = Meeting::of(workers);
                let units: Vec<_> = (0..workers)
                    .map(|_| {
                        let meeting = Arc::clone(&meeting);
                        handle.spawn(move || meeting.attend())
                    })
                    .collect();
                join_all(units);
                dither(round);
            }
        });
        assert_eq!(runtime.metrics().ended, (ROUNDS * workers) as u64);
    }
}

#[test]
fn a_burst_of_a_worker_that_goes_on_computing_finds_all_others() {
    const ROUNDS: usize = 10_000;
    for workers in [2, 3] {
        let runtime = runtime(workers);
        let handle = runtime.handle();
        watched(&runtime.handle(), move || {
            let body = move || {
                for round in 0..ROUNDS {
                    let meeting = Meeting::of(workers);
                    let units: Vec<_> = (1..workers)
                        .map(|_| {
                            let meeting = Arc::clone(&meeting);
                            spawn(move || meeting.attend())
                        })
                        .collect();
                    // Without suspending, so that its own worker is taken.
                    meeting.attend();
                    join_all(units);
                    dither(round);
                }
            };
            handle.spawn(body).join().unwrap();
        });
    }
}

/// One coroutine keeps its worker for the whole test; everything else has to come past it.
#[test]
fn everything_is_run_though_one_worker_computes_for_ever() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    watched(&runtime.handle(), move || {
        let over = Arc::new(AtomicBool::new(false));
        let (seen, (tell, begun)) = (Arc::clone(&over), mpsc::channel());
        let hog = handle.spawn(move || {
            // Some of the work is its own, to be stolen.
            let units: Vec<_> = (0..300_u64).map(|n| spawn(move || n)).collect();
            tell.send(()).unwrap();
            while !seen.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            units.into_iter().map(|unit| unit.join().unwrap()).sum::<u64>()
        });
        begun.recv().unwrap();
        for round in 0..2_000 {
            // From outside, and from a coroutine there that waits for what it spawned.
            let family = handle.spawn(|| (0..5).map(|n| spawn(move || n).join().unwrap()).sum::<i32>());
            assert_eq!(family.join().unwrap(), 10);
            dither(round);
        }
        // All of the hog's own were stolen by now, or are stolen yet: it does not suspend until this thread says so.
        let start = Instant::now();
        while handle.metrics().ended < 2_000 * 6 + 300 {
            assert!(start.elapsed() < HANGS, "{:?}", handle.metrics());
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(hog.join().unwrap(), 299 * 300 / 2);
    });
}

/// 100,000 times a worker with nothing to do is given something, by a thread that comes at any moment of its going to sleep.
#[test]
fn no_wake_is_lost_in_a_hundred_thousand_rounds() {
    const ROUNDS: usize = 25_000;
    let runtime = runtime(2);
    let handle = runtime.handle();
    watched(&runtime.handle(), move || {
        // By a spawn from outside: the injector and the idle word.
        for round in 0..ROUNDS {
            dither(round);
            assert_eq!(handle.spawn(move || round).join().unwrap(), round);
        }
        // By unparking: the inbox. The answer goes through a standard channel, so nothing else of ours wakes anybody.
        let (tell, told) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let echo = handle.spawn(move || {
            tell.send(unparker()).unwrap();
            for round in 0..ROUNDS {
                park();
                answer.send(round).unwrap();
            }
        });
        let echo_unparker = told.recv().unwrap();
        for round in 0..ROUNDS {
            dither(round);
            echo_unparker.unpark();
            assert_eq!(answers.recv().unwrap(), round);
        }
        echo.join().unwrap();
        // By a channel of ours, from outside and back.
        let (to, from) = chan::rendezvous();
        let (back, come_back) = chan::rendezvous();
        let echo = handle.spawn(move || {
            for round in from {
                back.send(round).unwrap();
            }
        });
        for round in 0..ROUNDS {
            dither(round);
            to.send(round).unwrap();
            assert_eq!(come_back.recv().unwrap(), round);
        }
        drop(to);
        echo.join().unwrap();
        // By a spawn for one worker, whatever the other does.
        let worker = |index, round| task::Builder::new().worker(index).spawn(move || round).unwrap().join();
        let body = move || {
            for round in 0..ROUNDS {
                dither(round);
                assert_eq!(worker(round % 2, round).unwrap(), round);
            }
        };
        handle.spawn(body).join().unwrap();
    });
    assert!(runtime.metrics().sleeps > 0);
}

/// The scenario of kotlinx.coroutines#3660 in our terms: a coroutine starts another and then keeps its thread. There, the other lay in the
/// slot for the latest of a thread that never looked there again, and others could not see it.
#[test]
fn what_a_coroutine_starts_before_it_computes_for_long_is_run_elsewhere() {
    const ROUNDS: usize = 2_000;
    let runtime = runtime(2);
    let handle = runtime.handle();
    watched(&runtime.handle(), move || {
        for round in 0..ROUNDS {
            let body = move || {
                let done = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&done);
                let unit = spawn(move || seen.store(true, Ordering::Release));
                dither(round);
                while !done.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                unit.join().unwrap();
            };
            handle.spawn(body).join().unwrap();
        }
    });
}

/// As above, with wakes in between: the slot holds a started coroutine of this worker, and the unstarted one must not wait behind it.
#[test]
fn a_wake_in_the_slot_hides_nothing_that_another_worker_could_take() {
    const ROUNDS: usize = 2_000;
    let runtime = runtime(2);
    let handle = runtime.handle();
    watched(&runtime.handle(), move || {
        let body = || {
            for round in 0..ROUNDS {
                let parked = spawn_local(park_once);
                yield_now();
                let done = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&done);
                let unit = spawn(move || seen.store(true, Ordering::Release));
                PARKED.with(|cell| cell.borrow_mut().take().expect("it has parked")).unpark();
                dither(round);
                while !done.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                unit.join().unwrap();
                parked.join().unwrap();
            }
        };
        handle.spawn(body).join().unwrap();
    });
}

thread_local! {
    static PARKED: std::cell::RefCell<Option<switchmark_runtime::Unparker>> = const { std::cell::RefCell::new(None) };
}

fn park_once() {
    let me = unparker();
    PARKED.with(|cell| *cell.borrow_mut() = Some(me));
    park();
}

/// The scenario of may#77 in our terms: coroutines that sleep for short times while nothing else runs. There, timers that came to be due as
/// workers went idle were not looked at again, and sleepers slept on.
#[test]
fn sleepers_wake_though_everybody_else_sleeps_as_well() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    watched(&runtime.handle(), move || {
        let units: Vec<_> = (0..16_u64)
            .map(|unit| {
                handle.spawn(move || {
                    for round in 0..300 {
                        sleep(Duration::from_micros((unit * 37 + round * 11) % 150));
                        if round % 7 == 0 {
                            // Each sleeper also starts some, whose wake-ups meet those of the others.
                            let units = [1, 40].map(|us| spawn(move || sleep(Duration::from_micros(us))));
                            join_all(units);
                        }
                    }
                })
            })
            .collect();
        join_all(units);
    });
    assert!(runtime.metrics().sleeps > 0);
}
