//! `perf_event_open`, through the crate: single counters with inheritance, no groups.

use super::{Event, Support};
use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Hardware, Software};
use perf_event::{Builder, Counter};
use std::io;

/// What to count, in the crate's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Software(Software),
    Hardware(Hardware),
    DtlbLoadMisses,
}

/// On which side of the system call it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Both,
    User,
    Kernel,
}

const fn software(name: &'static str, event: Software) -> Event {
    Event { name, hardware: false, kind: Kind::Software(event), side: Side::Both }
}

const fn user(name: &'static str, kind: Kind) -> Event {
    Event { name, hardware: true, kind, side: Side::User }
}

const fn kernel(name: &'static str, kind: Kind) -> Event {
    Event { name, hardware: true, kind, side: Side::Kernel }
}

/// All events, in the order of the page's table, named as `perf` has them. What runs in user space and what in the kernel is the
/// very difference between the two sides of the comparison, so hardware events are two counters each.
pub(super) const EVENTS: &[Event] = &[
    software("task-clock", Software::TASK_CLOCK),
    software("context-switches", Software::CONTEXT_SWITCHES),
    software("cpu-migrations", Software::CPU_MIGRATIONS),
    software("minor-faults", Software::PAGE_FAULTS_MIN),
    software("major-faults", Software::PAGE_FAULTS_MAJ),
    user("cycles:u", Kind::Hardware(Hardware::CPU_CYCLES)),
    kernel("cycles:k", Kind::Hardware(Hardware::CPU_CYCLES)),
    user("instructions:u", Kind::Hardware(Hardware::INSTRUCTIONS)),
    kernel("instructions:k", Kind::Hardware(Hardware::INSTRUCTIONS)),
    user("cache-references:u", Kind::Hardware(Hardware::CACHE_REFERENCES)),
    kernel("cache-references:k", Kind::Hardware(Hardware::CACHE_REFERENCES)),
    user("cache-misses:u", Kind::Hardware(Hardware::CACHE_MISSES)),
    kernel("cache-misses:k", Kind::Hardware(Hardware::CACHE_MISSES)),
    user("branch-misses:u", Kind::Hardware(Hardware::BRANCH_MISSES)),
    kernel("branch-misses:k", Kind::Hardware(Hardware::BRANCH_MISSES)),
    user("dTLB-load-misses:u", Kind::DtlbLoadMisses),
    kernel("dTLB-load-misses:k", Kind::DtlbLoadMisses),
];

/// The kernel's side of software events is included: with it excluded, the crate's default, context switches and
/// migrations, which happen there, read 0.
fn builder<'a>(event: Event) -> Builder<'a> {
    let mut builder = match event.kind {
        Kind::Software(e) => Builder::new(e),
        Kind::Hardware(e) => Builder::new(e),
        Kind::DtlbLoadMisses => {
            Builder::new(Cache { which: CacheId::DTLB, operation: CacheOp::READ, result: CacheResult::MISS })
        }
    };
    builder.exclude_user(event.side == Side::Kernel).exclude_kernel(event.side == Side::User);
    builder.inherit(true).enabled(false);
    builder
}

/// Opens the event on this process, and closes it again.
pub(super) fn probe(event: Event) -> Support {
    match builder(event).build() {
        Ok(_) => Support::Supported,
        Err(e) => refusal(&e),
    }
}

fn refusal(error: &io::Error) -> Support {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
            let paranoid = paranoid.map_or_else(|_| "unreadable".into(), |p| p.trim().to_owned());
            Support::Denied(format!(
                "the kernel refuses it ({error}; kernel.perf_event_paranoid is {paranoid}); \
                 allow it with `sysctl kernel.perf_event_paranoid=1` or CAP_PERFMON"
            ))
        }
        Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP | libc::EINVAL) => {
            Support::Unsupported(format!("{}: this machine has no such counter", errno_name(error)))
        }
        Some(libc::ENOSYS) => Support::Unsupported("ENOSYS: this kernel has no perf events".into()),
        _ => Support::Unsupported(error.to_string()),
    }
}

fn errno_name(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::ENODEV) => "ENODEV",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        _ => "EINVAL",
    }
}

/// A raw reading: the count and, in nanoseconds, how long the event was enabled and how long really counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The count.
    pub count: u64,
    /// Time enabled.
    pub enabled: u64,
    /// Time counted.
    pub running: u64,
}

/// An event, and its readings before and after some work.
pub type Pair = (Event, Reading, Reading);

/// Counters on a worker and all it will start.
#[derive(Debug)]
pub struct Attached(Vec<(Event, Counter)>);

impl Attached {
    /// Opens the events on a process that has one thread so far; what it starts later inherits them.
    pub fn to(pid: u32, events: &[Event]) -> io::Result<Attached> {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        let open = |event: &Event| Ok((*event, builder(*event).observe_pid(pid).build()?));
        Ok(Attached(events.iter().map(open).collect::<io::Result<_>>()?))
    }

    /// Counts while `work` runs, and says what each event read before and after.
    pub fn around<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<(T, Vec<Pair>)> {
        let before = self.read()?;
        for (_, counter) in &mut self.0 {
            counter.enable()?;
        }
        let result = work();
        for (_, counter) in &mut self.0 {
            counter.disable()?;
        }
        let after = self.read()?;
        let pairs = self.0.iter().zip(before).zip(after).map(|(((event, _), b), a)| (*event, b, a));
        Ok((result, pairs.collect()))
    }

    fn read(&mut self) -> io::Result<Vec<Reading>> {
        let read = |(_, counter): &mut (Event, Counter)| {
            let data = counter.read_full()?;
            let time = |t: Option<std::time::Duration>| {
                t.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
            };
            let (enabled, running) = (time(data.time_enabled()), time(data.time_running()));
            Ok(Reading { count: data.count(), enabled, running })
        };
        self.0.iter_mut().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::counted;
    use std::time::Duration;
    use switchmark_schema::CounterState;

    #[test]
    fn ten_sleeps_are_at_least_ten_context_switches() {
        let event = *EVENTS.iter().find(|e| e.name == "context-switches").unwrap();
        if probe(event) != Support::Supported {
            println!("skipped: context switches cannot be counted here");
            return;
        }
        // On this thread; `to` would count the main thread of the test runner.
        let mut attached = Attached(vec![(event, builder(event).observe_self().build().unwrap())]);
        let sleeps = || (0..10).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        let ((), pairs) = attached.around(sleeps).unwrap();
        let (_, before, after) = pairs[0];
        let counter = counted(before, after, 10);
        assert_eq!(counter.state, CounterState::Counted);
        assert!(counter.value.unwrap() >= 10, "{counter:?}");
    }

    #[test]
    fn a_refusal_names_its_remedy() {
        let denied = refusal(&io::Error::from_raw_os_error(libc::EACCES));
        assert!(matches!(denied, Support::Denied(why) if why.contains("perf_event_paranoid")));
        let missing = refusal(&io::Error::from_raw_os_error(libc::ENOENT));
        assert!(matches!(missing, Support::Unsupported(why) if why.starts_with("ENOENT")));
    }
}
