//! What a unit weighs: two ledgers read at three populations, and their slopes.
//!
//! The *process* ledger (its pages, its page tables, its mappings) and the *system* ledger (kernel stacks,
//! slab, page tables, anonymous pages of the whole machine) see different parts of the bill; resident memory
//! of the process alone shows a quarter of a thread. Slopes over the populations (Theil–Sen) make fixed costs
//! drop out. Where both ledgers see a component they must agree, or the number is refused. The *control group* of the worker is a
//! third, where it can be read: a witness beside the bill, which refuses nothing.

mod cgroup;
mod process;
mod reconcile;
mod system;

pub use cgroup::Cgroup;
pub use process::Process;
pub use reconcile::{Reading, bill};
pub use system::System;
