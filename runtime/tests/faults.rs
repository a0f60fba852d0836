//! What the system may do to a program that waits: a wall clock that is set, wakes that nobody meant. Signals are in `torture.rs`, refused threads
//! in `limits.rs`.
#![allow(unsafe_code, reason = "entering a runtime is a promise, and a call of the C library is replaced")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use switchmark_runtime::net::UnixStream;
use switchmark_runtime::{
    Builder, JoinHandle, Preemption, Runtime, Unparker, chan, checkpoint, interval, park_timeout, sleep,
    spawn, sync, timeout, unparker, wait, yield_now,
};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

fn several(preemption: Preemption) -> Runtime {
    let builder = Builder::new().workers(2).preemption(preemption).time_slice(MS);
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, or under a scoped thread-local.
    unsafe { builder.build() }.unwrap()
}

/// What the wall clock shows too much, in seconds, and how often this process has looked at it.
static STEP: AtomicI64 = AtomicI64::new(0);
static LOOKS: AtomicUsize = AtomicUsize::new(0);

/// The C library's, for all of this program: the runtime, the standard library and this test.
///
/// # Safety
/// There is room for a time at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) };
    if result == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        LOOKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the kernel has filled it in.
        unsafe { (*to).tv_sec += STEP.load(Ordering::Relaxed) };
    }
    result.try_into().unwrap()
}

#[test]
fn a_wall_clock_that_is_set_moves_no_deadline_and_nobody_looks_at_it() {
    // The clock of the machine is everybody's, so it is set for this process alone, where the C library is asked for it.
    let before = SystemTime::now();
    let step = |to: i64| STEP.store(to, Ordering::Relaxed);
    step(-86_400);
    assert!(before.duration_since(SystemTime::now()).unwrap() > DAY / 2, "it goes back");
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let steps = std::thread::spawn(move || {
        let mut count = 0;
        while !seen.load(Ordering::Relaxed) {
            count += 1;
            // Forward and back by a day at most, as somebody would who cannot decide.
            step(count * 7919 % (2 * 86_400) - 86_400);
            std::thread::sleep(MS / 5);
        }
        count
    });
    let looks = LOOKS.load(Ordering::Relaxed);
    let begin = Instant::now();
    let runtime = several(Preemption::Flag);
    let (waits, metrics) = runtime.block_on(|| {
        let hog_ends = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&hog_ends);
        let hog = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                checkpoint();
            }
        });
        let units: Vec<JoinHandle<usize>> = (0..8).map(|_| spawn(waits_that_end_by_their_deadline)).collect();
        let waits: usize = units.into_iter().map(|unit| unit.join().unwrap()).sum();
        hog_ends.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        (waits, runtime.metrics())
    });
    // Threads wait for coroutines by deadlines too.
    let sleeper = runtime.spawn(|| sleep(DAY));
    let sleeper = sleeper.join_timeout(MS).unwrap_err();
    sleeper.cancel().unwrap();
    assert!(sleeper.join().unwrap_err().is_cancelled());
    drop(runtime);
    assert!(metrics.deadlines >= waits as u64, "{metrics:?}");
    // Each step is of hours: one that had moved a deadline would show in either direction.
    assert!(begin.elapsed() < DAY / 24 && u128::from(metrics.lateness_ns_max) < (DAY / 24).as_nanos());
    assert_eq!(LOOKS.load(Ordering::Relaxed), looks, "something asked for the time of day");
    over.store(true, Ordering::Relaxed);
    assert!(steps.join().unwrap() > 10, "the clock was hardly set");
}

/// How many there were.
fn waits_that_end_by_their_deadline() -> usize {
    const ROUNDS: usize = 20;
    let not_before = |time: Duration, wait: &mut dyn FnMut()| {
        let end = Instant::now() + time;
        wait();
        assert!(Instant::now() >= end);
    };
    let (_sender, receiver) = chan::bounded::<()>(1);
    let (one, mut other) = UnixStream::pair().unwrap();
    other.set_read_timeout(Some(MS)).unwrap();
    let event = sync::Event::new();
    let mut ticks = interval(MS);
    let mut last = ticks.tick();
    for _ in 0..ROUNDS {
        not_before(MS, &mut || sleep(MS));
        not_before(MS, &mut || assert!(!park_timeout(MS)));
        not_before(MS, &mut || assert!(receiver.recv_timeout(MS).is_err()));
        not_before(MS, &mut || assert!(other.read(&mut [0]).is_err()));
        not_before(MS, &mut || assert!(timeout(MS, || event.wait()).is_err()));
        let tick = ticks.tick();
        assert_eq!(tick - last, MS);
        last = tick;
    }
    drop(one);
    5 * ROUNDS // A tick may have come already.
}

#[test]
fn wakes_that_nobody_meant_end_no_wait() {
    const UNITS: usize = 8;
    const ROUNDS: usize = if cfg!(feature = "sanitize") { 30 } else { 100 };
    let runtime = several(Preemption::Cooperative);
    let over = Arc::new(AtomicBool::new(false));
    let everybody: Arc<Mutex<Vec<Unparker>>> = Arc::default();
    // One from outside, and one on each worker, in whose slot and queue the woken would be.
    let pokes = {
        let (over, everybody) = (Arc::clone(&over), Arc::clone(&everybody));
        move |give_way: fn()| {
            let mut pokes = 0_usize;
            while !over.load(Ordering::Relaxed) {
                for unit in everybody.lock().unwrap().iter() {
                    unit.unpark();
                    pokes += 1;
                }
                give_way();
            }
            pokes
        }
    };
    let outside = std::thread::spawn({
        let pokes = pokes.clone();
        move || pokes(|| std::thread::sleep(MS / 20))
    });
    let inside: Vec<_> = (0..2)
        .map(|_| {
            let pokes = pokes.clone();
            runtime.spawn(move || pokes(|| sleep(MS / 20)))
        })
        .collect();
    let lock = Arc::new(sync::Mutex::new(0));
    let units: Vec<_> = (0..UNITS)
        .map(|_| {
            let (everybody, lock) = (Arc::clone(&everybody), Arc::clone(&lock));
            runtime.spawn(move || {
                everybody.lock().unwrap().push(unparker());
                (0..ROUNDS).for_each(|round| wait_in_every_way(round, &lock));
            })
        })
        .collect();
    for unit in units {
        unit.join().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let pokes = outside.join().unwrap() + inside.into_iter().map(|unit| unit.join().unwrap()).sum::<usize>();
    assert!(pokes > UNITS * ROUNDS, "{pokes} wakes that nobody meant");
    assert_eq!(*lock.lock().unwrap(), UNITS * ROUNDS);
    everybody.lock().unwrap().clear();
    let metrics = runtime.metrics();
    assert_eq!(metrics.spawned, metrics.ended);
}

/// Each wait ends by what it waits for, and not before.
fn wait_in_every_way(round: usize, lock: &sync::Mutex<usize>) {
    let end = Instant::now() + MS / 2;
    sleep(MS / 2);
    assert!(Instant::now() >= end);

    let (sender, receiver) = chan::rendezvous();
    let sends = spawn(move || {
        yield_now();
        sender.send(round).unwrap();
    });
    assert_eq!(receiver.recv(), Ok(round));
    sends.join().unwrap();
    let end = Instant::now() + MS / 2;
    assert!(receiver.recv_timeout(MS / 2).is_err(), "its sender has gone");
    let (_sender, receiver) = chan::bounded::<()>(1);
    assert!(receiver.recv_timeout(MS / 2).is_err() && Instant::now() >= end);

    let (mut one, mut other) = UnixStream::pair().unwrap();
    let writes = spawn(move || {
        sleep(MS / 5);
        one.write_all(&[7]).unwrap();
    });
    let mut byte = [0];
    other.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [7]);
    writes.join().unwrap();

    let mut held = lock.lock().unwrap();
    yield_now(); // The others queue up for it.
    *held += 1;
    drop(held);

    let done = Arc::new(AtomicBool::new(false));
    let mut sets = None;
    let polls = wait(std::future::poll_fn(|context| {
        if done.load(Ordering::Relaxed) {
            return std::task::Poll::Ready(2);
        }
        assert!(sets.is_none(), "polled, and nobody called the waker");
        let (done, waker) = (Arc::clone(&done), context.waker().clone());
        sets = Some(spawn(move || {
            yield_now();
            done.store(true, Ordering::Relaxed);
            waker.wake();
        }));
        std::task::Poll::Pending
    }));
    assert_eq!(polls, 2);
    sets.unwrap().join().unwrap();
}
