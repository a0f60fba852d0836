//! The shapes of work, one file each: the work, its ledger, its check.
//!
//! A model is a function that readies a cell and returns what runs its slices. It never reads a clock but
//! `C::stamp()` and never makes a unit but through `C`; `clippy.toml` keeps it so. `elapsed_ns` is around the
//! work alone.

pub mod bounce;
mod cold_file;
mod crew;
pub mod echo;
mod hog_and_tick;
pub mod limit;
pub mod parked;
pub mod ping_pong;
pub mod pipe_ping_pong;
pub mod pump;
pub mod recurse;
pub mod rung;
pub mod spawn_batch;
pub mod spawn_join;
mod stall;
mod tickers;
mod ticks;
pub mod tree;
pub mod yield_ring;

use crate::concurrency::{Concurrency, Descriptors, Rungs, Timed, UnitOptions};
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;

pub use ticks::timed;

/// A cell that is ready: answers one slice.
pub type Slices = Box<dyn FnMut(u64) -> Sample>;

/// The cell, or the reason why it cannot be had here.
pub type Opened = Result<Slices, String>;

/// The models that need a scheduler and nothing else.
pub fn scheduled<C: Concurrency>(prepare: &Prepare) -> Opened {
    match prepare.model.as_str() {
        "yield-ring" => yield_ring::open::<C>(prepare),
        "ping-pong" => ping_pong::open::<C>(prepare),
        "spawn-join" => spawn_join::open::<C>(prepare),
        "spawn-batch" => spawn_batch::open::<C>(prepare),
        "tree" => tree::open::<C>(prepare),
        "pump" => pump::open::<C>(prepare),
        "parked" => parked::open::<C>(prepare),
        other => Err(unknown(other)),
    }
}

/// Opens a cell of a contender in the tree that runs beside nobody: these also wait for descriptors or for a while, and can be taken apart.
pub fn with_descriptors<C: Descriptors + Rungs + Timed>(prepare: &Prepare) -> Opened {
    match prepare.model.as_str() {
        "rung" => rung::open::<C>(prepare),
        "recurse" => recurse::open::<C>(prepare),
        "limit" => limit::open::<C>(prepare),
        "pipe-ping-pong" => pipe_ping_pong::open::<C>(prepare),
        _ => scheduled::<C>(prepare),
    }
}

/// The reason of a worker that was asked for a model it does not run.
pub fn unknown(model: &str) -> String {
    format!("this contender does not run the model {model}")
}

/// The parameter `stack`: bytes, or `default`.
fn stack(prepare: &Prepare) -> Result<UnitOptions, String> {
    let stack = match prepare.param("stack") {
        None => None,
        Some(ParamValue::Word(word)) if word == "default" => None,
        Some(ParamValue::Word(word)) => {
            return Err(format!("parameter stack is `{word}`; it takes bytes or `default`"));
        }
        Some(ParamValue::Number(bytes)) => Some(count("stack", *bytes)?),
    };
    Ok(UnitOptions { stack, cpu: None })
}

/// Options of the units of a pair, each on its own CPU where the placement says so.
fn pair(prepare: &Prepare) -> Result<Vec<UnitOptions>, String> {
    let cpu = |unit: usize| match prepare.placement.as_str() {
        "cross-core" => match prepare.cpus.get(unit) {
            Some(cpu) => Ok(Some(*cpu)),
            None => Err(format!("cross-core takes two cpus, and {} is given", prepare.cpus.len())),
        },
        _ => Ok(None),
    };
    let options = |unit| Ok(UnitOptions { stack: None, cpu: cpu(unit)? });
    (0..2).map(options).collect()
}

/// A numeric parameter that counts things in memory.
fn number(prepare: &Prepare, name: &str) -> Result<usize, String> {
    count(name, prepare.number(name)?)
}

fn count(name: &str, value: u64) -> Result<usize, String> {
    usize::try_from(value)
        .map_err(|_| format!("parameter {name}={value} is more than this machine can count"))
}
