//! Who sleeps, who looks for work, and whom to wake: one word of counts and the set of sleepers.
//!
//! Waking a worker for each piece of work costs a system call each and wakes more than can find some; waking too few leaves work
//! queued beside a core that idles. The rule, after Go's `proc.go` and tokio's `idle.rs`: **while somebody searches, nobody needs
//! to be woken, and the last to stop searching makes up for it.** Only work that any worker may take is spoken of here. What
//! belongs to one worker (a started coroutine that was woken, a timer) comes to it through its inbox and wakes it there.
//!
//! The word counts the *awake* and, among them, the *searching*. It is **watched** while somebody searches or all are awake: then
//! somebody will yet look into every queue before it sleeps. It is *unwatched* otherwise.
//!
//! **Submitter** (any thread that makes work visible, a worker that does so while it does not search included):
//!
//! - S1. Push into a ring or the injector.
//! - S2. `SeqCst` fence.
//! - S3. Read the word. Watched: done.
//! - S4. Under the lock of the set read it again; if it is still unwatched take a sleeper out and count it awake and searching on
//!   its behalf.
//! - S5. Unpark it. (S2 to S4 are [`Idle::worker_to_wake`].)
//!
//! **Worker** that has nothing left of its own:
//!
//! - W1. [`Idle::begin_search`]. Refused: enough are at it, go on at W4.
//! - W2. Look for work in all queues. Stolen work that is not run at once goes into the own ring, visible to others.
//! - W3. Found: [`Idle::end_search`], and if it says so one more is woken, S2 to S5. Run it.
//! - W4. Found nothing, or refused: [`Idle::sleep`]. Under the lock it enters the set and is counted out; then a `SeqCst` fence. It says
//!   whether *nobody searches any more*.
//! - W5. If so, look whether any queue has something, the injector first; no need to take it. If one has: W7, then W1 *before* any of
//!   it is taken. Who takes some of it without searching wakes nobody for the rest.
//! - W6. Park. The parker keeps a token, so that an unpark that comes before it is not lost; or one that comes from elsewhere later.
//! - W7. However it woke: [`Idle::rise`]. True: a submitter has counted it awake and searching, go on at W2 (or, with work of its own at
//!   hand, at W3). False: it takes itself out of the set, is counted awake, and goes on as it likes.
//!
//! **No wake is lost.** Let a submitter be at S3, its work pushed and not taken.
//!
//! *Case 1: it reads an unwatched word.* At S4 it wakes a sleeper, who searches, or finds the word watched, which is case 2 with a
//! later read.
//!
//! *Case 2: it reads a watched word.* Let X be the first change after the value it read that leaves the word unwatched. Without
//! one, it is watched for ever: then a searcher never ends its search, or all workers stay awake with work of their own, and nobody
//! idles. With one, X is made at W3 or at W4 by somebody who then passes a fence; it says so because then nobody searches any more.
//! The submitter's fence comes before its read, and its read comes before X, so its fence comes before that one in the order of all
//! fences, and every look behind the second fence sees what was pushed. That look is taken by
//!
//! - W3: the worker that is woken, as it wakes one or finds the word watched again (this case with a later read);
//! - W4: the worker itself, at W5. It sees the work, unless somebody took it. If it sees some, it goes on to W1. There it is
//!   counted as searching, or refused because somebody else is: in both cases the word is watched again, by somebody who has yet to
//!   leave by W3 or W4.
//!
//! **Work between two queues** must not be out of everybody's sight while nobody answers for it:
//!
//! - A batch from the injector is in the mover's ring before the injector's length says that it is gone, and a look asks the injector
//!   first and then the rings. So a look finds it in one or the other, whoever moves it, searching or not.
//! - Stolen work is out of sight for a moment. Only searchers steal, and they stop searching after that: W3 releases and W4 acquires,
//!   so if W4 comes later, W5 sees the thief's ring; if it comes earlier, the thief is still searching.
//! - On overflow a half is out of sight as well. Its owner is in the middle of a push, and passes S2 to S5 when all of it is to be seen.
//!
//! **Why fences.** S1, S3 against W4, W5 is a store and a load on either side, in need of the one total order; `SeqCst` on the
//! operations themselves would do for the processor, but loom takes it for `AcqRel` (loom#180) and could not check this. No edge
//! between two threads that publishes data rests on the fences alone.
//!
//! **Rejected.** *A recheck by the last searcher only* (tokio, Go): a worker that was refused the search and goes to sleep may be
//! the change that leaves a word unwatched, "all awake, none searching", on which a submitter relied. *A set without a lock*, a bit
//! for each worker: the word and the set change together, and who does that is about to make a system call. *Waking the longest
//! sleeper*: the latest has the warmer cache.

use std::fmt;
use std::sync::PoisonError;

use crate::atomic::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// Most workers that a runtime may have.
pub(crate) const MAX_WORKERS: usize = 1024;

/// A worker awake, in the word.
const AWAKE: u64 = 1 << 32;
/// A worker searching, in the word; it is counted as awake too.
const SEARCHING: u64 = 1;

/// The word, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counts(u64);

impl Counts {
    fn awake(self) -> u64 {
        self.0 / AWAKE
    }

    fn searching(self) -> u64 {
        self.0 % AWAKE
    }
}

#[repr(align(128))] // Read at every submission: in no line that is written more often.
pub(crate) struct Idle {
    counts: AtomicU64,
    workers: u64,
    /// The sleepers, latest last. Under its lock the awake are as many as are not in it.
    sleepers: Mutex<Vec<usize>>,
}

impl Idle {
    /// For workers with the numbers from 0; all of them are awake, and none searches.
    pub(crate) fn new(workers: usize) -> Idle {
        assert!((1..=MAX_WORKERS).contains(&workers), "{workers} workers: there are 1 to {MAX_WORKERS}");
        let sleepers = Mutex::new(Vec::with_capacity(workers));
        let workers = workers as u64;
        Idle { counts: AtomicU64::new(workers * AWAKE), workers, sleepers }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        // Nothing panics under it; the room was reserved.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_watched(&self) -> bool {
        // Relaxed: the fence before it orders it against W4, and under the lock the lock does.
        let counts = Counts(self.counts.load(Ordering::Relaxed));
        counts.searching() > 0 || counts.awake() == self.workers
    }

    /// S2 to S4: whom to unpark after a push, if anybody. It is counted as awake and searching already.
    ///
    /// Costs a fence. Only a worker that has no colleagues need not ask: it is awake.
    #[inline]
    pub(crate) fn worker_to_wake(&self) -> Option<usize> {
        // Pairs with the fence in `sleep`, and with itself in a worker that ended its search.
        fence(Ordering::SeqCst);
        if self.is_watched() { None } else { self.take_sleeper() }
    }

    #[cold]
    fn take_sleeper(&self) -> Option<usize> {
        let mut sleepers = self.lock();
        if self.is_watched() {
            return None;
        }
        let latest = sleepers.pop();
        debug_assert!(latest.is_some(), "not all are awake, so somebody is in the set");
        // Relaxed: whoever relies on this count relies on that worker's leaving by W3 or W4, which releases. An exchange, since
        // others begin and end their search without the lock.
        self.counts.fetch_add(AWAKE + SEARCHING, Ordering::Relaxed);
        latest
    }

    /// W1: whether the caller, who is awake, may search; it is counted then. At most half of the awake may, and one always.
    #[inline]
    pub(crate) fn begin_search(&self) -> bool {
        // Relaxed, all: what a submitter relies on is how the search is left.
        let mut seen = self.counts.load(Ordering::Relaxed);
        while 2 * Counts(seen).searching() < Counts(seen).awake() {
            let to = seen + SEARCHING;
            match self.counts.compare_exchange_weak(seen, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// W3: a searcher found work and stops searching. True: it was the last and has to wake one more ([`Idle::worker_to_wake`]).
    #[inline]
    #[must_use = "the last searcher wakes another"]
    pub(crate) fn end_search(&self) -> bool {
        // Release: pairs with the Acquire in `sleep`, which then sees what this searcher moved to its own ring. Acquire: pairs with
        // this Release in those that stopped before, on behalf of whoever is woken.
        let before = Counts(self.counts.fetch_sub(SEARCHING, Ordering::AcqRel));
        debug_assert!(before.searching() > 0, "a search was begun");
        before.searching() == 1
    }

    /// W4: enters the set of sleepers. True: nobody searches any more, and the caller has to look at all queues (W5) before it parks.
    #[must_use = "nobody else will look"]
    pub(crate) fn sleep(&self, worker: usize, was_searching: bool) -> bool {
        let leave = if was_searching { AWAKE + SEARCHING } else { AWAKE };
        let mut sleepers = self.lock();
        debug_assert!(!sleepers.contains(&worker), "worker {worker} sleeps already");
        sleepers.push(worker);
        // Acquire: pairs with the Release in `end_search`. The fence below would do, but ThreadSanitizer does not see fences.
        let before = Counts(self.counts.fetch_sub(leave, Ordering::Acquire));
        drop(sleepers);
        // Pairs with the fence in `worker_to_wake`.
        fence(Ordering::SeqCst);
        Counts(before.0 - leave).searching() == 0
    }

    /// Whether all workers sleep; a snapshot, but exact for the last that was counted out.
    pub(crate) fn is_nobody_awake(&self) -> bool {
        // Relaxed: of those who leave at once, the last reads its own exchange or a later one.
        Counts(self.counts.load(Ordering::Relaxed)).awake() == 0
    }

    /// W7: a worker wakes, or decides not to sleep after all. True: somebody took it out of the set and counted it awake and searching.
    pub(crate) fn rise(&self, worker: usize) -> bool {
        let mut sleepers = self.lock();
        // From the end: whoever changes its mind has only just come.
        let Some(place) = sleepers.iter().rposition(|&sleeper| sleeper == worker) else {
            return true;
        };
        sleepers.remove(place);
        // Relaxed: to be awake promises nothing that W4 would not keep. An exchange, as in `take_sleeper`.
        self.counts.fetch_add(AWAKE, Ordering::Relaxed);
        false
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for people.
        let counts = Counts(self.counts.load(Ordering::Relaxed));
        f.debug_struct("Idle")
            .field("workers", &self.workers)
            .field("awake", &counts.awake())
            .field("searching", &counts.searching())
            .finish_non_exhaustive()
    }
}

/// Workers that keep the protocol, over real rings and a real injector, with elements that are nothing but addresses.
#[cfg(test)]
mod world {
    use super::*;
    use crate::atomic::testing::{Arc, Condvar, thread};
    use crate::sched::injector::Injector;
    use crate::sched::ring::Ring;
    use std::ptr::{self, NonNull};
    // What the test itself knows is no part of the model: std's, which a checker neither interleaves nor reorders.
    use std::sync::atomic::AtomicUsize as Known;

    #[derive(Debug)]
    struct Parker {
        token: Mutex<bool>,
        come: Condvar,
    }

    impl Parker {
        fn new() -> Parker {
            Parker { token: Mutex::new(false), come: Condvar::new() }
        }

        fn unpark(&self) {
            *self.token.lock().unwrap() = true;
            self.come.notify_one();
        }

        fn park(&self) {
            let mut token = self.token.lock().unwrap();
            while !*token {
                token = self.come.wait(token).unwrap();
            }
            *token = false;
        }
    }

    #[derive(Debug)]
    pub(super) struct World {
        idle: Idle,
        rings: Vec<Ring<u8>>,
        injector: Injector<u8>,
        parkers: Vec<Parker>,
        /// Elements that the world will see.
        elements: usize,
        /// Whoever takes an element runs it until so many are taken: a wake too few is then a deadlock, even if somebody is awake.
        together: usize,
        taken: Known,
    }

    impl World {
        pub(super) fn new(workers: usize, elements: usize, together: usize) -> Arc<World> {
            Arc::new(World {
                idle: Idle::new(workers),
                rings: (0..workers).map(|_| Ring::new()).collect(),
                injector: Injector::new(),
                parkers: (0..workers).map(|_| Parker::new()).collect(),
                elements,
                together,
                taken: Known::new(0),
            })
        }

        pub(super) fn start(world: &Arc<World>, worker: usize) -> thread::JoinHandle<()> {
            let world = Arc::clone(world);
            thread::spawn(move || world.work(worker))
        }

        pub(super) fn taken(&self) -> usize {
            self.taken.load(Ordering::SeqCst)
        }

        fn wake_one(&self) {
            if let Some(worker) = self.idle.worker_to_wake() {
                self.parkers[worker].unpark();
            }
        }

        fn element() -> NonNull<u8> {
            NonNull::new(ptr::without_provenance_mut(1)).expect("1 is not null")
        }

        /// From outside, one at a time.
        pub(super) fn inject(&self, elements: usize) {
            for _ in 0..elements {
                self.injector.push(Self::element()).unwrap();
                self.wake_one();
            }
        }

        /// From outside, all at once.
        pub(super) fn inject_batch(&self, elements: usize) {
            self.injector.push_batch(&vec![Self::element(); elements]).unwrap();
            self.wake_one();
        }

        /// As a worker that pushes to its ring, one at a time, and never looks into it.
        pub(super) fn push(&self, worker: usize, elements: usize) {
            for _ in 0..elements {
                self.rings[worker].push(Self::element(), |batch| self.injector.push_batch(batch).unwrap());
                self.wake_one();
            }
        }

        /// As a worker that fills its ring with all at once, and never looks into it.
        pub(super) fn fill(&self, worker: usize, elements: usize) {
            self.rings[worker].fill((0..elements).map(|_| Self::element()));
            self.wake_one();
        }

        /// As a worker that, without searching, moves a batch from the injector to its ring and runs the oldest.
        pub(super) fn move_batch(&self, worker: usize, elements: usize) {
            if let Some(_element) = self.injector.pop_batch(elements, &self.rings[worker]) {
                self.run(worker);
            }
        }

        fn run(&self, worker: usize) {
            let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
            if taken == self.together || taken == self.elements {
                self.parkers.iter().for_each(Parker::unpark);
            }
            while self.taken() < self.together {
                self.parkers[worker].park();
            }
        }

        fn find(&self, worker: usize) -> Option<NonNull<u8>> {
            let own = &self.rings[worker];
            let workers = self.rings.len();
            let mut victims = (1..workers).map(|step| &self.rings[(worker + step) % workers]);
            victims.find_map(|victim| victim.steal_into(own)).or_else(|| self.injector.pop_batch(2, own))
        }

        fn is_any_queued(&self) -> bool {
            !self.injector.is_empty() || self.rings.iter().any(|ring| !ring.is_empty())
        }

        /// W1 to W7, until all elements are taken.
        pub(super) fn work(&self, worker: usize) {
            let mut searching = false;
            while self.taken() < self.elements {
                if let Some(_element) = self.rings[worker].pop() {
                    if searching {
                        self.stop_searching();
                    }
                    searching = false;
                    self.run(worker);
                    continue;
                }
                searching = searching || self.idle.begin_search();
                if searching && let Some(_element) = self.find(worker) {
                    self.stop_searching();
                    searching = false;
                    self.run(worker);
                    continue;
                }
                let look = self.idle.sleep(worker, searching);
                if !(look && self.is_any_queued()) {
                    self.parkers[worker].park();
                }
                searching = self.idle.rise(worker);
            }
        }

        fn stop_searching(&self) {
            if self.idle.end_search() {
                self.wake_one();
            }
        }
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::world::World;
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn counts(idle: &Idle) -> (u64, u64) {
        let counts = Counts(idle.counts.load(Ordering::Relaxed));
        (counts.awake(), counts.searching())
    }

    #[test]
    fn nobody_is_woken_while_all_are_awake_or_somebody_searches() {
        let idle = Idle::new(3);
        assert_eq!(idle.worker_to_wake(), None, "all are awake");
        assert!(idle.sleep(2, false));
        assert!(idle.begin_search());
        assert_eq!(idle.worker_to_wake(), None, "somebody searches");
        assert!(idle.end_search());
        assert_eq!(idle.worker_to_wake(), Some(2));
        assert_eq!(counts(&idle), (3, 1));
        assert!(idle.rise(2), "it was counted on its behalf");
        assert_eq!(counts(&idle), (3, 1));
    }

    #[test]
    fn the_latest_sleeper_is_woken_first() {
        let idle = Idle::new(4);
        for worker in [1, 3, 2] {
            assert!(idle.sleep(worker, false));
        }
        let mut woken = Vec::new();
        while let Some(worker) = idle.worker_to_wake() {
            woken.push(worker);
            assert!(idle.end_search());
        }
        assert_eq!(woken, [2, 3, 1]);
    }

    #[test]
    fn at_most_half_of_the_awake_search_and_one_always() {
        for (workers, most) in [(1, 1), (2, 1), (3, 2), (4, 2), (9, 5)] {
            let idle = Idle::new(workers);
            let searching = (0..workers).filter(|_| idle.begin_search()).count();
            assert_eq!(searching, most, "of {workers}");
            for last in (0..searching).rev() {
                assert_eq!(idle.end_search(), last == 0);
            }
        }
    }

    #[test]
    fn who_leaves_nobody_searching_has_to_look_again() {
        let idle = Idle::new(4);
        assert!(idle.begin_search() && idle.begin_search());
        assert!(!idle.sleep(0, false), "two search");
        assert!(!idle.sleep(1, true), "one searches");
        assert!(idle.sleep(2, true), "the last one");
        assert!(idle.sleep(3, false), "none searches, and nobody else is awake");
        assert_eq!(counts(&idle), (0, 0));
    }

    #[test]
    fn who_changes_its_mind_is_not_woken() {
        let idle = Idle::new(2);
        assert!(idle.sleep(0, false));
        assert!(idle.sleep(1, false));
        assert!(!idle.rise(1));
        assert_eq!(counts(&idle), (1, 0));
        assert_eq!(idle.worker_to_wake(), Some(0));
        assert!(idle.rise(0));
        assert_eq!(counts(&idle), (2, 1));
    }

    #[test]
    #[should_panic(expected = "1025 workers: there are 1 to 1024")]
    fn too_many_workers_are_refused() {
        let _ = Idle::new(MAX_WORKERS + 1);
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_submission_that_wakes_nobody_costs_one_fence() {
        use crate::atomic::locked_operations;
        let idle = Idle::new(2);
        let before = locked_operations();
        assert_eq!(idle.worker_to_wake(), None);
        assert_eq!(locked_operations() - before, 1);
    }

    /// Runs rounds of a world on real threads, workers from `first` on; a wake that is lost would make one hang.
    fn rounds(first: usize, elements: usize, together: usize, submit: fn(&World)) {
        const WORKERS: usize = 4;
        for round in 0..300 {
            let world = World::new(WORKERS, elements, together);
            let (ended, end) = mpsc::channel();
            let here = std::sync::Arc::clone(&world);
            std::thread::spawn(move || {
                let workers: Vec<_> = (first..WORKERS).map(|worker| World::start(&here, worker)).collect();
                submit(&here);
                for worker in workers {
                    worker.join().unwrap();
                }
                ended.send(()).unwrap();
            });
            // No measure of anything: far beyond what a round takes, so that a hang becomes a failure with a picture.
            let end = end.recv_timeout(Duration::from_mins(1));
            assert!(end.is_ok(), "round {round} hangs: {world:#?}");
            assert_eq!(world.taken(), elements);
        }
    }

    fn move_some_and_run_one(world: &World) {
        world.inject_batch(4);
        world.move_batch(0, 4);
        // Others may have been faster, and then one is left for worker 0.
        world.work(0);
    }

    #[test]
    fn no_wake_is_lost_under_stress() {
        rounds(0, 40, 0, |world| world.inject(40));
        rounds(1, 40, 0, |world| world.push(0, 40));
    }

    #[test]
    fn nobody_idles_beside_queued_work_under_stress() {
        rounds(0, 4, 4, |world| world.inject(4));
        rounds(0, 4, 4, |world| world.inject_batch(4));
        rounds(1, 3, 3, |world| world.push(0, 3));
        rounds(1, 3, 3, |world| world.fill(0, 3));
        rounds(1, 4, 4, move_some_and_run_one);
    }
}

/// Every interleaving of a submitter and two workers. A lost wake leaves all threads blocked, which loom reports.
#[cfg(all(test, loom))]
mod model {
    use super::world::World;

    /// Two, or as many as `scripts/loom` asks for.
    fn workers() -> usize {
        std::env::var("LOOM_WORKERS").map_or(2, |text| text.parse().expect("LOOM_WORKERS is a number"))
    }

    /// Workers from `first` on, and `submit` on a thread of its own: as worker 0 if that is none of them.
    fn model(first: usize, elements: usize, together: usize, submit: fn(&World)) {
        let end = first + workers();
        loom::model(move || {
            let world = World::new(end, elements, together);
            let workers: Vec<_> = (first..end).map(|worker| World::start(&world, worker)).collect();
            submit(&world);
            for worker in workers {
                worker.join().unwrap();
            }
            assert_eq!(world.taken(), elements);
        });
    }

    fn from_outside(elements: usize, together: usize, submit: fn(&World)) {
        model(0, elements, together, submit);
    }

    /// Worker 0 is always awake, and takes nothing unless `submit` says so.
    fn from_a_worker(elements: usize, together: usize, submit: fn(&World)) {
        model(1, elements, together, submit);
    }

    #[test]
    fn what_is_pushed_is_taken() {
        from_outside(2, 0, |world| world.inject(2));
    }

    #[test]
    fn two_elements_from_outside_find_a_worker_each() {
        from_outside(2, 2, |world| world.inject(2));
    }

    #[test]
    fn a_batch_from_outside_finds_a_worker_each() {
        from_outside(2, 2, |world| world.inject_batch(2));
    }

    #[test]
    fn two_elements_of_a_worker_find_a_worker_each() {
        from_a_worker(2, 2, |world| world.push(0, 2));
    }

    #[test]
    fn what_a_mover_put_into_its_ring_finds_a_worker_each() {
        from_a_worker(3, 3, |world| {
            world.inject_batch(3);
            world.move_batch(0, 3);
            world.work(0);
        });
    }

    #[test]
    fn what_a_thief_put_into_its_ring_finds_another_worker() {
        from_a_worker(3, 2, |world| world.fill(0, 3));
    }
}
