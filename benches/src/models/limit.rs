//! `limit`: units are started, and all of them live, until there is no room for more.
//!
//! **Work.** `iterations` is the most that are asked for. Each unit reports once and parks. The driver starts a batch, waits until all of it has
//! reported, looks at what is used, and goes on. It stops at a refusal, when a batch does not come to run, or before a batch that would not
//! fit: a thread that finds no room for its signal stack takes the process down, so limits are met to within a batch, and not run into. What
//! the machine has for all is left to others: half of the memory that was available, a tenth of the threads. Then all are woken and joined.
//! **Ledger.** Units that have reported, all alive at once. `limit`: what was met, with its value as the system says it.
//! **Check.** The sum of what the units return, 1 if they lived before it was over: one for each.
//!
//! That a spawn succeeds says little: the runtime's coroutines take their stack when they first run, and wait while there is none.

use super::Opened;
use crate::concurrency::{Timed, UnitOptions};
use crate::sys;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use switchmark_harness::environment::proc_field;
use switchmark_harness::protocol::{Prepare, Sample};

/// Units between two looks at what is used; fewer in the beginning, when a unit may bring more than the next ones: an arena of the heap.
const BATCH: u64 = 256;
/// The stack that is asked for: the least that both sides have.
const STACK: usize = 64 << 10;
/// Turns that a batch gets at once, and then how long nobody may have come to run.
const TURNS: u32 = 1000;
const PAUSE_NS: u64 = 1_000_000;
const PAUSES: u32 = 300;

struct Shared<C: Timed> {
    reported: AtomicU64,
    over: AtomicBool,
    parked: Mutex<Vec<C::Unparker>>,
}

/// Opens the cell.
pub fn open<C: Timed>(_: &Prepare) -> Opened {
    let options = UnitOptions { stack: Some(STACK), cpu: None };
    // What the first unit brings is no other's: a reservation, a heap.
    C::join(C::spawn(options, || ()).map_err(|e| format!("cannot start a unit: {e}"))?);
    Ok(Box::new(move |iterations| {
        let start = C::stamp();
        let shared = Arc::new(Shared::<C> {
            reported: AtomicU64::new(0),
            over: AtomicBool::new(false),
            parked: Mutex::default(),
        });
        let mut units = Vec::new();
        let mut limit = fill(&shared, options, iterations, &mut units);
        // Relaxed: whoever reports later does not change what lived at once, and nothing else is read by it.
        let lived = shared.reported.load(Ordering::Relaxed);
        // Release: pairs with the Acquires in `live`.
        shared.over.store(true, Ordering::Release);
        let parked = std::mem::take(&mut *shared.parked.lock().unwrap_or_else(PoisonError::into_inner));
        parked.iter().for_each(C::unpark);
        let mut check = 0;
        for unit in units {
            match C::try_join(unit) {
                Ok(one) => check += one,
                // Who was refused knows best; which of them it was says nothing.
                Err(reason) => limit = reason.rsplit("never ran: ").next().unwrap_or_default().into(),
            }
        }
        Sample {
            iterations,
            units: lived,
            peak_live: lived,
            check,
            elapsed_ns: C::stamp() - start,
            limit: Some(limit),
            ..Sample::default()
        }
    }))
}

/// Starts units until there is a limit; says which.
fn fill<C: Timed>(
    shared: &Arc<Shared<C>>,
    options: UnitOptions,
    most: u64,
    units: &mut Vec<C::Handle<u64>>,
) -> String {
    let mut meters = Meter::all();
    loop {
        let asked = BATCH.min(units.len() as u64 + 1).min(most - units.len() as u64);
        if asked == 0 {
            return format!("the {most} units that were asked for at most");
        }
        for _ in 0..asked {
            let unit = Arc::clone(shared);
            match C::spawn(options, move || live(&unit)) {
                Ok(unit) => units.push(unit),
                Err(error) => return format!("a refusal: {error}"),
            }
        }
        if !have_reported(shared, units.len() as u64) {
            let near = meters.iter_mut().find_map(|meter| meter.is_used(99, 0));
            return near
                .unwrap_or_else(|| "no further unit came to run, and no limit known here is used up".into());
        }
        let more = if asked < BATCH { 2 } else { 1 };
        if let Some(limit) = meters.iter_mut().find_map(|meter| meter.is_used(100, more)) {
            return limit;
        }
    }
}

/// Lets units run until so many have reported. `false` if for a while none did.
fn have_reported<C: Timed>(shared: &Shared<C>, units: u64) -> bool {
    // Relaxed: a number that grows; what units leave behind is under the lock.
    let reported = || shared.reported.load(Ordering::Relaxed);
    for _ in 0..TURNS {
        if reported() >= units {
            return true;
        }
        C::yield_now();
    }
    let (mut last, mut idle) = (reported(), 0);
    while last < units && idle < PAUSES {
        C::sleep_until(C::stamp() + PAUSE_NS);
        let now = reported();
        idle = if now > last { 0 } else { idle + 1 };
        last = now;
    }
    last >= units
}

/// The life of a unit: report, then park until there is a limit. Returns whether it lived before that.
fn live<C: Timed>(shared: &Shared<C>) -> u64 {
    // Acquire, here and below: pairs with the Release in `open`.
    if shared.over.load(Ordering::Acquire) {
        return 0;
    }
    shared.parked.lock().unwrap_or_else(PoisonError::into_inner).push(C::unparker());
    // Relaxed: counts, and publishes nothing.
    shared.reported.fetch_add(1, Ordering::Relaxed);
    while !shared.over.load(Ordering::Acquire) {
        C::park();
    }
    1
}

/// Something of which there is only so much.
struct Meter {
    /// With its value.
    name: String,
    /// How much may be used.
    most: u64,
    used: Box<dyn Fn() -> Option<u64>>,
    /// What was used when it was last looked at.
    last: u64,
}

impl Meter {
    /// Those that the system has a value for.
    fn all() -> Vec<Meter> {
        let available = || field("/proc/meminfo", "MemAvailable:").map(|kib| kib << 10);
        let before = available().unwrap_or(0);
        let share = |name: &str, path: &str| {
            number(path)
                .map(|n| (format!("nine tenths of {name} = {n}, which all programs share"), n / 10 * 9))
        };
        let meters = [
            (
                number("/proc/sys/vm/max_map_count").map(|n| (format!("vm.max_map_count = {n}"), n)),
                Box::new(mappings) as Box<dyn Fn() -> Option<u64>>,
            ),
            (
                sys::address_space_limit().map(|n| (format!("RLIMIT_AS = {n} bytes"), n)),
                Box::new(|| field("/proc/self/status", "VmSize:").map(|kib| kib << 10)),
            ),
            (share("kernel.pid_max", "/proc/sys/kernel/pid_max"), Box::new(threads)),
            (share("kernel.threads-max", "/proc/sys/kernel/threads-max"), Box::new(threads)),
            (
                Some((format!("half of the {before} bytes of memory that were available"), before / 2)),
                Box::new(move || Some(before.saturating_sub(available()?))),
            ),
        ];
        let with_value = meters.into_iter().filter_map(|(limit, used)| {
            let (name, most) = limit?;
            let last = used()?;
            Some(Meter { name, most, used, last })
        });
        with_value.collect()
    }

    /// Its name, where so many per cent of it are used, or would be if so many times as much came as since the last look.
    fn is_used(&mut self, percent: u64, times: u64) -> Option<String> {
        let used = (self.used)()?;
        let more = used.saturating_sub(self.last);
        self.last = used;
        let reached = used + times * more >= self.most / 100 * percent;
        reached.then(|| format!("{}: {used} are used, and the last units took {more}", self.name))
    }
}

/// Lines of this process's map.
fn mappings() -> Option<u64> {
    Some(fs::read_to_string("/proc/self/maps").ok()?.lines().count() as u64)
}

/// Threads of the whole machine: what follows the stroke in `0.1 0.1 0.1 1/123 4567`.
fn threads() -> Option<u64> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split_once('/')?.1.split(' ').next()?.parse().ok()
}

fn field(path: &str, name: &str) -> Option<u64> {
    proc_field(&fs::read_to_string(path).ok()?, name)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_met_before_the_batch_that_would_not_fit() {
        let used = Arc::new(AtomicU64::new(100));
        let read = Arc::clone(&used);
        let mut meter = Meter {
            name: "chairs = 1000".into(),
            most: 1000,
            used: Box::new(move || Some(read.load(Ordering::Relaxed))),
            last: 100,
        };
        // Relaxed: one thread.
        let mut at = |n| {
            used.store(n, Ordering::Relaxed);
            meter.is_used(100, 1)
        };
        assert_eq!(
            (at(400), at(700)),
            (None, Some("chairs = 1000: 700 are used, and the last units took 300".into()))
        );
        assert_eq!(at(700), None, "nothing more was taken");
    }

    #[test]
    fn the_system_says_what_it_has_and_what_is_used() {
        let meters = Meter::all();
        for name in ["vm.max_map_count", "kernel.pid_max", "memory that were available"] {
            let meter = meters.iter().find(|meter| meter.name.contains(name));
            let meter = meter.unwrap_or_else(|| panic!("no {name}"));
            assert!(meter.last < meter.most, "{name}: {} of {}", meter.last, meter.most);
        }
        assert!(mappings().is_some_and(|n| n > 10) && threads().is_some_and(|n| n > 1));
    }
}
