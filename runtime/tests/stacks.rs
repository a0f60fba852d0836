//! What stacks cost, and that they come back.

use switchmark_runtime::stack::{high_water, resident_bytes};
use switchmark_runtime::{Builder, Unparker, current, park, spawn, task, unparker, yield_now};

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Parks `count` coroutines in the smallest class, does something, and lets them end.
fn with_parked<T>(count: usize, meanwhile: impl FnOnce() -> T) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..count {
        let sender = sender.clone();
        let parked = task::Builder::new().stack_size(64 << 10).spawn(move || {
            sender.send(unparker()).unwrap();
            drop(sender);
            park();
        });
        drop(parked.unwrap());
    }
    yield_now();
    let parked: Vec<Unparker> = receiver.try_iter().collect();
    assert_eq!(parked.len(), count);
    let result = meanwhile();
    parked.iter().for_each(Unparker::unpark);
    result
}

// One test, since the counts are of the whole process and tests of a file run at once.
#[test]
fn parked_coroutines_cost_a_page_each_few_mappings_and_are_counted_by_mincore() {
    if cfg!(feature = "sanitize") {
        println!("skipped: this counts mappings and pages, of which a sanitizer has its own for each stack");
        return;
    }
    // Nothing is asserted while coroutines are parked: a failure would leave them so, and the runtime waits for them.
    let count = 10_000;
    let measure = || (mappings(), resident_bytes().unwrap());
    let (before, parked) = run(|| {
        // The threads of the test harness map their own; warm up before counting.
        with_parked(64, || ());
        yield_now();
        (measure(), with_parked(count, measure))
    });
    let added = parked.0 - before.0;
    assert!(added < 20, "{added} mappings for {count} guarded stacks");
    let each = (parked.1 - before.1) as f64 / count as f64;
    // Unoptimised frames are larger; the promise is for release builds.
    let limit = if cfg!(debug_assertions) { 3.0 * 4096.0 } else { 4096.0 + 64.0 };
    assert!((4096.0..=limit).contains(&each), "{each} resident bytes for each");
    assert!(resident_bytes().unwrap() <= before.1, "stacks of ended coroutines do not count");
    deep_use_is_seen_and_stacks_are_used_again();
}

fn deep_use_is_seen_and_stacks_are_used_again() {
    /// Recurses until `bytes` of stack lie between `from` and here.
    #[inline(never)]
    fn deep(from: usize, bytes: usize) -> u8 {
        let frame = std::hint::black_box([1_u8; 1024]);
        let here = frame.as_ptr().addr();
        let below = if from - here < bytes { deep(from, bytes) } else { 0 };
        below.wrapping_add(std::hint::black_box(frame)[0])
    }
    run(|| {
        let before = spawn(|| current().stack_high_water().unwrap()).join().unwrap();
        let addr = |local: &u8| std::ptr::from_ref(local).addr();
        let (used, mine, place) = spawn(move || {
            let local = std::hint::black_box(0_u8);
            std::hint::black_box(deep(addr(&local), 100 << 10));
            (current().stack_high_water().unwrap(), high_water(addr(&local)).unwrap(), addr(&local))
        })
        .join()
        .unwrap();
        assert!(before < 100 << 10 && (100 << 10..=256 << 10).contains(&used), "{before}, then {used}");
        assert_eq!(mine, Some(used));
        // Serial coroutines take turns on the same stacks.
        let mut places: Vec<usize> = (0..1000)
            .map(|_| {
                spawn(move || {
                    let local = std::hint::black_box(0_u8);
                    addr(&local) >> 19
                })
                .join()
                .unwrap()
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() <= 2 && places.contains(&(place >> 19)), "{places:?}");
        assert_eq!(high_water(8).unwrap(), None);
    });
}
