//! Programs that are not needed, and what is missing without each.

use super::{Machine, finding};
use switchmark_schema::{Finding, FindingStatus};

/// Any of the names will do.
const TOOLS: [(&str, &[&str], &str, &str); 5] = [
    ("tool valgrind", &["valgrind"], "exact instruction counts", "sudo apt-get install valgrind"),
    ("tool perf", &["perf"], "the comparison with `perf bench`", "sudo apt-get install linux-perf"),
    ("tool go", &["go"], "the contender go", "scripts/install-go"),
    (
        "tool java",
        &["java"],
        "nothing yet: its contender is to come",
        "sudo apt-get install openjdk-25-jdk-headless",
    ),
    (
        "tool chromium",
        &["chromium", "chromium-browser", "google-chrome"],
        "the pictures of whole pages that its authors look at",
        "sudo apt-get install chromium",
    ),
];

pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let tool = |(check, names, without, remedy): (&str, &[&str], &str, &str)| {
        let found = names.iter().find(|name| (machine.has)(name));
        let effect = format!("without it is missing: {without}");
        match found {
            Some(name) => finding(check, FindingStatus::Ok, format!("{name} is on the path"), &effect, ""),
            None => finding(
                check,
                FindingStatus::Warn,
                format!("no {} on the path", names.join(", ")),
                &effect,
                remedy,
            ),
        }
    };
    TOOLS.into_iter().map(tool).collect()
}
