//! Cells of the `io` family: a contender that serves, and the load generator that holds the baton.
//!
//! Each has a process of its own, started afresh for each block and contender. In `one-core` the server is alone on the first CPU of
//! the placement and the load on the second; elsewhere both may use all CPUs of it. The server gets no slices: what it
//! costs is read from outside, as the CPU time of its process around a slice of the load.

use crate::contender::Contender;
use crate::counters::{Attached, Event};
use crate::latency::Latencies;
use crate::ledger;
use crate::load::Asked;
use crate::memory::{Process, System};
use crate::parent::{Fault, Host, Worker};
use crate::plan::Group;
use crate::protocol::{Prepare, Sample};
use crate::run::empty_record;
use crate::stats;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use switchmark_schema::{Better, Ledger, ParamValue, WorkerRecord};

/// A metric that every served cell has beside its primary: unit, and which direction is good.
pub(crate) fn beside(metric: &str) -> Option<(&'static str, Better)> {
    match metric {
        "rate" => Some(("requests/s", Better::Higher)),
        "p50" | "p99" | "p99.9" | "max" => Some(("µs", Better::Lower)),
        SERVER | CLIENT => Some(("requests/CPU s", Better::Higher)),
        OWN | KERNEL => Some(("bytes/connection", Better::Lower)),
        _ => None,
    }
}

/// Requests for each second that the server was on a CPU.
const SERVER: &str = "per_server_second";

/// Requests for each second that the load was on a CPU.
const CLIENT: &str = "per_client_second";

/// What a connection has added to the server's own memory: its pages, their page tables, and the kernel's stacks of its threads.
const OWN: &str = "bytes";

/// What a connection has added to the kernel's objects: both of its ends, and what it keeps of a unit that it knows.
const KERNEL: &str = "kernel_bytes";

/// The kernel's stack of a thread, on x86-64 and on arm64. Not read from the system's ledger: what others start and end meanwhile is in that.
const KERNEL_STACK: u64 = 16 << 10;

/// A warm-up is a slice's share of one in so many.
const WARM_UP: u64 = 4;

/// Fewer connections drown in what a server sets up for the first one.
const WEIGHED: usize = 100;

/// The share of a CPU's time that the load used, by the two numbers that tell.
pub(crate) fn client_share(value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    Some(value("rate")? / value(CLIENT)?)
}

/// How the load of a cell begins its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// When the answer to the one before is there.
    Closed,
    /// When they are due: so many a second on average, at times that the seed fixes.
    Open {
        /// Requests.
        per_second: u64,
        /// The same for all contenders of a block, and so the same schedule, stretched.
        seed: u64,
    },
}

impl Pace {
    /// The pace of a group's slices, of so many requests in so long.
    pub(crate) fn of(group: &Group<'_>, iterations: u64, slice: Duration, seed: u64) -> Pace {
        if !group.is_open_loop() {
            return Pace::Closed;
        }
        let nanos = slice.as_nanos().max(1);
        let per_second = u64::try_from(u128::from(iterations) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        Pace::Open { per_second: per_second.max(1), seed }
    }

    /// What the load is told of it, in place of the cell's own words.
    fn told(self, params: &[(String, ParamValue)]) -> Vec<(String, ParamValue)> {
        let mut told: Vec<(String, ParamValue)> =
            params.iter().filter(|(n, _)| n != "load").cloned().collect();
        for (_, value) in told.iter_mut().filter(|(name, _)| name == "loop") {
            *value = ParamValue::Word(if self == Pace::Closed { "closed" } else { "open" }.into());
        }
        if let Pace::Open { per_second, seed } = self {
            told.push(("rate".into(), ParamValue::Number(per_second)));
            told.push(("seed".into(), ParamValue::Number(seed)));
        }
        told
    }
}

/// Requests of a slice, where a closed loop gets so many answered in its time: as many, or in an open loop a share of them.
pub(crate) fn asked(group: &Group<'_>, capacity: u64) -> u64 {
    let share = group.number("load").filter(|_| group.is_open_loop()).unwrap_or(100);
    (u128::from(capacity) * u128::from(share) / 100).try_into().unwrap_or(u64::MAX).max(1)
}

/// A server and its load, both ready.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    server: Worker<'a>,
    load: Worker<'a>,
    connections: usize,
    /// Before the first connection.
    light: Weight,
}

/// The memory ledgers at one moment.
#[derive(Debug, Clone, Copy)]
struct Weight {
    server: Process,
    system: System,
}

impl Weight {
    fn of(server: &Worker<'_>) -> Result<Weight, Fault> {
        let cannot = |e: io::Error| Fault::failed(format!("cannot read the memory ledgers: {e}"));
        Ok(Weight {
            server: Process::read(server.pid()).map_err(cannot)?,
            system: System::read().map_err(cannot)?,
        })
    }

    /// What a connection has added since, in the server's own memory and in the kernel's objects.
    fn grown(self, now: Weight, connections: usize) -> [f64; 2] {
        let own = |w: Weight| w.server.anonymous + w.server.page_tables + w.server.threads * KERNEL_STACK;
        let per = |before: u64, now: u64| now.saturating_sub(before) as f64 / connections as f64;
        [per(own(self), own(now)), per(self.system.slab, now.system.slab)]
    }
}

/// A slice of the load, and what the server used meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) sample: Sample,
    server_cpu: Duration,
}

impl<'a> Pair<'a> {
    /// Starts both. `sets` of events are attached to the server.
    pub(crate) fn start(
        host: Host<'a>,
        group: &Group<'_>,
        contender: &Contender,
        sets: &[Vec<Event>],
        pace: Pace,
    ) -> Result<(Pair<'a>, Vec<Attached>), Fault> {
        let (own, of_load) = places(group);
        let prepare = |cpus: &[usize], params: Vec<(String, ParamValue)>| Prepare {
            workload: group.definition.id.clone(),
            model: group.definition.model.clone(),
            placement: group.placement.clone(),
            cpus: cpus.to_vec(),
            params,
        };
        let (mut server, attached) = Worker::start(host, contender, own, sets)?;
        let address = server.prepare(prepare(own, group.params.clone()))?;
        let address =
            address.ok_or_else(|| Fault::failed("answered prepare without the address that it serves"))?;
        let mut load = Worker::load(host, of_load)?;
        settle(group);
        let light = Weight::of(&server)?;
        let mut told = pace.told(&group.params);
        told.push(("address".into(), ParamValue::Word(address)));
        let cell = prepare(of_load, told);
        let connections = Asked::of(&cell).map_err(Fault::failed)?.connections;
        match load.prepare(cell) {
            Ok(_) => Ok((Pair { server, load, connections, light }, attached)),
            Err(fault) => Err(blamed(&mut server, &fault)),
        }
    }

    /// One slice of the load, whose books are right.
    pub(crate) fn slice(
        &mut self,
        group: &Group<'_>,
        contender: &Contender,
        iterations: u64,
    ) -> Result<Taken, Fault> {
        let used = self.server.cpu_time();
        let taken = self.load.slice(iterations);
        let server_cpu = self.server.cpu_time().saturating_sub(used);
        let (sample, outside) = taken.map_err(|fault| blamed(&mut self.server, &fault))?;
        ledger::checked(group, contender, &sample)?;
        let counts = (sample.sent, sample.answered);
        if counts != (Some(iterations), Some(iterations)) {
            return Err(Fault::failed(format!(
                "the load was asked for {iterations} requests; sent and answered: {counts:?}"
            )));
        }
        // It formats its latencies outside its time, so the clocks agree in one direction only.
        let inside = Duration::from_nanos(sample.elapsed_ns);
        if inside > outside.wall {
            return Err(Fault::invalid(format!(
                "the load's clock says {inside:?} for a slice; the parent's {:?}",
                outside.wall
            )));
        }
        Ok(Taken { sample, server_cpu })
    }

    /// What a connection weighs, where there are enough to say: in the server's own memory, and in the kernel's objects.
    fn weighed(&self, group: &Group<'_>) -> Result<Vec<(&'static str, f64)>, Fault> {
        if self.connections < WEIGHED {
            return Ok(Vec::new());
        }
        settle(group);
        let [own, kernel] = self.light.grown(Weight::of(&self.server)?, self.connections);
        let mut weights = vec![(OWN, own)];
        weights.extend(weighs_kernel(group).then_some((KERNEL, kernel)));
        Ok(weights)
    }

    /// Ends both; what the server has counted must be what the load has.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        let sent = self.load.finish().map_err(|fault| blamed(&mut self.server, &fault))?;
        let served = self.server.finish()?;
        match (served, sent) {
            (Some(served), Some(sent)) if served == sent => Ok(()),
            (Some(served), Some(sent)) => Err(Fault::invalid(format!(
                "the load made {} connections and saw {} requests answered; the server accepted {} and answered {}",
                sent.accepted, sent.answered, served.accepted, served.answered
            ))),
            (None, _) => Err(Fault::failed("ended without saying how many requests it answered")),
            (_, None) => Err(Fault::failed("the load ended without saying how many requests it sent")),
        }
    }
}

/// Whether the question is about connections that only exist, and so about what the kernel keeps of them.
fn weighs_kernel(group: &Group<'_>) -> bool {
    group.number("idle").is_some()
}

/// For the kernel to finish what it does later: it frees the sockets of the server before only after a while.
fn settle(group: &Group<'_>) {
    const SETTLE: Duration = Duration::from_millis(200);
    if weighs_kernel(group) {
        std::thread::sleep(SETTLE);
    }
}

/// Why the load failed: that the server has died, where it has.
fn blamed(server: &mut Worker<'_>, load: &Fault) -> Fault {
    let status = load.status;
    server.ended().unwrap_or_else(|| Fault { status, reason: format!("load: {}", load.reason) })
}

/// CPUs of the server, and of the load.
fn places<'g>(group: &'g Group<'_>) -> (&'g [usize], &'g [usize]) {
    match (group.placement.as_str(), group.cpus.as_slice()) {
        ("one-core", [server, load, ..]) => (std::slice::from_ref(server), std::slice::from_ref(load)),
        (_, all) => (all, all),
    }
}

/// A contender's turn in a block: a fresh server and its load, so many slices after a warm-up, and one number a metric.
pub(crate) fn measured(
    host: Host<'_>,
    group: &Group<'_>,
    contender: &Contender,
    iterations: u64,
    slices: usize,
    pace: Pace,
) -> Result<WorkerRecord, Fault> {
    let (mut pair, _) = Pair::start(host, group, contender, &[], pace)?;
    for _ in 0..contender.manifest.warmup {
        pair.slice(group, contender, iterations.div_ceil(WARM_UP))?;
    }
    let taken = (0..slices).map(|_| pair.slice(group, contender, iterations));
    let taken = taken.collect::<Result<Vec<Taken>, Fault>>()?;
    let weights = pair.weighed(group)?;
    let placed = pair.server.placed()?;
    let kind = if pace == Pace::Closed { "closed" } else { "open" };
    pair.finish()?;
    let mut values = values(&taken, group.primary())?;
    values.extend(weights.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)));
    Ok(WorkerRecord {
        slices_ns: taken.iter().map(|t| t.sample.elapsed_ns).collect(),
        values,
        operations: taken.iter().filter_map(|t| t.sample.answered).sum(),
        ledger: Some(books(&taken)),
        placed,
        latency: latencies(&taken).map(|all| all.curve(group.primary(), kind)),
        ..empty_record(contender, iterations)
    })
}

/// The numbers of a pair: medians over its slices, latencies over all of them together.
fn values(taken: &[Taken], primary: &str) -> Result<BTreeMap<String, f64>, Fault> {
    const MICROSECOND: f64 = 1e3;
    type Cpu = fn(&Taken) -> Duration;
    let answered = |t: &Taken| t.sample.answered.unwrap_or(0) as f64;
    let median = |value: &dyn Fn(&Taken) -> f64| {
        let values = stats::Sample::new(taken.iter().map(value));
        values.map(|v| v.median()).ok_or_else(|| Fault::failed("no slice was measured"))
    };
    let mut values = BTreeMap::from([(
        "rate".to_owned(),
        median(&|t| answered(t) / Duration::from_nanos(t.sample.elapsed_ns).as_secs_f64())?,
    )]);
    let server: Cpu = |t| t.server_cpu;
    let client: Cpu = |t| Duration::from_nanos(t.sample.cpu_ns.unwrap_or(0));
    for (name, cpu) in [(SERVER, server), (CLIENT, client)] {
        // A clock that did not advance says nothing; then the cell has no such metric.
        if taken.iter().all(|t| !cpu(t).is_zero()) {
            values.insert(name.to_owned(), median(&|t| answered(t) / cpu(t).as_secs_f64())?);
        }
    }
    let latencies = latencies(taken).map(|all| all.metrics(primary)).unwrap_or_default();
    values.extend(latencies.into_iter().map(|(name, ns)| (name, ns / MICROSECOND)));
    Ok(values)
}

/// Of all slices together.
fn latencies(taken: &[Taken]) -> Option<Latencies> {
    Latencies::new(taken.iter().flat_map(|t| t.sample.latencies_ns.iter().copied()).collect())
}

/// The books of all slices together.
fn books(taken: &[Taken]) -> Ledger {
    Ledger {
        units: taken.iter().map(|t| t.sample.units).max().unwrap_or(0),
        peak_live: taken.iter().map(|t| t.sample.peak_live).max().unwrap_or(0),
        switches: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answered: u64, elapsed_ms: u64, server_ms: u64, client_ms: u64, latencies_us: &[u64]) -> Taken {
        let sample = Sample {
            elapsed_ns: elapsed_ms * 1_000_000,
            answered: Some(answered),
            cpu_ns: Some(client_ms * 1_000_000),
            latencies_ns: latencies_us.iter().map(|us| us * 1000).collect(),
            ..Sample::default()
        };
        Taken { sample, server_cpu: Duration::from_millis(server_ms) }
    }

    #[test]
    fn a_pair_has_its_rate_its_tail_and_what_a_cpu_second_of_either_side_does() {
        let latencies: Vec<u64> = (1..=500).collect();
        let slow: Vec<u64> = (501..=1000).collect();
        let values = values(
            &[
                taken(1000, 500, 250, 400, &latencies),
                taken(1000, 500, 250, 400, &slow),
                taken(1000, 1000, 500, 500, &[]),
            ],
            "rate",
        );
        let values = values.unwrap();
        let expected = [
            ("max", 1000.0),
            ("p50", 500.0),
            ("p99", 990.0),
            ("per_client_second", 2500.0),
            ("per_server_second", 4000.0),
            ("rate", 2000.0),
        ];
        let found: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(found, expected);
        assert!(found.iter().all(|(name, _)| *name == "rate" || beside(name).is_some()));
        let share = client_share(|name| values.get(name).copied()).unwrap();
        assert!((share - 0.8).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_server_whose_clock_stood_still_has_no_number_a_second_of_it() {
        let values = values(&[taken(10, 5, 0, 4, &[1])], "rate").unwrap();
        assert!(!values.contains_key(SERVER) && values.contains_key(CLIENT), "{values:?}");
    }
}
