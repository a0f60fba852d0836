//! `cargo bench --bench sync`: what coordination costs, under criterion.
//!
//! The same definitions and models as `switchmark run`, without its blocks, ledgers and pairing: a quick look, and a
//! second instrument to agree with. `-- --quick` takes seconds, `-- --test` runs each cell once at smoke size.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

mod common;

fn sync(criterion: &mut Criterion) {
    common::families(criterion, &["sync"]);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    targets = sync
}
criterion_main!(benches);
