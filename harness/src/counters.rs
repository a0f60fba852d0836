//! Counters from outside: what the kernel and the processor count of a worker. A state, never a bare zero.
//!
//! Counting is not free. Software counters that are merely attached, not even enabled, make a switch between
//! two threads a third slower (1 297 ns against 1 720 ns, least of 30, five runs alike, on a 2-CPU virtual
//! machine with Linux 6.18), since the kernel then swaps perf contexts at every switch; a coroutine switch,
//! which the kernel does not see, would pay nothing. So they are attached to workers whose time is discarded,
//! and workers that are timed carry none.

mod perf;
pub(crate) mod valgrind;

pub use perf::{Attached, Pair, Reading};

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use switchmark_schema::{Counter, CounterState};

/// An event that a worker can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Name as `perf list` has it.
    pub name: &'static str,
    /// Whether it needs hardware counters; at most four of these are counted at once.
    pub hardware: bool,
    kind: perf::Kind,
    side: perf::Side,
}

impl Event {
    /// Whether a word of `--counters` means it: `cycles` is both sides, `cycles:u` the one in user space.
    fn is_meant_by(&self, word: &str) -> bool {
        word == self.name || self.name.split(':').next() == Some(word)
    }
}

/// Whether an event can be counted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It was opened on this very process.
    Supported,
    /// The machine has no such event.
    Unsupported(String),
    /// The kernel refuses it to this user; the reason ends in the remedy.
    Denied(String),
}

/// Which events a run asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// All that can be had.
    #[default]
    Auto,
    /// None.
    None,
    /// These.
    List(Vec<String>),
}

impl std::str::FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Choice> {
        match text {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            list => {
                let names: Vec<String> = list.split(',').map(str::to_owned).collect();
                let is_known =
                    |name: &str| name == valgrind::NAME || perf::EVENTS.iter().any(|e| e.is_meant_by(name));
                match names.iter().find(|name| !is_known(name)) {
                    None => Ok(Choice::List(names)),
                    Some(unknown) => {
                        let known = perf::EVENTS.iter().map(|e| e.name).chain([valgrind::NAME]);
                        let known: Vec<&str> = known.collect();
                        Err(Error::usage(format!("unknown counter `{unknown}`; known: {}", known.join(", "))))
                    }
                }
            }
        }
    }
}

/// Every event asked for, each probed alone, so that one refusal does not hide the others.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    events: Vec<(Event, Support)>,
    /// Whether valgrind can count instructions, where that was asked for.
    exact: Option<Support>,
}

/// Hardware events at once: what the smallest processors count without multiplexing.
const HARDWARE_AT_ONCE: usize = 4;

impl Probed {
    /// Asks the kernel for each event of the choice; valgrind's count, which takes seconds, is among them only where it is named.
    pub fn probe(choice: &Choice) -> Probed {
        let wanted = |e: &&Event| match choice {
            Choice::Auto => true,
            Choice::None => false,
            Choice::List(names) => names.iter().any(|name| e.is_meant_by(name)),
        };
        let events = perf::EVENTS.iter().filter(wanted).map(|e| (*e, perf::probe(*e))).collect();
        let exact = matches!(choice, Choice::List(names) if names.iter().any(|name| name == valgrind::NAME));
        Probed { events, exact: exact.then(valgrind::support) }
    }

    /// Instructions by valgrind, too.
    #[must_use]
    pub fn and_exact(self) -> Probed {
        Probed { exact: Some(valgrind::support()), ..self }
    }

    /// Whether valgrind can count instructions; none where it is not to.
    pub(crate) fn exact(&self) -> Option<&Support> {
        self.exact.as_ref()
    }

    /// Whether hardware counters can be read.
    pub fn pmu(&self) -> bool {
        self.events.iter().any(|(event, support)| event.hardware && *support == Support::Supported)
    }

    /// The supported events in sets that can be counted without multiplexing, software events in the first.
    pub fn sets(&self) -> Vec<Vec<Event>> {
        let supported =
            self.events.iter().filter(|(_, support)| *support == Support::Supported).map(|(e, _)| *e);
        let (hardware, software): (Vec<Event>, Vec<Event>) = supported.partition(|e| e.hardware);
        let mut sets: Vec<Vec<Event>> = hardware.chunks(HARDWARE_AT_ONCE).map(<[Event]>::to_vec).collect();
        match sets.first_mut() {
            Some(first) => first.extend(software),
            None if !software.is_empty() => sets.push(software),
            None => {}
        }
        sets
    }

    /// What was not counted, with its reason: the half of the counters table that has no numbers.
    pub fn refusals(&self) -> BTreeMap<String, Counter> {
        let refused = |(event, support): &(Event, Support)| {
            let (state, reason) = match support {
                Support::Supported => return None,
                Support::Unsupported(reason) => (CounterState::Unsupported, reason),
                Support::Denied(reason) => (CounterState::Denied, reason),
            };
            Some((event.name.to_owned(), without_value(state, reason)))
        };
        self.events.iter().filter_map(refused).collect()
    }
}

/// A counter that has no value, and why.
pub fn without_value(state: CounterState, reason: &str) -> Counter {
    Counter { state, value: None, per_op: None, share: None, reason: Some(reason.to_owned()) }
}

/// What a counter says of `operations`, from its readings before and after.
pub fn counted(before: Reading, after: Reading, operations: u64) -> Counter {
    let differences = (
        after.count.checked_sub(before.count),
        after.enabled.checked_sub(before.enabled),
        after.running.checked_sub(before.running),
    );
    let (Some(count), Some(enabled), Some(running)) = differences else {
        return without_value(CounterState::Overflow, "it ran backwards");
    };
    if running == 0 {
        return without_value(CounterState::NotCounted, "it was never scheduled");
    }
    let (state, share, value) = if running < enabled {
        // Both fit u64; the product needs the room.
        let scaled = u128::from(count) * u128::from(enabled) / u128::from(running);
        let Ok(scaled) = u64::try_from(scaled) else {
            return without_value(CounterState::Overflow, "the scaled value exceeds 64 bits");
        };
        (CounterState::Scaled, Some(running as f64 / enabled as f64), scaled)
    } else {
        (CounterState::Counted, None, count)
    };
    let per_op = (operations > 0).then(|| value as f64 / operations as f64);
    Counter { state, value: Some(value), per_op, share, reason: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(count: u64, enabled: u64, running: u64) -> Reading {
        Reading { count, enabled, running }
    }

    #[test]
    fn a_counter_that_ran_all_the_time_is_taken_as_it_is() {
        let counter = counted(reading(10, 100, 100), reading(30, 200, 200), 10);
        assert_eq!((counter.state, counter.value), (CounterState::Counted, Some(20)));
        assert!((counter.per_op.unwrap() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn multiplexing_scales_and_says_so() {
        let counter = counted(reading(0, 0, 0), reading(20, 200, 50), 1);
        assert_eq!((counter.state, counter.value), (CounterState::Scaled, Some(80)));
        assert!((counter.share.unwrap() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_counter_without_a_value_has_a_reason_and_never_a_zero() {
        let never = counted(reading(0, 0, 0), reading(0, 200, 0), 1);
        let backwards = counted(reading(5, 0, 0), reading(4, 1, 1), 1);
        let huge = counted(reading(0, 0, 0), reading(u64::MAX, 1000, 1), 1);
        assert_eq!(never.state, CounterState::NotCounted);
        assert_eq!(backwards.state, CounterState::Overflow);
        assert_eq!(huge.state, CounterState::Overflow);
        for counter in [never, backwards, huge] {
            assert!(counter.value.is_none() && counter.reason.is_some());
        }
    }

    #[test]
    fn hardware_events_are_dealt_into_sets_of_four() {
        let events = perf::EVENTS.iter().map(|e| (*e, Support::Supported)).collect();
        let probed = Probed { events, exact: None };
        let sets = probed.sets();
        assert!(sets.iter().all(|set| set.iter().filter(|e| e.hardware).count() <= 4));
        assert_eq!(sets.iter().map(Vec::len).sum::<usize>(), perf::EVENTS.len());
        assert!(probed.pmu() && probed.refusals().is_empty());
    }

    #[test]
    fn a_machine_without_hardware_counters_keeps_its_software_ones() {
        let refuse = |e: &Event| {
            let support = if e.hardware { Support::Unsupported("none".into()) } else { Support::Supported };
            (*e, support)
        };
        let probed = Probed { events: perf::EVENTS.iter().map(refuse).collect(), exact: None };
        assert_eq!(probed.sets().len(), 1);
        assert!(!probed.pmu());
        assert!(probed.refusals().values().all(|c| c.reason.is_some() && c.value.is_none()));
        assert!(Probed::probe(&Choice::None).sets().is_empty());
    }

    #[test]
    fn a_word_means_both_sides_and_a_suffix_one() {
        let meant = |word: &str| perf::EVENTS.iter().filter(|e| e.is_meant_by(word)).count();
        assert_eq!(
            (meant("cycles"), meant("cycles:u"), meant("task-clock"), meant("cycles:x")),
            (2, 1, 1, 0)
        );
    }

    #[test]
    fn an_unknown_counter_is_refused_by_name() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cycles,task-clock".parse(), Ok(Choice::List(vec!["cycles".into(), "task-clock".into()])));
        assert!("cycles,typos".parse::<Choice>().unwrap_err().to_string().contains("typos"));
    }
}
