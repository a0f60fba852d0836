//! Who waits for a turn, and for how many of whose: counts of turns, never times. Go's scheduler has such tests in `runtime/proc_test.go`
//! (`PingPongHog`, and the goroutines that must not starve in a queue); these are ours, about our rules.
//!
//! Nobody is preempted, so a turn lasts until its coroutine gives way, and on one worker the order of turns is always the same.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchmark_runtime::net::UnixStream;
use switchmark_runtime::{Builder, Handle, JoinHandle, Runtime, chan, sleep, spawn, task, yield_now};

/// As in `sched::worker`: uses of the slot in a row while others wait, and picks between two looks beyond the queue.
const LATEST_IN_A_ROW: u64 = 3;
const PATIENCE: u64 = 61;

fn local<T>(builder: Builder, f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { builder.run_local(f) }.unwrap()
}

fn runtime(workers: usize) -> Runtime {
    // SAFETY: as in `local`.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

/// Runs `f` on worker 0 of two, while the other is busy and takes nothing.
fn beside_a_busy_worker<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = runtime(2);
    let over = Arc::new(AtomicBool::new(false));
    let (tell, begun) = std::sync::mpsc::channel();
    let (seen, ends) = (Arc::clone(&over), over);
    runtime.block_on(|| {
        let busy = task::Builder::new().worker(1).spawn(move || {
            tell.send(()).unwrap();
            while !seen.load(Ordering::Relaxed) {
                std::thread::yield_now(); // It gives the core away, and never suspends.
            }
        });
        let body = move || {
            begun.recv().unwrap(); // This blocks worker 0; it must not begin before.
            let value = f();
            let steals = Handle::try_current().unwrap().metrics().steals;
            assert_eq!(steals, 0, "the other worker was to be busy");
            ends.store(true, Ordering::Relaxed); // Here, as it may be worker 1 that waits for this below.
            value
        };
        let value = task::Builder::new().worker(0).spawn(body).unwrap().join().unwrap();
        busy.unwrap().join().unwrap();
        value
    })
}

fn join_all(units: impl IntoIterator<Item = JoinHandle<()>>) {
    for unit in units {
        unit.join().unwrap();
    }
}

/// A coroutine that gives way until `over`, after `each` of its turns.
fn yielder(over: &Arc<AtomicBool>, mut each: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let over = Arc::clone(over);
    spawn(move || {
        while !over.load(Ordering::Relaxed) {
            each();
            yield_now();
        }
    })
}

/// A pair that hands a token to and fro until `over`, `each` being called in every turn of either.
fn pair(over: &Arc<AtomicBool>, each: impl Fn() + Clone + Send + 'static) -> [JoinHandle<()>; 2] {
    let (to, from) = chan::rendezvous();
    let (back, answers) = chan::rendezvous();
    let (over, each_answer) = (Arc::clone(over), each.clone());
    let asks = spawn(move || {
        while !over.load(Ordering::Relaxed) {
            each();
            if to.send(()).is_err() || answers.recv().is_err() {
                return;
            }
        }
    });
    let answers = spawn(move || {
        for () in from {
            each_answer();
            if back.send(()).is_err() {
                return;
            }
        }
    });
    [asks, answers]
}

#[test]
fn of_two_pairs_on_one_worker_neither_gets_twice_as_many_turns() {
    const TURNS: u64 = 20_000;
    for slot in [true, false] {
        let turns = local(Builder::new().lifo_slot(slot), || {
            let over = Arc::new(AtomicBool::new(false));
            let counts = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
            let pairs = [false, true].map(|hog| {
                let (mine, stop) = (Arc::clone(&counts[usize::from(hog)]), Arc::clone(&over));
                pair(&over, move || {
                    // One of the pairs computes for longer in each turn.
                    (0..if hog { 200_u64 } else { 1 }).for_each(|n| _ = std::hint::black_box(n));
                    if mine.fetch_add(1, Ordering::Relaxed) == TURNS {
                        stop.store(true, Ordering::Relaxed);
                    }
                })
            });
            join_all(pairs.into_iter().flatten());
            counts.map(|count| count.load(Ordering::Relaxed))
        });
        let (few, many) = (turns[0].min(turns[1]), turns[0].max(turns[1]));
        assert!(few * 2 > many, "{turns:?}");
    }
}

/// Most turns of a pair, and of the others, between two turns of one of `yielders`.
fn most_turns_between(slot: bool, yielders: u64) -> u64 {
    local(Builder::new().lifo_slot(slot), || {
        let over = Arc::new(AtomicBool::new(false));
        let (turns, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&turns);
        let talk = pair(&over, move || _ = count.fetch_add(1, Ordering::Relaxed));
        let others: Vec<_> = (0..yielders)
            .map(|_| {
                let (turns, most, mut last, mut own) = (Arc::clone(&turns), Arc::clone(&most), None, 0);
                let stop = Arc::clone(&over);
                yielder(&over, move || {
                    let now = turns.fetch_add(1, Ordering::Relaxed);
                    if let Some(last) = last.replace(now) {
                        most.fetch_max(now - last - 1, Ordering::Relaxed);
                    }
                    own += 1;
                    if own == 5_000 {
                        stop.store(true, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        join_all(talk.into_iter().chain(others));
        most.load(Ordering::Relaxed)
    })
}

#[test]
fn the_latest_wake_delays_who_waits_in_the_queue_by_three_turns() {
    for yielders in [1, 2, 10] {
        // In between come the others, once each, one of the pair from the queue, and what the slot allows.
        assert_eq!(most_turns_between(true, yielders), yielders + LATEST_IN_A_ROW);
        assert!(most_turns_between(false, yielders) <= yielders + 1);
    }
}

#[test]
fn what_comes_from_outside_gets_its_turn_under_permanent_load() {
    const YIELDERS: u64 = 4;
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let over = Arc::new(AtomicBool::new(false));
        let turns: Arc<Vec<AtomicU64>> = Arc::new((0..workers).map(|_| AtomicU64::new(0)).collect());
        let load = runtime.block_on(|| {
            let mut load = Vec::new();
            for worker in 0..workers {
                for _ in 0..YIELDERS {
                    let (over, turns) = (Arc::clone(&over), Arc::clone(&turns));
                    let body = move || {
                        while !over.load(Ordering::Relaxed) {
                            turns[worker].fetch_add(1, Ordering::Relaxed);
                            yield_now();
                        }
                    };
                    let name = format!("load {worker}");
                    load.push(task::Builder::new().name(name).worker(worker).spawn(body).unwrap());
                }
            }
            load
        });
        while turns.iter().any(|turns| turns.load(Ordering::Relaxed) < 100) {
            std::thread::yield_now();
        }
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let place = move || std::thread::current().id();
                let placed =
                    move || task::Builder::new().worker(worker).spawn(place).unwrap().join().unwrap();
                runtime.block_on(placed)
            })
            .collect();
        for _ in 0..200 {
            let (seen, threads) = (Arc::clone(&turns), threads.clone());
            let unit = runtime.spawn(move || {
                let here = std::thread::current().id();
                let worker = threads.iter().position(|&thread| thread == here).unwrap();
                (worker, seen[worker].load(Ordering::Relaxed))
            });
            // After it was handed over: from here on every look finds it.
            let then: Vec<_> = turns.iter().map(|turns| turns.load(Ordering::SeqCst)).collect();
            let (worker, started) = unit.join().unwrap();
            // It is found by the next look, and then waits in the queue once.
            let waited = started.saturating_sub(then[worker]);
            assert!(waited <= PATIENCE + YIELDERS + 1, "{workers} workers: {waited} turns");
        }
        over.store(true, Ordering::Relaxed);
        join_all(load);
    }
}

#[test]
fn started_and_unstarted_coroutines_take_turns() {
    const UNSTARTED: usize = 100;
    let order = beside_a_busy_worker(|| {
        let over = Arc::new(AtomicBool::new(false));
        let order = Arc::new(Mutex::new(Vec::new()));
        let noted = |what: char| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(what)
        };
        let started: Vec<_> = (0..4).map(|_| yielder(&over, noted('s'))).collect();
        while order.lock().unwrap().len() < 8 {
            yield_now();
        }
        order.lock().unwrap().clear();
        let unstarted: Vec<_> = (0..UNSTARTED).map(|_| spawn(noted('u'))).collect();
        join_all(unstarted);
        over.store(true, Ordering::Relaxed);
        join_all(started);
        Arc::into_inner(order).unwrap().into_inner().unwrap()
    });
    // This coroutine, which joins the first of them and so on, is a started one too and not in the list: it may stand between two.
    let last = order.iter().rposition(|&what| what == 'u').unwrap();
    let text: String = order[..=last].iter().collect();
    assert_eq!(text.matches('u').count(), UNSTARTED);
    assert!(!text.contains("sss") && !text.contains("uuu"), "{text}");
    let started = text.matches('s').count();
    assert!((UNSTARTED / 2..=UNSTARTED + 1).contains(&started), "{started} turns in {text}");
}

/// Chains of coroutines, each of which spawns the next and ends, beside some that have started and give way. Returns the turns of the one that
/// had fewest in each kind.
fn chains_and_yielders(chains: usize, yielders: usize) -> [u64; 2] {
    const TURNS: u64 = 200;
    fn link(count: Arc<AtomicU64>, over: Arc<AtomicBool>) {
        if !over.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            drop(spawn(move || link(count, over)));
        }
    }
    let over = Arc::new(AtomicBool::new(false));
    let counts = |number| (0..number).map(|_| Arc::new(AtomicU64::new(0))).collect::<Vec<_>>();
    let (in_chains, in_yielders) = (counts(chains), counts(yielders));
    let units: Vec<_> = in_yielders
        .iter()
        .map(|count| {
            let count = Arc::clone(count);
            yielder(&over, move || _ = count.fetch_add(1, Ordering::Relaxed))
        })
        .collect();
    for count in &in_chains {
        let (count, over) = (Arc::clone(count), Arc::clone(&over));
        drop(spawn(move || link(count, over)));
    }
    let least = |counts: &[Arc<AtomicU64>]| counts.iter().map(|c| c.load(Ordering::Relaxed)).min().unwrap();
    let most = || in_chains.iter().chain(&in_yielders).map(|c| c.load(Ordering::Relaxed)).max().unwrap();
    // Until one of the smaller kind has had so many turns, and one of the other its share of them.
    while most() < TURNS * (chains.max(yielders) / chains.min(yielders)) as u64 {
        yield_now();
    }
    over.store(true, Ordering::Relaxed);
    join_all(units);
    [least(&in_chains), least(&in_yielders)]
}

#[test]
fn a_crowd_that_is_spawned_does_not_starve_the_started_nor_they_the_crowd() {
    for (chains, yielders) in [(50, 2), (2, 50), (10, 10)] {
        // In the one queue of a worker that is alone all come round alike; of two queues each gets every other turn.
        let alone = local(Builder::new(), || chains_and_yielders(chains, yielders));
        let beside = beside_a_busy_worker(move || chains_and_yielders(chains, yielders));
        for least in [alone, beside] {
            assert!(
                least.iter().all(|&turns| turns >= 100),
                "{chains} chains, {yielders} yielders: {least:?}"
            );
        }
    }
}

#[test]
fn deadlines_are_kept_under_load_that_only_gives_way() {
    const YIELDERS: u64 = 5;
    for slot in [true, false] {
        local(Builder::new().lifo_slot(slot), || {
            let over = Arc::new(AtomicBool::new(false));
            let due = Arc::new(Mutex::new(None::<Instant>));
            let late = Arc::new(AtomicU64::new(0));
            let load: Vec<_> = (0..YIELDERS)
                .map(|_| {
                    let (due, late) = (Arc::clone(&due), Arc::clone(&late));
                    yielder(&over, move || {
                        if due.lock().unwrap().is_some_and(|due| due <= Instant::now()) {
                            late.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let mut least = u64::MAX;
            for _ in 0..20 {
                late.store(0, Ordering::Relaxed);
                *due.lock().unwrap() = Some(Instant::now() + Duration::from_micros(300));
                sleep(Duration::from_micros(300));
                least = least.min(late.load(Ordering::Relaxed));
                *due.lock().unwrap() = None;
            }
            over.store(true, Ordering::Relaxed);
            join_all(load);
            // Found by the next look beyond the queue, then once through the queue. At best: the kernel may stop this thread between the two clocks.
            assert!(least <= PATIENCE + YIELDERS + 1, "{least} turns late");
        });
    }
}

#[test]
fn a_timer_is_noticed_at_the_next_turn_of_one_that_is_alone() {
    local(Builder::new(), || {
        let sleeper = spawn(|| sleep(Duration::from_millis(1)));
        yield_now(); // It goes to sleep.
        let mut turns = 0;
        while !sleeper.is_finished() {
            std::thread::sleep(Duration::from_millis(2)); // A long turn.
            yield_now();
            turns += 1;
        }
        assert!(turns <= 2, "{turns} turns");
    });
}

/// The middle one of eleven.
fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..11).map(|_| measure()).collect();
    all.sort();
    all[5]
}

#[test]
fn a_ready_socket_behind_a_thousand_yielders_is_served_about_as_soon_as_among_threads() {
    const CROWD: usize = 1000;
    /// Sends the time, and takes what the other end made of it: how late it was read.
    fn ask(from: &std::os::unix::net::UnixStream, epoch: Instant) -> Duration {
        let mut end = from;
        std::thread::sleep(Duration::from_millis(1)); // The reader waits again by then.
        end.write_all(&u64::try_from(epoch.elapsed().as_nanos()).unwrap().to_le_bytes()).unwrap();
        let mut late = [0; 8];
        end.read_exact(&mut late).unwrap();
        Duration::from_nanos(u64::from_le_bytes(late))
    }
    fn answer(mut end: impl Read + Write, epoch: Instant) {
        let mut sent = [0; 8];
        while end.read_exact(&mut sent).is_ok() {
            let late = u64::try_from(epoch.elapsed().as_nanos()).unwrap() - u64::from_le_bytes(sent);
            end.write_all(&late.to_le_bytes()).unwrap();
        }
    }
    let (epoch, over) = (Instant::now(), AtomicBool::new(false));
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let control = std::thread::scope(|scope| {
        for _ in 0..CROWD {
            let yields = || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            };
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, yields).unwrap();
        }
        scope.spawn(|| answer(there, epoch));
        let late = median(|| ask(&here, epoch));
        over.store(true, Ordering::Relaxed);
        here.shutdown(std::net::Shutdown::Both).unwrap();
        late
    });
    let runtime = runtime(1);
    let over = Arc::new(AtomicBool::new(false));
    let crowd = runtime.block_on(|| (0..CROWD).map(|_| yielder(&over, || ())).collect::<Vec<_>>());
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let reader = runtime.spawn(move || answer(UnixStream::from_std(there).unwrap(), epoch));
    // Thrice, as the worker, which computes all the time, may be the one that the kernel keeps waiting on a machine that has others.
    let late = (0..3).map(|_| median(|| ask(&here, epoch))).min().unwrap();
    over.store(true, Ordering::Relaxed);
    drop(here);
    join_all(crowd);
    reader.join().unwrap();
    println!("{late:?} late, a thread {control:?}");
    if cfg!(feature = "sanitize") {
        return println!("skipped: a sanitizer takes microseconds for each of a thousand switches");
    }
    assert!(late <= Duration::from_millis(2).max(3 * control), "{late:?} late, a thread {control:?}");
}
