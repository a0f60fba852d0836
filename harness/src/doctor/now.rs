//! What else happens on the machine at this moment.

use super::{Machine, finding, graded, unseen};
use switchmark_schema::Finding;

const EFFECT: &str = "all families: slices are interrupted, intervals widen, the least values stay";

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    vec![load(machine), steal(machine), pressure(machine)]
}

fn load(machine: &Machine<'_>) -> Finding {
    let busy = machine.share.busy;
    let evidence = format!("{:.0} % of the allowed CPUs' time was used while we slept", busy * 100.0);
    finding("load now", graded(&busy, &0.05, &0.25), evidence, EFFECT, "end what else runs; `top` shows it")
}

fn steal(machine: &Machine<'_>) -> Finding {
    let stolen = machine.share.stolen;
    let evidence = format!("{:.1} % of the allowed CPUs' time was taken by the hypervisor", stolen * 100.0);
    let remedy =
        "measure when the host is quiet, or on a machine of its own; trust ratios before nanoseconds";
    finding("steal now", graded(&stolen, &0.01, &0.05), evidence, EFFECT, remedy)
}

fn pressure(machine: &Machine<'_>) -> Finding {
    const PATH: &str = "/proc/pressure/cpu";
    let average = |text: String| {
        let some = text.lines().find(|line| line.starts_with("some"))?.split("avg10=").nth(1)?.to_owned();
        some.split(' ').next()?.parse::<f64>().ok()
    };
    match (machine.read)(PATH).and_then(average) {
        None => unseen("CPU pressure", PATH, EFFECT),
        Some(share) => {
            let evidence =
                format!("{PATH}: some task waited for a CPU in {share:.1} % of the last ten seconds");
            finding(
                "CPU pressure",
                graded(&share, &2.0, &20.0),
                evidence,
                EFFECT,
                "wait, or end what else runs",
            )
        }
    }
}
