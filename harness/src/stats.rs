//! Statistics without random numbers and without normality. Pure.
//!
//! The process is the unit of inference: slices of one process share its layout and are not independent, so a
//! worker gives one number (the median of its slices) and every interval here is over workers or blocks.

pub mod order;
pub mod ratio;
mod robust;
mod sample;

pub use order::{Interval, interval, range};
pub use robust::{hodges_lehmann, spread, theil_sen};
pub use sample::Sample;
