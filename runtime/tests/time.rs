//! Points in time and ticks: never early, no tick lost that should come, lateness counted.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use switchmark_runtime::{
    Builder, Handle, Metrics, MissedTick, cancel, interval, park_timeout, sleep, sleep_until, spawn,
    unparker, yield_now,
};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn metrics() -> Metrics {
    Handle::try_current().unwrap().metrics()
}

/// Keeps the worker.
fn compute_until(end: Instant) {
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_sleep_ends_no_earlier_than_its_time_in_a_coroutine_and_on_a_thread() {
    let sleeps = || {
        for n in 0..20 {
            let end = Instant::now() + n * MS / 10;
            sleep_until(end);
            assert!(Instant::now() >= end);
        }
    };
    sleeps();
    run(sleeps);
}

#[test]
fn a_time_that_has_passed_lets_others_run() {
    run(|| {
        let long_ago = Instant::now();
        let other = spawn(|| ());
        sleep_until(long_ago);
        assert!(other.is_finished());
    });
}

#[test]
fn ticks_are_a_period_apart_on_a_thread_too() {
    let three = || {
        let start = Instant::now();
        let mut ticks = interval(MS);
        let [first, second, third] = [ticks.tick(), ticks.tick(), ticks.tick()];
        assert!(first >= start + MS && Instant::now() >= third);
        assert_eq!([second - first, third - second], [MS, MS]);
    };
    three();
    run(three);
}

#[test]
fn a_burst_serves_every_tick_that_was_missed_and_the_others_do_not() {
    run(|| {
        let late = |missed| {
            let mut ticks = interval(MS).missed_tick(missed);
            let first = ticks.tick();
            compute_until(first + 10 * MS);
            ticks.tick(); // Due long ago: nobody has come in time.
            let served = Instant::now();
            (first, served, ticks.tick())
        };
        let (first, _, third) = late(MissedTick::Burst);
        assert_eq!(third - first, 2 * MS);
        let (first, _, third) = late(MissedTick::Skip);
        assert!(third > first + 10 * MS && (third - first).as_nanos().is_multiple_of(MS.as_nanos()));
        let (first, served, third) = late(MissedTick::Delay);
        assert!(third >= first + 11 * MS && third <= served + MS, "a period from when it was served");
    });
}

#[test]
fn a_cancelled_tick_can_be_waited_for_again() {
    run(|| {
        let unit = spawn(|| {
            let mut ticks = interval(20 * MS);
            let mut twin = ticks.clone();
            catch_unwind(AssertUnwindSafe(|| ticks.tick())).unwrap_err();
            cancel::mask(|| (ticks.tick(), twin.tick()))
        });
        yield_now();
        unit.cancel().unwrap();
        let (again, first) = unit.join().unwrap();
        assert_eq!(again, first);
    });
}

#[test]
#[should_panic(expected = "above zero")]
fn an_interval_of_nothing_is_refused() {
    interval(Duration::ZERO);
}

#[test]
fn deadlines_are_counted_if_they_ended_a_wait() {
    run(|| {
        let before = metrics().deadlines;
        for _ in 0..5 {
            sleep(MS / 10);
        }
        assert!(!park_timeout(MS / 10));
        assert_eq!(metrics().deadlines - before, 6);
        let me = unparker();
        spawn(move || me.unpark());
        assert!(park_timeout(Duration::from_hours(1)));
        assert_eq!(metrics().deadlines - before, 6, "this one was unparked");
    });
}

#[test]
fn a_worker_that_computes_is_late_by_so_much() {
    run(|| {
        assert_eq!(metrics().lateness_ns_max, 0);
        let due = Instant::now() + MS;
        let sleeper = spawn(move || sleep_until(due));
        yield_now();
        // It waits by now, and for at most the time that it was given.
        compute_until(Instant::now() + MS + 5 * MS);
        sleeper.join().unwrap();
        assert!(u128::from(metrics().lateness_ns_max) >= (5 * MS).as_nanos());
    });
}
