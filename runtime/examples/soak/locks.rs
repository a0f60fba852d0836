//! Jobs around what waits under a lock: each keeps a count of who is inside that no schedule may break.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use switchmark_runtime::cancel;
use switchmark_runtime::sync::{
    Barrier, Condvar, Event, Mutex, MutexGuard, OnceCell, RwLock, Semaphore, WaitGroup,
};

use super::books::{BOOKS, Me, Rng, add, claim};
use super::jobs::{Counted, child, dawdle, micros, part};
use super::outside;

pub(crate) fn job(me: &mut Me) {
    match me.rng.below(4) {
        0 | 1 => shared(me),
        2 => monitor(me),
        _ => meet(me),
    }
}

/// Things of which so many may be held at one time, and how many are.
struct Shared {
    mutex: Mutex<u64>,
    in_mutex: AtomicU64,
    pair: RwLock<(u64, u64)>,
    writers: AtomicU64,
    readers: AtomicU64,
    permits: Semaphore,
    permitted: AtomicU64,
}

const PERMITS: usize = 2;

impl Shared {
    fn new() -> Shared {
        Shared {
            mutex: Mutex::new(0),
            in_mutex: AtomicU64::new(0),
            pair: RwLock::new((0, 0)),
            writers: AtomicU64::new(0),
            readers: AtomicU64::new(0),
            permits: Semaphore::new(PERMITS),
            permitted: AtomicU64::new(0),
        }
    }

    fn mutex(&self, rng: &mut Rng) -> Option<MutexGuard<'_, u64>> {
        let tried = match rng.below(4) {
            0 => self.mutex.try_lock(),
            1 => self.mutex.lock_timeout(micros(rng, 100)),
            _ => return Some(self.mutex.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        match tried {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Holds one of them for a while.
    fn hold(&self, rng: &mut Rng, hold: impl FnOnce(&mut Rng)) {
        match rng.below(4) {
            0 => {
                let guard = self.pair.read().unwrap_or_else(PoisonError::into_inner);
                let _inside = Counted::new(&self.readers);
                claim(self.writers.load(Ordering::Relaxed) == 0, "a reader beside a writer");
                hold(rng);
                claim(guard.0 == guard.1, "a reader saw half a change");
            }
            1 => {
                let mut guard = self.pair.write().unwrap_or_else(PoisonError::into_inner);
                let _inside = Counted::new(&self.writers);
                claim(self.writers.load(Ordering::Relaxed) == 1, "two writers");
                claim(self.readers.load(Ordering::Relaxed) == 0, "a writer beside a reader");
                guard.0 += 1;
                cancel::mask(|| hold(rng));
                guard.1 += 1;
            }
            2 => {
                let count = 1 + usize::from(rng.once_in(3));
                let permit = if rng.once_in(3) {
                    self.permits.acquire_many_timeout(count, micros(rng, 100))
                } else {
                    Some(self.permits.acquire_many(count))
                };
                let Some(_permit) = permit else { return };
                let _one = Counted::new(&self.permitted);
                let _other = (count == 2).then(|| Counted::new(&self.permitted));
                claim(
                    self.permitted.load(Ordering::Relaxed) <= PERMITS as u64,
                    "more permits than there are",
                );
                hold(rng);
            }
            _ => {
                let Some(mut guard) = self.mutex(rng) else { return };
                let _inside = Counted::new(&self.in_mutex);
                claim(self.in_mutex.load(Ordering::Relaxed) == 1, "two in a mutex");
                *guard += 1;
                hold(rng);
            }
        }
        add(&BOOKS.held);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        claim(self.permits.available_permits() == PERMITS, "a permit was lost");
        claim(!matches!(self.mutex.try_lock(), Err(TryLockError::WouldBlock)), "a mutex stayed locked");
        claim(!matches!(self.pair.try_write(), Err(TryLockError::WouldBlock)), "a lock stayed locked");
    }
}

fn shared(me: &mut Me) {
    let shared = Arc::new(Shared::new());
    let mut children = Vec::new();
    for _ in 0..=me.rng.below(6) {
        let shared = Arc::clone(&shared);
        children.push(child(me, move |me| {
            for _ in 0..me.rng.below(12) {
                let mut rng = Rng::new(me.rng.next());
                shared.hold(&mut rng, |_| dawdle(me));
            }
            if me.rng.once_in(12) {
                let _poisons = shared.mutex.lock();
                me.boom();
            }
        }));
    }
    if me.rng.once_in(2) {
        let (shared, seed) = (Arc::clone(&shared), me.rng.next());
        outside::run(move || {
            let mut rng = Rng::new(seed);
            (0..6).for_each(|_| shared.hold(&mut rng, |_| std::thread::yield_now()));
        });
    }
    for child in children {
        part(me, child);
    }
}

/// A store of goods behind a mutex and a condition.
#[derive(Default)]
struct Store {
    goods: Mutex<u64>,
    closed: AtomicBool,
    changed: Condvar,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.goods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the store, also when unwinding.
struct Closes(Arc<Store>);

impl Drop for Closes {
    fn drop(&mut self) {
        let goods = self.0.lock();
        self.0.closed.store(true, Ordering::Relaxed);
        drop(goods);
        self.0.changed.notify_all();
    }
}

fn monitor(me: &mut Me) {
    let store = Closes(Arc::new(Store::default()));
    let mut children = Vec::new();
    for _ in 0..=me.rng.below(3) {
        let store = Arc::clone(&store.0);
        children.push(child(me, move |me| {
            let is_waiting = |goods: &mut u64| *goods == 0 && !store.closed.load(Ordering::Relaxed);
            loop {
                let goods = store.lock();
                let mut goods = if me.rng.once_in(3) {
                    let waited =
                        store.changed.wait_timeout_while(goods, micros(&mut me.rng, 100), is_waiting);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                } else {
                    store.changed.wait_while(goods, is_waiting).unwrap_or_else(PoisonError::into_inner)
                };
                match goods.checked_sub(1) {
                    Some(left) => *goods = left,
                    None if store.closed.load(Ordering::Relaxed) => return,
                    None => add(&BOOKS.time_outs),
                }
                add(&BOOKS.held);
            }
        }));
    }
    for _ in 0..me.rng.below(30) {
        *store.0.lock() += 1;
        store.0.changed.notify_one();
        if me.rng.once_in(4) {
            dawdle(me);
        }
    }
    drop(store);
    for child in children {
        part(me, child);
    }
}

/// Sets an event, also when unwinding.
struct Sets(Arc<Event>);

impl Drop for Sets {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn meet(me: &mut Me) {
    let number = 1 + me.rng.below(5);
    let barrier = Arc::new(Barrier::new(usize::try_from(number).expect("a small number")));
    let group = WaitGroup::new();
    let begun = Sets(Arc::new(Event::new()));
    let cell = Arc::new(OnceCell::new());
    let made = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicU64::new(0));
    let mut children = Vec::new();
    for number in 0..number {
        let (barrier, group, begun) = (Arc::clone(&barrier), group.clone(), Arc::clone(&begun.0));
        let (cell, made, ended) = (Arc::clone(&cell), Arc::clone(&made), Arc::clone(&ended));
        let end = Ends { count: ended, _group: group }; // It goes with the closure.
        children.push(child(me, move |me| {
            let _end = end;
            begun.wait();
            // Somebody may never come, being cancelled.
            if barrier.wait_timeout(micros(&mut me.rng, 500)).is_none() {
                add(&BOOKS.time_outs);
            }
            let value = *cell.get_or_init(|| {
                dawdle(me);
                if me.rng.once_in(4) {
                    me.boom();
                }
                made.fetch_add(1, Ordering::Relaxed);
                number
            });
            claim(cell.get() == Some(&value), "a cell changed its value");
            claim(made.load(Ordering::Relaxed) == 1, "a cell was filled more than once");
        }));
    }
    drop(begun);
    if me.rng.once_in(3) {
        let group = group.clone();
        outside::run(move || drop(group.wait_timeout(Duration::from_micros(300))));
    }
    if me.rng.once_in(2) {
        group.wait();
        claim(ended.load(Ordering::Acquire) == number, "a group did not wait for all");
    }
    for child in children {
        part(me, child);
    }
}

/// Counts an end, then leaves the group.
struct Ends {
    count: Arc<AtomicU64>,
    _group: WaitGroup,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.count.fetch_add(1, Ordering::Release);
    }
}
