//! How the kernel and what is below it are set up.

use super::{Machine, finding, unseen};
use switchmark_schema::{Finding, FindingStatus};

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    vec![
        hypervisor(machine),
        huge_pages(machine),
        randomisation(machine),
        mitigations(machine),
        build(machine),
    ]
}

fn hypervisor(machine: &Machine<'_>) -> Finding {
    let effect = "all families: the host decides when a CPU runs, and its other guests share caches with it";
    match (machine.read)("/proc/cpuinfo") {
        None => unseen("hypervisor", "/proc/cpuinfo", effect),
        Some(text) => {
            let flags = text.lines().find(|line| line.starts_with("flags"));
            let guest = flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
            let status = if guest { FindingStatus::Warn } else { FindingStatus::Ok };
            let evidence =
                if guest { "/proc/cpuinfo: a virtual machine" } else { "/proc/cpuinfo: bare metal" };
            finding(
                "hypervisor",
                status,
                evidence,
                effect,
                "trust ratios before nanoseconds, or measure on bare metal",
            )
        }
    }
}

fn huge_pages(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let effect = "stack: with `always` the first touch of a stack may cost two megabytes";
    match machine.line(PATH) {
        None => unseen("transparent huge pages", PATH, effect),
        Some(modes) => {
            let status = if modes.contains("[always]") { FindingStatus::Warn } else { FindingStatus::Ok };
            let remedy = format!("echo madvise | sudo tee {PATH}");
            finding("transparent huge pages", status, format!("{PATH}: {modes}"), effect, remedy)
        }
    }
}

fn randomisation(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/proc/sys/kernel/randomize_va_space";
    let effect = "all families: without it all processes share one layout, and the intervals leave out what layout does";
    match machine.line(PATH) {
        None => unseen("address randomisation", PATH, effect),
        Some(value) => {
            let status = if value == "2" { FindingStatus::Ok } else { FindingStatus::Bad };
            let remedy = format!("echo 2 | sudo tee {PATH}, and no `setarch -R`");
            finding("address randomisation", status, format!("{PATH}: {value}"), effect, remedy)
        }
    }
}

/// Neither state is wrong, but a reader must know which one it was.
fn mitigations(machine: &Machine<'_>) -> Finding {
    const FOLDER: &str = "/sys/devices/system/cpu/vulnerabilities";
    const NAMES: [&str; 6] =
        ["meltdown", "spectre_v1", "spectre_v2", "retbleed", "spec_rstack_overflow", "l1tf"];
    let effect = "switch, sync and io of threads: each way into the kernel pays for the mitigations";
    let found: Vec<(&str, String)> =
        NAMES.iter().filter_map(|name| Some((*name, machine.line(&format!("{FOLDER}/{name}"))?))).collect();
    if found.is_empty() {
        return unseen("mitigations", FOLDER, effect);
    }
    let open: Vec<&str> =
        found.iter().filter(|(_, state)| state.starts_with("Vulnerable")).map(|(name, _)| *name).collect();
    let active = found.iter().filter(|(_, state)| state.starts_with("Mitigation")).count();
    let (status, evidence) = if open.is_empty() {
        (FindingStatus::Ok, format!("{FOLDER}: {active} active, none left open"))
    } else {
        (FindingStatus::Warn, format!("{FOLDER}: {active} active, open: {}", open.join(", ")))
    };
    finding(
        "mitigations",
        status,
        evidence,
        effect,
        "boot without mitigations=off, to measure what others run",
    )
}

fn build(machine: &Machine<'_>) -> Finding {
    let (status, evidence) = if machine.debug {
        (FindingStatus::Bad, "a debug build")
    } else {
        (FindingStatus::Ok, "an optimised build")
    };
    let effect = "all families, but not all sides alike: peers are built with optimisation";
    finding("build", status, evidence, effect, "cargo run --release")
}
