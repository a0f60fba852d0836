//! The doctor: is this machine fit to measure on, what would be wrong with numbers from it, and what helps.
//!
//! Each group of checks is a file of its own and looks at a [`Machine`], never at the system itself, so that a test can be
//! any machine. What cannot be seen, as behind a hypervisor, is `unknown` and not fine.

mod clock;
mod counting;
mod cpus;
mod kernel;
mod limits;
mod now;
mod tools;

use crate::counters::Probed;
use crate::environment::{read, ticks};
use crate::pin::Cpus;
use std::fs;
use std::time::{Duration, Instant};
use switchmark_schema::{Finding, FindingStatus};

/// What is looked at.
pub struct Machine<'m> {
    /// A file of the system; `None` where there is none, or it is not for us.
    pub read: &'m dyn Fn(&str) -> Option<String>,
    /// Whether a program is on the path.
    pub has: &'m dyn Fn(&str) -> bool,
    /// CPUs that may be used.
    pub cpus: &'m Cpus,
    /// Counters, each with its support.
    pub counters: &'m Probed,
    /// A look at what else runs.
    pub share: Share,
    /// What reading the clock costs, in nanoseconds.
    pub clock_ns: u64,
    /// Whether this program was built without optimisation.
    pub debug: bool,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("cpus", self.cpus).field("share", &self.share).finish_non_exhaustive()
    }
}

/// Shares of the allowed CPUs' time over a moment in which we did nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// In which something ran.
    pub busy: f64,
    /// Which the hypervisor took.
    pub stolen: f64,
}

/// Looks at this machine for a fifth of a second.
pub fn examine_this_one(cpus: &Cpus, counters: &Probed, debug: bool) -> Vec<Finding> {
    let paths: Vec<_> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    examine(&Machine {
        read: &|path| fs::read_to_string(path).ok(),
        has: &|program| paths.iter().any(|folder: &std::path::PathBuf| folder.join(program).is_file()),
        cpus,
        counters,
        share: share_of_others(cpus),
        clock_ns: clock_cost_ns(),
        debug,
    })
}

/// All findings, in the order of the groups.
pub fn examine(machine: &Machine<'_>) -> Vec<Finding> {
    let groups: [fn(&Machine<'_>) -> Vec<Finding>; 7] = [
        now::findings,
        cpus::findings,
        clock::findings,
        kernel::findings,
        counting::findings,
        limits::findings,
        tools::findings,
    ];
    groups.iter().flat_map(|findings| findings(machine)).collect()
}

fn share_of_others(cpus: &Cpus) -> Share {
    const MOMENT: Duration = Duration::from_millis(200);
    let look = || ticks(&read("/proc/stat"), cpus.as_slice());
    let before = look();
    std::thread::sleep(MOMENT);
    let after = look();
    let all = after.all.saturating_sub(before.all).max(1) as f64;
    Share {
        busy: after.busy.saturating_sub(before.busy) as f64 / all,
        stolen: after.stolen.saturating_sub(before.stolen) as f64 / all,
    }
}

fn clock_cost_ns() -> u64 {
    const READINGS: u32 = 10_000;
    let start = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(Instant::now());
    }
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::from(READINGS)
}

impl Machine<'_> {
    /// The first line of a file, trimmed.
    fn line(&self, path: &str) -> Option<String> {
        Some((self.read)(path)?.lines().next()?.trim().to_owned())
    }

    /// A file that holds a number.
    fn number(&self, path: &str) -> Option<u64> {
        self.line(path)?.parse().ok()
    }
}

/// A finding; `ok` has no remedy.
fn finding(
    check: &str,
    status: FindingStatus,
    evidence: impl Into<String>,
    effect: &str,
    remedy: impl Into<String>,
) -> Finding {
    let remedy = if status == FindingStatus::Ok { String::new() } else { remedy.into() };
    Finding { check: check.into(), status, evidence: evidence.into(), effect: effect.into(), remedy }
}

/// What this system does not show.
fn unseen(check: &str, path: &str, effect: &str) -> Finding {
    finding(
        check,
        FindingStatus::Unknown,
        format!("{path} is not there"),
        effect,
        "none: it cannot be seen from here",
    )
}

/// Fine below one bound, doubtful below the other, bad above.
fn graded<T: PartialOrd>(value: &T, fine: &T, doubtful: &T) -> FindingStatus {
    match value {
        v if v <= fine => FindingStatus::Ok,
        v if v <= doubtful => FindingStatus::Warn,
        _ => FindingStatus::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Choice;
    use std::collections::BTreeMap;

    /// What the doctor says of a machine with these files and programs.
    pub(super) fn of(
        files: &[(&str, &str)],
        programs: &[&str],
        change: impl Fn(&mut Machine<'_>),
    ) -> BTreeMap<String, Finding> {
        let read =
            |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        let has = |program: &str| programs.contains(&program);
        let cpus = Cpus::allowed(None).unwrap();
        let counters = Probed::probe(&Choice::None);
        let mut machine = Machine {
            read: &read,
            has: &has,
            cpus: &cpus,
            counters: &counters,
            share: Share { busy: 0.0, stolen: 0.0 },
            clock_ns: 20,
            debug: false,
        };
        change(&mut machine);
        examine(&machine).into_iter().map(|finding| (finding.check.clone(), finding)).collect()
    }

    #[test]
    fn nothing_that_cannot_be_seen_is_fine() {
        let blind = of(&[], &[], |_| ());
        assert!(blind.len() > 25, "{}", blind.len());
        for finding in blind.values() {
            let seen_without_files =
                ["load now", "steal now", "clock cost", "build", "CPUs", "guard markers"];
            let seen =
                seen_without_files.contains(&finding.check.as_str()) || finding.check.starts_with("tool ");
            assert!(seen || finding.status == FindingStatus::Unknown, "{finding:?}");
        }
    }

    #[test]
    fn a_finding_that_is_not_fine_says_what_it_does_and_what_helps() {
        let files = [
            ("/proc/pressure/cpu", "some avg10=42.00 avg60=1.00 avg300=0.00 total=1"),
            ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
            ("/proc/sys/kernel/randomize_va_space", "0"),
        ];
        let sick = of(&files, &[], |machine| {
            machine.share = Share { busy: 0.9, stolen: 0.2 };
            machine.clock_ns = 2000;
            machine.debug = true;
        });
        for check in [
            "load now",
            "steal now",
            "CPU pressure",
            "clock source",
            "clock cost",
            "build",
            "address randomisation",
        ] {
            let finding = &sick[check];
            assert_eq!(finding.status, FindingStatus::Bad, "{finding:?}");
            assert!(!finding.effect.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn a_quiet_machine_is_fine_where_it_can_be_seen() {
        let files = [
            ("/proc/pressure/cpu", "some avg10=0.00 avg60=1.00 avg300=0.00 total=1"),
            ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("/proc/sys/kernel/randomize_va_space", "2\n"),
            ("/sys/devices/system/cpu/smt/active", "0\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("/proc/sys/vm/overcommit_memory", "0\n"),
            (
                "/proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 1048576              files\n",
            ),
        ];
        let fine = of(&files, &["valgrind"], |_| ());
        let checks = [
            "load now",
            "steal now",
            "CPU pressure",
            "clock source",
            "clock cost",
            "build",
            "address randomisation",
            "SMT",
            "transparent huge pages",
            "overcommit",
            "open files",
            "tool valgrind",
        ];
        for check in checks {
            assert_eq!(
                (fine[check].status, fine[check].remedy.as_str()),
                (FindingStatus::Ok, ""),
                "{:?}",
                fine[check]
            );
        }
    }

    #[test]
    fn a_quota_below_the_allowed_cpus_is_bad_and_its_arithmetic_is_shown() {
        let files =
            [("/proc/self/cgroup", "0::/jobs/7\n"), ("/sys/fs/cgroup/jobs/7/cpu.max", "50000 100000\n")];
        let finding = &of(&files, &[], |_| ())["CPU quota"];
        assert_eq!(finding.status, FindingStatus::Bad);
        assert!(finding.evidence.contains("0.5 CPUs"), "{finding:?}");
        let free = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "max 100000\n")];
        assert_eq!(of(&free, &[], |_| ())["CPU quota"].status, FindingStatus::Ok);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let cpus = Cpus::allowed(None).unwrap();
        let findings = examine_this_one(&cpus, &Probed::probe(&Choice::Auto), false);
        let mut checks: Vec<&str> = findings.iter().map(|f| f.check.as_str()).collect();
        checks.sort_unstable();
        checks.dedup();
        assert_eq!(checks.len(), findings.len(), "a check is made once");
        assert!(findings.iter().any(|f| f.status == FindingStatus::Ok));
    }
}
