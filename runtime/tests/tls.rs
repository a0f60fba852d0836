//! Thread-locals of the program stay right over suspensions, since a coroutine stays on its thread; and the runtime itself finds the current
//! coroutine without any.
//!
//! `scripts/canary` builds this with fat LTO too, where the compiler sees through all of it, and sets `SWITCHMARK_SWITCHES` to ten million.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::process::Command;
use std::ptr;

use switchmark_runtime::{Builder, current, park, spawn, task, unparker, yield_now};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LAZY: RefCell<BTreeMap<u64, u64>> = RefCell::default();
}

const WORKERS: usize = 4;
const COROUTINES: u64 = 32;

/// How many suspensions in all.
fn switches() -> u64 {
    std::env::var("SWITCHMARK_SWITCHES").map_or(200_000, |switches| switches.parse().unwrap())
}

#[test]
fn a_borrow_of_a_thread_local_over_a_suspension_is_in_the_way_of_the_threads_other_coroutines() {
    let body = || {
        let holds = spawn(|| {
            LAZY.with_borrow_mut(|map| {
                yield_now();
                map.insert(1, 1);
            });
        });
        let meets = spawn(|| LAZY.with(|map| map.try_borrow_mut().is_err()));
        assert!(meets.join().unwrap());
        holds.join().unwrap();
        assert_eq!(LAZY.take().len(), 1);
    };
    // SAFETY: it suspends in the closure of `with`, where the initialiser is over, and not under a scoped thread-local.
    unsafe { Builder::new().run_local(body) }.unwrap();
}

#[test]
fn thread_locals_in_loops_around_suspensions_are_those_of_the_one_thread() {
    let rounds = switches() / 2 / COROUTINES;
    let body = move |key: u64| {
        let thread = std::thread::current().id();
        let count = COUNT.with(ptr::from_ref).addr();
        for round in 0..rounds {
            // Read before, written after, with the address the compiler may have kept from either side.
            let before = COUNT.get();
            COUNT.set(before + 1);
            yield_now();
            assert!(COUNT.get() > before);
            COUNT.set(COUNT.get() + 1);
            LAZY.with_borrow_mut(|map| *map.entry(key).or_default() += 1);
            // Woken from elsewhere: the waker is unstarted, so that any worker may run it.
            let me = unparker();
            drop(spawn(move || me.unpark()));
            park();
            assert_eq!(COUNT.with(ptr::from_ref).addr(), count);
            assert_eq!(LAZY.with_borrow(|map| map[&key]), round + 1);
            assert_eq!(std::thread::current().id(), thread);
        }
    };
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    let runtime = unsafe { Builder::new().workers(WORKERS).build() }.unwrap();
    let (total, keys) = runtime.block_on(|| {
        let units: Vec<_> = (0..COROUTINES).map(|key| spawn(move || body(key))).collect();
        for unit in units {
            unit.join().unwrap();
        }
        let of_each = (0..WORKERS).map(|worker| {
            let read = || (COUNT.get(), LAZY.take());
            task::Builder::new().worker(worker).spawn(read).unwrap().join().unwrap()
        });
        of_each.fold((0, 0), |(total, keys), (count, map)| (total + count, keys + map.len() as u64))
    });
    assert_eq!(total, 2 * rounds * COROUTINES, "no increment is lost, none is made elsewhere");
    assert_eq!(keys, COROUTINES, "each has an entry on one thread");
}

#[inline(never)]
fn reads_a_thread_local() -> u64 {
    std::hint::black_box(COUNT.get())
}

#[inline(never)]
fn asks_for_the_current_coroutine() -> task::Id {
    std::hint::black_box(current()).id()
}

#[inline(never)]
fn gives_way_and_wakes_itself() {
    yield_now();
    unparker().unpark();
    park();
}

#[test]
fn finding_the_current_coroutine_reads_no_thread_local() {
    // Kept in the program by being called.
    // SAFETY: as above.
    let count = unsafe {
        Builder::new().run_local(|| {
            gives_way_and_wakes_itself();
            asks_for_the_current_coroutine();
            reads_a_thread_local()
        })
    };
    assert_eq!(count.unwrap(), 0);
    if cfg!(debug_assertions) || cfg!(feature = "sanitize") {
        println!("skipped: only the code of a release build is looked at (scripts/canary)");
        return;
    }
    let Ok(dump) = Command::new("objdump")
        .args(["-d", "-C", "--no-show-raw-insn"])
        .arg(std::env::current_exe().unwrap())
        .output()
    else {
        println!("skipped: no objdump here");
        return;
    };
    let dump = String::from_utf8_lossy(&dump.stdout);
    let function = |name: &str| {
        let mut parts =
            dump.split("\n\n").filter(|part| part.lines().next().is_some_and(|line| line.contains(name)));
        parts.next().map(|part| (part.contains("%fs:") || part.contains("__tls_get_addr"), part))
    };
    // One that does, so that this test can fail.
    if !function("reads_a_thread_local").unwrap().0 {
        println!("skipped: without optimisation each access is a function of its own");
        return;
    }
    for name in [
        "asks_for_the_current_coroutine",
        "gives_way_and_wakes_itself",
        // If it was not inlined into the first.
        "switchmark_runtime::runtime::current",
    ] {
        if let Some((reads, code)) = function(name) {
            assert!(!reads, "{name} reads a thread-local:\n{code}");
        }
    }
}
