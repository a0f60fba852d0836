//! The dial: who gives way when asked, who cannot be asked, and what leaves a worker that is stuck.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchmark_runtime::net::Pollable;
use switchmark_runtime::{
    Builder, Handle, Preemption, Runtime, block_in_place, cancel, chan, checkpoint, park, scope, sleep,
    spawn, task, unparker, yield_now,
};

const SLICE: Duration = Duration::from_millis(2);

fn local<T>(preemption: Preemption, f: impl FnOnce() -> T) -> T {
    let builder = Builder::new().preemption(preemption).time_slice(SLICE);
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, or under a scoped thread-local.
    unsafe { builder.run_local(f) }.unwrap()
}

fn workers(workers: usize, preemption: Preemption) -> Runtime {
    let builder = Builder::new().workers(workers).preemption(preemption).time_slice(SLICE);
    // SAFETY: as in `local`.
    unsafe { builder.build() }.unwrap()
}

fn preemptions() -> u64 {
    Handle::try_current().unwrap().metrics().preemptions
}

#[test]
fn with_the_flag_a_checkpoint_lets_others_run_and_without_it_does_not() {
    local(Preemption::Flag, || {
        let other = spawn(|| ());
        while !other.is_finished() {
            checkpoint();
        }
        assert!(preemptions() > 0);
    });
    local(Preemption::Cooperative, || {
        let other = spawn(|| ());
        let end = Instant::now() + 5 * SLICE;
        while Instant::now() < end {
            checkpoint();
        }
        assert!(!other.is_finished() && preemptions() == 0);
    });
}

#[test]
fn calls_on_channels_and_sockets_and_park_are_checkpoints() {
    // Each of these finds what it wants at once, for ever.
    let (socket, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let pollable = Pollable::new(socket).unwrap();
    std::io::Write::write_all(&mut peer, &[0; 64]).unwrap();
    let (sender, receiver) = chan::bounded(1);
    let calls: [&(dyn Fn() + Sync); 3] = [
        &|| pollable.read_with(|_| Ok(())).unwrap(),
        &|| {
            sender.send(1).unwrap();
            receiver.recv().unwrap();
        },
        &|| {
            unparker().unpark();
            park();
        },
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let finished = local(Preemption::Flag, || {
            let other = spawn(|| ());
            let end = Instant::now() + Duration::from_secs(10);
            while !other.is_finished() && Instant::now() < end {
                call();
            }
            other.is_finished()
        });
        assert!(finished, "call {number} never let the other run");
    }
}

#[test]
fn hogs_that_ask_share_a_worker_and_timers_come_between() {
    local(Preemption::Flag, || {
        let over = AtomicBool::new(false);
        let turns = [AtomicU64::new(0), AtomicU64::new(0)];
        let ticks = scope(|scope| {
            for turns in &turns {
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        turns.fetch_add(1, Ordering::Relaxed);
                        checkpoint();
                    }
                });
            }
            let mut ticks = 0;
            while ticks < 20 || turns.iter().any(|turns| turns.load(Ordering::Relaxed) == 0) {
                sleep(Duration::from_millis(1));
                ticks += 1;
            }
            over.store(true, Ordering::Relaxed);
            ticks
        });
        assert!(ticks >= 20 && preemptions() >= 20, "{ticks} ticks, {} preemptions", preemptions());
    });
}

#[test]
fn a_cancelled_hog_ends_at_a_checkpoint() {
    local(Preemption::Flag, || {
        let hog = spawn(|| -> () {
            loop {
                checkpoint();
            }
        });
        yield_now(); // Comes back by the flag.
        hog.cancel().unwrap();
        assert!(hog.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn behind_a_hog_that_never_asks_handoff_starts_what_has_not_started() {
    for count in [1, 2] {
        let runtime = workers(count, Preemption::Handoff);
        let over = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..count)
            .map(|_| {
                let over = Arc::clone(&over);
                runtime.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                })
            })
            .collect();
        // Nobody but a spare is there to run these; what they start in turn too.
        let sum: u64 =
            runtime.block_on(|| (0..100).map(|n| spawn(move || n)).map(|unit| unit.join().unwrap()).sum());
        assert_eq!(sum, 4950);
        assert!(runtime.metrics().handoffs > 0);
        over.store(true, Ordering::Relaxed);
        runtime.block_on(|| hogs.into_iter().for_each(|hog| hog.join().unwrap()));
        let metrics = runtime.metrics();
        assert_eq!(metrics.spawned, metrics.ended);
    }
}

#[test]
fn a_spare_lets_go_as_well_and_the_end_comes_to_all() {
    let runtime = workers(1, Preemption::Handoff);
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    drop(runtime.spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            spin_loop();
        }
    }));
    // Started on the spare, whose coroutines are as pinned as others.
    let parked = runtime.spawn(park);
    let unit = runtime.spawn(|| sleep(Duration::from_millis(1)));
    unit.join().unwrap();
    over.store(true, Ordering::Relaxed);
    drop(runtime); // Cancels what is parked, wherever it is.
    assert!(parked.join().unwrap_err().is_cancelled());
}

#[test]
fn in_place_a_blocked_worker_hands_off_too() {
    workers(1, Preemption::Handoff).block_on(|| {
        let (tell, told) = std::sync::mpsc::channel();
        let unit = spawn(move || tell.send(1).unwrap());
        assert_eq!(block_in_place(|| told.recv().unwrap()), 1);
        unit.join().unwrap();
    });
}

#[test]
fn spares_are_no_workers_to_spawn_on_and_a_local_runtime_has_none() {
    let runtime = workers(2, Preemption::Handoff);
    assert_eq!(runtime.handle().workers(), 2);
    runtime.block_on(|| {
        let error = task::Builder::new().worker(2).spawn(|| ()).unwrap_err();
        assert!(error.to_string().contains("the runtime has 2"), "{error}");
    });
    let builder = Builder::new().preemption(Preemption::Handoff);
    // SAFETY: as in `local`.
    let error = unsafe { builder.run_local(|| ()) }.unwrap_err();
    assert!(error.to_string().contains("Builder::build"), "{error}");
}

/// The middle one of eleven.
fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..11).map(|_| measure()).collect();
    all.sort();
    all[5]
}

/// A sleep of 20 ms among hogs, two for each CPU: how much later than asked it ends.
fn lateness(sleep: impl Fn(Duration)) -> Duration {
    let (asked, begin) = (Duration::from_millis(20), Instant::now());
    sleep(asked);
    begin.elapsed().saturating_sub(asked)
}

#[test]
fn a_timer_among_hogs_is_hardly_later_than_that_of_a_thread() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let over = AtomicBool::new(false);
    let control = std::thread::scope(|scope| {
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let late = median(|| lateness(std::thread::sleep));
        over.store(true, Ordering::Relaxed);
        late
    });
    let builder = Builder::new().workers(cpus).preemption(Preemption::Flag);
    // SAFETY: as in `local`.
    let late = unsafe { builder.build() }.unwrap().block_on(|| {
        let hogs: Vec<_> = (0..2 * cpus)
            .map(|hog| {
                let body = || loop {
                    checkpoint();
                };
                task::Builder::new().worker(hog % cpus).spawn(body).unwrap()
            })
            .collect();
        let late = median(|| lateness(sleep));
        for hog in &hogs {
            hog.cancel().unwrap();
        }
        late
    });
    let bound = (control + Duration::from_millis(5)).max(3 * control);
    assert!(late <= bound, "{late:?} late, the thread {control:?}");
}

#[test]
fn behind_hogs_what_has_not_started_starts_almost_as_soon_as_a_thread_does() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let hogs_end = Arc::new(AtomicBool::new(false));
    let hog = |over: &Arc<AtomicBool>| {
        let over = Arc::clone(over);
        move || {
            while !over.load(Ordering::Relaxed) {
                spin_loop();
            }
        }
    };
    let builder = Builder::new().workers(cpus).preemption(Preemption::Handoff);
    // SAFETY: as in `local`.
    let runtime = unsafe { builder.build() }.unwrap();
    let hogs: Vec<_> = (0..cpus).map(|_| runtime.spawn(hog(&hogs_end))).collect();
    let handed = median(|| {
        let begin = Instant::now();
        runtime.spawn(move || begin.elapsed()).join().unwrap()
    });
    // Beside the same hogs, which are threads to the kernel.
    let control = median(|| {
        let begin = Instant::now();
        std::thread::spawn(move || begin.elapsed()).join().unwrap()
    });
    hogs_end.store(true, Ordering::Relaxed);
    runtime.block_on(|| hogs.into_iter().for_each(|hog| hog.join().unwrap()));
    let bound = Duration::from_millis(15).max(3 * control);
    assert!(handed <= bound, "{handed:?}, a thread {control:?}");
}

#[test]
fn the_end_does_not_wait_for_a_long_slice() {
    let builder = Builder::new().workers(2).preemption(Preemption::Flag).time_slice(Duration::from_hours(1));
    // SAFETY: as in `local`.
    let runtime = unsafe { builder.build() }.unwrap();
    // This worker stays for a while when the other has left, and sleeps meanwhile.
    let (tell, told) = std::sync::mpsc::channel();
    let begun = tell.clone();
    let masked = move || {
        cancel::mask(|| {
            begun.send(()).unwrap();
            sleep(Duration::from_millis(100));
        });
    };
    let unit = runtime.block_on(|| task::Builder::new().worker(0).spawn(masked).unwrap());
    told.recv().unwrap();
    std::thread::spawn(move || {
        drop(runtime);
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(20)).expect("the monitor ends with the workers");
    unit.join().unwrap();
}
