//! The instrument: definition × contender × placement → plan → blocks → document.
//!
//! It links no contender and draws nothing. What can be measured from outside a worker process is measured
//! from outside; a number that was not measured is a state with a reason, never a zero.

pub mod contender;
pub mod definition;
pub mod error;
pub mod protocol;
pub mod worker;

pub use error::{Error, Result};
