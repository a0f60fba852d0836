//! Verdicts on a change. One lane so far: thread-relative ratios against a stored result.

pub mod ratio;
