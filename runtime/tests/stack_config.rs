//! What the settings of stacks do to the stacks. One test, since they are of the whole process.

use std::collections::BTreeSet;
use std::sync::Mutex;

use switchmark_runtime::stack::{StackConfig, high_water};
use switchmark_runtime::{Builder, Unparker, park, task, unparker, yield_now};

const STACK: usize = 64 << 10;
const PAGE: usize = 4096;

static PARKED: Mutex<Vec<(Unparker, usize)>> = Mutex::new(Vec::new());

/// Recurses until `bytes` of stack lie between `from` and here.
#[inline(never)]
fn deep(from: usize, bytes: usize) -> u8 {
    let frame = std::hint::black_box([1_u8; 256]);
    let here = frame.as_ptr().addr();
    let below = if from - here < bytes { deep(from, bytes) } else { 0 };
    below.wrapping_add(std::hint::black_box(frame)[0])
}

/// Runs a crowd that uses `bytes` of its stacks; returns an address in the first frames of each, when all have ended.
fn crowd(count: usize, bytes: usize) -> Vec<usize> {
    for _ in 0..count {
        let unit = task::Builder::new().stack_size(STACK).spawn(move || {
            let local = std::hint::black_box(0_u8);
            let frame = std::ptr::from_ref(&local).addr();
            std::hint::black_box(deep(frame, bytes));
            PARKED.lock().unwrap().push((unparker(), frame));
            park();
        });
        drop(unit.unwrap());
    }
    yield_now();
    let (parked, frames): (Vec<_>, Vec<_>) = std::mem::take(&mut *PARKED.lock().unwrap()).into_iter().unzip();
    parked.iter().for_each(Unparker::unpark);
    yield_now();
    assert_eq!(frames.len(), count);
    frames
}

/// Resident bytes of each of these stacks.
fn kept(frames: &[usize]) -> Vec<usize> {
    frames.iter().map(|&frame| high_water(frame).unwrap().unwrap()).collect()
}

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

#[test]
fn settings_do_what_they_say() {
    colouring_staggers_the_first_frames();
    no_free_stack_keeps_more_than_its_share();
    no_more_free_stacks_stay_than_there_is_room_for();
}

fn colouring_staggers_the_first_frames() {
    for (color, different) in [(true, 16), (false, 1), (true, 16)] {
        StackConfig::new(STACK).color(color).apply();
        let offsets: BTreeSet<usize> = run(|| crowd(64, 0)).iter().map(|frame| frame % PAGE).collect();
        assert_eq!(offsets.len(), different, "{offsets:?}");
    }
}

fn no_free_stack_keeps_more_than_its_share() {
    for share in [4 * PAGE, PAGE, 0, STACK] {
        StackConfig::new(STACK).keep_resident(share).keep_free(1000 * STACK).apply();
        let frames = run(|| crowd(500, STACK / 2));
        // When the runtime has ended nothing is left unseen.
        let kept = kept(&frames);
        assert!(kept.iter().all(|&bytes| bytes <= share), "{share}: {:?}", kept.iter().max());
        let whole = kept.iter().filter(|&&bytes| bytes >= share.min(STACK / 2)).count();
        assert_eq!(whole, 500, "and none less, while there is room for all");
    }
}

fn no_more_free_stacks_stay_than_there_is_room_for() {
    for room in [2000, 100, 0] {
        StackConfig::new(STACK).keep_resident(PAGE).keep_free(room * PAGE).apply();
        let frames = run(|| crowd(1000, 0));
        let stay = kept(&frames).iter().filter(|&&bytes| bytes > 0).count();
        // Also what was used before is free, so others of it may have stayed instead.
        assert!(stay <= room, "{stay} of {room}");
        assert!(room < 1000 || stay == 1000, "{stay} of 1000");
    }
}
