//! Limits that large cells meet, and whether they are large enough for the grid.

use super::{Machine, finding, unseen};
use crate::sys;
use switchmark_schema::{Finding, FindingStatus};

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let files = |n: u64| format!("ulimit -n {n}, or LimitNOFILE= of the service");
    let mut findings = vec![
        of_process(
            machine,
            "open files",
            "Max open files",
            10_100,
            "io from ten thousand connections on",
            &files,
        ),
        of_process(
            machine,
            "processes",
            "Max processes",
            10_100,
            "spawn and stack of ten thousand threads",
            &|n| format!("ulimit -u {n}"),
        ),
    ];
    let of_system = [
        ("pid_max", "/proc/sys/kernel/pid_max", 32_768, "spawn and stack of many threads"),
        ("threads-max", "/proc/sys/kernel/threads-max", 20_100, "spawn and stack of many threads"),
        (
            "max_map_count",
            "/proc/sys/vm/max_map_count",
            65_530,
            "stack of many threads, at two mappings and more each",
        ),
        (
            "somaxconn",
            "/proc/sys/net/core/somaxconn",
            1024,
            "io: connections that come at once wait for a second try",
        ),
    ];
    for (check, path, enough, effect) in of_system {
        findings.push(match machine.number(path) {
            None => unseen(check, path, effect),
            Some(value) => {
                let remedy = format!("echo {enough} | sudo tee {path}");
                finding(check, at_least(value, enough), format!("{path}: {value}"), effect, remedy)
            }
        });
    }
    findings.extend([ports(machine), overcommit(machine), markers()]);
    findings
}

fn at_least(value: u64, enough: u64) -> FindingStatus {
    if value >= enough { FindingStatus::Ok } else { FindingStatus::Warn }
}

/// The hard limit counts: up to that a process may help itself.
fn of_process(
    machine: &Machine<'_>,
    check: &str,
    name: &str,
    enough: u64,
    effect: &str,
    remedy: &dyn Fn(u64) -> String,
) -> Finding {
    const PATH: &str = "/proc/self/limits";
    let hard = (machine.read)(PATH).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?.to_owned();
        line.split_ascii_whitespace().nth(1).map(str::to_owned)
    });
    match hard {
        None => unseen(check, PATH, effect),
        Some(hard) => {
            // What is no number is `unlimited`.
            let status = at_least(hard.parse().unwrap_or(u64::MAX), enough);
            finding(check, status, format!("{PATH}: {name} {hard}"), effect, remedy(enough))
        }
    }
}

fn ports(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let effect = "io from ten thousand connections on: each takes a port of its source address";
    let range = machine.line(PATH).map(|line| {
        let ends: Vec<u64> = line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        (ends.last().copied().unwrap_or(0).saturating_sub(ends.first().copied().unwrap_or(0)), line)
    });
    match range {
        None => unseen("ports", PATH, effect),
        Some((ports, line)) => {
            let remedy = format!("echo 1024 65535 | sudo tee {PATH}");
            finding("ports", at_least(ports, 20_000), format!("{PATH}: {line}"), effect, remedy)
        }
    }
}

fn overcommit(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/proc/sys/vm/overcommit_memory";
    let effect =
        "stack: with 2 the address space of stacks counts as memory, and a million of them do not fit";
    match machine.line(PATH) {
        None => unseen("overcommit", PATH, effect),
        Some(mode) => {
            let status = if mode == "2" { FindingStatus::Warn } else { FindingStatus::Ok };
            finding(
                "overcommit",
                status,
                format!("{PATH}: {mode}"),
                effect,
                format!("echo 0 | sudo tee {PATH}"),
            )
        }
    }
}

fn markers() -> Finding {
    let effect = "stack: without them each guard takes two mappings, and max_map_count bounds the coroutines";
    let (status, evidence) = if sys::has_guard_markers() {
        (FindingStatus::Ok, "the kernel takes MADV_GUARD_INSTALL")
    } else {
        (FindingStatus::Warn, "the kernel refuses MADV_GUARD_INSTALL")
    };
    finding("guard markers", status, evidence, effect, "a kernel from 6.13 on")
}
