//! Free stacks: a magazine per worker, a depot per class, fresh slots behind both.
//!
//! A worker takes and gives stacks of its own magazine without any atomic operation; only an empty or an overfull one goes
//! to the depot, half a magazine at a time, under a short lock. In the depot a free stack passes lists, and is taken back from the
//! first that is not empty:
//!
//! ```text
//!   magazine --half--> hot --batch--> warm  (a sample was shallow)  --rest--> lean (trimmed)
//!                          |--------> lean  (trimmed: keeps its top pages)
//!                          `--------> cold  (keeps no page) --many--> unguarded (keeps no page table either)
//! ```
//!
//! *Hot* stacks have what they touched. When there are more than a batch, whoever brought the last *settles*: as many as the limit
//! leaves room for stay, the others go cold. One in [`SAMPLE`] of those that stay is asked whether it was used below what it may keep;
//! if any was, all of them are trimmed. To trim all unasked was tried: with 10,000 coroutines that come and go together it is more than
//! half of what their end costs. What a sample missed is trimmed when a worker sleeps. To trim and to cool are one system call for many
//! stacks ([`super::reclaim`]), made outside the depot's lock, on a chunk of at most [`CHUNK`] stacks that nobody can take meanwhile. So
//! a crowd that ends gives its memory back as it ends, a batch at a time, and nobody waits for all of it.
//!
//! A cold stack still has its guard, which is in its page tables. When many are cold, those that are neighbours are *stripped*: they
//! lose guard and tables and are like those that nobody used yet.
//!
//! **Back-pressure.** One thread settles a class at a time; others go on meanwhile, but one that finds twice a batch hot waits its turn,
//! as otherwise a fast giver would outrun the kernel.
//!
//! **How many stay warm.** `keep_free` (see [`super::config`]), which is a promise to the system. A program whose crowd is larger, and
//! comes again and again, would then give back and fetch the same pages each round, five to ten times the cost of using them again. A
//! higher limit for all was refused: one crowd would leave its memory resident for good. A timer that gives back after a second was
//! refused as well: there is nobody to wait for it, as an idle runtime makes no wake-up and a busy worker may not touch a stack for
//! hours. So a higher limit has to be *earned*: each stack taken from the cold within [`LINGER_MS`] of the last that was sent there
//! raises it by one, up to [`EARNED_AT_MOST`] times the promise. And it is lost by disuse: of the free stacks, the number that was never
//! needed in the course of a [`LINGER_MS`] is taken off what was earned, and goes cold. That is looked at whenever stacks move, when a
//! worker goes to sleep, and when one ends. It is the working-set rule of a page cache (a fault on what was just evicted is evidence) and the
//! low-water rule of a thread cache, put together. The first crowd goes cold as it ends, the second finds its stacks cold and earns
//! them, the third is warm.

use std::cell::Cell;
use std::io;
use std::sync::{PoisonError, TryLockError};

use super::{Class, Slot, arena, config, guard, overflow, reclaim};
use crate::atomic::plain::{Mutex, MutexGuard};
use crate::sys;

/// Most stacks a magazine holds before half of them go to the depot; by class, as what deep use left stays in there unseen.
const MAGAZINE: [usize; Class::COUNT] = [MAGAZINE_ROOM, MAGAZINE_ROOM, 16];
const MAGAZINE_ROOM: usize = 64;
/// Fresh slots guarded by one call.
const BATCH: usize = 32;
/// Stacks that are reclaimed between two looks at the lists.
const CHUNK: usize = 4096;
/// Stacks that a worker with nothing to do reclaims between two looks for something: a fraction of a millisecond.
const REST: usize = 256;
/// Bytes of hot stacks, if they were used to the bottom, before they are settled.
const HOT_BYTES: usize = 16 << 20;
/// Of so many stacks that stay, one is asked how deep it was used.
const SAMPLE: usize = 16;
/// Cold stacks, at least, that are looked through for neighbours: their page tables are 4 MiB, by class 13 and 40.
const STRIP: usize = 1 << 14;
/// Within how many milliseconds a cold stack taken again counts as evidence, and after how many unused ones go cold.
const LINGER_MS: u64 = 1000;
/// How far evidence raises the warm limit, in multiples of it.
const EARNED_AT_MOST: usize = 128;

static POOL: Pool = Pool::new();

/// The depots.
struct Pool {
    depots: [Mutex<Depot>; Class::COUNT],
    /// Held by the one who settles a class, with the room for his chunk. Taken before the depot's lock, never after.
    settling: [Mutex<Vec<u32>>; Class::COUNT],
}

/// Free stacks of a class. No list ever grows beyond the room made by [`Depot::make_room`], so giving a stack back cannot fail.
struct Depot {
    hot: Vec<u32>,
    warm: Vec<u32>,
    lean: Vec<u32>,
    cold: Vec<u32>,
    /// Without a guard, because the kernel refused it or because they were stripped: to be guarded before anything fresh is.
    unguarded: Vec<u32>,
    /// Slots taken from the arena.
    made: usize,
    /// Stacks gone cold since the cold ones were looked through for neighbours to strip.
    unstripped: usize,
    /// Warm stacks beyond the limit, on evidence.
    earned: usize,
    /// Fewest stacks that were not cold since `epoch`: so many were not needed.
    unneeded: usize,
    /// Milliseconds: when `unneeded` began to be watched, and when stacks last went cold.
    epoch: u64,
    last_cold: Option<u64>,
}

/// How a chunk is settled.
#[derive(Clone, Copy)]
struct How {
    /// With those that are warm and were not trimmed, and trimming without asking a sample.
    thorough: bool,
    /// At most so many stacks; no more than [`CHUNK`].
    most: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks, and the lists are whole between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many hot stacks make a batch.
const fn hot_batch(class: Class) -> usize {
    HOT_BYTES / class.usable()
}

impl Depot {
    const fn new() -> Depot {
        Depot {
            hot: Vec::new(),
            warm: Vec::new(),
            lean: Vec::new(),
            cold: Vec::new(),
            unguarded: Vec::new(),
            made: 0,
            unstripped: 0,
            earned: 0,
            unneeded: 0,
            epoch: 0,
            last_cold: None,
        }
    }

    /// Those that stay resident by decision.
    fn settled(&self) -> usize {
        self.warm.len() + self.lean.len()
    }

    fn pop_settled(&mut self) -> Option<u32> {
        self.warm.pop().or_else(|| self.lean.pop())
    }

    /// Moves up to `count` stacks to `to`.
    fn take(&mut self, class: Class, now: u64, count: usize, mut to: impl FnMut(u32)) -> usize {
        let mut left = count;
        while left > 0
            && let Some(number) = self.hot.pop().or_else(|| self.pop_settled())
        {
            to(number);
            left -= 1;
        }
        self.unneeded = self.unneeded.min(self.hot.len() + self.settled());
        let from_cold = left.min(self.cold.len());
        self.cold.drain(self.cold.len() - from_cold..).for_each(to);
        self.earn(class, now, from_cold);
        count - left + from_cold
    }

    /// Takes note of stacks that were wanted after they had gone cold.
    fn earn(&mut self, class: Class, now: u64, count: usize) {
        if self.last_cold.is_some_and(|then| now.saturating_sub(then) < LINGER_MS) {
            self.earned = (self.earned + count).min(config::kept_free(class) * EARNED_AT_MOST);
        }
    }

    /// Forgets evidence that was not used for a while.
    fn age(&mut self, now: u64) {
        if now.saturating_sub(self.epoch) >= LINGER_MS {
            self.earned = self.earned.saturating_sub(self.unneeded);
            self.unneeded = self.hot.len() + self.settled();
            self.epoch = now;
        }
    }

    fn warm_limit(&self, class: Class) -> usize {
        config::kept_free(class) + self.earned
    }

    /// Moves what is to be settled into `chunk`; of it, the number returned may stay, from the front, and the rest is to go cold.
    fn begin_settling(&mut self, class: Class, how: How, chunk: &mut Vec<u32>) -> usize {
        let limit = self.warm_limit(class);
        let hot = self.hot.len().min(how.most);
        chunk.extend(self.hot.drain(..hot));
        if how.thorough {
            let warm = self.warm.len().min(how.most - hot);
            chunk.extend(self.warm.drain(self.warm.len() - warm..));
        }
        let stay = limit.saturating_sub(self.settled()).min(chunk.len());
        let excess = self.settled().saturating_sub(limit).min(how.most - chunk.len());
        chunk.extend(std::iter::from_fn(|| self.pop_settled()).take(excess));
        stay
    }

    fn end_settling(&mut self, now: u64, chunk: &[u32], stay: usize, trimmed: bool) {
        let (stay, cold) = chunk.split_at(stay);
        let list = if trimmed { &mut self.lean } else { &mut self.warm };
        list.extend_from_slice(stay);
        self.cold.extend_from_slice(cold);
        if !cold.is_empty() {
            self.last_cold = Some(now);
            self.unstripped += cold.len();
        }
    }

    fn needs_settling(&self, class: Class) -> bool {
        self.hot.len() > hot_batch(class) || self.settled() > self.warm_limit(class)
    }

    /// Room in each list for `more` stacks beyond those that were made.
    fn make_room(&mut self, more: usize) -> io::Result<()> {
        let all = self.made + more;
        for list in [&mut self.hot, &mut self.warm, &mut self.lean, &mut self.cold, &mut self.unguarded] {
            list.try_reserve(all - list.len()).map_err(|_| no_memory("a list of free stacks"))?;
        }
        Ok(())
    }
}

impl Pool {
    const fn new() -> Pool {
        Pool {
            depots: [const { Mutex::new(Depot::new()) }; Class::COUNT],
            settling: [const { Mutex::new(Vec::new()) }; Class::COUNT],
        }
    }

    fn depot(&self, class: Class) -> MutexGuard<'_, Depot> {
        locked(&self.depots[class.index()])
    }

    /// Hands up to `count` stacks to `to`, from the lists or made anew; at least one.
    fn take(&self, class: Class, count: usize, mut to: impl FnMut(u32)) -> io::Result<()> {
        let now = sys::coarse_ms();
        let to_settle = {
            let mut depot = self.depot(class);
            depot.age(now);
            let taken = depot.take(class, now, count, &mut to);
            if taken == 0 {
                drop(depot);
                return self.make(class, now, to);
            }
            depot.needs_settling(class)
        };
        if to_settle {
            self.settle(class, now, false);
        }
        Ok(())
    }

    /// Takes stacks back.
    fn give(&self, class: Class, numbers: impl Iterator<Item = u32>) {
        let mut depot = self.depot(class);
        depot.hot.extend(numbers);
        let (hot, batch) = (depot.hot.len(), hot_batch(class));
        drop(depot);
        if hot > batch {
            let now = sys::coarse_ms();
            self.depot(class).age(now);
            self.settle(class, now, hot > 2 * batch);
        }
    }

    /// Settles a chunk. Where another thread does, waits for it if `must`, and else leaves it at that.
    fn settle(&self, class: Class, now: u64, must: bool) {
        let settling = &self.settling[class.index()];
        let mut chunk = match settling.try_lock() {
            Ok(chunk) => chunk,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) if must => locked(settling),
            Err(TryLockError::WouldBlock) => return,
        };
        let depot = self.depot(class);
        if depot.needs_settling(class) {
            self.settle_chunk(class, now, How { thorough: false, most: CHUNK }, depot, &mut chunk);
        }
    }

    fn settle_chunk(
        &self,
        class: Class,
        now: u64,
        how: How,
        mut depot: MutexGuard<'_, Depot>,
        chunk: &mut Vec<u32>,
    ) {
        chunk.clear();
        let stay = depot.begin_settling(class, how, chunk);
        drop(depot);
        let keep = config::kept_of_one(class);
        let trimmed = how.thorough || reclaim::is_any_deep(class, chunk[..stay].iter().step_by(SAMPLE), keep);
        if trimmed {
            reclaim::trim(class, &chunk[..stay], keep);
        }
        reclaim::discard(class, &mut chunk[stay..]);
        let mut depot = self.depot(class);
        depot.end_settling(now, chunk, stay, trimmed);
        // Half of the list at least, or looking through it again and again would cost more than it finds.
        if depot.unstripped >= STRIP && depot.unstripped >= depot.cold.len() / 2 {
            self.strip(class, depot);
        }
    }

    /// Strips neighbours among the cold stacks. For the one who settles the class: nobody else adds to the cold ones meanwhile.
    fn strip(&self, class: Class, mut depot: MutexGuard<'_, Depot>) {
        let mut cold = std::mem::take(&mut depot.cold);
        drop(depot);
        let stripped = reclaim::strip(class, &mut cold);
        let mut depot = self.depot(class);
        depot.unguarded.extend_from_slice(&cold[..stripped]);
        // Of the two lists the one goes on that has the room which `make_room` has promised, maybe just now.
        if depot.cold.capacity() < cold.capacity() {
            cold.drain(..stripped);
            depot.cold = cold;
        } else {
            depot.cold.extend_from_slice(&cold[stripped..]);
        }
        depot.unstripped = 0;
    }

    /// Gives a chunk back of what is kept beyond the limit or, if `how` is thorough, was not trimmed yet; `false` if there is nothing
    /// of that. First forgets what was earned if it was not used for a while or `forget` is set.
    fn give_back(&self, class: Class, now: u64, forget: bool, how: How) -> bool {
        let mut chunk = locked(&self.settling[class.index()]);
        let mut depot = self.depot(class);
        if forget {
            depot.earned = 0;
        }
        depot.age(now);
        let over = depot.settled() > depot.warm_limit(class);
        let unseen = depot.hot.len() + depot.warm.len();
        if !(over || how.thorough && unseen > 0) {
            // A crowd that ended in no order becomes neighbours with its last.
            if forget && how.thorough && depot.unstripped > 0 && depot.cold.len() >= STRIP {
                self.strip(class, depot);
            }
            return false;
        }
        self.settle_chunk(class, now, how, depot, &mut chunk);
        true
    }

    fn give_all_back(&self, class: Class, forget: bool) {
        while self.give_back(class, sys::coarse_ms(), forget, How { thorough: true, most: CHUNK }) {}
    }

    /// Guards a batch of slots that nobody used yet and hands them out, the lowest last.
    fn make(&self, class: Class, now: u64, to: impl FnMut(u32)) -> io::Result<()> {
        let arena = arena::get()?;
        self.make_room_to_settle(class)?;
        let mut room = [0; BATCH];
        let numbers = {
            let mut depot = self.depot(class);
            let again = depot.unguarded.len().min(BATCH);
            if again > 0 {
                let from = depot.unguarded.len() - again;
                room[..again].copy_from_slice(&depot.unguarded[from..]);
                depot.unguarded.truncate(from);
                depot.earn(class, now, again);
                &room[..again]
            } else {
                depot.make_room(BATCH)?;
                let fresh = arena.take_fresh(class, BATCH);
                depot.made += fresh.len();
                for (place, number) in room.iter_mut().zip(fresh.clone().rev()) {
                    *place = number;
                }
                &room[..fresh.len()]
            }
        };
        if numbers.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!(
                    "no stack of {} bytes is left: each of the {} that there is address space for is in use or kept by another \
                     worker; wait for coroutines to end or raise the address-space limit (RLIMIT_AS, ulimit -v)",
                    class.usable(),
                    arena.capacity(class)
                ),
            ));
        }
        if let Err(error) = guard::install(class, numbers) {
            self.depot(class).unguarded.extend_from_slice(numbers);
            return Err(error);
        }
        numbers.iter().copied().for_each(to);
        Ok(())
    }

    fn make_room_to_settle(&self, class: Class) -> io::Result<()> {
        // Somebody who settles has the room.
        let Ok(mut chunk) = self.settling[class.index()].try_lock() else { return Ok(()) };
        chunk.clear();
        chunk.try_reserve(CHUNK).map_err(|_| no_memory("a chunk of free stacks"))
    }
}

fn no_memory(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!(
            "no memory for {what}: the process is at its limit of memory or of address space (RLIMIT_AS, ulimit -v)"
        ),
    )
}

/// A stack for somebody without a magazine.
pub(crate) fn take(class: Class) -> io::Result<Slot> {
    overflow::prepare_thread()?;
    take_one(&POOL, class)
}

fn take_one(pool: &Pool, class: Class) -> io::Result<Slot> {
    let mut taken = [0; BATCH];
    let mut count = 0;
    // One from the lists, or a whole batch that was made.
    pool.take(class, 1, |number| {
        taken[count] = number;
        count += 1;
    })?;
    let number = taken[count - 1];
    if count > 1 {
        pool.give(class, taken[..count - 1].iter().copied());
    }
    Ok(Slot { class, number })
}

/// Takes a stack back. It has no occupant and nobody runs on it.
pub(crate) fn give(slot: Slot) {
    POOL.give(slot.class, std::iter::once(slot.number));
}

/// A worker's own free stacks.
#[derive(Debug)]
pub(crate) struct Magazine {
    free: [Rounds; Class::COUNT],
    /// When this worker last looked at what its free stacks keep, in milliseconds.
    rested: Cell<u64>,
}

/// The free stacks of a class in a magazine. Of a fixed size, so that nothing on the way of a stack allocates.
#[derive(Debug)]
struct Rounds {
    count: Cell<usize>,
    numbers: [Cell<u32>; MAGAZINE_ROOM],
}

impl Rounds {
    const fn new() -> Rounds {
        Rounds { count: Cell::new(0), numbers: [const { Cell::new(0) }; MAGAZINE_ROOM] }
    }

    #[inline]
    fn pop(&self) -> Option<u32> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        Some(self.numbers[last].get())
    }

    #[inline]
    fn push(&self, number: u32) {
        let count = self.count.get();
        self.numbers[count].set(number);
        self.count.set(count + 1);
    }

    /// Takes the oldest out, which is the one least likely to be in the cache.
    fn drain_oldest(&self, count: usize) -> [u32; MAGAZINE_ROOM] {
        let all = self.numbers.each_ref().map(Cell::get);
        for (place, number) in self.numbers.iter().zip(&all[count..]) {
            place.set(*number);
        }
        self.count.set(self.count.get() - count);
        all
    }
}

impl Default for Magazine {
    fn default() -> Magazine {
        Magazine { free: [const { Rounds::new() }; Class::COUNT], rested: Cell::new(0) }
    }
}

impl Magazine {
    /// Takes a stack, from here, the depot or the arena.
    #[inline]
    pub(crate) fn take(&self, class: Class) -> io::Result<Slot> {
        match self.free[class.index()].pop() {
            Some(number) => Ok(Slot { class, number }),
            None => self.refill(&POOL, class),
        }
    }

    #[cold]
    fn refill(&self, pool: &Pool, class: Class) -> io::Result<Slot> {
        let free = &self.free[class.index()];
        pool.take(class, MAGAZINE[class.index()] / 2, |number| free.push(number))?;
        let number = free.pop().expect("just filled");
        Ok(Slot { class, number })
    }

    /// Takes a stack back. The caller may still run on it, if it leaves before anybody takes from this magazine again.
    #[inline]
    pub(crate) fn give(&self, slot: Slot) {
        let free = &self.free[slot.class.index()];
        if free.count.get() >= MAGAZINE[slot.class.index()] {
            self.spill(&POOL, slot.class);
        }
        // Pushed last: what went to the depot is not the stack the caller still runs on.
        free.push(slot.number);
    }

    #[cold]
    fn spill(&self, pool: &Pool, class: Class) {
        let half = MAGAZINE[class.index()] / 2;
        let oldest = self.free[class.index()].drain_oldest(half);
        pool.give(class, oldest[..half].iter().copied());
    }

    /// For a worker that is about to sleep: gives a little back of what free stacks should not keep. `true` if there may be more:
    /// then it is called again, unless something has come up meanwhile. `last` says that no other worker is awake: then nobody is left to
    /// use what was kept on evidence.
    ///
    /// Looks at stacks that were not asked how deep they were, its own ones included, at most once in [`LINGER_MS`].
    ///
    /// Called on the worker's own stack: the magazine may hold the one that a coroutine has just left.
    #[cold]
    pub(crate) fn rest(&self, last: bool) -> bool {
        let now = sys::coarse_ms();
        let thorough = now.saturating_sub(self.rested.get()) >= LINGER_MS;
        if !thorough && !last {
            return false;
        }
        let how = How { thorough, most: REST };
        if Class::ALL.into_iter().any(|class| POOL.give_back(class, now, last, how)) {
            return true;
        }
        if thorough {
            for class in Class::ALL {
                let free = &self.free[class.index()];
                let numbers = free.numbers.each_ref().map(Cell::get);
                reclaim::trim(class, &numbers[..free.count.get()], config::kept_of_one(class));
            }
            self.rested.set(now);
        }
        false
    }

    fn return_to(&self, pool: &Pool) {
        for class in Class::ALL {
            let free = &self.free[class.index()];
            let count = free.count.get();
            pool.give(class, free.drain_oldest(count)[..count].iter().copied());
            pool.give_all_back(class, true);
        }
    }
}

impl Drop for Magazine {
    fn drop(&mut self) {
        self.return_to(&POOL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code, reason = "touches stacks as their coroutines would")]

    use super::*;
    use crate::sys::PAGE;
    use crate::sys::inject::{self, Call};
    use std::collections::BTreeSet;

    const SMALL: Class = Class::ALL[0];
    const LARGE: Class = Class::ALL[2];

    /// Takes `count` stacks and touches each; a pool of the test's own is not disturbed by others.
    fn crowd(pool: &Pool, class: Class, count: usize) -> Vec<u32> {
        let numbers: Vec<u32> = (0..count).map(|_| take_one(pool, class).unwrap().number).collect();
        for &number in &numbers {
            touch(class, number, 1);
        }
        numbers
    }

    /// Writes to the uppermost pages of a stack.
    fn touch(class: Class, number: u32, pages: usize) {
        let slot = Slot { class, number };
        for page in 1..=pages {
            // SAFETY: within a stack that this test took.
            unsafe { slot.top().wrapping_sub(page * PAGE).write_volatile(1) };
        }
    }

    fn disperse(pool: &Pool, class: Class, numbers: &[u32]) {
        for half in numbers.chunks(MAGAZINE[class.index()] / 2) {
            pool.give(class, half.iter().copied());
        }
    }

    /// Resident pages of a stack.
    fn resident(class: Class, number: u32) -> usize {
        let mut pages = vec![0; class.usable() / PAGE];
        sys::residency(Slot { class, number }.bottom(), &mut pages).unwrap();
        pages.iter().filter(|&&page| page & 1 != 0).count()
    }

    /// Every stack the pool ever made, if none is out: none twice, none lost.
    fn assert_complete(pool: &Pool, class: Class) {
        let depot = pool.depot(class);
        let all = [&depot.hot, &depot.warm, &depot.lean, &depot.cold, &depot.unguarded];
        let different: BTreeSet<u32> = all.iter().flat_map(|list| list.iter().copied()).collect();
        assert_eq!(all.iter().map(|list| list.len()).sum::<usize>(), depot.made);
        assert_eq!(different.len(), depot.made);
    }

    #[test]
    fn a_crowd_that_ends_is_cold_but_for_the_limit_and_a_batch() {
        let pool = Pool::new();
        let numbers = crowd(&pool, SMALL, 5000);
        assert!(numbers.iter().all(|&number| resident(SMALL, number) == 1));
        disperse(&pool, SMALL, &numbers);
        let warm = numbers.iter().filter(|&&number| resident(SMALL, number) > 0).count();
        let most = config::kept_free(SMALL) + hot_batch(SMALL);
        assert!((config::kept_free(SMALL)..=most).contains(&warm), "{warm} of at most {most}");
        assert_complete(&pool, SMALL);
    }

    #[test]
    fn a_crowd_is_given_back_by_few_calls() {
        let pool = Pool::new();
        let numbers = crowd(&pool, SMALL, 10_000);
        let before = inject::calls();
        disperse(&pool, SMALL, &numbers);
        let calls = inject::calls() - before;
        assert!(calls < 100, "{calls} calls for 10000 stacks");
    }

    #[test]
    fn the_second_of_equal_crowds_earns_its_stacks_and_the_third_finds_them_warm() {
        let pool = Pool::new();
        let mut found = Vec::new();
        for _ in 0..3 {
            let numbers: Vec<u32> = (0..5000).map(|_| take_one(&pool, SMALL).unwrap().number).collect();
            found.push(numbers.iter().filter(|&&number| resident(SMALL, number) > 0).count());
            for &number in &numbers {
                touch(SMALL, number, 1);
            }
            disperse(&pool, SMALL, &numbers);
            // The evidence is of the last second; a machine that took longer is told the time at which it should have come.
            if let Some(then) = &mut pool.depot(SMALL).last_cold {
                *then = sys::coarse_ms();
            }
        }
        assert_eq!(found[0], 0);
        assert!(found[1] < 5000 / 2 && found[2] > 5000 * 9 / 10, "{found:?}");
        pool.give_all_back(SMALL, true);
        assert_eq!(pool.depot(SMALL).lean.len(), config::kept_free(SMALL));
        assert_complete(&pool, SMALL);
    }

    #[test]
    fn what_was_earned_and_not_used_for_a_while_is_lost() {
        let mut depot = Depot::new();
        (depot.earned, depot.epoch, depot.unneeded) = (900, 1, 0);
        depot.make_room(2000).unwrap();
        depot.warm.extend(0..1000);
        depot.age(LINGER_MS);
        assert_eq!(depot.earned, 900, "the while is not over");
        depot.age(LINGER_MS + 1);
        assert_eq!(depot.earned, 900, "all of them were in use at some time of it");
        assert_eq!(depot.take(SMALL, LINGER_MS + 2, 300, |_| ()), 300);
        depot.age(2 * LINGER_MS + 1);
        assert_eq!(depot.earned, 200, "700 never were");
    }

    #[test]
    fn threads_that_give_and_take_at_once_lose_no_stack_and_outrun_no_reclaim() {
        let pool = Pool::new();
        let (threads, rounds, each) = (4, 20, 400);
        let most_hot = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let numbers = crowd(&pool, SMALL, each);
                        disperse(&pool, SMALL, &numbers);
                        let hot = pool.depot(SMALL).hot.len();
                        most_hot.fetch_max(hot, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_complete(&pool, SMALL);
        assert!(pool.depot(SMALL).made <= threads * (each + BATCH));
        // Twice a batch, and what each of those who wait their turn has brought.
        let bound = 2 * hot_batch(SMALL) + threads * MAGAZINE_ROOM / 2;
        let most_hot = most_hot.into_inner();
        assert!(most_hot <= bound, "{most_hot} of {bound} were hot");
    }

    #[test]
    fn evidence_ends_with_its_time_and_has_a_bound() {
        let limit = config::kept_free(LARGE);
        let mut depot = Depot::new();
        depot.cold = (0..1000).collect();
        depot.take(LARGE, 5000, 100, |_| ());
        assert_eq!(depot.earned, 0, "nothing was sent to the cold yet");
        depot.last_cold = Some(5000);
        depot.take(LARGE, 5000 + LINGER_MS, 100, |_| ());
        assert_eq!(depot.earned, 0, "that was too long ago");
        depot.take(LARGE, 4999 + LINGER_MS, 100, |_| ());
        assert_eq!(depot.earned, 100);
        depot.earned = limit * EARNED_AT_MOST - 1;
        depot.take(LARGE, 5001, 100, |_| ());
        assert_eq!(depot.earned, limit * EARNED_AT_MOST);
    }

    #[test]
    fn a_free_stack_that_was_deep_keeps_its_top_pages_only() {
        for class in Class::ALL {
            let pool = Pool::new();
            let numbers = crowd(&pool, class, MAGAZINE[class.index()]);
            for &number in &numbers {
                touch(class, number, class.usable() / PAGE);
                assert_eq!(resident(class, number), class.usable() / PAGE);
            }
            disperse(&pool, class, &numbers);
            pool.give_all_back(class, false);
            for &number in &numbers {
                assert_eq!(resident(class, number) * PAGE, config::kept_of_one(class));
            }
        }
    }

    #[test]
    fn a_large_crowd_leaves_few_page_tables_and_is_guarded_anew() {
        let page_tables = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmPTE:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
        };
        let pool = Pool::new();
        let count = 2 * STRIP;
        let numbers = crowd(&pool, SMALL, count);
        let before = page_tables();
        disperse(&pool, SMALL, &numbers);
        pool.give_all_back(SMALL, true);
        assert_complete(&pool, SMALL);
        let stripped = pool.depot(SMALL).unguarded.len();
        assert!(stripped > count / 2, "{stripped} of {count}");
        // Freed by kernels that can; other tests of this process come and go meanwhile, but with a fraction of this.
        let freed = before.saturating_sub(page_tables());
        if freed < stripped * 34 * 8 / 2 {
            println!("not seen: this kernel keeps page tables, {freed} bytes were freed");
        }
        // Each of them is guarded again before anybody has it.
        let again = crowd(&pool, SMALL, count);
        assert_eq!(pool.depot(SMALL).made, count, "no fresh stack while there are these");
        assert!(again.iter().step_by(100).all(|&number| guard::is_guarded(SMALL, number)));
        disperse(&pool, SMALL, &again);
    }

    #[test]
    fn a_refused_strip_leaves_guards_and_stacks() {
        let pool = Pool::new();
        inject::fail(Call::Unguard, u32::MAX, libc::EINVAL);
        let numbers = crowd(&pool, SMALL, 2 * STRIP);
        disperse(&pool, SMALL, &numbers);
        pool.give_all_back(SMALL, true);
        inject::all_happened();
        assert_complete(&pool, SMALL);
        assert_eq!(pool.depot(SMALL).unguarded.len(), 0);
        assert!(numbers.iter().step_by(100).all(|&number| guard::is_guarded(SMALL, number)));
    }

    #[test]
    fn one_deep_stack_in_a_sample_has_its_whole_batch_trimmed() {
        for deep_each in [SAMPLE - 1, SAMPLE] {
            let pool = Pool::new();
            let numbers = crowd(&pool, SMALL, 4 * SAMPLE);
            for number in numbers.iter().skip(deep_each % SAMPLE).step_by(SAMPLE) {
                touch(SMALL, *number, 16);
            }
            let mut chunk = Vec::with_capacity(CHUNK);
            disperse(&pool, SMALL, &numbers);
            pool.settle_chunk(SMALL, 0, How { thorough: false, most: CHUNK }, pool.depot(SMALL), &mut chunk);
            let seen = deep_each == SAMPLE;
            let counts = |depot: &Depot| (depot.warm.len(), depot.lean.len());
            let all = numbers.len();
            assert_eq!(counts(&pool.depot(SMALL)), if seen { (0, all) } else { (all, 0) });
            pool.give_all_back(SMALL, false);
            assert_eq!(counts(&pool.depot(SMALL)), (0, all), "what the sample missed waits for a rest");
            assert!(numbers.iter().all(|&number| resident(SMALL, number) <= 2));
        }
    }

    #[test]
    fn a_refused_discard_loses_no_stack() {
        for (batch, single) in [(1, 0), (1, 1), (2, 3), (u32::MAX, u32::MAX)] {
            let pool = Pool::new();
            let numbers = crowd(&pool, SMALL, 3000);
            inject::fail(Call::DiscardBatch, batch, libc::EINVAL);
            inject::fail_also(Call::Discard, 1, single, libc::EINVAL);
            disperse(&pool, SMALL, &numbers);
            pool.give_all_back(SMALL, true);
            inject::all_happened();
            assert_complete(&pool, SMALL);
        }
    }

    #[test]
    fn whichever_guard_is_refused_no_stack_is_lost() {
        let _one = guard::METHOD_IN_TESTS.lock().unwrap_or_else(PoisonError::into_inner);
        for (batch, method) in
            [(1, guard::Guard::Protect), (1, guard::Guard::Auto), (u32::MAX, guard::Guard::Auto)]
        {
            let pool = Pool::new();
            let mut made = 0;
            // Three batches; the first refusal comes at the first call, then one call later in each round, until none comes.
            for nth in 1.. {
                guard::set_guard(method);
                inject::fail(Call::GuardBatch, batch, libc::ENOMEM);
                if method == guard::Guard::Auto {
                    inject::fail_also(Call::Guard, nth, 1, libc::EINVAL);
                } else {
                    inject::fail_also(Call::Protect, nth, 1, libc::ENOMEM);
                }
                let mut taken = Vec::new();
                let mut refused = 0;
                while taken.len() < 96 {
                    match take_one(&pool, LARGE) {
                        Ok(slot) => taken.push(slot.number),
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                            refused += 1;
                        }
                    }
                }
                // What a batch of markers refuses, single ones do; what they refuse, `mprotect` does.
                assert_eq!(refused, u32::from(method == guard::Guard::Protect && nth <= 96));
                let over = !inject::all_happened() && nth > 96;
                made = made.max(pool.depot(LARGE).made);
                assert_eq!(pool.depot(LARGE).made, made, "a refusal costs no stack");
                disperse(&pool, LARGE, &taken);
                assert_complete(&pool, LARGE);
                if over {
                    break;
                }
                // Anew, as those that were guarded are not asked about again.
                let mut depot = pool.depot(LARGE);
                let Depot { hot, warm, lean, cold, unguarded, .. } = &mut *depot;
                for list in [hot, warm, lean, cold] {
                    unguarded.append(list);
                }
            }
            assert_eq!(made, 96);
        }
        guard::set_guard(guard::Guard::Auto);
    }

    #[test]
    fn a_magazine_gives_the_last_stack_first_and_spills_the_oldest() {
        let (pool, magazine) = (Pool::new(), Magazine::default());
        let first = magazine.refill(&pool, SMALL).unwrap();
        let taken: Vec<Slot> = (1..32).map(|_| magazine.take(SMALL).unwrap()).collect();
        magazine.give(first);
        magazine.give(taken[0]);
        assert_eq!((magazine.take(SMALL).unwrap(), magazine.take(SMALL).unwrap()), (taken[0], first));
        for slot in [&[first], &taken[..]].concat() {
            magazine.give(slot);
        }
        magazine.spill(&pool, SMALL);
        assert_eq!(magazine.free[SMALL.index()].count.get(), 0);
        assert_eq!(pool.depot(SMALL).hot[0], first.number);
        // Else it would end among the stacks of the process, by its drop.
        magazine.return_to(&pool);
        assert_complete(&pool, SMALL);
    }
}
