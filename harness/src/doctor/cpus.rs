//! The CPUs that may be used, and what changes their speed.

use super::{Machine, finding, unseen};
use crate::pin::parse_list;
use switchmark_schema::{Finding, FindingStatus};

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    vec![allowed(machine), quota(machine), governor(machine), turbo(machine), smt(machine)]
}

fn allowed(machine: &Machine<'_>) -> Finding {
    let allowed = machine.cpus.count();
    let online = machine
        .line("/sys/devices/system/cpu/online")
        .and_then(|list| parse_list(&list))
        .map(|list| list.len());
    let of = online.map_or(String::new(), |online| format!(" of {online}"));
    let evidence = format!("{allowed}{of} may be used");
    let status = match (allowed, online) {
        (1, _) => FindingStatus::Bad,
        (allowed, Some(online)) if allowed < online => FindingStatus::Warn,
        _ => FindingStatus::Ok,
    };
    let effect =
        "switch across cores, spawn and sync on all cores, io: with one CPU these cells are unsupported";
    finding(
        "CPUs",
        status,
        evidence,
        effect,
        "run it with more CPUs: `taskset`, --cpus, or the limits of the container",
    )
}

/// Of the cgroup that this process is in; version 2 alone, as the first is on its way out.
fn quota(machine: &Machine<'_>) -> Finding {
    let effect = "all families: a quota that is spent stops every thread for tens of milliseconds";
    let group = (machine.read)("/proc/self/cgroup")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned)));
    let Some(group) = group else { return unseen("CPU quota", "/proc/self/cgroup", effect) };
    let path = format!("/sys/fs/cgroup{}/cpu.max", group.trim_end_matches('/'));
    let Some(line) = machine.line(&path) else {
        // The root group has no such file, and no limit.
        let status = if group == "/" { FindingStatus::Ok } else { FindingStatus::Unknown };
        return finding(
            "CPU quota",
            status,
            format!("{path} is not there"),
            effect,
            "none: it cannot be seen from here",
        );
    };
    let numbers: Vec<f64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [quota, period] = numbers[..] else {
        return finding("CPU quota", FindingStatus::Ok, format!("{path}: {line}"), effect, "");
    };
    let cpus = quota / period;
    let status = if cpus < machine.cpus.count() as f64 { FindingStatus::Bad } else { FindingStatus::Ok };
    let evidence = format!("{path}: {cpus:.1} CPUs for {} that may be used", machine.cpus.count());
    finding(
        "CPU quota",
        status,
        evidence,
        effect,
        "raise the limit of the container, or name fewer CPUs with --cpus",
    )
}

fn governor(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let effect =
        "all families: the clock frequency follows the load, so short slices run slower than long ones";
    match machine.line(PATH) {
        None => unseen("governor", PATH, effect),
        Some(governor) => {
            let status = if governor == "performance" { FindingStatus::Ok } else { FindingStatus::Warn };
            let evidence = format!("{PATH}: {governor}");
            finding("governor", status, evidence, effect, "sudo cpupower frequency-set -g performance")
        }
    }
}

fn turbo(machine: &Machine<'_>) -> Finding {
    const PATHS: [(&str, &str); 2] = [
        ("/sys/devices/system/cpu/cpufreq/boost", "0"),
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "1"),
    ];
    let effect = "all families: the frequency depends on heat and on how many cores are busy";
    for (path, off) in PATHS {
        if let Some(value) = machine.line(path) {
            let status = if value == off { FindingStatus::Ok } else { FindingStatus::Warn };
            return finding(
                "turbo",
                status,
                format!("{path}: {value}"),
                effect,
                format!("echo {off} | sudo tee {path}"),
            );
        }
    }
    unseen("turbo", PATHS[0].0, effect)
}

fn smt(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/sys/devices/system/cpu/smt/active";
    let effect = "switch and sync across cores: two logical CPUs of one core share it";
    match machine.line(PATH) {
        None => unseen("SMT", PATH, effect),
        Some(active) => {
            let status = if active == "0" { FindingStatus::Ok } else { FindingStatus::Warn };
            let remedy =
                "name one CPU a core with --cpus, or echo off | sudo tee /sys/devices/system/cpu/smt/control";
            finding("SMT", status, format!("{PATH}: {active}"), effect, remedy)
        }
    }
}
