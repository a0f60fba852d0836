//! The clock that slices are stamped with, and how idle CPUs wait.

use super::{Machine, finding, graded, unseen};
use switchmark_schema::{Finding, FindingStatus};

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    vec![source(machine), cost(machine), idle(machine), deep_idle(machine)]
}

fn source(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let effect = "all families: a clock that is read through a system call costs a microsecond each time";
    match machine.line(PATH) {
        None => unseen("clock source", PATH, effect),
        Some(source) => {
            let read_in_user_space = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
            let fine = read_in_user_space.contains(&source.as_str());
            let status = if fine { FindingStatus::Ok } else { FindingStatus::Bad };
            let remedy = "boot with clocksource=tsc where the processor's is stable";
            finding("clock source", status, format!("{PATH}: {source}"), effect, remedy)
        }
    }
}

fn cost(machine: &Machine<'_>) -> Finding {
    let ns = machine.clock_ns;
    let evidence = format!("{ns} ns a reading, over ten thousand");
    let effect =
        "policy and io, which stamp each tick and request; a slice is stamped twice and hardly notices";
    finding("clock cost", graded(&ns, &100, &1000), evidence, effect, "as for the clock source")
}

fn idle(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
    let effect =
        "switch across cores, io with few connections: it is the waking of an idle core that is measured";
    match machine.line(PATH) {
        None => unseen("idle driver", PATH, effect),
        Some(driver) if driver == "none" => {
            let evidence = format!("{PATH}: none, so an idle virtual CPU is given back to the host");
            finding(
                "idle driver",
                FindingStatus::Warn,
                evidence,
                effect,
                "compare with the cells of idle_policy=awake",
            )
        }
        Some(driver) => finding("idle driver", FindingStatus::Ok, format!("{PATH}: {driver}"), effect, ""),
    }
}

fn deep_idle(machine: &Machine<'_>) -> Finding {
    const FOLDER: &str = "/sys/devices/system/cpu/cpu0/cpuidle";
    let effect = "switch across cores: a deep sleep takes longer to leave, up to hundreds of microseconds";
    let latencies: Vec<u64> =
        (0..16).map_while(|n| machine.number(&format!("{FOLDER}/state{n}/latency"))).collect();
    match latencies.iter().max() {
        None => unseen("idle states", FOLDER, effect),
        Some(deepest) => {
            let evidence = format!("{FOLDER}: {} states, the deepest left in {deepest} µs", latencies.len());
            finding(
                "idle states",
                graded(deepest, &10, &1000),
                evidence,
                effect,
                "sudo cpupower idle-set -D 10",
            )
        }
    }
}
