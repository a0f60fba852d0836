//! Deadlines, `sleep`, and ticks at an interval.
//!
//! A worker keeps the deadlines of its tasks in a heap. Whoever waits with a deadline pushes an entry; an entry whose wait has ended
//! otherwise is stale and stays until it comes to the top or until stale entries are the majority. They are looked at when the
//! worker has nothing to run, and at every so many picks: a busy worker is late by that much, and reads no clock in between. How late it
//! was at worst is in its counters.
//!
//! An [`Interval`] is arithmetic over `sleep_until` and nothing that the worker knows: whoever waits for no tick costs nothing.

mod frames;
mod heap;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use self::frames::{FrameId, Frames};
use self::heap::Heap;
use crate::metrics::Counters;
use crate::park::Wait;
use crate::sys;
use crate::task::{Interrupt, Kind, Task};

/// A point in time, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    /// The point `duration` from now; the end of time if that is later.
    pub(crate) fn after(duration: Duration) -> Deadline {
        Deadline(sys::now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// In nanoseconds of the monotonic clock.
    pub(crate) fn ns(self) -> u64 {
        self.0
    }

    /// Time from now to the deadline; zero if it has come.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(sys::now_ns()))
    }
}

/// Waits for a time: at least `duration`, and as much longer as the worker takes to come back to this coroutine.
///
/// Suspends, and unwinds if the coroutine is cancelled. Outside a coroutine it lets the OS thread sleep.
#[track_caller]
pub fn sleep(duration: Duration) {
    match Wait::begin(Kind::Sleep) {
        // Published nowhere, so nobody claims it.
        wait @ Wait::Task(_) => {
            wait.wait_until(Some(Deadline::after(duration)), || true);
        }
        Wait::Thread(_) => std::thread::sleep(duration),
    }
}

/// Waits until a point in time: not less, and as much longer as the worker takes to come back to this coroutine. One that has passed
/// lets others run, if there are any.
///
/// Suspends, and unwinds if the coroutine is cancelled. Outside a coroutine it lets the OS thread sleep.
///
/// ```
/// use std::time::{Duration, Instant};
/// use switchmark_runtime::{Builder, sleep_until};
///
/// let end = Instant::now() + Duration::from_millis(2);
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe { Builder::new().run_local(|| sleep_until(end))? };
/// assert!(Instant::now() >= end);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn sleep_until(at: Instant) {
    // The clock of `Deadline` is read after that of `Instant`, so the wait cannot end too early.
    sleep(at.saturating_duration_since(Instant::now()));
}

/// What an [`Interval`] does when a tick was missed: when the next is due already by the time one is served.
///
/// With a period of 10 ms, and somebody who comes for the tick of 10 ms at 25 ms, the next ticks are those of
///
/// | | |
/// |---|---|
/// | `Burst` | 20 (at once), 30, 40 ms |
/// | `Delay` | 35, 45 ms |
/// | `Skip` | 30, 40 ms |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissedTick {
    /// Serves each tick, those that were missed one after another at once: the number of ticks is right in the end.
    #[default]
    Burst,
    /// Counts anew from now: two ticks are never closer than a period.
    Delay,
    /// Leaves out what was missed: ticks stay at whole multiples of the period from the start.
    Skip,
}

/// Ticks at a fixed period; made by [`interval`].
#[derive(Clone, Debug)]
pub struct Interval {
    period: Duration,
    /// When the next tick is due.
    next: Instant,
    missed: MissedTick,
}

/// More than anybody waits for, and little enough to be added to any time that a clock shows.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

/// Ticks every `period`, the first time one period from now.
///
/// Ticks do not drift: each is due a period after the one before was *due*, however late that was served, unless so late that one was
/// missed altogether; see [`Interval::missed_tick`]. A period of more than a hundred years is taken for a hundred.
///
/// ```
/// use std::time::{Duration, Instant};
/// use switchmark_runtime::{Builder, interval};
///
/// let period = Duration::from_millis(1);
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let (first, third) = unsafe {
///     Builder::new().run_local(|| {
///         let mut ticks = interval(period);
///         let first = ticks.tick();
///         ticks.tick();
///         (first, ticks.tick())
///     })?
/// };
/// assert_eq!(third - first, 2 * period);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// If the period is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    let period = period.min(FOR_EVER);
    Interval { period, next: Instant::now() + period, missed: MissedTick::default() }
}

impl Interval {
    /// Says what happens to ticks that nobody came for in time; [`MissedTick::Burst`] if never called.
    #[must_use]
    pub fn missed_tick(mut self, missed: MissedTick) -> Interval {
        self.missed = missed;
        self
    }

    /// The time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next tick, and returns when it was due. One that is due already lets others run, if there are any.
    ///
    /// Suspends, and unwinds if the coroutine is cancelled; the tick then stays to be waited for. Outside a coroutine it lets the OS thread sleep.
    #[track_caller]
    pub fn tick(&mut self) -> Instant {
        let due = self.next;
        sleep_until(due);
        self.next = self.after(due, Instant::now());
        due
    }

    /// When the next tick is due, after the one of `due` was served `now`.
    fn after(&self, due: Instant, now: Instant) -> Instant {
        let next = due + self.period;
        if now < next {
            return next;
        }
        match self.missed {
            MissedTick::Burst => next,
            MissedTick::Delay => now + self.period,
            MissedTick::Skip => {
                let period = self.period.as_nanos();
                let left = period - (now - due).as_nanos() % period;
                now + Duration::from_nanos(u64::try_from(left).expect("FOR_EVER fits"))
            }
        }
    }
}

/// A wait with a deadline. The epoch names it among all waits of that record, so that an entry can tell that it is stale.
#[derive(Clone, Copy, Debug)]
struct Expected {
    task: &'static Task,
    epoch: u32,
}

impl Expected {
    fn is_stale(&self) -> bool {
        // Relaxed: if it is the same, the wait is going on and its task is this worker's, so nobody else writes it.
        self.task.epoch.load(Ordering::Relaxed) != self.epoch
    }
}

/// What a deadline ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Wait(Expected),
    Call(FrameId),
}

impl Ends {
    fn is_stale(&self, frames: &Frames) -> bool {
        match self {
            Ends::Wait(expected) => expected.is_stale(),
            Ends::Call(frame) => !frames.is_open(*frame),
        }
    }
}

/// The deadlines of a worker's tasks.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Heap<Ends>,
    stale: usize,
    frames: Frames,
}

/// Stale entries that are not worth a clean-up.
const FEW: usize = 64;

impl Deadlines {
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Notes the deadline of the wait that `task`, on its own thread, is about to begin.
    pub(crate) fn add(&mut self, task: &'static Task, at: Deadline) {
        // Relaxed: written by the owner alone.
        let epoch = task.epoch.load(Ordering::Relaxed);
        self.heap.push(at.0, Ends::Wait(Expected { task, epoch }));
    }

    /// Notes that this wait has ended, by its deadline or otherwise.
    pub(crate) fn end(&mut self, task: &'static Task, by_deadline: bool) {
        // Relaxed, twice: as in `add`.
        task.epoch.store(task.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if !by_deadline {
            self.one_more_stale();
        }
    }

    fn one_more_stale(&mut self) {
        self.stale += 1;
        if self.stale > FEW.max(self.heap.len() / 2) {
            self.heap.retain(|ends| !ends.is_stale(&self.frames));
            self.stale = 0;
        }
    }

    /// Notes that a call of `timeout` begins in `task`, on its own thread.
    pub(crate) fn open(&mut self, task: &'static Task, at: Deadline) -> FrameId {
        let frame = self.frames.open(task);
        self.heap.push(at.0, Ends::Call(frame));
        frame
    }

    /// Notes that it ends.
    pub(crate) fn close(&mut self, frame: FrameId) {
        let was_due = self.frames.close(frame);
        if !was_due {
            self.one_more_stale();
        }
    }

    /// The calls that are under way.
    pub(crate) fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// The next deadline.
    pub(crate) fn next(&mut self) -> Option<Deadline> {
        while let Some((at, ends)) = self.heap.peek() {
            if !ends.is_stale(&self.frames) {
                return Some(Deadline(at));
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Takes a task for which a deadline has come by `now`, and which of its deadlines that is; counts it if it ends a wait or a call.
    pub(crate) fn due(&mut self, now: Deadline, counters: &Counters) -> Option<(&'static Task, Interrupt)> {
        loop {
            let at = self.next()?; // What it leaves at the top is not stale.
            let (task, why) = match self.heap.pop_due(now.0)? {
                Ends::Wait(Expected { task, .. }) => (task, Some(Interrupt::Deadline)),
                Ends::Call(frame) => {
                    let (task, allowed) = self.frames.is_due(frame);
                    // Deferred, it is thrown by the first suspension point that may.
                    (task, allowed.then_some(Interrupt::Timeout))
                }
            };
            if why == Some(Interrupt::Timeout) || task.wait.get().phase.allows(Interrupt::Deadline) {
                counters.deadlines.bump();
                counters.lateness_ns_max.raise(now.0 - at.0);
            }
            if let Some(why) = why {
                return Some((task, why));
            }
        }
    }

    pub(crate) fn now() -> Deadline {
        Deadline(sys::now_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_tick_bursts_delays_or_is_skipped() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let next = |missed, now| {
            let ticks = interval(ms(10)).missed_tick(missed);
            ticks.after(start + ms(10), start + ms(now)) - start
        };
        // Late or not, nothing is missed before the next is due.
        for missed in [MissedTick::Burst, MissedTick::Delay, MissedTick::Skip] {
            assert_eq!([next(missed, 10), next(missed, 19)], [ms(20), ms(20)], "{missed:?}");
        }
        for (now, burst, delay, skip) in [(20, 20, 30, 30), (25, 20, 35, 30), (119, 20, 129, 120)] {
            assert_eq!(next(MissedTick::Burst, now), ms(burst));
            assert_eq!(next(MissedTick::Delay, now), ms(delay));
            assert_eq!(next(MissedTick::Skip, now), ms(skip));
        }
    }

    #[test]
    fn the_longest_period_is_no_overflow() {
        let ticks = interval(Duration::MAX).missed_tick(MissedTick::Skip);
        let due = ticks.next;
        assert_eq!(ticks.after(due, due + ticks.period) - due, 2 * FOR_EVER);
    }
}
