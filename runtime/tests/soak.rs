//! A short run of the soak (`scripts/soak` has the long one): everything at once, and the books balance. Memory is for the long run.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

#[path = "../examples/soak/books.rs"]
mod books;
#[path = "../examples/soak/jobs.rs"]
mod jobs;
#[path = "../examples/soak/locks.rs"]
mod locks;
#[path = "../examples/soak/outside.rs"]
mod outside;
#[path = "../examples/soak/run.rs"]
mod run;

#[test]
fn whatever_runs_at_once_is_accounted_for() {
    const SEED: u64 = 4;
    let wrong = run::run(2.0, SEED);
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}");
}
