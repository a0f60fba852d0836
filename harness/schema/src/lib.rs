//! The documents of Switchmark as types: what a run writes, what a page or a gate reads.
//!
//! Pure: no I/O, no clock. A document is text on the outside and one of these types on the inside;
//! [`read`] is the only way in, and it names the place of a fault. The JSON Schema that
//! `switchmark schema` prints is derived from the same types ([`json_schema`]), so the two cannot drift apart.
//!
//! Two rules keep old documents readable: readers ignore fields they do not know, and a new field is optional
//! or defaulted. Another major version is refused ([`ReadError::OtherVersion`]).

#![forbid(unsafe_code)]

mod blocks;
mod gate;
mod histogram;
mod result;
mod version;

pub use blocks::{BlockKind, BlockRecord, BlocksHead, Contamination, Placed, WorkerRecord};
pub use gate::{GateCell, GateCensus, GateDocument, GateEstimate, GateSide, Lane, TracePoint, Verdict};
pub use histogram::Histogram;
pub use result::{
    Better, Cell, Census, Control, ControlKind, ControlSample, Counter, CounterState, Definition, Estimate,
    Finding, FindingStatus, Latency, Ledger, Machine, Memory, Metric, ParamValue, PerUnitBytes, Ratio,
    ResultDocument, Run, Sample, Status, Stopped, Switches, Tool, Witness,
};
pub use version::{Document, MAX_BYTES, ReadError, json_schema, read};
