//! The instrument: definition × contender × placement → plan → blocks → document.
//!
//! It links no contender and draws nothing. What can be measured from outside a worker process is measured
//! from outside; a number that was not measured is a state with a reason, never a zero.

#![deny(unsafe_code)]

mod awake;
pub mod blocks;
pub mod contender;
pub mod controls;
pub mod counters;
pub mod definition;
mod disturbance;
pub mod doctor;
pub mod document;
pub mod environment;
pub mod epoll;
pub mod error;
pub mod gate;
mod latency;
mod ledger;
pub mod load;
pub mod memory;
pub mod parent;
pub mod pin;
pub mod plan;
pub mod protocol;
pub mod run;
pub mod selftest;
mod served;
pub mod stats;
mod sys;
mod ticks;
mod topology;
pub mod worker;

pub use error::{Error, Result};
