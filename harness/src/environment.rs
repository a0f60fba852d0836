//! The machine's fingerprint, and what the kernel says about disturbance.

use crate::pin::Cpus;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use switchmark_schema::Machine;

/// Reads the fingerprint. `pmu` is what the counters found out.
pub fn machine(cpus: &Cpus, pmu: bool) -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cpu = field("model name").unwrap_or_else(|| "unknown".into());
    let virtual_machine = field("flags").is_some_and(|f| f.split(' ').any(|flag| flag == "hypervisor"));
    let hypervisor = match read("/sys/hypervisor/type").trim() {
        "" if virtual_machine => crate::sys::hypervisor_signature().unwrap_or_else(|| "unnamed".into()),
        "" => "none".into(),
        named => named.into(),
    };
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let numa_nodes = count_nodes();
    let memory_kib = proc_field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0);
    // Major and minor of the kernel alone: a patch level does not change what a switch costs.
    let series: Vec<&str> = kernel.splitn(3, '.').take(2).collect();
    let key = key(&[&cpu, &online.to_string(), &numa_nodes.to_string(), &series.join("."), &hypervisor]);
    Machine {
        key,
        cpu,
        cpus: u32::try_from(cpus.count()).unwrap_or(u32::MAX),
        kernel,
        hypervisor,
        pmu,
        numa_nodes,
        memory_bytes: memory_kib * 1024,
    }
}

/// Twelve hex digits over what does not drift.
fn key(parts: &[&str]) -> String {
    hex_digest(parts.join("\n").as_bytes())[..12].to_owned()
}

/// SHA-256 in hex: the identity of a document.
pub fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Ticks that the hypervisor took from the CPUs of a placement since boot.
pub fn steal_ticks(cpus: &[usize]) -> u64 {
    ticks(&read("/proc/stat"), cpus).stolen
}

/// Ticks of some CPUs since boot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticks {
    pub(crate) all: u64,
    pub(crate) busy: u64,
    pub(crate) stolen: u64,
}

/// What `/proc/stat` says of CPUs: user, nice, system, idle, iowait, irq, softirq, steal.
pub(crate) fn ticks(stat: &str, cpus: &[usize]) -> Ticks {
    let mut sum = Ticks::default();
    for cpu in cpus {
        let name = format!("cpu{cpu} ");
        let Some(line) = stat.lines().find(|line| line.starts_with(&name)) else { continue };
        let fields: Vec<u64> = line.split_ascii_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        // The guest's time is in the user's already.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else { continue };
        let busy = user + nice + system + irq + softirq;
        sum.busy += busy;
        sum.stolen += steal;
        sum.all += busy + idle + iowait + steal;
    }
    sum
}

/// Microseconds in which some task waited for a CPU since boot; 0 where the kernel keeps no such book.
pub fn pressure_us() -> u64 {
    let pressure = read("/proc/pressure/cpu");
    let some = pressure.lines().find(|line| line.starts_with("some")).and_then(|l| l.split("total=").nth(1));
    some.and_then(|total| total.trim().parse().ok()).unwrap_or(0)
}

/// `Name:   123 kB` as 123.
pub fn proc_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn count_nodes() -> u32 {
    let nodes = fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
    let numbered = |name: &str| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok());
    let count = nodes.filter(|entry| entry.file_name().to_str().is_some_and(numbered)).count();
    u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_what_matters_and_with_nothing_else() {
        let base = key(&["cpu", "2", "1", "6.18", "kvm"]);
        assert_eq!(base.len(), 12);
        assert_ne!(base, key(&["cpu", "4", "1", "6.18", "kvm"]));
        let cpus = Cpus::allowed(None).unwrap();
        assert_eq!(machine(&cpus, true).key, machine(&cpus, false).key, "a permission is not a machine");
    }

    #[test]
    fn this_machine_is_described() {
        let machine = machine(&Cpus::allowed(None).unwrap(), false);
        assert!(machine.memory_bytes > 1 << 20);
        assert!(!machine.kernel.is_empty() && machine.cpus > 0 && machine.numa_nodes > 0);
    }

    #[test]
    fn ticks_are_summed_over_the_cpus_asked_for() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 9\ncpu1 10 0 0 90 0 0 0 0 0 0\ncpu10 1 1 1 1 1 1 1 1 1 1\n";
        let found = ticks(stat, &[0, 1]);
        assert_eq!((found.busy, found.stolen, found.all), (19 + 10, 8, 36 + 100));
        assert_eq!(ticks(stat, &[7]).all, 0);
    }

    #[test]
    fn proc_fields_are_read_by_name() {
        let text = "MemTotal:       24 kB\nSlab:     7 kB\n";
        assert_eq!(proc_field(text, "Slab:"), Some(7));
        assert_eq!(proc_field(text, "Lab:"), None);
    }
}
