//! The open loop: requests begin when an outside world would send them, whatever the server does.
//!
//! Begins are a Poisson process of the rate asked for, fixed by the seed before the first request leaves, and each request is of a connection
//! drawn at random: so many clients that know nothing of each other. A latency runs from the *intended* begin to the end of
//! the answer. A connection has one request on its way; what is due on it meanwhile waits in its queue, and that wait counts, as does every
//! delay of this thread. So a server that stalls for 200 ms at 1 kHz has 200 late requests, not one for each connection.
//!
//! Between two begins the thread sleeps, to the nanosecond as far as the kernel goes, and does not spin: in some placements the server
//! shares its CPU.

use super::{LARGEST_REQUEST, Load, PATIENCE, Round, about, stalled};
use fastrand::Rng;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Nanoseconds between the intended begins of a Poisson process; without end, and the same for the same seed.
#[derive(Debug, Clone)]
pub struct Gaps {
    rng: Rng,
    mean_ns: f64,
}

impl Gaps {
    /// So many begins a second on average.
    ///
    /// # Panics
    ///
    /// Where that is none.
    pub fn new(per_second: u64, seed: u64) -> Gaps {
        assert!(per_second > 0, "a process without begins has no gaps");
        Gaps { rng: Rng::with_seed(seed), mean_ns: 1e9 / per_second as f64 }
    }
}

impl Iterator for Gaps {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // One less a number below one: never the logarithm of nothing.
        Some(Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() * self.mean_ns / 1e9))
    }
}

/// The world's side of an open loop.
#[derive(Debug)]
pub(super) struct World {
    gaps: Gaps,
    /// Which connection a request is of.
    rng: Rng,
    /// Intended begins of what is due on each active connection behind the request that is on its way.
    waiting: Vec<VecDeque<Instant>>,
}

impl World {
    pub(super) fn new(per_second: u64, seed: u64, active: usize) -> World {
        let gaps = Gaps::new(per_second, seed);
        World { gaps, rng: Rng::with_seed(!seed), waiting: vec![VecDeque::new(); active] }
    }
}

/// Begins of one round: those that are still to come.
struct Begins {
    next: Instant,
    left: u64,
}

impl Load {
    /// So many requests of an open loop, until all are answered.
    pub(super) fn open_round(&mut self, world: &mut World, requests: u64) -> io::Result<Round> {
        let mut round = Round::default();
        let mut buffer = [0; LARGEST_REQUEST];
        let mut now = Instant::now();
        // Since when nothing was heard of what is on its way.
        let mut heard = now;
        let mut begins = Begins { next: now, left: requests };
        begins.next += world.gap();
        while round.answered < requests {
            if round.sent == round.answered {
                heard = now;
            }
            self.begin_what_is_due(world, &mut begins, now, &mut round)?;
            let until = if begins.left > 0 { begins.next.saturating_duration_since(now) } else { PATIENCE };
            let ready = self.epoll.wait_exactly(until.min(PATIENCE))?;
            now = Instant::now();
            if ready == 0 && round.sent > round.answered && now - heard >= PATIENCE {
                return Err(stalled(&round, requests));
            }
            for n in 0..ready {
                let index = self.epoll.token(n);
                if !self.connections[index].receive(&mut buffer).map_err(|e| about(index, &e))? {
                    continue;
                }
                now = Instant::now();
                heard = now;
                round.take(&self.connections[index], now, &mut self.rng);
                if let Some(begin) = world.waiting[index].pop_front() {
                    self.connections[index].send(begin).map_err(|e| about(index, &e))?;
                    round.sent += 1;
                }
                // Many answers at once must not hold up what is due meanwhile.
                self.begin_what_is_due(world, &mut begins, now, &mut round)?;
            }
        }
        self.answered += round.answered;
        Ok(round)
    }

    /// Sends what is due by now, or queues it on its connection.
    fn begin_what_is_due(
        &mut self,
        world: &mut World,
        begins: &mut Begins,
        now: Instant,
        round: &mut Round,
    ) -> io::Result<()> {
        while begins.left > 0 && begins.next <= now {
            let index = world.rng.usize(..world.waiting.len());
            let connection = &mut self.connections[index];
            if connection.is_busy() {
                world.waiting[index].push_back(begins.next);
            } else {
                connection.send(begins.next).map_err(|e| about(index, &e))?;
                round.sent += 1;
            }
            begins.left -= 1;
            begins.next += world.gap();
        }
        Ok(())
    }
}

impl World {
    fn gap(&mut self) -> Duration {
        self.gaps.next().expect("the gaps are without end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_keep_their_rate_and_their_seed() {
        let gaps = |seed| Gaps::new(1000, seed).take(100_000);
        let sum: Duration = gaps(1).sum();
        // The sum of so many has a deviation of 0.3 %.
        assert!((99.0..101.0).contains(&sum.as_secs_f64()), "{sum:?}");
        let long = gaps(1).filter(|gap| *gap > Duration::from_millis(1)).count();
        assert!(
            (36_000..37_600).contains(&long),
            "{long} of 100 000 above the mean; of an exponential 1/e are"
        );
        assert!(gaps(1).eq(gaps(1)) && gaps(1).ne(gaps(2)));
    }
}
