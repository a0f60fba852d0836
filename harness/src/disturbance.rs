//! What disturbs a block, from outside: recorded beside each, so that a bad block can be told from a bad build.

use crate::environment::{pressure_us, proc_field, steal_ticks};
use std::fs;
use std::time::Duration;
use switchmark_schema::Contamination;

/// What disturbs a block, read before and after.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disturbance {
    steal_ticks: u64,
    pressure_us: u64,
    involuntary: u64,
    migrations: u64,
    faults: u64,
}

impl Disturbance {
    /// What the kernel books for the CPUs of a placement and the workers on them.
    pub(crate) fn read(cpus: &[usize], workers: impl IntoIterator<Item = u32>) -> Disturbance {
        let mut read = Disturbance {
            steal_ticks: steal_ticks(cpus),
            pressure_us: pressure_us(),
            ..Disturbance::default()
        };
        for pid in workers {
            let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let (status, sched, stat) = (file("status"), file("sched"), file("stat"));
            read.involuntary += proc_field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
            let migrations = sched.lines().find(|line| line.starts_with("se.nr_migrations"));
            let migrations = migrations.and_then(|line| line.rsplit(':').next()?.trim().parse::<u64>().ok());
            read.migrations += migrations.unwrap_or(0);
            // The command, in parentheses, may hold spaces; major faults are the tenth field after it.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let faults = fields.split_ascii_whitespace().nth(9).and_then(|n| n.parse::<u64>().ok());
            read.faults += faults.unwrap_or(0);
        }
        read
    }

    /// What happened since.
    pub(crate) fn until(self, after: Disturbance, idle_cpu: Duration) -> Contamination {
        Contamination {
            steal_ticks: after.steal_ticks.saturating_sub(self.steal_ticks),
            pressure_us: after.pressure_us.saturating_sub(self.pressure_us),
            involuntary: after.involuntary.saturating_sub(self.involuntary),
            migrations: after.migrations.saturating_sub(self.migrations),
            faults: after.faults.saturating_sub(self.faults),
            idle_cpu_ns: u64::try_from(idle_cpu.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}
