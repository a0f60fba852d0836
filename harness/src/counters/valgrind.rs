//! Instructions of an operation, exactly: valgrind counts what a worker of one thread executes over N and over 2 N iterations, and the
//! difference is what N iterations take, start and end of the process left out.
//!
//! No noise of a machine reaches this number, and nothing of the machine either: no cache, no kernel, no time. Threads are left out, since
//! what they execute depends on when the kernel lets them.

use super::{Support, without_value};
use crate::contender::{Contender, Kind};
use crate::ledger;
use crate::parent::{Fault, Host, Worker};
use crate::plan::{Group, Method};
use regex::Regex;
use std::path::Path;
use std::process::Command;
use switchmark_schema::{Counter, CounterState};

/// What the counter is called.
pub(crate) const NAME: &str = "instructions:valgrind";

/// Whether it is installed.
pub(super) fn support() -> Support {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => Support::Supported,
        _ => Support::Unsupported("valgrind is not installed; `apt-get install valgrind` brings it".into()),
    }
}

/// Whether what the contender executes in this cell can repeat: it is ours to start, and no second thread takes part.
pub(crate) fn repeats(group: &Group<'_>, contender: &Contender) -> bool {
    let one_thread = contender.manifest.kind != Kind::Thread && group.placement == "same-core";
    one_thread && contender.command().is_none() && group.method() == Method::Slices
}

/// Under valgrind a slice takes some fifty times as long, and a part of one is as good.
const PART: u64 = 4;

/// How far two countings of an operation may be apart: a worker writes times into its replies, in more digits or fewer.
const APART: f64 = 0.01;

/// Counts, twice; what does not repeat is no count.
pub(crate) fn counted(host: Host<'_>, group: &Group<'_>, contender: &Contender, iterations: u64) -> Counter {
    let iterations = (iterations / PART).max(1);
    let twice = difference(host, group, contender, iterations)
        .and_then(|first| Ok((first, difference(host, group, contender, iterations)?)));
    match twice {
        Ok(((value, per_op), (_, again))) if (per_op - again).abs() <= APART => Counter {
            state: CounterState::Counted,
            value: Some(value),
            per_op: Some(per_op),
            share: None,
            reason: None,
        },
        Ok(((_, per_op), (_, again))) => without_value(
            CounterState::NotCounted,
            &format!("it does not repeat: {per_op:.2} and {again:.2} instructions an operation"),
        ),
        Err(fault) => without_value(CounterState::NotCounted, &format!("under valgrind: {}", fault.reason)),
    }
}

/// Instructions that so many more iterations take, and those of an operation.
fn difference(
    host: Host<'_>,
    group: &Group<'_>,
    contender: &Contender,
    iterations: u64,
) -> Result<(u64, f64), Fault> {
    let (less, fewer) = executed(host, group, contender, iterations)?;
    let (more, all) = executed(host, group, contender, 2 * iterations)?;
    let value =
        more.checked_sub(less).ok_or_else(|| Fault::failed("twice the work took fewer instructions"))?;
    let operations = all.checked_sub(fewer).filter(|n| *n > 0);
    let operations = operations.ok_or_else(|| Fault::failed("twice the work was no more operations"))?;
    Ok((value, value as f64 / operations as f64))
}

/// Instructions of a worker that takes one slice, and the slice's operations.
fn executed(
    host: Host<'_>,
    group: &Group<'_>,
    contender: &Contender,
    iterations: u64,
) -> Result<(u64, u64), Fault> {
    let cannot = |e: std::io::Error| Fault::failed(format!("cannot keep what valgrind says: {e}"));
    let log = tempfile::NamedTempFile::new().map_err(cannot)?;
    let mut worker = Worker::under(host, &valgrind(log.path()), contender, &group.cpus)?;
    worker.prepare(group.prepare())?;
    let (sample, _) = worker.slice(iterations)?;
    ledger::checked(group, contender, &sample)?;
    let operations = ledger::divisor(group, &sample)?;
    worker.finish()?;
    let said = std::fs::read_to_string(log.path()).map_err(cannot)?;
    let instructions =
        total(&said).ok_or_else(|| Fault::failed("valgrind named no count of instructions"))?;
    Ok((instructions, operations))
}

/// Cachegrind without its cache is the tool that counts and does nothing else.
fn valgrind(log: &Path) -> Vec<String> {
    let options = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
    options.map(str::to_owned).into_iter().chain([format!("--log-file={}", log.display())]).collect()
}

fn total(said: &str) -> Option<u64> {
    let line = Regex::new(r"I\s+refs:\s+([\d,]+)").expect("a pattern");
    line.captures(said)?[1].replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_read_as_old_and_new_versions_print_it() {
        assert_eq!(total("==1== \n==1== I   refs:      2,726,059\n"), Some(2_726_059));
        assert_eq!(total("==1== I refs:        1,093\n"), Some(1093));
        assert_eq!(total("==1== D refs: 7"), None);
    }
}
